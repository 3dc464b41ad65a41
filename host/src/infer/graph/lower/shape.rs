//! Constants, and arithmetic on shapes: exporters write `x.view(x.size(0), -1)` as five nodes of it.

use super::{Held, Lowered, Lowering, axis_index, sizes_of};
use crate::infer::onnx::{Attribute, Constant, Node, Numbers};

pub(super) fn constant(_: &mut Lowering, node: &Node) -> Lowered<Held> {
    let one = |numbers| Ok(Held::Constant(Constant { shape: Vec::new(), numbers }));
    let list = |len, numbers| Ok(Held::Constant(Constant { shape: vec![len], numbers }));
    match node.attributes.iter().next().map(|(_, value)| value) {
        Some(Attribute::Tensor(constant)) => Ok(Held::Constant(constant.clone())),
        Some(Attribute::Float(v)) => one(Numbers::Floats(vec![*v].into())),
        Some(Attribute::Integer(v)) => one(Numbers::Integers(vec![*v].into())),
        Some(Attribute::Floats(v)) => list(v.len(), Numbers::Floats(v.clone().into())),
        Some(Attribute::Integers(v)) => list(v.len(), Numbers::Integers(v.clone().into())),
        _ => Err("only numbers are supported".into()),
    }
}

/// Also dropout, which does nothing outside training.
pub(super) fn identity(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    lowering.required(node, 0).cloned()
}

pub(super) fn shape(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let size = |n: usize| i64::try_from(n).ok();
    let all: Vec<Option<i64>> = match lowering.required(node, 0)? {
        Held::Constant(constant) => constant.shape.iter().map(|&n| size(n)).collect(),
        Held::Sizes { list, scalar } => {
            if *scalar {
                vec![]
            } else {
                vec![size(list.len())]
            }
        }
        Held::Tensor(view) => {
            let batch = lowering.batch.and_then(size);
            std::iter::once(batch).chain(lowering.shape_of(*view).into_iter().map(size)).collect()
        }
    };
    let rank = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let clamp = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank);
    let (start, end) = (clamp(node.integer("start", 0)), clamp(node.integer("end", rank)));
    let list =
        all.into_iter().enumerate().filter(|&(i, _)| (start..end).contains(&(i as i64))).map(|(_, n)| n).collect();
    Ok(Held::Sizes { list, scalar: false })
}

pub(super) fn gather(lowering: &mut Lowering, node: &Node) -> Lowered<Held> {
    let only = "only picking sizes from a shape is supported";
    let list = sizes_of(lowering.required(node, 0)?).ok_or(only)?;
    let index = lowering.required(node, 1)?;
    let scalar = match index {
        Held::Constant(constant) => constant.shape.is_empty(),
        Held::Sizes { scalar, .. } => *scalar,
        Held::Tensor(_) => return Err(only.into()),
    };
    if node.integer("axis", 0) != 0 {
        return Err(only.into());
    }
    let picked = sizes_of(index).ok_or(only)?.into_iter().map(|at| {
        let at = axis_index(at.ok_or("the index is not known")?, list.len())?;
        Ok(list[at])
    });
    Ok(Held::Sizes { list: picked.collect::<Lowered<_>>()?, scalar })
}

/// Sizes joined into one list.
pub(super) fn concat_sizes(lowering: &Lowering, node: &Node) -> Lowered<Held> {
    let mut list = Vec::new();
    for at in 0..node.inputs.len() {
        list.extend(sizes_of(lowering.required(node, at)?).ok_or("sizes and tensors cannot be joined")?);
    }
    Ok(Held::Sizes { list, scalar: false })
}

/// A run of a list of sizes: `shape[1:]`.
pub(super) fn slice_sizes(lowering: &Lowering, node: &Node) -> Lowered<Held> {
    let list = sizes_of(lowering.required(node, 0)?).ok_or("only sizes and tensors can be sliced")?;
    let one = |at: usize, name: &str| -> Lowered<i64> {
        match lowering.integers(node, at, name)?.as_deref() {
            Some([n]) => Ok(*n),
            None if name == "steps" => Ok(1),
            _ => Err(format!("`{name}` must be one number")),
        }
    };
    if one(4, "steps")? != 1 {
        return Err("sizes are sliced with step 1 only".into());
    }
    let rank = i64::try_from(list.len()).unwrap_or(i64::MAX);
    let clamp = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank);
    let (start, end) = (clamp(one(1, "starts")?), clamp(one(2, "ends")?));
    let run = (start..end).map(|at| list[usize::try_from(at).unwrap_or(0)]).collect();
    Ok(Held::Sizes { list: run, scalar: false })
}

/// Sum, difference, product or quotient of sizes, element by element.
pub(super) fn arithmetic_sizes(
    operation: &str,
    left: &[Option<i64>],
    right: &[Option<i64>],
) -> Lowered<Vec<Option<i64>>> {
    if left.is_empty() || right.is_empty() || (left.len() != right.len() && left.len() != 1 && right.len() != 1) {
        return Err(format!("{} and {} sizes do not fit together", left.len(), right.len()));
    }
    let compute = |a: i64, b: i64| match operation {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        _ => a.checked_div(b),
    };
    (0..left.len().max(right.len()))
        .map(|i| match (left[i % left.len()], right[i % right.len()]) {
            (Some(a), Some(b)) => compute(a, b).map(Some).ok_or_else(|| "a size overflows".to_owned()),
            _ => Ok(None),
        })
        .collect()
}
