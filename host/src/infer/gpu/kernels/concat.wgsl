// The channels of two sources, side by side: FIRST_C of the first, then those of the second. Twin: `concat` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;
@group(0) @binding(5) var<storage, read> second: array<Second>;

@compute @workgroup_size(THREADS)
fn concat(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
    let at = linear(group, groups, local);
    if at >= run.images * OUT_H * OUT_W * OUT_Q {
        return;
    }
    let q = at % OUT_Q;
    let pixel = at / OUT_Q;
    var v = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane += 1u) {
        let c = 4u * q + lane;
        if c < FIRST_C {
            let v4 = vec4<f32>(x[pixel * IN_Q + c / 4u]);
            v[lane] = v4[c % 4u];
        } else if c < OUT_C {
            let d = c - FIRST_C;
            let v4 = vec4<f32>(second[pixel * SECOND_Q + d / 4u]);
            v[lane] = v4[d % 4u];
        }
    }
    store(v, at, q);
}
