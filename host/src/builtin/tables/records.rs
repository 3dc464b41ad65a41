//! What rows hold of their records: the columns of a job's first table, which the later ones must have too.

use serde::{Deserialize, Serialize};

use crate::row::{Cells, Column};
use crate::table::{Batch, Field, Kind, Table};

/// The columns of a job's first table, while it is looked for what those are that have no value in it.
pub(in super::super) struct Learning {
    columns: Vec<(String, Option<Kind>)>,
}

impl Learning {
    /// What a first table tells.
    pub(in super::super) fn of(fields: &[Field]) -> Self {
        Self { columns: fields.iter().map(|field| (field.name.clone(), known(field))).collect() }
    }

    /// Takes from a later table what the columns are that are not known yet.
    pub(in super::super) fn admit(&mut self, fields: &[Field]) {
        for (name, kind) in self.columns.iter_mut().filter(|(_, kind)| kind.is_none()) {
            *kind = fields.iter().find(|field| field.name == *name).and_then(known);
        }
    }

    /// Whether every column is known.
    pub(in super::super) fn is_complete(&self) -> bool {
        self.columns.iter().all(|(_, kind)| kind.is_some())
    }

    /// The columns. Those that are not known yet are numbers where the model takes them, and else texts, which any cell
    /// can be.
    pub(in super::super) fn finish(self, is_taken: impl Fn(&str) -> bool) -> Records {
        let kind = |name: &str, kind: Option<Kind>| {
            plural(kind.unwrap_or(if is_taken(name) { Kind::Number } else { Kind::Text })).to_owned()
        };
        let columns = self.columns.into_iter().map(|(name, known)| {
            let kind = kind(&name, known);
            (name, kind)
        });
        Records { columns: columns.collect() }
    }
}

/// What a column is, unless it has no value that would tell.
fn known(field: &Field) -> Option<Kind> {
    (!field.is_blank).then_some(field.kind)
}

/// The columns of every row that come from its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Records {
    columns: Vec<(String, String)>,
}

impl Records {
    /// The names of the columns, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Has a table give as texts what its cells alone would make numbers or truth values, where the first had texts.
    pub(super) fn widen(&self, table: &mut Table) {
        for (name, _) in self.columns.iter().filter(|(_, kind)| kind == plural(Kind::Text)) {
            if let Some(index) = table.fields().iter().position(|field| field.name == *name) {
                table.read_as_texts(index);
            }
        }
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
                    let text = "the first table by name decides";
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
