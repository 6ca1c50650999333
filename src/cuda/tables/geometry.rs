//! Tap tables: every edge as a list of shifted products, in both directions.
//!
//! The kernels know one kind of edge, a convolution. A dense edge is one whose kernel and stride are the whole lower image:
//! each lower pixel is seen through exactly one tap.
//!
//! Upwards, output pixel `o` reads the source pixel `o * stride + k * dilation - padding` for each kernel position `k`. Downwards
//! (the transposed convolution), lower pixel `y` receives from every `o` with `o * stride + k * dilation - padding = y`. With
//! stride 2 a lower pixel therefore has taps only for `k` of the parity of `y + padding`: pixels are split into *parity
//! classes* `y = origin + i * step`, where all pixels of a class have the same taps, and no product is ever with a
//! structural zero.

use crate::network::{LinearMap, Network, Pooling, Shape};

/// Rows, then columns.
pub type Pair = [usize; 2];

/// An edge as a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    pub pre: Shape,
    /// the convolution's output: the post layer, or what is pooled into it
    pub full: Shape,
    pub pooled: bool,
    /// pooling takes the mean of a window, not its maximum
    pub average: bool,
    pub kernel: Pair,
    pub stride: Pair,
    pub padding: Pair,
    pub dilation: Pair,
}

impl Geometry {
    pub fn of(network: &Network, edge: usize) -> Self {
        let edge = &network.edges()[edge];
        let shape = |l: usize| network.layers()[l].shape;
        let (pre, post) = (shape(edge.pre), shape(edge.post));
        match edge.map {
            LinearMap::Dense => Self {
                pre,
                full: post,
                pooled: false,
                average: false,
                kernel: [pre.height, pre.width],
                stride: [pre.height, pre.width],
                padding: [0, 0],
                dilation: [1, 1],
            },
            LinearMap::Conv(c) => {
                let size = c.output_size([pre.height, pre.width]);
                let [height, width] = size.expect("the network was checked");
                Self {
                    pre,
                    full: Shape::new(post.channels, height, width),
                    pooled: edge.pooling != Pooling::None,
                    average: edge.pooling == Pooling::Average2x2,
                    kernel: c.kernel,
                    stride: c.stride,
                    padding: c.padding,
                    dilation: c.dilation,
                }
            }
        }
    }

    /// Positions of the kernel: the weight's slabs, row-major.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub fn tap_position(&self, tap: usize) -> Pair {
        [tap / self.kernel[1], tap % self.kernel[1]]
    }

    /// Along an axis: pre pixel of kernel position `k`, relative to `post pixel * stride`.
    fn offset(&self, axis: usize, k: usize) -> i32 {
        (k * self.dilation[axis]) as i32 - self.padding[axis] as i32
    }
}

/// The pixels `origin + i * step` of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    pub origin: Pair,
    pub step: Pair,
    /// number of pixels
    pub size: Pair,
}

/// A shifted product: class pixel `i` reads source pixel `i * step + offset` through slab `tap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    pub edge: usize,
    pub tap: usize,
    pub downwards: bool,
    pub step: [i32; 2],
    pub offset: [i32; 2],
}

/// A shape as one class: for what no edge leaves.
pub fn whole(shape: Shape) -> Class {
    Class {
        origin: [0, 0],
        step: [1, 1],
        size: [shape.height, shape.width],
    }
}

/// The parity classes of a layer, for the strides of the edges that leave it. Empty classes are left out.
pub fn classes(network: &Network, layer: usize) -> Vec<Class> {
    let mut step = [1, 1];
    for (e, _) in network.edges_out_of(layer) {
        let stride = Geometry::of(network, e).stride;
        step = [lcm(step[0], stride[0]), lcm(step[1], stride[1])];
    }
    let shape = network.layers()[layer].shape;
    let side = [shape.height, shape.width];
    let mut classes = Vec::new();
    for y in 0..step[0].min(side[0]) {
        for x in 0..step[1].min(side[1]) {
            classes.push(Class {
                origin: [y, x],
                step,
                size: [
                    (side[0] - y).div_ceil(step[0]),
                    (side[1] - x).div_ceil(step[1]),
                ],
            });
        }
    }
    classes
}

/// Taps of an edge for a class of its upper end.
pub fn taps_up(edge: usize, geometry: &Geometry, class: &Class) -> Vec<Tap> {
    let along = |axis: usize, k: usize| {
        let stride = geometry.stride[axis];
        let step = (class.step[axis] * stride) as i32;
        let offset = (class.origin[axis] * stride) as i32 + geometry.offset(axis, k);
        (step, offset)
    };
    (0..geometry.taps())
        .map(|tap| {
            let [ky, kx] = geometry.tap_position(tap);
            let ((step_y, y), (step_x, x)) = (along(0, ky), along(1, kx));
            Tap {
                edge,
                tap,
                downwards: false,
                step: [step_y, step_x],
                offset: [y, x],
            }
        })
        .collect()
}

/// Taps of an edge for a class of its lower end: those kernel positions through which the class is seen at all.
pub fn taps_down(edge: usize, geometry: &Geometry, class: &Class) -> Vec<Tap> {
    let along = |axis: usize, k: usize| {
        let stride = geometry.stride[axis] as i32;
        debug_assert_eq!(class.step[axis] as i32 % stride, 0);
        let distance = class.origin[axis] as i32 - geometry.offset(axis, k);
        (distance % stride == 0).then(|| (class.step[axis] as i32 / stride, distance / stride))
    };
    (0..geometry.taps())
        .filter_map(|tap| {
            let [ky, kx] = geometry.tap_position(tap);
            let ((step_y, y), (step_x, x)) = (along(0, ky)?, along(1, kx)?);
            Some(Tap {
                edge,
                tap,
                downwards: true,
                step: [step_y, step_x],
                offset: [y, x],
            })
        })
        .collect()
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::tables::layout::{Layout, padded};
    use crate::network::ActivationKind;
    use crate::network::presets::{self, PresetOptions};
    use rand::SeedableRng;

    fn resnet() -> Network {
        let options = PresetOptions {
            input_channels: 3,
            classes: 10,
            channels: presets::PAPER_CHANNELS,
            activation: ActivationKind::Relu6,
            gains: None,
        };
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        presets::build("hopfieldresnet13", &options, &mut rng).unwrap()
    }

    #[test]
    fn stride_2_from_above_reaches_four_parity_classes_with_1_2_2_4_taps() {
        let network = resnet();
        // Layer 1 has one edge upwards: 3x3, stride 2.
        let geometry = Geometry::of(&network, 1);
        let classes = classes(&network, 1);
        let taps: Vec<usize> = (classes.iter())
            .map(|class| taps_down(1, &geometry, class).len())
            .collect();
        assert_eq!(taps, [1, 2, 2, 4]);
        // The 1x1 skip from layer 2 reaches only the pixels with even coordinates.
        let skip = Geometry::of(&network, 4);
        let taps: Vec<usize> = (super::classes(&network, 2).iter())
            .map(|class| taps_down(4, &skip, class).len())
            .collect();
        assert_eq!(taps, [1, 0, 0, 0]);
    }

    /// Both directions must pair the same pixels: `<post, Op(pre)> = <Op^T(post), pre>`.
    #[test]
    fn up_and_down_join_the_same_pixels_through_the_same_tap() {
        let network = resnet();
        for e in 0..network.edges().len() {
            let g = Geometry::of(&network, e);
            let mut up = Vec::new();
            for tap in taps_up(e, &g, &whole(g.full)) {
                for o in 0..g.full.pixels() {
                    let (y, x) = ((o / g.full.width) as i32, (o % g.full.width) as i32);
                    let (y, x) = (
                        y * tap.step[0] + tap.offset[0],
                        x * tap.step[1] + tap.offset[1],
                    );
                    if (0..g.pre.height as i32).contains(&y) && (0..g.pre.width as i32).contains(&x)
                    {
                        up.push((tap.tap, y as usize * g.pre.width + x as usize, o));
                    }
                }
            }
            let mut down = Vec::new();
            for class in classes(&network, network.edges()[e].pre) {
                for tap in taps_down(e, &g, &class) {
                    for i in 0..class.size[0] {
                        for j in 0..class.size[1] {
                            let o = [
                                i as i32 * tap.step[0] + tap.offset[0],
                                j as i32 * tap.step[1] + tap.offset[1],
                            ];
                            let inside = (0..g.full.height as i32).contains(&o[0])
                                && (0..g.full.width as i32).contains(&o[1]);
                            if inside {
                                let y = class.origin[0] + i * class.step[0];
                                let x = class.origin[1] + j * class.step[1];
                                let o = o[0] as usize * g.full.width + o[1] as usize;
                                down.push((tap.tap, y * g.pre.width + x, o));
                            }
                        }
                    }
                }
            }
            up.sort_unstable();
            down.sort_unstable();
            assert_eq!(up, down, "edge {e}");
        }
    }

    /// The worked example of kernels/README.md, computed: on a mismatch the test prints the table that belongs there.
    #[test]
    fn the_worked_example_of_the_kernels_readme_is_what_the_tables_say() {
        let network = resnet();
        let layout = Layout::new(&network);
        let (layer, [i, j]) = (3, [2, 3]);
        let class = classes(&network, layer)[3];
        assert_eq!(class.origin, [1, 1]);
        let up = network
            .edges_into(layer)
            .map(|(e, edge)| (e, edge.pre, false));
        let down = network
            .edges_out_of(layer)
            .map(|(e, edge)| (e, edge.post, true));
        let mut rows = Vec::new();
        for (e, source, downwards) in up.chain(down) {
            let geometry = Geometry::of(&network, e);
            let taps = match downwards {
                false => taps_up(e, &geometry, &class),
                true => taps_down(e, &geometry, &class),
            };
            let shape = network.layers()[source].shape;
            for tap in taps {
                let [ky, kx] = geometry.tap_position(tap.tap);
                let [y, x] = [0, 1].map(|a| [i, j][a] * tap.step[a] + tap.offset[a]);
                let unit = (y as usize * shape.width + x as usize) * padded(shape.channels);
                let (slab, _) = layout.slab(e, tap.tap);
                rows.push(format!(
                    "| {} | {} {source} | ({ky}, {kx}) | ({y}, {x}) | {unit} | {slab} |",
                    rows.len(),
                    if downwards { "down from" } else { "up from" },
                ));
            }
        }
        assert_eq!(rows.len(), 13);
        let readme = include_str!("../../../kernels/README.md");
        let table = rows.join("\n");
        assert!(readme.contains(&table), "kernels/README.md lacks\n{table}");
    }
}
