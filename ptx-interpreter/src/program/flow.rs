//! Where lanes that took different branches meet again: the branch's immediate post-dominator.

use super::instruction::{Instruction, NOWHERE, Op};

/// Writes the meeting point into every branch.
pub fn find_meeting_points(code: &mut [Instruction]) {
    let blocks = Blocks::of(code);
    let meeting = blocks.immediate_post_dominators();
    for (i, instruction) in code.iter_mut().enumerate() {
        let place = || match meeting[blocks.of_instruction[i]] {
            Some(block) => blocks.starts[block] as u32,
            None => NOWHERE,
        };
        if let Op::Branch(_, point) | Op::Table(_, _, point) = &mut instruction.op {
            *point = place();
        }
    }
}

struct Blocks {
    starts: Vec<usize>,
    of_instruction: Vec<usize>,
    /// The end of the kernel is the block after the last one.
    successors: Vec<Vec<usize>>,
}

impl Blocks {
    fn of(code: &[Instruction]) -> Self {
        let mut leads = vec![false; code.len() + 1];
        leads[0] = true;
        for (i, instruction) in code.iter().enumerate() {
            match &instruction.op {
                Op::Branch(target, _) => leads[*target as usize] = true,
                Op::Table(_, targets, _) => targets.iter().for_each(|&t| leads[t as usize] = true),
                Op::Exit | Op::Trap => {}
                _ => continue,
            }
            leads[i + 1] = true;
        }
        let starts: Vec<usize> = (0..code.len()).filter(|&i| leads[i]).collect();
        let mut of_instruction = vec![0; code.len() + 1];
        for (block, &start) in starts.iter().enumerate() {
            let end = starts.get(block + 1).copied().unwrap_or(code.len());
            of_instruction[start..end].fill(block);
        }
        of_instruction[code.len()] = starts.len();
        let successors = (0..starts.len())
            .map(|block| {
                let next = block + 1;
                let last = starts.get(next).copied().unwrap_or(code.len()) - 1;
                let instruction = &code[last];
                let mut to: Vec<usize> = match &instruction.op {
                    Op::Branch(target, _) => vec![of_instruction[*target as usize]],
                    Op::Table(_, targets, _) => targets
                        .iter()
                        .map(|&t| of_instruction[t as usize])
                        .collect(),
                    Op::Exit | Op::Trap => vec![starts.len()],
                    _ => vec![next],
                };
                if instruction.guard.is_some() {
                    to.push(next);
                }
                to
            })
            .collect();
        Self {
            starts,
            of_instruction,
            successors,
        }
    }

    /// Cooper, Harvey and Kennedy's iteration, on the graph with its edges turned round. `None`: only the end.
    fn immediate_post_dominators(&self) -> Vec<Option<usize>> {
        let end = self.starts.len();
        let mut predecessors = vec![Vec::new(); end + 1];
        for (block, to) in self.successors.iter().enumerate() {
            to.iter().for_each(|&t| predecessors[t].push(block));
        }
        // Postorder of the turned graph, from the end.
        let mut number = vec![usize::MAX; end + 1];
        let mut order = Vec::new();
        let mut seen = vec![false; end + 1];
        let mut stack = vec![(end, 0)];
        seen[end] = true;
        while let Some((block, next)) = stack.pop() {
            if let Some(&p) = predecessors[block].get(next) {
                stack.push((block, next + 1));
                if !seen[p] {
                    seen[p] = true;
                    stack.push((p, 0));
                }
            } else {
                number[block] = order.len();
                order.push(block);
            }
        }
        let mut immediate = vec![None; end + 1];
        immediate[end] = Some(end);
        let mut changed = true;
        while changed {
            changed = false;
            for &block in order.iter().rev().filter(|&&b| b != end) {
                let mut meet: Option<usize> = None;
                for &s in self.successors[block]
                    .iter()
                    .filter(|&&s| immediate[s].is_some())
                {
                    meet = Some(match meet {
                        None => s,
                        Some(mut a) => {
                            let mut b = s;
                            while a != b {
                                while number[a] < number[b] {
                                    a = immediate[a].expect("has one");
                                }
                                while number[b] < number[a] {
                                    b = immediate[b].expect("has one");
                                }
                            }
                            a
                        }
                    });
                }
                if meet != immediate[block] {
                    immediate[block] = meet;
                    changed = true;
                }
            }
        }
        immediate.truncate(end);
        immediate
            .into_iter()
            .map(|m| m.filter(|&b| b != end))
            .collect()
    }
}
