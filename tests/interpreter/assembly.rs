//! Defects in the text of the PTX: what a wrong line of inline assembly, or a compiler that may move too much, would make of it.

pub struct Defect {
    pub name: &'static str,
    /// Whether CI tries it.
    pub sample: bool,
    change: fn(&str) -> String,
}

impl Defect {
    /// The text with the defect.
    pub fn change(&self, ptx: &str) -> String {
        let changed = (self.change)(ptx);
        assert!(changed != ptx, "{}: the PTX is not changed", self.name);
        changed
    }
}

const fn defect(name: &'static str, sample: bool, change: fn(&str) -> String) -> Defect {
    Defect {
        name,
        sample,
        change,
    }
}

pub const DEFECTS: [Defect; 23] = [
    defect("operands b of a product exchanged", true, |t| {
        products(t, |[_, _, b, _]| b.swap(0, 1))
    }),
    defect("two operands a of a product exchanged", false, |t| {
        products(t, |[_, a, _, _]| a.swap(1, 2))
    }),
    defect("two results of a product exchanged", false, |t| {
        products(t, |[d, _, _, _]| d.swap(0, 1))
    }),
    defect("`ldmatrix` without `.trans`", true, |t| {
        t.replace(".x4.trans.", ".x4.")
    }),
    defect("`ldmatrix` with `.trans` too often", false, |t| {
        t.replace(".x4.shared", ".x4.trans.shared")
    }),
    defect("a wait lets one group of copies more go on", true, |t| {
        lines(t, "cp.async.wait_group", |line| {
            let (before, number) = line.split_once("wait_group").unwrap();
            let number: u32 = number.trim().trim_end_matches(';').parse().unwrap();
            format!("{before}wait_group {};", number + 1)
        })
    }),
    defect("no wait for copies", false, |t| {
        t.replace("cp.async.wait_group", "//")
    }),
    defect("copies are not committed", false, |t| {
        t.replace("cp.async.commit_group;", "")
    }),
    defect("copies to an address aligned to 8 bytes", true, |t| {
        lines(t, "cp.async.cg.shared", |line| {
            line.replacen("],", "+8],", 1)
        })
    }),
    defect("copies from an address aligned to 8 bytes", false, |t| {
        lines(t, "cp.async.cg.shared", |line| {
            line.replace("], 16", "+8], 16")
        })
    }),
    defect("copies read where there is padding", true, |t| {
        lines(t, "cp.async.cg.shared", |line| {
            let (before, _) = line.rsplit_once(',').unwrap();
            format!("{before}, 16;")
        })
    }),
    defect("copies fetch half of their bytes", false, |t| {
        lines(t, "cp.async.cg.shared", |line| {
            let (before, size) = line.rsplit_once(',').unwrap();
            let size = size.trim().trim_end_matches(';');
            format!("shr.u32 {size}, {size}, 1;{before}, {size};")
        })
    }),
    defect("16-byte loads at an address aligned to 8", false, |t| {
        lines(t, "ld.shared.v4", |line| line.replace("];", "+8];"))
    }),
    defect("a generic address where a shared one belongs", true, |t| {
        lines(t, "ldmatrix", |line| {
            let (before, register) = line.rsplit_once('[').unwrap();
            let register = register.trim_end_matches("];");
            // What the lower half of a generic address is.
            format!(
                "{{.reg .b64 %w; .reg .b32 %v; cvt.u64.u32 %w, {register}; cvta.shared.u64 %w, %w; cvt.u32.u64 %v, %w; {before}[%v];}}"
            )
        })
    }),
    defect("no barriers", false, |t| t.replace("bar.sync", "//")),
    defect("a barrier comes before the wait for copies", true, |t| {
        // As they might without their `memory` clobbers.
        move_barriers(t, |line| line.contains("cp.async.wait_group"), Before)
    }),
    defect(
        "a load of shared memory moved before its barrier",
        true,
        |t| move_barriers(t, loads_shared, After),
    ),
    defect(
        "a store to shared memory moved behind its barrier",
        true,
        |t| move_barriers(t, |line| line.trim_start().starts_with("st.shared"), Before),
    ),
    defect("shuffles in the other direction", false, |t| {
        t.replace("shfl.sync.down", "shfl.sync.up")
    }),
    defect("the first guard of each kernel inverted", true, |t| {
        let mut within = false;
        lines(t, "", |line| {
            within |= line.contains(".entry");
            match line.trim_start().strip_prefix("@%") {
                Some(rest) if std::mem::take(&mut within) => format!("@!%{rest}"),
                _ => line.to_string(),
            }
        })
    }),
    defect("signed comparisons unsigned", false, |t| {
        t.replace("setp.lt.s32", "setp.lt.u32")
    }),
    defect("loops go round once too often", false, |t| {
        t.replace("setp.ge.s32", "setp.gt.s32")
    }),
    defect("bounds of activations exchanged", false, |t| {
        t.replace("max.f32", "min.f32")
    }),
];

/// Each line that contains the opcode, changed.
fn lines(text: &str, opcode: &str, mut change: impl FnMut(&str) -> String) -> String {
    let changed = text.lines().map(|line| match line.contains(opcode) {
        true => change(line),
        false => line.to_string(),
    });
    changed.collect::<Vec<_>>().join("\n")
}

/// Each matrix product with its four lists of registers (d, a, b, c) changed.
fn products(text: &str, change: fn([&mut [&str]; 4])) -> String {
    lines(text, "mma.sync", |line| {
        let (opcode, _) = line.split_once('{').unwrap();
        let mut lists: Vec<Vec<&str>> = (line.split('{').skip(1))
            .map(|list| list.split('}').next().unwrap().split(',').collect())
            .collect();
        let [d, a, b, c] = &mut lists[..] else {
            panic!("{line}")
        };
        change([d, a, b, c]);
        let lists: Vec<String> = (lists.iter())
            .map(|list| format!("{{{}}}", list.join(",")))
            .collect();
        format!("{opcode}{};", lists.join(", "))
    })
}

enum Side {
    Before,
    After,
}
use Side::*;

fn loads_shared(line: &str) -> bool {
    ["ld.shared", "ldmatrix"]
        .iter()
        .any(|opcode| line.trim_start().starts_with(opcode))
}

/// Each barrier goes before the nearest such line above it, or behind the nearest one below it, where neither a label nor a
/// branch lies between: nothing else that has an order is passed.
fn move_barriers(text: &str, passes: impl Fn(&str) -> bool, side: Side) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let ends_block = |line: &str| {
        let line = line.trim_start();
        line.starts_with('$')
            || line.starts_with('@')
            || line.starts_with("bra")
            || line.contains("bar.sync")
    };
    for barrier in 0..lines.len() {
        if !lines[barrier].contains("bar.sync") {
            continue;
        }
        match side {
            Before => {
                let above = lines[..barrier]
                    .iter()
                    .rposition(|l| passes(l) || ends_block(l));
                if let Some(i) = above.filter(|&i| passes(lines[i])) {
                    lines[i..=barrier].rotate_right(1);
                }
            }
            After => {
                let below = lines[barrier + 1..]
                    .iter()
                    .position(|l| passes(l) || ends_block(l));
                if let Some(i) = below.map(|i| barrier + 1 + i).filter(|&i| passes(lines[i])) {
                    lines[barrier..=i].rotate_left(1);
                }
            }
        }
    }
    lines.join("\n")
}
