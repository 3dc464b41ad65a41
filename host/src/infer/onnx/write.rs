//! Writes small ONNX files, for tests: the opposite of the reader beside it.

/// A setting of a node.
pub(crate) enum Attr<'a> {
    Int(i64),
    Float(f32),
    Text(&'a str),
    Ints(&'a [i64]),
}

/// A model under construction.
pub(crate) struct Model {
    opset: i64,
    graph: Vec<u8>,
}

impl Model {
    pub(crate) fn new(opset: i64) -> Self {
        Self { opset, graph: Vec::new() }
    }

    pub(crate) fn node(
        mut self,
        operation: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attr)],
    ) -> Self {
        let mut node = Vec::new();
        inputs.iter().for_each(|name| bytes(&mut node, 1, name.as_bytes()));
        outputs.iter().for_each(|name| bytes(&mut node, 2, name.as_bytes()));
        bytes(&mut node, 4, operation.as_bytes());
        for (name, attribute) in attributes {
            let mut a = Vec::new();
            bytes(&mut a, 1, name.as_bytes());
            let kind = match attribute {
                Attr::Int(v) => {
                    varint(&mut a, 3, v.cast_unsigned());
                    2
                }
                Attr::Float(v) => {
                    a.push(2 << 3 | 5);
                    a.extend(v.to_le_bytes());
                    1
                }
                Attr::Text(v) => {
                    bytes(&mut a, 4, v.as_bytes());
                    3
                }
                Attr::Ints(list) => {
                    list.iter().for_each(|v| varint(&mut a, 8, v.cast_unsigned()));
                    7
                }
            };
            varint(&mut a, 20, kind);
            bytes(&mut node, 5, &a);
        }
        bytes(&mut self.graph, 1, &node);
        self
    }

    pub(crate) fn floats(self, name: &str, shape: &[i64], numbers: &[f32]) -> Self {
        let raw: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, 1, &raw)
    }

    pub(crate) fn integers(self, name: &str, shape: &[i64], numbers: &[i64]) -> Self {
        let raw: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, shape, 7, &raw)
    }

    fn tensor(mut self, name: &str, shape: &[i64], kind: u64, raw: &[u8]) -> Self {
        let mut tensor = Vec::new();
        shape.iter().for_each(|n| varint(&mut tensor, 1, n.cast_unsigned()));
        varint(&mut tensor, 2, kind);
        bytes(&mut tensor, 8, name.as_bytes());
        bytes(&mut tensor, 9, raw);
        bytes(&mut self.graph, 5, &tensor);
        self
    }

    pub(crate) fn external(mut self, name: &str) -> Self {
        let mut tensor = Vec::new();
        varint(&mut tensor, 2, 1);
        bytes(&mut tensor, 8, name.as_bytes());
        varint(&mut tensor, 14, 1);
        bytes(&mut self.graph, 5, &tensor);
        self
    }

    pub(crate) fn input(mut self, name: &str, element: u64, shape: &[Option<i64>]) -> Self {
        let value = declared(name, element, shape);
        bytes(&mut self.graph, 11, &value);
        self
    }

    pub(crate) fn output(mut self, name: &str, element: u64, shape: &[Option<i64>]) -> Self {
        let value = declared(name, element, shape);
        bytes(&mut self.graph, 12, &value);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let mut model = Vec::new();
        varint(&mut model, 1, 8);
        let mut opset = Vec::new();
        varint(&mut opset, 2, self.opset.cast_unsigned());
        bytes(&mut model, 7, &self.graph);
        bytes(&mut model, 8, &opset);
        model
    }
}

fn declared(name: &str, element: u64, shape: &[Option<i64>]) -> Vec<u8> {
    let mut dimensions = Vec::new();
    for size in shape {
        let mut dimension = Vec::new();
        match size {
            Some(n) => varint(&mut dimension, 1, n.cast_unsigned()),
            None => bytes(&mut dimension, 2, b"N"),
        }
        bytes(&mut dimensions, 1, &dimension);
    }
    let (mut tensor, mut kind, mut value) = (Vec::new(), Vec::new(), Vec::new());
    varint(&mut tensor, 1, element);
    bytes(&mut tensor, 2, &dimensions);
    bytes(&mut kind, 1, &tensor);
    bytes(&mut value, 1, name.as_bytes());
    bytes(&mut value, 2, &kind);
    value
}

fn raw_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(out: &mut Vec<u8>, field: u64, value: u64) {
    raw_varint(out, field << 3);
    raw_varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    raw_varint(out, field << 3 | 2);
    raw_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}
