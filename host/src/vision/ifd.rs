//! The first directory of a TIFF structure, which EXIF uses too: where the value of a tag lies.
//! What goes in: bytes from the byte-order mark on. Nothing is trusted; what does not fit is absent.

/// The tag of a picture's orientation, 1 to 8.
const ORIENTATION: u16 = 0x0112;

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where its value, or the value's offset, lies.
    pub(super) at: usize,
    /// Whether numbers have their low byte first.
    little_endian: bool,
    /// The code of its values' type; 3 is a 16-bit number.
    kind: u16,
    count: u32,
}

/// The orientation that EXIF data give, if it is one of the eight.
pub(super) fn orientation(bytes: &[u8]) -> Option<u8> {
    let value = entry(bytes, ORIENTATION)?.short(bytes)?;
    u8::try_from(value).ok().filter(|n| (1..=8).contains(n))
}

/// The entry of `tag` in the first directory.
pub(super) fn entry(bytes: &[u8], tag: u16) -> Option<Entry> {
    let little_endian = match bytes.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let directory = usize::try_from(number(bytes, 4, 4, little_endian)?).ok()?;
    let count = usize::try_from(number(bytes, directory, 2, little_endian)?).ok()?;
    (0..count).find_map(|i| {
        let at = directory.checked_add(2 + i * 12)?;
        if number(bytes, at, 2, little_endian)? != u32::from(tag) {
            return None;
        }
        let kind = u16::try_from(number(bytes, at + 2, 2, little_endian)?).ok()?;
        Some(Entry { at: at + 8, little_endian, kind, count: number(bytes, at + 4, 4, little_endian)? })
    })
}

impl Entry {
    /// Its first value, if it is a 16-bit number in the entry itself.
    pub(super) fn short(&self, bytes: &[u8]) -> Option<u16> {
        (self.kind == 3 && self.count >= 1).then(|| number(bytes, self.at, 2, self.little_endian))??.try_into().ok()
    }

    /// All its values, if they are 16-bit numbers; at most `limit` of them.
    pub(super) fn shorts(&self, bytes: &[u8], limit: usize) -> Option<Vec<u16>> {
        let count = usize::try_from(self.count).ok().filter(|&n| n <= limit && self.kind == 3)?;
        let at = if count <= 2 { self.at } else { number(bytes, self.at, 4, self.little_endian)?.try_into().ok()? };
        (0..count).map(|i| number(bytes, at + i * 2, 2, self.little_endian)?.try_into().ok()).collect()
    }

    /// Writes `value` over its first value, a 16-bit number.
    pub(super) fn overwrite_short(&self, bytes: &mut [u8], value: u16) {
        let coded = if self.little_endian { value.to_le_bytes() } else { value.to_be_bytes() };
        if let Some(place) = bytes.get_mut(self.at..self.at + 2) {
            place.copy_from_slice(&coded);
        }
    }
}

/// The unsigned number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize, little_endian: bool) -> Option<u32> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    let join = |all: u32, &digit: &u8| all << 8 | u32::from(digit);
    Some(if little_endian { digits.iter().rev().fold(0, join) } else { digits.iter().fold(0, join) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one entry.
    fn directory(tag: u16, kind: u16, count: u32, value: u16) -> Vec<u8> {
        let mut bytes = b"MM\0*\0\0\0\x08\0\x01".to_vec();
        bytes.extend(tag.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(count.to_be_bytes());
        bytes.extend(value.to_be_bytes());
        bytes.extend([0; 6]);
        bytes
    }

    #[test]
    fn an_orientation_is_found_only_if_it_is_one() {
        assert_eq!(orientation(&directory(ORIENTATION, 3, 1, 6)), Some(6));
        for (bytes, why) in [
            (directory(ORIENTATION, 3, 1, 9), "there are eight"),
            (directory(ORIENTATION, 3, 1, 0), "they begin at 1"),
            (directory(ORIENTATION, 4, 1, 6), "another type"),
            (directory(ORIENTATION, 3, 0, 6), "no value"),
            (directory(0x0113, 3, 1, 6), "another tag"),
            (b"II*\0\xFF\xFF\xFF\xFF".to_vec(), "an offset outside"),
            (b"II*\0\x08\0\0\0\xFF\xFF".to_vec(), "more entries than bytes"),
            (Vec::new(), "nothing"),
        ] {
            assert_eq!(orientation(&bytes), None, "{why}");
        }
    }
}
