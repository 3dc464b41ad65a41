//! Reading a table of ten columns: a million rows, or as many as ROWS says.
//!
//! `cargo bench --bench tables`; the file stays in the folder of the build, so that pandas can be timed with it, too.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use scorehost::table::Table;

fn main() {
    divan::main();
}

fn rows() -> usize {
    std::env::var("ROWS").map_or(1_000_000, |rows| rows.parse().expect("ROWS is a number"))
}

/// Three columns of integers, five of numbers, one of texts, one of booleans.
fn csv() -> PathBuf {
    let path = std::env::temp_dir().join(format!("scorehost-bench-{}.csv", rows()));
    if path.exists() {
        return path;
    }
    let mut random = StdRng::seed_from_u64(1);
    let mut text = String::from("id,age,count,a,b,c,d,e,name,flag\n");
    for id in 0..rows() {
        let (age, count, flag) = (random.random_range(18..90), random.random::<u32>(), random.random::<bool>());
        let _ = write!(text, "{id},{age},{count}");
        for _ in 0..5 {
            let _ = write!(text, ",{}", random.random::<f64>());
        }
        let _ = writeln!(text, ",person {id},{flag}");
    }
    std::fs::write(&path, text).expect("the file can be written");
    path
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn read_csv(bencher: Bencher) {
    let path = csv();
    let bytes = std::fs::metadata(&path).expect("it was just written").len();
    let counters = (ItemsCount::new(rows()), BytesCount::new(bytes));
    bencher.counter(counters.0).counter(counters.1).bench(|| {
        let mut table = Table::open(&path, "a.csv", &Arc::default()).expect("it is a table");
        let mut count = 0;
        while let Some(batch) = table.next(10_000, usize::MAX).expect("it is whole") {
            count += batch.rows();
        }
        assert_eq!(count, rows());
    });
}
