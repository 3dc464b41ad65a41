//! A script as a program for wasi-nn becomes one: models by wasi-nn, files by WASI, and of this host's own contract
//! nothing but `init` and `run`. Each file holds the numbers of one input row; a row of the output is a number that the
//! model gave. `BEHAVE` makes it err in one way instead, and the error's code and text are what it fails with.

#![expect(unsafe_code, reason = "the generated functions that the host calls")]

mod bindings {
    #![allow(missing_docs, clippy::allow_attributes, reason = "generated")]
    wit_bindgen::generate!({
        path: ["../../../wit", "../../../wit/wasi-nn"],
        inline: "
            package tests:nn;
            world guest {
                include wasi:nn/ml@0.2.0-rc-2024-10-28;
                export scorehost:script/script@0.2.0;
            }
        ",
        world: "tests:nn/guest",
        generate_all,
    });
}

use bindings::exports::scorehost::script::script::Guest;
use bindings::scorehost::script::types::{Cells, Column, Failure, Output};
use bindings::wasi::nn::errors::Error;
use bindings::wasi::nn::graph::{self, ExecutionTarget, Graph, GraphEncoding};
use bindings::wasi::nn::tensor::{Tensor, TensorType};

struct Nn;

bindings::export!(Nn with_types_in bindings);

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// `1,3,32,32`
fn shape() -> Vec<u32> {
    variable("SHAPE").split(',').map(|n| n.parse().expect("SHAPE is numbers")).collect()
}

fn element() -> TensorType {
    match variable("TYPE").as_str() {
        "U8" => TensorType::U8,
        "I64" => TensorType::I64,
        "I32" => TensorType::I32,
        "FP16" => TensorType::Fp16,
        _ => TensorType::Fp32,
    }
}

fn said(error: &Error) -> Failure {
    Failure::Permanent(format!("{:?}: {}", error.code(), error.data()))
}

/// The first output for the only input, which models here call `input` and `output` or as the variables say.
fn compute(graph: &Graph, input: Tensor) -> Result<Tensor, Error> {
    let name = Some(variable("INPUT")).filter(|name| !name.is_empty()).unwrap_or("input".into());
    let context = graph.init_execution_context()?;
    let outputs = context.compute(vec![(name, input)])?;
    let (_, first) = outputs.into_iter().next().expect("a model has an output");
    Ok(first)
}

fn score(file: &str) -> Result<Vec<f64>, Error> {
    let data = std::fs::read(file).expect("the file is there");
    let graph = graph::load_by_name(&variable("MODEL"))?;
    let given = Tensor::new(&shape(), element(), &data);
    let output = match variable("BEHAVE").as_str() {
        "load" => {
            graph::load(&[data], GraphEncoding::Onnx, ExecutionTarget::Cpu)?;
            unreachable!("the host takes no models of scripts")
        }
        "fewer-bytes" => compute(&graph, Tensor::new(&shape(), element(), &data[..data.len() - 4]))?,
        "half-a-number" => compute(&graph, Tensor::new(&shape(), element(), &data[..data.len() - 2]))?,
        "no-dimensions" => compute(&graph, Tensor::new(&[], element(), &data[..4]))?,
        "overflowing" => compute(&graph, Tensor::new(&[u32::MAX; 8], element(), &data))?,
        "twice" => {
            let again = Tensor::new(&shape(), element(), &data);
            let inputs = vec![("input".to_owned(), given), ("input".to_owned(), again)];
            graph.init_execution_context()?.compute(inputs)?.remove(0).1
        }
        "none" => graph.init_execution_context()?.compute(Vec::new())?.remove(0).1,
        "gives-back" => given,
        // Each output is the next model's input, and is read at the end only.
        "chains" => {
            let next = graph::load_by_name(&variable("THEN"))?;
            compute(&next, compute(&graph, given)?)?
        }
        "hoards" => {
            let kept: Vec<Tensor> = (0..1 << 20).map(|_| Tensor::new(&shape(), element(), &data)).collect();
            panic!("{} tensors were taken", kept.len())
        }
        // None of these may stay behind on the host.
        "many" => {
            for _ in 0..100_000 {
                drop(graph::load_by_name("missing").expect_err("there is none of this name"));
                drop(compute(&graph, Tensor::new(&[1], TensorType::Fp16, &[0; 4])).expect_err("it takes no such type"));
            }
            compute(&graph, given)?
        }
        _ => compute(&graph, given)?,
    };
    let (data, ty, dimensions) = (output.data(), output.ty(), output.dimensions());
    let numbers = numbers(&data, ty);
    assert_eq!(dimensions.iter().product::<u32>() as usize, numbers.len(), "the shape fits the numbers");
    Ok(numbers)
}

fn numbers(data: &[u8], ty: TensorType) -> Vec<f64> {
    match ty {
        TensorType::U8 => data.iter().map(|&b| f64::from(b)).collect(),
        TensorType::Fp32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        TensorType::I32 => data.as_chunks().0.iter().map(|&b| f64::from(i32::from_le_bytes(b))).collect(),
        #[expect(clippy::cast_precision_loss, reason = "the tests' numbers are small")]
        TensorType::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
        // What no model takes comes back as it was.
        _ => data.iter().map(|&b| f64::from(b)).collect(),
    }
}

impl Guest for Nn {
    fn init() -> Result<(), Failure> {
        Ok(())
    }

    fn run(mini_batch: Vec<String>) -> Result<Output, Failure> {
        let mut all = Vec::new();
        for file in &mini_batch {
            all.extend(score(file).map_err(|error| said(&error))?);
        }
        let columns = vec![Column { name: "value".into(), cells: Cells::Numbers(all), nulls: Vec::new() }];
        Ok(Output { columns, failed: Vec::new() })
    }
}
