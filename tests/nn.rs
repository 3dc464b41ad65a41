//! wasi-nn: a script that knows models by it alone gets the numbers that the engine gives, and an error with a code and
//! a reason for whatever does not fit.

use std::path::Path;

use scorehost::infer::Backend;
use scorehost::infer::cpu::Cpu;
use scorehost::tensor::Tensor;

use crate::support::{Place, Ran, demo, root, scripts};

const PICTURE: &str = "SHAPE: '1,3,32,32'";
const ONCE: &str = "retry_settings: {max_retries: 0, timeout: 120}";

fn reference(name: &str) -> std::path::PathBuf {
    root().join("tests/reference/models").join(name)
}

/// A place with one input file of these bytes.
fn place(bytes: &[u8]) -> Place {
    let place = Place::new();
    std::fs::write(place.at("input/numbers"), bytes).unwrap();
    place
}

/// Runs the guest on a model, with these environment variables.
fn run(place: &Place, model: &Path, variables: &[&str], limits: &str) -> Ran {
    let variables = format!("environment_variables: {{{}}}", variables.join(", "));
    place.deploy_model(model, "nn", &[ONCE, &variables, limits, "mini_batch_size: 1"], &[]);
    place.run(&["--overwrite"])
}

fn numbers(ran: Ran) -> Vec<f64> {
    ran.completed().predictions().lines().map(|line| line.parse().unwrap()).collect()
}

/// Numbers that no two pictures' rows share.
fn floats(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37) % 101) as f32 / 101.0).collect()
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// What the engine itself gives.
fn expected(model: &Path, input: Tensor) -> Vec<f64> {
    let output = Cpu::new(1).open(model).unwrap().run(&[input]).unwrap().remove(0);
    output.f32().unwrap().iter().map(|&x| f64::from(x)).collect()
}

#[test]
fn the_numbers_are_the_engines_by_every_name_of_a_model() {
    if scripts().is_none() {
        return;
    }
    let model = demo("model/resnet14v2-shapes.onnx");
    let given = floats(3 * 32 * 32);
    let expected = expected(&model, Tensor::from_f32(vec![1, 3, 32, 32], given.clone()).unwrap());
    assert_eq!(expected.len(), 10);
    let place = place(&bytes(&given));
    let names = ["''", "default", "resnet14v2-shapes", "resnet14v2-shapes.onnx", "/model/resnet14v2-shapes.onnx"];
    for name in names {
        let ran = run(&place, &demo("model"), &[PICTURE, &format!("MODEL: {name}")], "");
        assert_eq!(numbers(ran), expected, "{name}");
    }
    // A model of bytes, in a folder of several, some levels down.
    std::fs::create_dir_all(place.at("models/a/b")).unwrap();
    for (name, to) in [("bytes-channels-last.onnx", "a/b/one.onnx"), ("not-pictures.onnx", "a/two.onnx")] {
        std::fs::copy(reference(name), place.at("models").join(to)).unwrap();
    }
    let pixels: Vec<u8> = (0..16 * 16 * 3).map(|i| (i * 7 % 256) as u8).collect();
    std::fs::write(place.at("input/numbers"), &pixels).unwrap();
    let expected =
        self::expected(&reference("bytes-channels-last.onnx"), Tensor::from_u8(vec![1, 16, 16, 3], pixels).unwrap());
    for name in ["one", "one.onnx", "a/b/one", "a/b/one.onnx"] {
        let variables = ["SHAPE: '1,16,16,3'", "TYPE: U8", &format!("MODEL: {name}")];
        assert_eq!(numbers(run(&place, &place.at("models"), &variables, "")), expected, "{name}");
    }
}

#[test]
fn an_output_is_the_next_models_input() {
    if scripts().is_none() {
        return;
    }
    let place = place(&bytes(&[-1.5, 0.0, 2.25, -0.5, 3.0, -4.0, 5.0, 6.5]));
    std::fs::create_dir(place.at("models")).unwrap();
    for name in ["first.onnx", "second.onnx"] {
        std::fs::copy(reference("not-pictures.onnx"), place.at("models").join(name)).unwrap();
    }
    let variables = ["BEHAVE: chains", "SHAPE: '2,4'", "MODEL: first", "THEN: second"];
    let chained = numbers(run(&place, &place.at("models"), &variables, ""));
    assert_eq!(chained, [0.0, 0.0, 2.25, 0.0, 3.0, 0.0, 5.0, 6.5]);
}

#[test]
fn integers_and_what_no_model_takes_come_back_as_they_were_given() {
    if scripts().is_none() {
        return;
    }
    let narrow: Vec<u8> = [1i32, -2, i32::MAX, i32::MIN].iter().flat_map(|n| n.to_le_bytes()).collect();
    let place = place(&narrow);
    let given_back = |ty: &str, shape: &str| {
        let variables = ["BEHAVE: gives-back", &format!("TYPE: {ty}"), &format!("SHAPE: '{shape}'")];
        numbers(run(&place, &demo("model"), &variables, ""))
    };
    assert_eq!(given_back("I32", "4"), [1.0, -2.0, f64::from(i32::MAX), f64::from(i32::MIN)]);
    let bytes: Vec<f64> = narrow.iter().map(|&b| f64::from(b)).collect();
    assert_eq!(given_back("U8", "2,8"), bytes);
    assert_eq!(given_back("FP16", "16"), bytes);
}

#[test]
fn what_does_not_fit_is_an_error_with_its_code_and_reason() {
    if scripts().is_none() {
        return;
    }
    let invalid = "ErrorCode::InvalidArgument: ";
    let unsupported = "ErrorCode::UnsupportedOperation: ";
    let cases: [(&[&str], &[&str]); 14] = [
        (&[PICTURE, "MODEL: other"], &["ErrorCode::NotFound: ", "`other`", "`resnet14v2-shapes.onnx`"]),
        (&[PICTURE, "MODEL: ../resnet14v2-shapes"], &["ErrorCode::NotFound: "]),
        (&[PICTURE, "MODEL: /model/../../etc/passwd"], &["ErrorCode::NotFound: "]),
        (&[PICTURE, "BEHAVE: load"], &[unsupported, "model folder", "load-by-name"]),
        (&[PICTURE, "BEHAVE: fewer-bytes"], &[invalid, "3072", "3071"]),
        (&[PICTURE, "BEHAVE: half-a-number"], &[invalid, "12286 bytes", "4 each"]),
        (&[PICTURE, "BEHAVE: no-dimensions"], &[invalid, "shape []"]),
        (&[PICTURE, "BEHAVE: overflowing"], &[invalid, "too large"]),
        (&["SHAPE: '1,32,32,3'"], &[invalid, "input `input` takes floats of shape N×3×32×32", "1×32×32×3"]),
        (&["SHAPE: '1,3,32,128'", "TYPE: U8"], &[invalid, "not unsigned bytes"]),
        (&["SHAPE: '1,3,32,64'", "TYPE: FP16"], &[unsupported, "FP32, U8, I64 and I32"]),
        (&[PICTURE, "INPUT: pixels"], &[invalid, "no input `pixels`; it has `input`"]),
        (&[PICTURE, "BEHAVE: twice"], &[invalid, "`input` is given twice"]),
        (&[PICTURE, "BEHAVE: none"], &[invalid, "`input` is missing"]),
    ];
    let place = place(&bytes(&floats(3 * 32 * 32)));
    for (variables, says) in cases {
        let ran = run(&place, &demo("model"), variables, "");
        assert_eq!(ran.code, 1, "{variables:?}: {}", ran.stderr);
        let errors = ran.errors();
        assert_eq!(errors[0][3], "permanent", "{variables:?}: {errors:?}");
        for text in says {
            assert!(errors[0][4].contains(text), "{variables:?}: no `{text}` in {:?}", errors[0][4]);
        }
    }
}

#[test]
fn without_a_model_and_among_several_the_name_decides() {
    if scripts().is_none() {
        return;
    }
    let place = place(&bytes(&[1.0; 4]));
    place.deploy("nn", &[ONCE, "environment_variables: {SHAPE: '1,4'}"], &[]);
    let ran = place.run(&[]);
    assert!(ran.errors()[0][4].contains("ErrorCode::NotFound: the deployment has no model"), "{:?}", ran.errors());

    for folder in ["models", "models/a", "models/b"] {
        std::fs::create_dir(place.at(folder)).unwrap();
    }
    for to in ["models/a/one.onnx", "models/b/one.onnx"] {
        std::fs::copy(reference("not-pictures.onnx"), place.at(to)).unwrap();
    }
    for (name, text) in [("one", "several models are called `one`"), ("default", "several models")] {
        let ran = run(&place, &place.at("models"), &["SHAPE: '1,4'", &format!("MODEL: {name}")], "");
        assert!(ran.errors()[0][4].contains(text), "{name}: {:?}", ran.errors());
    }
    let ran = run(&place, &place.at("models"), &["SHAPE: '1,4'", "MODEL: b/one"], "");
    assert_eq!(numbers(ran), [1.0; 4]);
}

#[test]
fn tensors_count_against_the_limit_while_they_are_held_and_no_longer() {
    if scripts().is_none() {
        return;
    }
    let place = place(&bytes(&floats(3 * 32 * 32)));
    let limits = "limits: {tensors: 16MiB}";
    let ran = run(&place, &demo("model"), &[PICTURE, "BEHAVE: hoards"], limits);
    let errors = ran.errors();
    assert_eq!(errors[0][3], "trap", "{errors:?}");
    assert!(errors[0][4].contains("limits.tensors"), "{errors:?}");
    // A hundred thousand errors and tensors that were let go of, or handed over, are no longer held.
    let ran = run(&place, &demo("model"), &[PICTURE, "BEHAVE: many"], limits);
    assert_eq!(numbers(ran).len(), 10);
    // The outputs of a prediction are counted before it begins.
    let rows = bytes(&vec![0.5; 1 << 20]);
    std::fs::write(place.at("input/numbers"), rows).unwrap();
    let model = reference("not-pictures.onnx");
    let ran = run(&place, &model, &["SHAPE: '262144,4'"], "limits: {tensors: 6MiB}");
    assert!(ran.errors()[0][4].contains("ErrorCode::TooLarge: "), "{:?}", ran.errors());
}

#[test]
fn copies_count_before_they_are_made() {
    if scripts().is_none() {
        return;
    }
    // 600 KiB, which are read back as they were given.
    let place = place(&bytes(&[0.5; 150 << 10]));
    let refused = |variables: [&str; 3]| {
        let ran = run(&place, &demo("model"), &variables, "limits: {tensors: 1MiB}");
        let errors = ran.errors();
        assert_eq!(errors[0][3], "trap", "{errors:?}");
        assert!(errors[0][4].contains("limits.tensors"), "{errors:?}");
    };
    refused(["BEHAVE: gives-back", "TYPE: FP32", "SHAPE: '153600'"]);
    refused(["BEHAVE: gives-back", "TYPE: FP16", "SHAPE: '307200'"]);
    // Twice as large in 64 bits.
    refused(["BEHAVE: gives-back", "TYPE: I32", "SHAPE: '153600'"]);
    let given_back = run(&place, &demo("model"), &["BEHAVE: gives-back", "SHAPE: '153600'"], "limits: {tensors: 2MiB}");
    assert_eq!(numbers(given_back).len(), 150 << 10);
}

#[test]
fn outputs_count_as_large_as_they_are_and_not_as_the_model_tells() {
    if scripts().is_none() {
        return;
    }
    // Two rows of four numbers, and a MiB of floats for each row.
    let place = place(&bytes(&[0.5; 8]));
    let model = reference("free-sizes.onnx");
    let variables = ["SHAPE: '2,4'"];
    let ran = run(&place, &model, &variables, "limits: {tensors: 1MiB}");
    let errors = ran.errors();
    assert!(errors[0][4].contains("limits.tensors, which is 1048576"), "{errors:?}");
    // Its numbers, and a copy for the script.
    assert_eq!(numbers(run(&place, &model, &variables, "limits: {tensors: 5MiB}")).len(), 2 << 18);
    // Never read, they count as well.
    place.deploy_model(&model, "probe", &[ONCE, "limits: {tensors: 16MiB}"], &["behave: hoards-predictions"]);
    let errors = place.run(&["--overwrite"]).errors();
    assert_eq!(errors[0][3], "permanent", "{errors:?}");
    assert!(errors[0][4].contains("limits.tensors, which is 16777216"), "{errors:?}");
    // Forty of them and the copy of one.
    place.deploy_model(&model, "probe", &[ONCE, "limits: {tensors: 42MiB}"], &["behave: hoards-predictions"]);
    let errors = place.run(&["--overwrite"]).errors();
    assert!(errors[0][4].contains("10485760 numbers"), "{errors:?}");
}
