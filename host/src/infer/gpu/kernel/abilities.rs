//! What an adapter offers to kernels, and in how many bits values are kept. Plain data: nothing here asks a device.

use super::super::super::Precision;
use super::super::super::graph::{Graph, Operation, Output, Source};
use crate::tensor::Element;

/// A quad of numbers in WGSL.
pub(super) fn quad(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "vec4<f32>",
        Precision::Half => "vec4<f16>",
    }
}

/// A number in WGSL.
pub(super) fn number(precision: Precision) -> &'static str {
    match precision {
        Precision::Single => "f32",
        Precision::Half => "f16",
    }
}

/// What kernels may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Abilities {
    /// 16-bit floats in shaders and buffers.
    pub(in super::super) half: bool,
    /// Cooperative matrices of 16-bit floats with 32-bit sums.
    pub(in super::super) matrix: Option<Matrix>,
    /// Workgroup memory.
    pub(in super::super) workgroup_bytes: usize,
    /// Invocations of a workgroup.
    pub(in super::super) invocations: usize,
}

/// The cooperative matrices of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Matrix {
    /// Rows and columns: 8 or 16.
    pub(in super::super) size: usize,
    /// Invocations that hold one together: those of a subgroup, all of which have this size.
    pub(in super::super) subgroup: usize,
    /// Whether they are loaded from arrays of numbers, as Metal wants, and not of quads.
    pub(in super::super) by_number: bool,
}

/// In how many bits each value of `graph` is kept if the model runs in `precision`.
pub(in super::super) fn stored(graph: &Graph, precision: Precision) -> Vec<Precision> {
    // Where only places come out, numbers that 16 bits did not hold would leave no trace.
    let is_place = |output: &Output| output.port.element == Element::I64;
    if !graph.outputs.is_empty() && graph.outputs.iter().all(is_place) {
        return vec![Precision::Single; graph.values.len()];
    }
    let mut all = vec![precision; graph.values.len()];
    for step in &graph.steps {
        match step.operation {
            Operation::Softmax => {}
            // Places do not fit 16 bits.
            Operation::Top { .. } => all[step.output] = Precision::Single,
            _ => continue,
        }
        for source in &step.inputs {
            if let Source::Value(id) = source {
                all[*id] = Precision::Single;
            }
        }
    }
    graph.outputs.iter().for_each(|output| all[output.value] = Precision::Single);
    all
}
