//! Deployments without a script: the built-in scorer gives what a script would, and refuses early what it cannot score.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::support::{Place, Ran, demo, root, scorehost, scripts};

/// Files that `tests/reference/make_mlflow.py` wrote.
fn mlflow(name: &str) -> PathBuf {
    root().join("tests/reference/mlflow").join(name)
}

fn model(name: &str) -> PathBuf {
    root().join("tests/reference/models").join(format!("{name}.onnx"))
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Rows of a CSV text, its header first.
fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

const CSV: &str = "output_format: csv";

/// The job is refused before it begins, with these words, and leaves nothing behind.
#[track_caller]
fn assert_refused(place: &Place, ran: &Ran, expected: &[&str]) {
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for text in expected {
        assert!(ran.stderr.contains(text), "{text}\n{}", ran.stderr);
    }
    assert!(!place.at("output").exists());
}

#[test]
fn every_demo_picture_is_scored_as_by_the_script() {
    if scripts().is_none() {
        return;
    }
    let by_script = Place::new();
    by_script.deploy_model(&demo("model"), "score-by-batch", &[CSV], &[]);
    let by_script = csv_rows(&by_script.score(&demo("pictures"), &["--device", "cpu"]).completed().predictions());
    // Whatever the mini-batch and what the model is given at once.
    for (settings, tags) in [(vec![CSV], vec![]), (vec![CSV, "mini_batch_size: 17"], vec!["device_batching: 3"])] {
        let place = Place::new();
        place.deploy_built_in(&demo("model"), &settings, &tags);
        let ran = place.score(&demo("pictures"), &["--device", "cpu"]).completed();
        let rows = csv_rows(&ran.predictions());
        assert_eq!(rows[0], ["file", "class", "probability", "label"]);
        assert_eq!(rows.len(), 41);
        for (row, expected) in rows.iter().zip(&by_script) {
            assert_eq!(row[..3], expected[..3]);
        }
        for row in &rows[1..] {
            assert!(row[0].contains(&format!("_{}.", row[3])), "{row:?}");
        }
        assert_eq!(ran.record()["script"]["name"], "built-in");
    }
}

#[test]
fn models_of_every_layout_are_scored() {
    for name in ["bytes-channels-last", "floats-channels-last", "groups"] {
        let place = Place::new();
        place.deploy_built_in(&model(name), &[], &[]);
        let rows = place.score(&demo("pictures"), &["--device", "cpu"]).completed().scored();
        let expected = crate::support::scored(&std::fs::read_to_string(model(name).with_extension("csv")).unwrap());
        let classes =
            |rows: &[crate::support::Scored]| rows.iter().map(|row| (row.file.clone(), row.class)).collect::<Vec<_>>();
        assert_eq!(classes(&rows), classes(&expected), "{name}");
    }
}

#[test]
fn a_bad_picture_fails_alone() {
    let place = Place::with_pictures(&["0000_arrow.jpg", "0001_circle.jpg", "0003_cross.png"]);
    std::fs::write(place.at("input/0002_text.jpg"), "no picture").unwrap();
    std::fs::create_dir(place.at("input/more")).unwrap();
    std::fs::rename(place.at("input/0003_cross.png"), place.at("input/more/0003_cross.PNG")).unwrap();
    place.deploy_built_in(&demo("model"), &[CSV], &[]);
    let ran = place.run(&["--quiet"]).completed();
    let rows = csv_rows(&ran.predictions());
    let labels: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[3].as_str())).collect();
    let expected = [("file", "label"), ("0000_arrow.jpg", "arrow"), ("0001_circle.jpg", "circle")];
    assert_eq!(labels, [&expected[..], &[("more/0003_cross.PNG", "cross")]].concat());
    let errors = ran.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0][0].as_str(), errors[0][3].as_str()), ("0002_text.jpg", "file"));
    assert!(errors[0][4].contains("not a picture"), "{errors:?}");
    let counts = &ran.record()["counts"];
    assert_eq!((counts["succeeded"].as_u64(), counts["failed"].as_u64()), (Some(3), Some(1)));
}

#[test]
fn files_of_other_types_are_refused_up_front() {
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    std::fs::write(place.at("input/notes.txt"), "text").unwrap();
    std::fs::write(place.at("input/png"), "no ending").unwrap();
    place.deploy_built_in(&demo("model"), &[], &[]);
    let expected =
        ["2 files of the input cannot be scored", "`notes.txt` first", ".png, .jpg, .jpeg", "hint: move them"];
    assert_refused(&place, &place.run(&[]), &expected);
}

#[test]
fn what_cannot_be_scored_without_a_script_is_refused() {
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    place.deploy_built_in(&demo("model"), &["output_action: summary_only"], &[]);
    assert_refused(&place, &place.run(&[]), &["`output_action: summary_only` drops the rows", "hint: leave"]);
    for (tags, expected) in [
        (["picture_size: 64x64"], "tag `picture_size` is `64x64`; allowed is what the model takes, N×3×32×32"),
        (["picture_std: 1"], "tag `picture_std` is `1`; allowed is nothing"),
        (["predictions: best"], "tag `predictions` is `best`; allowed is `class` or `values`"),
        (["picture_shorter_side: 16"], "a shorter side of 16 pixels"),
        (["table_columns: a"], "tag `table_columns` is `a`; allowed is nothing, since the model takes pictures"),
    ] {
        place.deploy_built_in(&demo("model"), &[], &tags);
        assert_refused(&place, &place.run(&[]), &[expected]);
    }
    copy_folder(&demo("model"), &place.at("model"));
    std::fs::write(place.at("model/resnet14v2-shapes.labels.txt"), "one\ntwo\n").unwrap();
    place.deploy_built_in(&place.at("model"), &[], &[]);
    assert_refused(&place, &place.run(&[]), &["resnet14v2-shapes.labels.txt`: 2 names for 10 classes"]);
    std::fs::copy(model("groups"), place.at("model/another.onnx")).unwrap();
    assert_refused(&place, &place.run(&[]), &["several models: `another.onnx`, `resnet14v2-shapes.onnx`; name one"]);
}

#[test]
fn tags_say_how_pictures_are_made_and_what_is_told() {
    let place = Place::new();
    let told = |tags: &[&str]| {
        place.deploy_built_in(&demo("model"), &[CSV], tags);
        csv_rows(&place.score(&demo("pictures"), &["--device", "cpu"]).completed().predictions())
    };
    let values = told(&["predictions: values"]);
    assert_eq!(values[0].len(), 11);
    assert_eq!((values[0][1].as_str(), values[0][10].as_str()), ("logits.0", "logits.9"));
    let plain = told(&[]);
    // Saying what is done anyway changes nothing; other numbers do.
    assert_eq!(told(&["picture_scale: 1/255", "picture_mean: 0, 0, 0", "picture_filter: bicubic"]), plain);
    assert_ne!(told(&["picture_mean: 0.5, 0.5, 0.5"]), plain);
    assert_ne!(told(&["picture_shorter_side: 40"]), plain);
}

#[test]
fn a_deadline_ends_a_mini_batch() {
    let place = Place::new();
    for i in 0..4000 {
        std::fs::copy(demo("pictures/0001_circle.jpg"), place.at(&format!("input/{i:04}.jpg"))).unwrap();
    }
    let settings = ["mini_batch_size: 4000", "retry_settings: {max_retries: 0, timeout: 1}", "limits: {tensors: 1MiB}"];
    place.deploy_built_in(&demo("model"), &settings, &[]);
    let began = std::time::Instant::now();
    let ran = place.run(&["--quiet"]);
    let errors = ran.errors();
    println!("{} errors after {:?}", errors.len(), began.elapsed());
    // A machine that scores 4000 pictures in a second has no deadline to meet.
    if ran.code != 0 {
        assert_eq!((errors.len(), errors[0][3].as_str()), (4000, "timeout"), "{}", ran.stderr);
        assert!(errors[0][4].contains("did not end within 1s"), "{:?}", errors[0]);
    }
}

#[test]
fn a_killed_job_goes_on_where_it_was() {
    let place = Place::new();
    for i in 0..3000 {
        std::fs::copy(demo("pictures/0001_circle.jpg"), place.at(&format!("input/{i:04}.jpg"))).unwrap();
    }
    place.deploy_built_in(&demo("model"), &["mini_batch_size: 5", "max_concurrency_per_instance: 2"], &[]);
    place.run(&["--quiet"]).completed();
    let undisturbed = place.read("output/predictions.csv");
    assert_eq!(undisturbed.lines().count(), 3000);
    std::fs::remove_dir_all(place.at("output")).unwrap();
    let (mut how, mut kills) = ("--overwrite", 0);
    while kills < 5 {
        let mut child = place.command(&[how, "--quiet"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100 + 30 * kills));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        how = if place.at("output/.scorehost/journal").exists() { "--resume" } else { "--overwrite" };
    }
    if place.at("output/.scorehost").exists() {
        place.run(&["--resume", "--quiet"]).completed();
    }
    println!("{kills} kills");
    assert_eq!(place.read("output/predictions.csv"), undisturbed);
}

#[test]
fn another_scorer_does_not_resume_a_job() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    std::fs::write(place.at("input/bad.jpg"), "no picture").unwrap();
    place.deploy_built_in(&demo("model"), &["error_threshold: 0", "mini_batch_size: 1"], &[]);
    assert_eq!(place.run(&[]).code, 1);
    place.deploy_model(&demo("model"), "score-by-batch", &["error_threshold: 0", "mini_batch_size: 1"], &[]);
    let ran = place.run(&["--resume"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("other script: `built-in 2` then"), "{}", ran.stderr);
}

#[test]
fn check_says_what_would_be_scored() {
    let place = Place::new();
    let check = |place: &Place| {
        let output = scorehost().arg("check").arg(place.at("deployment.yml")).output().unwrap();
        Ran::of(&output, &place.at("output"))
    };
    place.deploy_built_in(&demo("model"), &[], &[]);
    let ran = check(&place).completed();
    for text in
        ["the built-in scorer scores pictures: resized to 32×32", "floats in [0, 1]", "`label` (from resnet14v2"]
    {
        assert!(ran.stdout.contains(text), "{text}\n{}", ran.stdout);
    }
    let rank_three = mlflow("sklearn");
    place.deploy_built_in(&rank_three, &[], &[]);
    let ran = check(&place);
    assert_eq!(ran.code, 2);
    let expected = "`flavors` is `python_function, sklearn`, and only the flavor `onnx` is scored";
    assert!(ran.stderr.contains(expected) && ran.stderr.contains("hint: convert"), "{}", ran.stderr);
}

#[test]
fn mlflows_signature_gives_the_size_of_pictures() {
    let place = Place::new();
    place.deploy_built_in(&mlflow("pictures"), &[CSV], &[]);
    let rows = csv_rows(&place.score(&demo("pictures"), &["--device", "cpu"]).completed().predictions());
    let expected = csv_rows(&std::fs::read_to_string(mlflow("pictures.csv")).unwrap());
    assert_eq!((rows.len(), rows[0].len()), (41, 3));
    for (row, expected) in rows.iter().zip(&expected).skip(1) {
        assert_eq!(row[..2], expected[..2]);
        let probability = |row: &[String]| row[2].parse::<f64>().unwrap();
        assert!((probability(row) - probability(expected)).abs() < 1e-4, "{row:?} {expected:?}");
    }
    // Without the signature a tag must say it.
    std::fs::create_dir(place.at("model")).unwrap();
    std::fs::copy(mlflow("pictures/model.onnx"), place.at("model/model.onnx")).unwrap();
    std::fs::remove_dir_all(place.at("output")).unwrap();
    place.deploy_built_in(&place.at("model"), &[CSV], &[]);
    let ran = place.score(&demo("pictures"), &["--device", "cpu"]);
    assert_refused(&place, &ran, &["`picture` leaves the size of its pictures open", "picture_size: 224x224"]);
    place.deploy_built_in(&place.at("model"), &[CSV], &["picture_size: 16"]);
    assert_eq!(csv_rows(&place.score(&demo("pictures"), &["--device", "cpu"]).completed().predictions()), rows);
}

#[test]
fn a_signature_that_is_not_the_graphs_is_refused_with_both() {
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    copy_folder(&mlflow("pictures"), &place.at("model"));
    let text = std::fs::read_to_string(mlflow("pictures/MLmodel")).unwrap();
    place.deploy_built_in(&place.at("model"), &[], &[]);
    for (written, instead, expected) in [
        ("-1, 3, 16, 16", "-1, 1, 16, 16", "`picture`: N×1×16×16 float32; the graph's are `picture`: N×3×?×? floats"),
        ("[-1, 6]", "[-1, 7]", "`probabilities`: N×7 float32; the graph's are `probabilities`: N×6 floats"),
        (
            "\"dtype\": \"float32\",\n    \"shape\"",
            "\"dtype\": \"uint8\",\n    \"shape\"",
            "N×3×16×16 uint8; the graph's",
        ),
    ] {
        assert!(text.contains(written), "{written}\n{text}");
        std::fs::write(place.at("model/MLmodel"), text.replace(written, instead)).unwrap();
        assert_refused(&place, &place.run(&[]), &["MLmodel` does not fit the model: the signature's", expected]);
    }
}

#[test]
fn a_script_finds_the_model_that_mlflow_names() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    copy_folder(&demo("model"), &place.at("model"));
    std::fs::copy(model("groups"), place.at("model/another.onnx")).unwrap();
    let text = "flavors:\n  onnx:\n    data: resnet14v2-shapes.onnx\n";
    std::fs::write(place.at("model/MLmodel"), text).unwrap();
    place.deploy_model(&place.at("model"), "score-by-batch", &[], &[]);
    assert_eq!(place.run(&["--quiet"]).completed().scored()[0].class, 0);
}

/// The rows are those of `table` with its `predicted` ones after them, and the file before.
#[track_caller]
fn assert_appended(rows: &[Vec<String>], file: &str, table: &str, predicted: &str) {
    let (records, predicted) = (csv_rows(table), csv_rows(predicted));
    assert_eq!((rows.len(), rows[0][0].as_str()), (records.len(), "file"));
    let width = records[0].len();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row[0], if at == 0 { "file" } else { file });
        assert_eq!(row[1..=width], records[at], "row {at}");
        for (given, expected) in row[width + 1..].iter().zip(&predicted[at]) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
            let numbers = (given.parse(), expected.parse());
            let is_near = if let (Ok(a), Ok(b)) = numbers { near(a, b) } else { given == expected };
            assert!(is_near, "row {at}: {given}, {expected}");
        }
        assert_eq!(row.len(), width + 1 + predicted[at].len());
    }
}

#[test]
fn predictions_are_appended_to_records() {
    // One input of named columns in another order than the table's; and an input for each column.
    for name in ["prices", "visits"] {
        let place = Place::new();
        let table = mlflow(&format!("{name}.csv"));
        std::fs::copy(&table, place.at("input/a.csv")).unwrap();
        let predicted = std::fs::read_to_string(mlflow(&format!("{name}.predicted.csv"))).unwrap();
        place.deploy_built_in(&mlflow(name), &[CSV], &["device_batching: 7"]);
        let ran = place.run(&["--quiet"]).completed();
        let table = std::fs::read_to_string(table).unwrap();
        assert_appended(&csv_rows(&ran.predictions()), "a.csv", &table, &predicted);
    }
}

#[test]
fn a_table_that_does_not_fit_fails_alone_or_is_refused_up_front() {
    let place = Place::new();
    let input = |name: &str, text: &str| std::fs::write(place.at("input").join(name), text).unwrap();
    place.deploy_built_in(&mlflow("visits"), &[CSV], &[]);
    input("a.csv", "age,seen\n1,2\n");
    let expected = "`a.csv`: the table has no column `visits`, which the model takes; it has 2, `age`, `seen`";
    assert_refused(&place, &place.run(&[]), &[expected]);
    input("a.csv", "visits,age,name\n2,30.5,Ann\n3,40,Bo\n");
    // Another order is the same table; integers are numbers; an empty cell is no number.
    input("b.csv", "name,age,visits\nCy,50,4\n,,5\n");
    input("c.csv", "visits,age\n1,2\n");
    input("d.csv", "visits,age,name\n1.5,2,Di\n");
    input("e.csv", "visits,age,name\n");
    input("f.csv", "visits,age,name\n1,2\n");
    input("g.csv", "visits,age,name\n,2,Em\n");
    let ran = place.run(&["--quiet"]).completed();
    let rows = csv_rows(&ran.predictions());
    assert_eq!(rows[0], ["file", "visits", "age", "name", "label", "probabilities.0", "probabilities.1"]);
    let own: Vec<_> = rows[1..].iter().map(|row| row[..4].join("|")).collect();
    assert_eq!(own, ["a.csv|2|30.5|Ann", "a.csv|3|40.0|Bo", "b.csv|4|50.0|Cy", "b.csv|5||"]);
    let errors: Vec<_> = ran.errors().into_iter().map(|row| (row[0].clone(), row[4].clone())).collect();
    for ((file, message), (name, expected)) in errors.iter().zip([
        ("c.csv", "no column `name`, which the job's first table has"),
        ("d.csv", "column `visits` holds numbers, and the model takes integers"),
        ("e.csv", "no records"),
        ("f.csv", "2 cells"),
        ("g.csv", "row 1, column `visits`: it is empty"),
    ]) {
        assert!(file == name && message.contains(expected), "{expected}\n{errors:?}");
    }
    assert_eq!(errors.len(), 5);
}

#[test]
fn columns_are_taken_in_their_order_or_by_a_tag() {
    let place = Place::new();
    let graph = mlflow("prices/model.onnx");
    std::fs::write(place.at("input/a.csv"), "rooms,area,age,distance\n2,80.5,30,4.25\n").unwrap();
    place.deploy_built_in(&mlflow("prices"), &[CSV], &[]);
    let by_name = csv_rows(&place.run(&["--quiet"]).completed().predictions());
    place.deploy_built_in(&graph, &[CSV], &[]);
    let by_place = csv_rows(&place.run(&["--quiet", "--overwrite"]).completed().predictions());
    assert_eq!((by_place[0][5].as_str(), &by_place[1]), ("variable", &by_name[1]));
    // Where the places count, they are those of the job's first table.
    std::fs::write(place.at("input/b.csv"), "distance,age,area,rooms\n4.25,30,80.5,2\n").unwrap();
    let both = csv_rows(&place.run(&["--quiet", "--overwrite"]).completed().predictions());
    assert_eq!((both.len(), &both[1][1..]), (3, &both[2][1..]));
    std::fs::remove_file(place.at("input/b.csv")).unwrap();
    // The record may have a column of a name that is added.
    std::fs::write(place.at("input/a.csv"), "age,file,distance,variable,area,rooms\n30,x,4.25,y,80.5,2\n").unwrap();
    std::fs::remove_dir_all(place.at("output")).unwrap();
    let expected = "the model takes 4 columns, and the table has 6, `age`, `file`";
    assert_refused(&place, &place.run(&[]), &[expected, "table_columns: a, b"]);
    place.deploy_built_in(&graph, &[CSV], &["table_columns: rooms, area, age, distance"]);
    let tagged = csv_rows(&place.run(&["--quiet"]).completed().predictions());
    assert_eq!(tagged[0].join(","), "file_,age,file,distance,variable,area,rooms,variable_");
    assert_eq!(tagged[1][7], by_name[1][5]);
    place.deploy_built_in(&graph, &[CSV], &["table_columns: rooms, area"]);
    std::fs::remove_dir_all(place.at("output")).unwrap();
    assert_refused(&place, &place.run(&[]), &["tag `table_columns` is `rooms, area`; allowed is 4 columns"]);
}

#[test]
fn tags_that_mean_nothing_to_a_model_of_tables_are_refused() {
    let place = Place::new();
    std::fs::write(place.at("input/a.csv"), "rooms,area,age,distance,visits\n2,80.5,30,4.25,1\n").unwrap();
    for (model, tag, expected) in [
        (
            "prices",
            "picture_mean: 0, 0, 0",
            "tag `picture_mean` is `0, 0, 0`; allowed is nothing, since the model takes",
        ),
        ("prices", "table_columns: area, rooms, age, distance", "allowed is what the model's signature says, `rooms"),
        (
            "visits",
            "table_columns: age, visits",
            "allowed is nothing, since each input takes the column of its own name",
        ),
    ] {
        place.deploy_built_in(&mlflow(model), &[CSV], &[tag]);
        assert_refused(&place, &place.run(&[]), &[expected]);
    }
    // What the signature says may be said again.
    place.deploy_built_in(&mlflow("prices"), &[CSV], &["table_columns: rooms, area, age, distance"]);
    place.run(&["--quiet"]).completed();
}

#[test]
fn what_a_column_is_may_be_told_by_a_later_table() {
    let place = Place::new();
    let input = |name: &str, text: &str| std::fs::write(place.at("input").join(name), text).unwrap();
    place.deploy_built_in(&mlflow("visits"), &[CSV], &[]);
    // No remark in the first tables, and no table tells what `code` is until nobody looks any more.
    for at in 0..20 {
        input(&format!("{at:02}.csv"), "visits,age,remark,code\n2,30.5,,\n");
    }
    input("03.csv", "visits,age,remark,code\n3,40,late,\n");
    input("21.csv", "visits,age,remark,code\n4,50, 7 ,1.50\n");
    input("22.csv", "visits,age,remark,code\n5,60,TRUE,A7\n");
    let rows = csv_rows(&place.run(&["--quiet"]).completed().predictions());
    let own = |at: usize| rows[at][..5].join("|");
    assert_eq!((rows.len(), own(1).as_str(), own(4).as_str()), (23, "00.csv|2|30.5||", "03.csv|3|40.0|late|"));
    // As they stand in the file, since the columns are of texts.
    assert_eq!((own(21).as_str(), own(22).as_str()), ("21.csv|4|50.0| 7 |1.50", "22.csv|5|60.0|TRUE|A7"));
}

#[test]
fn an_output_may_have_the_name_of_the_files_column() {
    let price = r#"[{"type": "double", "name": "price", "required": true}]"#;
    let file = r#"[{"type": "double", "name": "file", "required": true}]"#;
    let place = Place::new();
    copy_folder(&mlflow("prices"), &place.at("model"));
    let text = std::fs::read_to_string(mlflow("prices/MLmodel")).unwrap();
    assert!(text.contains(price), "{text}");
    std::fs::write(place.at("model/MLmodel"), text.replace(price, file)).unwrap();
    std::fs::write(place.at("input/a.csv"), "rooms,area,age,distance\n2,80.5,30,4.25\n").unwrap();
    place.deploy_built_in(&place.at("model"), &[CSV], &[]);
    let rows = csv_rows(&place.run(&["--quiet"]).completed().predictions());
    assert_eq!(rows[0].join(","), "file,rooms,area,age,distance,file_");
    assert_eq!(rows[1][0], "a.csv");
}

#[test]
fn a_resumed_job_keeps_the_columns_it_began_with() {
    let place = Place::new();
    let record = |name: &str, text: &str| std::fs::write(place.at("input").join(name), text).unwrap();
    record("a.csv", "visits,age\n2,30.5\n");
    record("b.csv", "visits,age\n2\n");
    record("c.csv", "visits,age\n3,40.5\n");
    let settings =
        |threshold: &str| [CSV.to_owned(), "mini_batch_size: 1".into(), format!("error_threshold: {threshold}")];
    let deploy = |threshold: &str| {
        place.deploy_built_in(&mlflow("visits"), &settings(threshold).each_ref().map(String::as_str), &[]);
    };
    deploy("0");
    assert_eq!(place.run(&[]).code, 1);
    // What is the first table now has other columns; the job's own are those of its beginning.
    record("a.csv", "visits,age,more\n2,30.5,1\n");
    deploy("1");
    let rows = csv_rows(&place.run(&["--resume", "--quiet"]).completed().predictions());
    let own: Vec<_> = rows.iter().map(|row| row[..3].join(",")).collect();
    assert_eq!(own, ["file,visits,age", "a.csv,2,30.5", "c.csv,3,40.5"]);
}
