// In front of every kernel; behind it come the generated functions `before`, `after` and, where a kernel reads single
// numbers, `number_at`. Names in capitals are constants of the step, written in front of this by `kernel/text.rs`;
// `Source`, `Second`, `Weight` and `Result` are quads of 32- or 16-bit floats.
//
// A value is stored picture by picture, pixel by pixel, as quads of four channels. The channels that fill up the last
// quad are always zero: `store` sees to it, and every kernel may rely on it.

struct Run {
    // Pictures in this run.
    images: u32,
}

@group(0) @binding(0) var<uniform> run: Run;
@group(0) @binding(2) var<storage, read_write> y: array<Result>;

// The number of this invocation, counted through a grid of two dimensions: one alone has too few workgroups.
fn linear(group: vec3<u32>, groups: vec3<u32>, local: u32) -> u32 {
    return (group.y * groups.x + group.x) * THREADS + local;
}

// What is not a number, and in 16 bits what they did not hold: no comparison may hide it, so that it reaches the outputs,
// where it is found. As bits, since drivers may take every float for a number.
fn broken(v: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7fffffffu)) > vec4<u32>(BROKEN);
}

// Writes quad `q` of a pixel after the pointwise work that follows it. `at` counts quads over all pictures.
fn store(v: vec4<f32>, at: u32, q: u32) {
    let done = after(v, at, q);
    let channel = vec4<u32>(0u, 1u, 2u, 3u) + vec4<u32>(4u * q);
    y[at] = Result(select(vec4<f32>(0.0), done, channel < vec4<u32>(OUT_C)));
}
