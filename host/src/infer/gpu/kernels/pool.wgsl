// The largest or the mean of windows, one quad per invocation. KIND: 0 the largest, 1 the mean over the picture, 2 the
// mean over picture and padding. Twin: `pool` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;

// How many of a window's places along one axis lie before `end`; only these count in a padded mean.
fn counted(start: u32, taps: u32, dilation: u32, end: u32) -> u32 {
    return min(taps, (end - start + dilation - 1u) / dilation);
}

@compute @workgroup_size(THREADS)
fn pool(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
    let at = linear(group, groups, local);
    if at >= run.images * OUT_H * OUT_W * OUT_Q {
        return;
    }
    let q = at % OUT_Q;
    let pixel = at / OUT_Q % (OUT_H * OUT_W);
    let image = at / (OUT_Q * OUT_H * OUT_W);
    let top = pixel / OUT_W * STRIDE_H;
    let left = pixel % OUT_W * STRIDE_W;
    var largest = vec4<f32>(LOWEST);
    var bad = vec4<f32>(0.0);
    var is_bad = vec4<bool>(false);
    var sum = vec4<f32>(0.0);
    var inside = 0u;
    for (var ky = 0u; ky < KERNEL_H; ky += 1u) {
        for (var kx = 0u; kx < KERNEL_W; kx += 1u) {
            let iy = i32(top + ky * DILATION_H) - i32(BEFORE_H);
            let ix = i32(left + kx * DILATION_W) - i32(BEFORE_W);
            if iy < 0 || iy >= i32(IN_H) || ix < 0 || ix >= i32(IN_W) {
                continue;
            }
            let v = before(vec4<f32>(x[((image * IN_H + u32(iy)) * IN_W + u32(ix)) * IN_Q + q]), q);
            largest = max(largest, v);
            bad = select(bad, v, broken(v));
            is_bad = is_bad | broken(v);
            sum += v;
            inside += 1u;
        }
    }
    if KIND == 0u {
        store(select(largest, bad, is_bad), at, q);
        return;
    }
    if KIND == 2u {
        inside = counted(top, KERNEL_H, DILATION_H, IN_H + BEFORE_H + AFTER_H)
            * counted(left, KERNEL_W, DILATION_W, IN_W + BEFORE_W + AFTER_W);
    }
    store(sum / f32(inside), at, q);
}
