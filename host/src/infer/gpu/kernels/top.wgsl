// The K largest channels of each pixel, the largest first, then their places: one workgroup per pixel, which finds one
// after the other. Numbers are compared as integers in the same order, so that every device agrees; of equal ones the lower
// place comes first, zeros of both signs are equal, and what is not a number comes before everything. Twin: `top` in twin.rs.

@group(0) @binding(1) var<storage, read> x: array<Source>;

// The largest rank and its place, one for each invocation.
var<workgroup> shared_rank: array<u32, THREADS>;
var<workgroup> shared_place: array<u32, THREADS>;
// The places found.
var<workgroup> found: array<u32, K>;

const NOT_A_NUMBER: u32 = 0xfffffffeu;

// Integers in the order of floats; never 0 or the largest one.
fn rank_of(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    let size = bits & 0x7fffffffu;
    if size > 0x7f800000u {
        return NOT_A_NUMBER;
    }
    if size == bits || size == 0u {
        return 0x80000000u | size;
    }
    return ~bits;
}

fn is_before(rank: u32, place: u32, other: u32, other_place: u32) -> bool {
    return rank > other || (rank == other && place < other_place);
}

fn number(base: u32, place: u32) -> f32 {
    let quad = vec4<f32>(x[base + place / 4u]);
    return quad[place % 4u];
}

@compute @workgroup_size(THREADS)
fn top(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
       @builtin(local_invocation_index) local: u32) {
    let pixel = group.y * groups.x + group.x;
    // The grid may be larger than there are pixels; the spare workgroups read the first pixel and write nothing.
    let exists = pixel < run.images * OUT_H * OUT_W;
    let base = select(0u, pixel * IN_Q, exists);
    var last = 0xffffffffu;
    var last_place = 0u;
    for (var n = 0u; n < K; n += 1u) {
        // The first of those behind the last one.
        var rank = 0u;
        var place = 0u;
        for (var q = local; q < IN_Q; q += THREADS) {
            let quad = vec4<f32>(x[base + q]);
            for (var lane = 0u; lane < 4u; lane += 1u) {
                let c = 4u * q + lane;
                let r = rank_of(quad[lane]);
                if c < IN_C && is_before(last, last_place, r, c) && is_before(r, c, rank, place) {
                    rank = r;
                    place = c;
                }
            }
        }
        shared_rank[local] = rank;
        shared_place[local] = place;
        workgroupBarrier();
        for (var half = THREADS / 2u; half > 0u; half /= 2u) {
            if local < half {
                let other = local + half;
                if is_before(shared_rank[other], shared_place[other], shared_rank[local], shared_place[local]) {
                    shared_rank[local] = shared_rank[other];
                    shared_place[local] = shared_place[other];
                }
            }
            workgroupBarrier();
        }
        last = shared_rank[0];
        last_place = shared_place[0];
        if local == 0u {
            found[n] = last_place;
        }
        workgroupBarrier();
    }
    if exists {
        for (var q = local; q < OUT_Q; q += THREADS) {
            var v = vec4<f32>(0.0);
            for (var lane = 0u; lane < 4u; lane += 1u) {
                let c = 4u * q + lane;
                if c < K {
                    v[lane] = number(base, found[c]);
                } else if c < OUT_C {
                    v[lane] = f32(found[c - K]);
                }
            }
            store(v, pixel * OUT_Q + q, q);
        }
    }
}
