//! Rows of plain values, or columns → the contract's typed columns.

use crate::bindings::scorehost::script::types::{Cells, Column, FailedFile, Output as Contract};
use crate::{Batch, Failure, Result, Table};

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Nothing.
    Empty,
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// Text.
    Text(String),
}

impl Cell {
    fn kind(&self) -> &'static str {
        match self {
            Cell::Empty => "nothing",
            Cell::Boolean(_) => "booleans",
            Cell::Integer(_) => "integers",
            Cell::Number(_) => "numbers",
            Cell::Text(_) => "texts",
        }
    }
}

macro_rules! cell_from {
    ($($type:ty => |$value:ident| $cell:expr;)*) => {$(
        impl From<$type> for Cell {
            fn from($value: $type) -> Self {
                $cell
            }
        }
    )*};
}

cell_from! {
    bool => |value| Cell::Boolean(value);
    i32 => |value| Cell::Integer(value.into());
    u32 => |value| Cell::Integer(value.into());
    i64 => |value| Cell::Integer(value);
    f64 => |value| Cell::Number(value);
    &str => |value| Cell::Text(value.to_owned());
    &String => |value| Cell::Text(value.clone());
    String => |value| Cell::Text(value);
}

impl From<f32> for Cell {
    /// The double whose shortest decimal form is the float's, so that 0.1 is written `0.1`, as numpy writes it.
    fn from(value: f32) -> Self {
        Cell::Number(value.to_string().parse().unwrap_or_else(|_| value.into()))
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Cell::Empty, Into::into)
    }
}

/// What can be a row: tuples of values, or a vector of cells.
pub trait Row {
    /// Its values, one per column.
    fn cells(self) -> Vec<Cell>;
}

impl Row for Vec<Cell> {
    fn cells(self) -> Vec<Cell> {
        self
    }
}

macro_rules! row_of {
    ($($name:ident)*) => {
        impl<$($name: Into<Cell>),*> Row for ($($name,)*) {
            #[expect(non_snake_case, reason = "the type parameters' names serve as the values'")]
            fn cells(self) -> Vec<Cell> {
                let ($($name,)*) = self;
                vec![$($name.into()),*]
            }
        }
    };
}

row_of!(A);
row_of!(A B);
row_of!(A B C);
row_of!(A B C D);
row_of!(A B C D E);
row_of!(A B C D E F);
row_of!(A B C D E F G);
row_of!(A B C D E F G H);

/// The rows of one mini-batch, and its failed files. Rows come one by one with [`Output::push`], or as columns with
/// [`Output::append`]; an output takes either the one or the other.
#[derive(Debug, Default)]
pub struct Output {
    names: Vec<String>,
    columns: Vec<Vec<Cell>>,
    appended: Vec<Column>,
    failed: Vec<FailedFile>,
}

impl Output {
    /// No rows yet, with these columns.
    pub fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { names: columns.map(str::to_owned).to_vec(), columns: vec![Vec::new(); N], ..Self::default() }
    }

    /// Calls `score` on each file; its row is kept, a permanent failure fails that file alone, and a transient one
    /// ends the mini-batch, so that the host tries it again.
    ///
    /// # Errors
    /// The first transient failure.
    pub fn by_file<'a, R: Row, const N: usize>(
        mini_batch: &'a [String],
        columns: [&str; N],
        score: impl FnMut(&'a str) -> Result<R>,
    ) -> Result<Self> {
        Self::by_file_ahead(mini_batch, columns, score, |_, row| Ok(row))
    }

    /// As [`Output::by_file`], in two steps: `start` is called on every file before the first `finish` reads what it
    /// gave. What a model computes goes on meanwhile, so that a script which scores file by file does not keep the
    /// device waiting.
    ///
    /// # Errors
    /// The first transient failure.
    pub fn by_file_ahead<'a, T, R: Row, const N: usize>(
        mini_batch: &'a [String],
        columns: [&str; N],
        mut start: impl FnMut(&'a str) -> Result<T>,
        mut finish: impl FnMut(&'a str, T) -> Result<R>,
    ) -> Result<Self> {
        let mut output = Self::new(columns);
        let started: Vec<_> = mini_batch.iter().map(|file| start(file)).collect();
        for ((index, file), started) in mini_batch.iter().enumerate().zip(started) {
            match started.and_then(|started| finish(file, started)) {
                Ok(row) => output.push(row),
                Err(Failure::Permanent(reason)) => output.fail(index, reason),
                Err(transient) => return Err(transient),
            }
        }
        Ok(output)
    }

    /// Reads each file as a table, `rows` rows at a time, and keeps the columns that `score` makes of them. A permanent
    /// failure fails that file alone, with all its rows; a transient one ends the mini-batch, so that the host tries it
    /// again.
    ///
    /// # Errors
    /// The first transient failure, and columns that do not fit those of the file before.
    pub fn by_table(
        mini_batch: &[String],
        rows: u32,
        mut score: impl FnMut(&Batch) -> Result<Vec<Column>>,
    ) -> Result<Self> {
        let mut output = Self::default();
        for (index, file) in mini_batch.iter().enumerate() {
            let parts = Table::open(file)
                .and_then(|table| table.batches(rows).map(|batch| score(&batch?)).collect::<Result<Vec<_>>>());
            match parts {
                Ok(parts) => parts.into_iter().try_for_each(|columns| output.append(columns))?,
                Err(Failure::Permanent(reason)) => output.fail(index, reason),
                Err(transient) => return Err(transient),
            }
        }
        Ok(output)
    }

    /// Adds rows as columns, with the names of those before. Integers among numbers become numbers, and a column without
    /// a value fits every type.
    ///
    /// # Errors
    /// If names, lengths or types do not fit.
    ///
    /// # Panics
    /// If the output was made with names, for [`Output::push`].
    pub fn append(&mut self, columns: Vec<Column>) -> Result<()> {
        assert!(self.names.is_empty(), "an output with named columns takes rows; begin with `Output::default()`");
        let len = columns.first().map_or(0, |column| column.cells.len());
        if let Some(other) = columns.iter().find(|column| column.cells.len() != len) {
            let name = &other.name;
            return Err(format!("column `{name}` has {} cells, the first column has {len}", other.cells.len()).into());
        }
        if self.appended.is_empty() {
            self.appended = columns;
            return Ok(());
        }
        let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        if names(&self.appended) != names(&columns) {
            let (now, before) = (names(&columns).join("`, `"), names(&self.appended).join("`, `"));
            return Err(format!("the columns are `{now}`, and were `{before}` before").into());
        }
        self.appended.iter_mut().zip(columns).try_for_each(|(column, more)| column.extend(more))
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it does not have one value per column.
    pub fn push(&mut self, row: impl Row) {
        let cells = row.cells();
        assert_eq!(cells.len(), self.columns.len(), "a row must have one value per column");
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
    }

    /// Notes that the file at `index` of the mini-batch gave no row.
    pub fn fail(&mut self, index: usize, reason: impl Into<String>) {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        self.failed.push(FailedFile { index, reason: reason.into() });
    }

    /// Notes each of `failed`, as [`crate::images::load`] returns them.
    pub fn fail_all(&mut self, failed: Vec<FailedFile>) {
        self.failed.extend(failed);
    }

    #[doc(hidden)]
    pub fn into_contract(self) -> Result<Contract> {
        if self.names.is_empty() {
            return Ok(Contract { columns: self.appended, failed: self.failed });
        }
        let columns = self.names.into_iter().zip(self.columns).map(|(name, cells)| column(name, cells));
        Ok(Contract { columns: columns.collect::<Result<_>>()?, failed: self.failed })
    }
}

/// One typed column: integers among numbers become numbers; other mixtures are refused.
fn column(name: String, cells: Vec<Cell>) -> Result<Column> {
    let kinds = |wanted: &[&str]| cells.iter().all(|c| matches!(c, Cell::Empty) || wanted.contains(&c.kind()));
    let nulls = (0u32..).zip(&cells).filter(|(_, c)| matches!(c, Cell::Empty)).map(|(i, _)| i).collect();
    let typed = if kinds(&["integers"]) {
        Cells::Integers(cells.iter().map(|c| if let Cell::Integer(v) = c { *v } else { 0 }).collect())
    } else if kinds(&["integers", "numbers"]) {
        Cells::Numbers(cells.iter().map(number).collect())
    } else if kinds(&["booleans"]) {
        Cells::Booleans(cells.iter().map(|c| matches!(c, Cell::Boolean(true))).collect())
    } else if kinds(&["texts"]) {
        Cells::Texts(cells.into_iter().map(|c| if let Cell::Text(v) = c { v } else { String::new() }).collect())
    } else {
        let mut found: Vec<_> = cells.iter().map(Cell::kind).collect();
        found.sort_unstable();
        found.dedup();
        return Err(format!("column `{name}` mixes {}", found.join(" and ")).into());
    };
    Ok(Column { name, cells: typed, nulls })
}

fn number(cell: &Cell) -> f64 {
    match cell {
        Cell::Integer(v) => nearest(*v),
        Cell::Number(v) => *v,
        _ => 0.0,
    }
}

impl Column {
    /// A column of values of one type; `None` is an empty cell.
    ///
    /// # Errors
    /// If the values are of types that do not go together.
    pub fn of<T: Into<Cell>>(name: &str, values: impl IntoIterator<Item = T>) -> Result<Self> {
        column(name.to_owned(), values.into_iter().map(Into::into).collect())
    }

    fn is_empty_throughout(&self) -> bool {
        self.nulls.len() == self.cells.len()
    }

    /// Adds the rows of a column of the same name.
    fn extend(&mut self, mut more: Column) -> Result<()> {
        if self.is_empty_throughout() {
            self.cells = more.cells.defaults(self.cells.len());
        } else if more.is_empty_throughout() {
            more.cells = self.cells.defaults(more.cells.len());
        }
        let rows = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        match (&mut self.cells, more.cells) {
            (Cells::Booleans(to), Cells::Booleans(more)) => to.extend(more),
            (Cells::Integers(to), Cells::Integers(more)) => to.extend(more),
            (Cells::Numbers(to), Cells::Numbers(more)) => to.extend(more),
            (Cells::Texts(to), Cells::Texts(more)) => to.extend(more),
            (Cells::Numbers(to), Cells::Integers(more)) => to.extend(more.into_iter().map(nearest)),
            (to @ Cells::Integers(_), Cells::Numbers(more)) => {
                let Cells::Integers(before) = to else { return Ok(()) };
                *to = Cells::Numbers(before.iter().copied().map(nearest).chain(more).collect());
            }
            (to, more) => {
                return Err(format!("column `{}` mixes {} and {}", self.name, to.kind(), more.kind()).into());
            }
        }
        self.nulls.extend(more.nulls.into_iter().map(|null| rows.saturating_add(null)));
        Ok(())
    }
}

impl Cells {
    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "a column without cells is nothing that a script asks for")]
    pub fn len(&self) -> usize {
        match self {
            Cells::Booleans(v) => v.len(),
            Cells::Integers(v) => v.len(),
            Cells::Numbers(v) => v.len(),
            Cells::Texts(v) => v.len(),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Cells::Booleans(_) => "booleans",
            Cells::Integers(_) => "integers",
            Cells::Numbers(_) => "numbers",
            Cells::Texts(_) => "texts",
        }
    }

    /// As many cells of this type, for rows that are empty.
    fn defaults(&self, len: usize) -> Self {
        match self {
            Cells::Booleans(_) => Cells::Booleans(vec![false; len]),
            Cells::Integers(_) => Cells::Integers(vec![0; len]),
            Cells::Numbers(_) => Cells::Numbers(vec![0.0; len]),
            Cells::Texts(_) => Cells::Texts(vec![String::new(); len]),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a column of numbers holds the nearest ones")]
fn nearest(value: i64) -> f64 {
    value as f64
}
