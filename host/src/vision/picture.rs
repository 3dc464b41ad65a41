//! A decoded picture: 8-bit RGB, its size, and how its camera was held.
//! What goes in: a decoder's pixels. What comes out: regions and upright copies. No resizing.

use std::borrow::Cow;
use std::ops::Range;

use super::VisionError;
use super::wide::wide;

/// Which part of a picture is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) columns: Range<usize>,
    pub(super) rows: Range<usize>,
}

/// Cuts room for a row into its reds, greens and blues, which are `step` apart; what is over stays out.
#[inline(always)]
pub(super) fn channels_mut<T>(row: &mut [T], step: usize) -> [&mut [T]; 3] {
    let (red, rest) = row.split_at_mut(step);
    let (green, blue) = rest.split_at_mut(step);
    [red, green, &mut blue[..step]]
}

/// As [`channels_mut`], to be read.
#[inline(always)]
pub(super) fn channels<T>(row: &[T], step: usize) -> [&[T]; 3] {
    [&row[..step], &row[step..2 * step], &row[2 * step..3 * step]]
}

/// RGB pixels, row by row from the upper left, three bytes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) rgb: Vec<u8>,
    /// As EXIF counts: 1 is upright.
    pub(super) orientation: u8,
}

impl Picture {
    /// An upright picture of these pixels.
    ///
    /// # Errors
    /// If they are not `width` × `height` × 3 bytes, or none.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, VisionError> {
        let bytes = (u64::from(width) * u64::from(height)).saturating_mul(3);
        if bytes == 0 || bytes != rgb.len() as u64 {
            return Err(VisionError::Recipe(format!("{} bytes are not {width} × {height} pixels", rgb.len())));
        }
        Ok(Self { width, height, rgb, orientation: 1 })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, row by row, three bytes each.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// How the camera was held, 1 to 8 as EXIF counts; 1 is upright.
    pub fn orientation(&self) -> u8 {
        self.orientation
    }

    /// Some columns of row `y`: reds, greens and blues, each as long as there are columns.
    pub(super) fn row(&self, y: usize, columns: &Range<usize>, [red, green, blue]: [&mut [u8]; 3]) {
        let width = self.width as usize;
        let pixels = &self.rgb.as_chunks::<3>().0[y * width..][..width][columns.clone()];
        wide(
            #[inline(always)]
            || {
                for (((pixel, r), g), b) in pixels.iter().zip(red).zip(green).zip(blue) {
                    [*r, *g, *b] = *pixel;
                }
            },
        );
    }

    /// A region of it, in its pixels as stored; it keeps the orientation.
    ///
    /// # Errors
    /// If the region is empty or leaves the picture.
    pub fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Result<Self, VisionError> {
        let inside =
            |start: u32, size: u32, all: u32| size > 0 && start.checked_add(size).is_some_and(|end| end <= all);
        if !inside(left, width, self.width) || !inside(top, height, self.height) {
            let picture = (self.width, self.height);
            return Err(VisionError::Region { left, top, width, height, picture });
        }
        let row = self.width as usize * 3;
        let (start, size) = (left as usize * 3, width as usize * 3);
        let rows = self.rgb.chunks_exact(row).skip(top as usize).take(height as usize);
        let mut rgb = Vec::with_capacity(size * height as usize);
        rows.for_each(|pixels| rgb.extend_from_slice(&pixels[start..start + size]));
        Ok(Self { width, height, rgb, orientation: self.orientation })
    }

    /// The picture as its camera meant it; the same one if it is upright already.
    pub fn upright(&self) -> Cow<'_, Self> {
        // Whether rows and columns change places, then whether columns or rows are mirrored.
        let (swap, mirror_x, mirror_y) = match self.orientation {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => return Cow::Borrowed(self),
        };
        let (width, height) = if swap { (self.height, self.width) } else { (self.width, self.height) };
        let (columns, pixels) = (self.width as usize, self.rgb.as_chunks::<3>().0);
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for y in 0..height as usize {
            let y = if mirror_y { height as usize - 1 - y } else { y };
            for x in 0..width as usize {
                let x = if mirror_x { width as usize - 1 - x } else { x };
                rgb.extend_from_slice(&pixels[if swap { x * columns + y } else { y * columns + x }]);
            }
        }
        Cow::Owned(Self { width, height, rgb, orientation: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of three pixels, numbered from 0.
    fn six(orientation: u8) -> Picture {
        Picture { orientation, ..Picture::new(3, 2, (0..6).flat_map(|i| [i; 3]).collect()).unwrap() }
    }

    fn numbers(picture: &Picture) -> Vec<u8> {
        picture.rgb.chunks(3).map(|p| p[0]).collect()
    }

    #[test]
    fn each_orientation_is_undone() {
        let cases: [(u8, u32, [u8; 6]); 8] = [
            (1, 3, [0, 1, 2, 3, 4, 5]),
            (2, 3, [2, 1, 0, 5, 4, 3]),
            (3, 3, [5, 4, 3, 2, 1, 0]),
            (4, 3, [3, 4, 5, 0, 1, 2]),
            (5, 2, [0, 3, 1, 4, 2, 5]),
            (6, 2, [3, 0, 4, 1, 5, 2]),
            (7, 2, [5, 2, 4, 1, 3, 0]),
            (8, 2, [2, 5, 1, 4, 0, 3]),
        ];
        for (orientation, width, expected) in cases {
            let picture = six(orientation);
            let upright = picture.upright();
            assert_eq!((upright.width, numbers(&upright)), (width, expected.to_vec()), "orientation {orientation}");
        }
    }

    #[test]
    fn a_region_stays_inside() {
        assert_eq!(numbers(&six(1).crop(1, 1, 2, 1).unwrap()), [4, 5]);
        for (left, top, width, height) in [(0, 0, 4, 1), (1, 0, 3, 1), (0, 2, 1, 1), (0, 0, 0, 1), (u32::MAX, 0, 2, 1)]
        {
            assert!(matches!(six(1).crop(left, top, width, height), Err(VisionError::Region { .. })));
        }
    }

    #[test]
    fn pixels_that_are_not_there_are_refused() {
        assert!(Picture::new(2, 2, vec![0; 11]).is_err());
        assert!(Picture::new(0, 2, vec![]).is_err());
        assert!(Picture::new(u32::MAX, u32::MAX, vec![]).is_err());
    }
}
