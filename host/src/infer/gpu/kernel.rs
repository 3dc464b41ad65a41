//! A step → its shader: the WGSL text with all sizes written into it, the numbers it binds, and how many workgroups
//! it takes. Pure: nothing here talks to a device.
//!
//! Which kernel a step takes, and its tiles, depend on the step's sizes and never on the batch, so that the same picture
//! gives the same bits in every batch.

use std::fmt::Write;

use super::super::graph::{
    Conv, Dims, Gather, Graph, Operation, Operator, Pointwise, Pool, PoolKind, Source, Step, ValueId,
};
use crate::tensor::Element;

/// The kernels that are switched on and off, tested and reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Numbers moved.
    Gather,
    /// Convolution in one group, 32-bit floats.
    ConvTiled,
    /// Convolution in groups, 32-bit floats.
    ConvGrouped,
    /// Pooling.
    Pool,
    /// Work on single numbers.
    Pointwise,
    /// Softmax.
    Softmax,
    /// Channels joined.
    Concat,
}

impl Family {
    /// All families; the first is what every other's test needs.
    pub const ALL: [Family; 7] = [
        Family::Gather,
        Family::ConvTiled,
        Family::ConvGrouped,
        Family::Pool,
        Family::Pointwise,
        Family::Softmax,
        Family::Concat,
    ];

    /// The name of its entry point, of its file and of its twin.
    pub fn entry(self) -> &'static str {
        match self {
            Family::Gather => "gather",
            Family::ConvTiled => "conv_tiled",
            Family::ConvGrouped => "conv_grouped",
            Family::Pool => "pool",
            Family::Pointwise => "pointwise",
            Family::Softmax => "softmax",
            Family::Concat => "concat",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Family::Gather => include_str!("kernels/gather.wgsl"),
            Family::ConvTiled => include_str!("kernels/conv_tiled.wgsl"),
            Family::ConvGrouped => include_str!("kernels/conv_grouped.wgsl"),
            Family::Pool => include_str!("kernels/pool.wgsl"),
            Family::Pointwise => include_str!("kernels/pointwise.wgsl"),
            Family::Softmax => include_str!("kernels/softmax.wgsl"),
            Family::Concat => include_str!("kernels/concat.wgsl"),
        }
    }

    /// The families that can do `operation`, the fastest first. A model takes the first that passed its self-test.
    pub fn candidates(operation: &Operation) -> &'static [Family] {
        match operation {
            Operation::Conv(conv) if conv.groups == 1 => &[Family::ConvTiled, Family::ConvGrouped],
            Operation::Conv(_) => &[Family::ConvGrouped],
            Operation::Pool(_) => &[Family::Pool],
            Operation::Gather(_) => &[Family::Gather],
            Operation::Pointwise => &[Family::Pointwise],
            Operation::Softmax => &[Family::Softmax],
            Operation::Concat => &[Family::Concat],
        }
    }
}

/// The binding numbers, as the WGSL files have them.
pub(super) mod binding {
    pub(in super::super) const RUN: u32 = 0;
    pub(in super::super) const SOURCE: u32 = 1;
    pub(in super::super) const OUTPUT: u32 = 2;
    pub(in super::super) const CONSTANTS: u32 = 3;
    pub(in super::super) const WEIGHTS: u32 = 4;
    pub(in super::super) const SECOND: u32 = 5;
    pub(in super::super) const OPERANDS: u32 = 6;
}

/// A step, ready to be compiled.
pub(super) struct Kernel {
    pub(super) family: Family,
    /// The whole WGSL module.
    pub(super) source: String,
    /// Numbers per channel, quad by quad; empty if there are none.
    pub(super) constants: Vec<f32>,
    /// Packed weights; empty if there are none.
    pub(super) weights: Vec<f32>,
    /// The values that `after` reads, in the order of their bindings.
    pub(super) operands: Vec<ValueId>,
    /// Whether it reads a second source.
    pub(super) has_second: bool,
    pub(super) grid: Grid,
}

/// How many workgroups a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// As many for each picture, each of them `share` of these items, laid out in two dimensions.
    Linear { per_image: u64, share: u64 },
    /// Tiles of `tile` rows, of which each picture has `rows`, by `columns` tiles.
    Tiles { rows: u64, tile: u64, columns: u64 },
}

impl Grid {
    /// The grid for `images` pictures on an adapter that takes `limit` workgroups along each axis; `None` if it cannot.
    pub(super) fn workgroups(self, images: u64, limit: u32) -> Option<[u32; 3]> {
        let limit = u64::from(limit);
        let [x, y] = match self {
            Grid::Linear { per_image, share } => {
                let all = images.checked_mul(per_image)?.div_ceil(share);
                [all.min(limit), all.div_ceil(limit)]
            }
            Grid::Tiles { rows, tile, columns } => [images.checked_mul(rows)?.div_ceil(tile), columns],
        };
        let fits = |n: u64| u32::try_from(n).ok().filter(|_| (1..=limit).contains(&n));
        Some([fits(x)?, fits(y)?, 1])
    }
}

/// Invocations of a workgroup of the kernels without tiles.
const THREADS: usize = 64;

/// How one workgroup of `conv_tiled` cuts its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Output pixels.
    rows: usize,
    /// Quads of output channels.
    quads: usize,
    /// Output pixels per invocation.
    per_thread: usize,
    /// Quads of the inner dimension in workgroup memory at a time.
    step: usize,
}

impl Tile {
    fn threads(self) -> usize {
        self.rows / self.per_thread * self.quads
    }

    /// 256 invocations and 16 KiB at most, which every WebGPU adapter has; narrow layers take narrow tiles, so that few
    /// invocations work on channels that are not there.
    fn of(to: Dims) -> Self {
        let (rows, quads, per_thread) = match quads(to.channels) {
            0..=4 => (128, 4, 4),
            5..=8 => (128, 8, 4),
            // A vector has one row per picture: high tiles would be empty.
            _ if to.pixels() == 1 => (32, 16, 2),
            _ => (128, 16, 8),
        };
        Self { rows, quads, per_thread, step: 4 }
    }
}

/// Quads of channels.
pub(super) fn quads(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// Floats that one picture's value takes on the device.
pub(super) fn stored_len(dims: Dims) -> usize {
    dims.pixels() * quads(dims.channels) * 4
}

/// The kernel of `family`, one of its candidates, for `step`, or why there is none.
pub(super) fn kernel(graph: &Graph, step: &Step, family: Family) -> Result<Kernel, String> {
    let to = graph.values[step.output];
    let mut text = Text::default();
    text.size("OUT", to);
    let from = match step.inputs.first() {
        Some(Source::Value(id)) => {
            let from = graph.values[*id];
            text.size("IN", from);
            Some(from)
        }
        _ => None,
    };
    let valued = || from.ok_or_else(|| "it does not read a value; this is a bug".to_owned());
    if !step.before.is_empty() && !matches!(step.operation, Operation::Conv(_) | Operation::Pool(_)) {
        return Err("it works on what it loads, which only convolutions and pools can; this is a bug".into());
    }
    let mut weights = Vec::new();
    let mut bias = None;
    let mut threads = THREADS;
    let mut grid = Grid::Linear { per_image: stored_len(to) as u64 / 4, share: THREADS as u64 };
    match &step.operation {
        Operation::Conv(conv) => {
            let from = valued()?;
            text.window(&conv.window);
            bias = Some(conv.bias.as_slice());
            if family == Family::ConvTiled {
                let tile = Tile::of(to);
                (threads, grid) = text.tile(tile, to);
                weights = pack_tiled(conv, from, to);
            } else {
                text.groups(conv, from, to);
                weights = pack_grouped(conv, from, to);
            }
        }
        Operation::Pool(pool) => text.pool(pool),
        Operation::Gather(gather) => text.gather(graph, step, gather, from),
        Operation::Softmax => grid = Grid::Linear { per_image: to.pixels() as u64, share: 1 },
        Operation::Concat => {
            let [Source::Value(first), Source::Value(second)] = step.inputs[..] else {
                return Err("it does not read two values; this is a bug".into());
            };
            text.constant("FIRST_C", graph.values[first].channels);
            text.constant("SECOND_Q", quads(graph.values[second].channels));
        }
        Operation::Pointwise => {
            valued()?;
        }
    }
    text.constant("THREADS", threads);
    let operands: Vec<ValueId> = step.operands().collect();
    let constants = text.pointwise(graph, step, bias, from.unwrap_or(to));
    let source =
        format!("{}\n{}\n{}\n{}", text.constants, include_str!("kernels/common.wgsl"), family.text(), text.functions);
    let has_second = step.inputs.len() > 1;
    Ok(Kernel { family, source, constants, weights, operands, has_second, grid })
}

/// The generated parts of a module.
#[derive(Default)]
struct Text {
    constants: String,
    functions: String,
}

impl Text {
    fn constant(&mut self, name: &str, value: usize) {
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
    }

    fn signed(&mut self, name: &str, value: i64) {
        // In parentheses, since a minus in front of a literal is an operator.
        let _ = writeln!(self.constants, "const {name}: i32 = i32({value});");
    }

    fn size(&mut self, prefix: &str, dims: Dims) {
        self.constant(&format!("{prefix}_H"), dims.height);
        self.constant(&format!("{prefix}_W"), dims.width);
        self.constant(&format!("{prefix}_C"), dims.channels);
        self.constant(&format!("{prefix}_Q"), quads(dims.channels));
    }

    fn window(&mut self, window: &super::super::graph::Window) {
        let pairs = [
            ("KERNEL", window.size),
            ("STRIDE", window.stride),
            ("DILATION", window.dilation),
            ("BEFORE", window.before),
            ("AFTER", window.after),
        ];
        for (name, [vertical, horizontal]) in pairs {
            self.constant(&format!("{name}_H"), vertical);
            self.constant(&format!("{name}_W"), horizontal);
        }
    }

    fn tile(&mut self, tile: Tile, to: Dims) -> (usize, Grid) {
        self.constant("TILE_ROWS", tile.rows);
        self.constant("TILE_Q", tile.quads);
        self.constant("ROWS", tile.per_thread);
        self.constant("STEP_Q", tile.step);
        let columns = quads(to.channels).div_ceil(tile.quads) as u64;
        (tile.threads(), Grid::Tiles { rows: to.pixels() as u64, tile: tile.rows as u64, columns })
    }

    fn groups(&mut self, conv: &Conv, from: Dims, to: Dims) {
        let (inputs, outputs) = (from.channels / conv.groups, to.channels / conv.groups);
        self.constant("GROUP_IN", inputs);
        self.constant("GROUP_OUT", outputs);
        self.constant("ONE_GROUP_PER_QUAD", usize::from(outputs.is_multiple_of(4)));
    }

    fn pool(&mut self, pool: &Pool) {
        self.window(&pool.window);
        let kind = match pool.kind {
            PoolKind::Max => 0,
            PoolKind::Average => 1,
            PoolKind::AveragePadded => 2,
        };
        self.constant("KIND", kind);
    }

    /// The rule's numbers, and `number_at`, which takes one number of picture `image` at a place counted without padding.
    fn gather(&mut self, graph: &Graph, step: &Step, gather: &Gather, from: Option<Dims>) {
        self.constant("SHAPE_1", gather.shape[1]);
        self.constant("SHAPE_2", gather.shape[2]);
        for (i, axis) in gather.axes.iter().enumerate() {
            self.constant(&format!("STEP_{i}"), axis.step);
            self.signed(&format!("OFFSET_{i}"), axis.offset);
            self.constant(&format!("LIMIT_{i}"), axis.limit);
            self.constant(&format!("ALONG_{i}"), axis.stride);
        }
        let (element, code) = match step.inputs[..] {
            [Source::Input(input), ..] => {
                let port = &graph.inputs[input];
                let len: usize = port.shape.iter().skip(1).map(|n| n.unwrap_or(1)).product();
                self.constant("PICTURE", len);
                if port.element == Element::U8 {
                    ("u32", "let i = image * PICTURE + place;\n    return f32((x[i / 4u] >> (8u * (i % 4u))) & 255u);")
                } else {
                    ("f32", "return x[image * PICTURE + place];")
                }
            }
            _ => {
                self.constant("PICTURE", from.map_or(0, stored_len));
                ("f32", "return x[image * PICTURE + place / IN_C * (4u * IN_Q) + place % IN_C];")
            }
        };
        let _ =
            writeln!(self.functions, "@group(0) @binding({}) var<storage, read> x: array<{element}>;", binding::SOURCE);
        let _ = writeln!(self.functions, "fn number_at(image: u32, place: u32) -> f32 {{\n    {code}\n}}");
    }

    /// `before` and `after`, with their bindings; the numbers per channel that they read come back.
    fn pointwise(&mut self, graph: &Graph, step: &Step, bias: Option<&[f32]>, from: Dims) -> Vec<f32> {
        let mut tables = Vec::new();
        let to = graph.values[step.output];
        let operands: Vec<ValueId> = step.operands().collect();
        let mut after = String::new();
        if let Some(bias) = bias {
            let _ = writeln!(after, "    v += constants[{}u + q];", table(&mut tables, bias));
        }
        after.push_str(&statements(&step.after, &mut tables, &operands, |id| graph.values[id] == to));
        let before = statements(&step.before, &mut tables, &[], |_| true);
        if !tables.is_empty() {
            let n = binding::CONSTANTS;
            let _ = writeln!(self.functions, "@group(0) @binding({n}) var<storage, read> constants: array<vec4<f32>>;");
        }
        for (n, _) in operands.iter().enumerate() {
            let at = binding::OPERANDS as usize + n;
            let _ =
                writeln!(self.functions, "@group(0) @binding({at}) var<storage, read> operand{n}: array<vec4<f32>>;");
        }
        let body = |statements: &str| format!("    var v = given;\n{statements}    return v;\n");
        let _ = writeln!(
            self.functions,
            "fn before(given: vec4<f32>, q: u32) -> vec4<f32> {{\n{}}}\n\
             fn after(given: vec4<f32>, at: u32, q: u32) -> vec4<f32> {{\n{}}}",
            body(&before),
            body(&after)
        );
        // Kernels compare with it where infinity cannot be written.
        let _ = writeln!(self.constants, "const LOWEST: f32 = {};", float(f32::MIN));
        debug_assert!(step.before.is_empty() || from.channels > 0);
        tables
    }
}

/// Adds numbers per channel to `tables`, whole quads of them, and returns the first quad.
fn table(tables: &mut Vec<f32>, numbers: &[f32]) -> usize {
    let start = tables.len() / 4;
    tables.extend_from_slice(numbers);
    tables.resize(tables.len().next_multiple_of(4), 0.0);
    start
}

fn statements(
    work: &[Pointwise],
    tables: &mut Vec<f32>,
    operands: &[ValueId],
    full: impl Fn(ValueId) -> bool,
) -> String {
    let mut text = String::new();
    for one in work {
        let _ = match one {
            Pointwise::Affine { scale, shift } => {
                let (scale, shift) = (table(tables, scale), table(tables, shift));
                writeln!(text, "    v = fma(v, constants[{scale}u + q], constants[{shift}u + q]);")
            }
            Pointwise::Clip { low, high } => {
                // Infinity cannot be written in WGSL, and a bound there does nothing.
                if *low > f32::MIN {
                    let _ = writeln!(text, "    v = max(v, vec4<f32>({}));", float(*low));
                }
                if *high < f32::MAX {
                    let _ = writeln!(text, "    v = min(v, vec4<f32>({}));", float(*high));
                }
                Ok(())
            }
            Pointwise::Combine { with, operator, swapped } => {
                let n = operands.iter().position(|id| id == with).unwrap_or(0);
                let index = if full(*with) { "at" } else { "at / (OUT_H * OUT_W * OUT_Q) * OUT_Q + q" };
                let other = format!("operand{n}[{index}]");
                let sign = match operator {
                    Operator::Add => '+',
                    Operator::Subtract => '-',
                    Operator::Multiply => '*',
                    Operator::Divide => '/',
                };
                if *swapped {
                    writeln!(text, "    v = {other} {sign} v;")
                } else {
                    writeln!(text, "    v = v {sign} {other};")
                }
            }
        };
    }
    text
}

/// A finite float as WGSL reads it back exactly.
fn float(value: f32) -> String {
    // Rust writes the fewest digits that read back as the same number.
    format!("{value:e}f")
}

/// How many numbers the weights of `step` take in `family`; more than in the file, since channels are filled up.
pub(super) fn packed_len(graph: &Graph, step: &Step, family: Family) -> u64 {
    let (Operation::Conv(conv), [Source::Value(from), ..]) = (&step.operation, &step.inputs[..]) else { return 0 };
    let channels = graph.values[*from].channels;
    let inputs = if family == Family::ConvTiled { quads(channels) * 4 } else { channels / conv.groups };
    let outputs = quads(graph.values[step.output].channels) * 4;
    [conv.window.size[0], conv.window.size[1], inputs, outputs]
        .iter()
        .fold(1, |all: u64, &n| all.saturating_mul(n as u64))
}

/// Tap, input channel, output channel, with both channels filled up to quads by zeros.
fn pack_tiled(conv: &Conv, from: Dims, to: Dims) -> Vec<f32> {
    let taps = conv.window.size[0] * conv.window.size[1];
    let (inputs, outputs) = (quads(from.channels) * 4, quads(to.channels) * 4);
    let mut packed = vec![0.0; taps * inputs * outputs];
    for (o, output) in conv.weights.chunks(from.channels * taps).enumerate() {
        for (i, kernel) in output.chunks(taps).enumerate() {
            kernel.iter().enumerate().for_each(|(tap, &w)| packed[(tap * inputs + i) * outputs + o] = w);
        }
    }
    packed
}

/// Output quad, tap, input channel of the group, lane.
fn pack_grouped(conv: &Conv, from: Dims, to: Dims) -> Vec<f32> {
    let taps = conv.window.size[0] * conv.window.size[1];
    let inputs = from.channels / conv.groups;
    let mut packed = vec![0.0; quads(to.channels) * 4 * taps * inputs];
    for (o, output) in conv.weights.chunks(inputs * taps).enumerate() {
        for (i, kernel) in output.chunks(taps).enumerate() {
            for (tap, &w) in kernel.iter().enumerate() {
                packed[((o / 4 * taps + tap) * inputs + i) * 4 + o % 4] = w;
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::super::cases;
    use super::*;
    use wgpu::naga;

    #[test]
    fn every_kernel_is_valid_wgsl_without_a_device() {
        let mut seen = Vec::new();
        for case in cases::all() {
            let choices = case
                .graph
                .steps
                .iter()
                .flat_map(|step| Family::candidates(&step.operation).iter().map(move |f| (step, *f)));
            for (step, family) in choices {
                let kernel = kernel(&case.graph, step, family).unwrap();
                assert_eq!(kernel.weights.len() as u64, packed_len(&case.graph, step, family), "{}", case.name);
                let module = naga::front::wgsl::parse_str(&kernel.source)
                    .unwrap_or_else(|e| panic!("{}: {}", case.name, e.emit_to_string(&kernel.source)));
                let mut validator = naga::valid::Validator::new(
                    naga::valid::ValidationFlags::all(),
                    naga::valid::Capabilities::empty(),
                );
                let info = validator.validate(&module);
                let info = info.unwrap_or_else(|e| panic!("{}: {}", case.name, e.emit_to_string(&kernel.source)));
                let entry = module.entry_points.iter().position(|e| e.name == kernel.family.entry()).unwrap();
                assert!(module.entry_points[entry].workgroup_size[0] <= 256, "{}", case.name);
                let bound = module.global_variables.iter().filter(|(handle, variable)| {
                    !info.get_entry_point(entry)[*handle].is_empty()
                        && matches!(variable.space, naga::AddressSpace::Storage { .. })
                });
                assert!(bound.count() <= 8, "{}: an adapter may have no more", case.name);
                seen.push(kernel.family);
            }
        }
        assert!(Family::ALL.iter().all(|family| seen.contains(family)), "a family without a case");
    }

    #[test]
    fn tiles_fit_every_adapter() {
        for channels in [1, 16, 17, 32, 33, 64, 2048] {
            for height in [1, 7] {
                let tile = Tile::of(Dims { height, width: height, channels });
                assert!(tile.threads() <= 256 && tile.rows.is_multiple_of(tile.per_thread), "{tile:?}");
                assert!((tile.rows * tile.step + 4 * tile.step * tile.quads) * 16 <= 16 << 10, "{tile:?}");
            }
        }
    }

    #[test]
    fn grids_cover_the_work_and_keep_the_limit() {
        let linear = Grid::Linear { per_image: 1000, share: 64 };
        assert_eq!(linear.workgroups(1, 65535), Some([16, 1, 1]));
        assert_eq!(linear.workgroups(7, 20), Some([20, 6, 1]), "110 workgroups, laid out in rows of twenty");
        assert_eq!(linear.workgroups(1 << 40, 65535), None);
        let tiles = Grid::Tiles { rows: 49, tile: 128, columns: 3 };
        assert_eq!(tiles.workgroups(3, 65535), Some([2, 3, 1]));
        assert_eq!(tiles.workgroups(400, 100), None);
    }
}
