//! From component samples to rows of reds, greens and blues, to libjpeg's numbers bit for bit: smooth ("fancy")
//! enlargement of halved chroma, boxes for other ratios, and the BT.601 conversion with 16 fractional bits.
//! What goes in: components as decoded. What comes out: some columns of one row, each channel by itself.

use std::ops::Range;

use super::frame::{Component, nearby};

/// What a JPEG's components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Rgb,
    YCbCr,
    /// Inverted, as every writer of such files has it since Adobe's did.
    Cmyk,
    /// YCbCr of the first three, inverted, and black.
    Ycck,
}

/// Room for the work on one row; kept between rows.
#[derive(Default)]
pub(in crate::vision) struct Scratch {
    rows: [Vec<u8>; 4],
    sums: Vec<i16>,
}

/// Row `y` of the picture, the wanted columns of it: reds, greens and blues, each as long as there are columns.
#[inline(always)]
pub(super) fn row(
    (components, space): (&[Component], Space),
    y: usize,
    columns: &Range<usize>,
    scratch: &mut Scratch,
    [red, green, blue]: [&mut [u8]; 3],
) {
    let Scratch { rows, sums } = scratch;
    let mut lines: [&[u8]; 4] = [&[]; 4];
    for ((line, component), room) in lines.iter_mut().zip(components).zip(rows) {
        *line = full_row(component, y, columns, room, sums);
    }
    let [a, b, c, d] = lines;
    match space {
        Space::Grey => [red, green, blue].into_iter().for_each(|out| out.copy_from_slice(a)),
        Space::YCbCr => rgb_from_ycbcr([a, b, c], [red, green, blue]),
        Space::Rgb | Space::Cmyk => {
            for (out, line) in [&mut *red, &mut *green, &mut *blue].into_iter().zip([a, b, c]) {
                out.copy_from_slice(line);
            }
            if space == Space::Cmyk {
                apply_black(d, [red, green, blue]);
            }
        }
        Space::Ycck => {
            rgb_from_ycbcr([a, b, c], [&mut *red, &mut *green, &mut *blue]);
            for out in [&mut *red, &mut *green, &mut *blue] {
                out.iter_mut().for_each(|x| *x = 255 - *x);
            }
            apply_black(d, [red, green, blue]);
        }
    }
}

/// Row `y` of the picture for one component, at full width, the wanted columns of it.
#[inline(always)]
fn full_row<'a>(
    component: &'a Component,
    y: usize,
    columns: &Range<usize>,
    room: &'a mut Vec<u8>,
    sums: &mut Vec<i16>,
) -> &'a [u8] {
    // The row nearest to `y` in the plane, and the next nearest: above for even rows, below for odd ones.
    let near = y / component.ratio.1;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
    let (across, smooth) = (component.ratio.0, component.width > 2);
    // What is enlarged has a sample more on each side, beyond which lies nothing that counts.
    let samples = nearby(columns, across, component.width);
    let row = |y: usize| &component.row(y)[samples.clone()];
    let enlarged = samples.len() * across;
    if room.len() < enlarged {
        room.resize(enlarged, 0);
    }
    let out = &mut room[..enlarged];
    match component.ratio {
        (1, 1) => return &component.row(near)[columns.clone()],
        (2, 1) if smooth => widen(row(near), out),
        (1, 2) => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((out, &a), &b) in out.iter_mut().zip(row(near)).zip(row(far)) {
                *out = ((u16::from(a) * 3 + u16::from(b) + bias) >> 2) as u8;
            }
        }
        (2, 2) if smooth => {
            sums.clear();
            sums.extend(row(near).iter().zip(row(far)).map(|(&a, &b)| i16::from(a) * 3 + i16::from(b)));
            widen_sums(sums, out);
        }
        _ => {
            for (out, &sample) in out.chunks_exact_mut(across).zip(row(near)) {
                out.fill(sample);
            }
        }
    }
    &out[columns.start - samples.start * across..][..columns.len()]
}

/// Doubles a row of two or more: each sample is three parts itself and one part its neighbour on that side. Roundings
/// alternate.
#[inline(always)]
fn widen(row: &[u8], out: &mut [u8]) {
    let last = row.len() - 1;
    let at = |x: usize| u16::from(row[x]);
    out[0] = row[0];
    out[1] = ((at(0) * 3 + at(1) + 2) >> 2) as u8;
    for (pair, near) in out[2..2 * last].as_chunks_mut::<2>().0.iter_mut().zip(row.array_windows::<3>()) {
        let sample = u16::from(near[1]) * 3;
        pair[0] = ((sample + u16::from(near[0]) + 1) >> 2) as u8;
        pair[1] = ((sample + u16::from(near[2]) + 2) >> 2) as u8;
    }
    out[2 * last] = ((at(last) * 3 + at(last - 1) + 1) >> 2) as u8;
    out[2 * last + 1] = row[last];
}

/// As [`widen`], for sums of two rows that weigh four.
#[inline(always)]
fn widen_sums(sums: &[i16], out: &mut [u8]) {
    let last = sums.len() - 1;
    out[0] = ((sums[0] * 4 + 8) >> 4) as u8;
    out[1] = ((sums[0] * 3 + sums[1] + 7) >> 4) as u8;
    for (pair, near) in out[2..2 * last].as_chunks_mut::<2>().0.iter_mut().zip(sums.array_windows::<3>()) {
        let sample = near[1] * 3;
        pair[0] = ((sample + near[0] + 8) >> 4) as u8;
        pair[1] = ((sample + near[2] + 7) >> 4) as u8;
    }
    out[2 * last] = ((sums[last] * 3 + sums[last - 1] + 8) >> 4) as u8;
    out[2 * last + 1] = ((sums[last] * 4 + 7) >> 4) as u8;
}

/// BT.601 at full range. The factors are 1.402, 1.772, 0.34414 and 0.71414 in 1/65536, less the whole numbers that
/// are added beside them, so that each fits 16 bits; rounding is as for the undivided factors.
#[inline(always)]
fn rgb_from_ycbcr([luma, blues, reds]: [&[u8]; 3], [red, green, blue]: [&mut [u8]; 3]) {
    const HALF: i32 = 1 << 15;
    let width = luma.len();
    let (blues, reds) = (&blues[..width], &reds[..width]);
    let (red, green, blue) = (&mut red[..width], &mut green[..width], &mut blue[..width]);
    // Twice the chroma, so that the upper half of the product has a bit to round with: all in 16 bits.
    let share = |chroma: i16, factor: i32| (((i32::from(2 * chroma) * factor) >> 16) as i16 + 1) >> 1;
    for x in 0..width {
        let (y, cb, cr) = (i16::from(luma[x]), i16::from(blues[x]) - 128, i16::from(reds[x]) - 128);
        let less = (18734 * i32::from(cr) - 22554 * i32::from(cb) + HALF) >> 16;
        red[x] = (y + cr + share(cr, 26345)).clamp(0, 255) as u8;
        green[x] = (y - cr + less as i16).clamp(0, 255) as u8;
        blue[x] = (y + 2 * cb + share(cb, -14942)).clamp(0, 255) as u8;
    }
}

/// Multiplies inverted inks with inverted black: the RGB of a CMYK picture without a colour profile.
#[inline(always)]
fn apply_black(black: &[u8], channels: [&mut [u8]; 3]) {
    for channel in channels {
        for (x, &k) in channel.iter_mut().zip(black) {
            *x = super::super::convert::through_black(255 - *x, 255 - k);
        }
    }
}
