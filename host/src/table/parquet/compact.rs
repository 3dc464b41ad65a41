//! Thrift's compact protocol, as far as Parquet's headers need it: every length is checked against the bytes that are
//! there before anything is made of it.

/// Elements of one list: columns of a row group, or row groups.
const MAX_LIST: u64 = 1 << 20;

/// Structures within structures; a footer has five.
const MAX_DEPTH: usize = 16;

/// A type of the protocol, by its number.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const STRUCT: u8 = 12;

/// Walks over one structure that is all of `bytes`; none if it does not add up, or says to be larger than it can be.
pub(super) fn check(bytes: &[u8]) -> Option<()> {
    Reader { rest: bytes }.skip(STRUCT, 0)
}

/// The header of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    /// The numbers of the one header of its kind, by the ids of their fields; as many as are asked for below.
    pub(super) data: Option<[i64; 8]>,
    pub(super) data_v2: Option<[i64; 8]>,
    pub(super) dictionary: Option<[i64; 8]>,
}

/// What a number is that is not in a header.
pub(super) const ABSENT: i64 = i64::MIN;

/// Reads a page header, and answers with it and the bytes that it takes.
pub(super) fn page_header(bytes: &[u8]) -> Option<(PageHeader, usize)> {
    let mut reader = Reader { rest: bytes };
    let mut header = PageHeader { kind: ABSENT, uncompressed: ABSENT, compressed: ABSENT, ..PageHeader::default() };
    let mut last = 0;
    while let Some((id, kind)) = reader.field(&mut last)? {
        match (id, kind) {
            (1, 5) => header.kind = reader.integer()?,
            (2, 5) => header.uncompressed = reader.integer()?,
            (3, 5) => header.compressed = reader.integer()?,
            (5, STRUCT) => header.data = Some(reader.numbers()?),
            (7, STRUCT) => header.dictionary = Some(reader.numbers()?),
            (8, STRUCT) => header.data_v2 = Some(reader.numbers()?),
            _ => reader.skip(kind, 1)?,
        }
    }
    Some((header, bytes.len() - reader.rest.len()))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.rest.split_off_first().copied()
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let value = self.unsigned()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// The id and type of the next field; none inside at the end of the structure.
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Some(None);
        }
        let step = i64::from(byte >> 4);
        let id = if step == 0 { self.integer()? } else { last.checked_add(step)? };
        *last = id;
        Some(Some((id, byte & 0x0f)))
    }

    /// The numbers and booleans of a structure, by the ids of their fields.
    fn numbers(&mut self) -> Option<[i64; 8]> {
        let (mut numbers, mut last) = ([ABSENT; 8], 0);
        while let Some((id, kind)) = self.field(&mut last)? {
            let value = match kind {
                TRUE => 1,
                FALSE => 0,
                4..=6 => self.integer()?,
                _ => {
                    self.skip(kind, 2)?;
                    continue;
                }
            };
            if let Some(number) = usize::try_from(id).ok().and_then(|id| numbers.get_mut(id)) {
                *number = value;
            }
        }
        Some(numbers)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        match kind {
            TRUE | FALSE => {}
            BYTE => drop(self.byte()?),
            4..=6 => drop(self.unsigned()?),
            DOUBLE => drop(self.rest.split_off(..8)?),
            BINARY => {
                let len = usize::try_from(self.unsigned()?).ok()?;
                self.rest.split_off(..len)?;
            }
            LIST | SET => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.unsigned()? } else { u64::from(byte >> 4) };
                // Booleans take no bytes for one reader and one for another, and no header has a list of them.
                if count > MAX_LIST || matches!(byte & 0x0f, TRUE | FALSE) {
                    return None;
                }
                for _ in 0..count {
                    self.skip(byte & 0x0f, depth + 1)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            // Maps and the rest: no header has them.
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_more_than_there_is_is_refused() {
        let cases: &[(&[u8], bool)] = &[
            (&[0], true),
            // Field 1, an integer.
            (&[0x15, 0x04, 0], true),
            (&[0x15], false),
            // A text of five bytes where there are two.
            (&[0x18, 5, 1, 2], false),
            // A list of two integers, and of a thousand millions of empty structures.
            (&[0x19, 0x25, 2, 4, 0], true),
            (&[0x19, 0xfc, 0x80, 0x94, 0xeb, 0xdc, 0x03, 0, 0, 0], false),
            // A list of booleans.
            (&[0x19, 0x21, 1, 1, 0], false),
            // A number of more than 64 bits.
            (&[0x16, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0], false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(check(bytes).is_some(), *expected, "{bytes:?}");
        }
        let mut deep = vec![0x1c; 100];
        deep.extend([0; 101]);
        assert_eq!(check(&deep), None);
    }

    #[test]
    fn a_page_header_is_read() {
        // A data page of 40 bytes, 20 compressed: ten values, plain, levels run-length encoded.
        let bytes = [0x15, 0, 0x15, 80, 0x15, 40, 0x2c, 0x15, 20, 0x15, 0, 0x15, 6, 0x15, 6, 0, 0, 99];
        let (header, len) = page_header(&bytes).unwrap();
        assert_eq!((header.kind, header.uncompressed, header.compressed, len), (0, 40, 20, 17));
        assert_eq!(header.data.unwrap()[1..5], [10, 0, 3, 3]);
    }
}
