//! Tiles in pairs, one for each of the two blocks of a cluster on Hopper: of as many slots, and if possible with something in common, of
//! which each block fetches half for both.

/// Two tiles that blocks compute side by side.
pub type Pair<T> = [T; 2];

/// Pairs of tiles that are numbered by two things: two firsts with the same second, else two seconds with the same first. `tile` makes one,
/// which has this in common with the other (`EQ_SHARED_*`, for each of the two cases). The tile that is left, if one is.
pub fn pair_up<A: Copy, B: Copy, T>(
    firsts: &[A],
    seconds: &[B],
    [same_second, same_first]: [u32; 2],
    tile: impl Fn(A, B, u32) -> T,
    pairs: &mut Vec<Pair<T>>,
) -> Option<(A, B)> {
    let (two_firsts, last_first) = firsts.as_chunks::<2>();
    for &second in seconds {
        let of = |firsts: &[A; 2]| firsts.map(|first| tile(first, second, same_second));
        pairs.extend(two_firsts.iter().map(of));
    }
    let &first = last_first.first()?;
    let (two_seconds, last_second) = seconds.as_chunks::<2>();
    let of = |seconds: &[B; 2]| seconds.map(|second| tile(first, second, same_first));
    pairs.extend(two_seconds.iter().map(of));
    last_second.first().map(|&second| (first, second))
}
