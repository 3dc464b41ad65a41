//! Pictures of another size, to the numbers of Pillow (antialiased) or of TensorFlow (not antialiased).
//! What goes in: a filter, the part of the resized picture that is wanted, and rows of pixels when they are asked for.
//! What comes out: that part, row by row, each channel by itself. Rows and columns that it does not need are not asked
//! for.

mod pillow;
mod strip;
mod tensorflow;
mod weights;

use std::ops::Range;

use super::picture::{Part, channels, channels_mut};
use super::{Filter, VisionError};

pub(super) use pillow::Scratch;

/// The most pixels between the two passes: as many as a picture may have.
const MOST_BETWEEN: usize = 89_478_485;

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

/// A row of a resized picture: reds, greens and blues.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Bytes([&'a [u8]; 3]),
    /// Not rounded.
    Floats([&'a [f32]; 3]),
}

/// A resize, planned from sizes alone.
pub(super) enum Plan {
    Antialiased(pillow::Plan),
    Interpolated(tensorflow::Plan),
    /// The nearest pixel alone.
    Picked(Picked),
}

/// The columns and rows that pixels are taken from.
pub(super) struct Picked {
    columns: Vec<usize>,
    rows: Vec<usize>,
    /// Whether the others would not have been rounded either.
    floats: bool,
}

impl Plan {
    /// # Errors
    /// If the rows between the two passes would take too much memory.
    pub(super) fn new(filter: Filter, antialias: bool, (x, y): (&Axis, &Axis)) -> Result<Self, VisionError> {
        Ok(match (filter, antialias) {
            (Filter::Nearest, true) => {
                Plan::Picked(Picked { columns: accumulated_places(x), rows: accumulated_places(y), floats: false })
            }
            (Filter::Nearest, false) => {
                let places = |axis: &Axis| axis.part.clone().map(|i| nearest_place(axis, i)).collect();
                Plan::Picked(Picked { columns: places(x), rows: places(y), floats: true })
            }
            (_, true) => Plan::Antialiased(pillow::Plan::new(filter, (x, y))?),
            (_, false) => Plan::Interpolated(tensorflow::Plan::new(filter, (x, y))?),
        })
    }

    /// The part of the picture that will be asked for.
    pub(super) fn part(&self) -> Part {
        match self {
            Plan::Antialiased(plan) => plan.part(),
            Plan::Interpolated(plan) => plan.part(),
            Plan::Picked(Picked { columns, rows, .. }) => {
                // Places never go down.
                let reach =
                    |places: &[usize]| places.first().copied().unwrap_or(0)..places.last().map_or(0, |last| last + 1);
                Part { columns: reach(columns), rows: reach(rows) }
            }
        }
    }

    /// Asks `fill` for rows of [`Plan::part`], in any order, and gives each row of the wanted part to `emit`, in order.
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        fill: &mut dyn FnMut(usize, [&mut [u8]; 3]),
        emit: &mut dyn FnMut(usize, Row),
    ) {
        match self {
            Plan::Antialiased(plan) => plan.run(scratch, fill, &mut |i, row| emit(i, Row::Bytes(row))),
            Plan::Interpolated(plan) => plan.run(fill, &mut |i, row| emit(i, Row::Floats(row))),
            Plan::Picked(picked) => picked.run(&self.part(), fill, emit),
        }
    }
}

impl Picked {
    fn run(&self, part: &Part, fill: &mut dyn FnMut(usize, [&mut [u8]; 3]), emit: &mut dyn FnMut(usize, Row)) {
        let (from, to) = (part.columns.len(), self.columns.len());
        let (mut line, mut bytes, mut floats) = (vec![0; from * 3], vec![0; to * 3], vec![0.0; to * 3]);
        for (i, &y) in self.rows.iter().enumerate() {
            fill(y, channels_mut(&mut line, from));
            for (out, channel) in bytes.chunks_exact_mut(to).zip(channels(&line, from)) {
                out.iter_mut().zip(&self.columns).for_each(|(out, &x)| *out = channel[x - part.columns.start]);
            }
            if self.floats {
                floats.iter_mut().zip(&bytes).for_each(|(float, &byte)| *float = f32::from(byte));
                emit(i, Row::Floats(channels(&floats, to)));
            } else {
                emit(i, Row::Bytes(channels(&bytes, to)));
            }
        }
    }
}

fn too_large(x: &Axis, y: &Axis) -> VisionError {
    VisionError::Resize { from: (x.from, y.from), to: (x.to, y.to) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Picture;

    fn whole(from: usize, to: usize) -> Axis {
        Axis { from, to, part: 0..to }
    }

    /// The part of `picture` that the axes want, interleaved.
    fn resized(
        picture: &Picture,
        filter: Filter,
        antialias: bool,
        axes: (&Axis, &Axis),
    ) -> Result<Vec<f32>, VisionError> {
        let plan = Plan::new(filter, antialias, axes)?;
        let (part, mut out) = (plan.part(), Vec::new());
        let mut fill = |y: usize, rgb: [&mut [u8]; 3]| {
            assert!(part.rows.contains(&y), "row {y} of {part:?}");
            picture.row(y, &part.columns, rgb);
        };
        plan.run(&mut Scratch::default(), &mut fill, &mut |_, row| match row {
            Row::Bytes(rgb) => (0..rgb[0].len()).for_each(|x| out.extend(rgb.map(|c| f32::from(c[x])))),
            Row::Floats(rgb) => (0..rgb[0].len()).for_each(|x| out.extend(rgb.map(|c| c[x]))),
        });
        Ok(out)
    }

    const FILTERS: [Filter; 4] = [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

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
            let (x, y) = (whole(picture.width() as usize, number(3)), whole(picture.height() as usize, number(4)));
            let antialias = cells[0] == "1";
            let found = resized(&picture, filter, antialias, (&x, &y)).unwrap();
            // Not antialiased, half of the step in which they are stored, and what floats round.
            let most = if antialias { 0.0 } else { 0.5 / 64.0 + 0.01 };
            let expected = &numbers[number(5)..][..found.len()];
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off <= most, "{line}: off by {off}");
        }
    }

    #[test]
    fn a_part_is_what_the_whole_has_there() {
        for (width, height, to_x, to_y) in [(9, 7, 5, 4), (70, 51, 40, 90), (40, 300, 35, 20), (100, 33, 3, 33)] {
            let count = width * height * 3;
            let rgb = (0..count as u32).map(|i| (i % 1009 * (i % 1009) * 37 % 251) as u8).collect();
            let picture = Picture::new(width as u32, height as u32, rgb).unwrap();
            for (filter, antialias) in FILTERS.into_iter().flat_map(|f| [(f, true), (f, false)]) {
                let all = resized(&picture, filter, antialias, (&whole(width, to_x), &whole(height, to_y))).unwrap();
                let (x, y) = (
                    Axis { part: 1..to_x - 1, ..whole(width, to_x) },
                    Axis { part: 2..to_y - 1, ..whole(height, to_y) },
                );
                let part = resized(&picture, filter, antialias, (&x, &y)).unwrap();
                let rows = all.chunks(to_x * 3).take(to_y - 1).skip(2);
                let expected: Vec<f32> = rows.flat_map(|row| row[3..(to_x - 1) * 3].to_vec()).collect();
                assert_eq!(part, expected, "{filter:?} {antialias} {width} × {height}");
            }
        }
    }

    #[test]
    fn proportions_that_take_too_much_memory_are_refused() {
        let (x, y) = (Axis { from: 1, to: 16_384, part: 0..16_384 }, whole(20_000, 20_001));
        for antialias in [true, false] {
            let plan = Plan::new(Filter::Bilinear, antialias, (&x, &y));
            assert!(matches!(plan, Err(VisionError::Resize { .. })), "{antialias}");
        }
        // Narrower than a vector and as tall as pixels go, rows first.
        let plan = Plan::new(Filter::Bicubic, true, (&whole(1, 1), &whole(89_000_000, 3)));
        assert!(matches!(plan, Err(VisionError::Resize { .. })));
    }

    #[test]
    fn a_picture_of_the_right_size_is_left_alone() {
        let rgb: Vec<u8> = (0..6 * 5 * 3u32).map(|i| (i * 91 % 256) as u8).collect();
        let picture = Picture::new(6, 5, rgb.clone()).unwrap();
        for (filter, antialias) in FILTERS.into_iter().flat_map(|f| [(f, true), (f, false)]) {
            let found = resized(&picture, filter, antialias, (&whole(6, 6), &whole(5, 5))).unwrap();
            let most = if antialias { 0.0 } else { 1e-4 };
            assert!(found.iter().zip(&rgb).all(|(a, &b)| (a - f32::from(b)).abs() <= most), "{filter:?} {antialias}");
        }
    }
}
