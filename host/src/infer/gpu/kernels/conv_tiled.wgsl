// Convolution in one group as a product of matrices that are never written down: rows are output pixels of all pictures,
// columns output channels, and the inner dimension runs over taps and input channels, then over those of the shortcut.
// Each workgroup makes TILE_ROWS × 4·TILE_Q results from slices of STEP_Q quads that it keeps in workgroup memory; each
// invocation makes ROWS × 4.
// Twin: `conv_tiled` in twin.rs.
//
// Each result is the same sum in the same order wherever its pixel falls in a tile, so it does not depend on the batch.

@group(0) @binding(1) var<storage, read> x: array<Source>;
@group(0) @binding(4) var<storage, read> weights: array<Weight>;
{%- if shortcut %}
@group(0) @binding(5) var<storage, read> second: array<Second>;
{%- endif %}

const LANES: u32 = TILE_ROWS / ROWS;
const ROW_LOADS: u32 = (TILE_ROWS * STEP_Q + THREADS - 1u) / THREADS;
const WEIGHT_LOADS: u32 = (4u * STEP_Q * TILE_Q + THREADS - 1u) / THREADS;
const FIRST_Q: u32 = KERNEL_H * KERNEL_W * IN_Q;
{%- if shortcut %}
const INNER_Q: u32 = FIRST_Q + SECOND_KERNEL_H * SECOND_KERNEL_W * SECOND_IN_Q;
{%- else %}
const INNER_Q: u32 = FIRST_Q;
{%- endif %}
const SLICES: u32 = (INNER_Q + STEP_Q - 1u) / STEP_Q;

// Slice by slice: quads of inputs, [inner quad][row]; quads of weights, [inner number][output quad].
var<workgroup> row_slice: array<vec4<f32>, TILE_ROWS * STEP_Q>;
var<workgroup> weight_slice: array<vec4<f32>, 4u * STEP_Q * TILE_Q>;

{%- macro quad_of(name, source, before, prefix) %}

fn {{ name }}(row: u32, inner: u32) -> vec4<f32> {
    let tap = inner / {{ prefix }}IN_Q;
    let q = inner % {{ prefix }}IN_Q;
    let image = row / (OUT_H * OUT_W);
    let pixel = row % (OUT_H * OUT_W);
    let iy = i32(pixel / OUT_W * {{ prefix }}STRIDE_H + tap / {{ prefix }}KERNEL_W * {{ prefix }}DILATION_H)
        - i32({{ prefix }}BEFORE_H);
    let ix = i32(pixel % OUT_W * {{ prefix }}STRIDE_W + tap % {{ prefix }}KERNEL_W * {{ prefix }}DILATION_W)
        - i32({{ prefix }}BEFORE_W);
    let inside = row < run.images * OUT_H * OUT_W
        && iy >= 0 && iy < i32({{ prefix }}IN_H) && ix >= 0 && ix < i32({{ prefix }}IN_W);
    if !inside {
        return vec4<f32>(0.0);
    }
    let at = ((image * {{ prefix }}IN_H + u32(iy)) * {{ prefix }}IN_W + u32(ix)) * {{ prefix }}IN_Q + q;
    return {{ before }}(vec4<f32>({{ source }}[at]), q);
}
{%- endmacro %}

// Inner quad `inner` of output pixel `row`, zero in the padding; of the convolution itself, and of its shortcut.
{%- call quad_of("first_quad", "x", "before", "") %}{% endcall %}
{%- if shortcut %}
{%- call quad_of("second_quad", "second", "second_before", "SECOND_") %}{% endcall %}
{%- endif %}

fn input_quad(row: u32, inner: u32) -> vec4<f32> {
    if inner >= INNER_Q {
        return vec4<f32>(0.0);
    }
{%- if shortcut %}
    if inner >= FIRST_Q {
        return second_quad(row, inner - FIRST_Q);
    }
{%- endif %}
    return first_quad(row, inner);
}

@compute @workgroup_size(THREADS)
fn conv_tiled(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) local: u32) {
    let tile = group.y * groups.x + group.x;
    let first_row = tile / COLUMNS * TILE_ROWS;
    let first_q = tile % COLUMNS * TILE_Q;
    let lane = local / TILE_Q;
    let column = local % TILE_Q;
    var sums: array<vec4<f32>, ROWS>;
    for (var r = 0u; r < ROWS; r += 1u) {
        sums[r] = vec4<f32>(0.0);
    }
    for (var slice = 0u; slice < SLICES; slice += 1u) {
        for (var i = 0u; i < ROW_LOADS; i += 1u) {
            let at = local + i * THREADS;
            if at < TILE_ROWS * STEP_Q {
                let inner = at % STEP_Q;
                let row = at / STEP_Q;
                row_slice[inner * TILE_ROWS + row] = input_quad(first_row + row, slice * STEP_Q + inner);
            }
        }
        for (var i = 0u; i < WEIGHT_LOADS; i += 1u) {
            let at = local + i * THREADS;
            if at < 4u * STEP_Q * TILE_Q {
                let inner = slice * STEP_Q * 4u + at / TILE_Q;
                let q = first_q + at % TILE_Q;
                var w = vec4<f32>(0.0);
                if inner < 4u * INNER_Q && q < OUT_Q {
                    w = vec4<f32>(weights[inner * OUT_Q + q]);
                }
                weight_slice[at] = w;
            }
        }
        workgroupBarrier();
        for (var inner = 0u; inner < STEP_Q; inner += 1u) {
            let w0 = weight_slice[(4u * inner + 0u) * TILE_Q + column];
            let w1 = weight_slice[(4u * inner + 1u) * TILE_Q + column];
            let w2 = weight_slice[(4u * inner + 2u) * TILE_Q + column];
            let w3 = weight_slice[(4u * inner + 3u) * TILE_Q + column];
            for (var r = 0u; r < ROWS; r += 1u) {
                let v = row_slice[inner * TILE_ROWS + lane + r * LANES];
                var sum = sums[r];
                sum = fma(vec4<f32>(v.x), w0, sum);
                sum = fma(vec4<f32>(v.y), w1, sum);
                sum = fma(vec4<f32>(v.z), w2, sum);
                sums[r] = fma(vec4<f32>(v.w), w3, sum);
            }
        }
        workgroupBarrier();
    }
    let q = first_q + column;
    for (var r = 0u; r < ROWS; r += 1u) {
        let row = first_row + lane + r * LANES;
        if row < run.images * OUT_H * OUT_W && q < OUT_Q {
            store(sums[r], row * OUT_Q + q, q);
        }
    }
}
