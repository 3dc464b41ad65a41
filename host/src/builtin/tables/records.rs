//! What rows hold of their records: the columns of a job's first table, which the later ones must have too.

use serde::{Deserialize, Serialize};

use crate::row::{Cells, Column};
use crate::table::{Batch, Field, Kind};

/// The columns of every row that come from its record, and the names that are left for others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Records {
    columns: Vec<(String, String)>,
}

impl Records {
    /// The columns of a first table.
    pub(in super::super) fn of(fields: &[Field]) -> Self {
        Self { columns: fields.iter().map(|f| (f.name.clone(), plural(f.kind).to_owned())).collect() }
    }

    /// The names of the columns, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A name for a column that is added to a record: its own, or with `_` after it where the record has that.
    pub(super) fn free(&self, name: &str) -> String {
        let mut free = name.to_owned();
        while self.columns.iter().any(|(taken, _)| *taken == free) {
            free.push('_');
        }
        free
    }

    /// Checks that a table has the same columns, in any order.
    ///
    /// # Errors
    /// In words that name the columns that differ.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), String> {
        let names = |list: Vec<&str>| {
            format!("`{}`", list.into_iter().take(super::MAX_LISTED).collect::<Vec<_>>().join("`, `"))
        };
        let has = |name: &str| fields.iter().any(|field| field.name == name);
        let lacking: Vec<_> = self.columns.iter().map(|(name, _)| name.as_str()).filter(|name| !has(name)).collect();
        if !lacking.is_empty() {
            return Err(format!("the table has no column {}, which the job's first table has", names(lacking)));
        }
        let knows = |name: &str| self.columns.iter().any(|(known, _)| known == name);
        let others: Vec<_> = fields.iter().map(|field| field.name.as_str()).filter(|name| !knows(name)).collect();
        if !others.is_empty() {
            return Err(format!("the table has the columns {}, which the job's first table has not", names(others)));
        }
        Ok(())
    }

    /// The columns of some records, in the order and of the kinds of the first table.
    ///
    /// # Errors
    /// If a column is of another kind, and not made of integers where the first was of numbers.
    pub(super) fn columns(&self, batch: &Batch) -> Result<Vec<Column>, String> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (name, kind) in &self.columns {
            let column = batch.column(name).map_err(|e| e.to_string())?;
            let cells = match &column.cells {
                cells if cells.kind() == kind => cells.clone(),
                _ if column.nulls.len() == batch.rows() => empty(kind, batch.rows()),
                Cells::Integers(whole) if kind == plural(Kind::Number) => exact(name, whole)?,
                cells => {
                    let text = "the table that comes first decides";
                    let has = cells.kind();
                    return Err(format!("column `{name}` holds {has}, and {kind} in the job's first table; {text}"));
                }
            };
            columns.push(Column { name: name.clone(), cells, nulls: column.nulls.clone() });
        }
        Ok(columns)
    }
}

/// A kind as messages and [`Cells::kind`] print it.
pub(super) fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "booleans",
        Kind::Integer => "integers",
        Kind::Number => "numbers",
        Kind::Text => "texts",
    }
}

/// Cells that are all empty, of a kind.
fn empty(kind: &str, rows: usize) -> Cells {
    match kind {
        "booleans" => Cells::Booleans(vec![false; rows]),
        "integers" => Cells::Integers(vec![0; rows]),
        "numbers" => Cells::Numbers(vec![0.0; rows]),
        _ => Cells::Texts(vec![String::new(); rows]),
    }
}

/// Integers as numbers, if none loses a digit.
fn exact(name: &str, whole: &[i64]) -> Result<Cells, String> {
    const MOST: u64 = 1 << 53;
    if let Some(large) = whole.iter().find(|n| n.unsigned_abs() > MOST) {
        return Err(format!(
            "column `{name}` holds {large}, which is no number without loss, as the job's first table has it"
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "larger ones were refused above")]
    Ok(Cells::Numbers(whole.iter().map(|&n| n as f64).collect()))
}
