//! Blocks that stay on their multiprocessors and take work by turns: of a list, block `b` of `n` takes entries `b`, `b + n` and so on.

use crate::cuda::machine::abi::{EQ_NO_CHANGE, EQ_SHARED_NOTHING, EQ_TILE_NONE, EqTile};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Gives pieces that cost so much to workers, the most expensive first, each to who has least to do: the pieces of each worker.
pub fn shared_out<T>(
    pieces: impl IntoIterator<Item = T>,
    workers: usize,
    cost: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    let mut pieces: Vec<T> = pieces.into_iter().collect();
    pieces.sort_by_key(|piece| Reverse(cost(piece)));
    let mut of_each: Vec<Vec<T>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
    let mut free: BinaryHeap<_> = (0..of_each.len())
        .map(|worker| Reverse((0, worker)))
        .collect();
    for piece in pieces {
        let Reverse((busy, worker)) = free.pop().expect("there are workers");
        free.push(Reverse((busy + cost(&piece), worker)));
        of_each[worker].push(piece);
    }
    of_each
}

/// Pieces (tiles, or pairs of them) in the order in which so many workers (blocks, or clusters) take them. Where one has none left and
/// others do, `none` says so.
///
/// A worker's own pieces keep the order that they came in: what is spread there stays spread.
pub fn by_turns<T: Copy>(
    pieces: Vec<T>,
    workers: usize,
    cost: impl Fn(&T) -> usize,
    none: T,
) -> Vec<T> {
    let numbered = pieces.into_iter().enumerate();
    let mut of_each = shared_out(numbered, workers, |(_, piece)| cost(piece));
    for pieces in &mut of_each {
        pieces.sort_by_key(|(number, _)| *number);
    }
    let rounds = of_each.iter().map(Vec::len).max().unwrap_or(0);
    let of_round = |round: usize| {
        let of_worker = move |pieces: &Vec<(usize, T)>| pieces.get(round).map(|piece| piece.1);
        of_each.iter().map(of_worker)
    };
    let mut list: Vec<Option<T>> = (0..rounds).flat_map(of_round).collect();
    while list.last().is_some_and(Option::is_none) {
        list.pop();
    }
    (list.into_iter())
        .map(|piece| piece.unwrap_or(none))
        .collect()
}

/// Says to a block that it has no more tiles.
pub const NONE: EqTile = EqTile {
    target: 0,
    first_pixel: 0,
    first_channel: 0,
    change: EQ_NO_CHANGE,
    kind: EQ_TILE_NONE,
    first_step: 0,
    steps: 0,
    first_part: 0,
    parts: 0,
    shared: EQ_SHARED_NOTHING,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_about_the_same_to_do_and_every_tile_is_taken_once() {
        let tile = |(target, steps): (usize, u32)| EqTile {
            target: target as u32,
            steps,
            ..EqTile::default()
        };
        // Two long ones for three blocks: the third takes most of the short ones.
        let steps = [3, 1, 12, 2, 2, 1, 12, 3];
        let tiles = steps.into_iter().enumerate().map(tile).collect();
        let list = by_turns(tiles, 3, |t| t.steps as usize, NONE);
        let mut seen = [0; 8];
        let mut ends = [0; 3];
        let mut over = [false; 3];
        for (tile, block) in list.iter().zip((0..3).cycle()) {
            if tile.kind == EQ_TILE_NONE {
                over[block] = true;
                continue;
            }
            assert!(!over[block], "an empty tile is the last of its block");
            seen[tile.target as usize] += 1;
            ends[block] += tile.steps;
        }
        assert_eq!(seen, [1; 8]);
        assert_eq!(ends, [12, 12, 12]);
        // Fewer tiles than blocks: one each, of the first blocks.
        let list = by_turns((0..2).map(|i| tile((i, 5))).collect(), 4, |_| 1, NONE);
        assert_eq!(list.len(), 2);
        assert!(by_turns(vec![], 4, |_| 1, NONE).is_empty());
    }
}
