//! The output as a whole: kills at every step, full disks, two processes, what is refused and what is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::crash::{self, Death};
use super::*;
use crate::fault::chain;
use crate::row::{Cells, Column, Rows};

fn options(folder: &Path, format: Format) -> OutputOptions {
    let file_name = "predictions.out".to_owned();
    OutputOptions { folder: folder.to_owned(), file_name, format, keep_rows: true, existing: Existing::Refuse }
}

fn rows(index: u64, count: u32) -> Rows {
    let range = 0..count;
    let column = |name: &str, cells, nulls| Column { name: name.into(), cells, nulls };
    let all: Vec<u32> = range.clone().collect();
    // Sent as integers while it is empty, as the SDKs do; the type comes late, and in the middle of a group.
    let (note, nulls) = match index {
        5 => (Cells::Texts(range.clone().map(|i| format!("note {i}")).collect()), vec![0; count.min(1) as usize]),
        _ => (Cells::Integers(vec![0; all.len()]), all.clone()),
    };
    let columns = vec![
        column("file", Cells::Texts(range.clone().map(|i| format!("picture {index} {i}.jpg")).collect()), vec![]),
        column("class", Cells::Integers(range.clone().map(i64::from).collect()), vec![]),
        column("probability", Cells::Numbers(range.map(|i| f64::from(i) / 7.0).collect()), vec![]),
        column("note", note, nulls),
        column("never", Cells::Booleans(vec![true; all.len()]), all),
    ];
    Rows::new(columns, 1000).unwrap()
}

/// The plan of the tests: the third mini-batch fails, the fourth has no rows, every second one writes files.
fn done(index: u64, staging: &Path) -> Done {
    let failed = index == 2;
    let error = ErrorRow {
        file: format!("picture {index} 1.jpg"),
        attempts: 4,
        kind: "trap".into(),
        message: "out of \"bounds\",\nsaid the script".into(),
    };
    let staged = (index % 2 == 1).then(|| {
        let folder = staging.join(format!("{index}"));
        fs::create_dir_all(folder.join("sub")).unwrap();
        for name in ["last.txt".to_owned(), format!("sub/{index}.txt")] {
            fs::write(folder.join(&name), format!("by {index}")).unwrap();
            crash::unsynced(&folder.join(name));
        }
        folder
    });
    Done {
        index,
        files: 3,
        failed: if failed { 3 } else { 0 },
        rows: (!failed).then(|| rows(index, if index == 3 { 0 } else { 3 })),
        errors: if failed { vec![error] } else { vec![] },
        attempts: 1,
        started: "2026-01-02T03:04:05.678Z".into(),
        seconds: 0.25,
        device_seconds: 0.125,
        staged,
    }
}

const PLAN: &[u8] = b"a plan of seven mini-batches";
const COUNT: u64 = 7;

/// A job as the runner runs it: begun or resumed, committed in groups, finished.
fn run(options: &OutputOptions) -> Result<(), OutputError> {
    let mut output = match Output::resume(options.clone()) {
        Ok(resumed) => {
            assert_eq!((resumed.plan.as_slice(), &resumed.header), (PLAN, &json!({"digest": "d"})));
            assert_eq!(resumed.counts.mini_batches, resumed.next);
            resumed.output
        }
        Err(OutputError::AlreadyComplete { .. }) => return Ok(()),
        Err(OutputError::Nothing { .. }) => Output::create(options.clone(), PLAN, &json!({"digest": "d"}))?,
        Err(error) => return Err(error),
    };
    while output.next() < COUNT {
        let staging = output.staging_folder();
        let group: Vec<Done> = (output.next()..COUNT).take(2).map(|index| done(index, &staging)).collect();
        for done in &group {
            done.rows.iter().try_for_each(|rows| output.accept(rows))?;
            done.staged.iter().try_for_each(|folder| output.accept_staged(folder))?;
        }
        output.commit(&group)?;
    }
    let counts = output.counts();
    output.finish(&json!({"status": "Completed", "counts": counts}))
}

/// A folder in memory where there is one: thousands of kills would wait minutes for a disk to sync.
fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Every file below a folder, with its bytes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(here) = open.pop() {
        for entry in fs::read_dir(here).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn killed_at_any_step_and_resumed_gives_the_same_bytes() {
    let formats: &[Format] = if cfg!(feature = "parquet") {
        &[Format::Azure, Format::Csv, Format::Jsonl, Format::Parquet]
    } else {
        &[Format::Azure, Format::Csv, Format::Jsonl]
    };
    for &format in formats {
        let whole = folder_in_memory();
        crash::after(None, Death::Kill);
        run(&options(&whole.path().join("out"), format)).unwrap();
        let steps = crash::revive();
        let expected = tree(&whole.path().join("out"));
        assert!(steps > 60, "{steps} steps");
        println!("{format:?}: {steps} steps");
        assert_eq!(expected.len(), 8, "{:?}", expected.keys());
        for death in [Death::Kill, Death::Power] {
            for step in 0..steps {
                let folder = folder_in_memory();
                let options = options(&folder.path().join("out"), format);
                crash::after(Some(step), death);
                let error = run(&options).expect_err("the killed run fails");
                assert!(matches!(error, OutputError::Io { .. }), "{error:?}");
                crash::revive();
                // And once more on the way back, at every third step.
                crash::after(Some(step / 3), death);
                let _ = run(&options);
                crash::revive();
                run(&options).unwrap_or_else(|e| panic!("{format:?} {death:?} at {step}: {}", chain(&e)));
                let found = tree(&options.folder);
                assert!(found == expected, "{format:?} {death:?} at {step}: {:?}", found.keys());
            }
        }
    }
}

#[test]
fn what_was_committed_outlives_a_power_cut() {
    let folder = folder_in_memory();
    let options = options(folder.path(), Format::Azure);
    crash::after(None, Death::Power);
    let mut output = Output::create(options.clone(), PLAN, &json!({})).unwrap();
    output.commit(&[done(0, folder.path()), done(1, &output.staging_folder())]).unwrap();
    crash::die_next();
    output.commit(&[done(2, folder.path())]).unwrap_err();
    drop(output);
    crash::revive();
    assert_eq!(fs::read_to_string(folder.path().join("sub/1.txt")).unwrap(), "by 1");
    assert_eq!(Output::resume(options).unwrap().next, 2);
}

#[test]
fn the_files_say_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    run(&options(folder.path(), Format::Csv)).unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let predictions = text("predictions.out");
    assert!(predictions.starts_with(
        "file,class,probability,note,never\npicture 0 0.jpg,0,0.0,,\npicture 0 1.jpg,1,0.14285714285714285,,\n"
    ));
    assert!(predictions.contains("\npicture 5 0.jpg,0,0.0,,\npicture 5 1.jpg,1,0.14285714285714285,note 1,\n"));
    assert_eq!(predictions.lines().count(), 1 + 5 * 3);
    assert_eq!(
        text("errors.csv"),
        "file,mini_batch,attempts,kind,message\npicture 2 1.jpg,2,4,trap,\"out of \"\"bounds\"\",\nsaid the script\"\n"
    );
    let batches = text("mini_batches.csv");
    assert!(batches.starts_with(
        "index,files,rows,attempts,start,seconds,device_seconds\n0,3,3,1,2026-01-02T03:04:05.678Z,0.250000,0.125000\n"
    ));
    assert_eq!(batches.lines().count(), 8);
    assert_eq!((text("last.txt"), text("sub/1.txt")), ("by 5".to_owned(), "by 1".to_owned()));
    let record: serde_json::Value = serde_json::from_str(&text("job.json")).unwrap();
    let counts = json!({"mini_batches": 7, "files": 21, "failed": 3, "rows": 15, "attempts": 7});
    assert_eq!(record, json!({"status": "Completed", "counts": counts}));
    assert!(!folder.path().join(".scorehost").exists());
}

#[test]
fn summary_only_keeps_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let options = OutputOptions { keep_rows: false, ..options(folder.path(), Format::Csv) };
    run(&options).unwrap();
    assert!(!folder.path().join("predictions.out").exists());
    assert!(fs::read_to_string(folder.path().join("job.json")).unwrap().contains("\"rows\": 15"));
}

#[test]
fn an_output_is_refused_overwritten_or_resumed_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = options(&folder.path().join("out"), Format::Azure);
    let create = |options: &OutputOptions| Output::create(options.clone(), PLAN, &json!({}));
    assert!(matches!(Output::resume(refuse.clone()), Err(OutputError::Nothing { .. })));

    let mut output = create(&refuse).unwrap();
    assert!(matches!(Output::resume(refuse.clone()), Err(OutputError::Busy { .. })), "two on one output");
    assert!(matches!(
        create(&OutputOptions { existing: Existing::Overwrite, ..refuse.clone() }),
        Err(OutputError::Busy { .. })
    ));
    output.commit(&[done(0, folder.path())]).unwrap();
    drop(output);

    assert!(matches!(create(&refuse), Err(OutputError::Exists { .. })));
    let other = OutputOptions { format: Format::Jsonl, ..refuse.clone() };
    let error = Output::resume(other).unwrap_err();
    assert_eq!(error.to_string(), "`output_format` was `azure` when the job began, and is `jsonl`");
    let resumed = Output::resume(refuse.clone()).unwrap();
    assert_eq!((resumed.next, resumed.counts.rows), (1, 3));
    resumed.output.suspend(&json!({"status": "Failed"})).unwrap();

    // Suspended: people can read why, and the rows wait.
    let names: Vec<_> = tree(&refuse.folder).into_keys().filter(|path| !path.starts_with(".scorehost")).collect();
    assert_eq!(names, ["errors.csv", "job.json", "mini_batches.csv"].map(PathBuf::from));
    let resumed = Output::resume(refuse.clone()).unwrap();
    assert!(!refuse.folder.join("job.json").exists(), "the record of the suspension is gone");
    drop(resumed);
    let header = json!({"digest": "d"});
    let overwrite = OutputOptions { existing: Existing::Overwrite, ..refuse.clone() };
    fs::create_dir(refuse.folder.join("logs")).unwrap();
    fs::write(refuse.folder.join("notes.txt"), "mine").unwrap();
    drop(Output::create(overwrite.clone(), PLAN, &header).unwrap());
    assert!(!refuse.folder.join("logs").exists() && refuse.folder.join("notes.txt").exists());

    run(&refuse).unwrap();
    assert!(matches!(Output::resume(refuse.clone()), Err(OutputError::AlreadyComplete { .. })));
    let before = tree(&refuse.folder);
    let error = create(&refuse).unwrap_err();
    assert!(error.hint().unwrap().contains("--overwrite"), "{error}");
    assert!(tree(&refuse.folder) == before, "a refusal changes nothing");
    drop(create(&overwrite).unwrap());
    assert!(!refuse.folder.join("predictions.out").exists() && refuse.folder.join("notes.txt").exists());
}

#[test]
fn what_was_durable_and_is_gone_is_damage() {
    for (name, change) in [
        ("predictions.part", None),
        ("errors.part", None),
        ("mini_batches.part", None),
        ("plan", Some(&b"another plan"[..])),
        ("header.json", Some(b"{}")),
        ("journal", Some(b"00000000 {}\n")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path(), Format::Azure);
        let mut output = Output::create(options.clone(), PLAN, &json!({"digest": "d"})).unwrap();
        output.commit(&[done(0, folder.path()), done(1, folder.path()), done(2, folder.path())]).unwrap();
        drop(output);
        let path = folder.path().join(".scorehost").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, change.unwrap_or(&bytes[..bytes.len() - 1])).unwrap();
        let error = Output::resume(options).unwrap_err();
        assert!(matches!(error, OutputError::Damaged { .. }), "{name}: {error:?}");
    }
}

#[test]
fn a_torn_tail_is_cut_off() {
    let whole = folder_in_memory();
    run(&options(whole.path(), Format::Csv)).unwrap();
    let folder = folder_in_memory();
    let options = options(folder.path(), Format::Csv);
    let mut output = Output::create(options.clone(), PLAN, &json!({"digest": "d"})).unwrap();
    let first = done(0, folder.path());
    output.accept(first.rows.as_ref().unwrap()).unwrap();
    output.commit(&[first]).unwrap();
    drop(output);
    for name in ["predictions.part", "errors.part", "mini_batches.part", "journal"] {
        let path = folder.path().join(".scorehost").join(name);
        // Longer than all that is still to come.
        fs::write(&path, [fs::read(&path).unwrap(), vec![b'?'; 1 << 16]].concat()).unwrap();
    }
    run(&options).unwrap();
    assert!(tree(folder.path()) == tree(whole.path()));
}

#[test]
fn later_rows_must_have_the_columns_of_the_first() {
    let column = |name: &str, cells| Column { name: name.into(), cells, nulls: vec![] };
    let table = |columns| Rows::new(columns, 10).unwrap();
    let first = table(vec![column("a", Cells::Integers(vec![1])), column("b", Cells::Texts(vec!["x".into()]))]);
    let cases = [
        (first.clone(), None),
        (Rows::default(), None),
        (table(vec![column("a", Cells::Integers(vec![1]))]), Some("1 columns, where earlier mini-batches have 2")),
        (
            table(vec![column("a", Cells::Numbers(vec![1.0])), column("b", Cells::Texts(vec!["x".into()]))]),
            Some("column 0 is `a` of numbers, where earlier mini-batches have `a` of integers"),
        ),
        (
            table(vec![column("a", Cells::Integers(vec![1])), column("c", Cells::Texts(vec!["x".into()]))]),
            Some("column 1 is `c` of texts"),
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let csv = options(folder.path(), Format::Csv);
    let mut output = Output::create(csv.clone(), PLAN, &json!({})).unwrap();
    output.accept(&first).unwrap();
    output.commit(&[Done { rows: Some(first), ..done(0, folder.path()) }]).unwrap();
    drop(output);
    // The journal remembers them.
    let mut output = Output::resume(csv).unwrap().output;
    for (rows, expected) in &cases {
        let error = output.accept(rows).err().map(|error| error.to_string());
        assert!(error.as_deref().unwrap_or("").contains(expected.unwrap_or("")), "{error:?}");
        assert_eq!(error.is_some(), expected.is_some());
    }
    // And those of rows that were accepted, and then not committed for another reason.
    let folder = tempfile::tempdir().unwrap();
    let csv = options(folder.path(), Format::Csv);
    let mut output = Output::create(csv.clone(), PLAN, &json!({})).unwrap();
    output.accept(&cases[0].0).unwrap();
    output.commit(&[Done { rows: None, ..done(0, folder.path()) }]).unwrap();
    drop(output);
    let mut output = Output::resume(csv).unwrap().output;
    output.accept(&cases[2].0).unwrap_err();
    output.accept(&cases[0].0).unwrap();
    output.commit(&[Done { index: 1, rows: Some(cases[0].0.clone()), ..done(0, folder.path()) }]).unwrap();
    output.finish(&json!({})).unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("predictions.out")).unwrap(), "a,b\n1,x\n");

    let folder = tempfile::tempdir().unwrap();
    let mut output = Output::create(options(folder.path(), Format::Azure), PLAN, &json!({})).unwrap();
    assert!(cases.iter().all(|(rows, _)| output.accept(rows).is_ok()), "Azure's format takes any rows");
}

/// One column, `a`.
fn table(cells: Cells, nulls: &[u32]) -> Rows {
    Rows::new(vec![Column { name: "a".into(), cells, nulls: nulls.to_vec() }], 10).unwrap()
}

/// A mini-batch with these rows, and no files.
fn with(index: u64, rows: Option<&Rows>) -> Done {
    Done { index, files: 1, attempts: 1, rows: rows.cloned(), ..Done::default() }
}

fn texts() -> Rows {
    table(Cells::Texts(vec!["x".into(), "y".into()]), &[])
}

fn numbers() -> Rows {
    table(Cells::Numbers(vec![0.5, 1.5]), &[1])
}

/// Sent as this type, and without a cell.
fn nothing(cells: Cells) -> Rows {
    table(cells, &[0, 1])
}

#[test]
fn a_column_takes_its_type_from_the_first_cell() {
    let first = nothing(Cells::Integers(vec![0, 0]));
    let two = |a: &Rows, name: &str| {
        let b = Column { name: name.into(), ..a.columns()[0].clone() };
        Rows::new(vec![Column { name: "a".into(), cells: Cells::Integers(vec![1, 2]), nulls: vec![] }, b], 10).unwrap()
    };
    let cases: [(&[&Rows], &str); 8] = [
        (&[&first, &texts(), &first, &nothing(Cells::Booleans(vec![true; 2])), &texts()], ""),
        (&[&first, &numbers()], ""),
        (&[&first, &nothing(Cells::Numbers(vec![0.0; 2])), &texts()], ""),
        (&[&texts(), &first], ""),
        (&[&first, &texts(), &numbers()], "column 0 is `a` of numbers, where earlier mini-batches have `a` of texts"),
        (
            &[&two(&texts(), "b"), &two(&first, "c")],
            "column 1 is `c` without a value, where earlier mini-batches have `b` of texts",
        ),
        (
            &[&two(&first, "b"), &two(&texts(), "c")],
            "column 1 is `c` of texts, where earlier mini-batches have `b` without a value",
        ),
        (&[&first, &two(&first, "b")], "2 columns, where earlier mini-batches have 1"),
    ];
    for (case, (batches, expected)) in cases.iter().enumerate() {
        // Whatever the groups, and whether or not the job is resumed between them.
        for group in 1..=batches.len() {
            let folder = folder_in_memory();
            let options = options(folder.path(), Format::Csv);
            drop(Output::create(options.clone(), PLAN, &json!({})).unwrap());
            let mut error = String::new();
            for batches in batches.chunks(group) {
                let mut output = Output::resume(options.clone()).unwrap().output;
                let first = output.next();
                let mut accept = |rows| output.accept(rows).map_err(|e| error = e.to_string()).is_ok();
                let group: Vec<Done> = (first..)
                    .zip(batches)
                    .map(|(index, rows)| with(index, Some(*rows).filter(|rows| accept(rows))))
                    .collect();
                output.commit(&group).unwrap();
            }
            assert_eq!(error, *expected, "case {case} in groups of {group}");
        }
    }
}

#[test]
fn a_refused_mini_batch_teaches_no_types() {
    let columns = |a: Cells, b: &Rows| {
        let b = Column { name: "b".into(), ..b.columns()[0].clone() };
        Rows::new(vec![Column { name: "a".into(), cells: a, nulls: vec![] }, b], 10).unwrap()
    };
    let folder = folder_in_memory();
    let mut output = Output::create(options(folder.path(), Format::Csv), PLAN, &json!({})).unwrap();
    output.accept(&columns(Cells::Integers(vec![1, 2]), &nothing(Cells::Integers(vec![0, 0])))).unwrap();
    output.accept(&columns(Cells::Booleans(vec![true, true]), &texts())).unwrap_err();
    output.accept(&columns(Cells::Integers(vec![1, 2]), &numbers())).unwrap();
}

/// Kills a commit at each step; what the resumed output knows of the columns must be what it has committed, never less
/// and never more. `accepted` are the rows of the group's mini-batches, and whether they are dropped then.
fn killed_in_the_commit_of(accepted: &[(Rows, bool)]) {
    let before = nothing(Cells::Integers(vec![0, 0]));
    for death in [Death::Kill, Death::Power] {
        let (mut undone, mut committed) = (0, 0);
        for step in 0.. {
            let folder = folder_in_memory();
            let options = options(folder.path(), Format::Csv);
            let mut output = Output::create(options.clone(), PLAN, &json!({})).unwrap();
            output.accept(&before).unwrap();
            output.commit(&[with(0, Some(&before))]).unwrap();
            let mut group = Vec::new();
            for (index, (rows, dropped)) in (1..).zip(accepted) {
                output.accept(rows).unwrap();
                group.push(with(index, (!dropped).then_some(rows)));
            }
            crash::after(Some(step), death);
            let done = output.commit(&group).is_ok();
            drop(output);
            crash::revive();
            let mut resumed = Output::resume(options).unwrap();
            let last = 1 + accepted.len() as u64;
            assert!(resumed.next == 1 || resumed.next == last, "half a group: {}", resumed.next);
            assert_eq!(resumed.output.accept(&numbers()).is_err(), resumed.next == last, "{death:?} at {step}");
            undone += u32::from(resumed.next == 1);
            committed += u32::from(resumed.next == last);
            if done {
                break;
            }
        }
        assert!(undone >= 3 && committed >= 1, "{undone} {committed}");
    }
}

#[test]
fn a_type_is_kept_with_the_commit_that_brings_it() {
    let empty = nothing(Cells::Booleans(vec![true, true]));
    killed_in_the_commit_of(&[(texts(), false)]);
    killed_in_the_commit_of(&[(empty.clone(), false), (texts(), false), (empty.clone(), false)]);
    // By rows that were accepted, and then fell to another rule.
    killed_in_the_commit_of(&[(texts(), true)]);
    killed_in_the_commit_of(&[(texts(), true), (empty.clone(), false), (empty, true)]);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_columns_have_the_types_that_came_last() {
    use ::parquet::basic::{LogicalType, Type};
    use ::parquet::file::reader::{FileReader, SerializedFileReader};

    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), Format::Parquet);
    run(&options).unwrap();
    let reader = SerializedFileReader::new(fs::File::open(folder.path().join("predictions.out")).unwrap()).unwrap();
    let columns = reader.metadata().file_metadata().schema_descr().columns().to_vec();
    let types: Vec<_> = columns.iter().map(|c| (c.name(), c.physical_type(), c.logical_type_ref())).collect();
    let text = Some(&LogicalType::String);
    let expected = [
        ("file", Type::BYTE_ARRAY, text),
        ("class", Type::INT64, None),
        ("probability", Type::DOUBLE, None),
        ("note", Type::BYTE_ARRAY, text),
        ("never", Type::BYTE_ARRAY, text),
    ];
    assert_eq!(types, expected);
    assert!(columns.iter().all(|column| column.max_def_level() == 1), "all are optional");
    let rows: Vec<String> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string()).collect();
    assert_eq!(rows.len(), 15);
    let row =
        |file: &str, rest: &str| format!("{{file: \"{file}\", class: 1, probability: 0.14285714285714285, {rest}}}");
    assert_eq!(rows[1], row("picture 0 1.jpg", "note: null, never: null"));
    assert_eq!(rows[10], row("picture 5 1.jpg", "note: \"note 1\", never: null"));
    assert_eq!(rows[13], row("picture 6 1.jpg", "note: null, never: null"));
}

#[test]
fn only_the_next_mini_batch_may_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = Output::create(options(folder.path(), Format::Azure), PLAN, &json!({})).unwrap();
    let error = output.commit(&[done(0, folder.path()), done(2, folder.path())]).unwrap_err();
    assert!(matches!(error, OutputError::OutOfOrder { expected: 1, given: 2 }), "{error}");
    let error = output.commit(&[done(0, folder.path())]).unwrap_err();
    assert!(matches!(error, OutputError::Closed { .. }), "{error}");
    assert!(matches!(output.finish(&json!({})), Err(OutputError::Closed { .. })));
}

#[test]
fn files_of_scripts_stay_in_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut output = Output::create(options(&out, Format::Azure), PLAN, &json!({})).unwrap();
    fs::create_dir(out.join("taken")).unwrap();
    fs::write(out.join("file"), "").unwrap();
    for (name, expected) in [
        ("fine/a.txt", None),
        ("predictions.out", Some("has the name of a file that the job writes")),
        ("JOB.json", Some("has the name of a file that the job writes")),
        ("logs/a.txt", Some("has the name of a file that the job writes")),
        (".scorehost/journal", Some("has the name of a file that the job writes")),
        ("taken", Some("has the name of a folder of the output")),
        ("file/below", Some("would be below a file of the output")),
        (&format!("{}x", "d/".repeat(40)), Some("is nested deeper than 32 folders")),
    ] {
        let staged = tempfile::tempdir().unwrap();
        let path = staged.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        let error = output.accept_staged(staged.path()).err().map(|error| error.to_string());
        assert_eq!(error.is_some(), expected.is_some(), "{name}: {error:?}");
        assert!(error.unwrap_or_default().contains(expected.unwrap_or("")), "{name}");
    }
    #[cfg(unix)]
    {
        let staged = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", staged.path().join("link")).unwrap();
        let error = output.accept_staged(staged.path()).unwrap_err();
        assert!(error.to_string().ends_with("is neither a file nor a folder"), "{error}");
    }
}

#[test]
fn files_of_scripts_conflict_alike_in_one_group_and_in_two() {
    let cases: [(&[&str], &[Option<&str>]); 4] = [
        (&["a", "a/b"], &[None, Some("the script's file `a` would be below a file of the output")]),
        (&["a/b", "a"], &[None, Some("the script's file `a` has the name of a folder of the output")]),
        (&["a/b", "a", "a/b/c", "a/d"], &[None, Some("a folder"), Some("`a/b` would be below a file"), None]),
        // What is refused is not in the way of what comes after.
        (&["job.json", "a", "a"], &[Some("has the name of a file that the job writes"), None, None]),
    ];
    for (names, expected) in cases {
        for size in 1..=names.len() {
            let folder = folder_in_memory();
            let mut output = Output::create(options(folder.path(), Format::Azure), PLAN, &json!({})).unwrap();
            let dones: Vec<Done> = (0..)
                .zip(names)
                .map(|(index, name)| {
                    let staged = output.staging_folder().join(index.to_string());
                    let path = staged.join(name);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, name).unwrap();
                    Done { staged: Some(staged), ..with(index, None) }
                })
                .collect();
            let mut errors = Vec::new();
            for group in dones.chunks(size) {
                let mut group = group.to_vec();
                for done in &mut group {
                    let error = output.accept_staged(done.staged.as_ref().unwrap()).err();
                    done.staged = done.staged.take().filter(|_| error.is_none());
                    errors.push(error.map(|error| error.to_string()));
                }
                output.commit(&group).unwrap();
            }
            for ((name, error), expected) in names.iter().zip(&errors).zip(expected) {
                assert_eq!(error.is_some(), expected.is_some(), "{name} in groups of {size}: {error:?}");
                assert!(error.as_deref().unwrap_or("").contains(expected.unwrap_or("")), "{name}: {error:?}");
                assert!(error.is_some() || folder.path().join(name).is_file(), "{name} in groups of {size}");
            }
        }
    }
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = Output::create(options(folder.path(), Format::Azure), PLAN, &json!({})).unwrap();
    let message = format!("x{}", "é".repeat(1 << 20));
    let errors = vec![ErrorRow { file: "f".into(), attempts: 1, kind: "trap".into(), message }];
    output.commit(&[Done { errors, ..done(0, folder.path()) }]).unwrap();
    output.finish(&json!({})).unwrap();
    let len = fs::read_to_string(folder.path().join("errors.csv")).unwrap().len();
    assert!((4000..4300).contains(&len), "{len}");
}

#[test]
fn folders_that_cannot_be_used_are_named_with_their_cure() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let create = |path: PathBuf| Output::create(options(&path, Format::Azure), PLAN, &json!({})).unwrap_err();
    assert!(matches!(create(folder.path().join("a/b/c")), OutputError::MissingParent { .. }));
    assert!(matches!(create(folder.path().join("file")), OutputError::NotAFolder { .. }));
    assert!(matches!(create(folder.path().join("file/below")), OutputError::MissingParent { .. }));
}

#[test]
fn a_full_disk_is_told_from_others_and_can_be_resumed() {
    if !cfg!(target_os = "linux") {
        println!("skipped: needs a small tmpfs");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| {
        std::process::Command::new("mount").args(args).arg(folder.path()).output().is_ok_and(|o| o.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=256k", "tmpfs"]) {
        println!("skipped: mounting a small tmpfs needs root");
        return;
    }
    let unmount = Unmount(folder.path().to_owned());
    let options = options(&folder.path().join("out"), Format::Azure);
    let mut output = Output::create(options.clone(), PLAN, &json!({})).unwrap();
    let plain = |index| Done { index, ..done(0, folder.path()) };
    let error = (0..10_000).find_map(|index| output.commit(&[plain(index)]).err());
    let error = error.expect("256 KiB are soon full");
    assert!(matches!(error, OutputError::Full { .. }), "{error:?}");
    let committed = output.counts();
    assert!(matches!(output.commit(&[]), Err(OutputError::Closed { .. })), "nothing after a failed commit");
    drop(output);
    let resumed = Output::resume(options.clone()).unwrap();
    assert_eq!(resumed.counts, committed);
    drop(resumed);
    assert!(mount(&["-o", "remount,ro"]));
    let error = Output::resume(options).map(|resumed| resumed.output.suspend(&json!({}))).and_then(|done| done);
    assert!(matches!(error, Err(OutputError::ReadOnly { .. })), "{error:?}");
    drop(unmount);
}

struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn groups_keep_up_with_two_thousand_mini_batches_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut output = Output::create(options(folder.path(), Format::Azure), PLAN, &json!({})).unwrap();
    let all: Vec<Done> =
        (0..6400).map(|i| Done { rows: Some(rows(i, 10)), staged: None, ..done(0, folder.path()) }).collect();
    let begin = Instant::now();
    for (i, group) in all.chunks(64).enumerate() {
        let base = i as u64 * 64;
        let group: Vec<Done> = (base..).zip(group).map(|(index, done)| Done { index, ..done.clone() }).collect();
        output.commit(&group).unwrap();
    }
    let rate = 6400.0 / begin.elapsed().as_secs_f64();
    println!("{rate:.0} mini-batches a second, in groups of 64 with 10 rows each");
    // The goal is 2,000; a loaded test machine gets a tenth of that for free.
    assert!(rate > 200.0, "{rate}");
}

#[test]
fn a_folder_deeper_than_a_stack_or_a_path_is_removed() {
    let place = tempfile::tempdir().unwrap();
    let (tree, outer) = (place.path().join("tree"), place.path().join("outer"));
    fs::create_dir(&tree).unwrap();
    // From the inside out, since no path reaches so far.
    for _ in 0..20_000 {
        fs::create_dir(&outer).unwrap();
        fs::write(outer.join("file"), "").unwrap();
        fs::rename(&tree, outer.join("x")).unwrap();
        fs::rename(&outer, &tree).unwrap();
    }
    remove_tree(&tree).unwrap();
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}
