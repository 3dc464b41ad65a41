//! Entropy-coded bits of a JPEG: Huffman tables and the reader that takes codes and numbers from them.
//! What goes in: a table's counts and symbols, and the bytes of a scan. What comes out: symbols and signed numbers.
//! Past the end of a scan the reader gives zeros and remembers it, so that the caller checks once a row.
//!
//! The reader is small and is passed to cold functions by value: a reader whose address is known to them would live in
//! memory, and each code would wait for the store of the one before.

use std::hint::select_unpredictable;

use super::Trouble;
use super::segments::next_marker;

/// Codes of up to this many bits are found with one look. Ten holds nearly all codes of photographs, and the
/// tables of one picture stay in the first-level cache.
const LOOK: u32 = 9;

/// What a code stands for: a run of zeros and the size of the number after it. Whatever is taken out with shifts is
/// laid out so that it needs no more than them; from the lowest, a byte each for the bits of code and number, the bits
/// of the code, 64 less the bits of the number, and the run of zeros with its number; then 16 bits to be added to
/// numbers of the lower half, and on top whether it is no run and number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    /// No code of the table begins like this, or one that is longer than [`LOOK`].
    const NONE: Self = Self(1 << 63);

    fn new(length: u32, symbol: u8) -> Self {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        let low = (run + 1) << 24 | (64 - size) << 16 | length << 8 | (length + size);
        let lift = u64::from((1u16 << size).wrapping_neg().wrapping_add(1));
        Self(u64::from(size == 0) << 63 | lift << 32 | u64::from(low))
    }

    /// Bits of the code and of the number.
    #[inline(always)]
    fn bits(self) -> u32 {
        (self.0 & 255) as u32
    }

    /// Bits of the code; at most 16.
    #[inline(always)]
    fn length(self) -> u32 {
        (self.0 >> 8 & 255) as u32
    }

    /// Bits of the number; at most 15.
    #[inline(always)]
    fn size(self) -> u32 {
        64 - (self.0 >> 16 & 255) as u32
    }

    /// The zeros before the number, and it: 1 to 16.
    #[inline(always)]
    fn step(self) -> usize {
        // The mask tells the compiler that there is a bound.
        (self.0 >> 24 & 31) as usize
    }

    /// Whether it is not a run and a number of a bit or more.
    #[inline(always)]
    fn is_special(self) -> bool {
        (self.0 as i64) < 0
    }
}

/// A Huffman table of a JPEG: at most 256 codes of 1 to 16 bits.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next [`LOOK`] bits.
    short: Box<[Entry; 1 << LOOK]>,
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
            short: Box::new([Entry::NONE; 1 << LOOK]),
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
                    table.short[first..first + (1 << (LOOK - length))].fill(Entry::new(length, symbol));
                }
                code += 1;
                place += 1;
            }
            table.limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }

    /// Whether every symbol is a size that a DC difference may have.
    pub(super) fn fits_dc(&self) -> bool {
        self.symbols.iter().all(|&symbol| symbol <= 15)
    }

    /// The entry of the code longer than [`LOOK`] that 16 `bits` begin with; none if no code does.
    #[cold]
    #[inline(never)]
    fn long(&self, bits: u32) -> Entry {
        for length in LOOK as usize + 1..=16 {
            if bits < self.limit[length] {
                let place = (bits >> (16 - length)) as i32 + self.offset[length];
                let symbol = self.symbols.get(place as usize).copied().unwrap_or(0);
                return Entry::new(length as u32, symbol);
            }
        }
        Entry::NONE
    }
}

/// Reads bits of a scan, most significant first, until the marker that ends it.
#[derive(Clone, Copy)]
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

    /// The reader after the restart marker of this number, which must come now.
    #[cold]
    #[inline(never)]
    pub(super) fn after_restart(self, number: u8) -> Result<Self, Trouble> {
        self.check()?;
        let (code, at) = next_marker(self.bytes, self.at)?;
        if code != 0xD0 + number {
            return Err(Trouble::Damaged("a restart marker is missing"));
        }
        Ok(Self::new(self.bytes, at))
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

    /// Makes 56 to 63 bits available.
    #[inline(always)]
    fn refill(&mut self) {
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*next);
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
        *self = self.refilled_by_byte();
    }

    #[cold]
    #[inline(never)]
    fn refilled_by_byte(mut self) -> Self {
        // What lies below `count` may be bits that the fast path will write again; here they are added once.
        self.buffer &= if self.count == 0 { 0 } else { !0 << (64 - self.count) };
        while self.count < 56 {
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
        self
    }

    #[inline(always)]
    fn need(&mut self, bits: u32) {
        if self.count < bits {
            self.refill();
        }
    }

    #[inline(always)]
    fn take(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The next `size` bits as an unsigned number; at most 16.
    #[inline(always)]
    pub(super) fn number(&mut self, size: u32) -> u32 {
        self.need(16);
        let bits = ((self.buffer >> 1) >> (63 - size)) as u32;
        self.take(size);
        bits
    }

    /// The next bit.
    #[inline(always)]
    pub(super) fn bit(&mut self) -> bool {
        self.need(16);
        let bit = self.buffer >> 63 == 1;
        self.take(1);
        bit
    }

    /// The entry of the next code, nothing taken, with its number's bits there to be taken as well. After a code that
    /// `table` does not have: an end of 16 bits, and [`Bits::check`] fails.
    #[inline(always)]
    fn entry(&mut self, table: &Table) -> Entry {
        // A code has 16 bits at most, and its number 15.
        self.need(31);
        let entry = table.short[(self.buffer >> (64 - LOOK)) as usize];
        if entry != Entry::NONE { entry } else { self.long_entry(table) }
    }

    #[inline(always)]
    fn long_entry(&mut self, table: &Table) -> Entry {
        let entry = table.long((self.buffer >> 48) as u32);
        if entry != Entry::NONE {
            return entry;
        }
        self.bad_code = true;
        Entry::new(16, 0)
    }

    /// Takes a code and its signed number, of which the lower half of the range is negative; a number of no bits is
    /// anything.
    #[inline(always)]
    fn take_number(&mut self, entry: Entry) -> i16 {
        let after = self.buffer.wrapping_shl((entry.0 >> 8) as u32);
        self.buffer = self.buffer.wrapping_shl(entry.0 as u32);
        self.count -= entry.bits();
        let bits = after.wrapping_shr((entry.0 >> 16) as u32) as i16;
        // As likely as not, so that a branch would be guessed wrong half of the time.
        let upper_half = (after as i64) < 0;
        bits.wrapping_add(select_unpredictable(upper_half, 0, (entry.0 >> 32) as i16))
    }

    /// The next symbol by `table`; after a code that it does not have, 0, and [`Bits::check`] fails.
    #[inline(always)]
    pub(super) fn symbol(&mut self, table: &Table) -> u32 {
        let entry = self.entry(table);
        self.take(entry.length());
        (entry.step() as u32 - 1) << 4 | entry.size()
    }

    /// The next `size` bits as a signed number; at most 15.
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> i16 {
        self.need(16);
        if size == 0 { 0 } else { self.take_number(Entry::new(0, size as u8)) }
    }

    /// The next DC difference.
    #[inline(always)]
    pub(super) fn difference(&mut self, table: &Table) -> i16 {
        let entry = self.entry(table);
        let number = self.take_number(entry);
        // No difference, which has no bits, is too common to be guessed.
        select_unpredictable(entry.is_special(), 0, number)
    }

    /// The next AC coefficient: how many places it is after the last, 1 to 16, and it; the last of sixteen zeros is
    /// one. None where the block ends. With `FILL`, bits are made available for the one after it as well, while the
    /// table is looked at: a branch on whether there are enough would be guessed wrong too often.
    #[inline(always)]
    pub(super) fn coefficient<const FILL: bool>(&mut self, table: &Table) -> Option<(usize, i16)> {
        self.need(31);
        let mut entry = table.short[(self.buffer >> (64 - LOOK)) as usize];
        if FILL {
            self.refill();
        }
        // One unlikely branch for all that is rare, beside the end of a block.
        if entry.is_special() {
            if entry == Entry::NONE {
                entry = self.long_entry(table);
            }
            if entry.is_special() {
                self.take(entry.length());
                return (entry.step() == 16).then_some((16, 0));
            }
        }
        Some((entry.step(), self.take_number(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of one length for `symbols`, and the bytes that `numbers` become with them: each a symbol's place, its
    /// number and the number's bits.
    fn coded(symbols: &[u8], length: usize, numbers: &[(usize, i32, u32)]) -> (Table, Vec<u8>) {
        let mut counts = [0; 16];
        counts[length - 1] = symbols.len() as u8;
        let (mut bits, mut bytes) = (Vec::new(), Vec::new());
        let mut put = |value: u32, size: usize| bits.extend((0..size).rev().map(|i| value >> i & 1));
        for &(place, number, size) in numbers {
            put(place as u32, length);
            put((if number < 0 { number + (1 << size) - 1 } else { number }) as u32, size as usize);
        }
        for byte in bits.chunks(8) {
            let byte = byte.iter().fold(0, |all, bit| all << 1 | *bit as u8) << (8 - byte.len());
            bytes.push(byte);
            if byte == 0xFF {
                bytes.push(0);
            }
        }
        (Table::new(&counts, symbols).unwrap(), bytes)
    }

    #[test]
    fn numbers_of_every_size_are_read_back() {
        // Codes shorter than a look, as long, longer, and as long as they get.
        for length in [5, LOOK as usize, LOOK as usize + 1, 16] {
            let symbols: Vec<u8> = (1..=15).map(|size| (size * 5) << 4 | size).collect();
            let sized = |size: u32| [1 << (size - 1), (1 << size) - 1, -(1 << (size - 1)), 1 - (1 << size)];
            let numbers: Vec<_> =
                (1..=15u32).flat_map(|size| sized(size).map(|n| (size as usize - 1, n, size))).collect();
            let (table, bytes) = coded(&symbols, length, &numbers);
            let (mut ac, mut dc, mut parts) = (Bits::new(&bytes, 0), Bits::new(&bytes, 0), Bits::new(&bytes, 0));
            for &(place, number, size) in &numbers {
                let run = usize::from(symbols[place] >> 4);
                assert_eq!(ac.coefficient::<true>(&table), Some((run + 1, number as i16)), "{length}");
                assert_eq!(dc.difference(&table), number as i16, "{length}");
                assert_eq!(parts.symbol(&table), u32::from(symbols[place]), "{length}");
                assert_eq!(parts.signed(size), number as i16, "{length}");
            }
            assert!([ac, dc, parts].iter().all(|bits| bits.check().is_ok() && bits.position() == bytes.len()));
        }
    }

    #[test]
    fn an_end_sixteen_zeros_and_unknown_codes_are_told_apart() {
        let (table, bytes) = coded(&[0x00, 0xF0, 0x00], 4, &[(1, 0, 0), (0, 0, 0), (7, 0, 0), (0, 0, 0)]);
        let mut bits = Bits::new(&bytes, 0);
        assert_eq!((bits.coefficient::<false>(&table), bits.coefficient::<false>(&table)), (Some((16, 0)), None));
        assert_eq!(bits.check(), Ok(()));
        assert_eq!(bits.coefficient::<false>(&table), None);
        assert!(matches!(bits.check(), Err(Trouble::Damaged(_))));
    }

    #[test]
    fn bits_past_the_end_are_zeros_that_are_remembered() {
        for (bytes, expected) in [
            (&[0xA5u8, 0xFF, 0x00][..], Trouble::Truncated),
            (&[0xA5, 0xFF, 0x00, 0xFF, 0xD9][..], Trouble::Damaged("a scan ends before its last block")),
            (&[0xA5, 0xFF, 0x00, 0xFF][..], Trouble::Truncated),
        ] {
            let mut bits = Bits::new(bytes, 0);
            assert_eq!((bits.number(12), bits.check()), (0xA5F, Ok(())));
            assert_eq!((bits.number(4), bits.check()), (0xF, Ok(())));
            assert_eq!((bits.number(1), bits.check()), (0, Err(expected)));
        }
    }

    #[test]
    fn tables_that_contradict_themselves_are_refused() {
        let counts = |length: usize, count: u8| {
            let mut counts = [0; 16];
            counts[length - 1] = count;
            counts
        };
        assert!(Table::new(&counts(1, 3), &[0, 1, 2]).is_err());
        assert!(Table::new(&counts(8, 3), &[0, 1]).is_err());
        assert!(Table::new(&counts(8, 3), &[0, 1, 15]).unwrap().fits_dc());
        assert!(!Table::new(&counts(8, 3), &[0, 1, 16]).unwrap().fits_dc());
    }
}
