//! What a cell of text is: nothing, a boolean, an integer, a number, or text; and what a column of them is.

use super::Kind;

/// What one cell is, before it is known what its column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing, or a word for it: fits every column, and in one of texts the word is a text.
    Missing,
    Boolean,
    Integer,
    Number,
    Text,
}

/// The class of a cell. Spaces around it do not matter, as they do not to pandas.
pub(super) fn class_of(cell: &[u8]) -> Class {
    let cell = cell.trim_ascii();
    let Some(&first) = cell.first() else { return Class::Missing };
    match first {
        b'0'..=b'9' | b'-' | b'.' => match number_class(cell) {
            Class::Text if is_missing(cell) => Class::Missing,
            class => class,
        },
        b't' | b'T' | b'f' | b'F' if boolean(cell).is_some() => Class::Boolean,
        b'i' | b'I' if is_infinity(cell) => Class::Number,
        b'#' | b'<' | b'N' | b'n' if is_missing(cell) => Class::Missing,
        _ => Class::Text,
    }
}

/// The words that `pandas.read_csv` takes for nothing.
pub(super) fn is_missing(cell: &[u8]) -> bool {
    matches!(
        cell,
        b"" | b"#N/A"
            | b"#N/A N/A"
            | b"#NA"
            | b"-1.#IND"
            | b"-1.#QNAN"
            | b"-NaN"
            | b"-nan"
            | b"1.#IND"
            | b"1.#QNAN"
            | b"<NA>"
            | b"N/A"
            | b"NA"
            | b"NULL"
            | b"NaN"
            | b"None"
            | b"n/a"
            | b"nan"
            | b"null"
    )
}

pub(super) fn boolean(cell: &[u8]) -> Option<bool> {
    match cell {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

fn is_infinity(cell: &[u8]) -> bool {
    cell.eq_ignore_ascii_case(b"inf") || cell.eq_ignore_ascii_case(b"infinity")
}

/// The integer, if the cell is one as it would be written again: `007` and `+7` are texts, and `-0` is a number.
pub(super) fn integer(cell: &[u8]) -> Option<i64> {
    let (is_negative, unsigned) = cell.strip_prefix(b"-").map_or((false, cell), |rest| (true, rest));
    let is_canonical = match unsigned {
        [b'0'] => !is_negative,
        [b'1'..=b'9', ..] => unsigned.len() <= 19 && digits(unsigned) == unsigned.len(),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    // Nineteen digits fit 64 bits without a sign.
    let value = unsigned.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit & 0x0f));
    if is_negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// How many digits `text` begins with.
fn digits(text: &[u8]) -> usize {
    let (words, _) = text.as_chunks::<8>();
    let count = 8 * words.iter().take_while(|word| are_digits(u64::from_le_bytes(**word))).count();
    count + text[count..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether eight bytes are digits: the upper half of each is 3, and is still when 6 is added, which only what follows `9`
/// takes further.
const fn are_digits(word: u64) -> bool {
    const UPPER: u64 = u64::from_le_bytes([0xf0; 8]);
    let added = word.wrapping_add(u64::from_le_bytes([6; 8]));
    word & UPPER | (added & UPPER) >> 4 == u64::from_le_bytes([0x33; 8])
}

/// Integer, number or text: digits without needless zeros before them, perhaps a fraction and an exponent. An integer
/// that does not fit 64 bits is text, since as a number it would lose digits.
fn number_class(cell: &[u8]) -> Class {
    let unsigned = cell.strip_prefix(b"-").unwrap_or(cell);
    let whole = digits(unsigned);
    if whole == 0 && is_infinity(unsigned) {
        return Class::Number;
    }
    let mut rest = &unsigned[whole..];
    if rest.is_empty() {
        // Most need not be worked out, since so few digits fit in any case.
        if whole <= 18 && matches!(unsigned, [b'1'..=b'9', ..]) {
            return Class::Integer;
        }
        return match integer(cell) {
            Some(_) => Class::Integer,
            None if cell == b"-0" => Class::Number,
            None => Class::Text,
        };
    }
    if whole > 1 && unsigned[0] == b'0' {
        return Class::Text;
    }
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix(b".") {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return Class::Text;
    }
    if let [b'e' | b'E', after @ ..] = rest {
        let after = after.strip_prefix(b"-").or_else(|| after.strip_prefix(b"+")).unwrap_or(after);
        let exponent = digits(after);
        if exponent == 0 {
            return Class::Text;
        }
        rest = &after[exponent..];
    }
    if rest.is_empty() { Class::Number } else { Class::Text }
}

/// The narrowest kind that the cells so far fit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guess(Option<Kind>);

impl Guess {
    /// Whether it can still change.
    pub(super) fn is_text(self) -> bool {
        self.0 == Some(Kind::Text)
    }

    /// Whether no cell so far has a value.
    pub(super) fn is_blank(self) -> bool {
        self.0.is_none()
    }

    pub(super) fn admit(&mut self, class: Class) {
        self.0 = match (self.0, class) {
            (known, Class::Missing) => known,
            (None | Some(Kind::Boolean), Class::Boolean) => Some(Kind::Boolean),
            (None | Some(Kind::Integer), Class::Integer) => Some(Kind::Integer),
            (None | Some(Kind::Integer | Kind::Number), Class::Number) => Some(Kind::Number),
            (Some(Kind::Number), Class::Integer) => Some(Kind::Number),
            _ => Some(Kind::Text),
        };
    }

    /// What the column is; one without a value is of numbers, as with pandas, so that it can be part of a tensor.
    pub(super) fn kind(self) -> Kind {
        self.0.unwrap_or(Kind::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_told_apart() {
        let cases: &[(&str, Class)] = &[
            ("", Class::Missing),
            ("NA", Class::Missing),
            ("-nan", Class::Missing),
            ("1.#QNAN", Class::Missing),
            ("nano", Class::Text),
            ("true", Class::Boolean),
            ("False", Class::Boolean),
            ("tRue", Class::Text),
            ("0", Class::Integer),
            ("-12", Class::Integer),
            (" 12 ", Class::Integer),
            ("9223372036854775807", Class::Integer),
            ("-9223372036854775808", Class::Integer),
            // One more than 64 bits hold: digits would be lost.
            ("9223372036854775808", Class::Text),
            // Postal codes and telephone numbers.
            ("007", Class::Text),
            ("00.5", Class::Text),
            ("+49", Class::Text),
            ("-0", Class::Number),
            ("0.5", Class::Number),
            (".5", Class::Number),
            ("5.", Class::Number),
            ("-1e-9", Class::Number),
            ("1E+400", Class::Number),
            ("inf", Class::Number),
            ("-Infinity", Class::Number),
            ("1e", Class::Text),
            (".", Class::Text),
            ("-", Class::Text),
            ("1_000", Class::Text),
            ("0x10", Class::Text),
            ("1.2.3", Class::Text),
            ("2024-01-31", Class::Text),
            ("é", Class::Text),
        ];
        for (cell, expected) in cases {
            assert_eq!(class_of(cell.as_bytes()), *expected, "`{cell}`");
        }
    }

    #[test]
    fn digits_are_counted_as_far_as_they_go() {
        for at in 0..20 {
            for other in [b'/', b':', b' ', b'p', 0x00, 0xb5, 0xfa, 0xff] {
                let mut text = *b"12345678901234567890";
                text[at] = other;
                assert_eq!(digits(&text), at, "{text:?}");
            }
        }
        assert_eq!((digits(b"12345678"), digits(b"0123456789")), (8, 10));
    }

    #[test]
    fn a_number_of_this_grammar_is_one_that_parses() {
        for cell in ["0.5", ".5", "5.", "-1e-9", "1E+400", "inf", "-Infinity", "-0", "1.5e05"] {
            assert_eq!(class_of(cell.as_bytes()), Class::Number);
            assert!(cell.parse::<f64>().is_ok(), "{cell}");
        }
    }

    #[test]
    fn a_column_is_of_the_narrowest_kind() {
        use Class::{Boolean, Integer, Missing, Number, Text};
        let cases: &[(&[Class], Kind)] = &[
            (&[], Kind::Number),
            (&[Missing], Kind::Number),
            (&[Missing, Boolean], Kind::Boolean),
            (&[Integer, Missing], Kind::Integer),
            (&[Integer, Number, Integer], Kind::Number),
            (&[Boolean, Integer], Kind::Text),
            (&[Number, Text, Number], Kind::Text),
        ];
        for (classes, expected) in cases {
            let mut guess = Guess::default();
            classes.iter().for_each(|&class| guess.admit(class));
            assert_eq!(guess.kind(), *expected, "{classes:?}");
        }
    }
}
