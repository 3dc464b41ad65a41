//! Pixels of other colour models to RGB, as Pillow's `convert("RGB")` has them.
//! What goes in: one sample or one row. What comes out: 8-bit samples.

/// The red, green or blue that an ink of this strength leaves under black of that strength, both 0 to 255.
pub(super) fn through_black(ink: u8, black: u8) -> u8 {
    let light = u32::from(255 - black);
    let product = u32::from(ink) * light + 128;
    let covered = (product + (product >> 8)) >> 8;
    // The rounded product is at most `light`.
    (light - covered.min(light)) as u8
}

/// Samples of 1, 2, 4 or 8 bits, packed from the top of each byte, as whole bytes; not scaled.
pub(super) fn unpacked(row: &[u8], bits: u8, count: usize) -> Vec<u8> {
    let (bits, per_byte) = (usize::from(bits), 8 / usize::from(bits));
    let mask = (0xFFu16 >> (8 - bits)) as u8;
    let sample = |i: usize| (row.get(i / per_byte).copied().unwrap_or(0) >> (8 - bits - i % per_byte * bits)) & mask;
    (0..count).map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_ink_is_white_and_full_black_is_black() {
        assert_eq!((through_black(0, 0), through_black(255, 0)), (255, 0));
        for ink in 0..=255 {
            assert_eq!(through_black(ink, 255), 0);
            assert_eq!(through_black(ink, 0), 255 - ink);
        }
    }

    #[test]
    fn packed_samples_come_from_the_top() {
        assert_eq!(unpacked(&[0b1010_0000], 1, 4), [1, 0, 1, 0]);
        assert_eq!(unpacked(&[0b1101_0010], 2, 4), [3, 1, 0, 2]);
        assert_eq!(unpacked(&[0x4F], 4, 3), [4, 15, 0]);
        assert_eq!(unpacked(&[7, 9], 8, 2), [7, 9]);
    }
}
