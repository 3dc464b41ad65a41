//! A JPEG frame: its components, how they lie under the picture, and which of their blocks are wanted.
//! What goes in: a frame header, then coefficients. What comes out: samples of each component.

use std::ops::Range;

use super::colour::Space;
use super::transform::{self, Extent};
use super::{Format, Limits, Part, Trouble, VisionError};
use crate::vision::turn::turn_bytes;

/// One component (channel) of the picture.
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks across and down in one MCU, 1 to 4.
    pub(super) sampling: (usize, usize),
    pub(super) quantiser: usize,
    /// The table named by `quantiser` when the component's first scan began; a file may replace it later.
    pub(super) steps: Option<[i16; 64]>,
    /// Columns and rows of samples that hold the picture; what lies after them is padding that must not leak in.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Picture columns and rows for one of the component's.
    pub(super) ratio: (usize, usize),
    /// Blocks across and down that a scan of this component alone has.
    pub(super) blocks: (usize, usize),
    /// Blocks across and down with the padding to whole MCUs.
    pub(super) padded: (usize, usize),
    /// Columns and rows of blocks that are transformed, since the wanted part is made of them.
    kept: (Range<usize>, Range<usize>),
    /// Samples, 64 for each of the padded blocks, row-major over the plane.
    samples: Vec<u8>,
    /// Coefficients by padded block, of progressive pictures only.
    pub(super) coefficients: Vec<[i16; 64]>,
    /// Whether a scan has brought it.
    pub(super) seen: bool,
}

/// A frame header and what has been decoded of the frame.
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: Vec<Component>,
    /// MCUs across and down in scans of several components.
    pub(super) mcus: (usize, usize),
}

impl Frame {
    pub(super) fn new(progressive: bool, (width, height): (usize, usize), parts: &[u8]) -> Result<Self, Trouble> {
        let parts = parts.as_chunks::<3>().0;
        let sampling = |part: &[u8; 3]| (usize::from(part[1] >> 4), usize::from(part[1] & 15));
        if parts.iter().map(sampling).any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v)) {
            return Err(Trouble::Damaged("a sampling factor outside 1 to 4"));
        }
        let most_across = parts.iter().map(|p| sampling(p).0).max().unwrap_or(1);
        let most_down = parts.iter().map(|p| sampling(p).1).max().unwrap_or(1);
        let mcus = (width.div_ceil(8 * most_across), height.div_ceil(8 * most_down));
        let mut components = Vec::with_capacity(4);
        for part in parts {
            let (h, v) = sampling(part);
            if most_across % h != 0 || most_down % v != 0 {
                return Err(Trouble::Unsupported("components whose sizes are no multiples"));
            }
            if part[2] > 3 {
                return Err(Trouble::Damaged("a component without a quantisation table"));
            }
            let ratio = (most_across / h, most_down / v);
            let (columns, rows) = (width.div_ceil(ratio.0), height.div_ceil(ratio.1));
            components.push(Component {
                id: part[0],
                sampling: (h, v),
                quantiser: usize::from(part[2]),
                steps: None,
                width: columns,
                height: rows,
                ratio,
                blocks: (columns.div_ceil(8), rows.div_ceil(8)),
                padded: (mcus.0 * h, mcus.1 * v),
                kept: (0..0, 0..0),
                samples: Vec::new(),
                coefficients: Vec::new(),
                seen: false,
            });
        }
        Ok(Self { progressive, width, height, components, mcus })
    }

    /// Makes room for what is needed of `part`.
    ///
    /// # Errors
    /// If that is more than the limits allow.
    pub(super) fn allocate(&mut self, part: &Part, limits: &Limits) -> Result<(), VisionError> {
        let samples = |c: &Component| c.padded.0 * c.padded.1 * 64;
        let total = self.components.iter().map(|c| samples(c) as u64).sum::<u64>();
        // Coefficients take two bytes beside the sample's one: of progressive pictures all of them, of sequential
        // ones those of a row of MCUs.
        let rows = if self.progressive { 1 } else { self.mcus.1.max(1) as u64 };
        limits.check_memory(Format::Jpeg, total + (total * 2).div_ceil(rows))?;
        for component in &mut self.components {
            component.keep(part);
            component.samples = vec![0; samples(component)];
            let blocks = component.padded.0 * component.padded.1;
            component.coefficients = vec![[0; 64]; if self.progressive { blocks } else { 0 }];
        }
        Ok(())
    }

    /// What the components mean, by libjpeg's rules.
    pub(super) fn space(&self, jfif: bool, adobe: Option<u8>) -> Result<Space, Trouble> {
        let ids: Vec<u8> = self.components.iter().map(|c| c.id).collect();
        Ok(match (ids.as_slice(), adobe) {
            ([_], _) => Space::Grey,
            ([_, _, _], Some(0)) if !jfif => Space::Rgb,
            ([b'R', b'G', b'B'], None) if !jfif => Space::Rgb,
            ([_, _, _], _) => Space::YCbCr,
            ([_, _, _, _], None | Some(0)) => Space::Cmyk,
            ([_, _, _, _], Some(_)) => Space::Ycck,
            _ => return Err(Trouble::Unsupported("other than 1, 3 or 4 components")),
        })
    }
}

impl Component {
    /// Keeps the blocks that `part` of the picture is made of.
    fn keep(&mut self, part: &Part) {
        let blocks = |wanted: &Range<usize>, ratio: usize, samples: usize| {
            let Range { start, end } = nearby(wanted, ratio, samples);
            start / 8..end.div_ceil(8)
        };
        self.kept = (blocks(&part.columns, self.ratio.0, self.width), blocks(&part.rows, self.ratio.1, self.height));
    }

    /// Row `y` of its samples, or the last one; padding left out. Only what is near the wanted part has been decoded.
    #[inline(always)]
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.samples[y.min(self.height - 1) * self.padded.0 * 8..][..self.width]
    }

    /// Samples from row `y` of blocks, where they are wanted.
    #[inline(always)]
    pub(super) fn transform_row(&mut self, y: usize, blocks: &[[i16; 64]], extents: &[Extent]) {
        let Some(steps) = &self.steps else { return };
        if !self.kept.1.contains(&y) {
            return;
        }
        let stride = self.padded.0 * 8;
        let plane = &mut self.samples[y * 8 * stride..][..8 * stride];
        let end = self.kept.0.end.min(blocks.len());
        // Four blocks at a time are turned into rows.
        for first in (self.kept.0.start..end).step_by(4) {
            let last = end.min(first + 4);
            let mut words = [[0; 4]; 8];
            for (i, (block, extent)) in blocks[first..last].iter().zip(&extents[first..last]).enumerate() {
                for (word, column) in words.iter_mut().zip(transform::inverse(block, steps, *extent)) {
                    word[i] = column;
                }
            }
            turn_bytes(&mut words);
            for (row, words) in plane.chunks_exact_mut(stride).zip(&words) {
                for (out, word) in row[first * 8..last * 8].as_chunks_mut().0.iter_mut().zip(words) {
                    *out = word.to_le_bytes();
                }
            }
        }
    }

    /// Samples from the coefficients of a progressive picture.
    pub(super) fn transform(&mut self) {
        let coefficients = std::mem::take(&mut self.coefficients);
        let mut extents = Vec::with_capacity(self.padded.0);
        for (y, blocks) in coefficients.chunks_exact(self.padded.0).enumerate() {
            let extent =
                |block: &[i16; 64]| if block[1..].iter().all(|&v| v == 0) { Extent::Mean } else { Extent::Full };
            extents.clear();
            extents.extend(blocks.iter().map(extent));
            super::wide(
                #[inline(always)]
                || self.transform_row(y, blocks, &extents),
            );
        }
    }
}

/// The samples of a component that `wanted` pixels are made of, `ratio` of them to a sample: those that cover them and
/// one more to each side, which smooth enlargement looks at.
#[inline(always)]
pub(super) fn nearby(wanted: &Range<usize>, ratio: usize, samples: usize) -> Range<usize> {
    (wanted.start / ratio).saturating_sub(1)..(wanted.end.div_ceil(ratio) + 1).min(samples)
}
