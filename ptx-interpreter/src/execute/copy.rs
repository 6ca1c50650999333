//! `cp.async`: copies from device to shared memory that arrive when they are waited for.

use super::access::{Found, find};
use crate::finding::{Fault, Problem, Space, check_aligned, fault};
use crate::machine::{Block, Context, Pending, Warp, lanes_of};
use crate::program::Op;

/// Issues `cp.async`. The data is read now and arrives when it is waited for: until then the place may not be touched.
pub fn begin(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    op: &Op,
) -> Result<(), Fault> {
    let Op::Copy {
        to,
        from,
        bytes,
        size,
        ignore,
    } = op
    else {
        unreachable!("only copies come here")
    };
    let (to, from, bytes) = (warp.addresses(*to), warp.addresses(*from), *bytes);
    let sizes = size.map(|reg| warp.get32(reg));
    let ignored = ignore.map_or(0, |p| warp.predicate(p));
    let me = context.stamp(block, warp);
    let piece = context.kernel.global_piece;
    for lane in lanes_of(mask) {
        let Found::Shared(offset) =
            find(context, block, warp, lane, Space::Shared, to[lane], bytes)?
        else {
            unreachable!("the space is given")
        };
        let wanted = if ignored >> lane & 1 != 0 {
            0
        } else {
            sizes.map_or(bytes, |s| s[lane] as usize)
        };
        if wanted > bytes {
            let detail = format!("a copy of {bytes} bytes has a source of {wanted}");
            return fault(lane, Problem::Launch(detail));
        }
        // The address must be aligned, whether or not anything is read there.
        check_aligned(lane, Space::Global, from[lane], bytes, bytes)?;
        let mut data = [0; 16];
        if wanted > 0 {
            let place = context.memory.locate(lane, from[lane], wanted)?;
            if context.options.checks {
                place.check_read(
                    lane,
                    from[lane],
                    wanted.next_multiple_of(piece),
                    piece,
                    me + lane as u64,
                )?;
            }
            place.read(&mut data[..wanted]);
        }
        block.traffic.global_read += wanted as u64;
        block.traffic.shared_written += bytes as u64;
        block
            .shared
            .begin_copy(lane, offset, bytes, me + lane as u64)?;
        warp.copies[lane].push_back(Pending {
            group: warp.committed[lane],
            to: offset,
            bytes,
            data,
        });
    }
    Ok(())
}

/// Lets all but the last `pending` groups of each thread arrive.
pub fn wait(
    context: &Context,
    block: &mut Block,
    warp: &mut Warp,
    mask: u32,
    pending: Option<u32>,
) {
    let me = context.stamp(block, warp);
    for lane in lanes_of(mask) {
        let done = |copy: &Pending| match pending {
            None => true,
            Some(pending) => copy.group + pending < warp.committed[lane],
        };
        while warp.copies[lane].front().is_some_and(done) {
            let copy = warp.copies[lane].pop_front().expect("there is a first one");
            block
                .shared
                .end_copy(copy.to, &copy.data[..copy.bytes], me + lane as u64);
        }
    }
}
