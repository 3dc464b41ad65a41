//! Everything that a script can find out of the machine it is on: names, paths and the texts of errors.

use std::fmt::Debug;

use scorehost_sdk::{Image, Model, Output, Recipe, Result, images};

/// A row for each thing asked, with the whole answer.
pub(crate) fn learns(files: &[String]) -> Result<Output> {
    let mut output = Output::new(["what", "answer"]);
    let mut asked = |what: &str, answer: String| output.push((what, answer));
    asked("arguments", format!("{:?}", std::env::args().collect::<Vec<_>>()));
    asked("variables", format!("{:?}", std::env::vars().collect::<Vec<_>>()));
    asked("current folder", format!("{:?}", std::env::current_dir()));
    for folder in ["/", "/input", "/input/..", "/model", "/output", "/proc", "/tmp", "."] {
        let names = std::fs::read_dir(folder).map(|all| all.map(|e| e.map(|e| e.path())).collect::<Vec<_>>());
        asked(&format!("list {folder}"), format!("{names:?}"));
    }
    for link in ["/input/leaves", "/input/near"] {
        asked(&format!("link {link}"), format!("{:?}", std::fs::read_link(link)));
        asked(&format!("through {link}"), format!("{:?}", std::fs::read(link)));
    }
    asked("hidden", format!("{:?}", std::fs::read_to_string("/input/.hidden")));
    asked("slash", format!("{:?}", std::fs::read_dir("/input/leaves/").map(Iterator::count)));
    asked("up", format!("{:?}", std::fs::read("/input/../../etc/passwd")));
    for file in files {
        asked(&format!("picture {file}"), failure(Image::open(file)));
        asked(
            &format!("load {file}"),
            failure(images::load(std::slice::from_ref(file), &Recipe::new(8, 8)).map(|l| l.failed)),
        );
    }
    asked("no picture", failure(Image::open("/input/none.png")));
    for model in ["damaged.onnx", "also.onnx", "missing.onnx", "../other.onnx", "/model/damaged.onnx", "leaves.onnx"] {
        asked(&format!("model {model}"), failure(Model::open(Some(model))));
    }
    asked("any model", failure(Model::open(None)));
    Ok(output)
}

#[expect(clippy::needless_pass_by_value, reason = "results of calls are handed over as they come")]
fn failure<T: Debug, E: Debug>(result: std::result::Result<T, E>) -> String {
    format!("{result:?}")
}
