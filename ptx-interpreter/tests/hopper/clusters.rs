//! Blocks of a cluster: their shared memory, their barrier, copies to several of them, and each kind of mistake.

use super::*;

/// Clusters of two blocks of 32 threads; `%r20` is a block's rank, `%r21` the other's.
fn pair(clusters: u32, data: &[u8]) -> Launch {
    Launch {
        blocks: 2 * clusters,
        cluster: Some(2),
        ..Launch::new(32, data)
    }
}

const RANKS: &str = "mov.u32 %r20, %cluster_ctarank; xor.b32 %r21, %r20, 1;";
const MEET: &str = "barrier.cluster.arrive.release; barrier.cluster.wait.acquire;";

/// Barrier 0 of each block is made for `arrivals`, and known to the other's copies.
fn begin(arrivals: u32) -> String {
    format!(
        "{RANKS} @%p0 mbarrier.init.shared::cta.b64 [arena], {arrivals}; @%p0 fence.mbarrier_init.release.cluster; {MEET}"
    )
}

/// Each thread writes 100 x its block's number + its own number to its block's memory, and reads what the other block wrote to `%r9`.
fn exchange(first: &str, between: &str, last: &str) -> String {
    format!(
        "{RANKS} {first} shl.b32 %r1, %r0, 2; mov.u32 %r2, arena; add.s32 %r1, %r1, %r2; mov.u32 %r3, %ctaid.x; mul.lo.u32 %r4, %r3, 100;
        add.s32 %r4, %r4, %r0; st.shared.u32 [%r1], %r4; {between} mapa.shared::cluster.u32 %r5, %r1, %r21;
        ld.shared::cluster.u32 %r9, [%r5]; {last}"
    )
}

/// `%r9` goes to where the thread's place in the launch is.
const KEEP: &str = "mov.u32 %r6, %ctaid.x; shl.b32 %r6, %r6, 5; add.s32 %r6, %r6, %r0; mul.wide.u32 %d3, %r6, 4; add.s64 %d3, %d3, %d1;
    st.global.u32 [%d3], %r9;";

#[test]
fn blocks_read_each_others_memory() {
    let mut launch = pair(2, &[0; 4 * 32 * 4]);
    let body = format!("{} {KEEP}", exchange("", MEET, MEET));
    let check = |launch: &Launch| {
        launch.fine(&body);
        for (i, word) in launch.words(4 * 32).into_iter().enumerate() {
            let (block, thread) = (i / 32, i % 32);
            assert_eq!(word as usize, 100 * (block ^ 1) + thread);
        }
    };
    for seed in 0..8 {
        launch.seed = seed;
        check(&launch);
    }
    launch.cluster = None;
    launch.directives = ".explicitcluster .reqnctapercluster 2, 1, 1";
    check(&launch);
    launch.directives = "";
    // Blocks that are alone have no other.
    let problem = launch.found(&body);
    assert!(
        matches!(problem, AsyncProblem::Cluster { blocks: 1, .. }),
        "{problem}"
    );
}

#[test]
fn a_block_knows_its_place() {
    let launch = Launch {
        blocks: 8,
        cluster: Some(4),
        ..Launch::new(1, &[0; 8 * 4])
    };
    launch.fine(
        "mov.u32 %r1, %cluster_ctarank; mov.u32 %r2, %cluster_nctarank; mov.u32 %r3, %clusterid.x; mov.u32 %r4, %nclusterid.x;
        mov.u32 %r5, %cluster_ctaid.x; mov.u32 %r6, %cluster_nctaid.x; mad.lo.u32 %r7, %r2, 10, %r1;
        mad.lo.u32 %r7, %r3, 100, %r7; mad.lo.u32 %r7, %r4, 1000, %r7; mad.lo.u32 %r7, %r5, 10000, %r7; mad.lo.u32 %r7, %r6, 100000, %r7;
        mov.u32 %r8, %ctaid.x; mul.wide.u32 %d3, %r8, 4; add.s64 %d3, %d3, %d1; st.global.u32 [%d3], %r7;",
    );
    for (block, word) in launch.words(8).into_iter().enumerate() {
        let (cluster, rank) = (block / 4, block % 4);
        assert_eq!(word as usize, 402_040 + 10_001 * rank + 100 * cluster);
    }
}

#[test]
fn impossible_clusters() {
    let message = |launch: &Launch| launch.run("").unwrap_err().to_string();
    let mut launch = Launch {
        blocks: 3,
        ..pair(1, &[0])
    };
    assert!(message(&launch).contains("clusters of 2 x 1 x 1 blocks in a grid of 3 x 1 x 1"));
    (launch.blocks, launch.cluster) = (16, Some(16));
    assert!(message(&launch).contains("at most 8 blocks"));
    (launch.cluster, launch.directives) = (Some(2), ".reqnctapercluster 4, 1, 1");
    assert!(message(&launch).contains("the launch something else"));
}

#[test]
fn races_between_blocks_of_a_cluster() {
    let launch = pair(1, &[0; 256]);
    let problem = launch.found(&exchange("", "", MEET));
    assert!(
        matches!(problem, AsyncProblem::OtherNotBegun { .. }),
        "{problem}"
    );
    // Both have begun, and nothing else is known: read before it was written, or without an order.
    let arrive = "barrier.cluster.arrive.release;";
    let wait = "barrier.cluster.wait.acquire;";
    let finding = launch.run(&exchange(MEET, "", MEET)).unwrap_err();
    assert!(
        matches!(
            finding.problem,
            Problem::Uninitialised { .. } | Problem::Async(AsyncProblem::Unordered { .. })
        ),
        "{finding}"
    );
    // What lies between arriving and waiting is not ordered.
    let late =
        exchange(MEET, "", MEET)
            .replacen(wait, "", 1)
            .replacen("mapa", &format!("{wait} mapa"), 1);
    let finding = launch.run(&late).unwrap_err();
    assert!(finding.to_string().contains("shared memory"), "{finding}");
    let early = exchange("", &format!("{arrive} {wait}"), MEET);
    launch.fine(&early);
    for seed in 0..4 {
        let launch = Launch {
            seed,
            ..pair(1, &[0; 256])
        };
        // A block ends while the other may still read its memory.
        let problem = launch.found(&exchange("", MEET, ""));
        assert!(
            matches!(
                problem,
                AsyncProblem::EndedBeforeOther { .. } | AsyncProblem::OtherHasEnded { .. }
            ),
            "{problem}"
        );
        // And when it overwrites what the other reads.
        let problem = launch.found(&exchange(
            "",
            MEET,
            &format!("st.shared.u32 [%r1], %r0; {MEET}"),
        ));
        assert!(
            matches!(problem, AsyncProblem::Unordered { .. }),
            "{problem}"
        );
    }
    let problem = launch.found("barrier.cluster.wait;");
    assert!(
        matches!(problem, AsyncProblem::ClusterBarrier(_)),
        "{problem}"
    );
    let problem = launch.found(&format!("{arrive} {arrive}"));
    assert!(
        matches!(problem, AsyncProblem::ClusterBarrier(_)),
        "{problem}"
    );
}

/// Block 1 writes to its memory and arrives at block 0's barrier, which waits for that and reads.
fn hand_over(arrive: &str, wait: &str) -> String {
    format!(
        "{} setp.eq.u32 %p3, %r20, 0; @%p3 bra FIRST; @%p0 st.shared.u32 [arena+64], %r21; mov.u32 %r2, arena;
        mapa.shared::cluster.u32 %r3, %r2, 0; @%p0 {arrive} _, [%r3]; bra END;
        FIRST: W: {wait} %p1, [arena], 0; @!%p1 bra W; mov.u32 %r2, arena; mapa.shared::cluster.u32 %r3, %r2, 1;
        ld.shared::cluster.u32 %r4, [%r3+64]; END: {MEET}",
        begin(1)
    )
}

#[test]
fn a_block_arrives_at_the_others_barrier() {
    let arrive = "mbarrier.arrive.release.cluster.shared::cluster.b64";
    let wait = "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64";
    for seed in 0..8 {
        let launch = Launch {
            seed,
            ..pair(1, &[0; 256])
        };
        launch.fine(&hand_over(arrive, wait));
        // What is released, or acquired, for one's own block is not known to the other.
        for (arrive, wait) in [
            ("mbarrier.arrive.shared::cluster.b64", wait),
            (arrive, "mbarrier.try_wait.parity.shared::cta.b64"),
        ] {
            let problem = launch.found(&hand_over(arrive, wait));
            assert!(
                matches!(problem, AsyncProblem::Unordered { .. }),
                "{problem}"
            );
        }
    }
    let launch = pair(1, &[0; 256]);
    let lost = hand_over(arrive, wait).replace(&format!("@%p0 {arrive} _, [%r3];"), "");
    let problem = launch.found(&lost);
    let AsyncProblem::Deadlock(waits) = &problem else {
        panic!("{problem}");
    };
    assert!(
        waits[0].starts_with("of block 0 warp 0 waits for parity 0 of the mbarrier at 0x1000000")
            && waits[1].starts_with("of block 1 warp 0 waits for the barrier of the cluster"),
        "{problem}"
    );
    // Without mapa it is one's own barrier.
    let own = hand_over(arrive, wait).replace("[%r3];", "[%r2];");
    assert!(matches!(launch.found(&own), AsyncProblem::Deadlock(_)));
    let problem = launch.found(&hand_over(arrive, wait).replace("%r2, 0;", "%r2, 2;"));
    assert!(
        matches!(problem, AsyncProblem::Cluster { blocks: 2, .. }),
        "{problem}"
    );
}

/// Block 0 sends 1024 bytes to the blocks of the mask; each announces `bytes`, waits, and stores what came in its half of the data.
struct Multicast {
    mask: u32,
    bytes: u32,
    begin: String,
    wait: &'static str,
    last: &'static str,
}

impl Multicast {
    fn right() -> Self {
        Self {
            mask: 3,
            bytes: 1024,
            begin: begin(1),
            wait: "W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [arena], 0; @!%p1 bra W;",
            last: MEET,
        }
    }

    fn body(&self) -> String {
        let dump: String = (0..8)
            .map(|i| {
                let at = 128 * i;
                format!(
                    "ld.shared.u32 %r9, [%r7+{}]; st.global.u32 [%d3+{at}], %r9;",
                    1024 + at
                )
            })
            .collect();
        format!(
            "{} @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [arena], {}; setp.eq.and.u32 %p4, %r20, 0, %p0; mov.u32 %r5, arena;
            add.s32 %r6, %r5, 1024; mov.b16 %h1, {};
            @%p4 cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%r6], [%d2, {{0, 0, 0}}], [%r5], %h1;
            {} mov.u32 %r7, arena; shl.b32 %r8, %r0, 2; add.s32 %r7, %r7, %r8; mul.wide.u32 %d3, %r20, 1024; cvt.u64.u32 %d4, %r8;
            add.s64 %d3, %d3, %d4; add.s64 %d3, %d3, %d1; add.s64 %d3, %d3, 8192; {dump} {}",
            self.begin, self.bytes, self.mask, self.wait, self.last
        )
    }

    fn launch(&self, seed: u64) -> (Launch, String) {
        let mut data = image(8, 8);
        data.extend([0; 2048]);
        let launch = Launch {
            seed,
            ..pair(1, &data)
        };
        launch.map(0, &image_map(&launch, 8, 8, [64, 4, 2], Swizzle::None));
        (launch, self.body())
    }

    fn found(&self, seed: u64) -> AsyncProblem {
        let (launch, body) = self.launch(seed);
        launch.found(&body)
    }
}

#[test]
fn a_multicast_comes_to_each_block() {
    for seed in 0..8 {
        let (launch, body) = Multicast::right().launch(seed);
        launch.fine(&body);
        let words = launch.words(2048 + 512);
        for half in words[2048..].chunks_exact(256) {
            assert_eq!(half[..128], words[..128]);
            assert_eq!(half[128..], words[256..384]);
        }
    }
}

#[test]
fn mistakes_with_multicasts() {
    let right = Multicast::right;
    for seed in 0..4 {
        let problem = Multicast { mask: 1, ..right() }.found(seed);
        let AsyncProblem::Deadlock(waits) = &problem else {
            panic!("{problem}");
        };
        assert!(
            waits
                .iter()
                .any(|w| w.starts_with("of block 1 ")
                    && w.contains("lacks 0 arrivals and 1024 bytes")),
            "{problem}"
        );
        for mask in [0, 4, 7] {
            let problem = Multicast { mask, ..right() }.found(seed);
            assert!(
                matches!(problem, AsyncProblem::Cluster { blocks: 2, .. }),
                "{problem}"
            );
        }
        let problem = Multicast {
            bytes: 512,
            ..right()
        }
        .found(seed);
        assert!(
            matches!(
                problem,
                AsyncProblem::TooManyBytes { bytes: 512, .. }
                    | AsyncProblem::WrongBytes { bytes: 1024, .. }
            ),
            "{problem}"
        );
        // The other block's barrier may not be there yet, or it is not said to be.
        let alone = begin(1).replace(MEET, "bar.sync 0;");
        let problem = Multicast {
            begin: alone,
            ..right()
        }
        .found(seed);
        assert!(
            matches!(
                problem,
                AsyncProblem::NoBarrier(_)
                    | AsyncProblem::BarrierNotKnown(_)
                    | AsyncProblem::OtherNotBegun { .. }
            ),
            "{problem}"
        );
        let unfenced = begin(1).replace("@%p0 fence.mbarrier_init.release.cluster;", "");
        let problem = Multicast {
            begin: unfenced,
            ..right()
        }
        .found(seed);
        assert!(
            matches!(problem, AsyncProblem::BarrierNotKnown(_)),
            "{problem}"
        );
        let unawaited = Multicast {
            wait: "",
            ..right()
        };
        let (launch, body) = unawaited.launch(seed);
        let finding = launch.run(&body).unwrap_err();
        assert!(
            matches!(
                finding.problem,
                Problem::Uninitialised { .. } | Problem::Async(AsyncProblem::CopyNotAwaited { .. })
            ),
            "{finding}"
        );
        // Block 1 ends although block 0 may not have sent yet.
        let (launch, body) = right().launch(seed);
        let problem = launch.found(&body.replacen(
            "W: mbarrier",
            "setp.eq.u32 %p5, %r20, 1; @%p5 exit; W: mbarrier",
            1,
        ));
        assert!(
            matches!(
                problem,
                AsyncProblem::EndedBeforeOther { .. } | AsyncProblem::OtherHasEnded { .. }
            ),
            "{problem}"
        );
    }
}
