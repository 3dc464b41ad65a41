//! Tables that the host reads: a file of the mini-batch, some rows at a time.

use crate::bindings::scorehost::script::tables as contract;
use crate::bindings::scorehost::script::types::Column;
use crate::{Result, Tensor};

/// A CSV or Parquet file of the mini-batch.
#[derive(Debug)]
pub struct Table(contract::Table);

impl Table {
    /// Reads what the columns are. The cells of a CSV file are all looked at.
    ///
    /// # Errors
    /// If the file is no table, or damaged.
    pub fn open(file: &str) -> Result<Self> {
        contract::Table::open(file).map(Self)
    }

    /// The columns: names and kinds.
    pub fn fields(&self) -> Vec<contract::Field> {
        self.0.fields()
    }

    /// The rows from where it was read to, at most `rows` at a time. After an error there are no more.
    pub fn batches(&self, rows: u32) -> impl Iterator<Item = Result<Batch>> {
        let mut is_done = false;
        std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let batch = self.0.next(rows).transpose();
            is_done = !matches!(batch, Some(Ok(_)));
            batch.map(|batch| batch.map(Batch))
        })
    }
}

/// Some rows of a table.
#[derive(Debug)]
pub struct Batch(contract::Batch);

impl Batch {
    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.0.rows()
    }

    /// Every column, in the table's order.
    ///
    /// # Errors
    /// If they are more than one call may give.
    pub fn columns(&self) -> Result<Vec<Column>> {
        self.0.columns()
    }

    /// One column.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn column(&self, name: &str) -> Result<Column> {
        self.0.column(name)
    }

    /// These columns as floats, rows × columns, made on the host: booleans are 0 and 1, an empty cell is NaN.
    ///
    /// # Errors
    /// If there is no such column, or it holds texts.
    pub fn tensor<S: AsRef<str>>(&self, columns: &[S]) -> Result<Tensor> {
        let columns: Vec<String> = columns.iter().map(|name| name.as_ref().to_owned()).collect();
        self.0.tensor(&columns)
    }
}
