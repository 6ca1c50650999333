//! A folder per class, with PNG and JPEG images in it, as torchvision's `ImageFolder` has it: classes are numbered in the order of their
//! names, the images of a class may lie in folders within it, and are taken in the order of their paths.

use std::fs;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use rayon::prelude::*;

use super::Contents;
use crate::data::{DataError, Dataset};
use crate::shown::{one_line, shown};

/// Larger images are no input of a network here, and would fill the memory.
const LARGEST_SIDE: usize = 1024;
/// Bytes that decoding one may take.
const MEMORY: u64 = 32 << 20;
/// Images of a folder.
const MOST_EXAMPLES: usize = 1_000_000;
/// Folders within the folder of a class.
const DEEPEST: usize = 16;

const READ: [&str; 3] = ["png", "jpg", "jpeg"];
/// What `ImageFolder` takes too. Passing over it would train on a part of the images.
const NOT_READ: [&str; 7] = ["ppm", "pgm", "bmp", "tif", "tiff", "webp", "gif"];

/// The images of a folder.
pub(crate) struct Listing {
    folder: PathBuf,
    /// names, in the order of the labels
    pub(crate) classes: Vec<String>,
    /// with their labels
    files: Vec<(PathBuf, u8)>,
}

impl Listing {
    /// Lists `folder`; its classes are those of `known`, where these are given.
    ///
    /// # Errors
    /// When it has no classes, one without images, one that is not known, or a file of another format.
    pub(crate) fn of(folder: &Path, known: Option<&[String]>) -> Result<Self, DataError> {
        let (folders, _) = entries(folder)?;
        let name = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let names: Vec<String> = folders.iter().map(name).collect();
        let classes = known.map_or(names.clone(), <[String]>::to_vec);
        let mut files = Vec::new();
        for (path, name) in folders.iter().zip(&names) {
            let label = classes.iter().position(|class| class == name);
            let label = label.ok_or_else(|| {
                let training = "the training images have no such class; rename or remove it";
                DataError::own(path, training)
            })?;
            // Of more classes than labels there are, the caller tells.
            let label = u8::try_from(label).unwrap_or(u8::MAX);
            let before = files.len();
            collect(path, label, 0, &mut files)?;
            if files.len() == before && known.is_none() {
                let empty = "this class has no PNG or JPEG images; put some there, or remove it";
                return Err(DataError::own(path, empty));
            }
            if files.len() > MOST_EXAMPLES {
                let most = format!("it has more than {MOST_EXAMPLES} images");
                return Err(DataError::own(folder, most));
            }
        }
        if files.is_empty() {
            let empty =
                "it has no folders of classes with PNG or JPEG images; expected CLASS/*.png";
            return Err(DataError::own(folder, empty));
        }
        Ok(Self {
            folder: folder.to_owned(),
            classes,
            files,
        })
    }

    /// Channels, height and width: the size of the first image, and colour if the first image of any class has it.
    ///
    /// # Errors
    /// When one of them is no image.
    pub(crate) fn looks(&self) -> Result<(usize, usize, usize), DataError> {
        let (mut channels, mut size, mut seen) = (1, None, None);
        for (path, label) in &self.files {
            if seen.replace(*label) == Some(*label) {
                continue;
            }
            let decoder = decoder(path)?;
            let (width, height) = decoder.dimensions();
            size.get_or_insert((height as usize, width as usize));
            if decoder.color_type().has_color() {
                channels = 3;
            }
        }
        let (height, width) =
            size.ok_or_else(|| DataError::own(&self.folder, "it has no images"))?;
        Ok((channels, height, width))
    }
}

/// The folders and the files in a folder, each by name, without hidden ones.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let path = entry.map_err(DataError::io(folder))?.path();
        let name = path.file_name().unwrap_or_default();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match path.is_dir() {
            true => folders.push(path),
            false => files.push(path),
        }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn collect(
    folder: &Path,
    label: u8,
    depth: usize,
    found: &mut Vec<(PathBuf, u8)>,
) -> Result<(), DataError> {
    if depth > DEEPEST {
        let deep = format!("more than {DEEPEST} folders lie in each other; a link may lead back");
        return Err(DataError::own(folder, deep));
    }
    let (folders, files) = entries(folder)?;
    for path in files {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if READ.iter().any(|known| extension == *known) {
            found.push((path, label));
        } else if NOT_READ.iter().any(|known| extension == *known) {
            let format = "images of this format are not read; convert it to PNG or JPEG";
            return Err(DataError::own(&path, format));
        }
    }
    for path in folders {
        collect(&path, label, depth + 1, found)?;
    }
    Ok(())
}

/// Reads all images of a listing, which must be of one size; grey ones are taken into a dataset of colour images as they are.
pub(crate) fn read(contents: &Contents, listing: &Listing) -> Result<Dataset, DataError> {
    let images: Vec<Result<Vec<u8>, DataError>> = (listing.files.par_iter())
        .map(|(path, _)| read_image(contents, path))
        .collect();
    // The first error of several, whichever thread was faster.
    let images: Vec<Vec<u8>> = images.into_iter().collect::<Result<_, _>>()?;
    let labels = listing.files.iter().map(|(_, label)| *label).collect();
    Ok(contents.dataset(images.concat(), labels))
}

/// `(C, H, W)` bytes of an image.
fn read_image(contents: &Contents, path: &Path) -> Result<Vec<u8>, DataError> {
    let decoder = decoder(path)?;
    let (width, height) = decoder.dimensions();
    let size = (height as usize, width as usize);
    if size != (contents.height, contents.width) {
        return Err(DataError::own(
            path,
            format!(
                "it has {}x{} pixels (height x width), but the first training image has {}x{}: all need one size; resize them",
                size.0, size.1, contents.height, contents.width
            ),
        ));
    }
    if contents.channels == 1 && decoder.color_type().has_color() {
        let colour = "it is in colour, but the first training images of all classes are grey: convert either";
        return Err(DataError::own(path, colour));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|e| refused(path, e))?;
    if contents.channels == 1 {
        return Ok(image.into_luma8().into_raw());
    }
    let pixels = image.into_rgb8().into_raw();
    let plane = |c: usize| pixels.iter().skip(c).step_by(3).copied();
    Ok((0..3).flat_map(plane).collect())
}

/// A decoder for the file's content, whatever its name, which has no more than a network can take.
fn decoder(path: &Path) -> Result<impl ImageDecoder, DataError> {
    let open = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = open.map_err(DataError::io(path))?;
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(LARGEST_SIDE as u32);
    limits.max_image_height = Some(LARGEST_SIDE as u32);
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|e| refused(path, e))?;
    let (width, height) = decoder.dimensions();
    let fits = |side| (1..=LARGEST_SIDE as u32).contains(&side);
    match fits(width) && fits(height) {
        true => Ok(decoder),
        false => Err(DataError::own(
            path,
            format!("it has {height}x{width} pixels; at most {LARGEST_SIDE} a side are read"),
        )),
    }
}

fn refused(path: &Path, error: ImageError) -> DataError {
    if let ImageError::Limits(_) = error {
        let large = format!("it has more than {LARGEST_SIDE} pixels a side; resize it");
        return DataError::own(path, large);
    }
    let reason = shown(one_line(&error.to_string()));
    DataError::own(
        path,
        format!("it cannot be read as a PNG or JPEG image ({reason}); replace it"),
    )
}
