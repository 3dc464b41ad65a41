//! Tables from end to end: CSV and Parquet with a model's prediction appended, as pandas would have written it, and
//! tables that scripts write.

use std::path::PathBuf;

use crate::support::{Place, Ran, root, scripts};

fn reference(name: &str) -> PathBuf {
    root().join("tests/reference/tables").join(name)
}

/// A place with these tables as its input.
fn with_tables(names: &[&str]) -> Place {
    let place = Place::new();
    for name in names {
        std::fs::copy(reference(name), place.at("input").join(name)).unwrap();
    }
    place
}

fn score(place: &Place, model: &str, settings: &[&str], tags: &[&str]) -> Ran {
    place.deploy_model(&reference(model), "tables", settings, tags);
    place.run(&["--overwrite"])
}

#[test]
fn a_prediction_is_appended_to_each_record_as_pandas_does_it() {
    let Some(_) = scripts() else { return };
    let expected = std::fs::read_to_string(reference("people.predicted.csv")).unwrap();
    let inputs: &[&str] = if cfg!(feature = "parquet") { &["people.csv", "people.parquet"] } else { &["people.csv"] };
    for input in inputs {
        let place = with_tables(&[input]);
        // One input of three columns, and three of one.
        for model in ["linear.onnx", "linear-by-name.onnx"] {
            let ran = score(&place, model, &["output_format: csv"], &[]).completed();
            assert_same(&ran.predictions(), &expected, &format!("{input}, {model}"));
        }
    }
}

/// The same cells; predictions may differ in the last bits of a float, which engines sum in another order.
fn assert_same(ours: &str, expected: &str, what: &str) {
    let records = |text: &str| {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(Result::unwrap).collect::<Vec<_>>()
    };
    let (ours, expected) = (records(ours), records(expected));
    assert_eq!(ours.len(), expected.len(), "{what}");
    assert_eq!(ours[0], expected[0], "{what}");
    for (ours, expected) in ours.iter().zip(&expected).skip(1) {
        let last = expected.len() - 1;
        assert_eq!(
            ours.iter().take(last).collect::<Vec<_>>(),
            expected.iter().take(last).collect::<Vec<_>>(),
            "{what}"
        );
        let (a, b): (f32, f32) = (ours[last].parse().unwrap(), expected[last].parse().unwrap());
        assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{what}: {a} is {b}");
    }
}

#[test]
fn a_file_that_is_no_table_fails_alone() {
    let Some(_) = scripts() else { return };
    let place = with_tables(&["people.csv"]);
    std::fs::write(place.at("input/bad.csv"), "age,income,member\n1,2,true\n3,4\n").unwrap();
    std::fs::write(place.at("input/texts.csv"), "age,income,member\nold,2,true\n").unwrap();
    std::fs::write(place.at("input/z.png"), "no table").unwrap();
    let ran = score(&place, "linear.onnx", &["output_format: csv"], &[]).completed();
    assert_eq!(ran.predictions().lines().count(), 251);
    let errors = ran.errors();
    let message = |file: &str| {
        let row = errors.iter().find(|row| row[0] == file).unwrap_or_else(|| panic!("{file}: {errors:?}"));
        assert_eq!(row[3], "file");
        row[4].clone()
    };
    assert!(message("bad.csv").contains("`/input/bad.csv`: row 2 has 2 cells, and the header has 3"));
    assert!(message("texts.csv").contains("column `age` holds texts"));
    assert!(message("z.png").contains("`/input/z.png`: not a table"));
}

#[test]
fn a_script_writes_tables_below_its_output_folder_only() {
    let Some(_) = scripts() else { return };
    let place = with_tables(&["people.csv"]);
    let summary = ["output_action: summary_only", "retry_settings: {max_retries: 0}"];
    let ran = score(&place, "linear.onnx", &summary, &["write: part/a.csv"]).completed();
    assert_same(&ran.file("part/a.csv"), &std::fs::read_to_string(reference("people.predicted.csv")).unwrap(), "a.csv");
    // What was begun and not finished is nowhere.
    let mut names: Vec<_> =
        std::fs::read_dir(place.at("output")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.'));
    assert!(names.iter().all(|name| !name.contains("unfinished") && !name.contains("tmp")), "{names:?}");

    let ran = score(&place, "linear.onnx", &["retry_settings: {max_retries: 0}"], &["write: a.csv"]);
    assert_ne!(ran.code, 0);
    assert!(ran.errors()[0][4].contains("set `output_action: summary_only`"), "{:?}", ran.errors());
    for name in ["../a.csv", "/model/a.csv", "a/../../b.csv"] {
        let ran = score(&place, "linear.onnx", &summary, &[&format!("write: {name}")]);
        assert!(ran.errors()[0][4].contains("name a file below /output"), "{:?}", ran.errors());
    }
    let ran = score(&place, "linear.onnx", &summary, &["write: a.xlsx"]);
    assert!(ran.errors()[0][4].contains("must end in one of `.csv`, `.jsonl`, `.parquet`"), "{:?}", ran.errors());
    // Counted as other files are, and before it has its name.
    let small = ["output_action: summary_only", "limits: {file_bytes: 5KiB}"];
    for name in ["a.csv", "a.jsonl", "a.parquet"] {
        let ran = score(&place, "linear.onnx", &small, &[&format!("write: {name}")]);
        assert!(ran.errors()[0][4].contains("take more than limits.file_bytes, which is 5120"), "{:?}", ran.errors());
        assert!(!place.at("output").join(name).exists());
    }
    // A name of the job's own.
    let ran = score(&place, "linear.onnx", &summary, &["write: errors.csv"]);
    assert!(ran.errors()[0][4].contains("has the name of a file that the job writes"), "{:?}", ran.errors());
}

#[cfg(feature = "parquet")]
#[test]
fn pandas_reads_what_a_script_wrote() {
    let Some(_) = scripts() else { return };
    let Some(python) = crate::support::python("pandas, pyarrow") else { return };
    let place = with_tables(&["people.csv"]);
    let settings = ["output_action: summary_only"];
    for name in ["a.parquet", "a.jsonl", "a.csv"] {
        score(&place, "linear.onnx", &settings, &[&format!("write: {name}")]).completed();
        let check = "import sys, pandas as pd, numpy as np\n\
            a, b = sys.argv[1:]\n\
            read = {'parquet': pd.read_parquet, 'csv': pd.read_csv}.get(a.split('.')[-1], lambda p: pd.read_json(p, lines=True))\n\
            a, b = read(a), pd.read_csv(b)\n\
            assert list(a.columns) == list(b.columns), a.columns\n\
            pd.testing.assert_frame_equal(a.drop(columns='prediction'), b.drop(columns='prediction'), check_dtype=False)\n\
            np.testing.assert_allclose(a['prediction'], b['prediction'], rtol=1e-6, atol=1e-6)\n";
        let (ours, expected) = (place.at("output").join(name), reference("people.predicted.csv"));
        let checked = std::process::Command::new(&python).args(["-c", check]).arg(ours).arg(expected).output().unwrap();
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn a_model_of_scikit_learn_is_refused_with_the_cure() {
    let Some(_) = scripts() else { return };
    let place = with_tables(&["people.csv"]);
    let ran = score(&place, "classifier.onnx", &["retry_settings: {max_retries: 0}"], &[]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("Scaler") && ran.stderr.contains("device: onnxruntime"), "{}", ran.stderr);
}
