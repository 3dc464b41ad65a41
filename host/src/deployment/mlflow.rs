//! A model folder as MLflow writes it → which of its files is the graph, and what its signature says.
//!
//! What goes in: a folder, and the text of its `MLmodel`. No graph is opened here: whether the signature is true of it is
//! asked by whoever opens both. Only the root of the folder is looked at, and links are not followed.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::yaml::{self, Entry, Node, Value as Yaml};
use super::{Place, SpecError, value};

/// The file that makes a folder an MLflow model.
const FILE: &str = "MLmodel";
/// The most inputs and outputs of a signature, and dimensions of one: rows have no more columns.
const MAX_FIELDS: usize = 4096;
const MAX_DIMENSIONS: usize = 16;

/// What an `MLmodel` says of an ONNX model.
#[derive(Clone, Debug)]
pub struct Mlflow {
    /// The `MLmodel` file.
    pub path: PathBuf,
    /// The graph, relative to the folder.
    pub file: PathBuf,
    /// What it takes and gives, where that is written.
    pub signature: Option<Signature>,
}

/// What a model takes and gives, in the order in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it takes.
    pub inputs: Vec<Field>,
    /// What it gives; empty where nothing is said of it.
    pub outputs: Vec<Field>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name; the only one may have none.
    pub name: Option<String>,
    /// What it is.
    pub kind: FieldKind,
}

/// A column of a table, or a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// A column, by MLflow's name of its type: `double`, `long`, `string`.
    Column(String),
    /// A tensor: numpy's name of its element type, and its sizes; absent ones are free.
    Tensor(String, Vec<Option<usize>>),
}

/// Reads `folder`'s `MLmodel`; none if there is none, or if it holds no graph and a script is there to know better.
///
/// # Errors
/// If it cannot be read, is not what MLflow writes, names a graph outside the folder, or, without a script, has none.
pub(super) fn read(folder: &Path, has_script: bool) -> Result<Option<Mlflow>, SpecError> {
    let path = folder.join(FILE);
    if !path.symlink_metadata().is_ok_and(|data| data.is_file()) {
        return Ok(None);
    }
    let root = yaml::parse(&yaml::read(&path)?, &path)?;
    let missing = |key, cure| SpecError::Missing { path: path.clone(), key, cure };
    let cure = "save the model with mlflow.onnx.save_model, which writes it";
    let flavors = entry(&root, "flavors").ok_or_else(|| missing("flavors", cure))?;
    let Some(onnx) = entry(&flavors.value, "onnx") else {
        return if has_script { Ok(None) } else { Err(no_graph(flavors, &path)) };
    };
    let data = entry(&onnx.value, "data").ok_or_else(|| missing("flavors.onnx.data", cure))?;
    let file = graph(folder, data, &path)?;
    let signature = entry(&root, "signature").map(|entry| signature(entry, &path)).transpose()?.flatten();
    Ok(Some(Mlflow { path, file, signature }))
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Entry> {
    let Yaml::Map(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key)
}

fn line(path: &Path, line: usize) -> Place {
    Place::Line { path: path.to_owned(), line }
}

fn no_graph(flavors: &Entry, path: &Path) -> SpecError {
    let names: Vec<_> = match &flavors.value.value {
        Yaml::Map(entries) => entries.iter().take(8).map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    SpecError::Refused {
        place: line(path, flavors.line),
        key: "flavors",
        value: names.join(", "),
        reason: "and only the flavor `onnx` is scored here without a script",
        cure: "convert the model to ONNX and save it with mlflow.onnx.save_model, or name a script that scores it",
    }
}

/// The graph's file, which must lie in the folder.
fn graph(folder: &Path, data: &Entry, path: &Path) -> Result<PathBuf, SpecError> {
    const KEY: &str = "flavors.onnx.data";
    let place = || line(path, data.line);
    let text = match &data.value.value {
        Yaml::Scalar(scalar) if !scalar.is_null() => scalar.text.as_str(),
        _ => return Err(misfit(KEY, data, path, "the path of the graph's file")),
    };
    let refuse = || SpecError::Refused {
        place: place(),
        key: KEY,
        value: text.to_owned(),
        reason: "which is no file of the model folder",
        cure: "keep the graph in the folder, below `MLmodel`, and no link in its place",
    };
    let below = Path::new(text);
    if text.contains('\0') || !below.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        return Err(refuse());
    }
    let not_found = |source| SpecError::NotFound { place: place(), key: KEY, path: folder.join(below), source };
    let real = folder.join(below).canonicalize().map_err(not_found)?;
    let root = folder.canonicalize().map_err(not_found)?;
    if real.starts_with(root) && real.is_file() { Ok(below.to_owned()) } else { Err(refuse()) }
}

fn misfit(key: &str, entry: &Entry, path: &Path, allowed: &str) -> SpecError {
    let (found, allowed) = (value::describe(&entry.value), allowed.to_owned());
    SpecError::Value { place: line(path, entry.line), key: key.to_owned(), found, allowed }
}

/// `inputs` and `outputs` are JSON in texts; a signature may also be written and empty.
fn signature(written: &Entry, path: &Path) -> Result<Option<Signature>, SpecError> {
    let fields = |key| match entry(&written.value, key) {
        None => Ok(Vec::new()),
        Some(entry) => match &entry.value.value {
            Yaml::Scalar(scalar) if scalar.is_null() => Ok(Vec::new()),
            Yaml::Scalar(scalar) => fields(&scalar.text).map_err(|reason| SpecError::Syntax {
                place: line(path, entry.line),
                reason: format!("`signature.{key}` is not a list of columns or tensors in JSON: {reason}"),
            }),
            _ => Err(misfit(&format!("signature.{key}"), entry, path, "a list of columns or tensors in JSON")),
        },
    };
    let (inputs, outputs) = (fields("inputs")?, fields("outputs")?);
    Ok((!inputs.is_empty() || !outputs.is_empty()).then_some(Signature { inputs, outputs }))
}

/// A field as MLflow writes it. Types of columns may be maps in later versions of it; none of those are numbers.
#[derive(Deserialize)]
struct Written {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: serde_json::Value,
    #[serde(rename = "tensor-spec")]
    tensor: Option<WrittenTensor>,
}

#[derive(Deserialize)]
struct WrittenTensor {
    dtype: String,
    shape: Vec<i64>,
}

fn fields(json: &str) -> Result<Vec<Field>, String> {
    let written: Vec<Written> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if written.len() > MAX_FIELDS {
        return Err(format!("{} are more than the {MAX_FIELDS} allowed", written.len()));
    }
    let field = |Written { name, kind, tensor }| {
        let kind = match tensor {
            Some(WrittenTensor { dtype, shape }) if shape.len() <= MAX_DIMENSIONS => {
                // -1 stands for a free size.
                FieldKind::Tensor(dtype, shape.into_iter().map(|n| usize::try_from(n).ok()).collect())
            }
            Some(tensor) => return Err(format!("a tensor of {} dimensions", tensor.shape.len())),
            None => FieldKind::Column(kind.as_str().map_or_else(|| kind.to_string(), str::to_owned)),
        };
        Ok(Field { name, kind })
    };
    let fields = written.into_iter().map(field).collect::<Result<Vec<_>, String>>()?;
    if fields.len() > 1 && fields.iter().any(|field| field.name.is_none()) {
        return Err("one of several has no name".to_owned());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `m.onnx`, and the `MLmodel` given.
    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.onnx"), b"graph").unwrap();
        std::fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    const FLAVORS: &str = "flavors:\n  onnx:\n    data: m.onnx\n";

    #[test]
    fn columns_and_tensors_are_read_in_their_order() {
        let text = format!(
            "{FLAVORS}signature:\n  inputs: '[{{\"type\": \"double\", \"name\": \"b\", \"required\": true}}, {{\"type\": \"long\", \"name\": \"a\"}}]'\n  \
             outputs: '[{{\"type\": \"tensor\", \"tensor-spec\": {{\"dtype\": \"float32\", \"shape\": [-1, 2]}}}}]'\n  params: null\n"
        );
        let folder = folder(&text);
        let read = read(folder.path(), false).unwrap().unwrap();
        assert_eq!(read.file, Path::new("m.onnx"));
        let column = |name: &str, kind: &str| Field { name: Some(name.into()), kind: FieldKind::Column(kind.into()) };
        let tensor = Field { name: None, kind: FieldKind::Tensor("float32".into(), vec![None, Some(2)]) };
        let signature = Signature { inputs: vec![column("b", "double"), column("a", "long")], outputs: vec![tensor] };
        assert_eq!(read.signature, Some(signature));
    }

    #[test]
    fn what_is_not_an_onnx_model_is_refused_with_what_it_is() {
        for (text, expected) in [
            ("x: 1", "MLmodel` has no `flavors`"),
            (
                "flavors: {python_function: {}, sklearn: {}}",
                "line 1: `flavors` is `python_function, sklearn`, and only",
            ),
            ("flavors: {onnx: {}}", "has no `flavors.onnx.data`"),
            ("flavors: {onnx: {data: [m]}}", "`flavors.onnx.data` is a list; allowed is the path"),
            ("flavors: {onnx: {data: ../m.onnx}}", "`flavors.onnx.data` is `../m.onnx`, which is no file of the model"),
            ("flavors: {onnx: {data: .}}", "which is no file of the model"),
            ("flavors: {onnx: {data: n.onnx}}", "n.onnx`, which cannot be opened"),
            ("flavors: [", "not YAML"),
            (&format!("{FLAVORS}signature: {{inputs: '[1'}}"), "`signature.inputs` is not a list of columns"),
            (&format!("{FLAVORS}signature: {{inputs: {{}}}}"), "`signature.inputs` is a map; allowed is a list"),
            (
                &format!("{FLAVORS}signature: {{inputs: '[{{\"type\": \"long\"}}, {{\"type\": \"long\"}}]'}}"),
                "one of several has no name",
            ),
        ] {
            let folder = folder(text);
            let error = read(folder.path(), false).expect_err(text).to_string();
            assert!(error.contains(expected), "{expected}\n{error}");
        }
    }

    #[test]
    fn a_script_may_know_what_to_do_with_other_flavors() {
        let folder = folder("flavors: {sklearn: {}}");
        assert!(read(folder.path(), true).unwrap().is_none());
        std::fs::remove_file(folder.path().join(FILE)).unwrap();
        assert!(read(folder.path(), false).unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_nowhere() {
        let outside = folder(FLAVORS);
        let inside = folder("flavors: {onnx: {data: link.onnx}}");
        std::os::unix::fs::symlink(outside.path().join("m.onnx"), inside.path().join("link.onnx")).unwrap();
        assert!(matches!(read(inside.path(), false), Err(SpecError::Refused { .. })));
        std::fs::remove_file(inside.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink(outside.path().join(FILE), inside.path().join(FILE)).unwrap();
        assert!(read(inside.path(), false).unwrap().is_none());
    }
}
