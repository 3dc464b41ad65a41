//! Which pixels a resized pixel is made of, and how much each counts.
//! What goes in: a filter and sizes. What comes out: weights that sum to 1, as Pillow or TensorFlow computes them.

use std::f64::consts::PI;
use std::ops::Range;

use super::Axis;
use crate::vision::Filter;

/// The steps between two pixels that TensorFlow's table of cubic weights has.
const CUBIC_STEPS: f64 = 1024.0;

/// For each wanted pixel of an axis, the pixels that it is made of.
pub(super) struct Taps<W> {
    /// The first of them.
    starts: Vec<usize>,
    /// `size` weights for each wanted pixel; those after its last are absent from `counts`.
    weights: Vec<W>,
    counts: Vec<usize>,
    size: usize,
}

impl<W: Copy> Taps<W> {
    /// How many pixels are wanted.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The first pixel that wanted pixel `i` is made of, and the weights of it and those after it.
    #[inline(always)]
    pub(super) fn of(&self, i: usize) -> (usize, &[W]) {
        (self.starts[i], &self.weights[i * self.size..][..self.counts[i]])
    }

    /// From the first pixel used to the last.
    pub(super) fn reach(&self) -> Range<usize> {
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let end = self.starts.iter().zip(&self.counts).map(|(&start, &count)| start + count).max();
        first..end.unwrap_or(0)
    }

    /// The same pixels with other weights.
    pub(super) fn map<V>(&self, change: impl Fn(W) -> V) -> Taps<V> {
        Taps {
            starts: self.starts.clone(),
            weights: self.weights.iter().map(|&w| change(w)).collect(),
            counts: self.counts.clone(),
            size: self.size,
        }
    }
}

/// Pillow's `precompute_coeffs`: the filter is widened with the scale when pictures shrink.
pub(super) fn pillow_taps(filter: Filter, axis: &Axis) -> Taps<f64> {
    let scale = axis.from as f64 / axis.to as f64;
    let stretch = scale.max(1.0);
    let support = reach(filter) * stretch;
    let size = support.ceil() as usize * 2 + 1;
    let mut taps = Taps::empty(size, axis);
    for i in axis.part.clone() {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(axis.from);
        let weight = |x: usize| weight(filter, (x as f64 - centre + 0.5) * (1.0 / stretch));
        taps.push(first, (first..end).map(weight));
    }
    taps
}

/// Weights of `tf.image.resize(antialias=False)`: half-pixel centres, and a filter that stays as narrow as it is.
pub(super) fn tensorflow_taps(filter: Filter, axis: &Axis) -> Taps<f32> {
    let scale = axis.from as f32 / axis.to as f32;
    let reach = reach(filter);
    let mut taps = Taps::empty(2 * reach as usize + 1, axis);
    let last = axis.from - 1;
    for i in axis.part.clone() {
        let place = f64::from((i as f32 + 0.5) * scale - 0.5);
        match filter {
            // Beyond the edge, the pixel at the edge counts for both.
            Filter::Nearest | Filter::Bilinear => {
                let left = place.floor().max(0.0) as usize;
                let right = (place.ceil().max(0.0) as usize).min(last);
                let share = if left == right { 1.0 } else { place - place.floor() };
                let weights = if left == right { vec![1.0] } else { vec![1.0 - share, share] };
                taps.push(left, weights.into_iter());
            }
            // Beyond the edge nothing counts, and the others share its weight.
            Filter::Bicubic => {
                let floor = place.floor();
                let share = ((place - floor) * CUBIC_STEPS).round() / CUBIC_STEPS;
                let (first, end) = inside(floor - 1.0, floor + 3.0, axis.from);
                taps.push(first, (first..end).map(|x| weight(filter, x as f64 - floor - share)));
            }
            Filter::Lanczos => {
                let (first, end) = inside((place - reach).ceil(), (place + reach).floor() + 1.0, axis.from);
                taps.push(first, (first..end).map(|x| weight(filter, x as f64 - place)));
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "weights are computed finer than they are used")]
    taps.map(|w| w as f32)
}

/// The whole numbers of `first..end` that are pixels.
fn inside(first: f64, end: f64, pixels: usize) -> (usize, usize) {
    (first.max(0.0) as usize, (end.max(0.0) as usize).min(pixels))
}

impl Taps<f64> {
    fn empty(size: usize, axis: &Axis) -> Self {
        let wanted = axis.part.len();
        Self {
            starts: Vec::with_capacity(wanted),
            weights: Vec::with_capacity(wanted * size),
            counts: Vec::with_capacity(wanted),
            size,
        }
    }

    /// Adds a pixel made of those from `first` on, with weights that are scaled to sum to 1.
    fn push(&mut self, first: usize, weights: impl Iterator<Item = f64>) {
        let start = self.weights.len();
        self.weights.extend(weights.take(self.size));
        let own = &mut self.weights[start..];
        let sum: f64 = own.iter().sum();
        if sum != 0.0 {
            own.iter_mut().for_each(|w| *w /= sum);
        }
        self.counts.push(own.len());
        self.starts.push(first);
        self.weights.resize(start + self.size, 0.0);
    }
}

/// How many pixels to each side a filter reaches.
fn reach(filter: Filter) -> f64 {
    match filter {
        Filter::Nearest => 0.5,
        Filter::Bilinear => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

/// A filter's weight at a distance of `x` pixels.
fn weight(filter: Filter, x: f64) -> f64 {
    let distance = x.abs();
    match filter {
        Filter::Nearest => f64::from(u8::from(distance <= 0.5)),
        Filter::Bilinear => (1.0 - distance).max(0.0),
        Filter::Bicubic => {
            const A: f64 = -0.5;
            if distance < 1.0 {
                ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
            } else if distance < 2.0 {
                (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
            } else {
                0.0
            }
        }
        Filter::Lanczos => {
            if distance < 3.0 {
                sinc(x) * sinc(x / 3.0)
            } else {
                0.0
            }
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(from: usize, to: usize) -> Axis {
        Axis { from, to, part: 0..to }
    }

    #[test]
    fn weights_of_every_pixel_sum_to_one() {
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (from, to) in [(1, 1), (1, 7), (7, 1), (500, 224), (3, 2000), (2000, 3), (65_535, 1)] {
                let (a, b) = (pillow_taps(filter, &whole(from, to)), tensorflow_taps(filter, &whole(from, to)));
                for i in 0..to {
                    let (start, weights) = a.of(i);
                    assert!(start + weights.len() <= from && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    let (start, weights) = b.of(i);
                    assert!(start + weights.len() <= from && (weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                }
            }
        }
    }
}
