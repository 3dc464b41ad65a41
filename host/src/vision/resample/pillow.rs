//! Antialiased resizing, by Pillow's fixed-point arithmetic step by step, bit for bit: weights with 22 fractional bits,
//! columns first, and a rounding to bytes between the two passes.
//! What goes in: rows of pixels, a filter, and the part of the resized picture that is wanted. What comes out: that
//! part, row by row.
//!
//! Columns are made fewer for sixteen rows at a time, turned on their side ([`super::strip`]).

use super::strip::{Column, LANES, ROWS, step, turn_on_side};
use super::weights::{Taps, pillow_taps};
use super::{Axis, MOST_BETWEEN, too_large};
use crate::vision::picture::{Part, channels, channels_mut};
use crate::vision::turn::turn_bytes;
use crate::vision::wide::wide;
use crate::vision::{Filter, VisionError};

/// Fractional bits of Pillow's weights for bytes.
const BITS: u32 = 22;

/// A resize, planned.
pub(in crate::vision) struct Plan {
    across: Taps<i32>,
    down: Taps<i32>,
    part: Part,
    /// Whether rows are made fewer before columns are.
    rows_first: bool,
}

/// Room that a thread keeps between pictures. What is left of an earlier picture is only ever written over.
#[derive(Default)]
pub(in crate::vision) struct Scratch {
    lines: Vec<u8>,
    strip: Vec<Column>,
    between: Vec<u8>,
    row: Vec<u8>,
}

impl Scratch {
    /// How many bytes it holds on to.
    pub(in crate::vision) fn bytes(&self) -> usize {
        self.lines.capacity() + self.strip.capacity() * LANES + self.between.capacity() + self.row.capacity()
    }
}

impl Plan {
    /// # Errors
    /// If the rows between the two passes would take too much memory.
    pub(super) fn new(filter: Filter, (x, y): (&Axis, &Axis)) -> Result<Self, VisionError> {
        let fixed = |w: f64| (w * f64::from(1 << BITS) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
        let (across, down) = (pillow_taps(filter, x).map(fixed), pillow_taps(filter, y).map(fixed));
        // As Pillow 13 and later: where that saves more.
        let rows_first = y.from > y.to && y.from - y.to > 2 * x.from.saturating_sub(x.to);
        // Rows first takes the picture once more, whatever its limit was; of narrow ones, more than that.
        let (width, most) =
            if rows_first { (x.from, MOST_BETWEEN.max(x.from * y.from * 2)) } else { (x.part.len(), MOST_BETWEEN) };
        let part = Part { columns: across.reach(), rows: down.reach() };
        if part.rows.len().saturating_mul(step(width)) > most {
            return Err(too_large(x, y));
        }
        Ok(Self { across, down, part, rows_first })
    }

    pub(in crate::vision) fn part(&self) -> Part {
        self.part.clone()
    }

    /// For each wanted column, and for each wanted row, the first pixel that it is made of, and the weights of that and
    /// those after it.
    pub(in crate::vision) fn taps(&self) -> [Vec<(usize, &[i32])>; 2] {
        [&self.across, &self.down].map(|taps| (0..taps.len()).map(|i| taps.of(i)).collect())
    }

    /// Whether rows are made fewer before columns are.
    pub(in crate::vision) fn takes_rows_first(&self) -> bool {
        self.rows_first
    }

    /// Calls `emit` for each wanted row.
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        fill: &mut dyn FnMut(usize, [&mut [u8]; 3]),
        emit: &mut dyn FnMut(usize, [&[u8]; 3]),
    ) {
        let Part { columns, rows } = &self.part;
        let width = columns.len();
        let mut fill_line = |y: usize, line: &mut [u8]| {
            let [red, green, blue] = channels_mut(line, step(width));
            fill(y, [&mut red[..width], &mut green[..width], &mut blue[..width]]);
        };
        let Scratch { lines, strip, between, row } = scratch;
        if !self.rows_first {
            self.shrink(rows.len(), (lines, strip, between), &mut |i, line| fill_line(rows.start + i, line));
            let size = step(self.across.len()) * 3;
            row.resize(size, 0);
            for i in 0..self.down.len() {
                self.blend(i, between, row);
                emit_line(i, row, self.across.len(), emit);
            }
            return;
        }
        let size = step(width) * 3;
        let mut all = vec![0; rows.len() * size];
        all.chunks_exact_mut(size).enumerate().for_each(|(i, line)| fill_line(rows.start + i, line));
        self.shrink(self.down.len(), (lines, strip, between), &mut |i, line| self.blend(i, &all, line));
        for (i, line) in between.chunks_exact(step(self.across.len()) * 3).take(self.down.len()).enumerate() {
            emit_line(i, line, self.across.len(), emit);
        }
    }

    /// Makes `rows` rows, which `fill` brings, narrower; they come to lie in `between`.
    fn shrink(
        &self,
        rows: usize,
        (lines, strip, between): (&mut Vec<u8>, &mut Vec<Column>, &mut Vec<u8>),
        fill: &mut dyn FnMut(usize, &mut [u8]),
    ) {
        let columns = &self.part.columns;
        let (from, to) = (step(columns.len()) * 3, step(self.across.len()) * 3);
        lines.resize(ROWS * from, 0);
        strip.resize(from / 3, [0; LANES]);
        between.resize(rows.next_multiple_of(ROWS) * to, 0);
        for (band, out) in between.chunks_exact_mut(ROWS * to).enumerate() {
            let first = band * ROWS;
            for (i, line) in lines.chunks_exact_mut(from).take(rows - first).enumerate() {
                fill(first + i, line);
            }
            wide(
                #[inline(always)]
                || {
                    turn_on_side(lines, strip);
                    shrink_band(strip, columns.start, &self.across, out);
                },
            );
        }
    }

    /// The weighted sum of the rows that wanted row `i` is made of; the first of `rows` is the first that any needs.
    fn blend(&self, i: usize, rows: &[u8], out: &mut [u8]) {
        let (first, weights) = self.down.of(i);
        let rows = &rows[(first - self.part.rows.start) * out.len()..];
        wide(
            #[inline(always)]
            || blend_rows(rows.as_chunks::<LANES>().0, weights, out.as_chunks_mut::<LANES>().0),
        );
    }
}

fn emit_line(i: usize, line: &[u8], width: usize, emit: &mut dyn FnMut(usize, [&[u8]; 3])) {
    emit(i, channels(line, step(width)).map(|channel| &channel[..width]));
}

/// Columns to fewer or more, which are turned back into rows. The strip's first column is column `start`.
#[inline(always)]
fn shrink_band(strip: &[Column], start: usize, across: &Taps<i32>, out: &mut [u8]) {
    let row = out.len() / ROWS;
    let mut tile = [[0; LANES]; ROWS];
    for place in (0..across.len()).step_by(ROWS) {
        for (i, column) in (place..across.len()).zip(&mut tile) {
            let (first, weights) = across.of(i);
            *column = weighted(&strip[first - start..], 1, weights);
        }
        for channel in 0..3 {
            // Eight columns of eight rows each: upper rows of the first columns, lower ones, then the other columns.
            let mut words: [[u64; 4]; 8] = std::array::from_fn(|x| {
                std::array::from_fn(|part| {
                    u64::from_le_bytes(tile[part / 2 * 8 + x].as_chunks().0[channel * 2 + part % 2])
                })
            });
            turn_bytes(&mut words);
            for (y, parts) in words.iter().enumerate() {
                for (part, word) in parts.iter().enumerate() {
                    let start = (part % 2 * 8 + y) * row + channel * (row / 3) + place + part / 2 * 8;
                    out[start..][..8].copy_from_slice(&word.to_le_bytes());
                }
            }
        }
    }
}

/// The weighted sum of rows, of which `rows` begins with the first.
#[inline(always)]
fn blend_rows(rows: &[Column], weights: &[i32], out: &mut [Column]) {
    let step = out.len();
    for (i, out) in out.iter_mut().enumerate() {
        *out = weighted(&rows[i..], step, weights);
    }
}

/// The weighted sum of the first column and those after it, `step` apart. So many lanes, and loops of this shape, are
/// what makes compilers lay vectors over lanes and not over weights, and keep the sums in registers.
#[inline(always)]
fn weighted(columns: &[Column], step: usize, weights: &[i32]) -> Column {
    let mut sums = [1i32 << (BITS - 1); LANES];
    let mut place = 0;
    for &weight in weights {
        let column = &columns[place];
        place += step;
        for lane in 0..LANES {
            sums[lane] = sums[lane].wrapping_add(i32::from(column[lane]).wrapping_mul(weight));
        }
    }
    let mut bytes = [0; LANES];
    for lane in 0..LANES {
        bytes[lane] = (sums[lane] >> BITS).clamp(0, 255) as u8;
    }
    bytes
}
