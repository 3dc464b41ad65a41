//! A tensor message → a constant, its numbers as floats or integers. Refuses what lies elsewhere and what does not add up.

use std::sync::Arc;

use super::wire::Fields;
use super::{Constant, Numbers, ParseError, RANK};

/// Integers of all constants together. They describe shapes, so a few thousand are many; one byte of a file may become
/// eight in memory.
const INTEGERS: usize = 16 << 20;

/// Counts `more` integers of a file.
pub(super) fn count_integers(all: &mut usize, more: usize) -> Result<(), ParseError> {
    *all = all.saturating_add(more);
    if *all > INTEGERS {
        return Err(ParseError::Model(format!("its constants hold more than {INTEGERS} integers")));
    }
    Ok(())
}

/// The parts of a tensor message, before their lengths are compared.
#[derive(Default)]
struct RawTensor<'a> {
    name: String,
    shape: Vec<i64>,
    kind: i64,
    raw: Option<&'a [u8]>,
    floats: Vec<f32>,
    integers: Vec<i64>,
    external: bool,
}

/// Reads a tensor and its name; `integers` counts those of the whole file.
pub(super) fn read_tensor(bytes: &[u8], integers: &mut usize) -> Result<(String, Constant), ParseError> {
    let mut tensor = RawTensor::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => value.integers(&mut tensor.shape)?,
            2 => tensor.kind = value.integer()?,
            4 => value.floats(&mut tensor.floats)?,
            // 32-bit, 64-bit and unsigned 64-bit integers; 16-bit floats are among the first.
            5 | 7 | 11 => value.integers(&mut tensor.integers)?,
            8 => tensor.name = value.text()?,
            9 => tensor.raw = Some(value.bytes()?),
            10 => value.doubles(&mut tensor.floats)?,
            13 => tensor.external = true,
            14 => tensor.external |= value.integer()? != 0,
            _ => {}
        }
        if tensor.shape.len() > RANK || tensor.integers.len() > INTEGERS {
            return Err(ParseError::Model(format!("constant `{}` is too large", tensor.name)));
        }
    }
    let converted = convert(&mut tensor);
    let broken = |what: &str| ParseError::Model(format!("constant `{}` {what}", tensor.name));
    if tensor.external {
        return Err(broken("lies in another file, which is not read; save the model with its weights inside"));
    }
    let shape: Vec<usize> = tensor
        .shape
        .iter()
        .map(|&n| usize::try_from(n).ok())
        .collect::<Option<_>>()
        .ok_or_else(|| broken("has a negative size"))?;
    let expected = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).ok_or_else(|| broken("is too large"))?;
    let (numbers, given) = converted.ok_or_else(|| broken("has bytes to spare"))?;
    if let Numbers::Integers(list) = &numbers {
        count_integers(integers, list.len())?;
    }
    if let Some(given) = given
        && given != expected
    {
        return Err(broken(&format!("has shape {shape:?} and {given} numbers")));
    }
    Ok((tensor.name, Constant { shape, numbers }))
}

/// The numbers of a tensor and how many; `None` where the raw bytes do not divide into numbers, no count for a type
/// that is not read.
fn convert(tensor: &mut RawTensor) -> Option<(Numbers, Option<usize>)> {
    let numbers = match (tensor.kind, tensor.raw) {
        (1 | 11, None) => floats(std::mem::take(&mut tensor.floats)),
        (1, Some(raw)) => floats(chunks(raw, f32::from_le_bytes)?),
        #[expect(clippy::cast_possible_truncation, reason = "documented: 64-bit floats become 32-bit ones")]
        (11, Some(raw)) => floats(chunks(raw, |b| f64::from_le_bytes(b) as f32)?),
        (10, Some(raw)) => floats(chunks(raw, |b| from_half(u16::from_le_bytes(b)))?),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the low 16 bits are the number")]
        (10, None) => floats(tensor.integers.iter().map(|&bits| from_half(bits as u16)).collect()),
        (2 | 3 | 6 | 7 | 9, None) => integers(std::mem::take(&mut tensor.integers)),
        // Bytes become eight times as large, so they are counted before they are copied.
        (2 | 3 | 9, Some(raw)) if raw.len() > INTEGERS => return Some((Numbers::Unread(tensor.kind), None)),
        (2 | 9, Some(raw)) => integers(raw.iter().map(|&b| i64::from(b)).collect()),
        (3, Some(raw)) => integers(raw.iter().map(|&b| i64::from(b.cast_signed())).collect()),
        (6, Some(raw)) => integers(chunks(raw, |b| i64::from(i32::from_le_bytes(b)))?),
        (7, Some(raw)) => integers(chunks(raw, i64::from_le_bytes)?),
        (other, _) => return Some((Numbers::Unread(other), None)),
    };
    let given = match &numbers {
        Numbers::Floats(list) => Some(list.len()),
        Numbers::Integers(list) => Some(list.len()),
        Numbers::Unread(_) => None,
    };
    Some((numbers, given))
}

fn floats(list: Vec<f32>) -> Numbers {
    Numbers::Floats(Arc::new(list))
}

fn integers(list: Vec<i64>) -> Numbers {
    Numbers::Integers(Arc::new(list))
}

fn chunks<const N: usize, T>(raw: &[u8], number: impl Fn([u8; N]) -> T) -> Option<Vec<T>> {
    let (chunks, []) = raw.as_chunks::<N>() else { return None };
    Some(chunks.iter().map(|&chunk| number(chunk)).collect())
}

/// A 16-bit float (IEEE 754 binary16) as a 32-bit one; every one of them fits.
fn from_half(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (u32::from(bits >> 15) << 31, u32::from(bits >> 10) & 31, u32::from(bits) & 1023);
    match exponent {
        // Below the smallest normal number: the fraction counts in units of 2⁻²⁴.
        0 => {
            #[expect(clippy::cast_precision_loss, reason = "ten bits fit")]
            let magnitude = fraction as f32 * 2f32.powi(-24);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        _ => f32::from_bits(sign | ((exponent + 112) << 23) | (fraction << 13)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_become_the_same_floats() {
        // From IEEE 754-2019, table 3.5 of binary16, and its extremes.
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 6.103_515_6e-5),
            (0x0001, 5.960_464_5e-8),
        ];
        for (bits, want) in cases {
            assert_eq!(from_half(bits), want, "{bits:#06x}");
        }
        assert!(from_half(0x7e00).is_nan());
        assert_eq!(from_half(0xfc00), f32::NEG_INFINITY);
        assert!(from_half(0x8000).is_sign_negative());
    }
}
