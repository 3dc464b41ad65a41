//! The inverse cosine transform of JPEG blocks, in integers, to libjpeg's accurate ("islow") numbers bit for bit.
//! What goes in: 64 coefficients and the steps by which they were divided. What comes out: 64 samples.
//!
//! After C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with 11 multiplications",
//! ICASSP 1989, with its sums written as products of 16-bit numbers, which compilers turn into vector instructions.

use crate::vision::turn::turned;

/// The rotations' cosines and sines with 13 fractional bits, as libjpeg rounds them.
mod fix {
    pub(super) const BITS: u32 = 13;
    pub(super) const C0_298: i32 = 2446;
    pub(super) const C0_390: i32 = 3196;
    pub(super) const C0_541: i32 = 4433;
    pub(super) const C0_765: i32 = 6270;
    pub(super) const C0_899: i32 = 7373;
    pub(super) const C1_175: i32 = 9633;
    pub(super) const C1_501: i32 = 12299;
    pub(super) const C1_847: i32 = 15137;
    pub(super) const C1_961: i32 = 16069;
    pub(super) const C2_053: i32 = 16819;
    pub(super) const C2_562: i32 = 20995;
    pub(super) const C3_072: i32 = 25172;
}

/// Fractional bits kept between the two passes.
const KEPT: u32 = 2;

/// Which coefficients of a block may be other than zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// Only the first.
    Mean,
    /// Those of the upper left quarter.
    Quarter,
    /// Any.
    Full,
}

impl Extent {
    /// What a block is whose last coefficient in zigzag order is the `last`-th.
    pub(super) fn of(last: usize) -> Self {
        match last {
            0 => Extent::Mean,
            // The tenth is the last before the zigzag first leaves the upper left quarter.
            1..=9 => Extent::Quarter,
            _ => Extent::Full,
        }
    }
}

/// The samples of a block of coefficients (row-major), multiplied by `steps`: its columns as words, of which the lowest
/// byte is in the first row.
#[inline(always)]
pub(super) fn inverse(block: &[i16; 64], steps: &[i16; 64], extent: Extent) -> [u64; 8] {
    match extent {
        Extent::Mean => {
            let level = ((i32::from(block[0].wrapping_mul(steps[0])) + 4) >> 3) + 128;
            [u64::from_le_bytes([level.clamp(0, 255) as u8; 8]); 8]
        }
        Extent::Quarter => both_passes::<4>(block, steps),
        Extent::Full => both_passes::<8>(block, steps),
    }
}

#[inline(always)]
fn both_passes<const FILLED: usize>(block: &[i16; 64], steps: &[i16; 64]) -> [u64; 8] {
    let mut scaled = [0i16; 64];
    for i in 0..FILLED * 8 {
        scaled[i] = block[i].wrapping_mul(steps[i]);
    }
    let mut first = [0i16; 64];
    pass::<FILLED, { fix::BITS - KEPT }>(&scaled, &mut first);
    let mut second = [0i16; 64];
    pass::<FILLED, { fix::BITS + KEPT + 3 }>(&turned(&first), &mut second);
    let mut samples = [0u8; 64];
    for (sample, &value) in samples.iter_mut().zip(&second) {
        *sample = value.saturating_add(128).clamp(0, 255) as u8;
    }
    std::array::from_fn(|x| u64::from_le_bytes(samples.as_chunks().0[x]))
}

/// One transform down each of the eight columns, of which only the first `FILLED` rows may be other than zero.
#[inline(always)]
fn pass<const FILLED: usize, const SHIFT: u32>(from: &[i16; 64], to: &mut [i16; 64]) {
    use fix::*;
    for x in 0..8 {
        // Sums of two inputs wrap to 16 bits, as in libjpeg's vector code: no true picture reaches that.
        let short = |row: usize| if row < FILLED { from[row * 8 + x] } else { 0 };
        let input = |row: usize| i32::from(short(row));
        let pair = |a: usize, b: usize| i32::from(short(a).wrapping_add(short(b)));

        let even2 = input(2) * C0_541 + input(6) * (C0_541 - C1_847);
        let even3 = input(2) * (C0_541 + C0_765) + input(6) * C0_541;
        let even0 = (input(0) + input(4)) << BITS;
        let even1 = (input(0) - input(4)) << BITS;
        let sums = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

        let (left, right) = (pair(7, 3), pair(5, 1));
        let turn3 = left * (C1_175 - C1_961) + right * C1_175;
        let turn4 = left * C1_175 + right * (C1_175 - C0_390);
        let odds = [
            input(1) * (C1_501 - C0_899) + input(7) * -C0_899 + turn4,
            input(3) * (C3_072 - C2_562) + input(5) * -C2_562 + turn3,
            input(5) * (C2_053 - C2_562) + input(3) * -C2_562 + turn4,
            input(7) * (C0_298 - C0_899) + input(1) * -C0_899 + turn3,
        ];
        for i in 0..4 {
            let scaled = |value: i32| (value.wrapping_add(1 << (SHIFT - 1)) >> SHIFT).clamp(-32768, 32767) as i16;
            to[i * 8 + x] = scaled(sums[i].wrapping_add(odds[i]));
            to[(7 - i) * 8 + x] = scaled(sums[i].wrapping_sub(odds[i]));
        }
    }
}
