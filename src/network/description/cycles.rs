//! Whether the edges of a description form a cycle.

use super::NetworkDescription;
use crate::network::error::NetworkError;
use std::collections::HashMap;

/// A cycle gets a message of its own, which names the layers on it: a depth-first search from each layer that none
/// before has reached, with a path of our own instead of the call stack, so that a long chain does not overflow it.
pub fn check_cycles(
    described: &NetworkDescription,
    names: &HashMap<&str, usize>,
) -> Result<(), NetworkError> {
    let mut above = vec![Vec::new(); described.layers.len()];
    for edge in &described.edges {
        if let (Some(&from), Some(&to)) = (names.get(&*edge.from), names.get(&*edge.to)) {
            above[from].push(to);
        }
    }
    // How many of a layer's edges have been followed; a layer that is on the path now, or was.
    let mut followed = vec![0; described.layers.len()];
    let (mut on_path, mut seen) = (
        vec![false; described.layers.len()],
        vec![false; described.layers.len()],
    );
    for start in 0..described.layers.len() {
        let mut path = vec![];
        if !seen[start] {
            path.push(start);
        }
        while let Some(&here) = path.last() {
            (seen[here], on_path[here]) = (true, true);
            let next = above[here].get(followed[here]).copied();
            followed[here] += 1;
            match next {
                None => {
                    on_path[here] = false;
                    path.pop();
                }
                Some(next) if on_path[next] => {
                    let first = path.iter().position(|&l| l == next).unwrap_or(0);
                    let cycle = path[first..].iter().chain([&next]);
                    let cycle: Vec<_> = cycle.map(|&l| described.layers[l].name.as_str()).collect();
                    return Err(NetworkError(format!(
                        "the edges form a cycle: {}",
                        cycle.join(" -> ")
                    )));
                }
                Some(next) if !seen[next] => path.push(next),
                Some(_) => {}
            }
        }
    }
    Ok(())
}
