// Convolution in groups of any size, one included: each invocation makes one quad of output channels, which may read from four groups.
// Twin: `conv_grouped` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;
@group(0) @binding(4) var<storage, read> weights: array<Weight>;

// Channel `c` of the pixel whose first quad is `base`.
fn channel(base: u32, c: u32) -> f32 {
    let v = before(vec4<f32>(x[base + c / 4u]), c / 4u);
    return v[c % 4u];
}

@compute @workgroup_size(THREADS)
fn conv_grouped(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) local: u32) {
    let at = linear(group, groups, local);
    if at >= run.images * OUT_H * OUT_W * OUT_Q {
        return;
    }
    let q = at % OUT_Q;
    let pixel = at / OUT_Q % (OUT_H * OUT_W);
    let image = at / (OUT_Q * OUT_H * OUT_W);
    // The first input channel of each lane's group; lanes beyond the last channel read the last group, and are not kept.
    let lanes = min(vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(OUT_C - 1u));
    let first = lanes / vec4<u32>(GROUP_OUT) * vec4<u32>(GROUP_IN);
    var sum = vec4<f32>(0.0);
    for (var tap = 0u; tap < KERNEL_H * KERNEL_W; tap += 1u) {
        let iy = i32(pixel / OUT_W * STRIDE_H + tap / KERNEL_W * DILATION_H) - i32(BEFORE_H);
        let ix = i32(pixel % OUT_W * STRIDE_W + tap % KERNEL_W * DILATION_W) - i32(BEFORE_W);
        if iy < 0 || iy >= i32(IN_H) || ix < 0 || ix >= i32(IN_W) {
            continue;
        }
        let base = ((image * IN_H + u32(iy)) * IN_W + u32(ix)) * IN_Q;
        let packed = (q * KERNEL_H * KERNEL_W + tap) * GROUP_IN;
        for (var i = 0u; i < GROUP_IN; i += 1u) {
            var v = vec4<f32>(channel(base, first.x + i));
            if ONE_GROUP_PER_QUAD == 0u {
                v = vec4<f32>(v.x, channel(base, first.y + i), channel(base, first.z + i), channel(base, first.w + i));
            }
            sum = fma(v, vec4<f32>(weights[packed + i]), sum);
        }
    }
    store(sum, at, q);
}
