//! Small files, node by node: the shapes and steps that come of them.

use super::super::{self as graph, Operation};
use super::*;
use crate::infer::onnx::parse;
use crate::infer::onnx::write::{Attr, Model};

const PICTURE: [Option<i64>; 4] = [None, Some(3), Some(8), Some(8)];

fn model() -> Model {
    Model::new(17).input("x", 1, &PICTURE)
}

fn built(model: Model) -> Result<Graph, GraphError> {
    graph::build(&parse(&model.output("y", 1, &[None, None]).bytes()).unwrap())
}

fn output_shape(model: Model) -> Vec<usize> {
    built(model).unwrap().outputs[0].shape.clone()
}

#[test]
fn shapes_follow_the_standard() {
    let w = |shape: &[i64]| vec![0.5; shape.iter().product::<i64>() as usize];
    let conv = |shape: &[i64], attributes: &[(&str, Attr)]| {
        model().floats("w", shape, &w(shape)).node("Conv", &["x", "w"], &["y"], attributes)
    };
    let pool = |attributes: &[(&str, Attr)]| model().node("MaxPool", &["x"], &["y"], attributes);
    let ints = Attr::Ints;
    let cases: Vec<(&str, Model, Vec<usize>)> = vec![
        ("plain", conv(&[4, 3, 3, 3], &[]), vec![4, 6, 6]),
        ("padded, strided", conv(&[4, 3, 3, 3], &[("pads", ints(&[1; 4])), ("strides", ints(&[2, 2]))]), vec![4, 4, 4]),
        ("dilated", conv(&[4, 3, 3, 3], &[("dilations", ints(&[2, 3]))]), vec![4, 4, 2]),
        (
            "same",
            conv(&[4, 3, 3, 3], &[("auto_pad", Attr::Text("SAME_UPPER")), ("strides", ints(&[3, 2]))]),
            vec![4, 3, 4],
        ),
        ("valid", conv(&[4, 3, 3, 3], &[("auto_pad", Attr::Text("VALID"))]), vec![4, 6, 6]),
        ("grouped", conv(&[6, 1, 1, 1], &[("group", Attr::Int(3))]), vec![6, 8, 8]),
        ("pool", pool(&[("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2]))]), vec![3, 3, 3]),
        (
            "pool, rounded up",
            pool(&[("kernel_shape", ints(&[3, 3])), ("strides", ints(&[2, 2])), ("ceil_mode", Attr::Int(1))]),
            vec![3, 4, 4],
        ),
        ("average", model().node("GlobalAveragePool", &["x"], &["y"], &[]), vec![3, 1, 1]),
        (
            "mean, axes as a setting",
            model().node("ReduceMean", &["x"], &["y"], &[("axes", ints(&[2, 3])), ("keepdims", Attr::Int(0))]),
            vec![3],
        ),
        (
            "mean, axes as an input",
            model().integers("a", &[2], &[-1, -2]).node("ReduceMean", &["x", "a"], &["y"], &[]),
            vec![3, 1, 1],
        ),
        ("flatten", model().node("Flatten", &["x"], &["y"], &[]), vec![192]),
        ("transpose", model().node("Transpose", &["x"], &["y"], &[("perm", ints(&[0, 2, 3, 1]))]), vec![8, 8, 3]),
        ("reshape", model().integers("s", &[2], &[-1, 192]).node("Reshape", &["x", "s"], &["y"], &[]), vec![192]),
        (
            "reshape to rank 4",
            model().integers("s", &[4], &[0, 12, 4, -1]).node("Reshape", &["x", "s"], &["y"], &[]),
            vec![12, 4, 4],
        ),
        (
            "pad, slice",
            model()
                .integers("p", &[8], &[0, 1, 0, 0, 0, 2, 0, 0])
                .node("Pad", &["x", "p"], &["t"], &[])
                .integers("s", &[2], &[1, 0])
                .integers("e", &[2], &[i64::MAX, -1])
                .integers("a", &[2], &[2, 3])
                .integers("d", &[2], &[2, 2])
                .node("Slice", &["t", "s", "e", "a", "d"], &["y"], &[]),
            vec![6, 4, 4],
        ),
        (
            "join",
            model().node("Relu", &["x"], &["t"], &[]).node(
                "Concat",
                &["x", "t", "x"],
                &["y"],
                &[("axis", Attr::Int(1))],
            ),
            vec![9, 8, 8],
        ),
    ];
    let top = |name| {
        ("the largest", model().integers("k", &[1], &[2]).node("TopK", &["x", "k"], name, &[("axis", Attr::Int(1))]))
    };
    for (why, model) in [top(&["y", "i"]), top(&["v", "y"])] {
        assert_eq!(output_shape(model), [2, 8, 8], "{why}");
    }
    for gate in ["Sigmoid", "HardSigmoid", "HardSwish"] {
        assert_eq!(output_shape(model().node(gate, &["x"], &["y"], &[])), [3, 8, 8], "{gate}");
    }
    for (why, model, want) in cases {
        assert_eq!(output_shape(model), want, "{why}");
    }
}

#[test]
fn shape_arithmetic_of_a_flatten_leaves_no_step() {
    // What PyTorch writes for `x.view(x.size(0), -1)`.
    let file = model()
        .node("GlobalAveragePool", &["x"], &["p"], &[])
        .node("Shape", &["p"], &["s"], &[])
        .integers("zero", &[], &[0])
        .node("Gather", &["s", "zero"], &["n"], &[])
        .integers("axes", &[1], &[0])
        .node("Unsqueeze", &["n", "axes"], &["n1"], &[])
        .integers("rest", &[1], &[-1])
        .node("Concat", &["n1", "rest"], &["shape"], &[("axis", Attr::Int(0))])
        .node("Reshape", &["p", "shape"], &["y"], &[]);
    let graph = built(file).unwrap();
    assert_eq!((graph.outputs[0].shape.as_slice(), graph.steps.len()), (&[3][..], 2), "load and mean");
}

#[test]
fn preprocessing_in_the_graph_becomes_part_of_the_load() {
    // Bytes with their channels last, as converters from TensorFlow write it.
    let file = Model::new(17)
        .input("x", 2, &[None, Some(8), Some(8), Some(3)])
        .node("Cast", &["x"], &["f"], &[("to", Attr::Int(1))])
        .floats("scale", &[], &[255.0])
        .node("Div", &["f", "scale"], &["d"], &[])
        .floats("mean", &[3], &[0.5, 0.25, 0.125])
        .node("Sub", &["d", "mean"], &["m"], &[])
        .node("Transpose", &["m"], &["t"], &[("perm", Attr::Ints(&[0, 3, 1, 2]))])
        .floats("w", &[4, 3, 1, 1], &[0.1; 12])
        .node("Conv", &["t", "w"], &["y"], &[]);
    let graph = built(file).unwrap();
    assert_eq!(graph.steps.len(), 2, "load and convolution: {:?}", graph.steps);
    assert_eq!(graph.steps[0].after.len(), 2);
    assert_eq!(graph.inputs[0].element, Element::U8);
}

#[test]
fn the_bounds_of_a_clip_are_settings_or_inputs() {
    let settings = Model::new(6).input("x", 1, &PICTURE).node("Clip", &["x"], &["y"], &[("max", Attr::Float(6.0))]);
    let inputs = model().floats("high", &[], &[6.0]).node("Clip", &["x", "", "high"], &["y"], &[]);
    for file in [settings, inputs] {
        let graph = built(file).unwrap();
        assert_eq!(graph.steps[0].after, [Pointwise::Clip { low: f32::NEG_INFINITY, high: 6.0 }]);
    }
}

#[test]
fn what_is_not_supported_is_refused_with_the_node_and_the_cure() {
    let top = |k: &[i64], settings: &[(&str, Attr)]| {
        model().integers("k", &[k.len() as i64], k).node("TopK", &["x", "k"], &["y", "i"], settings)
    };
    let vector = |count| Model::new(17).input("x", 1, &[None, Some(count)]);
    let largest =
        || model().integers("two", &[1], &[2]).node("TopK", &["x", "two"], &["v", "i"], &[("axis", Attr::Int(1))]);
    let cases: Vec<(Model, &str)> = vec![
        (model().node("Sin", &["x"], &["y"], &[]), "supported are Add, AveragePool"),
        (model().node("Conv", &["x", "x"], &["y"], &[]), "must be constant floats"),
        (model().node("Relu", &["nowhere"], &["y"], &[]), "`nowhere` is made by no node"),
        (model().floats("w", &[4, 2, 1, 1], &[0.0; 8]).node("Conv", &["x", "w"], &["y"], &[]), "do not fit 3 channels"),
        (
            model().floats("w", &[4, 3, 9, 9], &[0.0; 972]).node("Conv", &["x", "w"], &["y"], &[]),
            "larger than the picture",
        ),
        (model().node("Transpose", &["x"], &["y"], &[("perm", Attr::Ints(&[1, 0, 2, 3]))]), "batch first"),
        (model().node("Transpose", &["x"], &["y"], &[("perm", Attr::Ints(&[0, 1, 1, 1]))]), "not a permutation"),
        (model().integers("s", &[2], &[4, -1]).node("Reshape", &["x", "s"], &["y"], &[]), "keep the batch first"),
        (model().node("MaxPool", &["x"], &["y"], &[("kernel_shape", Attr::Ints(&[0, i64::MAX]))]), "from 1 to 4096"),
        (
            model().integers("p", &[8], &[0, 0, i64::MIN, 0, 0, 0, 0, 0]).node("Pad", &["x", "p"], &["y"], &[]),
            "not supported",
        ),
        (
            model().integers("p", &[8], &[0, 0, 1 << 40, 0, 0, 0, 0, 0]).node("Pad", &["x", "p"], &["y"], &[]),
            "out of range",
        ),
        (model().node("Flatten", &["x"], &["y"], &[("axis", Attr::Int(i64::MIN))]), "outside rank"),
        (model().node("HardSigmoid", &["x"], &["y"], &[("alpha", Attr::Float(f32::NAN))]), "`alpha` must be a finite"),
        (
            model().node("HardSigmoid", &["x"], &["y"], &[("beta", Attr::Float(f32::INFINITY))]),
            "`beta` must be a finite",
        ),
        (top(&[2], &[]), "only the largest over the channels"),
        (top(&[2], &[("axis", Attr::Int(0))]), "only the largest over the channels"),
        (top(&[2], &[("axis", Attr::Int(1)), ("largest", Attr::Int(0))]), "`largest` 0 is not supported"),
        (top(&[2], &[("axis", Attr::Int(1)), ("sorted", Attr::Int(0))]), "`sorted` 0 is not supported"),
        (top(&[0], &[("axis", Attr::Int(1))]), "`k` must be one number from 1 to 3"),
        (top(&[4], &[("axis", Attr::Int(1))]), "`k` must be one number from 1 to 3"),
        (top(&[i64::MIN], &[("axis", Attr::Int(1))]), "`k` must be one number from 1 to 3"),
        (top(&[1, 1], &[("axis", Attr::Int(1))]), "`k` must be one number from 1 to 3"),
        (model().node("TopK", &["x"], &["y"], &[("axis", Attr::Int(1))]), "`k` must be one number from 1 to 3"),
        (
            model().node("Relu", &["x"], &["k"], &[]).node("TopK", &["x", "k"], &["y"], &[("axis", Attr::Int(1))]),
            "must be constant integers",
        ),
        (vector(1 << 24).integers("k", &[1], &[1]).node("TopK", &["x", "k"], &["y"], &[]), "places among 16777216"),
        (vector(1 << 20).integers("k", &[1], &[65]).node("TopK", &["x", "k"], &["y"], &[]), "from 1 to 64"),
        (vector(2000).integers("k", &[1], &[1025]).node("TopK", &["x", "k"], &["y"], &[]), "from 1 to 1024"),
        (largest().node("Identity", &["i"], &["y"], &[]), "the places `i` can only be an output of the model"),
        (largest().node("Gather", &["v", "i"], &["y"], &[]), "the places `i` can only be an output of the model"),
        (largest().node("Add", &["v", "i"], &["y"], &[]), "the places `i` can only be an output of the model"),
        (
            largest().integers("k", &[1], &[1]).node("TopK", &["v", "k"], &["y", "i"], &[("axis", Attr::Int(1))]),
            "`i` is made twice",
        ),
    ];
    for (model, want) in cases {
        let error = built(model).unwrap_err();
        assert!(matches!(error, GraphError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    let free = Model::new(17).input("x", 1, &[None, Some(3), None, None]).node("Relu", &["x"], &["y"], &[]);
    assert!(built(free).unwrap_err().to_string().contains("N×3×?×?"));
}

#[test]
fn files_with_changed_bytes_are_refused_or_built_and_never_panic() {
    let ints = Attr::Ints;
    let bytes = model()
        .floats("w", &[4, 3, 3, 3], &[0.5; 108])
        .node(
            "Conv",
            &["x", "w"],
            &["c"],
            &[("pads", ints(&[1; 4])), ("strides", ints(&[2, 2])), ("group", Attr::Int(1))],
        )
        .node("Relu", &["c"], &["r"], &[])
        .node(
            "MaxPool",
            &["r"],
            &["m"],
            &[("kernel_shape", ints(&[2, 2])), ("pads", ints(&[0; 4])), ("ceil_mode", Attr::Int(1))],
        )
        .integers("p", &[8], &[0, 2, 0, 0, 0, 2, 0, 0])
        .node("Pad", &["m", "p"], &["q"], &[])
        .integers("one", &[1], &[1])
        .integers("two", &[1], &[2])
        .node("Slice", &["q", "one", "two", "one"], &["s"], &[])
        .node("TopK", &["q", "two"], &["v", "i"], &[("axis", Attr::Int(1)), ("largest", Attr::Int(1))])
        .node("HardSigmoid", &["v"], &["h"], &[("alpha", Attr::Float(0.5))])
        .node("Transpose", &["q"], &["t"], &[("perm", ints(&[0, 2, 3, 1]))])
        .node("Add", &["q", "q"], &["a"], &[])
        .node("Concat", &["a", "q"], &["j"], &[("axis", Attr::Int(1))])
        .node("Flatten", &["j"], &["y"], &[])
        .output("y", 1, &[None, None])
        .bytes();
    graph::build(&parse(&bytes).unwrap()).unwrap();
    let (mut state, mut built) = (5u32, 0);
    for _ in 0..20_000 {
        let mut changed = bytes.clone();
        for _ in 0..2 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % changed.len();
            changed[at] = changed[at].wrapping_add((state >> 3) as u8);
        }
        let Ok(file) = parse(&changed) else { continue };
        built += u32::from(graph::build(&file).is_ok());
    }
    assert!(built > 100, "most changes must reach further than the reader, or this tests nothing");
}

#[test]
fn a_flattened_picture_is_connected_without_being_moved() {
    let weights: Vec<f32> = (0..192 * 2).map(|i| i as f32).collect();
    let file = model().floats("w", &[2, 192], &weights).node("Flatten", &["x"], &["t"], &[]).node(
        "Gemm",
        &["t", "w"],
        &["y"],
        &[("transB", Attr::Int(1))],
    );
    let graph = built(file).unwrap();
    let Operation::Conv(conv) = &graph.steps[1].operation else { panic!() };
    assert_eq!((graph.steps.len(), conv.window.size, conv.weights.as_slice()), (2, [8, 8], weights.as_slice()));
}
