//! What the images of a dataset are like.

/// What a network must fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Image planes: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Height and width of the images in the files, in pixels.
    pub size: (usize, usize),
    /// Black pixels that are added on each side, unless the network asks for the size in the files.
    pub pad: usize,
    /// The classes' names, in the order of the labels.
    pub classes: Vec<String>,
}

impl Profile {
    /// Height and width of the padded images.
    pub fn padded_size(&self) -> (usize, usize) {
        let (height, width) = self.size;
        (height + 2 * self.pad, width + 2 * self.pad)
    }
}
