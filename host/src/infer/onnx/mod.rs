//! An ONNX file → its graph as plain data: nodes, constants, inputs, outputs.
//!
//! What goes in: bytes that anyone may have written. What comes out has been bounded and copied, and nothing in it has
//! been checked for sense: that is [`super::graph`]'s. Reads no external data, sparse tensors or subgraphs.
//!
//! The messages and field numbers are those of `onnx.proto` in the ONNX standard.

mod tensor;
mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use self::tensor::{count_integers, read_tensor};
use self::wire::{Fields, Value, WireError};
use super::InferError;
use crate::fault::Fault;

/// The largest file that is read; protocol buffers end at 2 GiB in any case.
const FILE_BYTES: u64 = 1 << 31;
/// More nodes than any known network has; keeps the passes, which are quadratic at worst, from being fed without end.
const NODES: usize = 100_000;
/// Dimensions of one tensor.
const RANK: usize = 8;

/// A model file, as it is written.
#[derive(Clone, Debug, Default)]
pub struct ModelFile {
    /// The version of the standard operations.
    pub opset: i64,
    /// The operations, in the file's order, which the standard wants to be one of execution.
    pub nodes: Vec<Node>,
    /// The constants, by name: weights mostly.
    pub constants: BTreeMap<String, Constant>,
    /// The inputs that are not constants.
    pub inputs: Vec<Declared>,
    /// The outputs.
    pub outputs: Vec<Declared>,
}

/// One operation.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name, or the name of its first output where it has none.
    pub name: String,
    /// What it does: `Conv`.
    pub operation: String,
    /// Where the operation is defined; empty for the standard itself.
    pub domain: String,
    /// The names of what it reads; an empty one stands for an optional input left out.
    pub inputs: Vec<String>,
    /// The names of what it makes.
    pub outputs: Vec<String>,
    /// Its settings, by name.
    pub attributes: BTreeMap<String, Attribute>,
}

/// A setting of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
    /// A tensor.
    Tensor(Constant),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Integers(Vec<i64>),
    /// Something that no supported operation has: a subgraph, texts, sparse tensors.
    Other,
}

/// A constant tensor in row-major order; rank 0 is a single number.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// Its numbers, as many as the shape says.
    pub numbers: Numbers,
}

/// The numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// 32-bit floats, also made from 16 and 64 bits.
    Floats(Arc<Vec<f32>>),
    /// Integers and booleans of any width.
    Integers(Arc<Vec<i64>>),
    /// A type that is not read, as the standard numbers it.
    Unread(i64),
}

/// A declared input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// The element type, as the standard numbers it: 1 is a 32-bit float, 2 an unsigned byte.
    pub element: i64,
    /// The size of each dimension, absent where it is a name or unknown; no shape at all is an absent list.
    pub shape: Option<Vec<Option<usize>>>,
}

impl Constant {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Node {
    /// An integer setting, or the standard's default for it.
    pub fn integer(&self, name: &str, default: i64) -> i64 {
        match self.attributes.get(name) {
            Some(Attribute::Integer(v)) => *v,
            _ => default,
        }
    }

    /// A float setting, or the standard's default for it.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.attributes.get(name) {
            Some(Attribute::Float(v)) => *v,
            _ => default,
        }
    }

    /// A list of integers, if it is set.
    pub fn integers(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Integers(v)) => Some(v),
            _ => None,
        }
    }

    /// A text setting, or the standard's default for it.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.attributes.get(name) {
            Some(Attribute::Text(v)) => v,
            _ => default,
        }
    }
}

/// What is wrong with a file's bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The encoding is broken.
    #[error("{0}")]
    Encoding(String),
    /// The model in it is broken, or beyond a bound.
    #[error("{0}")]
    Model(String),
}

impl ParseError {
    /// Whose fault it is: always the caller's, who chose the model.
    pub fn fault(&self) -> Fault {
        Fault::Caller
    }
}

impl From<WireError> for ParseError {
    fn from(error: WireError) -> Self {
        ParseError::Encoding(error.to_string())
    }
}

/// Reads the model file at `path`.
///
/// # Errors
/// [`InferError::Read`] if it cannot be read, [`InferError::Invalid`] if it is not a model.
pub fn read(path: &Path) -> Result<ModelFile, InferError> {
    let bytes = read_bytes(path)?;
    parse(&bytes).map_err(|error| InferError::Invalid { path: path.to_owned(), reason: error.to_string() })
}

/// The bytes of the file at `path`, of a size that [`parse`] takes.
///
/// # Errors
/// If it cannot be read, or is too large.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, InferError> {
    let failed = |source| InferError::Read { path: path.to_owned(), source };
    let invalid = |reason: String| InferError::Invalid { path: path.to_owned(), reason };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a larger file is noticed even if it grows while it is read.
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(invalid("it is larger than 2 GiB".into()));
    }
    Ok(bytes)
}

/// Reads a model from its bytes.
///
/// # Errors
/// If they are not a model, with the reason.
pub fn parse(bytes: &[u8]) -> Result<ModelFile, ParseError> {
    let (mut file, mut graph, mut opset) = (ModelFile::default(), None, None);
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            7 => graph = Some(value.bytes()?),
            8 => {
                let (domain, version) = operator_set(value.bytes()?)?;
                if is_standard(&domain) {
                    opset = Some(version);
                }
            }
            _ => {}
        }
    }
    let graph = graph.ok_or_else(|| ParseError::Model("it has no graph".into()))?;
    file.opset = opset.ok_or_else(|| ParseError::Model("it names no version of the standard operations".into()))?;
    read_graph(graph, &mut file)?;
    Ok(file)
}

/// Whether a domain is the standard's own; both spellings are in use.
pub fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn operator_set(bytes: &[u8]) -> Result<(String, i64), ParseError> {
    let (mut domain, mut version) = (String::new(), 0);
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => domain = value.text()?,
            2 => version = value.integer()?,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn read_graph(bytes: &[u8], file: &mut ModelFile) -> Result<(), ParseError> {
    let mut integers = 0;
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => file.nodes.push(read_node(value.bytes()?, &mut integers)?),
            5 => {
                let (name, constant) = read_tensor(value.bytes()?, &mut integers)?;
                file.constants.insert(name, constant);
            }
            11 => file.inputs.push(read_declared(value.bytes()?)?),
            12 => file.outputs.push(read_declared(value.bytes()?)?),
            15 => return Err(ParseError::Model("it has sparse constants, which are not read".into())),
            _ => {}
        }
        if file.nodes.len() > NODES || file.constants.len() > NODES || file.inputs.len() + file.outputs.len() > NODES {
            return Err(ParseError::Model(format!("it has more than {NODES} nodes, constants or inputs")));
        }
    }
    // Older files list every constant among the inputs too.
    file.inputs.retain(|input| !file.constants.contains_key(&input.name));
    Ok(())
}

fn read_node(bytes: &[u8], integers: &mut usize) -> Result<Node, ParseError> {
    let mut node = Node::default();
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => node.inputs.push(value.text()?),
            2 => node.outputs.push(value.text()?),
            3 => node.name = value.text()?,
            4 => node.operation = value.text()?,
            5 => {
                let (name, attribute) = read_attribute(value.bytes()?, integers)?;
                node.attributes.insert(name, attribute);
            }
            7 => node.domain = value.text()?,
            _ => {}
        }
    }
    if node.name.is_empty() {
        node.name = node.outputs.first().cloned().unwrap_or_default();
    }
    Ok(node)
}

fn read_attribute(bytes: &[u8], integers: &mut usize) -> Result<(String, Attribute), ParseError> {
    let (mut name, mut kind) = (String::new(), 0);
    let (mut float, mut integer, mut text, mut tensor) = (0.0, 0, None, None);
    let (mut floats, mut list) = (Vec::new(), Vec::new());
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => float = value.float()?,
            3 => integer = value.integer()?,
            4 => text = Some(value.bytes()?),
            5 => tensor = Some(value.bytes()?),
            7 => value.floats(&mut floats)?,
            8 => value.integers(&mut list)?,
            20 => kind = value.integer()?,
            _ => {}
        }
    }
    count_integers(integers, list.len())?;
    let attribute = match kind {
        1 => Attribute::Float(float),
        2 => Attribute::Integer(integer),
        3 => Attribute::Text(String::from_utf8_lossy(text.unwrap_or_default()).into_owned()),
        4 => Attribute::Tensor(read_tensor(tensor.unwrap_or_default(), integers)?.1),
        6 => Attribute::Floats(floats),
        7 => Attribute::Integers(list),
        _ => Attribute::Other,
    };
    Ok((name, attribute))
}

fn read_declared(bytes: &[u8]) -> Result<Declared, ParseError> {
    let mut declared = Declared { name: String::new(), element: 0, shape: None };
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => declared.name = value.text()?,
            // TypeProto, of which only its tensor (field 1) is read.
            2 => {
                if let Some(tensor) = last_bytes(value.bytes()?, 1)? {
                    read_tensor_type(tensor, &mut declared)?;
                }
            }
            _ => {}
        }
    }
    Ok(declared)
}

fn read_tensor_type(bytes: &[u8], declared: &mut Declared) -> Result<(), ParseError> {
    let mut fields = Fields::of(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, value) => declared.element = value.integer()?,
            (2, value) => {
                let mut shape = Vec::new();
                let mut dimensions = Fields::of(value.bytes()?);
                while let Some((_, dimension)) = dimensions.next()? {
                    shape.push(read_dimension(dimension)?);
                    if shape.len() > RANK {
                        return Err(ParseError::Model(format!("`{}` has too many dimensions", declared.name)));
                    }
                }
                declared.shape = Some(shape);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A size, or `None` for a name; exporters also write 0 and -1 for an unknown one.
fn read_dimension(value: Value) -> Result<Option<usize>, ParseError> {
    let mut size = None;
    let mut fields = Fields::of(value.bytes()?);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            size = usize::try_from(value.integer()?).ok().filter(|&n| n > 0);
        }
    }
    Ok(size)
}

fn last_bytes(message: &[u8], wanted: u64) -> Result<Option<&[u8]>, ParseError> {
    let (mut found, mut fields) = (None, Fields::of(message));
    while let Some((number, value)) = fields.next()? {
        if number == wanted {
            found = Some(value.bytes()?);
        }
    }
    Ok(found)
}

/// A tensor that stands in a file of its own, as the standard's tests have them.
#[cfg(all(test, feature = "gpu"))]
pub(crate) fn lone_tensor(bytes: &[u8]) -> Result<Constant, ParseError> {
    read_tensor(bytes, &mut 0).map(|(_, constant)| constant)
}

#[cfg(test)]
pub(crate) mod write;

#[cfg(test)]
mod tests {
    use super::write::{self, Attr};
    use super::*;

    fn small() -> Vec<u8> {
        write::Model::new(13)
            .input("x", 1, &[None, Some(3), Some(4), Some(4)])
            .floats("w", &[1, 3, 1, 1], &[1.0, 2.0, 3.0])
            .integers("shape", &[2], &[0, -1])
            .node("Conv", &["x", "w"], &["y"], &[("strides", Attr::Ints(&[1, 1])), ("auto_pad", Attr::Text("NOTSET"))])
            .node("Reshape", &["y", "shape"], &["z"], &[])
            .output("z", 1, &[None, Some(16)])
            .bytes()
    }

    #[test]
    fn a_model_is_read_whole() {
        let file = parse(&small()).unwrap();
        assert_eq!((file.opset, file.nodes.len(), file.constants.len()), (13, 2, 2));
        assert_eq!(file.inputs[0].shape, Some(vec![None, Some(3), Some(4), Some(4)]));
        assert_eq!(file.constants["w"].numbers, Numbers::Floats(vec![1.0, 2.0, 3.0].into()));
        assert_eq!(file.constants["shape"].numbers, Numbers::Integers(vec![0, -1].into()));
        assert_eq!(file.nodes[0].attributes["strides"], Attribute::Integers(vec![1, 1]));
        assert_eq!(file.nodes[0].name, "y", "a node without a name takes its output's");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_or_read_and_never_panics() {
        let bytes = small();
        for end in 0..bytes.len() {
            // A cut between two fields of the outer message leaves a shorter message that is well formed.
            if let Ok(file) = parse(&bytes[..end]) {
                assert!(end > bytes.len() - 8, "{end} of {}: {file:?}", bytes.len());
            }
        }
    }

    #[test]
    fn garbage_is_refused_and_never_panics() {
        let bytes = small();
        let mut state = 1u32;
        for _ in 0..20_000 {
            let mut changed = bytes.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize % changed.len();
                changed[at] = (state >> 24) as u8;
            }
            let _ = parse(&changed);
        }
        assert!(matches!(parse(b"a picture, say"), Err(ParseError::Encoding(_))));
        assert!(matches!(parse(b""), Err(ParseError::Model(_))));
    }

    #[test]
    fn constants_that_lie_are_refused() {
        let cases = [
            (write::Model::new(13).floats("w", &[2, 2], &[1.0; 3]), "has shape [2, 2] and 3 numbers"),
            (write::Model::new(13).floats("w", &[-1], &[1.0]), "negative"),
            (write::Model::new(13).floats("w", &[i64::MAX, 4], &[1.0]), "too large"),
            (write::Model::new(13).external("w"), "another file"),
        ];
        for (model, want) in cases {
            let error = parse(&model.bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_missing_file_and_a_folder_are_read_errors() {
        let folder = std::env::temp_dir();
        assert!(matches!(read(&folder.join("no-such-model.onnx")), Err(InferError::Read { .. })));
        assert!(matches!(read(&folder), Err(InferError::Read { .. })));
    }
}
