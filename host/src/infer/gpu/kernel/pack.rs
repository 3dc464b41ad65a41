//! Weights in the order in which kernels load them, with the channels that fill up quads and tiles as zeros.

use super::super::super::Precision;
use super::super::super::graph::Dims;
use super::quads;
use super::tile::MatrixTile;

/// One convolution of a step: its own, or its shortcut's.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// Output channel, input channel of the group, row, column.
    pub(super) weights: &'a [f32],
    /// Rows × columns.
    pub(super) taps: usize,
    /// Input channels of a group.
    pub(super) inputs: usize,
}

impl Part<'_> {
    /// Quads of the inner dimension: taps × quads of channels.
    pub(super) fn inner_quads(self) -> usize {
        self.taps * quads(self.inputs)
    }

    /// Calls `put` with output channel, inner number (tap by tap, channels filled up to quads) and weight.
    fn each(self, mut put: impl FnMut(usize, usize, f32)) {
        let filled = quads(self.inputs) * 4;
        for (o, output) in self.weights.chunks(self.inputs * self.taps).enumerate() {
            for (i, kernel) in output.chunks(self.taps).enumerate() {
                kernel.iter().enumerate().for_each(|(tap, &w)| put(o, tap * filled + i, w));
            }
        }
    }
}

/// Part, inner number, output channel.
pub(super) fn tiled(parts: &[Part], to: Dims) -> Vec<f32> {
    let outputs = quads(to.channels) * 4;
    let inner: usize = parts.iter().map(|part| part.inner_quads() * 4).sum();
    let mut packed = vec![0.0; inner * outputs];
    let mut first = 0;
    for part in parts {
        part.each(|o, i, w| packed[(first + i) * outputs + o] = w);
        first += part.inner_quads() * 4;
    }
    packed
}

/// Slices of the inner dimension that `tile` cuts a part into.
pub(super) fn slices(part: Part, tile: MatrixTile) -> usize {
    (4 * part.inner_quads()).div_ceil(tile.step)
}

/// Tile of channels, slice (those of the first part before those of the second), channel of the tile, inner number of the
/// slice.
pub(super) fn matrix(parts: &[Part], tile: MatrixTile, to: Dims) -> Vec<f32> {
    let (columns, step) = (tile.columns(), tile.step);
    let all: usize = parts.iter().map(|&part| slices(part, tile)).sum();
    let mut packed = vec![0.0; to.channels.div_ceil(columns) * all * columns * step];
    let mut first = 0;
    for &part in parts {
        part.each(|o, i, w| {
            let slice = o / columns * all + first + i / step;
            packed[(slice * columns + o % columns) * step + i % step] = w;
        });
        first += slices(part, tile);
    }
    packed
}

/// Output quad, tap, input channel of the group, lane.
pub(super) fn grouped(part: Part, to: Dims) -> Vec<f32> {
    let mut packed = vec![0.0; quads(to.channels) * 4 * part.taps * part.inputs];
    for (o, output) in part.weights.chunks(part.inputs * part.taps).enumerate() {
        for (i, kernel) in output.chunks(part.taps).enumerate() {
            for (tap, &w) in kernel.iter().enumerate() {
                packed[((o / 4 * part.taps + tap) * part.inputs + i) * 4 + o % 4] = w;
            }
        }
    }
    packed
}

/// Numbers as a buffer holds them.
pub(super) fn bytes(numbers: &[f32], precision: Precision) -> Vec<u8> {
    match precision {
        Precision::Single => bytemuck::cast_slice(numbers).to_vec(),
        Precision::Half => numbers.iter().flat_map(|&n| half::f16::from_f32(n).to_le_bytes()).collect(),
    }
}
