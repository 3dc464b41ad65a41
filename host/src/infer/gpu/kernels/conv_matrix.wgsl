// Convolution in one group on cooperative matrices, as the product that `conv_tiled` makes: rows are output pixels of all
// pictures, columns output channels, and the inner dimension runs over taps and input channels, then over those of the
// shortcut. Values and weights have 16 bits, sums 32. Each workgroup makes TILE_ROWS × TILE_COLUMNS results from slices of
// STEP inner numbers that it keeps in workgroup memory; the next slice is on its way while one is multiplied.
// Twin: `conv_tiled` in twin.rs.
//
// Each result is the same sum in the same order wherever its pixel falls in a tile, so it does not depend on the batch.
// A matrix cannot be looked into, so sums pass through workgroup memory on their way out. Indices and strides stand in
// names of their own, since the compiler of shaders takes nothing else; there is no branch between a load and its use, and
// none round the matrices that depends on the invocation.

@group(0) @binding(1) var<storage, read> x: array<Source>;
@group(0) @binding(4) var<storage, read> weights: array<Weight>;
{%- if parts.len() > 1 %}
@group(0) @binding(5) var<storage, read> second: array<Second>;
{%- endif %}

alias Rows = coop_mat{{ size }}x{{ size }}<f16, A>;
alias Columns = coop_mat{{ size }}x{{ size }}<f16, B>;
alias Sums = coop_mat{{ size }}x{{ size }}<f32, C>;

// Slices, row by row and column by column, PITCH numbers from one to the next; sums of each subgroup.
var<workgroup> row_slices: array<{% if by_number %}f16{% else %}vec4<f16>{% endif %}, BUFFERS * TILE_ROWS * PITCH / UNIT>;
var<workgroup> column_slices: array<{% if by_number %}f16{% else %}vec4<f16>{% endif %}, BUFFERS * TILE_COLUMNS * PITCH / UNIT>;
var<workgroup> sums: array<f32, SUBGROUPS * SIZE * SIZE * {{ wide }}u>;

const STEP_Q: u32 = STEP / 4u;
const LANES: u32 = THREADS / STEP_Q;
const SLICES: u32 = {{ slices }}u;
const PIXELS: u32 = OUT_H * OUT_W;

fn put_row(at: u32, v: vec4<f16>) {
{%- if by_number %}
    row_slices[at] = v.x;
    row_slices[at + 1u] = v.y;
    row_slices[at + 2u] = v.z;
    row_slices[at + 3u] = v.w;
{%- else %}
    row_slices[at / 4u] = v;
{%- endif %}
}

fn put_column(at: u32, v: vec4<f16>) {
{%- if by_number %}
    column_slices[at] = v.x;
    column_slices[at + 1u] = v.y;
    column_slices[at + 2u] = v.z;
    column_slices[at + 3u] = v.w;
{%- else %}
    column_slices[at / 4u] = v;
{%- endif %}
}

// Writes the results of SIZE rows by {{ wide }} matrices that begin at `row` and `column`.
fn write(subgroup: u32, lane: u32, row: u32, column: u32) {
    for (var n = lane; n < SIZE * SIZE * {{ wide }}u / 4u; n += SUBGROUP) {
        let across = n % (SIZE * {{ wide }}u / 4u);
        let at_row = row + n / (SIZE * {{ wide }}u / 4u);
        let q = column / 4u + across;
        if at_row < run.images * PIXELS && q < OUT_Q {
            let at = subgroup * (SIZE * SIZE * {{ wide }}u) + 4u * n;
            store(vec4<f32>(sums[at], sums[at + 1u], sums[at + 2u], sums[at + 3u]), at_row * OUT_Q + q, q);
        }
    }
}

{%- macro load(part, slice) %}
        let slice = {{ slice }};
        let inner = slice * STEP_Q + quad;
{%- if part.straight %}
{%- for j in 0..row_loads %}
        {
            let v = {{ part.source }}[row{{ j }} * {{ part.prefix }}IN_Q + {% if part.even %}inner{% else %}min(inner, {{ part.prefix }}IN_Q - 1u){% endif %}];
            row_quad{{ j }} = {% if part.before.is_empty() %}v{% else %}vec4<f16>({{ part.before }}(vec4<f32>(v), {% if part.even %}inner{% else %}min(inner, {{ part.prefix }}IN_Q - 1u){% endif %})){% endif %};
        }
{%- endfor %}
{%- else %}
        let tap = inner / {{ part.prefix }}IN_Q;
        let q = inner % {{ part.prefix }}IN_Q;
        let down = i32(tap / {{ part.prefix }}KERNEL_W * {{ part.prefix }}DILATION_H);
        let across = i32(tap % {{ part.prefix }}KERNEL_W * {{ part.prefix }}DILATION_W);
{%- for j in 0..row_loads %}
        {
            let inside = (u32({{ part.source }}_y{{ j }} + down) < {{ part.prefix }}IN_H) & (u32({{ part.source }}_x{{ j }} + across) < {{ part.prefix }}IN_W){% if !part.even %} & (tap < {{ part.prefix }}KERNEL_H * {{ part.prefix }}KERNEL_W){% endif %};
            let pixel = {{ part.source }}_pixel{{ j }} + down * i32({{ part.prefix }}IN_W) + across;
            let v = {{ part.source }}[select(0u, u32(pixel) * {{ part.prefix }}IN_Q + q, inside)];
            row_quad{{ j }} = select(vec4<f16>(), {% if part.before.is_empty() %}v{% else %}vec4<f16>({{ part.before }}(vec4<f32>(v), q)){% endif %}, inside);
        }
{%- endfor %}
{%- endif %}
        let packed = ((tile % COLUMNS) * SLICES + {{ part.first }}u + slice) * (TILE_COLUMNS * STEP_Q) + local;
{%- for j in 0..column_loads %}
        column_quad{{ j }} = weights[packed + {{ j }}u * THREADS];
{%- endfor %}
{%- endmacro %}

{%- macro put(first, s) %}
        let put_at = ({{ first }}u + {{ s }}) % BUFFERS;
{%- for j in 0..row_loads %}
        put_row((put_at * TILE_ROWS + lane_row + {{ j }}u * LANES) * PITCH + 4u * quad, row_quad{{ j }});
{%- endfor %}
{%- for j in 0..column_loads %}
        put_column((put_at * TILE_COLUMNS + lane_row + {{ j }}u * LANES) * PITCH + 4u * quad, column_quad{{ j }});
{%- endfor %}
{%- endmacro %}

{%- macro multiply(first, s) %}
        let multiplied = ({{ first }}u + {{ s }}) % BUFFERS;
        let rows_at = (multiplied * TILE_ROWS + subgroup_row) * PITCH;
        let columns_at = (multiplied * TILE_COLUMNS + subgroup_column) * PITCH;
{%- for k in 0..deep %}
        {
{%- for i in 0..down %}
            let row_at{{ i }} = (rows_at + {{ i }}u * SIZE * PITCH + {{ k }}u * SIZE) / UNIT;
            let rows{{ i }} = coopLoadT<Rows>(&row_slices[row_at{{ i }}], pitch);
{%- endfor %}
{%- for j in 0..across %}
            let column_at{{ j }} = (columns_at + {{ j }}u * SIZE * PITCH + {{ k }}u * SIZE) / UNIT;
            let columns{{ j }} = coopLoad<Columns>(&column_slices[column_at{{ j }}], pitch);
{%- for i in 0..down %}
            sum{{ i }}_{{ j }} = coopMultiplyAdd(rows{{ i }}, columns{{ j }}, sum{{ i }}_{{ j }});
{%- endfor %}
{%- endfor %}
        }
{%- endfor %}
{%- endmacro %}

@compute @workgroup_size(THREADS)
fn conv_matrix(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) local: u32, @builtin(subgroup_id) subgroup: u32,
               @builtin(subgroup_invocation_id) lane: u32) {
    let tile = group.y * groups.x + group.x;
    let first_row = tile / COLUMNS * TILE_ROWS;
    let first_column = tile % COLUMNS * TILE_COLUMNS;
    let all_rows = run.images * PIXELS;
    if first_row >= all_rows {
        return;
    }
    let pitch = PITCH / UNIT;
    let quad = local % STEP_Q;
    let lane_row = local / STEP_Q;
    let subgroup_row = subgroup / SUBGROUPS_ACROSS * ({{ down }}u * SIZE);
    let subgroup_column = subgroup % SUBGROUPS_ACROSS * ({{ across }}u * SIZE);
    // Rows beyond the last pixel are read as the last one, and not kept.
{%- for j in 0..row_loads %}
    let row{{ j }} = min(first_row + lane_row + {{ j }}u * LANES, all_rows - 1u);
{%- endfor %}
{%- for part in parts %}
{%- if !part.straight %}
{%- for j in 0..row_loads %}
    let {{ part.source }}_y{{ j }} = i32(row{{ j }} % PIXELS / OUT_W * {{ part.prefix }}STRIDE_H) - i32({{ part.prefix }}BEFORE_H);
    let {{ part.source }}_x{{ j }} = i32(row{{ j }} % OUT_W * {{ part.prefix }}STRIDE_W) - i32({{ part.prefix }}BEFORE_W);
    let {{ part.source }}_pixel{{ j }} = (i32(row{{ j }} / PIXELS * {{ part.prefix }}IN_H) + {{ part.source }}_y{{ j }}) * i32({{ part.prefix }}IN_W) + {{ part.source }}_x{{ j }};
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- for j in 0..row_loads %}
    var row_quad{{ j }}: vec4<f16>;
{%- endfor %}
{%- for j in 0..column_loads %}
    var column_quad{{ j }}: vec4<f16>;
{%- endfor %}
{%- for i in 0..down %}
{%- for j in 0..across %}
    var sum{{ i }}_{{ j }} = Sums();
{%- endfor %}
{%- endfor %}
{%- for part in parts %}
    {
{%- call load(part, "0u") %}{% endcall %}
    }
{%- if !loop.first %}
    {
{%- call multiply(part.first - 1, "0u") %}{% endcall %}
    }
{%- if buffers == 1 %}
    workgroupBarrier();
{%- endif %}
{%- endif %}
    {
{%- call put(part.first, "0u") %}{% endcall %}
    }
    workgroupBarrier();
    for (var s = 1u; s < {{ part.slices }}u; s += 1u) {
        {
{%- call load(part, "s") %}{% endcall %}
        }
        {
{%- call multiply(part.first, "s - 1u") %}{% endcall %}
        }
{%- if buffers == 1 %}
        workgroupBarrier();
{%- endif %}
        {
{%- call put(part.first, "s") %}{% endcall %}
        }
        workgroupBarrier();
    }
{%- endfor %}
    {
{%- call multiply(slices - 1, "0u") %}{% endcall %}
    }
    let own = subgroup * (SIZE * SIZE * {{ wide }}u);
    let run_of_sums = SIZE * {{ wide }}u;
{%- for i in 0..down %}
{%- for g in 0..across / wide %}
{%- for w in 0..wide.to_owned() %}
    {
        let at = own + {{ w }}u * SIZE;
        coopStoreT(sum{{ i }}_{{ g * wide + w }}, &sums[at], run_of_sums);
    }
{%- endfor %}
    workgroupBarrier();
    write(subgroup, lane, first_row + subgroup_row + {{ i }}u * SIZE, first_column + subgroup_column + {{ g * wide }}u * SIZE);
    workgroupBarrier();
{%- endfor %}
{%- endfor %}
}
