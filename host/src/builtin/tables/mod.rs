//! Tables for a model: its inputs → which columns of a record go into them.
//!
//! A model takes a record as one input of several numbers, or as one input for each column, of its name. Which columns
//! make up the one input is said by MLflow's signature or by the tag `table_columns`; where neither does, a table must
//! have as many columns as the model takes numbers.

mod records;
mod score;

pub(super) use records::{Learning, Records};
pub(super) use score::score;

use super::BuiltInError;
use super::tags::Tags;
use crate::infer::{Port, element_name};
use crate::row::{Cells, Column};
use crate::table::{Batch, Field, Kind};
use crate::tensor::{Element, Tensor};

/// What the names of table files end with.
#[cfg(feature = "parquet")]
pub(super) const ENDINGS: &[&str] = &["csv", "tsv", "parquet", "pqt"];
#[cfg(not(feature = "parquet"))]
pub(super) const ENDINGS: &[&str] = &["csv", "tsv"];

/// Records that are read and given to the model at once: enough that the cost of a batch is nothing beside theirs.
const BATCH_ROWS: usize = 4096;

/// How a model's records are made.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    inputs: Inputs,
    /// The size of the inputs' first dimension, where it is fixed.
    fixed: Option<usize>,
    rows: usize,
    /// What the rows hold of the records; known once a job's first table is.
    pub(super) records: Option<Records>,
}

#[derive(Clone, Debug)]
enum Inputs {
    /// Numbers side by side, and the columns that they are, in their order; any without names.
    Together(Port, Option<Vec<String>>),
    /// One column each, of the input's name.
    Apart(Vec<Port>),
}

impl Tables {
    /// What `inputs` ask for; none if they are not made of records.
    ///
    /// # Errors
    /// If the columns that are named are not as many as the model takes.
    pub(super) fn new(inputs: &[Port], columns: Option<&[String]>, tags: &Tags) -> Result<Option<Self>, BuiltInError> {
        let is_record = |port: &Port| matches!(port.shape.len(), 1 | 2) && port.element != Element::U8;
        if inputs.is_empty() || !inputs.iter().all(is_record) {
            return Ok(None);
        }
        let fixed = super::fixed_rows(&inputs[0])?;
        let rows = fixed.unwrap_or_else(|| tags.batch.unwrap_or(BATCH_ROWS));
        let made = |inputs| Ok(Some(Self { inputs, fixed, rows, records: None }));
        let refuse = |names: &[String], allowed: String| {
            Err(BuiltInError::Tag { key: "table_columns".into(), value: names.join(", "), allowed })
        };
        if let [only] = inputs {
            // One number is a column of the input's own name, as each is where there are several inputs.
            let own = (width(only) == Some(1)).then(|| std::slice::from_ref(&only.name));
            if let (Some(tag), Some(signature)) = (&tags.columns, columns)
                && tag != signature
            {
                return refuse(tag, format!("what the model's signature says, `{}`", signature.join(", ")));
            }
            let named = columns.or(tags.columns.as_deref()).or(own);
            if let (Some(names), Some(width)) = (named, width(only))
                && names.len() != width
            {
                return refuse(names, format!("{width} columns, as many as the model takes numbers"));
            }
            return made(Inputs::Together(only.clone(), named.map(<[String]>::to_vec)));
        }
        if inputs.iter().all(|port| width(port) == Some(1) && port.shape[0] == inputs[0].shape[0]) {
            if let Some(tag) = &tags.columns {
                return refuse(tag, "nothing, since each input takes the column of its own name".into());
            }
            return made(Inputs::Apart(inputs.to_vec()));
        }
        Ok(None)
    }

    /// What is scored, in words.
    pub(super) fn describe(&self) -> String {
        let names = |all: &mut dyn Iterator<Item = &str>| all.collect::<Vec<_>>().join("`, `");
        match &self.inputs {
            Inputs::Together(port, Some(columns)) => {
                let columns = names(&mut columns.iter().map(String::as_str));
                format!("tables: the columns `{columns}`, as {}", element_name(port.element))
            }
            Inputs::Together(port, None) => {
                let count = width(port).map_or_else(|| "all".to_owned(), |n| n.to_string());
                format!("tables: {count} columns in their order, as {}", element_name(port.element))
            }
            Inputs::Apart(ports) => {
                let text = |port: &Port| format!("`{}` as {}", port.name, element_name(port.element));
                format!("tables: the columns {}", ports.iter().map(text).collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Whether the model takes the column of this name.
    pub(super) fn takes(&self, column: &str) -> bool {
        match &self.inputs {
            Inputs::Together(_, Some(names)) => names.iter().any(|name| name == column),
            Inputs::Together(_, None) => true,
            Inputs::Apart(ports) => ports.iter().any(|port| port.name == column),
        }
    }

    /// Checks that a table has the columns that the model takes.
    ///
    /// # Errors
    /// In words that name them, and those that it has.
    pub(super) fn check(&self, fields: &[Field]) -> Result<(), String> {
        let wanted: Vec<(&str, Element)> = match &self.inputs {
            Inputs::Together(port, Some(names)) => names.iter().map(|name| (name.as_str(), port.element)).collect(),
            Inputs::Together(port, None) => {
                if let Some(width) = width(port)
                    && width != fields.len()
                {
                    let text = "the tag `table_columns: a, b` or an MLflow signature says which";
                    return Err(format!("the model takes {width} columns, and the table has {}; {text}", list(fields)));
                }
                fields.iter().map(|field| (field.name.as_str(), port.element)).collect()
            }
            Inputs::Apart(ports) => ports.iter().map(|port| (port.name.as_str(), port.element)).collect(),
        };
        let find = |name: &str| fields.iter().find(|field| field.name == name);
        let lacking: Vec<_> = wanted.iter().map(|(name, _)| *name).filter(|name| find(name).is_none()).collect();
        if !lacking.is_empty() {
            let lacking = lacking.iter().take(MAX_LISTED).copied().collect::<Vec<_>>().join("`, `");
            return Err(format!("the table has no column `{lacking}`, which the model takes; it has {}", list(fields)));
        }
        for (name, element) in wanted {
            let Some(field) = find(name) else { continue };
            // A column without any value counts as numbers: whether those are whole is asked of each batch.
            if field.kind == Kind::Text {
                return Err(format!("column `{name}` holds texts, and the model takes {}", element_name(element)));
            }
        }
        Ok(())
    }

    /// The model's inputs for some records, filled up to the rows that it must be given. `before` is how many records of
    /// the table came before them.
    ///
    /// # Errors
    /// If a whole number is missing or is none.
    fn inputs(&self, batch: &Batch, records: &Records, before: usize) -> Result<Vec<Tensor>, String> {
        let tensors = match &self.inputs {
            Inputs::Together(port, Some(names)) => vec![tensor(batch, names, port, before)?],
            // In the order of the job's first table, whatever this one's is.
            Inputs::Together(port, None) => vec![tensor(batch, &records.names(), port, before)?],
            Inputs::Apart(ports) => {
                let one = |port: &Port| tensor(batch, std::slice::from_ref(&port.name), port, before);
                ports.iter().map(one).collect::<Result<_, _>>()?
            }
        };
        let Some(fixed) = self.fixed else { return Ok(tensors) };
        tensors.into_iter().map(|tensor| filled(tensor, fixed)).collect()
    }
}

/// The most columns that a message names.
const MAX_LISTED: usize = 20;

/// The columns of a table, in words.
fn list(fields: &[Field]) -> String {
    let names: Vec<_> = fields.iter().take(MAX_LISTED).map(|field| field.name.as_str()).collect();
    let more =
        if fields.len() > MAX_LISTED { format!(" and {} more", fields.len() - MAX_LISTED) } else { String::new() };
    format!("{}, `{}`{more}", fields.len(), names.join("`, `"))
}

/// How many numbers of a record an input takes; none where that is open.
fn width(port: &Port) -> Option<usize> {
    port.shape.get(1).copied().unwrap_or(Some(1))
}

/// These columns as an input.
fn tensor(batch: &Batch, names: &[String], port: &Port, before: usize) -> Result<Tensor, String> {
    let shape = if port.shape.len() == 1 { vec![batch.rows()] } else { vec![batch.rows(), names.len()] };
    if port.element == Element::F32 {
        let tensor = batch.tensor(names).map_err(|e| e.to_string())?;
        return Tensor::from_f32(shape, tensor.to_f32()).map_err(|e| e.to_string());
    }
    let mut numbers = vec![0; batch.rows() * names.len()];
    for (at, name) in names.iter().enumerate() {
        let column = batch.column(name).map_err(|e| e.to_string())?;
        fill(&mut numbers, at, names.len(), column).map_err(|e| e.to_text(name, before))?;
    }
    Tensor::from_i64(shape, numbers).map_err(|e| e.to_string())
}

/// Puts a column of whole numbers or truth values in its place of each row.
fn fill(numbers: &mut [i64], at: usize, width: usize, column: &Column) -> Result<(), NotWhole> {
    if let Some(&null) = column.nulls.first() {
        return Err(NotWhole::Empty(null));
    }
    let places = numbers.iter_mut().skip(at).step_by(width.max(1));
    match &column.cells {
        Cells::Integers(v) => places.zip(v).for_each(|(place, &cell)| *place = cell),
        Cells::Booleans(v) => places.zip(v).for_each(|(place, &cell)| *place = i64::from(cell)),
        other => return Err(NotWhole::Kind(other.kind())),
    }
    Ok(())
}

/// Why a column is not of whole numbers: an empty cell, by its row of the batch, or another kind.
enum NotWhole {
    Empty(u32),
    Kind(&'static str),
}

impl NotWhole {
    fn to_text(&self, name: &str, before: usize) -> String {
        match self {
            NotWhole::Empty(row) => {
                let row = before.saturating_add(*row as usize).saturating_add(1);
                format!("row {row}, column `{name}`: it is empty, and the model takes integers")
            }
            NotWhole::Kind(kind) => format!("column `{name}` holds {kind}, and the model takes integers"),
        }
    }
}

/// As many rows as a model must be given, the last repeated; what comes of those is left out.
fn filled(tensor: Tensor, rows: usize) -> Result<Tensor, String> {
    let have = tensor.rows();
    if have == rows {
        return Ok(tensor);
    }
    let last = tensor.slice(have.saturating_sub(1), 1).map_err(|e| e.to_string())?;
    let parts: Vec<_> = std::iter::once(tensor).chain(std::iter::repeat_n(last, rows.saturating_sub(have))).collect();
    Tensor::concatenate(&parts).map_err(|e| e.to_string())
}
