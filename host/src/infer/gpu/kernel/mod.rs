//! A step → its shader: the WGSL text with all sizes written into it, the numbers it binds, and how many workgroups
//! it takes. Pure: nothing here talks to a device.
//!
//! Which kernel a step takes, and its tiles, depend on the step's sizes and on the adapter and never on the batch, so that
//! the same picture gives the same bits in every batch.
//!
//! ```text
//! abilities  what an adapter offers; in how many bits values are kept
//! tile       how a workgroup cuts its work, and which other cuts tuning may try
//! text       constants and pointwise work as WGSL
//! pack       weights in load order
//! ```

mod abilities;
mod pack;
mod text;
mod tile;

pub(super) use self::abilities::{Abilities, Matrix, stored};
pub(super) use self::tile::Variant;

use askama::Template;

use self::pack::Part;
use self::text::Text;
use self::tile::{MatrixTile, Tile};
use super::super::Precision;
use super::super::graph::{Conv, Dims, Graph, Operation, Source, Step, ValueId};

/// The kernels that are switched on and off, tested and reported together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Numbers moved.
    Gather,
    /// Convolution in one group on cooperative matrices; values and weights in 16 bits.
    ConvMatrix,
    /// Convolution in one group.
    ConvTiled,
    /// Convolution in groups.
    ConvGrouped,
    /// Pooling.
    Pool,
    /// Work on single numbers.
    Pointwise,
    /// Softmax.
    Softmax,
    /// Channels joined.
    Concat,
    /// The largest channels and their places.
    Top,
}

impl Family {
    /// All families; the first is what every other's test needs.
    pub const ALL: [Family; 9] = [
        Family::Gather,
        Family::ConvMatrix,
        Family::ConvTiled,
        Family::ConvGrouped,
        Family::Pool,
        Family::Pointwise,
        Family::Softmax,
        Family::Concat,
        Family::Top,
    ];

    /// The name of its entry point and of its file.
    pub fn entry(self) -> &'static str {
        match self {
            Family::Gather => "gather",
            Family::ConvMatrix => "conv_matrix",
            Family::ConvTiled => "conv_tiled",
            Family::ConvGrouped => "conv_grouped",
            Family::Pool => "pool",
            Family::Pointwise => "pointwise",
            Family::Softmax => "softmax",
            Family::Concat => "concat",
            Family::Top => "top",
        }
    }

    /// The families that can do `operation` on some adapter, the fastest first.
    pub fn candidates(operation: &Operation) -> &'static [Family] {
        match operation {
            Operation::Conv(conv) if conv.shortcut.is_some() => &[Family::ConvMatrix, Family::ConvTiled],
            Operation::Conv(conv) if conv.groups == 1 => &[Family::ConvMatrix, Family::ConvTiled, Family::ConvGrouped],
            Operation::Conv(_) => &[Family::ConvGrouped],
            Operation::Pool(_) => &[Family::Pool],
            Operation::Gather(_) => &[Family::Gather],
            Operation::Pointwise => &[Family::Pointwise],
            Operation::Softmax => &[Family::Softmax],
            Operation::Concat => &[Family::Concat],
            Operation::Top { .. } => &[Family::Top],
        }
    }

    /// Whether it needs `half` or more of an adapter, and values in 16 bits.
    pub(super) fn works_with(self, precision: Precision, abilities: &Abilities) -> bool {
        let half = precision == Precision::Half;
        match self {
            Family::ConvMatrix => half && abilities.half && abilities.matrix.is_some(),
            _ => !half || abilities.half,
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
    pub(super) variant: Variant,
    /// The whole WGSL module.
    pub(super) source: String,
    /// Numbers per channel, quad by quad; empty if there are none.
    pub(super) constants: Vec<f32>,
    /// Packed weights as the buffer holds them; empty if there are none.
    pub(super) weights: Vec<u8>,
    /// The values that `after` reads, in the order of their bindings.
    pub(super) operands: Vec<ValueId>,
    /// Whether it reads a second source.
    pub(super) has_second: bool,
    pub(super) grid: Grid,
}

/// How many workgroups a kernel takes, laid out in two dimensions, since one alone has too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// As many for each picture, each of them `share` of these items.
    Linear { per_image: u64, share: u64 },
    /// Tiles of `tile` rows, of which each picture has `rows`, by `columns` tiles; tiles of the same rows run one after
    /// another, so that these are still in the cache.
    Tiles { rows: u64, tile: u64, columns: u64 },
}

impl Grid {
    /// The grid for `images` pictures on an adapter that takes `limit` workgroups along each axis; `None` if it cannot.
    pub(super) fn workgroups(self, images: u64, limit: u32) -> Option<[u32; 3]> {
        let limit = u64::from(limit);
        let all = match self {
            Grid::Linear { per_image, share } => images.checked_mul(per_image)?.div_ceil(share),
            Grid::Tiles { rows, tile, columns } => images.checked_mul(rows)?.div_ceil(tile).checked_mul(columns)?,
        };
        let fits = |n: u64| u32::try_from(n).ok().filter(|_| (1..=limit).contains(&n));
        Some([fits(all.min(limit))?, fits(all.div_ceil(limit))?, 1])
    }
}

/// Invocations of a workgroup of the kernels without tiles.
const THREADS: usize = 64;

/// Quads of channels.
pub(super) fn quads(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// Numbers that one picture's value takes on the device.
pub(super) fn stored_len(dims: Dims) -> usize {
    dims.pixels() * quads(dims.channels) * 4
}

/// A graph, and in how many bits each of its values is kept.
#[derive(Clone, Copy)]
pub(super) struct Layout<'a> {
    pub(super) graph: &'a Graph,
    pub(super) stored: &'a [Precision],
}

impl Layout<'_> {
    /// The value that a step reads first, and its size.
    fn value(&self, step: &Step, at: usize) -> Option<(ValueId, Dims)> {
        match step.inputs.get(at) {
            Some(Source::Value(id)) => Some((*id, self.graph.values[*id])),
            _ => None,
        }
    }

    /// In how many bits `step` reads its values and keeps its weights.
    pub(super) fn precision(&self, step: &Step) -> Precision {
        let read = step.inputs.iter().filter_map(|source| match source {
            Source::Value(id) => Some(self.stored[*id]),
            Source::Input(_) => None,
        });
        // An input of the model comes as it is; what counts then is what is written.
        let mut read = read.peekable();
        let all_half = if read.peek().is_some() {
            read.all(|p| p == Precision::Half)
        } else {
            self.stored[step.output] == Precision::Half
        };
        if all_half { Precision::Half } else { Precision::Single }
    }

    /// The convolutions of a step.
    fn parts<'a>(&self, conv: &'a Conv, step: &Step) -> Vec<Part<'a>> {
        let part = |weights: &'a [f32], [rows, columns]: [usize; 2], at: usize, groups: usize| {
            let inputs = self.value(step, at).map_or(0, |(_, from)| from.channels / groups);
            Part { weights, taps: rows * columns, inputs }
        };
        let second = conv.shortcut.as_ref().map(|second| part(&second.weights, second.window.size, 1, 1));
        std::iter::once(part(&conv.weights, conv.window.size, 0, conv.groups)).chain(second).collect()
    }
}

/// The forms in which `family` can do `step`, the one that is taken untuned first; empty if it cannot on this adapter.
pub(super) fn variants(layout: Layout, step: &Step, family: Family, abilities: &Abilities) -> Vec<Variant> {
    let to = layout.graph.values[step.output];
    if !family.works_with(layout.precision(step), abilities) {
        return Vec::new();
    }
    match family {
        Family::ConvMatrix => MatrixTile::all(to, abilities).into_iter().map(Variant::Matrix).collect(),
        Family::ConvTiled => Tile::all(to, abilities).into_iter().map(Variant::Tile).collect(),
        _ => vec![Variant::Only],
    }
}

/// A kernel that was chosen for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) family: Family,
    pub(super) variant: Variant,
}

/// The kernel of `choice` for `step`, or why there is none.
pub(super) fn kernel(layout: Layout, step: &Step, choice: Choice, abilities: &Abilities) -> Result<Kernel, String> {
    let mut made = kernel_without_weights(layout, step, choice, abilities)?;
    if let Operation::Conv(conv) = &step.operation {
        let (parts, to) = (layout.parts(conv, step), layout.graph.values[step.output]);
        let packed = match choice.variant {
            Variant::Matrix(tile) => pack::matrix(&parts, tile, to),
            Variant::Tile(_) => pack::tiled(&parts, to),
            Variant::Only => pack::grouped(parts[0], to),
        };
        made.weights = pack::bytes(&packed, layout.precision(step));
    }
    Ok(made)
}

fn kernel_without_weights(
    layout: Layout,
    step: &Step,
    choice: Choice,
    abilities: &Abilities,
) -> Result<Kernel, String> {
    let (graph, family) = (layout.graph, choice.family);
    let to = graph.values[step.output];
    let mut text = Text::default();
    text.size("OUT", to);
    let from = layout.value(step, 0).map(|(_, from)| from);
    if let Some(from) = from {
        text.size("IN", from);
    }
    let valued = || from.ok_or_else(|| "it does not read a value; this is a bug".to_owned());
    if !step.before.is_empty() && !matches!(step.operation, Operation::Conv(_) | Operation::Pool(_)) {
        return Err("it works on what it loads, which only convolutions and pools can; this is a bug".into());
    }
    let (mut bias, mut shortcut) = (None, None);
    let mut threads = THREADS;
    let mut grid = Grid::Linear { per_image: stored_len(to) as u64 / 4, share: THREADS as u64 };
    let mut body = None;
    match &step.operation {
        Operation::Conv(conv) => {
            valued()?;
            text.window("", &conv.window);
            bias = Some(conv.bias.as_slice());
            if let Some(second) = &conv.shortcut {
                let (_, size) = layout.value(step, 1).ok_or("it does not read a second value; this is a bug")?;
                text.size("SECOND_IN", size);
                text.window("SECOND_", &second.window);
                shortcut = Some((second.before.as_slice(), size));
            }
            let parts = layout.parts(conv, step);
            match choice.variant {
                Variant::Matrix(tile) => {
                    (threads, grid) = text.matrix_tile(tile, to);
                    body = Some(matrix_body(layout, step, tile, &parts, abilities)?);
                }
                Variant::Tile(tile) => {
                    (threads, grid) = text.tile(tile, to);
                    body = Some(render(&ConvTiled { shortcut: conv.shortcut.is_some() })?);
                }
                Variant::Only => {
                    text.groups(conv, parts[0].inputs, to);
                }
            }
        }
        Operation::Pool(pool) => text.pool(pool),
        Operation::Gather(gather) => text.gather(layout, step, gather, from),
        Operation::Softmax => grid = Grid::Linear { per_image: to.pixels() as u64, share: 1 },
        Operation::Concat => {
            let (Some((_, first)), Some((_, second))) = (layout.value(step, 0), layout.value(step, 1)) else {
                return Err("it does not read two values; this is a bug".into());
            };
            text.constant("FIRST_C", first.channels);
            text.constant("SECOND_Q", quads(second.channels));
        }
        Operation::Top { k } => {
            let from = valued()?;
            if *k == 0 || *k > from.channels || 2 * k != to.channels {
                return Err("its result does not fit what it reads; this is a bug".into());
            }
            text.constant("K", *k);
            grid = Grid::Linear { per_image: to.pixels() as u64, share: 1 };
        }
        Operation::Pointwise => {
            valued()?;
        }
    }
    text.constant("THREADS", threads);
    text.types(layout, step);
    let constants = text.pointwise(layout, step, bias, shortcut.map(|(before, _)| before));
    let matrices = matches!(choice.variant, Variant::Matrix(_));
    let body = body.unwrap_or_else(|| plain(family).to_owned());
    let source =
        [text.head(matrices), text.constants, include_str!("../kernels/common.wgsl").into(), body, text.functions]
            .join("\n");
    Ok(Kernel {
        family,
        variant: choice.variant,
        source,
        constants,
        weights: Vec::new(),
        operands: step.operands().collect(),
        has_second: step.inputs.len() > 1,
        grid,
    })
}

/// The text of a family that has only one form.
fn plain(family: Family) -> &'static str {
    match family {
        Family::Gather => include_str!("../kernels/gather.wgsl"),
        Family::ConvGrouped => include_str!("../kernels/conv_grouped.wgsl"),
        Family::Pool => include_str!("../kernels/pool.wgsl"),
        Family::Pointwise => include_str!("../kernels/pointwise.wgsl"),
        Family::Softmax => include_str!("../kernels/softmax.wgsl"),
        Family::Concat => include_str!("../kernels/concat.wgsl"),
        Family::Top => include_str!("../kernels/top.wgsl"),
        Family::ConvMatrix | Family::ConvTiled => "",
    }
}

fn render(template: &impl Template) -> Result<String, String> {
    template.render().map_err(|error| format!("its text cannot be made: {error}; this is a bug"))
}

#[derive(Template)]
#[template(path = "conv_tiled.wgsl", escape = "none")]
struct ConvTiled {
    shortcut: bool,
}

#[derive(Template)]
#[template(path = "conv_matrix.wgsl", escape = "none")]
struct ConvMatrix {
    /// Rows and columns of a matrix.
    size: usize,
    /// Slices of all parts.
    slices: usize,
    /// Rows of matrices, and matrices in a row, of one subgroup.
    down: usize,
    across: usize,
    /// Matrices along the inner dimension of a slice.
    deep: usize,
    /// Matrices that go through `sums` side by side.
    wide: usize,
    buffers: usize,
    /// Quads that each invocation loads of a slice.
    row_loads: usize,
    column_loads: usize,
    /// Elements of the arrays in workgroup memory: quads, or numbers.
    by_number: bool,
    parts: Vec<LoadPart>,
}

/// How one convolution of a step loads its rows.
struct LoadPart {
    /// The variable of its source.
    source: &'static str,
    /// The function that is applied to what is loaded; empty if nothing is.
    before: &'static str,
    /// In front of the names of its constants.
    prefix: &'static str,
    /// Whether an output pixel reads the source's pixel of the same number, so that no place has to be worked out.
    straight: bool,
    /// Whether every slice is full.
    even: bool,
    slices: usize,
    /// Slices of the parts before it.
    first: usize,
}

fn matrix_body(
    layout: Layout,
    step: &Step,
    tile: MatrixTile,
    parts: &[Part],
    abilities: &Abilities,
) -> Result<String, String> {
    let Operation::Conv(conv) = &step.operation else { return Err("it is no convolution; this is a bug".into()) };
    let to = layout.graph.values[step.output];
    let mut loads: Vec<LoadPart> = Vec::new();
    for (at, &part) in parts.iter().enumerate() {
        let (_, from) = layout.value(step, at).ok_or("it does not read a value; this is a bug")?;
        let (window, work) = match (at, &conv.shortcut) {
            (1, Some(second)) => (&second.window, &second.before),
            _ => (&conv.window, &step.before),
        };
        let straight =
            window.size == [1, 1] && window.stride == [1, 1] && window.before == [0, 0] && from.pixels() == to.pixels();
        let names = [("x", "before", ""), ("second", "second_before", "SECOND_")][at];
        loads.push(LoadPart {
            source: names.0,
            before: if work.is_empty() { "" } else { names.1 },
            prefix: names.2,
            straight,
            even: (4 * part.inner_quads()).is_multiple_of(tile.step),
            slices: pack::slices(part, tile),
            first: loads.last().map_or(0, |last| last.first + last.slices),
        });
    }
    let quads = tile.step / 4;
    render(&ConvMatrix {
        size: tile.matrix.size,
        slices: parts.iter().map(|&part| pack::slices(part, tile)).sum(),
        down: tile.fragments[0],
        across: tile.fragments[1],
        deep: tile.step / tile.matrix.size,
        wide: tile.wide(abilities),
        buffers: tile.buffers,
        row_loads: tile.rows() * quads / tile.threads(),
        column_loads: tile.columns() * quads / tile.threads(),
        by_number: tile.matrix.by_number,
        parts: loads,
    })
}

/// The text of the kernel of `choice` for `step`, without its numbers.
pub(super) fn kernel_text(
    layout: Layout,
    step: &Step,
    choice: Choice,
    abilities: &Abilities,
) -> Result<String, String> {
    Ok(kernel_without_weights(layout, step, choice, abilities)?.source)
}

/// How many bytes the weights of `step` take in `choice`; more than in the file, since channels are filled up.
pub(super) fn packed_bytes(layout: Layout, step: &Step, choice: Choice) -> u64 {
    let Operation::Conv(conv) = &step.operation else { return 0 };
    let to = layout.graph.values[step.output];
    let product = |list: [usize; 3]| list.iter().fold(1u64, |all, &n| all.saturating_mul(n as u64));
    let part = |part: Part| match choice.variant {
        Variant::Tile(_) => product([part.inner_quads(), 4, quads(to.channels) * 4]),
        Variant::Matrix(tile) => {
            product([pack::slices(part, tile), tile.step, to.channels.next_multiple_of(tile.columns())])
        }
        Variant::Only => product([part.taps, part.inputs, quads(to.channels) * 4]),
    };
    let numbers = layout.parts(conv, step).into_iter().fold(0u64, |all, one| all.saturating_add(part(one)));
    numbers.saturating_mul(layout.precision(step).bytes() as u64)
}

#[cfg(test)]
mod tests;
