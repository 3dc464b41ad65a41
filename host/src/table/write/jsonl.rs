//! One JSON object a line, its keys the columns' names.

use std::io::Write;

use super::cells::{Cell, cursors, names};
use crate::row::Rows;

/// Appends the rows. JSON has no number for NaN and the infinities: they are `null`, as empty cells are.
pub(crate) fn write(rows: &Rows, out: &mut Vec<u8>) {
    let keys: Vec<Vec<u8>> = names(rows.columns().iter().map(|c| c.name.as_str()))
        .iter()
        .map(|name| serde_json::to_vec(name).expect("any text is a JSON string; this is a bug"))
        .collect();
    let mut columns = cursors(rows);
    for _ in 0..rows.len() {
        for (i, (key, column)) in keys.iter().zip(&mut columns).enumerate() {
            out.push(if i == 0 { b'{' } else { b',' });
            out.extend_from_slice(key);
            out.push(b':');
            let written = match column.next().flatten() {
                None => out.write_all(b"null"),
                Some(Cell::Boolean(value)) => write!(out, "{value}"),
                Some(Cell::Integer(value)) => write!(out, "{value}"),
                // serde_json writes what is not finite as null.
                Some(Cell::Number(value)) => serde_json::to_writer(&mut *out, &value).map_err(Into::into),
                Some(Cell::Text(value)) => serde_json::to_writer(&mut *out, value).map_err(Into::into),
            };
            written.expect("writing to memory cannot fail; this is a bug");
        }
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Cells, Column};

    #[test]
    fn each_row_is_one_object() {
        let column = |name: &str, cells, nulls| Column { name: name.into(), cells, nulls };
        let rows = Rows::new(
            vec![
                column("a \"b\"", Cells::Texts(vec!["x\ny".into(), "é".into()]), vec![]),
                column("", Cells::Numbers(vec![f64::NAN, 1e-7]), vec![]),
                column("column1", Cells::Integers(vec![i64::MIN, 2]), vec![1]),
                column("b", Cells::Booleans(vec![true, false]), vec![]),
            ],
            9,
        );
        let mut out = Vec::new();
        write(&rows.unwrap(), &mut out);
        let expected = "{\"a \\\"b\\\"\":\"x\\ny\",\"column1_\":null,\"column1\":-9223372036854775808,\"b\":true}\n\
                        {\"a \\\"b\\\"\":\"é\",\"column1_\":1e-7,\"column1\":null,\"b\":false}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
