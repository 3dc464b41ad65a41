//! Bytes of a picture file → RGB pixels → the numbers that a model takes.
//!
//! What goes in: files as they are (PNG, JPEG, TIFF, BMP, GIF, recognised by their content) and a [`Recipe`].
//! What comes out: rows of floats or bytes, to Pillow's or TensorFlow's numbers. No file is opened here.
//! Files are hostile: sizes are checked before anything is allocated, and a panic in a decoder is an error.

pub mod ahead;
mod convert;
mod formats;
mod ifd;
mod jpeg;
mod picture;
mod prepare;
mod recipe;
mod resample;
mod thumbnail;
mod turn;
mod wide;

pub use jpeg::split::{Blocks, Floats, Split, Tap, floats, split};
pub use picture::Picture;
pub use prepare::{decode_and_prepare, decode_floats_into, prepare, prepare_bytes_into, prepare_floats_into};
pub use recipe::{Filter, Fit, Layout, Recipe};
pub use thumbnail::thumbnail;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fault::Fault;

/// A picture file format that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Portable network graphics; of animated ones, the still picture.
    Png,
    /// JPEG, sequential or progressive.
    Jpeg,
    /// TIFF; of several pages, the first.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// GIF; of several frames, the first.
    Gif,
}

impl Format {
    /// The format that `bytes` begin like; file names are not asked, since they lie.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        const STARTS: [(&[u8], Format); 9] = [
            (b"\x89PNG\r\n\x1A\n", Format::Png),
            (b"\xFF\xD8\xFF", Format::Jpeg),
            (b"II*\0", Format::Tiff),
            (b"MM\0*", Format::Tiff),
            (b"II+\0", Format::Tiff),
            (b"MM\0+", Format::Tiff),
            (b"BM", Format::Bmp),
            (b"GIF87a", Format::Gif),
            (b"GIF89a", Format::Gif),
        ];
        STARTS.iter().find(|(start, _)| bytes.starts_with(start)).map(|&(_, format)| format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Tiff => "TIFF",
            Format::Bmp => "BMP",
            Format::Gif => "GIF",
        })
    }
}

/// How large a picture may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most pixels; width times height.
    pub pixels: u64,
    /// The most bytes that a decoder may take beside the picture itself.
    pub memory: u64,
}

impl Default for Limits {
    /// 89 478 485 pixels: 256 MiB of RGB, where Pillow begins to warn of bombs; cameras make up to half of it.
    /// 1 GiB of memory: a progressive JPEG of that size takes 805 MB.
    fn default() -> Self {
        Self { pixels: 89_478_485, memory: 1 << 30 }
    }
}

impl Limits {
    fn check_size(&self, format: Format, width: u32, height: u32) -> Result<(), VisionError> {
        if width == 0 || height == 0 {
            return Err(VisionError::Damaged { format, reason: format!("it has {width} × {height} pixels") });
        }
        if u64::from(width) * u64::from(height) > self.pixels {
            return Err(VisionError::TooLarge { width, height, limit: self.pixels });
        }
        Ok(())
    }

    fn check_memory(&self, format: Format, bytes: u64) -> Result<(), VisionError> {
        if bytes > self.memory { Err(VisionError::Memory { format, limit: self.memory }) } else { Ok(()) }
    }
}

/// Why a picture cannot be read or prepared.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VisionError {
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file begins like no format that is read here.
    #[error("not a picture (png, jpeg, tiff, bmp, gif): it begins with {0}")]
    NotAPicture(String),
    /// More pixels than allowed.
    #[error("the picture has {width} × {height} pixels, more than the {limit} allowed")]
    TooLarge {
        /// Columns, as the file says.
        width: u32,
        /// Rows, as the file says.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// Decoding would take more memory than allowed.
    #[error("decoding the {format} takes more than the {limit} bytes allowed")]
    Memory {
        /// What the file is.
        format: Format,
        /// The most bytes allowed.
        limit: u64,
    },
    /// The file ends before its picture does.
    #[error("the {format} is cut off")]
    Truncated {
        /// What the file is.
        format: Format,
    },
    /// The file contradicts its format.
    #[error("the {format} is damaged: {reason}")]
    Damaged {
        /// What the file is.
        format: Format,
        /// What is wrong.
        reason: String,
    },
    /// The file is sound, but of a kind that is not read here.
    #[error("the {format} cannot be read here: {reason}")]
    Unsupported {
        /// What the file is.
        format: Format,
        /// What it has that is not read.
        reason: String,
    },
    /// The picture's proportions make resizing it take too much memory.
    #[error("a picture of {} × {} pixels cannot be resized to {} × {}: that takes too much memory", from.0, from.1, to.0, to.1)]
    Resize {
        /// Columns and rows before.
        from: (usize, usize),
        /// Columns and rows after, before anything is cut out.
        to: (usize, usize),
    },
    /// A recipe that cannot be followed.
    #[error("{0}")]
    Recipe(String),
    /// A region outside its picture.
    #[error(
        "a region of {width} × {height} pixels at ({left}, {top}) leaves the picture of {} × {} pixels",
        picture.0, picture.1
    )]
    Region {
        /// First column.
        left: u32,
        /// First row.
        top: u32,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
        /// The picture's columns and rows.
        picture: (u32, u32),
    },
}

impl VisionError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            VisionError::Recipe(_) | VisionError::Region { .. } => Fault::Script,
            _ => Fault::Caller,
        }
    }
}

/// What a picture file says of itself before its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What the file is.
    pub format: Format,
}

/// The size and format of the picture file `bytes`, without decoding pixels.
///
/// # Errors
/// If it is no picture, or already its header is unsound or too large.
pub fn header(bytes: &[u8], limits: &Limits) -> Result<Header, VisionError> {
    let format = recognise(bytes)?;
    let (width, height) = guarded(format, || formats::size(format, bytes, limits))?;
    Ok(Header { width, height, format })
}

/// The pixels of the picture file `bytes` as RGB: alpha is dropped, palettes are looked up, 16 bits become their
/// high byte, ink becomes light, as Pillow's `convert("RGB")` has it.
///
/// # Errors
/// If it is no picture, is cut off or damaged, is of a kind that is not read, or leaves the limits.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let format = recognise(bytes)?;
    guarded(format, || formats::decode(format, bytes, limits))
}

fn recognise(bytes: &[u8]) -> Result<Format, VisionError> {
    if bytes.is_empty() {
        return Err(VisionError::Empty);
    }
    Format::of(bytes)
        .ok_or_else(|| VisionError::NotAPicture(format!("\"{}\"", bytes[..bytes.len().min(8)].escape_ascii())))
}

/// Runs a decoder; its panic is a damaged file, since only a file can have brought it about.
fn guarded<T>(format: Format, work: impl FnOnce() -> Result<T, VisionError>) -> Result<T, VisionError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(VisionError::Damaged { format, reason: "its decoder panicked".into() }))
}
