// Numbers moved: each lane of a quad finds its own place in the source. See `Gather` in graph/mod.rs for the rule;
// `number_at` takes the source's numbers one by one, from bytes, floats or quads. Twin: `gather` in twin.rs.

// A position along one axis, negative where it reads as zero.
fn position(coordinate: u32, step: u32, offset: i32, limit: u32) -> i32 {
    let p = i32(coordinate * step) + offset;
    return select(p, -1, p >= i32(limit));
}

fn picked(image: u32, index: u32) -> f32 {
    let a = position(index / (SHAPE_1 * SHAPE_2), STEP_0, OFFSET_0, LIMIT_0);
    let b = position(index / SHAPE_2 % SHAPE_1, STEP_1, OFFSET_1, LIMIT_1);
    let c = position(index % SHAPE_2, STEP_2, OFFSET_2, LIMIT_2);
    if a < 0 || b < 0 || c < 0 {
        return 0.0;
    }
    return number_at(image, u32(a) * ALONG_0 + u32(b) * ALONG_1 + u32(c) * ALONG_2);
}

@compute @workgroup_size(THREADS)
fn gather(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) local: u32) {
    let at = linear(group, groups, local);
    if at >= run.images * OUT_H * OUT_W * OUT_Q {
        return;
    }
    let q = at % OUT_Q;
    let pixel = at / OUT_Q % (OUT_H * OUT_W);
    let image = at / (OUT_Q * OUT_H * OUT_W);
    var v = vec4<f32>(0.0);
    for (var lane = 0u; lane < 4u; lane += 1u) {
        let c = 4u * q + lane;
        if c < OUT_C {
            v[lane] = picked(image, pixel * OUT_C + c);
        }
    }
    store(v, at, q);
}
