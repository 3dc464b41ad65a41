//! The wire format of protocol buffers, read in place: bytes in, numbered fields out.
//! Knows nothing of ONNX. Nothing is allocated, and every length is checked before it is used.

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    /// A field goes beyond the end of its message.
    #[error("the file is cut off")]
    CutOff,
    /// No encoder writes this.
    #[error("the bytes are not a protocol buffer")]
    Garbage,
    /// A field has another type than ONNX gives it.
    #[error("a field has the wrong type")]
    Type,
    /// A text is not UTF-8.
    #[error("a name is not UTF-8")]
    Text,
}

/// One field's value, as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of one message, first to last.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field's number and value; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = varint(&mut self.rest)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(self.fixed()?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| WireError::CutOff)?;
                let (bytes, rest) = self.rest.split_at_checked(length).ok_or(WireError::CutOff)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.fixed()?),
            _ => return Err(WireError::Garbage),
        };
        match key >> 3 {
            0 => Err(WireError::Garbage),
            number => Ok(Some((number, value))),
        }
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(WireError::CutOff)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(WireError::Type),
        }
    }

    pub(super) fn text(self) -> Result<String, WireError> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| WireError::Text)
    }

    pub(super) fn integer(self) -> Result<i64, WireError> {
        match self {
            Value::Varint(v) => Ok(v.cast_signed()),
            _ => Err(WireError::Type),
        }
    }

    pub(super) fn float(self) -> Result<f32, WireError> {
        match self {
            Value::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(WireError::Type),
        }
    }

    /// Adds the integers of a repeated field, packed or not, to `all`.
    pub(super) fn integers(self, all: &mut Vec<i64>) -> Result<(), WireError> {
        match self {
            Value::Varint(v) => all.push(v.cast_signed()),
            Value::Bytes(mut rest) => {
                while !rest.is_empty() {
                    all.push(varint(&mut rest)?.cast_signed());
                }
            }
            _ => return Err(WireError::Type),
        }
        Ok(())
    }

    /// Adds the 32-bit floats of a repeated field, packed or not, to `all`.
    pub(super) fn floats(self, all: &mut Vec<f32>) -> Result<(), WireError> {
        match self {
            Value::Fixed32(bytes) => all.push(f32::from_le_bytes(bytes)),
            Value::Bytes(bytes) => {
                let (chunks, []) = bytes.as_chunks::<4>() else { return Err(WireError::CutOff) };
                all.extend(chunks.iter().map(|&c| f32::from_le_bytes(c)));
            }
            _ => return Err(WireError::Type),
        }
        Ok(())
    }

    /// Adds the 64-bit floats of a repeated field, packed or not, to `all`, rounded to 32 bits.
    pub(super) fn doubles(self, all: &mut Vec<f32>) -> Result<(), WireError> {
        #[expect(clippy::cast_possible_truncation, reason = "documented: rounded")]
        let narrow = |bytes: [u8; 8]| f64::from_le_bytes(bytes) as f32;
        match self {
            Value::Fixed64(bytes) => all.push(narrow(bytes)),
            Value::Bytes(bytes) => {
                let (chunks, []) = bytes.as_chunks::<8>() else { return Err(WireError::CutOff) };
                all.extend(chunks.iter().map(|&c| narrow(c)));
            }
            _ => return Err(WireError::Type),
        }
        Ok(())
    }
}

/// Takes a number of up to ten bytes, seven bits in each, lowest first.
fn varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0u64;
    for (i, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(i).unwrap_or(u32::MAX)).unwrap_or(0);
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { WireError::CutOff } else { WireError::Garbage })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_or_refused() {
        let check = |why: &str, bytes: &[u8], want| assert_eq!(Fields::of(bytes).next(), want, "{why}");
        let (cut, garbage) = (Err(WireError::CutOff), Err(WireError::Garbage));
        check("end", &[], Ok(None));
        check("150, as in protobuf's own guide", &[8, 0x96, 1], Ok(Some((1, Value::Varint(150)))));
        let minus_one = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        check("-1 takes ten bytes", &minus_one, Ok(Some((1, Value::Varint(u64::MAX)))));
        check("bytes", &[0x12, 2, b'h', b'i'], Ok(Some((2, Value::Bytes(b"hi")))));
        check("length beyond the end", &[0x12, 3, b'h', b'i'], cut);
        check("a huge length", &[0x12, 255, 255, 255, 255, 255, 255, 255, 255, 127], cut);
        check("a varint that stops half-way", &[8, 255], cut);
        check("a varint without an end", &[[8].as_slice(), &[255; 11]].concat(), garbage);
        check("a group, which nobody writes any more", &[0x0b], garbage);
        check("field number 0", &[0, 0], garbage);
    }
}
