//! Rows, one cell at a time, for the formats that write them so.

use std::borrow::Cow;

use crate::row::{Cells, Column, Rows};

/// One cell that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
}

/// Walks down one column.
pub(super) struct Cursor<'a> {
    column: &'a Column,
    row: usize,
    next_null: usize,
}

impl<'a> Iterator for Cursor<'a> {
    /// The cell; none inside is an empty one.
    type Item = Option<Cell<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row;
        self.row += 1;
        let cell = match &self.column.cells {
            Cells::Booleans(v) => Cell::Boolean(*v.get(row)?),
            Cells::Integers(v) => Cell::Integer(*v.get(row)?),
            Cells::Numbers(v) => Cell::Number(*v.get(row)?),
            Cells::Texts(v) => Cell::Text(v.get(row)?),
        };
        if self.column.nulls.get(self.next_null).is_some_and(|&null| null as usize == row) {
            self.next_null += 1;
            return Some(None);
        }
        Some(Some(cell))
    }
}

/// A cursor at the top of each column.
pub(super) fn cursors(rows: &Rows) -> Vec<Cursor<'_>> {
    rows.columns().iter().map(|column| Cursor { column, row: 0, next_null: 0 }).collect()
}

/// The columns' names; one without a name is `column` and its number, with underscores where that is taken.
pub(super) fn names<'a>(written: impl Iterator<Item = &'a str>) -> Vec<Cow<'a, str>> {
    let mut names: Vec<Cow<'a, str>> = written.map(Cow::Borrowed).collect();
    // Names are unique, so at most one is empty.
    if let Some(position) = names.iter().position(|name| name.is_empty()) {
        let mut name = format!("column{position}");
        while names.iter().any(|other| *other == name) {
            name.push('_');
        }
        names[position] = Cow::Owned(name);
    }
    names
}
