//! In which order the free layers are updated.

use super::edge::Edge;
use super::graph::Network;
use crate::choice::choices;

choices! {
/// The order of one iteration. All pre-activations of a group are computed before any of its states is written.
pub enum Mode {
    /// layers 1, 3, 5, .. together, then 2, 4, 6, .. together (the published order)
    Asynchronous = "asynchronous",
    /// all layers together
    Synchronous = "synchronous",
    /// one layer at a time, from the input to the output
    Forward = "forward",
    /// one layer at a time, from the output to the input
    Backward = "backward",
    /// groups in which no two layers share an edge, so that each update exactly minimises the energy over its
    /// group; the one order that bears over-relaxation
    Coloured = "coloured",
}
}

impl Network {
    /// The groups of one iteration in order; each free layer is in exactly one.
    pub fn update_groups(&self, mode: Mode) -> Vec<Vec<usize>> {
        let free = self.free_layers();
        match mode {
            Mode::Asynchronous => {
                let (odd, even): (Vec<_>, Vec<_>) = free.partition(|l| l % 2 == 1);
                [odd, even].into_iter().filter(|g| !g.is_empty()).collect()
            }
            Mode::Synchronous => vec![free.collect()],
            Mode::Forward => free.map(|l| vec![l]).collect(),
            Mode::Backward => free.rev().map(|l| vec![l]).collect(),
            Mode::Coloured => self.colour_groups(),
        }
    }

    /// The same, to be asked who comes before whom.
    pub fn order(&self, mode: Mode) -> Order {
        Order::new(self.update_groups(mode), self.layers().len())
    }

    /// An edge whose two layers are updated together, if there is one: such an iteration may raise the energy, and diverges when it is
    /// over-relaxed.
    pub fn joined_in(&self, mode: Mode) -> Option<&Edge> {
        let groups = self.update_groups(mode);
        let joined = |edge: &&Edge| {
            let mut groups = groups.iter();
            groups.any(|group| group.contains(&edge.pre) && group.contains(&edge.post))
        };
        self.edges().iter().find(joined)
    }

    /// Greedy colouring from the input upwards: each layer takes the first colour that none of its lower
    /// neighbours has. HopfieldResNet13: {1,3,5,7,9}, {2,6}, {4,8}.
    fn colour_groups(&self) -> Vec<Vec<usize>> {
        let mut colours: Vec<Vec<usize>> = Vec::new();
        for l in self.free_layers() {
            let free_of_neighbours =
                |group: &Vec<usize>| !self.edges_into(l).any(|(_, e)| group.contains(&e.pre));
            match colours.iter_mut().find(|group| free_of_neighbours(group)) {
                Some(group) => group.push(l),
                None => colours.push(vec![l]),
            }
        }
        colours
    }
}

/// Where each layer stands in the order of an iteration.
#[derive(Debug, Clone)]
pub struct Order {
    groups: Vec<Vec<usize>>,
    /// by layer the number of its group
    positions: Vec<usize>,
}

impl Order {
    fn new(groups: Vec<Vec<usize>>, layers: usize) -> Self {
        let mut positions = vec![0; layers];
        for (position, group) in groups.iter().enumerate() {
            group.iter().for_each(|&l| positions[l] = position);
        }
        Self { groups, positions }
    }

    /// The groups in order.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Whether free layer `j` is updated before free layer `l`.
    pub fn is_before(&self, j: usize, l: usize) -> bool {
        self.positions[j] < self.positions[l]
    }

    /// The iteration after which free layer `j`'s state is what the update of free layer `l` in iteration `t` reads: this one or the one
    /// before.
    pub fn read(&self, j: usize, l: usize, t: usize) -> usize {
        t - usize::from(!self.is_before(j, l))
    }
}
