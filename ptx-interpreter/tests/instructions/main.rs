//! Every form of instruction, with results that the PTX manual's definitions give.

#![allow(
    clippy::type_complexity,
    reason = "a row of a table of cases is its type"
)]

mod rounding;
mod warps;

use ptx_interpreter::{Memory, Module, Options, Sums};

const HEAD: &str = ".version 9.0\n.target sm_80\n.address_size 64\n";
const REGISTERS: &str = ".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<40>; .reg .f32 %f<9>; .reg .b64 %d<20>; .reg .f64 %g<9>;";

/// Runs one block of so many threads. Each has 64 bytes of `input` at %d1 and 64 bytes of output at %d2.
fn run_with(body: &str, threads: u32, input: &[u8], options: &Options) -> Vec<u8> {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 in, .param .u64 out) {{ {REGISTERS}
         .shared .align 16 .b8 pool[2048];
         ld.param.u64 %d1, [in]; ld.param.u64 %d2, [out]; mov.u32 %r0, %tid.x;
         mul.wide.u32 %d3, %r0, 64; add.s64 %d1, %d1, %d3; add.s64 %d2, %d2, %d3;
         {body}
         ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let mut memory = Memory::new();
    let bytes = 64 * threads as usize;
    let (from, to) = (memory.allocate(bytes), memory.allocate(bytes));
    let mut filled = input.to_vec();
    filled.resize(bytes, 0);
    memory.write(from, &filled).unwrap();
    memory.fill(to, 0, bytes).unwrap();
    let parameters = [from.to_le_bytes(), to.to_le_bytes()].concat();
    let kernel = module.kernel("k").unwrap_or_else(|e| panic!("{e}\n{body}"));
    module
        .launch(
            kernel,
            1.into(),
            threads.into(),
            0,
            &parameters,
            &memory,
            options,
        )
        .unwrap_or_else(|e| panic!("{e}\n{body}"));
    let mut out = vec![0; bytes];
    memory.read(to, &mut out).unwrap();
    out
}

fn run(body: &str, threads: u32, input: &[u8]) -> Vec<u8> {
    run_with(body, threads, input, &Options::default())
}

/// The result of one instruction with up to four operands a, b, c, e of these registers; `d` is its result.
fn one(instruction: &str, result: char, operands: &[(char, u64)]) -> u64 {
    let class = |c: char| match c {
        'h' => ("h", "u16"),
        'r' => ("r", "u32"),
        'f' => ("f", "f32"),
        'd' => ("d", "u64"),
        'g' => ("g", "f64"),
        _ => panic!("no class {c}"),
    };
    let mut body = String::new();
    let mut text = instruction.to_string();
    let mut input = Vec::new();
    for (i, (&(kind, bits), name)) in operands.iter().zip(["A", "B", "C", "E"]).enumerate() {
        let (prefix, ty) = class(kind);
        let register = format!("%{prefix}{}", i + 4);
        body += &format!("ld.global.{ty} {register}, [%d1+{}];\n", 8 * i);
        text = text.replace(name, &register);
        input.extend(bits.to_le_bytes());
    }
    if result == 'p' {
        body += &format!(
            "{};\nselp.b64 %d8, 1, 0, %p1;\nst.global.u64 [%d2], %d8;",
            text.replace('D', "%p1")
        );
    } else {
        let (prefix, ty) = class(result);
        let register = format!("%{prefix}8");
        body += &format!(
            "{};\nst.global.{ty} [%d2], {register};",
            text.replace('D', &register)
        );
    }
    u64::from_le_bytes(run(&body, 1, &input)[..8].try_into().unwrap())
}

fn f(x: f32) -> u64 {
    x.to_bits().into()
}

fn g(x: f64) -> u64 {
    x.to_bits()
}

fn m(x: i32) -> u64 {
    u64::from(x as u32)
}

#[test]
fn integers() {
    let cases: &[(&str, char, &[(char, u64)], u64)] = &[
        ("add.s32 D, A, B", 'r', &[('r', m(-1)), ('r', 3)], 2),
        (
            "add.sat.s32 D, A, B",
            'r',
            &[('r', m(i32::MAX)), ('r', 3)],
            m(i32::MAX),
        ),
        ("add.s64 D, A, -8", 'd', &[('d', 5)], -3i64 as u64),
        ("add.s16 D, A, B", 'h', &[('h', 0xffff), ('h', 2)], 1),
        ("sub.s32 D, A, B", 'r', &[('r', 3), ('r', 5)], m(-2)),
        ("sub.s64 D, A, B", 'd', &[('d', 3), ('d', 5)], -2i64 as u64),
        ("mul.lo.s32 D, A, B", 'r', &[('r', m(-3)), ('r', 5)], m(-15)),
        (
            "mul.hi.u32 D, A, B",
            'r',
            &[('r', 0xffff_ffff), ('r', 0xffff_ffff)],
            0xffff_fffe,
        ),
        ("mul.hi.s32 D, A, B", 'r', &[('r', m(-1)), ('r', 5)], m(-1)),
        (
            "mul.wide.s32 D, A, B",
            'd',
            &[('r', m(-3)), ('r', 5)],
            -15i64 as u64,
        ),
        (
            "mul.wide.u32 D, A, B",
            'd',
            &[('r', m(-1)), ('r', 2)],
            0x1_ffff_fffe,
        ),
        (
            "mul.wide.u16 D, A, B",
            'r',
            &[('h', 0xffff), ('h', 2)],
            0x1_fffe,
        ),
        (
            "mul.lo.s64 D, A, B",
            'd',
            &[('d', 1 << 40), ('d', 3)],
            3 << 40,
        ),
        ("mul.hi.u64 D, A, B", 'd', &[('d', 1 << 63), ('d', 4)], 2),
        (
            "mad.lo.s32 D, A, B, C",
            'r',
            &[('r', 3), ('r', 4), ('r', m(-13))],
            m(-1),
        ),
        (
            "mad.wide.u32 D, A, B, C",
            'd',
            &[('r', 1 << 31), ('r', 4), ('d', 1)],
            (1 << 33) + 1,
        ),
        (
            "div.u32 D, A, B",
            'r',
            &[('r', m(-1)), ('r', 2)],
            0x7fff_ffff,
        ),
        ("div.s32 D, A, B", 'r', &[('r', m(-7)), ('r', 2)], m(-3)),
        (
            "div.u64 D, A, B",
            'd',
            &[('d', 1 << 40), ('d', 3)],
            (1 << 40) / 3,
        ),
        ("rem.u32 D, A, B", 'r', &[('r', 17), ('r', 5)], 2),
        ("rem.s32 D, A, B", 'r', &[('r', m(-7)), ('r', 2)], m(-1)),
        ("min.u32 D, A, B", 'r', &[('r', m(-1)), ('r', 5)], 5),
        ("min.s32 D, A, B", 'r', &[('r', m(-1)), ('r', 5)], m(-1)),
        ("max.s64 D, A, B", 'd', &[('d', u64::MAX), ('d', 5)], 5),
        ("abs.s32 D, A", 'r', &[('r', m(-9))], 9),
        ("neg.s32 D, A", 'r', &[('r', 9)], m(-9)),
        ("and.b32 D, A, B", 'r', &[('r', 12), ('r', 10)], 8),
        ("and.b64 D, A, -4", 'd', &[('d', 7)], 4),
        ("and.b16 D, A, B", 'h', &[('h', 12), ('h', 10)], 8),
        ("or.b32 D, A, B", 'r', &[('r', 12), ('r', 10)], 14),
        ("xor.b32 D, A, B", 'r', &[('r', 12), ('r', 10)], 6),
        ("not.b32 D, A", 'r', &[('r', 0)], 0xffff_ffff),
        ("cnot.b32 D, A", 'r', &[('r', 0)], 1),
        ("shl.b32 D, A, B", 'r', &[('r', 3), ('r', 31)], 1 << 31),
        ("shl.b32 D, A, B", 'r', &[('r', 3), ('r', 32)], 0),
        ("shl.b64 D, A, 33", 'd', &[('d', 1)], 1 << 33),
        ("shr.u32 D, A, B", 'r', &[('r', m(-1)), ('r', 33)], 0),
        ("shr.s32 D, A, B", 'r', &[('r', m(-8)), ('r', 40)], m(-1)),
        ("shr.s64 D, A, 2", 'd', &[('d', -8i64 as u64)], -2i64 as u64),
        (
            "shf.l.wrap.b32 D, A, B, C",
            'r',
            &[('r', 0x8000_0000), ('r', 1), ('r', 33)],
            3,
        ),
        (
            "shf.r.clamp.b32 D, A, B, C",
            'r',
            &[('r', 5), ('r', 7), ('r', 40)],
            7,
        ),
        (
            "shf.r.wrap.b32 D, A, B, C",
            'r',
            &[('r', 0x10), ('r', 1), ('r', 4)],
            0x1000_0001,
        ),
        (
            "bfi.b32 D, A, B, 8, 4",
            'r',
            &[('r', 0xab), ('r', 0xffff_ffff)],
            0xffff_fbff,
        ),
        ("bfe.u32 D, A, 4, 8", 'r', &[('r', 0x1234)], 0x23),
        ("bfe.s32 D, A, 4, 4", 'r', &[('r', 0xf0)], m(-1)),
        (
            "prmt.b32 D, A, B, 0x5410",
            'r',
            &[('r', 0x3322_1100), ('r', 0x7766_5544)],
            0x5544_1100,
        ),
        (
            "prmt.b32 D, A, B, 0x9999",
            'r',
            &[('r', 0x0000_8000), ('r', 0)],
            0xffff_ffff,
        ),
        (
            "lop3.b32 D, A, B, C, 0x96",
            'r',
            &[('r', 12), ('r', 10), ('r', 1)],
            7,
        ),
        ("popc.b32 D, A", 'r', &[('r', 0xff)], 8),
        ("popc.b64 D, A", 'r', &[('d', u64::MAX)], 64),
        ("clz.b32 D, A", 'r', &[('r', 1)], 31),
        ("brev.b32 D, A", 'r', &[('r', 1)], 1 << 31),
    ];
    for (text, result, operands, want) in cases {
        assert_eq!(one(text, *result, operands), *want, "{text} {operands:x?}");
    }
}

#[test]
fn floats() {
    let tiny = f32::MIN_POSITIVE / 2.0;
    let nan = 0x7fc0_0000;
    let cases: &[(&str, char, &[(char, u64)], u64)] = &[
        (
            "add.f32 D, A, B",
            'f',
            &[('f', f(1.5)), ('f', f(2.0))],
            f(3.5),
        ),
        (
            "add.rn.f32 D, A, B",
            'f',
            &[('f', f(1.0)), ('f', f(2f32.powi(-24)))],
            f(1.0),
        ),
        (
            "add.rp.f32 D, A, B",
            'f',
            &[('f', f(1.0)), ('f', f(1e-30))],
            f(1.0f32.next_up()),
        ),
        (
            "add.ftz.f32 D, A, B",
            'f',
            &[('f', f(tiny)), ('f', f(0.0))],
            f(0.0),
        ),
        ("sub.f32 D, A, 0f3F800000", 'f', &[('f', f(1.5))], f(0.5)),
        (
            "mul.f32 D, A, B",
            'f',
            &[('f', f(-1.5)), ('f', f(2.0))],
            f(-3.0),
        ),
        (
            "mul.rz.f32 D, A, B",
            'f',
            &[('f', f(1.0f32.next_up())), ('f', f(1.0f32.next_up()))],
            f(1.0 + 2.0 * f32::EPSILON),
        ),
        (
            "fma.rn.f32 D, A, B, C",
            'f',
            &[
                ('f', f(1.0f32.next_up())),
                ('f', f(1.0f32.next_up())),
                ('f', f(-1.0)),
            ],
            f(2.0f32.powi(-22) + 2f32.powi(-46)),
        ),
        (
            "fma.rm.f32 D, A, B, C",
            'f',
            &[('f', f(1.0)), ('f', f(1.0)), ('f', f(-1e-30))],
            f(1.0f32.next_down()),
        ),
        (
            "fma.rn.sat.f32 D, A, B, C",
            'f',
            &[('f', f(2.0)), ('f', f(3.0)), ('f', f(0.0))],
            f(1.0),
        ),
        (
            "div.rn.f32 D, A, B",
            'f',
            &[('f', f(1.0)), ('f', f(3.0))],
            f(1.0 / 3.0),
        ),
        (
            "div.full.f32 D, A, B",
            'f',
            &[('f', f(1.0)), ('f', f(4.0))],
            f(0.25),
        ),
        ("rcp.rn.f32 D, A", 'f', &[('f', f(4.0))], f(0.25)),
        ("rcp.approx.ftz.f32 D, A", 'f', &[('f', f(4.0))], f(0.25)),
        ("sqrt.rn.f32 D, A", 'f', &[('f', f(2.25))], f(1.5)),
        ("rsqrt.approx.f32 D, A", 'f', &[('f', f(4.0))], f(0.5)),
        ("ex2.approx.ftz.f32 D, A", 'f', &[('f', f(-3.0))], f(0.125)),
        ("lg2.approx.ftz.f32 D, A", 'f', &[('f', f(8.0))], f(3.0)),
        ("sin.approx.f32 D, A", 'f', &[('f', f(0.0))], f(0.0)),
        ("cos.approx.f32 D, A", 'f', &[('f', f(0.0))], f(1.0)),
        ("tanh.approx.f32 D, A", 'f', &[('f', f(0.0))], f(0.0)),
        ("min.f32 D, A, B", 'f', &[('f', nan), ('f', f(2.0))], f(2.0)),
        ("max.f32 D, A, B", 'f', &[('f', f(2.0)), ('f', nan)], f(2.0)),
        (
            "max.NaN.f32 D, A, B",
            'f',
            &[('f', f(2.0)), ('f', nan)],
            0x7fff_ffff,
        ),
        (
            "min.f32 D, A, B",
            'f',
            &[('f', f(0.0)), ('f', f(-0.0))],
            f(-0.0),
        ),
        (
            "max.f32 D, A, B",
            'f',
            &[('f', f(-0.0)), ('f', f(0.0))],
            f(0.0),
        ),
        ("neg.f32 D, A", 'f', &[('f', f(2.0))], f(-2.0)),
        ("abs.f32 D, A", 'f', &[('f', f(-2.0))], f(2.0)),
        (
            "add.f64 D, A, B",
            'g',
            &[('g', g(1.5)), ('g', g(2.0))],
            g(3.5),
        ),
        (
            "sub.f64 D, A, B",
            'g',
            &[('g', g(1.5)), ('g', g(2.0))],
            g(-0.5),
        ),
        (
            "mul.f64 D, A, 0d4000000000000000",
            'g',
            &[('g', g(1.5))],
            g(3.0),
        ),
        (
            "fma.rn.f64 D, A, B, C",
            'g',
            &[('g', g(1.5)), ('g', g(2.0)), ('g', g(1.0))],
            g(4.0),
        ),
        (
            "div.rn.f64 D, A, B",
            'g',
            &[('g', g(1.0)), ('g', g(3.0))],
            g(1.0 / 3.0),
        ),
        ("sqrt.rn.f64 D, A", 'g', &[('g', g(2.0))], g(2f64.sqrt())),
        ("rcp.rn.f64 D, A", 'g', &[('g', g(3.0))], g(1.0 / 3.0)),
        (
            "rcp.approx.ftz.f64 D, A",
            'g',
            &[('g', g(3.0))],
            g(1.0 / 3.0) & !0xffff_ffff,
        ),
        ("neg.f64 D, A", 'g', &[('g', g(3.0))], g(-3.0)),
        (
            "max.f64 D, A, B",
            'g',
            &[('g', g(3.0)), ('g', g(4.0))],
            g(4.0),
        ),
        (
            "add.f16 D, A, B",
            'h',
            &[('h', 0x3c00), ('h', 0x3c00)],
            0x4000,
        ),
        (
            "fma.rn.f16 D, A, B, C",
            'h',
            &[('h', 0x4000), ('h', 0x3c00), ('h', 0x3c00)],
            0x4200,
        ),
        (
            "add.f16x2 D, A, B",
            'r',
            &[('r', 0x3c00_4000), ('r', 0x3c00_3c00)],
            0x4000_4200,
        ),
        (
            "max.f16x2 D, A, B",
            'r',
            &[('r', 0x3c00_4000), ('r', 0xbc00_4200)],
            0x3c00_4200,
        ),
        (
            "mul.bf16x2 D, A, B",
            'r',
            &[('r', 0x3f80_4000), ('r', 0x4000_4000)],
            0x4000_4080,
        ),
    ];
    for (text, result, operands, want) in cases {
        let got = one(text, *result, operands);
        assert_eq!(
            got, *want,
            "{text} {operands:x?}: {got:x} instead of {want:x}"
        );
    }
}

#[test]
fn conversions() {
    let cases: &[(&str, char, &[(char, u64)], u64)] = &[
        ("cvt.u64.u32 D, A", 'd', &[('r', m(-1))], 0xffff_ffff),
        ("cvt.s64.s32 D, A", 'd', &[('r', m(-1))], u64::MAX),
        ("cvt.u32.u64 D, A", 'r', &[('d', 0x5_0000_0007)], 7),
        ("cvt.u16.u32 D, A", 'h', &[('r', 0x12345)], 0x2345),
        ("cvt.u32.u16 D, A", 'r', &[('h', 0xfffe)], 0xfffe),
        ("cvt.s32.s16 D, A", 'r', &[('h', 0xfffe)], m(-2)),
        ("cvt.s32.s8 D, A", 'r', &[('r', 0xfe)], m(-2)),
        ("cvt.sat.u8.s32 D, A", 'r', &[('r', m(-5))], 0),
        ("cvt.f32.f16 D, A", 'f', &[('h', 0x3555)], f(0.333_251_95)),
        (
            "cvt.rn.f16.f32 D, A",
            'h',
            &[('f', f(1.0 + 2f32.powi(-11)))],
            0x3c00,
        ),
        ("cvt.rz.f16.f32 D, A", 'h', &[('f', f(1.999_9))], 0x3fff),
        (
            "cvt.rn.f16x2.f32 D, A, B",
            'r',
            &[('f', f(1.0)), ('f', f(2.0))],
            0x3c00_4000,
        ),
        (
            "cvt.rn.relu.f16x2.f32 D, A, B",
            'r',
            &[('f', f(-1.0)), ('f', f(2.0))],
            0x0000_4000,
        ),
        ("cvt.rn.bf16.f32 D, A", 'h', &[('f', 0x3f80_8000)], 0x3f80),
        ("cvt.f32.bf16 D, A", 'f', &[('h', 0x3f80)], f(1.0)),
        (
            "cvt.f64.f32 D, A",
            'g',
            &[('f', f(0.1))],
            g(f64::from(0.1f32)),
        ),
        ("cvt.rn.f32.f64 D, A", 'f', &[('g', g(0.1))], f(0.1)),
        ("cvt.sat.f32.f32 D, A", 'f', &[('f', f(1.5))], f(1.0)),
        ("cvt.sat.f32.f32 D, A", 'f', &[('f', 0x7fc0_0000)], f(0.0)),
        ("cvt.rni.f32.f32 D, A", 'f', &[('f', f(2.5))], f(2.0)),
        ("cvt.rmi.f32.f32 D, A", 'f', &[('f', f(-2.5))], f(-3.0)),
        ("cvt.rzi.s32.f32 D, A", 'r', &[('f', f(-2.9))], m(-2)),
        ("cvt.rzi.u32.f32 D, A", 'r', &[('f', f(-2.9))], 0),
        ("cvt.rpi.s32.f32 D, A", 'r', &[('f', f(1e20))], m(i32::MAX)),
        (
            "cvt.rn.f32.u32 D, A",
            'f',
            &[('r', 0xffff_ffff)],
            f(4_294_967_296.0),
        ),
        (
            "cvt.rz.f32.u32 D, A",
            'f',
            &[('r', 0xffff_ffff)],
            f(4_294_967_040.0),
        ),
        ("cvt.rn.f64.u32 D, A", 'g', &[('r', 7)], g(7.0)),
        ("cvt.rn.f32.s64 D, A", 'f', &[('d', -5i64 as u64)], f(-5.0)),
    ];
    for (text, result, operands, want) in cases {
        let got = one(text, *result, operands);
        assert_eq!(
            got, *want,
            "{text} {operands:x?}: {got:x} instead of {want:x}"
        );
    }
}

#[test]
fn comparisons_and_selections() {
    let nan = 0x7fc0_0000;
    let cases: &[(&str, char, &[(char, u64)], u64)] = &[
        ("setp.lt.s32 D, A, B", 'p', &[('r', m(-1)), ('r', 1)], 1),
        ("setp.lt.u32 D, A, B", 'p', &[('r', m(-1)), ('r', 1)], 0),
        ("setp.hi.u32 D, A, B", 'p', &[('r', m(-1)), ('r', 1)], 1),
        ("setp.ge.u64 D, A, B", 'p', &[('d', 1), ('d', 1)], 1),
        ("setp.ne.s64 D, A, 0", 'p', &[('d', 1 << 40)], 1),
        ("setp.eq.s16 D, A, -1", 'p', &[('h', 0xffff)], 1),
        ("setp.lt.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 0),
        ("setp.ltu.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 1),
        ("setp.ne.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 0),
        ("setp.neu.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 1),
        (
            "setp.leu.f32 D, A, B",
            'p',
            &[('f', f(2.0)), ('f', f(1.0))],
            0,
        ),
        (
            "setp.geu.f64 D, A, B",
            'p',
            &[('g', g(2.0)), ('g', g(1.0))],
            1,
        ),
        ("setp.nan.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 1),
        ("setp.num.f32 D, A, B", 'p', &[('f', nan), ('f', f(1.0))], 0),
        (
            "setp.gt.f16 D, A, B",
            'p',
            &[('h', 0x4000), ('h', 0x3c00)],
            1,
        ),
        (
            "setp.eq.s32 %p2, A, A; setp.eq.and.s32 D, A, 5, !%p2",
            'p',
            &[('r', 5)],
            0,
        ),
        (
            "setp.eq.s32 D|%p2, A, 4; mov.pred D, %p2",
            'p',
            &[('r', 5)],
            1,
        ),
        (
            "setp.eq.s32 %p2, A, 4; not.pred %p3, %p2; and.pred D, %p3, %p3",
            'p',
            &[('r', 5)],
            1,
        ),
        (
            "setp.eq.s32 %p2, A, 5; xor.pred D, %p2, %p2",
            'p',
            &[('r', 5)],
            0,
        ),
        (
            "mov.pred %p2, 0; mov.pred %p3, -1; or.pred D, %p2, %p3",
            'p',
            &[('r', 5)],
            1,
        ),
        (
            "setp.eq.s32 %p2, A, 5; selp.f32 D, 0f3F800000, 0f00000000, %p2",
            'f',
            &[('r', 5)],
            f(1.0),
        ),
        (
            "setp.eq.s32 %p2, A, 5; selp.b64 D, 7, 9, %p2",
            'd',
            &[('r', 6)],
            9,
        ),
        (
            "slct.f32.s32 D, A, B, C",
            'f',
            &[('f', f(1.0)), ('f', f(2.0)), ('r', m(-1))],
            f(2.0),
        ),
        (
            "mov.b64 {%r20, %r21}, A; mov.b32 D, %r21",
            'r',
            &[('d', 0x5_0000_0007)],
            5,
        ),
        (
            "{ .reg .b32 %t; mov.b64 {%t, D}, A; }",
            'r',
            &[('d', 0x5_0000_0007)],
            5,
        ),
        (
            "mov.b64 D, {A, B}",
            'd',
            &[('r', 1), ('r', 2)],
            0x2_0000_0001,
        ),
        ("mov.b32 D, {A, B}", 'r', &[('h', 1), ('h', 2)], 0x2_0001),
        ("mov.u32 D, %ntid.x", 'r', &[], 1),
        ("mov.u32 D, pool+16", 'r', &[], 16),
        ("activemask.b32 D", 'r', &[], 1),
    ];
    for (text, result, operands, want) in cases {
        assert_eq!(one(text, *result, operands), *want, "{text} {operands:x?}");
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks(64)
        .map(|lane| u32::from_le_bytes(lane[..4].try_into().unwrap()))
        .collect()
}

#[test]
fn loads_and_stores_of_every_width() {
    let body = "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%d1]; st.global.v2.f32 [%d2], {%f4, %f1};
                ld.global.u8 %r1, [%d1+16]; st.global.u8 [%d2+8], %r1;
                ld.global.s8 %r1, [%d1+17]; st.global.u32 [%d2+12], %r1;
                ld.global.u32 %d4, [%d1+4]; st.global.u64 [%d2+16], %d4;
                ld.global.nc.L1::no_allocate.v2.u32 {%r1, %r2}, [%d1+8];
                cvta.shared.u64 %d5, 0; st.v2.u32 [%d5+32], {%r1, %r2}; ld.shared.u64 %d6, [pool+32];
                st.global.u64 [%d2+24], %d6; ld.volatile.shared.u16 %h1, [pool+34]; st.global.u16 [%d2+32], %h1;
                mov.b64 %d7, in; ld.param.u64 %d8, [%d7+8]; st.global.u64 [%d2+40], %d8;
                cvta.global.u64 %d9, %d2; cvta.to.global.u64 %d9, %d9; cvta.shared.u64 %d10, %d9;
                cvta.to.shared.u64 %d10, %d10; st.global.u32 [%d10+48], 77;";
    let mut input: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    input.extend([200, 200]);
    let out = run(body, 1, &input);
    let word = |at: usize| u32::from_le_bytes(out[at..at + 4].try_into().unwrap());
    assert_eq!([word(0), word(4)], [4f32.to_bits(), 1f32.to_bits()]);
    assert_eq!([word(8), word(12)], [200, -56i32 as u32]);
    assert_eq!([word(16), word(20)], [2f32.to_bits(), 0]);
    assert_eq!([word(24), word(28)], [3f32.to_bits(), 4f32.to_bits()]);
    assert_eq!(word(32), 3f32.to_bits() >> 16);
    assert!(word(44) > 0);
    assert_eq!(word(48), 77);
}

#[test]
fn shuffles_and_votes() {
    let modes = [
        ("down", 1, 0x1f, [1, 2, 31, 31]),
        ("up", 1, 0, [0, 0, 29, 30]),
        ("bfly", 1, 0x1f, [1, 0, 31, 30]),
        ("idx", 3, 0x1f, [3, 3, 3, 3]),
        // Segments of eight lanes.
        ("down", 4, 0x181f, [4, 5, 30, 31]),
    ];
    for (mode, delta, clamp, want) in modes {
        let body = format!(
            "shfl.sync.{mode}.b32 %r1|%p1, %r0, {delta}, {clamp}, -1; st.global.u32 [%d2], %r1;"
        );
        let got = words(&run(&body, 32, &[]));
        assert_eq!([got[0], got[1], got[30], got[31]], want, "{mode}");
    }
    let body = "setp.lt.u32 %p1, %r0, 5; vote.sync.ballot.b32 %r1, %p1, -1; vote.sync.any.pred %p2, %p1, -1;
                vote.sync.all.pred %p3, %p1, -1; @%p3 mov.u32 %r1, 0; @!%p2 mov.u32 %r1, 0; st.global.u32 [%d2], %r1;";
    assert_eq!(words(&run(body, 32, &[])), [31; 32]);
}

#[test]
fn lanes_that_branch_apart_meet_again() {
    // Each lane goes round as often as its number says; then all vote.
    let body = "mov.u32 %r1, 0; $L1: setp.ge.u32 %p1, %r1, %r0; @%p1 bra $L2; add.s32 %r1, %r1, 1; bra.uni $L1;
                $L2: vote.sync.ballot.b32 %r2, %p1, -1; setp.ne.s32 %p2, %r2, -1; @%p2 mov.u32 %r1, 99;
                st.global.u32 [%d2], %r1;";
    assert_eq!(words(&run(body, 32, &[])), (0..32).collect::<Vec<_>>());
    // Through a table; lanes that leave early are not waited for.
    let body = "and.b32 %r1, %r0, 3; setp.eq.s32 %p1, %r1, 3; @%p1 ret;
                $T: .branchtargets $A, $B, $C; brx.idx %r1, $T;
                $A: mov.u32 %r2, 10; bra $E; $B: mov.u32 %r2, 11; bra $E; $C: mov.u32 %r2, 12;
                $E: activemask.b32 %r3; popc.b32 %r3, %r3; mad.lo.s32 %r2, %r3, 100, %r2; st.global.u32 [%d2], %r2;";
    assert_eq!(words(&run(body, 32, &[]))[..5], [2410, 2411, 2412, 0, 2410]);
}

#[test]
fn atomics() {
    let body = "atom.global.add.u32 %r1, [%d1], 1; red.global.max.u32 [%d1+4], %r0; atom.global.exch.b32 %r2, [%d1+8], 9;
                atom.global.cas.b32 %r3, [%d1+8], 9, 4; ld.global.v2.u32 {%r4, %r5}, [%d1]; add.s32 %r4, %r4, %r5;
                ld.global.u32 %r6, [%d1+8]; add.s32 %r4, %r4, %r6; add.s32 %r4, %r4, %r3; st.global.u32 [%d2], %r4;
                atom.global.add.f32 %f1, [%d1+12], 0f3F800000;";
    assert_eq!(words(&run(body, 1, &[])), [14]);
}

/// Lane l writes row l of four 8x8 matrices; element (r, c) of matrix m is 64 m + 8 r + c.
const MATRICES: &str = "shl.b32 %r1, %r0, 4; mov.u32 %r3, pool; add.s32 %r1, %r1, %r3; mul.lo.s32 %r2, %r0, 8; mov.u32 %r4, 0;
    $R: shl.b32 %r5, %r4, 1; add.s32 %r5, %r5, %r1; add.s32 %r6, %r2, %r4; st.shared.u16 [%r5], %r6;
    add.s32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, 8; @%p1 bra $R; bar.sync 0;";

#[test]
fn ldmatrix_hands_out_rows_and_columns() {
    for (trans, first, second) in [("", [0, 1], 8), (".trans", [0, 8], 1)] {
        let body = format!(
            "{MATRICES} ldmatrix.sync.aligned.m8n8.x4{trans}.shared.b16 {{%r10,%r11,%r12,%r13}}, [%r1];
             st.global.u32 [%d2], %r10; st.global.u32 [%d2+4], %r13;"
        );
        let out = run(&body, 32, &[]);
        let at = |lane: usize, i: usize| {
            u32::from_le_bytes(out[lane * 64 + 4 * i..][..4].try_into().unwrap())
        };
        assert_eq!(at(0, 0), first[0] | first[1] << 16);
        // Lane 4 has the second row (or column).
        assert_eq!(at(4, 0) & 0xffff, second);
        assert_eq!(at(0, 1) & 0xffff, 192);
    }
    let body = format!(
        "{MATRICES} ldmatrix.sync.aligned.m8n8.x2.shared.b16 {{%r10,%r11}}, [%r1];
         ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r12}}, [%r1]; add.s32 %r11, %r11, %r12; st.global.u32 [%d2], %r11;"
    );
    assert_eq!(words(&run(&body, 32, &[]))[0], (64 | 65 << 16) + (1 << 16));
}

/// a = row + 1 in column 0 .. 15 only where column == row; b[k][n] = k + 16 n: c must be (row + 1) b[row][column] + 0.5.
#[test]
fn mma_multiplies_as_the_manual_lays_it_out() {
    let half = |x: f32| u32::from(ptx_half(x));
    let mut input = Vec::new();
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4 * 2);
        let a = |row: usize, column: usize| {
            if row == column {
                half(row as f32 + 1.0)
            } else {
                0
            }
        };
        let b = |k: usize, n: usize| half((k + 16 * n) as f32);
        let pairs = [(g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8)];
        let mut values: Vec<u32> = pairs.map(|(r, c)| a(r, c) | a(r, c + 1) << 16).to_vec();
        values.extend([t, t + 8].map(|k| b(k, g) | b(k + 1, g) << 16));
        values.resize(16, 0);
        input.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    let body = "ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%d1]; ld.global.v2.u32 {%r5,%r6}, [%d1+16]; mov.f32 %f1, 0f3F000000;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2,%f3,%f4,%f5}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f1,%f1,%f1};
        st.global.v4.f32 [%d2], {%f2,%f3,%f4,%f5};";
    for sums in [Sums::Rounded, Sums::Truncated] {
        let out = run_with(
            body,
            32,
            &input,
            &Options {
                sums,
                ..Options::default()
            },
        );
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4 * 2);
            for (i, (row, column)) in [(g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)]
                .into_iter()
                .enumerate()
            {
                let got = f32::from_le_bytes(out[lane * 64 + 4 * i..][..4].try_into().unwrap());
                let want = (row as f32 + 1.0) * (row + 16 * column) as f32 + 0.5;
                assert_eq!(got, want, "lane {lane}, ({row}, {column})");
            }
        }
    }
}

/// Small integers and powers of two as fp16.
fn ptx_half(x: f32) -> u16 {
    if x == 0.0 {
        return 0;
    }
    let bits = x.to_bits();
    ((bits >> 13) - (112 << 10)) as u16
}

#[test]
fn sums_inside_an_mma_are_rounded_or_cut_off() {
    // 1 and fifteen times 2^-12 x 2^-12 = 2^-24: half a unit of the last place each.
    let half = |x: f32| u32::from(ptx_half(x));
    let (one, tiny) = (half(1.0), half(2f32.powi(-12)));
    let mut input = Vec::new();
    for lane in 0..32 {
        let first = if lane % 4 == 0 {
            one | tiny << 16
        } else {
            tiny | tiny << 16
        };
        let rest = tiny | tiny << 16;
        let mut values = vec![first, first, rest, rest, first, rest];
        values.resize(16, 0);
        input.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    let body = "ld.global.v4.u32 {%r1,%r2,%r3,%r4}, [%d1]; ld.global.v2.u32 {%r5,%r6}, [%d1+16]; mov.f32 %f1, 0f00000000;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2,%f3,%f4,%f5}, {%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f1,%f1,%f1};
        st.global.f32 [%d2], %f2;";
    let result = |sums| {
        f32::from_bits(
            words(&run_with(
                body,
                32,
                &input,
                &Options {
                    sums,
                    ..Options::default()
                },
            ))[0],
        )
    };
    let exact = 1.0 + 15.0 * 2f64.powi(-24);
    assert_eq!(result(Sums::Rounded), exact as f32);
    // 1 + 7 x 2^-24 is cut off to 1 + 3 x 2^-23; then 8 x 2^-24 are added.
    assert_eq!(result(Sums::Truncated), 1.0 + 7.0 * 2f32.powi(-23));
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let body = "mov.u32 %r1, pool; shl.b32 %r2, %r0, 4; add.s32 %r1, %r1, %r2;
        cp.async.cg.shared.global [%r1], [%d1], 16, 16; cp.async.commit_group;
        cp.async.ca.shared.global [%r1+1024], [%d1], 8, 4; cp.async.commit_group;
        cp.async.wait_group 1; ld.shared.u32 %r3, [%r1+12]; cp.async.wait_group 0;
        ld.shared.v2.u32 {%r4, %r5}, [%r1+1024]; add.s32 %r3, %r3, %r4; add.s32 %r3, %r3, %r5; st.global.u32 [%d2], %r3;
        cp.async.wait_all;";
    let input: Vec<u8> = [5u32, 6, 7, 8]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert_eq!(words(&run(body, 1, &input)), [13]);
}

#[test]
fn counts_are_exact() {
    let text = format!(
        "{HEAD}.visible .entry k(.param .u64 out) {{ {REGISTERS} .shared .align 16 .b8 pool[4096];
         mov.u32 %r0, %tid.x; shl.b32 %r1, %r0, 7; mov.u32 %r2, pool; add.s32 %r1, %r1, %r2; st.shared.u32 [%r1], %r0;
         setp.lt.u32 %p1, %r0, 3; @%p1 st.shared.u32 [%r1+4], %r0; ret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let options = Options {
        bank_conflicts: true,
        ..Options::default()
    };
    let kernel = module.kernel("k").unwrap();
    let report = module
        .launch(
            kernel,
            2.into(),
            32.into(),
            0,
            &[0; 8],
            &Memory::new(),
            &options,
        )
        .unwrap();
    assert_eq!(
        (
            report.count("st.shared").warps,
            report.count("st.shared").threads
        ),
        (4, 2 * 35)
    );
    assert_eq!(report.traffic.shared_written, 2 * 35 * 4);
    // A stride of 128 bytes: all in one bank.
    assert_eq!(report.traffic.bank_conflicts, 2 * (31 + 2));
}
