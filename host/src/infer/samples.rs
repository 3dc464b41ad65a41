//! Small ONNX models, encoded here, and what every backend that opens them must do.
//! Only tests use this.

use std::fs;
use std::path::PathBuf;

use super::{Backend, InferError};
use crate::tensor::{Element, Tensor};

/// ONNX's numbers for element types.
pub(super) mod kind {
    pub(in super::super) const FLOAT: u64 = 1;
    pub(in super::super) const UINT8: u64 = 2;
    pub(in super::super) const INT32: u64 = 6;
    pub(in super::super) const INT64: u64 = 7;
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field of a protocol buffer that holds a number.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// One that holds bytes: text or a message.
fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A node, perhaps with one integer attribute.
pub(super) fn node(operation: &str, inputs: &[&str], output: &str, attribute: Option<(&str, u64)>) -> Vec<u8> {
    let mut all: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name.as_bytes())).collect();
    all.extend(
        [bytes(2, output.as_bytes()), bytes(3, format!("node_of_{output}").as_bytes()), bytes(4, operation.as_bytes())]
            .concat(),
    );
    if let Some((name, value)) = attribute {
        all.extend(bytes(5, &[bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat()));
    }
    bytes(1, &all)
}

/// An input or an output; a size of 0 is a free one.
fn port(field: u64, name: &str, kind: u64, shape: &[u64]) -> Vec<u8> {
    let size = |&n: &u64| bytes(1, &if n == 0 { bytes(2, b"N") } else { number(1, n) });
    let shape: Vec<u8> = shape.iter().flat_map(size).collect();
    let tensor = [number(1, kind), bytes(2, &shape)].concat();
    bytes(field, &[bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat())
}

fn weights(name: &str, shape: &[u64], values: &[f32]) -> Vec<u8> {
    let dims: Vec<u8> = shape.iter().flat_map(|&n| number(1, n)).collect();
    let raw: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    bytes(5, &[dims, number(2, kind::FLOAT), bytes(8, name.as_bytes()), bytes(9, &raw)].concat())
}

/// A model of these nodes and weights, with input `x` and output `y`.
pub(super) fn model(body: &[Vec<u8>], x: (u64, &[u64]), y: (u64, &[u64])) -> Vec<u8> {
    let ports = [port(11, "x", x.0, x.1), port(12, "y", y.0, y.1)].concat();
    let graph = [body.concat(), bytes(2, b"graph"), ports].concat();
    [number(1, 8), bytes(8, &number(2, 13)), bytes(7, &graph)].concat()
}

/// A model whose arithmetic is long enough that the order of its sums shows: 64 inputs to 16 outputs, by row.
pub(super) fn dense() -> Vec<u8> {
    let values: Vec<f32> = (0..64 * 16).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 97.0).collect();
    let body =
        [node("MatMul", &["x", "w"], "h", None), node("Relu", &["h"], "y", None), weights("w", &[64, 16], &values)];
    model(&body, (kind::FLOAT, &[0, 64]), (kind::FLOAT, &[0, 16]))
}

/// A cast of `x` to another type.
pub(super) fn cast(from: u64, to: u64) -> Vec<u8> {
    model(&[node("Cast", &["x"], "y", Some(("to", to)))], (from, &[0, 2]), (to, &[0, 2]))
}

/// A file that is removed when it is dropped, with its folder.
pub(super) struct OnDisk {
    folder: tempfile::TempDir,
}

impl OnDisk {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.onnx"), bytes).unwrap();
        Self { folder }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("model.onnx")
    }
}

fn rows(count: usize) -> Tensor {
    let values = (0..count * 64).map(|i| ((i * 104_729 % 1013) as f32) / 31.0).collect();
    Tensor::from_f32(vec![count, 64], values).unwrap()
}

/// Ports have their names, free sizes and types.
pub(super) fn ports_are_mapped(backend: &dyn Backend) {
    let model = backend.open(&OnDisk::new(&dense()).path()).unwrap();
    let (input, output) = (&model.inputs()[0], &model.outputs()[0]);
    assert_eq!((input.name.as_str(), output.name.as_str()), ("x", "y"));
    assert_eq!((input.shape.clone(), output.shape.clone()), (vec![None, Some(64)], vec![None, Some(16)]));
    assert_eq!((input.element, output.element), (Element::F32, Element::F32));
    assert!(model.workers() >= 1);
}

/// Results are right, and a row's bits are the same alone, in any batch, and beside other calls.
pub(super) fn rows_keep_their_bits(backend: &dyn Backend) {
    let model = backend.open(&OnDisk::new(&dense()).path()).unwrap();
    let x = rows(23);
    let whole = model.run(std::slice::from_ref(&x)).unwrap();
    assert_eq!(whole[0].shape(), [23, 16]);
    let expected = |row: usize, column: usize| {
        let weight = |i: usize| f64::from(((i * 16 + column) * 7919 % 1009) as f32 - 504.0) / 97.0;
        (0..64).map(|i| f64::from(x.f32().unwrap()[row * 64 + i]) * weight(i)).sum::<f64>().max(0.0)
    };
    for (i, &found) in whole[0].f32().unwrap().iter().enumerate() {
        assert!((f64::from(found) - expected(i / 16, i % 16)).abs() < 0.01, "output {i}");
    }
    std::thread::scope(|scope| {
        for start in 0..4 {
            let (model, x, whole) = (&model, &x, &whole[0]);
            scope.spawn(move || {
                for size in [1, 2, 7, 19] {
                    let part = model.run(&[x.slice(start, size).unwrap()]).unwrap();
                    assert_eq!(part[0].f32(), whole.slice(start, size).unwrap().f32(), "{size} rows from {start}");
                }
            });
        }
    });
}

/// Bytes and integers go in and come out.
pub(super) fn types_are_converted(backend: &dyn Backend) {
    let run = |model: &[u8], x: Tensor| backend.open(&OnDisk::new(model).path()).unwrap().run(&[x]).unwrap().remove(0);
    let bytes = Tensor::from_u8(vec![2, 2], vec![0, 1, 200, 255]).unwrap();
    assert_eq!(run(&cast(kind::UINT8, kind::FLOAT), bytes.clone()).f32().unwrap(), [0.0, 1.0, 200.0, 255.0]);
    assert_eq!(run(&cast(kind::UINT8, kind::INT32), bytes).i64().unwrap(), [0, 1, 200, 255]);
    let integers = Tensor::from_i64(vec![1, 2], vec![-3, 1 << 20]).unwrap();
    assert_eq!(run(&cast(kind::INT64, kind::FLOAT), integers).f32().unwrap(), [-3.0, (1 << 20) as f32]);
    let floats = Tensor::from_f32(vec![1, 2], vec![-3.0, 7.0]).unwrap();
    assert_eq!(run(&cast(kind::FLOAT, kind::INT64), floats).i64().unwrap(), [-3, 7]);
}

/// What is no model that can be run is refused when it is opened, with an error of the right kind.
pub(super) fn bad_models_are_refused(backend: &dyn Backend) {
    let error = |bytes: &[u8]| match backend.open(&OnDisk::new(bytes).path()) {
        Ok(_) => panic!("{} bytes were taken for a model", bytes.len()),
        Err(error) => error,
    };
    let missing = OnDisk::new(b"").path();
    assert!(matches!(backend.open(&missing), Err(InferError::Read { .. })));
    assert!(matches!(backend.open(&std::env::temp_dir()), Err(InferError::Read { .. })));
    let sound = dense();
    for (bytes, what) in [
        (&b""[..], "nothing"),
        (b"once upon a time there was a model", "text"),
        (&[0xFF; 100], "noise"),
        (&sound[..sound.len() / 2], "half a model"),
        (&sound[..sound.len() - 1], "all but the last byte"),
    ] {
        let error = error(bytes);
        assert!(matches!(error, InferError::Invalid { .. }), "{what}: {error:?}");
    }
    let odd = model(&[node("NoSuchThing", &["x"], "y", None)], (kind::FLOAT, &[0, 2]), (kind::FLOAT, &[0, 2]));
    let text = crate::fault::chain(&error(&odd));
    assert!(text.contains("NoSuchThing"), "{text}");
    for cut in 0..sound.len() {
        // Some may be sound; none may bring the process down.
        let _ = backend.open(&OnDisk::new(&sound[..cut]).path());
    }
}
