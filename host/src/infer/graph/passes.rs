//! Graph → graph, with fewer steps that do the same: each pass is a function of its own.
//!
//! A pass may change how often a number is rounded, never which numbers are asked for.

use std::sync::Arc;

use super::{Conv, Gather, Graph, Operation, Operator, Pointwise, PoolKind, Shortcut, Source, Step, ValueId};

/// The most operands that `after` of one step may have. Every WebGPU adapter binds eight storage buffers to a step, and
/// the step needs five of them for itself.
pub const OPERANDS: usize = 2;

/// All passes, in the order in which they help each other.
pub fn optimise(graph: Graph) -> Graph {
    let graph = drop_unused(graph);
    let graph = absorb_padding(graph);
    let graph = fuse_after(graph);
    let graph = fold_scales(graph);
    let graph = fuse_before(graph);
    let graph = merge_shortcuts(graph);
    drop_unused(graph)
}

/// Takes out steps whose result nobody reads.
pub fn drop_unused(mut graph: Graph) -> Graph {
    let mut needed = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|output| needed[output.value] = true);
    let mut kept = Vec::with_capacity(graph.steps.len());
    while let Some(step) = graph.steps.pop() {
        if needed[step.output] {
            step.reads().for_each(|id| needed[id] = true);
            kept.push(step);
        }
    }
    kept.reverse();
    graph.steps = kept;
    graph
}

/// How often each value is read; an output of the model counts as read.
fn uses(graph: &Graph) -> Vec<usize> {
    let mut count = vec![0; graph.values.len()];
    graph.steps.iter().flat_map(Step::reads).for_each(|id| count[id] += 1);
    graph.outputs.iter().for_each(|output| count[output.value] += 1);
    count
}

/// The step that writes each value; values without one count as written after all steps.
fn writers(graph: &Graph) -> Vec<usize> {
    let mut writer = vec![usize::MAX; graph.values.len()];
    graph.steps.iter().enumerate().for_each(|(at, step)| writer[step.output] = at);
    writer
}

/// Zeros put round a picture become the padding of the convolutions that read it, as Keras' `ZeroPadding2D` wants.
pub fn absorb_padding(mut graph: Graph) -> Graph {
    for at in 0..graph.steps.len() {
        let step = &graph.steps[at];
        let (Operation::Gather(gather), [Source::Value(source)]) = (&step.operation, &step.inputs[..]) else {
            continue;
        };
        let Some(([top, left], [bottom, right])) = margins(gather) else { continue };
        // A flatten moves nothing either, but its readers see another size.
        if graph.values[step.output].axes() != gather.shape {
            continue;
        }
        let (padded, source) = (step.output, *source);
        let is_output = graph.outputs.iter().any(|output| output.value == padded);
        let mut readers = graph.steps.iter().filter(|reader| reader.reads().any(|id| id == padded));
        let only_convs = readers.all(|reader| {
            matches!(reader.operation, Operation::Conv(_))
                && reader.operands().all(|id| id != padded)
                && reader.before.is_empty()
        });
        if is_output || !step.after.is_empty() || !only_convs {
            continue;
        }
        for reader in &mut graph.steps {
            if let (Operation::Conv(conv), [Source::Value(input)]) = (&mut reader.operation, &mut reader.inputs[..])
                && *input == padded
            {
                *input = source;
                conv.window.before[0] += top;
                conv.window.before[1] += left;
                conv.window.after[0] += bottom;
                conv.window.after[1] += right;
            }
        }
    }
    drop_unused(graph)
}

/// The rows and columns of zeros that `gather` puts before and after a picture, if that is all it does.
fn margins(gather: &Gather) -> Option<([usize; 2], [usize; 2])> {
    let [height, width, channels] = &gather.axes;
    let dense = channels.stride == 1
        && width.stride == channels.limit
        && height.stride == width.limit.checked_mul(channels.limit)?;
    if !dense
        || gather.axes.iter().any(|axis| axis.step != 1)
        || channels.offset != 0
        || gather.shape[2] != channels.limit
    {
        return None;
    }
    let margin = |i: usize| {
        let axis = &gather.axes[i];
        let before = usize::try_from(axis.offset.checked_neg()?).ok()?;
        Some((before, gather.shape[i].checked_sub(before)?.checked_sub(axis.limit)?))
    };
    let ((top, bottom), (left, right)) = (margin(0)?, margin(1)?);
    Some(([top, left], [bottom, right]))
}

/// Pointwise steps become part of the step that makes what they work on, where nobody else reads that.
pub fn fuse_after(mut graph: Graph) -> Graph {
    let mut at = 0;
    while at < graph.steps.len() {
        // Both ways round for a sum: its left side may be the shortcut, its right side the convolution.
        let fused = (0..2).any(|turn| {
            let step = if turn == 0 { Some(graph.steps[at].clone()) } else { turned(&graph, &graph.steps[at]) };
            step.is_some_and(|step| fuse_into_writer(&mut graph, at, step))
        });
        at += usize::from(!fused);
    }
    graph
}

/// The same step with the operand of its first combination as its input.
fn turned(graph: &Graph, step: &Step) -> Option<Step> {
    let mut step = step.clone();
    let [Source::Value(input)] = &mut step.inputs[..] else { return None };
    let Some(Pointwise::Combine { with, swapped, .. }) = step.after.first_mut() else { return None };
    if graph.values[*with] != graph.values[*input] {
        return None;
    }
    std::mem::swap(with, input);
    *swapped = !*swapped;
    Some(step)
}

fn fuse_into_writer(graph: &mut Graph, at: usize, step: Step) -> bool {
    let (Operation::Pointwise, [Source::Value(input)]) = (&step.operation, &step.inputs[..]) else { return false };
    let order = writers(graph);
    let writer = order[*input];
    if writer >= at || uses(graph)[*input] != 1 || !step.before.is_empty() {
        return false;
    }
    // Operands must be there when the writer runs, and be another value than what it works on.
    let ready = step.operands().all(|id| order[id] < writer);
    let target = &graph.steps[writer];
    let mut operands: Vec<ValueId> = target.operands().chain(step.operands()).collect();
    operands.sort_unstable();
    operands.dedup();
    if !ready || operands.len() > OPERANDS {
        return false;
    }
    let target = &mut graph.steps[writer];
    target.after.extend(step.after);
    target.output = step.output;
    graph.steps.remove(at);
    true
}

/// Scales and shifts right after a convolution become part of its weights and bias.
pub fn fold_scales(mut graph: Graph) -> Graph {
    for step in &mut graph.steps {
        let Operation::Conv(conv) = &mut step.operation else { continue };
        while let Some(Pointwise::Affine { scale, shift }) = step.after.first() {
            fold_scale(conv, scale, shift);
            step.after.remove(0);
        }
    }
    graph
}

#[expect(clippy::cast_possible_truncation, reason = "computed wide, kept as the device has it")]
fn fold_scale(conv: &mut Conv, scale: &[f32], shift: &[f32]) {
    let per_output = conv.weights.len() / conv.bias.len().max(1);
    let weights = Arc::make_mut(&mut conv.weights);
    for (c, output) in weights.chunks_mut(per_output.max(1)).enumerate() {
        output.iter_mut().for_each(|w| *w = (f64::from(*w) * f64::from(scale[c])) as f32);
        conv.bias[c] = (f64::from(conv.bias[c]) * f64::from(scale[c]) + f64::from(shift[c])) as f32;
    }
}

/// Pointwise steps without operands that only convolutions and means read are done as those read their numbers: the
/// normalisation and ReLU before each convolution of a pre-activation ResNet.
pub fn fuse_before(mut graph: Graph) -> Graph {
    let mut at = 0;
    while at < graph.steps.len() {
        if try_fuse_before(&mut graph, at).is_none() {
            at += 1;
        }
    }
    graph
}

fn try_fuse_before(graph: &mut Graph, at: usize) -> Option<()> {
    let step = &graph.steps[at];
    let (Operation::Pointwise, [Source::Value(input)]) = (&step.operation, &step.inputs[..]) else { return None };
    let (input, made) = (*input, step.output);
    let is_output = graph.outputs.iter().any(|output| output.value == made);
    if is_output || step.operands().next().is_some() || !step.before.is_empty() {
        return None;
    }
    let loads = |reader: &Step| match &reader.operation {
        Operation::Conv(_) => true,
        Operation::Pool(pool) => pool.kind != PoolKind::Max,
        _ => false,
    };
    let mut readers = graph.steps.iter().filter(|reader| reader.reads().any(|id| id == made));
    if !readers.all(|reader| loads(reader) && reader.before.is_empty() && reader.operands().all(|id| id != made)) {
        return None;
    }
    let before = graph.steps.remove(at).after;
    for reader in &mut graph.steps {
        if reader.inputs == [Source::Value(made)] {
            reader.inputs = vec![Source::Value(input)];
            reader.before.clone_from(&before);
        }
    }
    Some(())
}

/// The convolution in a residual block's shortcut becomes part of the block's last one, which adds its result first of all:
/// the sum is made in one go, and the largest value of the block is neither written nor read again.
pub fn merge_shortcuts(mut graph: Graph) -> Graph {
    for at in 0..graph.steps.len() {
        let _ = try_merge_shortcut(&mut graph, at);
    }
    drop_unused(graph)
}

fn try_merge_shortcut(graph: &mut Graph, at: usize) -> Option<()> {
    let alone = |step: &Step| match &step.operation {
        Operation::Conv(conv) => conv.groups == 1 && conv.shortcut.is_none() && step.inputs.len() == 1,
        _ => false,
    };
    let step = &graph.steps[at];
    let Some(Pointwise::Combine { with, operator: Operator::Add, .. }) = step.after.first() else { return None };
    let (with, order, count) = (*with, writers(graph), uses(graph));
    let other = graph.steps.get(order[with])?;
    let again = step.after[1..].iter().any(|work| matches!(work, Pointwise::Combine { with: id, .. } if *id == with));
    if !alone(step) || !alone(other) || !other.after.is_empty() || count[with] != 1 || again {
        return None;
    }
    if graph.values[with] != graph.values[step.output] || !matches!(other.inputs[0], Source::Value(_)) {
        return None;
    }
    let Operation::Conv(second) = &other.operation else { return None };
    let (source, bias) = (other.inputs[0], second.bias.clone());
    let shortcut =
        Shortcut { weights: Arc::clone(&second.weights), window: second.window, before: other.before.clone() };
    let step = &mut graph.steps[at];
    let Operation::Conv(conv) = &mut step.operation else { return None };
    conv.bias.iter_mut().zip(bias).for_each(|(bias, more)| *bias += more);
    conv.shortcut = Some(shortcut);
    step.inputs.push(source);
    step.after.remove(0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Axis, Dims, Output, Window};
    use super::*;
    use crate::infer::Port;
    use crate::tensor::Element;

    const RELU: Pointwise = Pointwise::Clip { low: 0.0, high: f32::INFINITY };

    fn step(operation: Operation, input: usize, after: Vec<Pointwise>, output: usize) -> Step {
        Step {
            node: format!("n{output}"),
            operation,
            inputs: vec![Source::Value(input)],
            before: vec![],
            after,
            output,
        }
    }

    fn conv() -> Operation {
        Operation::Conv(Conv {
            weights: Arc::new(vec![2.0, 3.0]),
            bias: vec![1.0, 0.0],
            window: Window::pixel(),
            groups: 2,
            shortcut: None,
        })
    }

    fn affine(scale: [f32; 2], shift: [f32; 2]) -> Pointwise {
        Pointwise::Affine { scale: scale.to_vec(), shift: shift.to_vec() }
    }

    fn add(with: usize) -> Pointwise {
        Pointwise::Combine { with, operator: Operator::Add, swapped: false }
    }

    /// Value 0 is loaded; the last step makes the output.
    fn graph(steps: Vec<Step>) -> Graph {
        let dims = Dims { height: 4, width: 4, channels: 2 };
        let value = steps.last().unwrap().output;
        let load = Step { inputs: vec![Source::Input(0)], ..step(Operation::Pointwise, 0, vec![], 0) };
        let port = Port { name: "y".into(), shape: vec![None, Some(2)], element: Element::F32 };
        Graph {
            inputs: vec![],
            outputs: vec![Output { port, value, order: [0, 1, 2], shape: vec![4, 4, 2] }],
            values: vec![dims; value + 1],
            steps: std::iter::once(load).chain(steps).collect(),
        }
    }

    #[test]
    fn batch_norm_and_relu_after_a_convolution_leave_one_step() {
        let norm = affine([10.0, 1.0], [0.5, 0.25]);
        let made = optimise(graph(vec![
            step(conv(), 0, vec![], 1),
            step(Operation::Pointwise, 1, vec![norm], 2),
            step(Operation::Pointwise, 2, vec![RELU], 3),
        ]));
        assert_eq!(made.steps.len(), 2);
        let Operation::Conv(folded) = &made.steps[1].operation else { panic!() };
        assert_eq!((folded.weights.as_slice(), folded.bias.as_slice()), (&[20.0, 3.0][..], &[10.5, 0.25][..]));
        assert_eq!((made.steps[1].after.as_slice(), made.steps[1].output), (&[RELU][..], 3));
    }

    #[test]
    fn a_shortcut_is_added_by_the_later_convolution_whichever_side_it_is_on() {
        for shortcut_first in [true, false] {
            let (a, b) = if shortcut_first { (1, 2) } else { (2, 1) };
            let made = optimise(graph(vec![
                step(conv(), 0, vec![], 1),
                step(conv(), 0, vec![], 2),
                step(Operation::Pointwise, a, vec![add(b)], 3),
            ]));
            assert_eq!(made.steps.len(), 3, "load, shortcut, convolution");
            let [Pointwise::Combine { with: 1, swapped, .. }] = made.steps[2].after[..] else { panic!("{made:?}") };
            assert_eq!(swapped, shortcut_first, "subtraction would notice");
        }
    }

    #[test]
    fn what_others_read_is_not_fused_away() {
        let made = optimise(graph(vec![
            step(conv(), 0, vec![], 1),
            step(Operation::Pointwise, 1, vec![RELU], 2),
            step(Operation::Softmax, 2, vec![add(1)], 3),
        ]));
        assert_eq!(made.steps.len(), 4);
    }

    #[test]
    fn pre_activation_moves_into_each_convolution_that_reads_it() {
        let norm = affine([1.0, 2.0], [0.0, 0.0]);
        let made = optimise(graph(vec![
            step(Operation::Softmax, 0, vec![], 1),
            step(Operation::Pointwise, 1, vec![norm.clone()], 2),
            step(Operation::Pointwise, 2, vec![RELU], 3),
            step(conv(), 3, vec![], 4),
            step(conv(), 3, vec![], 5),
            step(Operation::Pointwise, 5, vec![add(4)], 6),
            step(Operation::Pointwise, 6, vec![add(1)], 7),
        ]));
        assert_eq!(made.steps.len(), 4, "load, softmax, two convolutions: {made:?}");
        for conv in &made.steps[2..] {
            assert_eq!(
                (conv.inputs.as_slice(), conv.before.as_slice()),
                (&[Source::Value(1)][..], &[norm.clone(), RELU][..])
            );
        }
        assert_eq!(made.steps[3].after, [add(4), add(1)]);
    }

    fn whole() -> Operation {
        let conv = Conv {
            weights: Arc::new(vec![1.0, 2.0, 3.0, 4.0]),
            bias: vec![1.0, 0.5],
            window: Window::pixel(),
            groups: 1,
            shortcut: None,
        };
        Operation::Conv(conv)
    }

    #[test]
    fn the_convolution_in_a_shortcut_becomes_part_of_the_last_one() {
        let norm = affine([1.0, 2.0], [0.0, 0.0]);
        let made = optimise(graph(vec![
            step(Operation::Softmax, 0, vec![], 1),
            step(Operation::Pointwise, 1, vec![norm.clone(), RELU], 2),
            step(whole(), 2, vec![], 3),
            step(whole(), 2, vec![RELU], 4),
            step(whole(), 4, vec![], 5),
            step(Operation::Pointwise, 3, vec![add(5), add(1), RELU], 6),
        ]));
        assert_eq!(made.steps.len(), 4, "load, softmax, two convolutions: {made:?}");
        let last = &made.steps[3];
        let Operation::Conv(Conv { shortcut: Some(shortcut), bias, .. }) = &last.operation else { panic!("{last:?}") };
        assert_eq!(
            (last.inputs.as_slice(), bias.as_slice()),
            (&[Source::Value(4), Source::Value(1)][..], &[2.0, 1.0][..])
        );
        assert_eq!((last.before.len(), shortcut.before.as_slice()), (0, &[norm, RELU][..]));
        assert_eq!(last.after, [add(1), RELU]);
    }

    #[test]
    fn a_shortcut_that_others_read_or_that_is_subtracted_stays() {
        let subtract = Pointwise::Combine { with: 1, operator: Operator::Subtract, swapped: false };
        for (last, work) in [(4, add(1)), (3, subtract)] {
            let mut steps = vec![step(whole(), 0, vec![], 1), step(whole(), 0, vec![], 2)];
            steps.push(step(Operation::Pointwise, 2, vec![work], 3));
            steps.extend((last == 4).then(|| step(Operation::Softmax, 1, vec![add(3)], 4)));
            let made = optimise(graph(steps));
            let merged = |step: &Step| matches!(&step.operation, Operation::Conv(conv) if conv.shortcut.is_some());
            assert!(!made.steps.iter().any(merged), "{made:?}");
        }
    }

    #[test]
    fn a_step_has_at_most_the_operands_that_can_be_bound() {
        let mut steps: Vec<Step> = (1..=4).map(|i| step(Operation::Softmax, 0, vec![], i)).collect();
        steps.push(step(conv(), 0, vec![], 5));
        (1..=4).for_each(|i| steps.push(step(Operation::Pointwise, 4 + i, vec![add(i)], 5 + i)));
        let made = optimise(graph(steps));
        assert!(made.steps.iter().all(|step| step.operands().count() <= OPERANDS));
        assert_eq!(made.steps.len(), 7, "two sums in the convolution, two in one step of their own");
    }

    #[test]
    fn zeros_round_a_picture_become_padding_but_a_slice_does_not() {
        let axis = |offset, limit, stride| Axis { offset, step: 1, limit, stride };
        let pad = Gather { shape: [7, 6, 2], axes: [axis(-1, 4, 8), axis(-2, 4, 2), axis(0, 2, 1)] };
        let mut padded = graph(vec![step(Operation::Gather(pad.clone()), 0, vec![], 1), step(conv(), 1, vec![], 2)]);
        padded.values[1] = Dims { height: 7, width: 6, channels: 2 };
        let made = absorb_padding(padded);
        let Operation::Conv(conv_) = &made.steps[1].operation else { panic!() };
        assert_eq!((conv_.window.before, conv_.window.after, made.steps.len()), ([1, 2], [2, 0], 2));
        let cut = Gather { shape: [2, 4, 2], ..pad };
        let kept = absorb_padding(graph(vec![step(Operation::Gather(cut), 0, vec![], 1), step(conv(), 1, vec![], 2)]));
        assert_eq!(kept.steps.len(), 3);
    }
}
