//! The shaders in plain Rust, on the same words: the reference.

use super::packed::{Packed, PackedComponent, PackedPicture, Rows};

/// Floats of all pictures, row after row.
pub(super) fn prepare(packed: &Packed, rows: &Rows) -> Vec<f32> {
    let planes = blocks(packed);
    let pixels = colours(packed, &planes);
    let between = resample::<0>(packed, &pixels, packed.between as usize);
    let resized = resample::<1>(packed, &between, packed.pictures.len() * rows.pixels() as usize);
    numbers(rows, &resized)
}

fn wrapped(value: i32) -> i32 {
    i32::from(value as i16)
}

fn pass(x: [i32; 8], shift: u32) -> [i32; 8] {
    let even2 = x[2] * 4433 + x[6] * (4433 - 15137);
    let even3 = x[2] * (4433 + 6270) + x[6] * 4433;
    let (even0, even1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
    let (left, right) = (wrapped(x[7] + x[3]), wrapped(x[5] + x[1]));
    let turn3 = left * (9633 - 16069) + right * 9633;
    let turn4 = left * 9633 + right * (9633 - 3196);
    let odds = [
        x[1] * (12299 - 7373) - x[7] * 7373 + turn4,
        x[3] * (25172 - 20995) - x[5] * 20995 + turn3,
        x[5] * (16819 - 20995) - x[3] * 20995 + turn4,
        x[7] * (2446 - 7373) - x[1] * 7373 + turn3,
    ];
    let sums = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
    let rounded = |value: i32| (value.wrapping_add(1 << (shift - 1)) >> shift).clamp(-32768, 32767);
    std::array::from_fn(|i| match i {
        0..4 => rounded(sums[i].wrapping_add(odds[i])),
        _ => rounded(sums[7 - i].wrapping_sub(odds[7 - i])),
    })
}

/// Samples, four to a word.
pub(super) fn blocks(packed: &Packed) -> Vec<u32> {
    let mut planes = vec![0; packed.plane_words as usize];
    for picture in &packed.pictures {
        for part in &picture.parts[..picture.components as usize] {
            for block in 0..part.blocks_x * part.blocks_y {
                transform(packed, picture, (part, block), &mut planes);
            }
        }
    }
    planes
}

fn transform(packed: &Packed, picture: &PackedPicture, (part, block): (&PackedComponent, u32), planes: &mut [u32]) {
    let entry = |at: u32| wrapped((packed.entries[at as usize / 2] >> (16 * (at % 2))) as i32);
    let word = packed.index[(part.index + block) as usize];
    let start = picture.entries * 2 + (word >> 8);
    let mut numbers = [0i32; 64];
    numbers[0] = entry(start);
    for i in 0..word & 255 {
        let number = entry(start + 1 + i);
        numbers[(number & 63) as usize] += number >> 6;
    }
    let steps = &packed.steps[part.steps as usize..][..64];
    let columns: [[i32; 8]; 8] =
        std::array::from_fn(|x| pass(std::array::from_fn(|y| wrapped(numbers[y * 8 + x] * steps[y * 8 + x])), 11));
    for y in 0..8 {
        let row = pass(columns.map(|column| column[y]), 18).map(|value| (value + 128).clamp(0, 255) as u8);
        let line = block / part.blocks_x * 8 + y as u32;
        let at = (part.plane + line * part.blocks_x * 2 + block % part.blocks_x * 2) as usize;
        for (word, four) in planes[at..at + 2].iter_mut().zip(row.as_chunks().0) {
            *word = u32::from_le_bytes(*four);
        }
    }
}

/// Red, green and blue, from the lowest byte.
pub(super) fn colours(packed: &Packed, planes: &[u32]) -> Vec<u32> {
    let mut pixels = vec![0; packed.pixels as usize];
    for picture in &packed.pictures {
        for row in 0..picture.height {
            for column in 0..picture.width {
                let at = |part: usize| enlarged(&picture.parts[part], planes, picture.left + column, picture.top + row);
                let luma = at(0);
                let rgb = if picture.components == 3 {
                    let (blues, reds) = (at(1) - 128, at(2) - 128);
                    [
                        luma + ((91_881 * reds + 32_768) >> 16),
                        luma + ((-22_554 * blues - 46_802 * reds + 32_768) >> 16),
                        luma + ((116_130 * blues + 32_768) >> 16),
                    ]
                } else {
                    [luma; 3]
                };
                let [r, g, b] = rgb.map(|value| value.clamp(0, 255) as u8);
                pixels[(picture.pixels + row * picture.width + column) as usize] = u32::from_le_bytes([r, g, b, 0]);
            }
        }
    }
    pixels
}

fn enlarged(part: &PackedComponent, planes: &[u32], x: u32, y: u32) -> i32 {
    let at = |x: i32, y: i32| {
        let column = x.clamp(0, part.width as i32 - 1) as u32 - part.first_x * 8;
        let row = y.clamp(0, part.height as i32 - 1) as u32 - part.first_y * 8;
        let word = planes[(part.plane + row * part.blocks_x * 2 + column / 4) as usize];
        (word >> (column % 4 * 8) & 255) as i32
    };
    let (near_x, near_y) = ((x / part.ratio_x) as i32, (y / part.ratio_y) as i32);
    if part.fancy == 0 || part.ratio_x != 2 {
        return at(near_x, near_y);
    }
    let is_odd = (x % 2) as i32;
    let far_x = near_x - 1 + 2 * is_odd;
    if part.ratio_y == 1 {
        return (at(near_x, near_y) * 3 + at(far_x, near_y) + 1 + is_odd) >> 2;
    }
    let far_y = near_y - 1 + 2 * (y % 2) as i32;
    let sum = |x: i32| at(x, near_y) * 3 + at(x, far_y);
    (sum(near_x) * 3 + sum(far_x) + 8 - is_odd) >> 4
}

/// One direction of the resize, in `made` pixels of all pictures.
pub(super) fn resample<const DIRECTION: usize>(packed: &Packed, source: &[u32], made: usize) -> Vec<u32> {
    let mut pixels = vec![0; made];
    for picture in &packed.pictures {
        let d = &picture.directions[DIRECTION];
        for id in 0..d.to_x * d.to_y {
            let (x, y) = (id % d.to_x, id / d.to_x);
            let tap = (d.taps + 3 * if d.axis == 1 { y } else { x }) as usize;
            let [first, count, weights] = [0, 1, 2].map(|i| packed.taps[tap + i]);
            let (mut at, step) = match d.axis {
                1 => (d.source + first * d.from_x + x, d.from_x),
                _ => (d.source + y * d.from_x + first, 1),
            };
            let mut sums = [1i32 << 21; 3];
            for &weight in &packed.taps[weights as usize..][..count as usize] {
                for (sum, byte) in sums.iter_mut().zip(source[at as usize].to_le_bytes()) {
                    *sum = sum.wrapping_add(i32::from(byte).wrapping_mul(weight as i32));
                }
                at += step;
            }
            let [r, g, b] = sums.map(|sum| (sum >> 22).clamp(0, 255) as u8);
            pixels[(d.made + id) as usize] = u32::from_le_bytes([r, g, b, 0]);
        }
    }
    pixels
}

/// Floats in the order of the output.
pub(super) fn numbers(rows: &Rows, resized: &[u32]) -> Vec<f32> {
    let size = rows.pixels() as usize;
    let mut floats = vec![0.0; resized.len() * 3];
    for (picture, out) in resized.chunks(size).zip(floats.chunks_mut(size * 3)) {
        for (i, pixel) in picture.iter().enumerate() {
            for channel in 0..3 {
                let value = pixel.to_le_bytes()[rows.order[channel] as usize];
                let at = if rows.channels_last { i * 3 + channel } else { channel * size + i };
                out[at] = rows.tables[channel][usize::from(value)];
            }
        }
    }
    floats
}
