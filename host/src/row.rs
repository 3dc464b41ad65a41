//! What a script hands back for one mini-batch: typed columns, and the files that gave no row.
//! What goes in is a guest's word; [`Rows::new`] checks it. Formats live in [`crate::output`].

/// The values of one column, all of one type.
#[derive(Clone, Debug, PartialEq)]
pub enum Cells {
    /// True or false.
    Booleans(Vec<bool>),
    /// Signed 64-bit integers.
    Integers(Vec<i64>),
    /// 64-bit floats.
    Numbers(Vec<f64>),
    /// Unicode text.
    Texts(Vec<String>),
}

impl Cells {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Cells::Booleans(v) => v.len(),
            Cells::Integers(v) => v.len(),
            Cells::Numbers(v) => v.len(),
            Cells::Texts(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type's name as messages print it.
    pub fn kind(&self) -> &'static str {
        match self {
            Cells::Booleans(_) => "booleans",
            Cells::Integers(_) => "integers",
            Cells::Numbers(_) => "numbers",
            Cells::Texts(_) => "texts",
        }
    }

    /// As many values of the same type that mean nothing: what stands in a column whose cells are empty.
    pub fn blank(&self, len: usize) -> Self {
        match self {
            Cells::Booleans(_) => Cells::Booleans(vec![false; len]),
            Cells::Integers(_) => Cells::Integers(vec![0; len]),
            Cells::Numbers(_) => Cells::Numbers(vec![0.0; len]),
            Cells::Texts(_) => Cells::Texts(vec![String::new(); len]),
        }
    }
}

/// One output column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Its name; unique among the columns, but may be empty.
    pub name: String,
    /// Its values, one per row.
    pub cells: Cells,
    /// The rows, ascending, whose cell is empty; their entry in `cells` is ignored.
    pub nulls: Vec<u32>,
}

impl Column {
    /// Whether all its cells are empty: its type is then whatever whoever made it had to say.
    pub fn is_blank(&self) -> bool {
        self.nulls.len() == self.cells.len()
    }
}

/// The rows of one mini-batch, column by column, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    columns: Vec<Column>,
    len: usize,
}

/// A file of the mini-batch that gave no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedFile {
    /// Its index in the mini-batch.
    pub index: u32,
    /// Why, in the script's or the host's words.
    pub reason: String,
}

/// Columns that cannot be rows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RowError {
    /// Columns of different length.
    #[error("column `{name}` has {given} cells, the first column has {expected}")]
    Length {
        /// The offending column.
        name: String,
        /// Its length.
        given: usize,
        /// The first column's length.
        expected: usize,
    },
    /// Two columns of one name.
    #[error("two columns are named `{0}`")]
    Duplicate(String),
    /// Null rows that are not ascending, or past the end.
    #[error("the nulls of column `{0}` are not ascending row numbers")]
    Nulls(String),
    /// More columns or rows than the limit.
    #[error("{given} {what} are more than the limit of {limit}")]
    TooMany {
        /// `columns` or `rows`.
        what: &'static str,
        /// What came.
        given: usize,
        /// What may come.
        limit: usize,
    },
}

/// More columns than any table has; a bound on what a guest can make the host loop over.
const MAX_COLUMNS: usize = 4096;

impl Rows {
    /// Checks columns that a guest returned.
    ///
    /// # Errors
    /// Says which column breaks which rule.
    pub fn new(columns: Vec<Column>, max_rows: usize) -> Result<Self, RowError> {
        if columns.len() > MAX_COLUMNS {
            return Err(RowError::TooMany { what: "columns", given: columns.len(), limit: MAX_COLUMNS });
        }
        let len = columns.first().map_or(0, |c| c.cells.len());
        if len > max_rows {
            return Err(RowError::TooMany { what: "rows", given: len, limit: max_rows });
        }
        let mut names = std::collections::HashSet::new();
        for column in &columns {
            if column.cells.len() != len {
                return Err(RowError::Length { name: column.name.clone(), given: column.cells.len(), expected: len });
            }
            if !names.insert(column.name.as_str()) {
                return Err(RowError::Duplicate(column.name.clone()));
            }
            let ascending = column.nulls.windows(2).all(|w| w[0] < w[1]);
            if !ascending || column.nulls.last().is_some_and(|&last| last as usize >= len) {
                return Err(RowError::Nulls(column.name.clone()));
            }
        }
        Ok(Self { columns, len })
    }

    /// The columns, in the script's order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, cells: Vec<i64>, nulls: Vec<u32>) -> Column {
        Column { name: name.into(), cells: Cells::Integers(cells), nulls }
    }

    #[test]
    fn columns_that_break_a_rule_are_refused() {
        let cases: Vec<(Vec<Column>, &str)> = vec![
            (vec![column("a", vec![1, 2], vec![]), column("b", vec![1], vec![])], "column `b` has 1 cells"),
            (vec![column("a", vec![1], vec![]), column("a", vec![1], vec![])], "two columns"),
            (vec![column("a", vec![1, 2], vec![1, 0])], "not ascending"),
            (vec![column("a", vec![1, 2], vec![2])], "not ascending"),
            (vec![column("a", vec![1, 2, 3, 4], vec![])], "more than the limit of 3"),
        ];
        for (columns, expected) in cases {
            let error = Rows::new(columns, 3).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(Rows::new(vec![], 3).unwrap().len(), 0);
    }
}
