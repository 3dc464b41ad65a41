// Softmax over the channels of each pixel: one workgroup per pixel, whose invocations share its quads. The sums are made
// in an order that depends on the channels alone. Twin: `softmax` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;

var<workgroup> shared_part: array<f32, THREADS>;

fn kept(q: u32) -> vec4<bool> {
    return vec4<u32>(4u * q) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(OUT_C);
}

@compute @workgroup_size(THREADS)
fn softmax(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) local: u32) {
    let row = group.y * groups.x + group.x;
    // The grid may be larger than there are pixels; the spare workgroups read the first pixel and write nothing.
    let exists = row < run.images * OUT_H * OUT_W;
    let base = select(0u, row * OUT_Q, exists);
    var part = LOWEST;
    for (var q = local; q < OUT_Q; q += THREADS) {
        let v = select(vec4<f32>(LOWEST), vec4<f32>(x[base + q]), kept(q));
        part = max(part, max(max(v.x, v.y), max(v.z, v.w)));
    }
    shared_part[local] = part;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if local < half {
            shared_part[local] = max(shared_part[local], shared_part[local + half]);
        }
        workgroupBarrier();
    }
    let largest = shared_part[0];
    workgroupBarrier();
    part = 0.0;
    for (var q = local; q < OUT_Q; q += THREADS) {
        let v = select(vec4<f32>(0.0), exp(vec4<f32>(x[base + q]) - largest), kept(q));
        part += (v.x + v.y) + (v.z + v.w);
    }
    shared_part[local] = part;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if local < half {
            shared_part[local] += shared_part[local + half];
        }
        workgroupBarrier();
    }
    let sum = shared_part[0];
    if exists {
        for (var q = local; q < OUT_Q; q += THREADS) {
            store(exp(vec4<f32>(x[base + q]) - largest) / sum, base + q, q);
        }
    }
}
