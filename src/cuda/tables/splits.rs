//! Into how many parts the K of each target is split: as many as end its launch, and the one that joins the parts, earliest.
//!
//! Parts are chosen for an H100, and are the same on every GPU, however many multiprocessors it has; so are the bits.

use super::costs::{Costs, HOPPER, MMA};
use super::tiles::Extent;
use super::turns::shared_out;
use crate::cuda::machine::kernels::Relax;

/// Into how many parts at most.
const MOST_PARTS: usize = 16;

/// Into so many parts, where there are as many steps.
pub fn forced(relax: Relax, parts: usize, extents: &[Extent]) -> Vec<usize> {
    let of = |extent: &Extent| match relax {
        Relax::Simt => 1,
        _ => parts.min(extent.steps).max(1),
    };
    extents.iter().map(of).collect()
}

/// Into as many parts as end early.
pub fn chosen(relax: Relax, components: usize, extents: &[Extent]) -> Vec<usize> {
    let whole = vec![1; extents.len()];
    let costs = match relax {
        Relax::Simt => return whole,
        Relax::Hopper => HOPPER,
        _ => {
            // A step of a smaller tile takes less than the rest.
            let scale = Relax::MmaWide.tile().channels / relax.tile().channels;
            Costs {
                step: MMA.step / scale,
                ..MMA
            }
        }
    };
    let tiles: Vec<usize> = (extents.iter())
        .map(|e| e.tiles(relax.tile(), components))
        .collect();
    if tiles.iter().sum::<usize>() > costs.most_tiles {
        return whole;
    }
    let duration = |splits: &Vec<usize>| costs.duration(extents, &tiles, splits);
    let longest = extents.iter().map(|e| e.steps).max().unwrap_or(0);
    (1..=MOST_PARTS)
        .map(|parts| {
            let steps = longest.div_ceil(parts).max(1);
            (extents.iter())
                .map(|e| ((e.steps + steps / 2) / steps).clamp(1, MOST_PARTS))
                .collect()
        })
        .min_by_key(duration)
        .unwrap_or(whole)
}

impl Costs {
    /// Clocks of the launch of so many tiles of each target, and of that which joins them.
    fn duration(&self, extents: &[Extent], tiles: &[usize], splits: &[usize]) -> usize {
        let (mut pieces, mut joins) = (Vec::new(), Vec::new());
        for ((extent, &tiles), &split) in extents.iter().zip(tiles).zip(splits) {
            let end = if split > 1 { self.part } else { self.whole };
            let steps = extent.steps.div_ceil(split);
            pieces.push((steps * self.step + end, tiles * split));
            if split > 1 {
                joins.push((split * self.sums + self.join, tiles));
            }
        }
        let second = if joins.is_empty() { 0 } else { self.launch };
        last_end(&pieces, self.blocks) + second + last_end(&joins, self.blocks)
    }
}

/// When the last of so many pieces of so much work ends.
fn last_end(pieces: &[(usize, usize)], blocks: usize) -> usize {
    let all = (pieces.iter()).flat_map(|&(work, count)| std::iter::repeat_n(work, count));
    let of_each = shared_out(all, blocks, |work| *work);
    let ends = of_each.iter().map(|work| work.iter().sum());
    ends.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pieces_begin_first() {
        assert_eq!(last_end(&[(3, 264), (5, 1)], 264), 6);
        assert_eq!(last_end(&[(3, 262), (2, 1), (5, 1), (1, 1)], 264), 5);
        assert_eq!(last_end(&[], 264), 0);
    }
}
