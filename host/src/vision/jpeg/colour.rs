//! From component planes to RGB rows, to libjpeg's numbers bit for bit: smooth ("fancy") enlargement of halved chroma,
//! boxes for other ratios, and the BT.601 conversion with 16 fractional bits.
//! What goes in: planes as decoded. What comes out: interleaved 8-bit RGB.

/// How a component's plane lies under the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    /// Picture columns for one of the plane's.
    pub(super) across: usize,
    /// Picture rows for one of the plane's.
    pub(super) down: usize,
}

/// One component's samples.
pub(super) struct Plane<'a> {
    pub(super) samples: &'a [u8],
    pub(super) stride: usize,
    /// Columns that hold the picture; those after it are padding that must not leak in.
    pub(super) width: usize,
    /// Rows that hold the picture.
    pub(super) height: usize,
    pub(super) ratio: Ratio,
}

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
pub(super) struct Scratch {
    rows: [Vec<u8>; 4],
    sums: Vec<i16>,
}

/// The planes as interleaved RGB rows of `width` pixels.
pub(super) fn to_rgb(planes: &[Plane], space: Space, width: usize, rgb: &mut [u8]) {
    let mut scratch = Scratch::default();
    for row in &mut scratch.rows[..planes.len()] {
        // The widest ratio writes past the picture's edge by less than itself.
        row.resize(width + 8, 0);
    }
    for (y, out) in rgb.chunks_exact_mut(width * 3).enumerate() {
        let Scratch { rows, sums } = &mut scratch;
        let mut lines: [&[u8]; 4] = [&[]; 4];
        for ((line, plane), room) in lines.iter_mut().zip(planes).zip(rows) {
            *line = &full_row(plane, y, width, room, sums)[..width];
        }
        let [a, b, c, d] = lines;
        match space {
            Space::Grey => grey_row(a, out),
            Space::Rgb => rgb_row(a, b, c, out),
            Space::YCbCr => ycbcr_row(a, b, c, out),
            Space::Cmyk => {
                rgb_row(a, b, c, out);
                apply_black(d, out);
            }
            Space::Ycck => {
                ycbcr_row(a, b, c, out);
                out.iter_mut().for_each(|x| *x = 255 - *x);
                apply_black(d, out);
            }
        }
    }
}

/// Row `y` of the picture for one component, at full width.
fn full_row<'a>(plane: &Plane<'a>, y: usize, width: usize, room: &'a mut [u8], sums: &mut Vec<i16>) -> &'a [u8] {
    let row = |y: usize| &plane.samples[y.min(plane.height - 1) * plane.stride..][..plane.width];
    // The row nearest to `y` in the plane, and the next nearest: above for even rows, below for odd ones.
    let near = y / plane.ratio.down;
    let far = if y.is_multiple_of(2) { near.saturating_sub(1) } else { near + 1 };
    match plane.ratio {
        Ratio { across: 1, down: 1 } => row(near),
        Ratio { across: 2, down: 1 } if plane.width > 2 => {
            widen(row(near), room);
            room
        }
        Ratio { across: 1, down: 2 } => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((out, &a), &b) in room.iter_mut().zip(row(near)).zip(row(far)) {
                *out = ((u16::from(a) * 3 + u16::from(b) + bias) >> 2) as u8;
            }
            room
        }
        Ratio { across: 2, down: 2 } if plane.width > 2 => {
            sums.clear();
            sums.extend(row(near).iter().zip(row(far)).map(|(&a, &b)| i16::from(a) * 3 + i16::from(b)));
            widen_sums(sums, room);
            room
        }
        Ratio { across, .. } => {
            for (out, &sample) in room[..width.next_multiple_of(across)].chunks_mut(across).zip(row(near)) {
                out.fill(sample);
            }
            room
        }
    }
}

/// Doubles a row: each sample is three parts itself and one part its neighbour on that side. Roundings alternate.
fn widen(row: &[u8], out: &mut [u8]) {
    let last = row.len() - 1;
    let at = |x: usize| u16::from(row[x]);
    out[0] = row[0];
    out[1] = ((at(0) * 3 + at(1) + 2) >> 2) as u8;
    for (pair, near) in out[2..2 * last].chunks_exact_mut(2).zip(row.windows(3)) {
        let sample = u16::from(near[1]) * 3;
        pair[0] = ((sample + u16::from(near[0]) + 1) >> 2) as u8;
        pair[1] = ((sample + u16::from(near[2]) + 2) >> 2) as u8;
    }
    out[2 * last] = ((at(last) * 3 + at(last - 1) + 1) >> 2) as u8;
    out[2 * last + 1] = row[last];
}

/// As [`widen`], for sums of two rows that weigh four.
fn widen_sums(sums: &[i16], out: &mut [u8]) {
    let last = sums.len() - 1;
    out[0] = ((sums[0] * 4 + 8) >> 4) as u8;
    out[1] = ((sums[0] * 3 + sums[1] + 7) >> 4) as u8;
    for (pair, near) in out[2..2 * last].chunks_exact_mut(2).zip(sums.windows(3)) {
        let sample = near[1] * 3;
        pair[0] = ((sample + near[0] + 8) >> 4) as u8;
        pair[1] = ((sample + near[2] + 7) >> 4) as u8;
    }
    out[2 * last] = ((sums[last] * 3 + sums[last - 1] + 8) >> 4) as u8;
    out[2 * last + 1] = ((sums[last] * 4 + 7) >> 4) as u8;
}

fn grey_row(grey: &[u8], out: &mut [u8]) {
    for (pixel, &level) in out.chunks_exact_mut(3).zip(grey) {
        pixel.fill(level);
    }
}

fn rgb_row(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    for (((pixel, &r), &g), &b) in out.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
        pixel.copy_from_slice(&[r, g, b]);
    }
}

/// BT.601 at full range. The factors are 1.402, 1.772, 0.34414 and 0.71414 in 1/65536, less the whole numbers that
/// are added beside them, so that each fits 16 bits; rounding is as for the undivided factors.
fn ycbcr_row(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
    const HALF: i32 = 1 << 15;
    for (((pixel, &y), &cb), &cr) in out.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let r = y + cr + ((26345 * cr + HALF) >> 16);
        let g = y - cr + ((18734 * cr - 22554 * cb + HALF) >> 16);
        let b = y + 2 * cb + ((-14942 * cb + HALF) >> 16);
        pixel[0] = r.clamp(0, 255) as u8;
        pixel[1] = g.clamp(0, 255) as u8;
        pixel[2] = b.clamp(0, 255) as u8;
    }
}

/// Multiplies inverted inks with inverted black: the RGB of a CMYK picture without a colour profile.
fn apply_black(black: &[u8], out: &mut [u8]) {
    for (pixel, &k) in out.chunks_exact_mut(3).zip(black) {
        for x in pixel {
            *x = super::super::convert::through_black(255 - *x, 255 - k);
        }
    }
}
