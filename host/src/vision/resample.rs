//! Pictures of another size, to the numbers of Pillow (antialiased) or of TensorFlow (not antialiased).
//! What goes in: RGB pixels, a filter, and the part of the resized picture that is wanted. What comes out: that part,
//! row by row, three numbers a pixel.
//!
//! Antialiased, Pillow's fixed-point arithmetic is followed step by step, bit for bit: weights with 22 fractional
//! bits, columns first, and a rounding to bytes between the two passes.

use std::f64::consts::PI;
use std::ops::Range;

use super::wide::wide;
use super::{Filter, VisionError};

/// Fractional bits of Pillow's weights for bytes.
const BITS: u32 = 22;

/// The most pixels between the two passes: as many as a picture may have.
const MOST_BETWEEN: usize = 89_478_485;

/// The steps between two pixels that TensorFlow's table of cubic weights has.
const CUBIC_STEPS: f64 = 1024.0;

/// One direction of a resize.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Pixels before.
    pub(super) from: usize,
    /// Pixels after.
    pub(super) to: usize,
    /// Which of those after are wanted.
    pub(super) part: Range<usize>,
}

/// A picture's pixels: interleaved RGB bytes.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) rgb: &'a [u8],
    pub(super) width: usize,
}

/// For each wanted pixel of an axis, the pixels that it is made of.
struct Taps<W> {
    /// The first of them.
    starts: Vec<usize>,
    /// `size` weights for each wanted pixel; those after its last are absent from `counts`.
    weights: Vec<W>,
    counts: Vec<usize>,
    size: usize,
}

impl<W: Copy> Taps<W> {
    fn of(&self, i: usize) -> (usize, &[W]) {
        (self.starts[i], &self.weights[i * self.size..][..self.counts[i]])
    }

    fn map<V>(&self, change: impl Fn(W) -> V) -> Taps<V> {
        Taps {
            starts: self.starts.clone(),
            weights: self.weights.iter().map(|&w| change(w)).collect(),
            counts: self.counts.clone(),
            size: self.size,
        }
    }

    /// Which of the pixels before are used at all.
    fn used(&self, from: usize) -> Vec<bool> {
        let mut used = vec![false; from];
        for (&start, &count) in self.starts.iter().zip(&self.counts) {
            used[start..start + count].fill(true);
        }
        used
    }
}

/// The wanted part as bytes, antialiased; `scratch` is kept by the caller for the next picture.
///
/// # Errors
/// If the rows between the two passes would take too much memory.
pub(super) fn antialiased(
    source: Source,
    filter: Filter,
    (x, y): (&Axis, &Axis),
    scratch: &mut Vec<u8>,
) -> Result<Vec<u8>, VisionError> {
    if filter == Filter::Nearest {
        return Ok(picked(source, &accumulated_places(x), &accumulated_places(y)));
    }
    let fixed = |w: f64| (w * f64::from(1 << BITS) + if w < 0.0 { -0.5 } else { 0.5 }) as i32;
    let (across, down) = (Pairs::of(&pillow_taps(filter, x).map(fixed)), pillow_taps(filter, y).map(fixed));
    let rows_first = rows_first(x, y);
    check_room(if rows_first { x.from } else { y.from.saturating_mul(x.part.len()) }, x, y)?;
    let mut out = vec![0; x.part.len() * y.part.len() * 3];
    wide(
        #[inline(always)]
        || {
            if rows_first {
                blend_then_shrink(source, &across, &down, scratch, &mut out);
            } else {
                shrink_then_blend(source, y.from, &across, &down, scratch, &mut out);
            }
        },
    );
    Ok(out)
}

/// Refuses pictures whose proportions make the rows between the passes larger than any picture.
fn check_room(pixels: usize, x: &Axis, y: &Axis) -> Result<(), VisionError> {
    if pixels > MOST_BETWEEN {
        return Err(VisionError::Resize { from: (x.from, y.from), to: (x.to, y.to) });
    }
    Ok(())
}

/// Whether Pillow (13 and later) makes fewer rows before it makes fewer columns: where that saves more.
fn rows_first(x: &Axis, y: &Axis) -> bool {
    y.from > y.to && y.from - y.to > 2 * x.from.saturating_sub(x.to)
}

#[inline(always)]
fn shrink_then_blend(
    source: Source,
    rows: usize,
    across: &Pairs,
    down: &Taps<i32>,
    scratch: &mut Vec<u8>,
    out: &mut [u8],
) {
    let (from, row) = (source.width * 3, across.starts.len() * 3);
    let used = down.used(rows);
    let mut sums = vec![[0; 8]; across.starts.len()];
    scratch.resize(rows * row, 0);
    for (i, out) in scratch.chunks_exact_mut(row).enumerate().filter(|(i, _)| used[*i]) {
        match source.rgb.get(i * from..(i + 1) * from + AFTER) {
            Some(pixels) => shrink_row(pixels, across, &mut sums, out),
            None => shrink_row(&[&source.rgb[i * from..(i + 1) * from], &[0; AFTER]].concat(), across, &mut sums, out),
        }
    }
    for (i, out) in out.chunks_exact_mut(row).enumerate() {
        let (first, weights) = down.of(i);
        blend_rows(&scratch[first * row..(first + weights.len()) * row], weights, out);
    }
}

#[inline(always)]
fn blend_then_shrink(source: Source, across: &Pairs, down: &Taps<i32>, scratch: &mut Vec<u8>, out: &mut [u8]) {
    let row = source.width * 3;
    let mut sums = vec![[0; 8]; across.starts.len()];
    scratch.resize(row + AFTER, 0);
    for (i, out) in out.chunks_exact_mut(across.starts.len() * 3).enumerate() {
        let (first, weights) = down.of(i);
        blend_rows(&source.rgb[first * row..(first + weights.len()) * row], weights, &mut scratch[..row]);
        shrink_row(scratch, across, &mut sums, out);
    }
}

/// Bytes after a row that [`shrink_row`] may read, and multiplies by nothing.
const AFTER: usize = 8;

/// Weights for columns, two neighbours at a time: three channels of one pixel, three of the next, and two lanes of
/// zeros make a vector of eight.
struct Pairs {
    starts: Vec<usize>,
    /// `size` for each wanted pixel; those after its last are absent from `counts`.
    weights: Vec<[i32; 8]>,
    counts: Vec<usize>,
    size: usize,
}

impl Pairs {
    fn of(taps: &Taps<i32>) -> Self {
        let size = taps.size.div_ceil(2);
        let mut weights = Vec::with_capacity(taps.starts.len() * size);
        let mut counts = Vec::with_capacity(taps.starts.len());
        for i in 0..taps.starts.len() {
            let own = taps.of(i).1;
            let pair = |pair: &[i32]| {
                let (a, b) = (pair[0], pair.get(1).copied().unwrap_or(0));
                [a, a, a, b, b, b, 0, 0]
            };
            weights.extend(own.chunks(2).map(pair));
            weights.resize((i + 1) * size, [0; 8]);
            counts.push(own.len().div_ceil(2));
        }
        Self { starts: taps.starts.clone(), weights, counts, size }
    }
}

/// A row of pixels to fewer or more, for antialiased filters. `pixels` has [`AFTER`] bytes more than its row; `sums` is
/// room for each wanted pixel's vector, written whole so that compilers keep it one.
#[inline(always)]
fn shrink_row(pixels: &[u8], pairs: &Pairs, sums: &mut [[i32; 8]], out: &mut [u8]) {
    for (i, total) in sums.iter_mut().enumerate() {
        let weights = &pairs.weights[i * pairs.size..][..pairs.counts[i]];
        let window = &pixels[pairs.starts[i] * 3..][..weights.len() * 6 + 2];
        let mut sums = [0i32; 8];
        for (k, weights) in weights.iter().enumerate() {
            if let Some(near) = window[k * 6..].first_chunk::<8>() {
                for lane in 0..8 {
                    sums[lane] = sums[lane].wrapping_add(i32::from(near[lane]).wrapping_mul(weights[lane]));
                }
            }
        }
        *total = sums;
    }
    for (pixel, sums) in out.as_chunks_mut::<3>().0.iter_mut().zip(sums) {
        *pixel = std::array::from_fn(|channel| {
            let sum = (1i32 << (BITS - 1)).wrapping_add(sums[channel]).wrapping_add(sums[channel + 3]);
            (sum >> BITS).clamp(0, 255) as u8
        });
    }
}

/// The weighted sum of as many rows as there are weights.
#[inline(always)]
fn blend_rows(rows: &[u8], weights: &[i32], out: &mut [u8]) {
    const LANES: usize = 16;
    let stride = out.len();
    for (i, bytes) in out.chunks_mut(LANES).enumerate() {
        let mut sums = [1i32 << (BITS - 1); LANES];
        for (row, &weight) in rows.chunks_exact(stride).zip(weights) {
            let near = &row[i * LANES..];
            if let Some(near) = near.first_chunk::<LANES>() {
                for (sum, &value) in sums.iter_mut().zip(near) {
                    *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                }
            } else {
                for (sum, &value) in sums.iter_mut().zip(near) {
                    *sum = sum.wrapping_add(i32::from(value).wrapping_mul(weight));
                }
            }
        }
        for (byte, sum) in bytes.iter_mut().zip(sums) {
            *byte = (sum >> BITS).clamp(0, 255) as u8;
        }
    }
}

/// The wanted part as floats that are not rounded, not antialiased.
///
/// # Errors
/// If the rows between the two passes would take too much memory.
pub(super) fn interpolated(source: Source, filter: Filter, (x, y): (&Axis, &Axis)) -> Result<Vec<f32>, VisionError> {
    if filter == Filter::Nearest {
        let places = |axis: &Axis| axis.part.clone().map(|i| nearest_place(axis, i)).collect::<Vec<_>>();
        return Ok(picked(source, &places(x), &places(y)).into_iter().map(f32::from).collect());
    }
    let (across, down) = (tensorflow_taps(filter, x), tensorflow_taps(filter, y));
    let row = x.part.len() * 3;
    // Only rows that are used are made, one after the other; `places` says where each went.
    let used = down.used(y.from);
    // Floats take four times the room of bytes.
    check_room(used.iter().filter(|&&used| used).count().saturating_mul(x.part.len() * 4), x, y)?;
    let mut places = vec![0; y.from];
    let mut between = Vec::new();
    for i in (0..y.from).filter(|&i| used[i]) {
        places[i] = between.len();
        let pixels = &source.rgb[i * source.width * 3..][..source.width * 3];
        for j in 0..x.part.len() {
            let (first, weights) = across.of(j);
            let mut pixel = [0f32; 3];
            for (near, &weight) in pixels[first * 3..].as_chunks::<3>().0.iter().zip(weights) {
                pixel = std::array::from_fn(|channel| pixel[channel] + f32::from(near[channel]) * weight);
            }
            between.extend_from_slice(&pixel);
        }
    }
    let mut out = vec![0f32; row * y.part.len()];
    for (i, out) in out.chunks_exact_mut(row).enumerate() {
        let (first, weights) = down.of(i);
        for (row, &weight) in between[places[first]..].chunks_exact(row).zip(weights) {
            out.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value * weight);
        }
    }
    Ok(out)
}

fn picked(source: Source, columns: &[usize], rows: &[usize]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * columns.len() * 3);
    for &y in rows {
        let row = &source.rgb[y * source.width * 3..];
        columns.iter().for_each(|&x| out.extend_from_slice(&row[x * 3..x * 3 + 3]));
    }
    out
}

/// Where the nearest pixel lies by TensorFlow's half-pixel centres.
fn nearest_place(axis: &Axis, i: usize) -> usize {
    let scale = axis.from as f32 / axis.to as f32;
    (((i as f32 + 0.5) * scale).floor() as usize).min(axis.from - 1)
}

/// The same by Pillow, which adds up the scale in steps, rounding errors included.
fn accumulated_places(axis: &Axis) -> Vec<usize> {
    let scale = axis.from as f64 / axis.to as f64;
    let mut place = scale * (axis.part.start as f64 + 0.5);
    let mut places = Vec::with_capacity(axis.part.len());
    for _ in axis.part.clone() {
        places.push((place as usize).min(axis.from - 1));
        place += scale;
    }
    places
}

/// Pillow's `precompute_coeffs`: the filter is widened with the scale when pictures shrink.
fn pillow_taps(filter: Filter, axis: &Axis) -> Taps<f64> {
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
fn tensorflow_taps(filter: Filter, axis: &Axis) -> Taps<f32> {
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

    #[test]
    fn numbers_are_those_of_pillow_and_tensorflow() {
        // Made by tests/reference/make_resize.py with Pillow 13.0 and TensorFlow.
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/resize");
        let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
        let numbers: Vec<f32> =
            read("resize.bin").as_chunks::<2>().0.iter().map(|&b| f32::from(i16::from_le_bytes(b)) / 64.0).collect();
        let table = String::from_utf8(read("resize.csv")).unwrap();
        assert_eq!(table.lines().count(), 81);
        for line in table.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |i: usize| cells[i].parse::<usize>().unwrap();
            let filter = match cells[1] {
                "nearest" => Filter::Nearest,
                "bilinear" => Filter::Bilinear,
                "bicubic" => Filter::Bicubic,
                _ => Filter::Lanczos,
            };
            let picture = crate::vision::decode(&read(cells[2]), &crate::vision::Limits::default()).unwrap();
            let source = Source { rgb: picture.rgb(), width: picture.width() as usize };
            let (x, y) = (whole(source.width, number(3)), whole(picture.height() as usize, number(4)));
            let (found, most): (Vec<f32>, f32) = if cells[0] == "1" {
                (
                    antialiased(source, filter, (&x, &y), &mut Vec::new())
                        .unwrap()
                        .into_iter()
                        .map(f32::from)
                        .collect(),
                    0.0,
                )
            } else {
                // Half of the step in which they are stored, and what floats round.
                (interpolated(source, filter, (&x, &y)).unwrap(), 0.5 / 64.0 + 0.01)
            };
            let expected = &numbers[number(5)..][..found.len()];
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= most, "{line}: off by {off}");
        }
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        let rgb: Vec<u8> = (0..9 * 7 * 3u32).map(|i| (i * 37 % 251) as u8).collect();
        let source = Source { rgb: &rgb, width: 9 };
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let all = antialiased(source, filter, (&whole(9, 5), &whole(7, 4)), &mut Vec::new()).unwrap();
            let (x, y) = (Axis { part: 1..4, ..whole(9, 5) }, Axis { part: 2..3, ..whole(7, 4) });
            let part = antialiased(source, filter, (&x, &y), &mut Vec::new()).unwrap();
            assert_eq!(part, all[(2 * 5 + 1) * 3..(2 * 5 + 4) * 3], "{filter:?}");
        }
    }

    #[test]
    fn proportions_that_take_too_much_memory_are_refused() {
        let tall = vec![0; 3 * 20_000];
        let source = Source { rgb: &tall, width: 1 };
        let (x, y) = (Axis { from: 1, to: 16_384, part: 0..16_384 }, whole(20_000, 20_001));
        assert!(matches!(
            antialiased(source, Filter::Bicubic, (&x, &y), &mut Vec::new()),
            Err(VisionError::Resize { .. })
        ));
        assert!(matches!(interpolated(source, Filter::Bilinear, (&x, &y)), Err(VisionError::Resize { .. })));
    }

    #[test]
    fn a_picture_of_the_right_size_is_left_alone() {
        let rgb: Vec<u8> = (0..6 * 5 * 3u32).map(|i| (i * 91 % 256) as u8).collect();
        let source = Source { rgb: &rgb, width: 6 };
        let (x, y) = (whole(6, 6), whole(5, 5));
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            assert_eq!(antialiased(source, filter, (&x, &y), &mut Vec::new()).unwrap(), rgb, "{filter:?}");
            let floats = interpolated(source, filter, (&x, &y)).unwrap();
            assert!(floats.iter().zip(&rgb).all(|(a, &b)| (a - f32::from(b)).abs() < 1e-4), "{filter:?}");
        }
    }
}
