//! Rounding, saturation and conversion: a line a case, with the result that IEEE 754 and the PTX manual give.

use super::one;

/// A value with its class: `f:1.5`, `g:0x3ff0000000000000`, `r:-3`, `h:0x3c00`. Decimals are numbers of that class, hexadecimal
/// digits are bits.
fn value(text: &str) -> (char, u64) {
    let (class, number) = text.split_once(':').expect("class:number");
    let class = class.chars().next().unwrap();
    let bits = match (number.strip_prefix("0x"), class) {
        (Some(digits), _) => u64::from_str_radix(digits, 16).unwrap(),
        (None, 'f') => number.parse::<f32>().unwrap().to_bits().into(),
        (None, 'g') => number.parse::<f64>().unwrap().to_bits(),
        (None, 'r') => u64::from(number.parse::<i64>().unwrap() as u32),
        (None, 'h') => u64::from(number.parse::<i64>().unwrap() as u16),
        (None, 'd') => number.parse::<i128>().unwrap() as u64,
        _ => panic!("{text}"),
    };
    (class, bits)
}

/// Lines of `instruction | operands | result`.
fn check(cases: &str) {
    for case in cases.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let [instruction, operands, result] = case.split('|').collect::<Vec<_>>()[..] else {
            panic!("{case}")
        };
        let operands: Vec<(char, u64)> = operands.split_whitespace().map(value).collect();
        let (class, want) = value(result.trim());
        let got = one(instruction.trim(), class, &operands);
        assert_eq!(got, want, "{case}: {got:#x}");
    }
}

#[test]
fn sums_products_and_fma_of_fp32_round_where_they_are_told() {
    // 2^-24 is half a unit in the last place of 1.
    check(
        "add.rn.f32 D, A, B | f:1 f:0x33800000 | f:1
         add.rz.f32 D, A, B | f:1 f:0x33800000 | f:1
         add.rm.f32 D, A, B | f:1 f:0x33800000 | f:1
         add.rp.f32 D, A, B | f:1 f:0x33800000 | f:0x3f800001
         add.rn.f32 D, A, B | f:-1 f:0xb3800000 | f:-1
         add.rz.f32 D, A, B | f:-1 f:0xb3800000 | f:-1
         add.rm.f32 D, A, B | f:-1 f:0xb3800000 | f:0xbf800001
         add.rp.f32 D, A, B | f:-1 f:0xb3800000 | f:-1
         add.rn.f32 D, A, B | f:0x3f800001 f:0x33800000 | f:0x3f800002
         add.rz.f32 D, A, B | f:0x3f800001 f:0x33800000 | f:0x3f800001
         sub.rn.f32 D, A, B | f:1 f:0x33000000 | f:1
         sub.rz.f32 D, A, B | f:1 f:0x33000000 | f:0x3f7fffff
         sub.rm.f32 D, A, B | f:1 f:0x33000000 | f:0x3f7fffff
         sub.rp.f32 D, A, B | f:1 f:0x33000000 | f:1
         mul.rn.f32 D, A, B | f:0x3f800001 f:0x3f800001 | f:0x3f800002
         mul.rz.f32 D, A, B | f:0xbf800001 f:0x3f800001 | f:0xbf800002
         mul.rm.f32 D, A, B | f:0xbf800001 f:0x3f800001 | f:0xbf800003
         mul.rp.f32 D, A, B | f:0x3f800001 f:0x3f800001 | f:0x3f800003
         fma.rn.f32 D, A, B, C | f:1 f:-1 f:0xb3800000 | f:-1
         fma.rz.f32 D, A, B, C | f:1 f:-1 f:0xb3800000 | f:-1
         fma.rm.f32 D, A, B, C | f:1 f:-1 f:0xb3800000 | f:0xbf800001
         fma.rp.f32 D, A, B, C | f:1 f:1 f:0x33800000 | f:0x3f800001",
    );
    // The largest number, infinity, and the sign of an exact zero.
    check(
        "add.rn.f32 D, A, B | f:0x7f7fffff f:0x7f7fffff | f:inf
         add.rz.f32 D, A, B | f:0x7f7fffff f:0x7f7fffff | f:0x7f7fffff
         add.rm.f32 D, A, B | f:0x7f7fffff f:0x7f7fffff | f:0x7f7fffff
         add.rp.f32 D, A, B | f:0xff7fffff f:0xff7fffff | f:0xff7fffff
         add.rm.f32 D, A, B | f:0xff7fffff f:0xff7fffff | f:-inf
         add.rn.f32 D, A, B | f:1 f:-1 | f:0
         add.rm.f32 D, A, B | f:1 f:-1 | f:-0
         add.f32 D, A, B | f:inf f:-inf | f:0x7fffffff
         mul.ftz.f32 D, A, B | f:0x00800000 f:0.5 | f:0
         mul.f32 D, A, B | f:0x00800000 f:0.5 | f:0x00400000
         add.sat.f32 D, A, B | f:0.75 f:0.5 | f:1
         add.sat.f32 D, A, B | f:-0.75 f:0.5 | f:0
         mul.sat.f32 D, A, B | f:0 f:inf | f:0",
    );
}

#[test]
fn halves_round_once_and_to_even() {
    // 0x1000 is 2^-11, half a unit in the last place of 1 (0x3c00).
    check(
        "add.f16 D, A, B | h:0x3c00 h:0x1000 | h:0x3c00
         add.rn.f16 D, A, B | h:0x3c01 h:0x1000 | h:0x3c02
         add.f16 D, A, B | h:0x7bff h:0x7bff | h:0x7c00
         add.f16 D, A, B | h:0x7c00 h:0xfc00 | h:0x7fff
         add.sat.f16 D, A, B | h:0x4000 h:0x3c00 | h:0x3c00
         add.sat.f16 D, A, B | h:0xbc00 h:0x0000 | h:0
         sub.f16 D, A, B | h:0x3c00 h:0x3c01 | h:0x9400
         mul.f16 D, A, B | h:0x3c01 h:0x3c01 | h:0x3c02
         mul.f16 D, A, B | h:0x0001 h:0x3800 | h:0
         mul.f16 D, A, B | h:0x0003 h:0x3800 | h:0x0002
         fma.rn.f16 D, A, B, C | h:0x3c01 h:0x3c01 h:0xbc02 | h:0x0010
         neg.f16 D, A | h:0x3c00 | h:0xbc00
         abs.f16 D, A | h:0xbc00 | h:0x3c00
         min.f16 D, A, B | h:0x7e00 h:0x3c00 | h:0x3c00
         max.NaN.f16 D, A, B | h:0x7e00 h:0x3c00 | h:0x7fff
         fma.rn.f16x2 D, A, B, C | r:0x3c013c00 r:0x3c014000 r:0xbc023c00 | r:0x00104200
         sub.bf16 D, A, B | h:0x4000 h:0x3f80 | h:0x3f80",
    );
}

#[test]
fn conversions_to_halves() {
    // 1 + 2^-11 lies in the middle of two halves, 65520 in the middle of the largest and infinity.
    check(
        "cvt.rn.f16.f32 D, A | f:0x3f801000 | h:0x3c00
         cvt.rz.f16.f32 D, A | f:0x3f801000 | h:0x3c00
         cvt.rm.f16.f32 D, A | f:0x3f801000 | h:0x3c00
         cvt.rp.f16.f32 D, A | f:0x3f801000 | h:0x3c01
         cvt.rn.f16.f32 D, A | f:0x3f803000 | h:0x3c02
         cvt.rz.f16.f32 D, A | f:0x3f803000 | h:0x3c01
         cvt.rm.f16.f32 D, A | f:0xbf801000 | h:0xbc01
         cvt.rp.f16.f32 D, A | f:0xbf801000 | h:0xbc00
         cvt.rn.f16.f32 D, A | f:65520 | h:0x7c00
         cvt.rz.f16.f32 D, A | f:65520 | h:0x7bff
         cvt.rm.f16.f32 D, A | f:-65520 | h:0xfc00
         cvt.rp.f16.f32 D, A | f:-65520 | h:0xfbff
         cvt.rn.f16.f32 D, A | f:0x33000000 | h:0
         cvt.rp.f16.f32 D, A | f:0x33000000 | h:1
         cvt.rm.f16.f32 D, A | f:0xb3000000 | h:0x8001
         cvt.rn.f16.f32 D, A | f:nan | h:0x7fff
         cvt.rn.sat.f16.f32 D, A | f:2 | h:0x3c00
         cvt.rn.f16.f64 D, A | g:0x3ff0020000001000 | h:0x3c01
         cvt.rn.f16.u32 D, A | r:65519 | h:0x7bff
         cvt.rn.f16.u32 D, A | r:65520 | h:0x7c00
         cvt.rz.f16.u32 D, A | r:65520 | h:0x7bff
         cvt.rn.f16.s32 D, A | r:-3 | h:0xc200
         cvt.rz.f16x2.f32 D, A, B | f:0x3f803000 f:0xbf803000 | r:0x3c01bc01
         cvt.rn.bf16.f32 D, A | f:0x3f818000 | h:0x3f82
         cvt.rz.bf16.f32 D, A | f:0x3f81ffff | h:0x3f81
         cvt.rn.bf16.f32 D, A | f:0x7f7fffff | h:0x7f80
         cvt.rn.bf16.f32 D, A | f:nan | h:0x7fff
         cvt.rn.bf16x2.f32 D, A, B | f:1 f:2 | r:0x3f804000
         cvt.rn.relu.f16x2.f32 D, A, B | f:nan f:-1 | r:0x7fff0000",
    );
}

#[test]
fn conversions_to_wider_numbers() {
    check(
        "cvt.f32.f16 D, A | h:0x0001 | f:0x33800000
         cvt.f32.f16 D, A | h:0xfbff | f:-65504
         cvt.f64.f16 D, A | h:0x3800 | g:0.5
         cvt.f64.f32 D, A | f:0x00000001 | g:0x36a0000000000000
         cvt.ftz.f64.f32 D, A | f:0x00000001 | g:0
         cvt.rn.f32.f64 D, A | g:0x3ff0000010000000 | f:1
         cvt.rp.f32.f64 D, A | g:0x3ff0000010000000 | f:0x3f800001
         cvt.rm.f32.f64 D, A | g:0xbff0000010000000 | f:0xbf800001
         cvt.rz.f32.f64 D, A | g:1e300 | f:0x7f7fffff
         cvt.rn.ftz.f32.f64 D, A | g:1e-40 | f:0
         cvt.rn.f32.s32 D, A | r:0x7fffffff | f:0x4f000000
         cvt.rz.f32.s32 D, A | r:0x7fffffff | f:0x4effffff
         cvt.rm.f32.s32 D, A | r:-2147483647 | f:0xcf000000
         cvt.rp.f32.s32 D, A | r:-2147483647 | f:0xceffffff
         cvt.rn.f32.u64 D, A | d:0xffffffffffffffff | f:0x5f800000
         cvt.rz.f32.u64 D, A | d:0xffffffffffffffff | f:0x5f7fffff
         cvt.rn.f64.s64 D, A | d:9007199254740993 | g:9007199254740992
         cvt.rn.f32.u16 D, A | h:0xffff | f:65535
         cvt.rn.f32.s16 D, A | h:0xffff | f:-1
         cvt.rn.f32.s8 D, A | r:0x180 | f:-128",
    );
}

#[test]
fn conversions_to_integers_round_and_clamp() {
    check(
        "cvt.rni.s32.f32 D, A | f:2.5 | r:2
         cvt.rni.s32.f32 D, A | f:-3.5 | r:-4
         cvt.rzi.s32.f32 D, A | f:-3.9 | r:-3
         cvt.rmi.s32.f32 D, A | f:-2.1 | r:-3
         cvt.rpi.s32.f32 D, A | f:2.1 | r:3
         cvt.rzi.s32.f32 D, A | f:3e9 | r:0x7fffffff
         cvt.rzi.s32.f32 D, A | f:-inf | r:0x80000000
         cvt.rzi.u32.f32 D, A | f:-1 | r:0
         cvt.rzi.u64.f32 D, A | f:2e19 | d:0xffffffffffffffff
         cvt.rzi.s64.f64 D, A | g:-1e30 | d:0x8000000000000000
         cvt.rzi.u8.f32 D, A | f:300 | r:255
         cvt.rni.u16.f32 D, A | f:65534.5 | h:65534
         cvt.rni.s32.f16 D, A | h:0x4100 | r:2
         cvt.rni.s32.f16 D, A | h:0x4300 | r:4
         cvt.sat.s8.s32 D, A | r:200 | r:127
         cvt.sat.u16.s32 D, A | r:70000 | h:0xffff
         cvt.sat.s32.s64 D, A | d:-9000000000 | r:0x80000000
         cvt.rni.f32.f32 D, A | f:-0.5 | f:-0
         cvt.rpi.f32.f32 D, A | f:0.1 | f:1
         cvt.rzi.f64.f64 D, A | g:-1.9 | g:-1",
    );
    // NaN: 0 where neither the source is fp64 nor the destination has 64 bits, else the upper bit alone.
    check(
        "cvt.rzi.s32.f32 D, A | f:nan | r:0
         cvt.rzi.u32.f16 D, A | h:0x7e00 | r:0
         cvt.rzi.s64.f32 D, A | f:nan | d:0x8000000000000000
         cvt.rzi.s32.f64 D, A | g:nan | r:0x80000000
         cvt.rzi.u64.f64 D, A | g:nan | d:0x8000000000000000",
    );
}
