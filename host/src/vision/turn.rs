//! Changes rows and columns of small squares, in shapes that compilers make vector instructions of.
//! What goes in: squares as words, several side by side. What comes out: the same, turned over their diagonal.

/// Four squares of 8 × 8 bytes: `words[y][square]` is row `y`, its first byte the lowest.
#[inline(always)]
pub(super) fn turn_bytes(words: &mut [[u64; 4]; 8]) {
    // Quarters change places, then quarters of those, then single bytes.
    for (apart, mask) in [(4, 0x0000_0000_FFFF_FFFF), (2, 0x0000_FFFF_0000_FFFF), (1, 0x00FF_00FF_00FF_00FF)] {
        for y in (0..8).filter(|y| y & apart == 0) {
            let (above, below) = words.split_at_mut(y + apart);
            swap(&mut above[y], &mut below[0], 8 * apart as u32, mask);
        }
    }
}

/// Four squares of 4 × 4 numbers of 16 bits: `words[y][square]` is row `y`, its first number the lowest.
#[inline(always)]
fn turn_shorts(words: &mut [[u64; 4]; 4]) {
    let [a, b, c, d] = words;
    swap(a, c, 32, 0x0000_0000_FFFF_FFFF);
    swap(b, d, 32, 0x0000_0000_FFFF_FFFF);
    swap(a, b, 16, 0x0000_FFFF_0000_FFFF);
    swap(c, d, 16, 0x0000_FFFF_0000_FFFF);
}

/// What of one row's words lies `bits` above the mask changes places with what of the other's lies in it.
#[inline(always)]
fn swap(one: &mut [u64; 4], other: &mut [u64; 4], bits: u32, mask: u64) {
    for (a, b) in one.iter_mut().zip(other) {
        let change = ((*a >> bits) ^ *b) & mask;
        *a ^= change << bits;
        *b ^= change;
    }
}

/// A square of 8 × 8 numbers.
#[inline(always)]
pub(super) fn turned(square: &[i16; 64]) -> [i16; 64] {
    let word = |from: usize| (0..4).fold(0, |word, i| word | u64::from(square[from + i].cast_unsigned()) << (16 * i));
    // Its quarters: upper left, upper right, lower left, lower right.
    let mut words: [[u64; 4]; 4] =
        std::array::from_fn(|y| std::array::from_fn(|quarter| word((quarter / 2 * 4 + y) * 8 + quarter % 2 * 4)));
    turn_shorts(&mut words);
    let mut out = [0; 64];
    for y in 0..4 {
        for quarter in 0..4 {
            for i in 0..4 {
                // The upper right becomes the lower left.
                out[(quarter % 2 * 4 + y) * 8 + quarter / 2 * 4 + i] = (words[y][quarter] >> (16 * i)) as i16;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let square: [i16; 64] = std::array::from_fn(|i| (i as i32 * 997 - 30_000) as i16);
        let found = turned(&square);
        assert!((0..64).all(|i| found[i % 8 * 8 + i / 8] == square[i]));

        let byte = |square: usize, y: usize, x: usize| (square * 64 + y * 8 + x) as u8;
        let mut words: [[u64; 4]; 8] = std::array::from_fn(|y| {
            std::array::from_fn(|square| u64::from_le_bytes(std::array::from_fn(|x| byte(square, y, x))))
        });
        turn_bytes(&mut words);
        for (x, row) in words.iter().enumerate() {
            for (square, word) in row.iter().enumerate() {
                assert_eq!(word.to_le_bytes(), std::array::from_fn(|y| byte(square, y, x)));
            }
        }
    }
}
