//! What a job leaves behind, in every format, and what it refuses to write over.

use crate::support::{Place, python, scorehost, scripts};

#[test]
fn each_format_holds_the_same_rows() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(3);
    let run = |format: &str, name: &str| {
        let settings =
            [format!("output_format: {format}"), format!("output_file_name: {name}"), "mini_batch_size: 2".into()];
        place.probe("fine", &settings.each_ref().map(String::as_str));
        place.run(&["--overwrite"]).completed()
    };
    assert_eq!(run("azure", "predictions.csv").predictions(), "000.txt 14\n001.txt 14\n002.txt 14\n");
    assert_eq!(run("csv", "predictions.csv").predictions(), "file,length\n000.txt,14\n001.txt,14\n002.txt,14\n");
    let jsonl = run("jsonl", "rows.jsonl").file("rows.jsonl");
    assert_eq!(jsonl.lines().next(), Some(r#"{"file":"000.txt","length":14}"#));
    if cfg!(feature = "parquet") {
        run("parquet", "rows.parquet");
        let Some(python) = python("pandas, pyarrow") else { return };
        let read = "import sys, pandas as pd; print(pd.read_parquet(sys.argv[1]).to_csv(index=False), end='')";
        let output =
            std::process::Command::new(python).args(["-c", read]).arg(place.at("output/rows.parquet")).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(text, "file,length\n000.txt,14\n001.txt,14\n002.txt,14\n");
    }
}

#[test]
fn names_with_spaces_quotes_and_newlines_come_back_from_pandas() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let names = ["a b.txt", "comma,.txt", "new\nline.txt", "quo\"te.txt", "tab\t.txt", "ünï.txt"];
    for name in names {
        std::fs::write(place.at("input").join(name), "x").unwrap();
    }
    place.probe("fine", &[]);
    let text = place.run(&[]).completed().predictions();
    assert!(text.starts_with("\"a b.txt\" 14\n"), "{text}");
    let Some(python) = python("pandas") else { return };
    let read = "import sys, json, pandas as pd\n\
                d = pd.read_csv(sys.argv[1], header=None, names=['file', 'length'], sep=' ')\n\
                print(json.dumps(sorted(d['file'])))";
    let output = std::process::Command::new(python).args(["-c", read]).arg(place.at("output/predictions.csv")).output();
    let read: Vec<String> = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(read, names);
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_unicode_fails_its_file_alone() {
    use std::os::unix::ffi::OsStrExt;
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(2);
    std::fs::write(place.at("input").join(std::ffi::OsStr::from_bytes(b"001\xff.txt")), "x").unwrap();
    place.probe("fine", &[]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.predictions(), "000.txt 14\n001.txt 14\n");
    let errors = ran.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0][..4], ["001\\xff.txt", "0", "0", "name"]);
    assert_eq!(ran.record()["counts"]["failed"], 1);
}

#[test]
fn an_output_that_exists_is_refused_unless_told_otherwise() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(2);
    place.probe("fine", &[]);
    place.run(&[]).completed();
    std::fs::write(place.at("output/mine.txt"), "keep").unwrap();
    let ran = place.run(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("is there already") && ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    place.run(&["--overwrite"]).completed();
    assert_eq!(place.read("output/mine.txt"), "keep");
}

#[test]
fn the_same_bytes_come_from_any_concurrency_and_mini_batch_size() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(50);
    let mut all = std::collections::HashSet::new();
    for concurrency in [1, 2, 4] {
        for size in [1, 7, 64] {
            place.probe(
                "fine",
                &[&format!("max_concurrency_per_instance: {concurrency}"), &format!("mini_batch_size: {size}")],
            );
            all.insert(place.run(&["--overwrite"]).completed().predictions());
        }
    }
    assert_eq!(all.len(), 1);
}

#[test]
fn a_single_file_is_an_input_and_its_neighbours_are_not_seen() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(3);
    place.probe("reads", &[]);
    let mut command = scorehost();
    command.args(["run", "--device", "cpu", "-f"]).arg(place.at("deployment.yml"));
    command.arg("-i").arg(place.at("input/001.txt")).arg("-o").arg(place.at("output"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.read("output/predictions.csv"), "001.txt \"text 1\"\n");
}

#[test]
fn the_record_tells_what_ran() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(5);
    place.probe("fine", &["mini_batch_size: 2"]);
    let record = place.run(&["--set", "settings.mini_batch_size=1", "--set", "tags.extra=1"]).completed().record();
    assert_eq!(record["state"], "Completed");
    assert_eq!(record["counts"]["files"], 5);
    assert_eq!(record["counts"]["mini_batches"], 5);
    assert_eq!(record["device"]["name"], "cpu");
    assert!(record["script"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(record["settings"]["mini_batch_size"], 1);
    let stored: serde_json::Value = serde_json::from_str(&place.read("output/job.json")).unwrap();
    assert_eq!(stored, record);
    assert_eq!(place.read("output/mini_batches.csv").lines().count(), 6);
}

#[test]
fn rows_that_change_their_columns_fail_their_mini_batch() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(3);
    place.probe("types-change", &["mini_batch_size: 1", "output_format: csv"]);
    let ran = place.run(&[]).completed();
    assert_eq!(ran.predictions(), "value\n1\n");
    assert_eq!(ran.errors().len(), 2);
    assert_eq!(ran.errors()[0][3], "output");
}
