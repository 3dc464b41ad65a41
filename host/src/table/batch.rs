//! Some rows of a table, column by column.

use super::TableError;
use crate::row::{Cells, Column};
use crate::tensor::Tensor;

/// Some rows of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    columns: Vec<Column>,
    rows: usize,
}

impl Batch {
    /// Of columns of one length.
    pub(super) fn new(columns: Vec<Column>) -> Self {
        let rows = columns.first().map_or(0, |column| column.cells.len());
        Self { columns, rows }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All columns, in the table's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One column.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn column(&self, name: &str) -> Result<&Column, TableError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let mut known: String = self.columns.iter().take(20).map(|c| format!("`{}`, ", c.name)).collect();
            known.truncate(known.len().saturating_sub(2));
            if self.columns.len() > 20 {
                known.push_str(", …");
            }
            TableError::NoColumn { name: name.into(), known }
        })
    }

    /// What it takes in memory, in bytes.
    pub fn byte_len(&self) -> usize {
        self.columns.iter().map(byte_len).sum()
    }

    /// These columns as floats, rows × columns: booleans are 0 and 1, and an empty cell is NaN.
    ///
    /// # Errors
    /// If there is no such column, or it holds texts.
    pub fn tensor(&self, names: &[String]) -> Result<Tensor, TableError> {
        let columns = names.iter().map(|name| self.column(name)).collect::<Result<Vec<_>, _>>()?;
        let width = columns.len();
        let mut floats = vec![0.0; self.rows * width];
        for (at, column) in columns.into_iter().enumerate() {
            // The place of this column's cell in each row.
            let places = floats.iter_mut().skip(at).step_by(width.max(1));
            match &column.cells {
                Cells::Booleans(v) => places.zip(v).for_each(|(place, &cell)| *place = f32::from(u8::from(cell))),
                Cells::Integers(v) => places.zip(v).for_each(|(place, &cell)| *place = nearest_of_integer(cell)),
                Cells::Numbers(v) => places.zip(v).for_each(|(place, &cell)| *place = nearest(cell)),
                Cells::Texts(_) => return Err(TableError::Texts(column.name.clone())),
            }
            for &null in &column.nulls {
                floats[null as usize * width + at] = f32::NAN;
            }
        }
        Ok(Tensor::from_f32(vec![self.rows, width], floats).expect("the sizes agree; this is a bug"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "models take floats: the nearest one is what numpy gives, too")]
fn nearest_of_integer(cell: i64) -> f32 {
    cell as f32
}

#[expect(clippy::cast_possible_truncation, reason = "models take floats: the nearest one is what numpy gives, too")]
fn nearest(cell: f64) -> f32 {
    cell as f32
}

/// What a column takes in memory, in bytes.
fn byte_len(column: &Column) -> usize {
    let cells = match &column.cells {
        Cells::Booleans(v) => v.len(),
        Cells::Integers(v) => v.len() * size_of::<i64>(),
        Cells::Numbers(v) => v.len() * size_of::<f64>(),
        Cells::Texts(v) => v.iter().map(|text| size_of::<String>() + text.len()).sum(),
    };
    cells + column.nulls.len() * size_of::<u32>()
}
