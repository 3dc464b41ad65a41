//! Arithmetic on single numbers: with constants, per channel, or between two tensors.

use std::sync::Arc;

use super::super::{Operator, Pointwise};
use super::{Held, Lowered, Lowering, View, shape, sizes_of};
use crate::infer::onnx::{Constant, Node, Numbers};

pub(super) fn relu(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    lowering.push_pointwise(view, Pointwise::Clip { low: 0.0, high: f32::INFINITY })
}

/// Functions of one number without settings.
pub(super) fn single(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let work = if node.operation == "HardSwish" { Pointwise::HardSwish } else { Pointwise::Sigmoid };
    lowering.push_pointwise(view, work)
}

/// A straight line between 0 and 1: a scale and a shift, then bounds, so that the line becomes part of a convolution.
pub(super) fn hard_sigmoid(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    for (name, setting) in [("alpha", alpha), ("beta", beta)] {
        if !setting.is_finite() {
            return Err(format!("`{name}` must be a finite number"));
        }
    }
    let channels = lowering.dims(view).channels;
    let line = Pointwise::Affine { scale: vec![alpha; channels], shift: vec![beta; channels] };
    match lowering.push_pointwise(view, line)? {
        Held::Tensor(view) => lowering.push_pointwise(view, Pointwise::Clip { low: 0.0, high: 1.0 }),
        held => Ok(held),
    }
}

/// Clips to bounds, which are settings before version 11 and inputs since.
pub(super) fn clip(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let bound = |at: usize, name: &str, default: f32| -> Lowered<f32> {
        if lowering.optional(node, at)?.is_none() {
            return Ok(node.float(name, default));
        }
        match lowering.floats(node, at)?.1[..] {
            [bound] if !bound.is_nan() => Ok(bound),
            _ => Err(format!("`{name}` must be one number")),
        }
    };
    let (low, high) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    if low == f32::INFINITY || high == f32::NEG_INFINITY {
        return Err("bounds that leave no finite number are not supported".into());
    }
    lowering.push_pointwise(view, Pointwise::Clip { low, high })
}

/// Everything is computed in 32-bit floats, so a change of float type changes nothing.
pub(super) fn cast(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let to = node.integer("to", 0);
    let held = lowering.required(node, 0)?;
    match (held, to) {
        (Held::Tensor(_), 1 | 10 | 11 | 16) | (Held::Sizes { .. }, 6 | 7) => Ok(held.clone()),
        (Held::Constant(constant), _) => {
            let cast = cast_constant(constant, to)?;
            lowering.spend(cast.len())?;
            Ok(Held::Constant(cast))
        }
        _ => Err(format!("to element type {to}; only casts to floats are supported")),
    }
}

fn cast_constant(constant: &Constant, to: i64) -> Lowered<Constant> {
    #[expect(clippy::cast_precision_loss, reason = "what a cast means")]
    let numbers = match (&constant.numbers, to) {
        (Numbers::Floats(_), 1 | 10 | 11) | (Numbers::Integers(_), 6 | 7) => constant.numbers.clone(),
        (Numbers::Integers(list), 1 | 10 | 11) => Numbers::Floats(Arc::new(list.iter().map(|&n| n as f32).collect())),
        #[expect(clippy::cast_possible_truncation, reason = "what a cast means")]
        (Numbers::Floats(list), 6 | 7) => Numbers::Integers(Arc::new(list.iter().map(|&x| x as i64).collect())),
        _ => return Err(format!("of a constant to element type {to} is not supported")),
    };
    Ok(Constant { shape: constant.shape.clone(), numbers })
}

/// Addition, subtraction, multiplication and division of whatever the two sides are.
pub(super) fn arithmetic(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let (left, right) = (lowering.required(node, 0)?.clone(), lowering.required(node, 1)?.clone());
    let operator = match node.operation.as_str() {
        "Add" => Operator::Add,
        "Sub" => Operator::Subtract,
        "Mul" => Operator::Multiply,
        _ => Operator::Divide,
    };
    match (&left, &right) {
        (Held::Tensor(left), Held::Tensor(right)) => two_tensors(lowering, *left, *right, operator),
        (Held::Tensor(view), Held::Constant(constant)) => with_constant(lowering, *view, constant, (operator, false)),
        (Held::Constant(constant), Held::Tensor(view)) => with_constant(lowering, *view, constant, (operator, true)),
        _ => match (sizes_of(&left), sizes_of(&right)) {
            (Some(a), Some(b)) => {
                let list = shape::arithmetic_sizes(&node.operation, &a, &b)?;
                let scalar = is_scalar(&left) && is_scalar(&right);
                Ok(Held::Sizes { list, scalar })
            }
            _ => Err("arithmetic on two constants of floats is not supported; simplify the model first".into()),
        },
    }
}

fn is_scalar(held: &Held) -> bool {
    match held {
        Held::Constant(constant) => constant.shape.is_empty(),
        Held::Sizes { scalar, .. } => *scalar,
        Held::Tensor(_) => false,
    }
}

/// As a scale and a shift per channel.
fn with_constant(lowering: &mut Lowering, view: View, constant: &Constant, how: (Operator, bool)) -> Lowered<Held> {
    let Numbers::Floats(list) = &constant.numbers else { return Err("the constant must be floats".into()) };
    let (view, values) = per_channel(lowering, view, &constant.shape, list)?;
    let ones = vec![1.0; values.len()];
    let (scale, shift) = match how {
        (Operator::Add, _) => (ones, values),
        (Operator::Subtract, false) => (ones, values.iter().map(|v| -v).collect()),
        (Operator::Subtract, true) => (vec![-1.0; values.len()], values),
        (Operator::Multiply, _) => (values, vec![0.0; ones.len()]),
        (Operator::Divide, false) => (values.iter().map(|v| 1.0 / v).collect(), vec![0.0; ones.len()]),
        (Operator::Divide, true) => return Err("a constant divided by a tensor is not supported".into()),
    };
    lowering.push_pointwise(view, Pointwise::Affine { scale, shift })
}

/// A constant that broadcasts to the tensor, as one number per stored channel; the tensor is stored anew where the axis
/// along which the constant varies is not its channels.
pub(super) fn per_channel(
    lowering: &mut Lowering,
    view: View,
    shape: &[usize],
    list: &[f32],
) -> Lowered<(View, Vec<f32>)> {
    let seen = lowering.shape_of(view);
    if let [only] = list {
        return Ok((view, vec![*only; lowering.dims(view).channels]));
    }
    // Aligned at the end, batch included; only one axis may have a size.
    let rank = seen.len() + 1;
    let offset = rank.checked_sub(shape.len()).ok_or("the constant has more dimensions than the tensor")?;
    let mut varying = shape.iter().enumerate().filter(|&(_, &n)| n != 1).map(|(i, &n)| (i + offset, n));
    let (Some((axis, size)), None) = (varying.next(), varying.next()) else {
        return Err("a constant that varies along more than the channels is not supported".into());
    };
    if axis == 0 || seen[axis - 1] != size {
        return Err(format!("a constant of shape {shape:?} does not fit a tensor of {seen:?} per picture"));
    }
    let view = if view.flat {
        lowering.as_vector(view)?
    } else if view.order[axis - 1] == 2 {
        view
    } else {
        // Any order whose channels are that axis serves; the others keep theirs.
        let mut order = [0, 0, 0];
        let mut rest = [0, 1].into_iter();
        for (i, stored) in order.iter_mut().enumerate() {
            *stored = if i == axis - 1 { 2 } else { rest.next().unwrap_or(0) };
        }
        lowering.in_order(view, order)?
    };
    Ok((view, list.to_vec()))
}

fn two_tensors(lowering: &mut Lowering, left: View, right: View, operator: Operator) -> Lowered<Held> {
    let (left, right) = if left.flat || right.flat {
        (lowering.as_vector(left)?, lowering.as_vector(right)?)
    } else {
        (left, lowering.in_order(right, left.order)?)
    };
    let (a, b) = (lowering.dims(left), lowering.dims(right));
    let serves = |small: super::Dims, large: super::Dims| {
        small == large || (small.pixels() == 1 && small.channels == large.channels)
    };
    if serves(b, a) {
        lowering.push_pointwise(left, Pointwise::Combine { with: right.value, operator, swapped: false })
    } else if serves(a, b) {
        lowering.push_pointwise(right, Pointwise::Combine { with: left.value, operator, swapped: true })
    } else {
        Err(format!("shapes {:?} and {:?} per picture do not fit", lowering.shape_of(left), lowering.shape_of(right)))
    }
}
