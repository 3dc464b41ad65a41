//! Pictures as shaders see them: structs of words, and tables that lie one after the other.
//! What goes in: pictures after entropy decoding, in whose numbers nothing is believed. What comes out: the contents of
//! buffers, and how large those in between are.

use std::ops::Range;

use crate::infer::InferError;

/// The most pixels that one dispatch covers, and so those of a picture's part in any of its sizes.
pub(super) const MOST_PIXELS: u64 = 65_535 * GROUP as u64;

/// The most blocks that one dispatch covers.
const MOST_BLOCKS: u64 = 65_535 * BLOCKS as u64;

/// Invocations of a workgroup that makes a pixel each.
pub(super) const GROUP: u32 = 256;

/// Blocks that a workgroup transforms.
pub(super) const BLOCKS: u32 = 8;

/// A JPEG file after entropy decoding, and what its rows are made of.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The columns that the resize looks at.
    pub columns: Range<u32>,
    /// The rows that the resize looks at.
    pub rows: Range<u32>,
    /// Luma alone, or luma and both chromas.
    pub components: Vec<Component>,
    /// Of each block its first coefficient, and then those that are not zero: their places (row-major) in the lowest 6
    /// bits, and numbers in the upper 10, signed. Numbers at the same place are added up.
    pub entries: Vec<u16>,
    /// What columns are made of, counted from the first that is looked at.
    pub across: Taps,
    /// What rows are made of, likewise.
    pub down: Taps,
    /// Whether rows are made fewer before columns are.
    pub rows_first: bool,
}

/// The blocks of a component that the resize needs.
#[derive(Clone, Debug)]
pub struct Component {
    /// Columns and rows of samples that the whole component has, padding left out.
    pub samples: (u32, u32),
    /// Columns and rows of the picture for one of the component's.
    pub ratio: (u32, u32),
    /// Columns of blocks.
    pub columns: Range<u32>,
    /// Rows of blocks.
    pub rows: Range<u32>,
    /// What coefficients are multiplied with, row-major.
    pub steps: [i16; 64],
    /// For each block, row by row, where its entries begin, times 256, and how many follow the first.
    pub index: Vec<u32>,
}

/// What the pixels of a resized line are made of: for each the first pixel, and the weights of it and those after it with
/// 22 fractional bits.
#[derive(Clone, Debug, Default)]
pub struct Taps(pub Vec<(u32, Vec<i32>)>);

/// How resized bytes become a model's floats.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Columns and rows of each picture.
    pub size: (u32, u32),
    /// The float of each byte, for each channel in the order of the output.
    pub tables: [[f32; 256]; 3],
    /// Which colour each channel of the output is: 0 red, 1 green, 2 blue.
    pub order: [u32; 3],
    /// Whether each pixel's channels lie together.
    pub channels_last: bool,
}

impl Rows {
    /// Pixels of a row.
    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.size.0) * u64::from(self.size.1)
    }

    /// The words of `Rows` in `numbers.wgsl`.
    pub(super) fn words(&self) -> [u32; 5] {
        let [a, b, c] = self.order;
        [self.pixels() as u32, self.channels_last.into(), a, b, c]
    }
}

/// The twin of `Component` in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct PackedComponent {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) ratio_x: u32,
    pub(super) ratio_y: u32,
    pub(super) first_x: u32,
    pub(super) first_y: u32,
    pub(super) blocks_x: u32,
    pub(super) blocks_y: u32,
    pub(super) steps: u32,
    pub(super) index: u32,
    pub(super) plane: u32,
    pub(super) fancy: u32,
}

/// The twin of `Direction` in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct PackedDirection {
    pub(super) from_x: u32,
    pub(super) from_y: u32,
    pub(super) to_x: u32,
    pub(super) to_y: u32,
    pub(super) axis: u32,
    pub(super) taps: u32,
    pub(super) source: u32,
    pub(super) made: u32,
}

/// The twin of `Picture` in `common.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct PackedPicture {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: u32,
    pub(super) entries: u32,
    pub(super) pixels: u32,
    pub(super) blocks: u32,
    pub(super) directions: [PackedDirection; 2],
    pub(super) parts: [PackedComponent; 3],
}

/// Pictures, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    pub(super) pictures: Vec<PackedPicture>,
    pub(super) steps: Vec<i32>,
    pub(super) index: Vec<u32>,
    /// Two entries to a word.
    pub(super) entries: Vec<u32>,
    pub(super) taps: Vec<u32>,
    /// Words of samples, pixels, and pixels between the two directions.
    pub(super) plane_words: u64,
    pub(super) pixels: u64,
    pub(super) between: u64,
}

fn wrong(reason: &str) -> InferError {
    InferError::Input(format!("a split picture {reason}"))
}

impl Packed {
    /// Words of the largest buffer that the pictures so far take.
    pub(super) fn largest(&self) -> u64 {
        let held = [self.entries.len(), self.index.len(), self.taps.len()].map(|n| n as u64);
        held.into_iter().chain([self.plane_words, self.pixels, self.between]).max().unwrap_or(0)
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// If it contradicts itself or the rows that are wanted, or has too many pixels for one dispatch.
    pub(super) fn push(&mut self, picture: &Picture, rows: &Rows) -> Result<(), InferError> {
        check(picture, rows)?;
        let (width, height) = (picture.columns.end - picture.columns.start, picture.rows.end - picture.rows.start);
        let mut packed = PackedPicture {
            left: picture.columns.start,
            top: picture.rows.start,
            width,
            height,
            components: picture.components.len() as u32,
            entries: self.entries.len() as u32,
            pixels: self.pixels as u32,
            ..PackedPicture::default()
        };
        for (part, component) in packed.parts.iter_mut().zip(&picture.components) {
            *part = self.push_component(component);
            packed.blocks += part.blocks_x * part.blocks_y;
        }
        self.entries.extend(
            picture
                .entries
                .chunks(2)
                .map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 16),
        );
        let (across, down) = (self.push_taps(&picture.across), self.push_taps(&picture.down));
        let (to_x, to_y) = rows.size;
        let row = self.pictures.len() as u64 * rows.pixels();
        let between = if picture.rows_first { (width, to_y) } else { (to_x, height) };
        let axes = if picture.rows_first { [(1, down), (0, across)] } else { [(0, across), (1, down)] };
        let sizes = [(width, height), between, (to_x, to_y)];
        let places = [self.pixels as u32, self.between as u32, row as u32];
        for (i, direction) in packed.directions.iter_mut().enumerate() {
            let ((from_x, from_y), (to_x, to_y), (axis, taps)) = (sizes[i], sizes[i + 1], axes[i]);
            let (source, made) = (places[i], places[i + 1]);
            *direction = PackedDirection { from_x, from_y, to_x, to_y, axis, taps, source, made };
        }
        self.pixels += u64::from(width) * u64::from(height);
        self.between += u64::from(between.0) * u64::from(between.1);
        self.pictures.push(packed);
        Ok(())
    }

    fn push_component(&mut self, component: &Component) -> PackedComponent {
        let (blocks_x, blocks_y) = (component.columns.len() as u32, component.rows.len() as u32);
        let packed = PackedComponent {
            width: component.samples.0,
            height: component.samples.1,
            ratio_x: component.ratio.0,
            ratio_y: component.ratio.1,
            first_x: component.columns.start,
            first_y: component.rows.start,
            blocks_x,
            blocks_y,
            steps: self.steps.len() as u32,
            index: self.index.len() as u32,
            plane: self.plane_words as u32,
            // As libjpeg, which leaves the narrowest alone.
            fancy: (component.samples.0 > 2).into(),
        };
        self.steps.extend(component.steps.iter().map(|&step| i32::from(step)));
        self.index.extend(&component.index);
        self.plane_words += component.index.len() as u64 * 16;
        packed
    }

    /// Where they come to lie.
    fn push_taps(&mut self, taps: &Taps) -> u32 {
        let start = self.taps.len();
        let mut weights = start + taps.0.len() * 3;
        for (first, own) in &taps.0 {
            self.taps.extend([*first, own.len() as u32, weights as u32]);
            weights += own.len();
        }
        self.taps.extend(taps.0.iter().flat_map(|(_, own)| own.iter().map(|&weight| weight as u32)));
        start as u32
    }
}

/// Checks all that shaders would go by.
fn check(picture: &Picture, rows: &Rows) -> Result<(), InferError> {
    let (columns, lines) = (&picture.columns, &picture.rows);
    if columns.is_empty() || lines.is_empty() || rows.pixels() == 0 {
        return Err(wrong("has no pixels"));
    }
    let (width, height) = (columns.len() as u64, lines.len() as u64);
    let (to_x, to_y) = (u64::from(rows.size.0), u64::from(rows.size.1));
    let between = if picture.rows_first { width.saturating_mul(to_y) } else { to_x.saturating_mul(height) };
    if width.saturating_mul(height).max(between).max(rows.pixels()) > MOST_PIXELS {
        return Err(wrong("has more pixels than one dispatch covers"));
    }
    for (taps, wanted, pixels) in [(&picture.across, to_x, width), (&picture.down, to_y, height)] {
        let reaches = |(first, weights): &(u32, Vec<i32>)| u64::from(*first) + weights.len() as u64 <= pixels;
        if taps.0.len() as u64 != wanted || !taps.0.iter().all(reaches) {
            return Err(wrong("is resized from pixels that it does not have"));
        }
    }
    if !matches!(picture.components.len(), 1 | 3) || picture.components[0].ratio != (1, 1) {
        return Err(wrong("has other components than luma, or luma and both chromas"));
    }
    picture.components.iter().try_for_each(|component| check_component(picture, component))?;
    let blocks = picture.components.iter().map(|component| component.index.len() as u64).sum::<u64>();
    if blocks > MOST_BLOCKS { Err(wrong("has more blocks than one dispatch covers")) } else { Ok(()) }
}

fn check_component(picture: &Picture, component: &Component) -> Result<(), InferError> {
    if !matches!(component.ratio, (1, 1) | (2, 1) | (2, 2)) {
        return Err(wrong("has a component of an unknown size"));
    }
    let blocks = component.columns.len() as u64 * component.rows.len() as u64;
    if blocks == 0 || blocks != component.index.len() as u64 {
        return Err(wrong("has an index of another length than its blocks"));
    }
    // The samples that the pixels lie on and one more to each side; beyond the edges the last ones stand for more.
    let covers = |wanted: &Range<u32>, ratio: u32, samples: u32, blocks: &Range<u32>| {
        let (first, end) = ((wanted.start / ratio).saturating_sub(1), wanted.end.div_ceil(ratio));
        let reach = u64::from(end.saturating_add(1).min(samples));
        end <= samples && u64::from(blocks.start) * 8 <= first.into() && reach <= u64::from(blocks.end) * 8
    };
    let ((samples_x, samples_y), (ratio_x, ratio_y)) = (component.samples, component.ratio);
    if !covers(&picture.columns, ratio_x, samples_x, &component.columns)
        || !covers(&picture.rows, ratio_y, samples_y, &component.rows)
    {
        return Err(wrong("lacks blocks of a component"));
    }
    let ends = component.index.iter().map(|word| (word >> 8) as usize + (word & 255) as usize + 1);
    if ends.max().is_some_and(|end| end > picture.entries.len()) {
        return Err(wrong("lacks entries"));
    }
    Ok(())
}
