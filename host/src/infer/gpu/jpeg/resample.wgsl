// Pixels to fewer or more of them in one direction: Pillow's weighted sums with 22 fractional bits, rounded to bytes.
// Its twin is `twin::resample`.

@group(0) @binding(0) var<storage, read> pictures: array<Picture>;
// Three words for each pixel of a line: the first that it is made of, how many, and where their weights are; and weights.
@group(0) @binding(1) var<storage, read> taps: array<u32>;
@group(0) @binding(2) var<storage, read> source: array<u32>;
@group(0) @binding(3) var<storage, read_write> made: array<u32>;

fn resample(direction: u32, picture: u32, id: u32) {
    let to_x = pictures[picture].directions[direction].to_x;
    if id >= to_x * pictures[picture].directions[direction].to_y { return; }
    let y = id / to_x;
    let x = id - y * to_x;
    let from_x = pictures[picture].directions[direction].from_x;
    let is_down = pictures[picture].directions[direction].axis == 1u;
    let tap = pictures[picture].directions[direction].taps + select(x, y, is_down) * 3u;
    let first = taps[tap];
    let count = taps[tap + 1u];
    let weights = taps[tap + 2u];
    let step = select(1u, from_x, is_down);
    var at = pictures[picture].directions[direction].source + select(y * from_x + first, first * from_x + x, is_down);
    var sums = vec3<i32>(1i << 21u);
    for (var i = 0u; i < count; i++) {
        let pixel = source[at];
        let channels = vec3<i32>(i32(pixel & 255u), i32((pixel >> 8u) & 255u), i32((pixel >> 16u) & 255u));
        sums += channels * bitcast<i32>(taps[weights + i]);
        at += step;
    }
    let bytes = vec3<u32>(clamp(sums >> vec3<u32>(22u), vec3<i32>(0), vec3<i32>(255)));
    made[pictures[picture].directions[direction].made + id] = bytes.x | bytes.y << 8u | bytes.z << 16u;
}

@compute @workgroup_size(256)
fn first(@builtin(global_invocation_id) id: vec3<u32>) {
    resample(0u, id.z, id.x);
}

@compute @workgroup_size(256)
fn second(@builtin(global_invocation_id) id: vec3<u32>) {
    resample(1u, id.z, id.x);
}
