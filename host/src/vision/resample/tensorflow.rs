//! Resizing to the numbers of `tf.image.resize`, not antialiased.
//! What goes in: rows of pixels, a filter, and the part of the resized picture that is wanted. What comes out: that
//! part, as floats that are not rounded; each is summed in TensorFlow's order.

use super::strip::{Column, LANES, ROWS, step, turn_on_side};
use super::weights::{Taps, tensorflow_taps};
use super::{Axis, MOST_BETWEEN, too_large};
use crate::vision::picture::{Part, channels, channels_mut};
use crate::vision::wide::wide;
use crate::vision::{Filter, VisionError};

/// A resize, planned.
pub(in crate::vision) struct Plan {
    across: Taps<f32>,
    down: Taps<f32>,
    part: Part,
    /// The rows that are used, and for each row of `part` how many are used before it.
    used: Vec<usize>,
    places: Vec<usize>,
}

impl Plan {
    /// # Errors
    /// If the rows between the two passes would take too much memory.
    pub(super) fn new(filter: Filter, (x, y): (&Axis, &Axis)) -> Result<Self, VisionError> {
        let (across, down) = (tensorflow_taps(filter, x), tensorflow_taps(filter, y));
        let part = Part { columns: across.reach(), rows: down.reach() };
        let mut is_used = vec![false; part.rows.len()];
        for i in 0..down.len() {
            let (first, weights) = down.of(i);
            is_used[first - part.rows.start..][..weights.len()].fill(true);
        }
        let (mut used, mut places) = (Vec::new(), Vec::with_capacity(is_used.len()));
        for (row, is_used) in part.rows.clone().zip(is_used) {
            places.push(used.len());
            used.extend(is_used.then_some(row));
        }
        // Floats take four times the room of bytes.
        if used.len().saturating_mul(step(across.len()) * 4) > MOST_BETWEEN {
            return Err(too_large(x, y));
        }
        Ok(Self { across, down, part, used, places })
    }

    pub(super) fn part(&self) -> Part {
        self.part.clone()
    }

    /// Calls `emit` for each wanted row. Only rows that are used are asked for, one after the other.
    pub(super) fn run(&self, fill: &mut dyn FnMut(usize, [&mut [u8]; 3]), emit: &mut dyn FnMut(usize, [&[f32]; 3])) {
        let (from, width) = (self.part.columns.len(), self.across.len());
        let row = step(width) * 3;
        let mut lines = vec![0; ROWS * step(from) * 3];
        let mut strip = vec![[0; LANES]; step(from)];
        let mut between = vec![0f32; self.used.len().next_multiple_of(ROWS) * row];
        for (rows, out) in self.used.chunks(ROWS).zip(between.chunks_exact_mut(ROWS * row)) {
            for (&y, line) in rows.iter().zip(lines.chunks_exact_mut(step(from) * 3)) {
                fill(y, channels_mut(line, step(from)).map(|channel| &mut channel[..from]));
            }
            wide(
                #[inline(always)]
                || {
                    turn_on_side(&lines, &mut strip);
                    narrow(&strip, self.part.columns.start, &self.across, out);
                },
            );
        }
        let mut out = vec![0f32; row];
        for i in 0..self.down.len() {
            let (first, weights) = self.down.of(i);
            let rows = &between[self.places[first - self.part.rows.start] * row..];
            wide(
                #[inline(always)]
                || {
                    out.fill(0.0);
                    for (row, &weight) in rows.chunks_exact(row).zip(weights) {
                        out.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value * weight);
                    }
                },
            );
            emit(i, channels(&out, step(width)).map(|channel| &channel[..width]));
        }
    }
}

/// Columns to fewer or more, which become rows again. The strip's first column is column `start`.
#[inline(always)]
fn narrow(strip: &[Column], start: usize, across: &Taps<f32>, out: &mut [f32]) {
    let width = out.len() / LANES;
    let mut tile = [[0f32; LANES]; ROWS];
    for place in (0..across.len()).step_by(ROWS) {
        for (i, sums) in (place..across.len()).zip(&mut tile) {
            let (first, weights) = across.of(i);
            *sums = weighted(&strip[first - start..], weights);
        }
        for lane in 0..LANES {
            let (channel, y) = (lane / ROWS, lane % ROWS);
            let row = &mut out[(y * 3 + channel) * width + place..][..ROWS];
            for (out, sums) in row.iter_mut().zip(&tile) {
                *out = sums[lane];
            }
        }
    }
}

/// The weighted sum of columns, from the first on.
#[inline(always)]
fn weighted(columns: &[Column], weights: &[f32]) -> [f32; LANES] {
    let mut sums = [0f32; LANES];
    for (k, &weight) in weights.iter().enumerate() {
        let column = &columns[k];
        for lane in 0..LANES {
            sums[lane] += f32::from(column[lane]) * weight;
        }
    }
    sums
}
