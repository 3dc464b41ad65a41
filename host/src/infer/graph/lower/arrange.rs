//! Reordering, reshaping, slicing, padding and joining: no arithmetic. Most of it only changes how the file sees a value.

use super::super::{Axis, Dims, Gather, Operation, Source, VALUE_ELEMENTS};
use super::{CHANNELS_FIRST, CHANNELS_LAST, Held, Lowered, Lowering, View, axis_index, shape, sizes_of};
use crate::infer::onnx::{Constant, Node, Numbers};

pub(super) fn transpose(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    if let Held::Constant(constant) = lowering.required(node, 0)? {
        let turned = transpose_constant(constant, node.integers("perm"))?;
        lowering.spend(turned.len())?;
        return Ok(Held::Constant(turned));
    }
    let view = lowering.tensor(node, 0)?;
    match (view.flat, node.integers("perm")) {
        (true, Some([0, 1])) => Ok(Held::Tensor(view)),
        (false, Some(&[0, a, b, c])) => {
            let mut seen = [a, b, c];
            seen.sort_unstable();
            if seen != [1, 2, 3] {
                return Err("`perm` is not a permutation".into());
            }
            let order = [a, b, c].map(|axis| view.order[usize::try_from(axis - 1).unwrap_or(0)]);
            Ok(Held::Tensor(View { order, ..view }))
        }
        _ => Err("only transposes that leave the batch first are supported".into()),
    }
}

/// Of matrices only: weights that an exporter left untransposed.
fn transpose_constant(constant: &Constant, perm: Option<&[i64]>) -> Lowered<Constant> {
    match (&constant.numbers, &constant.shape[..], perm) {
        (Numbers::Floats(list), &[a, b], None | Some([1, 0])) => {
            let turned: Vec<f32> = (0..b).flat_map(|j| (0..a).map(move |i| i * b + j)).map(|at| list[at]).collect();
            Ok(Constant { shape: vec![b, a], numbers: Numbers::Floats(turned.into()) })
        }
        _ => Err("of a constant only with two dimensions is supported".into()),
    }
}

pub(super) fn flatten(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    let rank = if view.flat { 2 } else { 4 };
    if axis_index(node.integer("axis", 1), rank)? != 1 {
        return Err("only `axis` 1 is supported".into());
    }
    Ok(Held::Tensor(View { flat: true, ..view }))
}

pub(super) fn reshape(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let wanted = sizes_of(lowering.required(node, 1)?).ok_or("the shape must be known beforehand")?;
    match lowering.required(node, 0)?.clone() {
        Held::Tensor(view) => reshape_tensor(lowering, view, &wanted, node.integer("allowzero", 0) != 0),
        Held::Constant(constant) => reshape_constant(constant, &wanted).map(Held::Constant),
        Held::Sizes { list, .. } => Ok(Held::Sizes { scalar: wanted.is_empty() && list.len() == 1, list }),
    }
}

fn reshape_constant(constant: Constant, wanted: &[Option<i64>]) -> Lowered<Constant> {
    let known: Vec<usize> = wanted.iter().filter_map(|n| n.and_then(|n| usize::try_from(n).ok())).collect();
    let product = known.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).filter(|&n| n > 0);
    let count = constant.len();
    let rest = product.filter(|&p| count.is_multiple_of(p)).map(|p| count / p);
    let (Some(rest), true) = (rest, wanted.len() <= known.len() + 1) else { return Err("the sizes do not fit".into()) };
    let shape: Vec<usize> = wanted.iter().map(|n| n.and_then(|n| usize::try_from(n).ok()).unwrap_or(rest)).collect();
    if shape.iter().product::<usize>() != count {
        return Err("the sizes do not fit".into());
    }
    Ok(Constant { shape, numbers: constant.numbers })
}

fn reshape_tensor(lowering: &mut Lowering, view: View, wanted: &[Option<i64>], zero_is_zero: bool) -> Lowered<Held> {
    let seen = lowering.shape_of(view);
    let elements: usize = seen.iter().product();
    let refuse = || "only reshapes that keep the batch first, to rank 2 or 4, are supported".to_owned();
    let (&first, rest) = wanted.split_first().ok_or_else(refuse)?;
    let mut sizes = Vec::with_capacity(rest.len());
    let mut open = None;
    for (i, n) in rest.iter().enumerate() {
        match n.ok_or_else(refuse)? {
            0 if !zero_is_zero => sizes.push(*seen.get(i).ok_or_else(refuse)?),
            -1 if open.is_none() => {
                open = Some(i);
                sizes.push(1);
            }
            n => sizes.push(usize::try_from(n).map_err(|_| refuse())?),
        }
    }
    let known = sizes.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).filter(|&n| n > 0).ok_or_else(refuse)?;
    if let Some(i) = open {
        sizes[i] = elements / known;
    }
    // The batch stays first if the rest is exactly one picture; what the first size says must agree with it.
    let batch = lowering.batch.and_then(|n| i64::try_from(n).ok());
    let first_fits = match first {
        None | Some(-1) => true,
        Some(0) => !zero_is_zero,
        known => known == batch,
    };
    if !first_fits || sizes.iter().product::<usize>() != elements || (first == Some(-1) && open.is_some()) {
        return Err(refuse());
    }
    as_shape(lowering, view, &sizes)
}

/// The same numbers in the same order, seen with another shape.
fn as_shape(lowering: &mut Lowering, view: View, sizes: &[usize]) -> Lowered<Held> {
    let seen = lowering.shape_of(view);
    match *sizes {
        _ if sizes == seen => Ok(Held::Tensor(view)),
        [_] => Ok(Held::Tensor(View { flat: true, ..view })),
        [c, 1, 1] => {
            let view = lowering.as_vector(view)?;
            debug_assert_eq!(c, lowering.dims(view).channels);
            Ok(Held::Tensor(View { order: CHANNELS_FIRST, flat: false, ..view }))
        }
        [1, 1, _] => {
            let view = lowering.as_vector(view)?;
            Ok(Held::Tensor(View { order: CHANNELS_LAST, flat: false, ..view }))
        }
        // From a vector, whose numbers lie in the file's order, into a picture with its channels first.
        [a, b, c] => {
            let vector = lowering.as_vector(view)?;
            let gather = super::reorder([a, b, c], CHANNELS_FIRST);
            let dims = super::stored_dims([a, b, c], CHANNELS_FIRST);
            let value = lowering.push(Operation::Gather(gather), vec![Source::Value(vector.value)], dims)?;
            Ok(Held::Tensor(View { value, order: CHANNELS_FIRST, flat: false }))
        }
        _ => Err("only shapes of rank 2 and 4 are supported".into()),
    }
}

pub(super) fn squeeze(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let axes = lowering.integers(node, 1, "axes")?;
    match lowering.required(node, 0)?.clone() {
        Held::Sizes { list, .. } => Ok(Held::Sizes { scalar: list.len() == 1, list }),
        Held::Constant(mut constant) => {
            let rank = constant.shape.len();
            let dropped: Vec<usize> = match axes {
                Some(axes) => axes.iter().map(|&axis| axis_index(axis, rank)).collect::<Lowered<_>>()?,
                None => (0..rank).filter(|&i| constant.shape[i] == 1).collect(),
            };
            if dropped.iter().any(|&i| constant.shape[i] != 1) {
                return Err("only axes of size 1 can be dropped".into());
            }
            let kept = (0..rank).filter(|i| !dropped.contains(i)).map(|i| constant.shape[i]).collect();
            constant.shape = kept;
            Ok(Held::Constant(constant))
        }
        Held::Tensor(view) => {
            let mut sizes = lowering.shape_of(view);
            let axes = axes.ok_or("`axes` must be given, since the batch may be 1")?;
            let mut axes: Vec<usize> =
                axes.iter().map(|&axis| axis_index(axis, sizes.len() + 1)).collect::<Lowered<_>>()?;
            axes.sort_unstable();
            axes.dedup();
            for &axis in axes.iter().rev() {
                if axis == 0 || sizes[axis - 1] != 1 {
                    return Err("only axes of size 1 after the batch can be dropped".into());
                }
                sizes.remove(axis - 1);
            }
            as_shape(lowering, view, &sizes)
        }
    }
}

pub(super) fn unsqueeze(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let axes = lowering.integers(node, 1, "axes")?.ok_or("`axes` is missing")?;
    let added = |rank: usize| -> Lowered<Vec<usize>> {
        let mut at: Vec<usize> =
            axes.iter().map(|&axis| axis_index(axis, rank + axes.len())).collect::<Lowered<_>>()?;
        at.sort_unstable();
        at.dedup();
        if at.len() == axes.len() { Ok(at) } else { Err("`axes` repeats itself".into()) }
    };
    match lowering.required(node, 0)?.clone() {
        Held::Sizes { list, .. } => Ok(Held::Sizes { list, scalar: false }),
        Held::Constant(mut constant) => {
            for at in added(constant.shape.len())? {
                constant.shape.insert(at, 1);
            }
            Ok(Held::Constant(constant))
        }
        Held::Tensor(view) => {
            let mut sizes = lowering.shape_of(view);
            for at in added(sizes.len() + 1)? {
                if at == 0 {
                    return Err("an axis before the batch is not supported".into());
                }
                sizes.insert(at - 1, 1);
            }
            as_shape(lowering, view, &sizes)
        }
    }
}

/// One run along each of the file's three axes after the batch.
#[derive(Clone, Copy)]
struct Run {
    offset: i64,
    step: usize,
    length: usize,
}

pub(super) fn slice(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let Held::Tensor(view) = lowering.required(node, 0)?.clone() else {
        return shape::slice_sizes(lowering, node);
    };
    let starts = lowering.integers(node, 1, "starts")?.ok_or("`starts` is missing")?;
    let ends = lowering.integers(node, 2, "ends")?.ok_or("`ends` is missing")?;
    let axes = lowering.integers(node, 3, "axes")?.unwrap_or_else(|| (0i64..).take(starts.len()).collect());
    let steps = lowering.integers(node, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("`starts`, `ends`, `axes` and `steps` differ in length".into());
    }
    let seen = lowering.shape_of(view);
    let mut runs: Vec<Run> = seen.iter().map(|&length| Run { offset: 0, step: 1, length }).collect();
    for (i, &axis) in axes.iter().enumerate() {
        let axis = axis_index(axis, seen.len() + 1)?;
        let step = usize::try_from(steps[i]).ok().filter(|&s| s > 0).ok_or("only positive steps are supported")?;
        // A step beyond every size picks one number, as a longer one does; devices count in 32 bits.
        let step = step.min(VALUE_ELEMENTS);
        if axis == 0 {
            if starts[i] == 0 && ends[i] == i64::MAX && step == 1 {
                continue;
            }
            return Err("the batch cannot be sliced".into());
        }
        let length = i64::try_from(seen[axis - 1]).map_err(|_| "the tensor is too large")?;
        let clamp = |at: i64| if at < 0 { at.saturating_add(length) } else { at }.clamp(0, length);
        let (start, end) = (clamp(starts[i]), clamp(ends[i]));
        let count = usize::try_from((end - start).max(0)).unwrap_or(0).div_ceil(step);
        runs[axis - 1] = Run { offset: start, step, length: count };
    }
    take_runs(lowering, view, &runs)
}

/// Zeros round a tensor.
pub(super) fn pad(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let view = lowering.tensor(node, 0)?;
    if node.text("mode", "constant") != "constant" {
        return Err("only constant padding is supported".into());
    }
    let value = match lowering.optional(node, 2)? {
        None => node.float("value", 0.0),
        Some(_) => lowering.floats(node, 2)?.1.first().copied().unwrap_or(0.0),
    };
    if value != 0.0 || lowering.optional(node, 3)?.is_some() {
        return Err("only padding of all axes with zeros is supported".into());
    }
    let pads = lowering.integers(node, 1, "pads")?.ok_or("`pads` is missing")?;
    let seen = lowering.shape_of(view);
    let rank = seen.len() + 1;
    if pads.len() != 2 * rank || pads[0] != 0 || pads[rank] != 0 {
        return Err("`pads` must have two numbers per axis, zeros for the batch".into());
    }
    let mut runs = Vec::with_capacity(seen.len());
    for (i, &length) in seen.iter().enumerate() {
        let (before, after) = (pads[i + 1], pads[rank + i + 1]);
        let length = i64::try_from(length).ok().and_then(|n| n.checked_add(before)?.checked_add(after));
        let length = length.and_then(|n| usize::try_from(n).ok()).ok_or("the padded size is not supported")?;
        let offset = before.checked_neg().filter(|n| n.unsigned_abs() < 1 << 30).ok_or("`pads` is out of range")?;
        runs.push(Run { offset, step: 1, length });
    }
    take_runs(lowering, view, &runs)
}

/// What slicing and padding have in common: each of the file's axes read from an offset on, zero outside.
fn take_runs(lowering: &mut Lowering, view: View, runs: &[Run]) -> Lowered<Held> {
    let (view, runs) = match *runs {
        [a, b, c] => (view, [a, b, c]),
        [k] => {
            let one = Run { offset: 0, step: 1, length: 1 };
            (lowering.as_vector(view)?, [one, one, k])
        }
        _ => return Err("only rank 2 and 4 are supported".into()),
    };
    let axes = lowering.dims(view).axes();
    let strides = [axes[1] * axes[2], axes[2], 1];
    let stored = |axis: usize| runs[view.order.iter().position(|&o| o == axis).unwrap_or(axis)];
    let gather = Gather {
        shape: std::array::from_fn(|axis| stored(axis).length),
        axes: std::array::from_fn(|axis| Axis {
            offset: stored(axis).offset,
            step: stored(axis).step,
            limit: axes[axis],
            stride: strides[axis],
        }),
    };
    let [height, width, channels] = gather.shape;
    let dims = Dims { height, width, channels };
    let value = lowering.push(Operation::Gather(gather), vec![Source::Value(view.value)], dims)?;
    Ok(Held::Tensor(View { value, ..view }))
}

/// Channels side by side, two sources at a time; or sizes into a shape.
pub(super) fn concat(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let Held::Tensor(first) = *lowering.required(node, 0)? else {
        return shape::concat_sizes(lowering, node);
    };
    let rank = if first.flat { 2 } else { 4 };
    let axis = axis_index(node.integer("axis", 1), rank)?;
    if axis == 0 || (!first.flat && first.order[axis - 1] != 2) {
        return Err("only channels can be joined".into());
    }
    let mut joined = if first.flat { lowering.as_vector(first)? } else { first };
    for at in 1..node.inputs.len() {
        let next = lowering.tensor(node, at)?;
        if next.flat != first.flat {
            return Err(format!("input {at} has another rank"));
        }
        let next = if next.flat { lowering.as_vector(next)? } else { lowering.in_order(next, joined.order)? };
        let (a, b) = (lowering.dims(joined), lowering.dims(next));
        if (a.height, a.width) != (b.height, b.width) {
            return Err(format!("input {at} has another size"));
        }
        let dims = Dims { channels: a.channels + b.channels, ..a };
        let sources = vec![Source::Value(joined.value), Source::Value(next.value)];
        let value = lowering.push(Operation::Concat, sources, dims)?;
        joined = View { value, ..joined };
    }
    Ok(Held::Tensor(joined))
}
