//! What lanes of a warp do together, and what they see of memory that all write.

use super::{MATRICES, run, run_with, words};
use ptx_interpreter::{Options, Sums};

/// What lane `lane` of `shfl` reads, and whether that is in range: the definition of the PTX manual.
fn shuffled(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (segment, clamp) = (c >> 8 & 0x1f, c & 0x1f);
    let first = lane & segment;
    let last = first | (clamp & !segment);
    let (j, within) = match mode {
        "up" => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
        "down" => (lane + b, lane + b <= last),
        "bfly" => (lane ^ b, lane ^ b <= last),
        _ => {
            let j = first | (b & !segment);
            (j, j <= last)
        }
    };
    (if within { j } else { lane }, within)
}

#[test]
fn shuffles_of_every_mode_distance_and_segment() {
    for (mode, clamp) in [("up", 0), ("down", 31), ("bfly", 31), ("idx", 31)] {
        // Segments of 32, 16, 8 and 4 lanes.
        for segment in [0u32, 16, 24, 28] {
            for b in [0u32, 1, 3, 7, 16, 31] {
                let c = segment << 8 | clamp;
                let body = format!(
                    "add.u32 %r3, %r0, 100; shfl.sync.{mode}.b32 %r1|%p1, %r3, {b}, {c}, -1;
                     selp.b32 %r2, 1000, 0, %p1; add.u32 %r1, %r1, %r2; st.global.u32 [%d2], %r1;"
                );
                let want: Vec<u32> = (0..32)
                    .map(|lane| shuffled(mode, lane, b, c))
                    .map(|(from, within)| 100 + from + 1000 * u32::from(within))
                    .collect();
                assert_eq!(words(&run(&body, 32, &[])), want, "{mode} {b} {c:#x}");
            }
        }
    }
}

#[test]
fn votes_of_some_and_of_all_lanes() {
    // Votes whose lanes agree, disagree, or are a part of the warp.
    for (limit, members, [all, any, uniform], ballot) in [
        (0u32, u32::MAX, [0, 0, 1], 0u32),
        (5, u32::MAX, [0, 1, 0], 31),
        (32, u32::MAX, [1, 1, 1], u32::MAX),
    ] {
        let body = format!(
            "setp.lt.u32 %p1, %r0, {limit}; vote.sync.all.pred %p2, %p1, {members}; vote.sync.any.pred %p3, %p1, {members};
             vote.sync.uni.pred %p4, %p1, {members}; vote.sync.ballot.b32 %r1, %p1, {members};
             vote.sync.ballot.b32 %r5, !%p1, {members}; not.b32 %r5, %r5; xor.b32 %r5, %r5, %r1;
             selp.u32 %r2, 1, 0, %p2; selp.u32 %r3, 2, 0, %p3; selp.u32 %r4, 4, 0, %p4;
             add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4; add.u32 %r2, %r2, %r5;
             st.global.v2.u32 [%d2], {{%r1, %r2}};"
        );
        let out = run(&body, 32, &[]);
        let second = u32::from_le_bytes(out[4..8].try_into().unwrap());
        assert_eq!(words(&out), [ballot; 32]);
        assert_eq!(second, all + 2 * any + 4 * uniform, "below {limit}");
    }
    // The upper half does not take part.
    let body = "setp.ge.u32 %p1, %r0, 16; @%p1 bra $E; setp.lt.u32 %p2, %r0, 3;
                vote.sync.ballot.b32 %r1, %p2, 0xffff; st.global.u32 [%d2], %r1; $E:";
    let out = words(&run(body, 32, &[]));
    assert_eq!((&out[..16], &out[16..]), (&[7; 16][..], &[0; 16][..]));
}

#[test]
fn barriers_let_warps_see_each_other() {
    // Each of 64 threads reads what the thread at the other end wrote, twice.
    for barrier in [
        "bar.sync 0",
        "barrier.sync 3",
        "bar.sync 2, 64",
        "barrier.sync.aligned 0, 64",
    ] {
        let body = format!(
            "shl.b32 %r1, %r0, 2; mov.u32 %r2, pool; add.u32 %r1, %r1, %r2; st.shared.u32 [%r1], %r0; {barrier};
             sub.u32 %r3, 63, %r0; shl.b32 %r3, %r3, 2; add.u32 %r3, %r3, %r2; ld.shared.u32 %r4, [%r3]; {barrier};
             st.shared.u32 [%r1], %r4; {barrier}; ld.shared.u32 %r5, [%r3]; shl.b32 %r5, %r5, 8; add.u32 %r4, %r4, %r5;
             st.global.u32 [%d2], %r4;"
        );
        let want: Vec<u32> = (0..64).map(|t| 63 - t + 256 * t).collect();
        for seed in 0..4 {
            let options = Options {
                seed,
                ..Options::default()
            };
            assert_eq!(
                words(&run_with(&body, 64, &[], &options)),
                want,
                "{barrier}"
            );
        }
    }
}

#[test]
fn atomics_of_all_lanes() {
    // 64 threads on one place: the sum, the extremes, and each old value once.
    let cases = [
        ("add.u32", "%r0", 0u32, 63 * 32),
        ("min.s32", "%r3", 0, -31i32 as u32),
        ("max.s32", "%r3", -99i32 as u32, 32),
        ("min.u32", "%r3", u32::MAX, 0),
        ("max.u32", "%r3", 0, u32::MAX),
        ("or.b32", "%r4", 0, 0xffff_ffff),
        ("and.b32", "%r5", u32::MAX, 0),
        ("xor.b32", "%r4", 5, 5),
    ];
    for (atom, operand, start, want) in cases {
        for space in ["global", "shared"] {
            let address = if space == "global" { "[%d5]" } else { "[pool]" };
            // %r3 is 32 - thread, %r4 a bit of 32, %r5 all others.
            let body = format!(
                "sub.s32 %r3, 32, %r0; and.b32 %r6, %r0, 31; mov.u32 %r7, 1; shl.b32 %r4, %r7, %r6; not.b32 %r5, %r4;
                 ld.param.u64 %d5, [out]; setp.eq.u32 %p1, %r0, 0; @%p1 st.{space}.u32 {address}, {start}; bar.sync 0;
                 red.{space}.{atom} {address}, {operand}; bar.sync 0;
                 @%p1 ld.{space}.u32 %r8, {address}; @%p1 st.global.u32 [%d2], %r8;"
            );
            assert_eq!(words(&run(&body, 64, &[]))[0], want, "{space} {atom}");
        }
    }
    let body =
        "mov.u32 %r2, pool; setp.eq.u32 %p1, %r0, 0; @%p1 st.shared.u32 [pool], 7; bar.sync 0;
                atom.shared.add.u32 %r1, [%r2], 1; st.global.u32 [%d2], %r1;";
    let mut old = words(&run(body, 64, &[]));
    old.sort();
    assert_eq!(old, (7..71).collect::<Vec<_>>());
    let body = "ld.param.u64 %d5, [in]; atom.global.add.f64 %g1, [%d5], 0d3FF0000000000000; bar.sync 0; ld.global.f64 %g2, [%d5];
                cvt.rzi.u32.f64 %r1, %g2; atom.global.exch.b64 %d6, [%d1+8], 5; atom.global.cas.b64 %d7, [%d1+8], 5, 6;
                cvt.u32.u64 %r2, %d7; ld.global.u32 %r3, [%d1+8]; mad.lo.u32 %r1, %r2, 1000, %r1; mad.lo.u32 %r1, %r3, 100, %r1;
                st.global.u32 [%d2], %r1;";
    // Thread 0's other place is its own: 32 additions, then 5 was swapped for 6.
    assert_eq!(words(&run(body, 32, &[]))[1], 32 + 5000 + 600);
}

#[test]
fn a_wait_leaves_the_last_groups_under_way() {
    // Five groups of one copy each; copy i brings the word i + 1.
    let copies: String = (0..5)
        .map(|i| {
            format!(
                "cp.async.ca.shared.global [%r1+{0}], [%d1+{0}], 4; cp.async.commit_group;",
                4 * i
            )
        })
        .collect();
    let input: Vec<u8> = (1u32..6).flat_map(|x| x.to_le_bytes()).collect();
    for pending in 0..5 {
        let arrived = 5 - pending;
        let loads: String = (0..arrived)
            .map(|i| format!("ld.shared.u32 %r3, [%r1+{}]; add.u32 %r4, %r4, %r3;", 4 * i))
            .collect();
        let body = format!(
            "mov.u32 %r1, pool; mov.u32 %r4, 0; {copies} cp.async.wait_group {pending}; {loads} st.global.u32 [%d2], %r4;
             cp.async.wait_group 0;"
        );
        assert_eq!(words(&run(&body, 1, &input)), [(1..=arrived).sum::<u32>()]);
    }
    // Only committed copies are in a group: `wait_group 0` leaves the others, `wait_all` does not.
    let body = "mov.u32 %r1, pool; cp.async.ca.shared.global [%r1], [%d1], 4; cp.async.wait_all; ld.shared.u32 %r3, [%r1];
                st.global.u32 [%d2], %r3;";
    assert_eq!(words(&run(body, 1, &input)), [1]);
    // Fewer source bytes: the rest is zero; none with a true predicate.
    let body = "mov.u32 %r1, pool; setp.eq.u32 %p1, %r0, 0; cp.async.cg.shared.global [%r1], [%d1], 16, 8;
                cp.async.cg.shared.global [%r1+16], [%d1], 16, %p1; cp.async.wait_all;
                ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r1]; ld.shared.u32 %r8, [%r1+16]; add.u32 %r6, %r6, %r7;
                mad.lo.u32 %r4, %r5, 10, %r4; mad.lo.u32 %r4, %r6, 100, %r4; mad.lo.u32 %r4, %r8, 1000, %r4;
                st.global.u32 [%d2], %r4;";
    assert_eq!(words(&run(body, 1, &input)), [21]);
}

/// Elements of the four 8x8 matrices that `MATRICES` writes: 64 m + 8 r + c.
#[test]
fn every_register_of_ldmatrix_is_where_the_manual_says() {
    for (trans, count) in [
        ("", 4),
        ("", 2),
        ("", 1),
        (".trans", 4),
        (".trans", 2),
        (".trans", 1),
    ] {
        let registers: Vec<String> = (0..count).map(|i| format!("%r{}", 10 + i)).collect();
        let stores: String = (0..count)
            .map(|i| format!("st.global.u32 [%d2+{}], %r{};", 4 * i, 10 + i))
            .collect();
        let list = registers.join(",");
        let body = format!(
            "{MATRICES} ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{list}}}, [%r1]; {stores}"
        );
        let out = run(&body, 32, &[]);
        for lane in 0..32 {
            for i in 0..count {
                let at = lane * 64 + 4 * i;
                let got = u32::from_le_bytes(out[at..at + 4].try_into().unwrap());
                let (row, column) = (lane / 4, lane % 4 * 2);
                let element = |row, column| match trans {
                    "" => 64 * i + 8 * row + column,
                    _ => 64 * i + 8 * column + row,
                };
                let want = element(row, column) | element(row, column + 1) << 16;
                assert_eq!(
                    got as usize, want,
                    "x{count}{trans}, lane {lane}, register {i}"
                );
            }
        }
    }
}

/// Random small integers: exact in either format and in any order of the sum.
#[test]
fn a_product_of_full_matrices_of_either_format() {
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32 % 9 - 4
    };
    let a: Vec<[i32; 16]> = (0..16).map(|_| [0; 16].map(|_| random())).collect();
    let b: Vec<[i32; 8]> = (0..16).map(|_| [0; 8].map(|_| random())).collect();
    let c: Vec<[i32; 8]> = (0..16).map(|_| [0; 8].map(|_| random())).collect();
    for (format, brain) in [("f16", false), ("bf16", true)] {
        let bits = |x: i32| {
            let bits = (x as f32).to_bits();
            match (x, brain) {
                (0, _) => 0,
                (_, true) => bits >> 16,
                // Sign, exponent with the other bias, the upper ten bits of the significand.
                _ => (bits >> 16 & 0x8000) | (((bits & 0x7fff_ffff) >> 13) - (112 << 10)),
            }
        };
        let mut input = Vec::new();
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4 * 2);
            let of_a = [(g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8)];
            let of_a = of_a.map(|(row, k)| bits(a[row][k]) | bits(a[row][k + 1]) << 16);
            let of_b = [t, t + 8].map(|k| bits(b[k][g]) | bits(b[k + 1][g]) << 16);
            let of_c = [(g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)];
            let of_c = of_c.map(|(row, column)| (c[row][column] as f32).to_bits());
            let mut values = [&of_a[..], &of_b, &of_c].concat();
            values.resize(16, 0);
            input.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        }
        let body = format!(
            "ld.global.v4.u32 {{%r1,%r2,%r3,%r4}}, [%d1]; ld.global.v2.u32 {{%r5,%r6}}, [%d1+16];
             ld.global.v2.f32 {{%f1,%f2}}, [%d1+24]; ld.global.v2.f32 {{%f3,%f4}}, [%d1+32];
             mma.sync.aligned.m16n8k16.row.col.f32.{format}.{format}.f32 {{%f5,%f6,%f7,%f8}}, {{%r1,%r2,%r3,%r4}}, {{%r5,%r6}},
                 {{%f1,%f2,%f3,%f4}};
             st.global.v4.f32 [%d2], {{%f5,%f6,%f7,%f8}};"
        );
        for sums in [Sums::Rounded, Sums::Truncated] {
            let options = Options {
                sums,
                ..Options::default()
            };
            let out = run_with(&body, 32, &input, &options);
            for lane in 0..32 {
                let (g, t) = (lane / 4, lane % 4 * 2);
                let places = [(g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)];
                for (i, (row, column)) in places.into_iter().enumerate() {
                    let at = lane * 64 + 4 * i;
                    let got = f32::from_le_bytes(out[at..at + 4].try_into().unwrap());
                    let products = (0..16).map(|k| a[row][k] * b[k][column]);
                    let want = c[row][column] + products.sum::<i32>();
                    assert_eq!(got, want as f32, "{format} {sums:?} ({row}, {column})");
                }
            }
        }
    }
}
