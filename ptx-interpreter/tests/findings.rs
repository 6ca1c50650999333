//! Each kind of mistake is found, at its line, and what is right beside it is not.

use ptx_interpreter::{Conflict, Finding, Memory, Module, Options, Problem, Space};

/// One or more blocks of 64 threads, with 256 bytes of data at %d1 of which the first 128 are written.
fn launch(body: &str, blocks: u32) -> Result<(), Box<Finding>> {
    let text = format!(
        ".version 9.0\n.target sm_80\n.address_size 64
         .extern .shared .align 16 .b8 pool[];
         .visible .entry k(.param .u64 data) {{
         .reg .pred %p<9>; .reg .b32 %r<20>; .reg .f32 %f<9>; .reg .b64 %d<20>;
         ld.param.u64 %d1, [data]; mov.u32 %r0, %tid.x; mul.wide.u32 %d2, %r0, 4; add.s64 %d3, %d1, %d2;
         shl.b32 %r1, %r0, 2; mov.u32 %r2, pool; add.s32 %r1, %r1, %r2;\n{body}\nret; }}"
    );
    let module = Module::parse(&text).unwrap();
    let mut memory = Memory::new();
    let data = memory.allocate(256);
    memory.write(data, &[1; 128]).unwrap();
    let options = Options::default();
    let kernel = module.kernel("k").unwrap();
    module
        .launch(
            kernel,
            blocks.into(),
            64.into(),
            512,
            &data.to_le_bytes(),
            &memory,
            &options,
        )
        .map(|_| ())
}

/// The line of the body (from 1) and what is wrong there.
fn found(body: &str) -> (u32, Problem) {
    let finding = launch(body, 1).expect_err(body);
    (finding.line - 8, finding.problem)
}

fn fine(body: &str) {
    if let Err(finding) = launch(body, 1) {
        panic!("{finding}\n{body}");
    }
}

#[test]
fn accesses_out_of_bounds() {
    let (line, problem) = found("\nld.global.u32 %r3, [%d1+256];");
    assert!(
        matches!(
            problem,
            Problem::OutOfBounds {
                space: Space::Global,
                ..
            }
        ),
        "{problem}"
    );
    assert_eq!(line, 2);
    let (_, problem) = found("st.global.u32 [%d1+-4], %r3;");
    assert!(
        problem.to_string().contains("4 bytes before allocation 1"),
        "{problem}"
    );
    let (_, problem) = found("st.shared.u32 [pool+512], %r3;");
    assert!(
        matches!(
            problem,
            Problem::OutOfBounds {
                space: Space::Shared,
                ..
            }
        ),
        "{problem}"
    );
    // A generic address where a shared one belongs.
    let (_, problem) =
        found("cvta.shared.u64 %d4, 0; cvt.u32.u64 %r3, %d4; st.shared.u32 [%r3], %r0;");
    assert!(
        matches!(
            problem,
            Problem::OutOfBounds {
                space: Space::Shared,
                ..
            }
        ),
        "{problem}"
    );
    let (_, problem) = found("cp.async.cg.shared.global [%r2], [%d1+256], 16;");
    assert!(
        matches!(
            problem,
            Problem::OutOfBounds {
                space: Space::Global,
                ..
            }
        ),
        "{problem}"
    );
    fine("setp.eq.s32 %p1, %r0, 0; @%p1 ld.global.u32 %r3, [%d1+124];");
}

#[test]
fn misaligned_accesses() {
    for (text, bytes) in [
        ("ld.global.u16 %r3, [%d1+1];", 2),
        ("ld.global.u32 %r3, [%d1+2];", 4),
        ("ld.global.f64 %d4, [%d1+4];", 8),
        ("ld.global.v2.u32 {%r3, %r4}, [%d1+4];", 8),
        ("ld.global.v4.u32 {%r3, %r4, %r5, %r6}, [%d1+8];", 16),
        ("st.shared.v2.u32 [%r2+4], {%r3, %r4};", 8),
        ("cp.async.cg.shared.global [%r2+8], [%d1], 16;", 16),
        ("cp.async.cg.shared.global [%r2], [%d1+8], 16;", 16),
        ("cp.async.ca.shared.global [%r2], [%d1+4], 8;", 8),
        // Nothing is read, and yet the address must be aligned.
        ("cp.async.cg.shared.global [%r2], [%d1+-2], 16, 0;", 16),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2+8];",
            16,
        ),
    ] {
        let (line, problem) = found(text);
        assert!(
            matches!(problem, Problem::Misaligned { bytes: b, .. } if b == bytes),
            "{text} {problem}"
        );
        assert_eq!(line, 1);
    }
}

#[test]
fn reads_of_what_nobody_wrote() {
    let (_, problem) = found("ld.global.u32 %r3, [%d1+128];");
    assert!(
        matches!(
            problem,
            Problem::Uninitialised {
                space: Space::Global,
                ..
            }
        ),
        "{problem}"
    );
    let (_, problem) = found("ld.shared.u32 %r3, [%r1];");
    assert!(
        matches!(
            problem,
            Problem::Uninitialised {
                space: Space::Shared,
                ..
            }
        ),
        "{problem}"
    );
    let (_, problem) = found("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];");
    assert!(
        matches!(
            problem,
            Problem::Uninitialised {
                space: Space::Shared,
                ..
            }
        ),
        "{problem}"
    );
    fine(
        "st.global.u32 [%d3], %r0; ld.global.u32 %r3, [%d3]; st.shared.u32 [%r1], %r0; ld.shared.u32 %r3, [%r1];",
    );
}

#[test]
fn races_within_a_barrier_interval() {
    let neighbour =
        "add.s32 %r3, %r0, 1; and.b32 %r3, %r3, 63; shl.b32 %r3, %r3, 2; add.s32 %r3, %r3, %r2;";
    let write = "st.shared.u32 [%r1], %r0;";
    let (_, problem) = found(&format!("{neighbour} {write} ld.shared.u32 %r4, [%r3];"));
    assert!(
        matches!(
            problem,
            Problem::Race { .. } | Problem::Uninitialised { .. }
        ),
        "{problem}"
    );
    fine(&format!(
        "{neighbour} {write} bar.sync 0; ld.shared.u32 %r4, [%r3];"
    ));
    let (_, problem) = found(&format!(
        "{neighbour} {write} bar.sync 0; ld.shared.u32 %r4, [%r3]; {write}"
    ));
    let Problem::Race { what, .. } = problem else {
        panic!("{problem}")
    };
    assert_eq!(what, Conflict::WriteAfterRead);
    fine(&format!(
        "{neighbour} {write} bar.sync 0; ld.shared.u32 %r4, [%r3]; bar.sync 0; {write}"
    ));
    // Every block has its own shared memory.
    let body = format!("{write} bar.sync 0; ld.shared.u32 %r4, [%r3];");
    launch(&format!("{neighbour} {body}"), 9).unwrap();
    let (_, problem) = found("st.shared.u32 [%r2], %r0;");
    assert!(
        matches!(
            problem,
            Problem::Race {
                what: Conflict::WriteAfterWrite,
                ..
            }
        ),
        "{problem}"
    );
    let (_, problem) = found("st.global.u32 [%d1], %r0;");
    assert!(
        matches!(
            problem,
            Problem::Race {
                space: Space::Global,
                ..
            }
        ),
        "{problem}"
    );
    // Halves of a word belong to different threads: no race.
    fine("cvt.u64.u32 %d4, %r0; add.s64 %d4, %d4, %d1; st.global.u8 [%d4], %r0;");
}

#[test]
fn a_warp_is_ordered_by_its_own_barrier_only() {
    let swap = "xor.b32 %r3, %r0, 1; shl.b32 %r3, %r3, 2; add.s32 %r3, %r3, %r2; st.shared.u32 [%r1], %r0;";
    fine(&format!(
        "{swap} bar.warp.sync -1; ld.shared.u32 %r4, [%r3];"
    ));
    let (_, problem) = found(&format!("{swap} ld.shared.u32 %r4, [%r3];"));
    assert!(matches!(problem, Problem::Race { .. }), "{problem}");
    let other_warp = swap.replace("%r0, 1;", "%r0, 32;");
    let (_, problem) = found(&format!(
        "{other_warp} bar.warp.sync -1; ld.shared.u32 %r4, [%r3];"
    ));
    assert!(
        matches!(
            problem,
            Problem::Race { .. } | Problem::Uninitialised { .. }
        ),
        "{problem}"
    );
}

#[test]
fn copies_that_were_not_waited_for() {
    let copy = "setp.lt.u32 %p1, %r0, 8; shl.b32 %r3, %r0, 4; add.s32 %r3, %r3, %r2; cvt.u64.u32 %d5, %r3; add.s64 %d5, %d1, %d5;
                @%p1 cp.async.cg.shared.global [%r3], [%d5], 16; cp.async.commit_group;";
    let other = "xor.b32 %r4, %r0, 7; shl.b32 %r4, %r4, 4; @%p1 ld.shared.u32 %r5, [%r4];";
    let (_, problem) = found(&format!("{copy} bar.sync 0; {other}"));
    assert!(matches!(problem, Problem::PendingCopy { .. }), "{problem}");
    // Another thread waits for the barrier too.
    let (_, problem) = found(&format!("{copy} cp.async.wait_group 0; {other}"));
    assert!(matches!(problem, Problem::Race { .. }), "{problem}");
    let (_, problem) = found(&format!(
        "{copy} cp.async.wait_group 1; bar.sync 0; {other}"
    ));
    assert!(matches!(problem, Problem::PendingCopy { .. }), "{problem}");
    fine(&format!(
        "{copy} cp.async.wait_group 0; bar.sync 0; {other}"
    ));
}

#[test]
fn races_between_blocks() {
    let finding = launch("st.global.u32 [%d3], %r0;", 2).unwrap_err();
    assert!(
        matches!(finding.problem, Problem::BlockRace { .. }),
        "{finding}"
    );
    let write_one = "mov.u32 %r3, %ctaid.x; setp.eq.s32 %p1, %r3, 1; setp.eq.and.s32 %p2, %r0, 0, %p1;
                     setp.lt.u32 %p3, %r0, 1; @%p3 ld.global.u32 %r4, [%d1]; @%p2 st.global.u32 [%d1], %r0;";
    let finding = launch(write_one, 2).unwrap_err();
    assert!(
        matches!(finding.problem, Problem::BlockRace { .. }),
        "{finding}"
    );
    assert!(
        launch(
            "setp.lt.u32 %p1, %r0, 32; @%p1 ld.global.u32 %r4, [%d3];",
            2
        )
        .is_ok()
    );
    assert!(launch("atom.global.add.u32 %r4, [%d1], 1;", 2).is_ok());
}

#[test]
fn barriers_that_not_all_threads_reach() {
    let (line, problem) = found("setp.eq.s32 %p1, %r0, 3;\n@%p1 bra $L;\nbar.sync 0;\n$L:");
    assert!(
        matches!(problem, Problem::BarrierNotReached { .. }),
        "{problem}"
    );
    assert_eq!(line, 3);
    let (_, problem) = found("setp.lt.u32 %p1, %r0, 32; @%p1 ret; bar.sync 0;");
    assert!(
        problem.to_string().contains("warps 0 have left"),
        "{problem}"
    );
    fine(
        "setp.lt.u32 %p1, %r0, 32; @%p1 bra $L; bar.sync 1, 32; bra $M; $L: bar.sync 2, 32; $M: bar.sync 0;",
    );
}

#[test]
fn deadlock_names_who_waits_for_what() {
    let (_, problem) =
        found("setp.lt.u32 %p1, %r0, 32; @%p1 bra $L; bar.sync 1; bra $M; $L: bar.sync 2; $M:");
    let Problem::Deadlock(waits) = &problem else {
        panic!("{problem}")
    };
    assert_eq!(
        waits
            .iter()
            .map(|w| (w.warp, w.barrier))
            .collect::<Vec<_>>(),
        [(0, 2), (1, 1)]
    );
}

#[test]
fn instructions_with_absent_lanes() {
    for text in [
        "shfl.sync.down.b32 %r3, %r0, 1, 31, -1;",
        "vote.sync.ballot.b32 %r3, %p1, -1;",
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r3,%r3,%r3,%r3}, {%r3,%r3}, {%f1,%f1,%f1,%f1};",
        "bar.warp.sync -1;",
        "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];",
    ] {
        let body = format!("setp.eq.s32 %p1, %r0, 5; @%p1 bra $L;\n{text}\n$L:");
        let (line, problem) = found(&body);
        let Problem::AbsentLanes { missing, .. } = problem else {
            panic!("{problem}")
        };
        assert_eq!((missing, line), (1 << 5, 2), "{text}");
    }
    // A mask that leaves the absent lane out is fine, but not its value.
    let without = |source: &str| {
        format!(
            "setp.eq.s32 %p1, %r0, 5; @%p1 bra $L; shfl.sync.idx.b32 %r3, %r0, {source}, 31, 0xffffffdf; $L:"
        )
    };
    let first_warp = |text: String| format!("setp.ge.u32 %p2, %r0, 32; @%p2 ret; {text}");
    fine(&first_warp(without("4")));
    let (_, problem) = found(&first_warp(without("5")));
    assert!(
        matches!(problem, Problem::AbsentLanes { missing: 32, .. }),
        "{problem}"
    );
}

#[test]
fn endless_loops_and_traps() {
    let text = ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() { $L: bra $L; }";
    let module = Module::parse(text).unwrap();
    let options = Options {
        limit: 1000,
        slice: 100,
        ..Options::default()
    };
    let launch = module.launch(
        module.kernel("k").unwrap(),
        1.into(),
        32.into(),
        0,
        &[],
        &Memory::new(),
        &options,
    );
    assert!(matches!(
        launch.unwrap_err().problem,
        Problem::Endless(1000)
    ));
    assert!(matches!(found("trap;").1, Problem::Trap));
}

#[test]
fn local_memory_and_parameters_have_bounds() {
    fine(".local .b8 l[16]; st.local.u32 [l+12], 1; ld.local.u32 %r3, [l+12];");
    fine(".local .b8 l[16]; mov.u64 %d4, l; cvta.local.u64 %d4, %d4; st.u32 [%d4+12], 1;");
    let of = |space| {
        move |body| {
            let (_, problem) = found(body);
            assert!(
                matches!(problem, Problem::OutOfBounds { space: s, .. } if s == space),
                "{body} {problem}"
            );
        }
    };
    of(Space::Local)(".local .b8 l[16]; st.local.u32 [l+16], 1;");
    of(Space::Local)(
        ".local .b8 l[16]; mov.u64 %d4, l; cvta.local.u64 %d4, %d4; st.u32 [%d4+16], 1;",
    );
    of(Space::Param)("ld.param.u32 %r3, [data+8];");
    of(Space::Param)("mov.u64 %d4, data; cvta.param.u64 %d4, %d4; st.u32 [%d4], 1;");
    // One past the end of an allocation is not the next one.
    of(Space::Global)("mov.u64 %d4, 0; ld.global.u32 %r3, [%d4];");
}

#[test]
fn launches_that_cannot_be() {
    let text = ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 data) { ret; }";
    let module = Module::parse(text).unwrap();
    let launch = |threads: u32, parameters: &[u8]| {
        let kernel = module.kernel("k").unwrap();
        let (memory, options) = (Memory::new(), Options::default());
        module
            .launch(
                kernel,
                1.into(),
                threads.into(),
                0,
                parameters,
                &memory,
                &options,
            )
            .map(|_| ())
            .map_err(|finding| finding.to_string())
    };
    launch(1024, &[0; 8]).unwrap();
    let error = launch(1025, &[0; 8]).unwrap_err();
    assert!(
        error.contains("1025 threads a block; 1 to 1024 are possible"),
        "{error}"
    );
    let error = launch(32, &[0; 12]).unwrap_err();
    assert!(
        error.contains("12 bytes of parameters; the kernel takes 8"),
        "{error}"
    );
    assert!(launch(0, &[0; 8]).is_err());
    assert!(
        module
            .kernel("other")
            .unwrap_err()
            .to_string()
            .contains("no kernel other")
    );
    let (_, problem) = found("cp.async.ca.shared.global [%r2], [%d1], 4, 5;");
    assert!(
        problem.to_string().contains("4 bytes has a source of 5"),
        "{problem}"
    );
}

/// Whatever is missing from a text: it is read, or there is an error; and what can be read can be run.
#[test]
fn a_text_with_a_word_missing_is_an_error_or_runs() {
    let words: Vec<&str> = ".version 9.0 \n .target sm_80 \n .address_size 64 \n
        .visible .entry k ( .param .u64 data ) { .reg .pred %p < 3 > ; .reg .b32 %r < 9 > ; .reg .f32 %f < 5 > ; .reg .b64 %d < 5 > ;
        .shared .align 16 .b8 pool [ 512 ] ; ld.param.u64 %d1 , [ data ] ; mov.u32 %r0 , %tid.x ; mul.wide.u32 %d2 , %r0 , 4 ;
        $L : add.s64 %d3 , %d1 , %d2 ; setp.lt.and.u32 %p1 | %p2 , %r0 , 7 , ! %p1 ; @ %p1 bra $M ; st.global.v2.u32 [ %d3 + 8 ] ,
        { %r1 , %r0 } ; $M : fma.rn.f32 %f1 , %f2 , 0f3F800000 , %f3 ; mov.b64 { %r1 , %r2 } , %d3 ; lop3.b32 %r3 , %r1 , %r2 , %r0 , 232 ;
        cp.async.cg.shared.global [ pool + 16 ] , [ %d1 ] , 16 , %r3 ; shfl.sync.down.b32 %r4 | %p1 , %r0 , 1 , 31 , -1 ;
        mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 { %f1 , %f2 , %f3 , %f4 } , { %r1 , %r2 , %r3 , %r4 } , { %r1 , %r2 } ,
        { %f1 , %f2 , %f3 , %f4 } ; ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 { %r1 , %r2 } , [ pool ] ; bar.sync 0 ;
        atom.global.cas.b32 %r1 , [ %d1 ] , %r2 , %r3 ; cp.async.wait_group 0 ; cvt.rn.f16x2.f32 %r1 , %f1 , %f2 ; ret ; }"
        .split(' ')
        .collect();
    let options = Options {
        limit: 1000,
        slice: 100,
        ..Options::default()
    };
    let mut readable = 0;
    for missing in 0..words.len() {
        let mut rest = words.clone();
        rest.remove(missing);
        let Ok(module) = Module::parse(&rest.join(" ")) else {
            continue;
        };
        let Ok(kernel) = module.kernel("k") else {
            continue;
        };
        readable += 1;
        let mut memory = Memory::new();
        let data = memory.allocate(256).to_le_bytes();
        let parameters = &data[..];
        let _ = module.launch(
            kernel,
            1.into(),
            32.into(),
            0,
            parameters,
            &memory,
            &options,
        );
    }
    assert!(
        (10..words.len() / 2).contains(&readable),
        "{readable} of {} texts could be read",
        words.len()
    );
}

#[test]
fn an_unknown_instruction_names_its_line() {
    for (text, name) in [
        (
            "barrier.cluster.arrive.relaxed;",
            "barrier.cluster.arrive.relaxed",
        ),
        // What this crate would compute otherwise than it says.
        ("add.s32 %r1, %r1;", "add.s32 has 2 operands; it takes 3"),
        ("cvt.rz.f64.s64 %d1, %d1;", "cvt.rz.f64.s64"),
        ("cvt.rp.bf16.f32 %r1, %r1;", "cvt.rp.bf16.f32"),
        ("fma.rn.relu.f16 %r1, %r1, %r1, %r1;", "fma.rn.relu.f16"),
        ("rsqrt.f64 %d1, %d1;", "rsqrt.f64"),
        ("div.rz.f32 %r1, %r1, %r1;", "div.rz.f32"),
        (
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};",
            "m16n8k8",
        ),
        ("add.rm.f64 %d1, %d1, %d1;", "add.rm.f64"),
        ("ld.const.u32 %r1, [%d1];", "ld.const.u32"),
    ] {
        let text = format!(
            ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() {{\n.reg .b64 %d<2>; .reg .b32 %r<2>;\n{text}\nret; }}"
        );
        let error = Module::parse(&text)
            .unwrap()
            .kernel("k")
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 6") && error.contains(name), "{error}");
    }
    assert!(
        Module::parse(".visible .entry k() {")
            .unwrap_err()
            .to_string()
            .contains("never closed")
    );
}

#[test]
fn a_finding_names_the_source_line() {
    let text =
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() { .reg .b32 %r<2>;
        .loc 1 12 3
        .loc 2 7 5, function_name $L__info0, inlined_at 1 12 3
        ld.shared.u32 %r1, [8]; ret; }
        .file 1 \"/src/kernel.cu\"\n.file 2 \"/src/helper.cuh\"";
    let module = Module::parse(text).unwrap();
    let options = Options::default();
    let finding = module
        .launch(
            module.kernel("k").unwrap(),
            1.into(),
            32.into(),
            0,
            &[],
            &Memory::new(),
            &options,
        )
        .unwrap_err();
    assert!(
        finding
            .to_string()
            .ends_with("PTX line 7: ld.shared.u32; helper.cuh:7; kernel.cu:12)"),
        "{finding}"
    );
}
