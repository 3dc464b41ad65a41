//! Entropy-coded bits of a JPEG: Huffman tables and the reader that takes codes and numbers from them.
//! What goes in: a table's counts and symbols, and the bytes of a scan. What comes out: symbols and signed numbers.
//! Past the end of a scan the reader gives zeros and remembers it, so that the caller checks once a row.

use super::Trouble;

/// Codes of up to this many bits are found with one look. Ten holds nearly all codes of photographs, and the
/// tables of one picture stay in the first-level cache.
const LOOK: u32 = 10;

/// A Huffman table of a JPEG: at most 256 codes of 1 to 16 bits.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOK`] bits: code length in the high byte, symbol in the low; 0 where the code is longer.
    short: Vec<u16>,
    /// By the next [`LOOK`] bits, where they hold a whole AC coefficient, code and number: the number in the high
    /// half, the run of zeros before it in bits 8 to 15, all bits used in bits 0 to 7. 0 elsewhere.
    whole: Vec<u32>,
    /// For each code length, one past the largest code of it, shifted to 16 bits.
    limit: [u32; 17],
    /// For each code length, what to add to a code to get its place in `symbols`.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// A table from its `counts` of codes by length, 1 to 16, and its symbols in the order of their codes.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Trouble> {
        let mut table = Self {
            short: vec![0; 1 << LOOK],
            whole: vec![0; 1 << LOOK],
            limit: [0; 17],
            offset: [0; 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            table.offset[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(place).ok_or(Trouble::Damaged("a Huffman table lacks symbols"))?;
                if code >= 1 << length {
                    return Err(Trouble::Damaged("a Huffman table has more codes than fit"));
                }
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    let entry = (length as u16) << 8 | u16::from(symbol);
                    table.short[first..first + (1 << (LOOK - length))].fill(entry);
                }
                code += 1;
                place += 1;
            }
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        table.fill_whole();
        Ok(table)
    }

    fn fill_whole(&mut self) {
        for (bits, &entry) in self.short.iter().enumerate() {
            let (length, symbol) = (u32::from(entry >> 8), u32::from(entry & 255));
            let (run, size) = (symbol >> 4, symbol & 15);
            if length == 0 || size == 0 || length + size > LOOK {
                continue;
            }
            let number = extend((bits as u32 >> (LOOK - length - size)) & ((1 << size) - 1), size);
            self.whole[bits] = (number as u32) << 16 | run << 8 | (length + size);
        }
    }

    /// Whether every symbol is a size that a DC difference may have.
    pub(super) fn fits_dc(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol <= 15)
    }
}

/// The signed number that `size` bits stand for: the lower half of the range is negative.
#[inline]
fn extend(bits: u32, size: u32) -> i32 {
    let number = bits as i32;
    if size > 0 && number < 1 << (size - 1) { number - (1 << size) + 1 } else { number }
}

/// Reads bits of a scan, most significant first, until the marker that ends it.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Where the next byte to buffer is.
    at: usize,
    /// The next bits, from the top; those below `count` are zeros or already right.
    buffer: u64,
    count: u32,
    /// How many of `count` are zeros made up after the scan's last byte.
    made_up: u32,
    /// Whether a code was met that the table does not have.
    bad_code: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, made_up: 0, bad_code: false }
    }

    /// Where the marker after the bits taken so far is looked for. No marker is ever buffered.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Starts again at `at`, after a restart marker.
    pub(super) fn restart(&mut self, at: usize) {
        *self = Self::new(self.bytes, at);
    }

    /// Whether bits were taken that the scan does not have, or codes that no table has.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        if self.bad_code {
            return Err(Trouble::Damaged("a code that its Huffman table does not have"));
        }
        if self.made_up > self.count {
            return Err(if self.at >= self.bytes.len() {
                Trouble::Truncated
            } else {
                Trouble::Damaged("a scan ends before its last block")
            });
        }
        Ok(())
    }

    /// Makes at least 48 bits available.
    #[inline]
    fn refill(&mut self) {
        if let Some(next) = self.bytes.get(self.at..self.at + 8) {
            let word = u64::from_be_bytes(next.try_into().expect("eight bytes were taken; this is a bug"));
            // Other than zero exactly if some byte of the complement is zero, which is a byte 0xFF of the word.
            let inverse = !word;
            if inverse.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= word >> self.count;
                let taken = (63 - self.count) >> 3;
                self.at += taken as usize;
                self.count += taken * 8;
                return;
            }
        }
        self.refill_by_byte();
    }

    #[cold]
    #[inline(never)]
    fn refill_by_byte(&mut self) {
        // What lies below `count` may be bits that the fast path will write again; here they are added once.
        self.buffer &= if self.count == 0 { 0 } else { !0 << (64 - self.count) };
        while self.count <= 56 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xFF), Some(0)) => {
                    self.at += 2;
                    0xFF
                }
                (Some(&byte), _) if byte != 0xFF => {
                    self.at += 1;
                    byte
                }
                (found, next) => {
                    if found.is_some() && next.is_none() {
                        // A lone last 0xFF is no marker; the file ends here.
                        self.at += 1;
                    }
                    self.made_up += 8;
                    0
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    #[inline]
    fn need(&mut self, bits: u32) {
        if self.count < bits {
            self.refill();
        }
    }

    #[inline]
    fn take(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The next `size` bits as an unsigned number; at most 16.
    #[inline]
    pub(super) fn number(&mut self, size: u32) -> u32 {
        self.need(16);
        let bits = ((self.buffer >> 1) >> (63 - size)) as u32;
        self.take(size);
        bits
    }

    /// The next bit.
    #[inline]
    pub(super) fn bit(&mut self) -> bool {
        self.need(16);
        let bit = self.buffer >> 63 == 1;
        self.take(1);
        bit
    }

    /// The next `size` bits as a signed number; at most 15.
    #[inline]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        let bits = self.number(size);
        extend(bits, size)
    }

    /// The next symbol by `table`; after a code that it does not have, 0, and [`Bits::check`] fails.
    #[inline]
    pub(super) fn symbol(&mut self, table: &Table) -> u32 {
        self.need(16);
        let entry = table.short[(self.buffer >> (64 - LOOK)) as usize];
        if entry != 0 {
            self.take(u32::from(entry >> 8));
            return u32::from(entry & 255);
        }
        self.long_symbol(table)
    }

    #[inline(never)]
    fn long_symbol(&mut self, table: &Table) -> u32 {
        let bits = (self.buffer >> 48) as u32;
        for length in LOOK as usize + 1..=16 {
            if bits < table.limit[length] {
                let place = (bits >> (16 - length)) as i32 + table.offset[length];
                self.take(length as u32);
                return table.symbols.get(place as usize).copied().map_or(0, u32::from);
            }
        }
        self.bad_code = true;
        self.take(16);
        0
    }

    /// The next AC coefficient, if its code and number are found with one look: the zeros before it, and it.
    #[inline]
    pub(super) fn coefficient(&mut self, table: &Table) -> Option<(usize, i16)> {
        self.need(32);
        let entry = table.whole[(self.buffer >> (64 - LOOK)) as usize];
        if entry == 0 {
            return None;
        }
        self.take(entry & 255);
        Some(((entry >> 8 & 255) as usize, (entry >> 16) as i16))
    }
}
