// Nothing of its own: all its work is in `after`. Twin: `pointwise` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;

@compute @workgroup_size(THREADS)
fn pointwise(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
             @builtin(local_invocation_index) local: u32) {
    let at = linear(group, groups, local);
    if at < run.images * OUT_H * OUT_W * OUT_Q {
        store(vec4<f32>(x[at]), at, at % OUT_Q);
    }
}
