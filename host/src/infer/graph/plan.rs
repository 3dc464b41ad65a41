//! A graph → which buffer holds which value: few buffers, each used again as soon as nobody reads it any more.
//!
//! No step reads and writes the same buffer, which is what GPUs ask for. Sizes are those of one picture, in
//! whatever the caller counts; nothing is allocated here.

use super::{Graph, ValueId};

/// The buffers of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The size of each buffer, per picture.
    pub buffers: Vec<usize>,
    /// For each value, its buffer; values that no step writes have none.
    pub buffer_of: Vec<Option<usize>>,
}

/// Plans `graph`, in which a value takes `size` elements per picture.
pub fn plan(graph: &Graph, size: impl Fn(ValueId) -> usize) -> Plan {
    let last_read = last_reads(graph);
    let mut made = Plan { buffers: Vec::new(), buffer_of: vec![None; graph.values.len()] };
    let mut free: Vec<usize> = Vec::new();
    for (at, step) in graph.steps.iter().enumerate() {
        let wanted = size(step.output);
        let chosen = take_best(&mut free, &made.buffers, wanted).unwrap_or_else(|| {
            made.buffers.push(wanted);
            made.buffers.len() - 1
        });
        made.buffers[chosen] = made.buffers[chosen].max(wanted);
        made.buffer_of[step.output] = Some(chosen);
        // Only after the output has its own: what this step reads last must not be what it writes.
        let mut done: Vec<ValueId> = step.reads().filter(|&id| last_read[id] == Some(at)).collect();
        done.sort_unstable();
        done.dedup();
        if last_read[step.output].is_none() {
            done.push(step.output);
        }
        free.extend(done.into_iter().filter_map(|id| made.buffer_of[id]));
    }
    made
}

/// For each value, the step that reads it last; outputs of the model are read after all steps.
fn last_reads(graph: &Graph) -> Vec<Option<usize>> {
    let mut last = vec![None; graph.values.len()];
    for (at, step) in graph.steps.iter().enumerate() {
        step.reads().for_each(|id| last[id] = Some(at));
    }
    graph.outputs.iter().for_each(|output| last[output.value] = Some(graph.steps.len()));
    last
}

/// The free buffer that wastes least, or, if all are too small, the one that has least to grow.
fn take_best(free: &mut Vec<usize>, sizes: &[usize], wanted: usize) -> Option<usize> {
    let best = (0..free.len()).min_by_key(|&i| {
        let size = sizes[free[i]];
        (size < wanted, size.abs_diff(wanted))
    })?;
    Some(free.swap_remove(best))
}

#[cfg(test)]
mod tests {
    use super::super::{Dims, Operation, Output, Pointwise, Source, Step, passes};
    use super::*;
    use crate::infer::Port;
    use crate::tensor::Element;

    fn step(input: Option<usize>, with: Option<usize>, output: usize) -> Step {
        Step {
            node: format!("n{output}"),
            operation: Operation::Pointwise,
            inputs: vec![input.map_or(Source::Input(0), Source::Value)],
            before: vec![],
            after: with
                .map(|with| Pointwise::Combine { with, operator: super::super::Operator::Add, swapped: false })
                .into_iter()
                .collect(),
            output,
        }
    }

    fn graph(sizes: &[usize], steps: Vec<Step>) -> Graph {
        let value = steps.last().unwrap().output;
        let port = Port { name: "y".into(), shape: vec![None, Some(1)], element: Element::F32 };
        Graph {
            inputs: vec![],
            outputs: vec![Output { port, value, order: [0, 1, 2], shape: vec![1] }],
            values: sizes.iter().map(|&n| Dims::vector(n)).collect(),
            steps,
        }
    }

    #[test]
    fn a_chain_needs_two_buffers_and_a_residual_three() {
        let chain = graph(
            &[4, 8, 4, 2],
            vec![step(None, None, 0), step(Some(0), None, 1), step(Some(1), None, 2), step(Some(2), None, 3)],
        );
        let made = plan(&chain, |id| chain.values[id].len());
        assert_eq!(made.buffers.len(), 2);
        let residual = graph(
            &[4; 4],
            vec![step(None, None, 0), step(Some(0), None, 1), step(Some(1), None, 2), step(Some(2), Some(0), 3)],
        );
        assert_eq!(plan(&residual, |id| residual.values[id].len()).buffers.len(), 3);
    }

    #[test]
    fn no_step_writes_what_it_or_a_later_one_reads() {
        // Random chains with residuals of random reach.
        let mut state = 7usize;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let count = 2 + random(30);
            let steps: Vec<Step> = (0..count)
                .map(|i| {
                    if i == 0 {
                        step(None, None, 0)
                    } else {
                        step(Some(random(i)), (random(2) == 0).then(|| random(i)), i)
                    }
                })
                .collect();
            let sizes: Vec<usize> = (0..count).map(|_| 1 + random(9)).collect();
            let graph = passes::drop_unused(graph(&sizes, steps));
            let made = plan(&graph, |id| graph.values[id].len());
            let mut holds = vec![None; made.buffers.len()];
            for step in &graph.steps {
                for id in step.reads() {
                    assert_eq!(
                        holds[made.buffer_of[id].unwrap()],
                        Some(id),
                        "a value was overwritten before its last reader"
                    );
                    assert_ne!(made.buffer_of[id], made.buffer_of[step.output]);
                }
                let buffer = made.buffer_of[step.output].unwrap();
                assert!(made.buffers[buffer] >= sizes[step.output]);
                holds[buffer] = Some(step.output);
            }
        }
    }
}
