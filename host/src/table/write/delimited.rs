//! Rows separated by a delimiter, with quotes where needed; by spaces and without a header, the format of Azure's batch
//! endpoints.
//!
//! Byte for byte what `pandas.DataFrame.to_csv(header=None, index=None, sep=" ")` writes, with one exception: a lone
//! carriage return is quoted, as Python's own writer does since 3.13.

use std::fmt::Write;

use super::cells::{Cell, cursors};
use crate::row::Rows;

/// Appends the rows as Azure's batch endpoints do.
pub(crate) fn azure(rows: &Rows, out: &mut Vec<u8>) {
    delimited(rows, b' ', out);
}

/// Appends the rows with this delimiter between cells.
pub(super) fn delimited(rows: &Rows, delimiter: u8, out: &mut Vec<u8>) {
    let mut columns = cursors(rows);
    let alone = columns.len() == 1;
    let mut text = String::new();
    for _ in 0..rows.len() {
        for (i, column) in columns.iter_mut().enumerate() {
            if i > 0 {
                out.push(delimiter);
            }
            text.clear();
            match column.next().flatten() {
                // Writing to a string cannot fail.
                None => {}
                Some(Cell::Boolean(value)) => text.push_str(if value { "True" } else { "False" }),
                Some(Cell::Integer(value)) => {
                    let _ = write!(text, "{value}");
                }
                Some(Cell::Number(value)) => number(value, &mut text),
                Some(Cell::Text(value)) => {
                    field(value, delimiter, alone, out);
                    continue;
                }
            }
            field(&text, delimiter, alone, out);
        }
        out.push(b'\n');
    }
}

/// Appends one field, in quotes if it would not read back without; an empty one that is `alone` on its line would
/// read as no line.
pub(crate) fn field(text: &str, delimiter: u8, alone: bool, out: &mut Vec<u8>) {
    let special = |b: u8| b == delimiter || matches!(b, b'"' | b'\n' | b'\r');
    if !(text.bytes().any(special) || alone && text.is_empty()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}

/// Appends a float as Python's `repr` writes it: the fewest digits that read back as the same number, in scientific
/// notation below 0.0001 and from 1e16; nothing for NaN.
fn number(value: f64, text: &mut String) {
    if value.is_nan() {
        return;
    }
    if value.is_infinite() {
        text.push_str(if value > 0.0 { "inf" } else { "-inf" });
        return;
    }
    let size = value.abs();
    // Writing to a string cannot fail.
    if size == 0.0 || (1e-4..1e16).contains(&size) {
        let start = text.len();
        let _ = write!(text, "{value}");
        if !text[start..].contains('.') {
            text.push_str(".0");
        }
        return;
    }
    let start = text.len();
    let _ = write!(text, "{value:e}");
    let exponent = start + text[start..].find('e').expect("`{:e}` writes an exponent; this is a bug") + 1;
    let digits = text.split_off(exponent);
    let (sign, digits) = digits.strip_prefix('-').map_or(('+', digits.as_str()), |rest| ('-', rest));
    let _ = write!(text, "{sign}{digits:0>2}");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::row::{Cells, Column};

    /// What pandas wrote: `tests/reference/pandas/make.py`.
    const FLOATS: &str = include_str!("../../../../tests/reference/pandas/floats.txt");
    const TABLES: &str = include_str!("../../../../tests/reference/pandas/tables.json");

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let mut count = 0;
        for line in FLOATS.lines() {
            let (bits, expected) = line.split_once(' ').unwrap();
            let mut text = String::new();
            number(f64::from_bits(u64::from_str_radix(bits, 16).unwrap()), &mut text);
            assert_eq!(text, expected, "{bits}");
            count += 1;
        }
        assert!(count > 300, "{count} floats in the reference file");
    }

    #[test]
    fn tables_are_written_as_pandas_writes_them() {
        let file: Value = serde_json::from_str(TABLES).unwrap();
        let tables = file["tables"].as_object().unwrap();
        assert!(tables.len() >= 7);
        for (name, table) in tables {
            let columns = table["columns"].as_array().unwrap().iter().map(column).collect();
            let rows = Rows::new(columns, 1000).unwrap();
            let (mut azure, mut csv) = (Vec::new(), Vec::new());
            super::azure(&rows, &mut azure);
            super::super::csv::write(&rows, true, &mut csv);
            assert_eq!(String::from_utf8(azure).unwrap(), table["azure"].as_str().unwrap(), "{name}");
            assert_eq!(String::from_utf8(csv).unwrap(), table["csv"].as_str().unwrap(), "{name}");
        }
    }

    fn column(of: &Value) -> Column {
        let values = of["values"].as_array().unwrap();
        let nulls: Vec<u32> = (0u32..).zip(values).filter(|(_, v)| v.is_null()).map(|(i, _)| i).collect();
        let number = |v: &Value| v.as_str().map_or(v.as_f64().unwrap_or(0.0), |text| text.parse().unwrap());
        let cells = match of["kind"].as_str().unwrap() {
            "booleans" => Cells::Booleans(values.iter().map(|v| v.as_bool().unwrap_or(true)).collect()),
            "integers" => Cells::Integers(values.iter().map(|v| v.as_i64().unwrap_or(77)).collect()),
            "numbers" => Cells::Numbers(values.iter().map(number).collect()),
            _ => Cells::Texts(values.iter().map(|v| v.as_str().unwrap_or("?").to_owned()).collect()),
        };
        Column { name: of["name"].as_str().unwrap().to_owned(), cells, nulls }
    }

    #[test]
    fn a_carriage_return_is_quoted() {
        let mut out = Vec::new();
        field("a\rb", b' ', false, &mut out);
        assert_eq!(out, b"\"a\rb\"");
    }
}
