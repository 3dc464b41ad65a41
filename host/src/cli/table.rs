//! Tables of text for people. What goes in: titles, and rows of as many cells. What comes out: lines on stdout.

use super::say;

/// Columns as wide as they need to be; those whose title begins with `<` hang to the left.
pub(crate) struct Table {
    is_left: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(titles: &[&str]) -> Self {
        let is_left = titles.iter().map(|title| title.starts_with('<')).collect();
        let first = titles.iter().map(|title| title.trim_start_matches('<').to_owned()).collect();
        Self { is_left, rows: vec![first] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let width = |at: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(at));
            // A column without any value is not shown.
            let is_empty = self.rows.iter().skip(1).all(|row| row.get(at).is_none_or(String::is_empty));
            if is_empty { 0 } else { cells.map(|cell| cell.chars().count()).max().unwrap_or(0) }
        };
        let widths: Vec<usize> = (0..self.is_left.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for ((cell, &is_left), &width) in
                row.iter().zip(&self.is_left).zip(&widths).filter(|(_, width)| **width > 0)
            {
                let cell = if is_left { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
                line.push_str("  ");
                line.push_str(&cell);
            }
            line.trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }

    pub(crate) fn print(&self) {
        self.lines().iter().for_each(|line| say!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_are_left_out() {
        let mut table = Table::new(&["<node", "µs", "nothing", "<bound"]);
        table.row(["a".to_owned(), "12.5".to_owned(), String::new(), "memory".to_owned()]);
        table.row(["longer".to_owned(), "3.0".to_owned(), String::new(), String::new()]);
        assert_eq!(table.lines(), ["  node      µs  bound", "  a       12.5  memory", "  longer   3.0"]);
    }
}
