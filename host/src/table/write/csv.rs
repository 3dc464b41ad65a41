//! Separated by commas, under a header: what spreadsheets and `pandas.read_csv` take as it is.

use super::cells::names;
use super::delimited;
use crate::row::Rows;

/// Appends the rows, and before them the header if they are the `first`.
pub(crate) fn write(rows: &Rows, first: bool, out: &mut Vec<u8>) {
    if first {
        let columns = rows.columns();
        for (i, name) in names(columns.iter().map(|c| c.name.as_str())).iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            delimited::field(name, b',', columns.len() == 1, out);
        }
        out.push(b'\n');
    }
    delimited::delimited(rows, b',', out);
}
