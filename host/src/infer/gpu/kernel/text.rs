//! The generated parts of a kernel's WGSL module: constants in capitals, and the pointwise work round a step.

use std::fmt::Write;

use super::super::super::Precision;
use super::super::super::graph::{
    Conv, Dims, Gather, Operator, Pointwise, Pool, PoolKind, Source, Step, ValueId, Window,
};
use super::abilities::{number, quad};
use super::tile::{MatrixTile, Tile};
use super::{Grid, Layout, binding, quads, stored_len};
use crate::tensor::Element;

/// The generated parts of a module.
#[derive(Default)]
pub(super) struct Text {
    pub(super) constants: String,
    pub(super) functions: String,
    /// Whether it names 16-bit floats.
    half: bool,
}

impl Text {
    pub(super) fn constant(&mut self, name: &str, value: usize) {
        let _ = writeln!(self.constants, "const {name}: u32 = {value}u;");
    }

    fn signed(&mut self, name: &str, value: i64) {
        // In parentheses, since a minus in front of a literal is an operator.
        let _ = writeln!(self.constants, "const {name}: i32 = i32({value});");
    }

    pub(super) fn size(&mut self, prefix: &str, dims: Dims) {
        self.constant(&format!("{prefix}_H"), dims.height);
        self.constant(&format!("{prefix}_W"), dims.width);
        self.constant(&format!("{prefix}_C"), dims.channels);
        self.constant(&format!("{prefix}_Q"), quads(dims.channels));
    }

    pub(super) fn window(&mut self, prefix: &str, window: &Window) {
        let pairs = [
            ("KERNEL", window.size),
            ("STRIDE", window.stride),
            ("DILATION", window.dilation),
            ("BEFORE", window.before),
            ("AFTER", window.after),
        ];
        for (name, [vertical, horizontal]) in pairs {
            self.constant(&format!("{prefix}{name}_H"), vertical);
            self.constant(&format!("{prefix}{name}_W"), horizontal);
        }
    }

    pub(super) fn tile(&mut self, tile: Tile, to: Dims) -> (usize, Grid) {
        self.constant("TILE_ROWS", tile.rows);
        self.constant("TILE_Q", tile.quads);
        self.constant("ROWS", tile.per_thread);
        self.constant("STEP_Q", tile.step);
        let columns = quads(to.channels).div_ceil(tile.quads);
        self.constant("COLUMNS", columns);
        let grid = Grid::Tiles { rows: to.pixels() as u64, tile: tile.rows as u64, columns: columns as u64 };
        (tile.threads(), grid)
    }

    pub(super) fn matrix_tile(&mut self, tile: MatrixTile, to: Dims) -> (usize, Grid) {
        let columns = to.channels.div_ceil(tile.columns());
        let numbers = [
            ("SIZE", tile.matrix.size),
            ("SUBGROUP", tile.matrix.subgroup),
            ("SUBGROUPS", tile.subgroups[0] * tile.subgroups[1]),
            ("SUBGROUPS_ACROSS", tile.subgroups[1]),
            ("TILE_ROWS", tile.rows()),
            ("TILE_COLUMNS", tile.columns()),
            ("STEP", tile.step),
            ("PITCH", tile.pitch()),
            ("BUFFERS", tile.buffers),
            ("UNIT", if tile.matrix.by_number { 1 } else { 4 }),
            ("COLUMNS", columns),
        ];
        numbers.into_iter().for_each(|(name, n)| self.constant(name, n));
        let grid = Grid::Tiles { rows: to.pixels() as u64, tile: tile.rows() as u64, columns: columns as u64 };
        (tile.threads(), grid)
    }

    pub(super) fn groups(&mut self, conv: &Conv, inputs: usize, to: Dims) {
        let outputs = to.channels / conv.groups;
        self.constant("GROUP_IN", inputs);
        self.constant("GROUP_OUT", outputs);
        self.constant("ONE_GROUP_PER_QUAD", usize::from(outputs.is_multiple_of(4)));
    }

    pub(super) fn pool(&mut self, pool: &Pool) {
        self.window("", &pool.window);
        let kind = match pool.kind {
            PoolKind::Max => 0,
            PoolKind::Average => 1,
            PoolKind::AveragePadded => 2,
        };
        self.constant("KIND", kind);
    }

    /// The rule's numbers, and `number_at`, which takes one number of picture `image` at a place counted without padding.
    pub(super) fn gather(&mut self, layout: Layout, step: &Step, gather: &Gather, from: Option<Dims>) {
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
                let port = &layout.graph.inputs[input];
                let len: usize = port.shape.iter().skip(1).map(|n| n.unwrap_or(1)).product();
                self.constant("PICTURE", len);
                if port.element == Element::U8 {
                    ("u32", "let i = image * PICTURE + place;\n    return f32((x[i / 4u] >> (8u * (i % 4u))) & 255u);")
                } else {
                    ("f32", "return x[image * PICTURE + place];")
                }
            }
            [Source::Value(id), ..] => {
                self.constant("PICTURE", from.map_or(0, stored_len));
                let number = number(self.named(layout.stored[id]));
                (number, "return f32(x[image * PICTURE + place / IN_C * (4u * IN_Q) + place % IN_C]);")
            }
            [] => ("f32", "return 0.0;"),
        };
        let _ =
            writeln!(self.functions, "@group(0) @binding({}) var<storage, read> x: array<{element}>;", binding::SOURCE);
        let _ = writeln!(self.functions, "fn number_at(image: u32, place: u32) -> f32 {{\n    {code}\n}}");
    }

    /// The types of what the kernel reads and writes: `Source`, `Second`, `Weight` and `Result` are quads.
    pub(super) fn types(&mut self, layout: Layout, step: &Step) {
        for (at, name) in ["Source", "Second"].into_iter().enumerate() {
            if let Some(Source::Value(id)) = step.inputs.get(at) {
                let quad = quad(self.named(layout.stored[*id]));
                let _ = writeln!(self.constants, "alias {name} = {quad};");
            }
        }
        let (weight, result) = (layout.precision(step), layout.stored[step.output]);
        // The bits of the greatest size that counts as sound: infinity, or in 16 bits the greatest number.
        let sound = if weight == Precision::Half { "0x7f7fffff" } else { "0x7f800000" };
        let _ = writeln!(self.constants, "const BROKEN: u32 = {sound}u;");
        let (weight, result) = (quad(self.named(weight)), quad(self.named(result)));
        let _ = writeln!(self.constants, "alias Weight = {weight};\nalias Result = {result};");
    }

    fn named(&mut self, precision: Precision) -> Precision {
        self.half |= precision == Precision::Half;
        precision
    }

    /// What must come first in the module.
    pub(super) fn head(&self, matrices: bool) -> String {
        let half = if self.half { "enable f16;\n" } else { "" };
        let matrices = if matrices { "enable wgpu_cooperative_matrix;\n" } else { "" };
        format!("{half}{matrices}")
    }

    /// `before`, `second_before` and `after`, with their bindings; the numbers per channel that they read come back.
    pub(super) fn pointwise(
        &mut self,
        layout: Layout,
        step: &Step,
        bias: Option<&[f32]>,
        second_before: Option<&[Pointwise]>,
    ) -> Vec<f32> {
        let mut tables = Vec::new();
        let graph = layout.graph;
        let to = graph.values[step.output];
        let operands: Vec<ValueId> = step.operands().collect();
        let mut after = String::new();
        if let Some(bias) = bias {
            let _ = writeln!(after, "    v += constants[{}u + q];", table(&mut tables, bias));
        }
        after.push_str(&statements(&step.after, &mut tables, &operands, |id| graph.values[id] == to));
        let before = statements(&step.before, &mut tables, &[], |_| true);
        let second_before = second_before.map(|work| statements(work, &mut tables, &[], |_| true));
        if !tables.is_empty() {
            let n = binding::CONSTANTS;
            let _ = writeln!(self.functions, "@group(0) @binding({n}) var<storage, read> constants: array<vec4<f32>>;");
        }
        for (n, &id) in operands.iter().enumerate() {
            let (at, quad) = (binding::OPERANDS as usize + n, quad(self.named(layout.stored[id])));
            let _ = writeln!(self.functions, "@group(0) @binding({at}) var<storage, read> operand{n}: array<{quad}>;");
        }
        let mut function = |name: &str, more: &str, statements: &str| {
            let _ = writeln!(
                self.functions,
                "fn {name}(given: vec4<f32>, {more}q: u32) -> vec4<f32> {{\n    var v = given;\n{statements}    return v;\n}}"
            );
        };
        function("before", "", &before);
        function("after", "at: u32, ", &after);
        if let Some(second_before) = second_before {
            function("second_before", "", &second_before);
        }
        // Kernels compare with it where infinity cannot be written.
        let _ = writeln!(self.constants, "const LOWEST: f32 = {};", float(f32::MIN));
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
    for (at, one) in work.iter().enumerate() {
        let _ = match one {
            Pointwise::Affine { scale, shift } => {
                let (scale, shift) = (table(tables, scale), table(tables, shift));
                writeln!(text, "    v = fma(v, constants[{scale}u + q], constants[{shift}u + q]);")
            }
            Pointwise::Clip { low, high } => {
                // Infinity cannot be written in WGSL, and a bound there does nothing.
                let least = if *low > f32::MIN { format!("max(v, vec4<f32>({}))", float(*low)) } else { "v".into() };
                let most = if *high < f32::MAX { format!("min({least}, vec4<f32>({}))", float(*high)) } else { least };
                if most == "v" { Ok(()) } else { writeln!(text, "    v = select({most}, v, broken(v));") }
            }
            // Only powers of what is not above zero: the others overflow, and shaders need not know infinity.
            Pointwise::Sigmoid => writeln!(
                text,
                "    let e{at} = exp(-abs(v));\n    v = select(vec4<f32>(1.0), e{at}, v < vec4<f32>(0.0)) / (1.0 + e{at});"
            ),
            Pointwise::HardSwish => {
                writeln!(text, "    v = v * clamp(v / 6.0 + 0.5, vec4<f32>(0.0), vec4<f32>(1.0));")
            }
            Pointwise::Combine { with, operator, swapped } => {
                let n = operands.iter().position(|id| id == with).unwrap_or(0);
                let index = if full(*with) { "at" } else { "at / (OUT_H * OUT_W * OUT_Q) * OUT_Q + q" };
                let other = format!("vec4<f32>(operand{n}[{index}])");
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
