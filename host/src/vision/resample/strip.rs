//! Rows turned on their side: sixteen rows of three channels are 48 numbers a column, which share their weight when
//! columns are made fewer, and vectors hold nothing else.
//! What goes in: rows. What comes out: columns.

use crate::vision::turn::turn_bytes;

/// Rows that are turned on their side together.
pub(super) const ROWS: usize = 16;

/// Numbers that are summed side by side: three channels of as many rows, or as many columns of a row.
pub(super) const LANES: usize = 3 * ROWS;

/// One column of three channels of [`ROWS`] rows.
pub(super) type Column = [u8; LANES];

/// How far apart the channels of a row are: whole vectors of columns, whatever is done with them.
pub(super) fn step(columns: usize) -> usize {
    columns.next_multiple_of(2 * ROWS)
}

/// [`ROWS`] rows of three channels each as columns.
#[inline(always)]
pub(super) fn turn_on_side(lines: &[u8], strip: &mut [Column]) {
    let width = strip.len();
    for (x, columns) in strip.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for eight in 0..LANES / 8 {
            let (channel, half) = (eight / 2, eight % 2);
            let mut words: [[u64; 4]; 8] = std::array::from_fn(|y| {
                let start = ((half * 8 + y) * 3 + channel) * width + x * 32;
                let bytes = &lines[start..][..32];
                std::array::from_fn(|tile| u64::from_le_bytes(bytes.as_chunks().0[tile]))
            });
            turn_bytes(&mut words);
            for tile in 0..4 {
                for x in 0..8 {
                    columns[tile * 8 + x].as_chunks_mut().0[eight] = words[x][tile].to_le_bytes();
                }
            }
        }
    }
}
