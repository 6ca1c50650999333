//! Executes instructions on all lanes of a warp at once.

mod access;
mod banks;
mod copy;
pub mod hopper;
mod lane;
mod step;

use crate::finding::{Fault, Problem};
use crate::machine::{Block, Context, Frame, State, Warp};
use crate::program::Op;
use hopper::Flow;
use step::{bits_where, step};

/// Why a warp came to rest.
pub struct Stopped {
    /// The instruction at fault.
    pub at: usize,
    pub fault: Fault,
}

/// Runs a warp until it waits, is done, or has executed `budget` instructions.
pub fn run(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    budget: u64,
) -> Result<(), Stopped> {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        #[target_feature(enable = "avx2,fma")]
        fn with_vectors(
            context: &Context,
            block: &mut Block,
            warp: &mut Warp,
            budget: u64,
        ) -> Result<(), Stopped> {
            execute(context, block, warp, budget)
        }
        // SAFETY: the processor has both.
        return unsafe { with_vectors(context, block, warp, budget) };
    }
    execute(context, block, warp, budget)
}

#[inline(always)]
fn execute(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    budget: u64,
) -> Result<(), Stopped> {
    let code = &context.kernel.code;
    let end = warp.executed + budget;
    let mut frame = match warp.stack.pop() {
        Some(frame) => frame,
        None => {
            warp.state = State::Done;
            return Ok(());
        }
    };
    loop {
        if frame.next == frame.until || frame.mask == 0 {
            match warp.stack.pop() {
                Some(below) => {
                    frame = below;
                    continue;
                }
                None => {
                    warp.state = State::Done;
                    return Ok(());
                }
            }
        }
        if warp.executed >= end {
            warp.stack.push(frame);
            return Ok(());
        }
        let at = frame.next as usize;
        let instruction = &code[at];
        let mask = match instruction.guard {
            None => frame.mask,
            Some((p, false)) => frame.mask & warp.predicate(p),
            Some((p, true)) => frame.mask & !warp.predicate(p),
        };
        warp.executed += 1;
        let count = &mut block.counts[at];
        count[0] += 1;
        count[1] += u64::from(mask.count_ones());
        frame.next += 1;
        if let Some(touches) = context.kernel.touches.get(at)
            && !touches.is_empty()
            && mask != 0
            && let Err(fault) = hopper::check_sums(warp, touches)
        {
            return Err(Stopped { at, fault });
        }
        match &instruction.op {
            Op::Branch(target, meeting) => {
                let rest = frame.mask & !mask;
                if rest == 0 {
                    frame.next = *target;
                } else if mask != 0 {
                    // The others go on here; who arrives at the meeting point waits for the rest.
                    if *meeting != frame.until {
                        warp.stack.push(Frame {
                            next: *meeting,
                            ..frame
                        });
                    }
                    warp.stack.push(Frame {
                        next: frame.next,
                        until: *meeting,
                        mask: rest,
                    });
                    frame = Frame {
                        next: *target,
                        until: *meeting,
                        mask,
                    };
                }
                continue;
            }
            Op::Table(index, targets, meeting) => {
                let index = warp.get32(*index);
                let meeting = *meeting;
                let rest = frame.mask & !mask;
                if meeting != frame.until {
                    warp.stack.push(Frame {
                        next: meeting,
                        ..frame
                    });
                }
                if rest != 0 {
                    warp.stack.push(Frame {
                        next: frame.next,
                        until: meeting,
                        mask: rest,
                    });
                }
                for (i, &target) in targets.iter().enumerate() {
                    let chosen = mask & bits_where(|lane| index[lane] as usize == i);
                    if chosen != 0 {
                        warp.stack.push(Frame {
                            next: target,
                            until: meeting,
                            mask: chosen,
                        });
                    }
                }
                frame.mask = 0;
                continue;
            }
            Op::Exit => {
                warp.alive &= !mask;
                frame.mask &= !mask;
                warp.stack.iter_mut().for_each(|f| f.mask &= !mask);
                continue;
            }
            _ if mask == 0 => continue,
            Op::Barrier { id, threads } => {
                let first = mask.trailing_zeros() as usize;
                let id = warp.get32(*id)[first];
                if mask != warp.alive {
                    let missing = warp.alive & !mask;
                    let detail =
                        format!("lanes {missing:#010x} of warp {} are elsewhere", warp.index);
                    let problem = Problem::BarrierNotReached {
                        barrier: id,
                        detail,
                    };
                    return Err(Stopped {
                        at,
                        fault: Box::new((None, problem)),
                    });
                }
                let threads = threads.map(|t| warp.get32(t)[first]);
                let line = instruction.line;
                warp.state = State::Barrier { id, threads, line };
                warp.stack.push(frame);
                return Ok(());
            }
            Op::Hopper(op) => match hopper::execute(context, block, warp, mask, at, op) {
                Ok(Flow::Next) => {}
                Ok(Flow::Wait(what)) => {
                    // It is executed again when what it waits for has come.
                    frame.next -= 1;
                    let line = instruction.line;
                    warp.state = State::Waiting { what, line };
                    warp.stack.push(frame);
                    return Ok(());
                }
                Err(fault) => return Err(Stopped { at, fault }),
            },
            op => {
                if let Err(fault) = step(context, block, warp, mask, at, op) {
                    return Err(Stopped { at, fault });
                }
            }
        }
    }
}
