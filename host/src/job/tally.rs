//! What a job has done so far, counted in plan order, and when that is too much failure. Pure.

/// Counts of the mini-batches that are committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Mini-batches committed, failed ones included.
    pub mini_batches: u64,
    /// Their files.
    pub files: u64,
    /// Files that gave no row.
    pub failed: u64,
    /// Rows.
    pub rows: u64,
}

impl Tally {
    /// Adds one mini-batch.
    pub fn add(&mut self, files: u64, failed: u64, rows: u64) {
        self.mini_batches += 1;
        self.files += files;
        self.failed += failed;
        self.rows += rows;
    }

    /// Files that gave rows.
    pub fn succeeded(&self) -> u64 {
        self.files.saturating_sub(self.failed)
    }

    /// Whether more files failed than the threshold allows; without one, any number may.
    pub fn is_past(&self, error_threshold: Option<u64>) -> bool {
        error_threshold.is_some_and(|allowed| self.failed > allowed)
    }
}

/// How many of a mini-batch's files failed: those that were named, or the rows that are missing.
///
/// More rows than files are fine: a file may give any number. Without named failures, each missing row is a failure,
/// as Azure counts it. A script that writes files of its own (`rows_count` false) returns rows or none as it likes.
pub fn failed_files(files: usize, named: usize, rows: usize, rows_count: bool) -> usize {
    if named > 0 || !rows_count { named.min(files) } else { files.saturating_sub(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_passed_above_it_and_never_without_one() {
        let mut tally = Tally::default();
        tally.add(10, 3, 7);
        assert!(!tally.is_past(Some(3)));
        assert!(tally.is_past(Some(2)));
        assert!(!tally.is_past(None));
        assert_eq!(tally.succeeded(), 7);
    }

    #[test]
    fn missing_rows_are_failures_unless_failures_are_named() {
        let cases = [
            // files, named, rows, expected
            (10, 0, 10, 0),
            (10, 0, 7, 3),
            (10, 2, 8, 2),
            // One file gave many rows, two failed by name.
            (10, 2, 300, 2),
            (10, 0, 300, 0),
            (10, 0, 0, 10),
            (10, 2, 0, 2),
        ];
        for (files, named, rows, expected) in cases {
            assert_eq!(failed_files(files, named, rows, true), expected, "{files} {named} {rows}");
        }
        assert_eq!(failed_files(10, 0, 0, false), 0);
    }
}
