// Resized bytes to a model's floats, by the tables that the processor would look them up in. Its twin is `twin::numbers`.

struct Rows {
    // Pixels of one row of the batch.
    pixels: u32,
    // Whether each pixel's channels lie together.
    channels_last: u32,
    // Which colour each channel is.
    order: array<u32, 3>,
}

@group(0) @binding(0) var<storage, read> rows: Rows;
@group(0) @binding(1) var<storage, read> resized: array<u32>;
// 256 for each channel.
@group(0) @binding(2) var<storage, read> tables: array<f32>;
@group(0) @binding(3) var<storage, read_write> floats: array<f32>;

@compute @workgroup_size(256)
fn numbers(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= rows.pixels { return; }
    let pixel = resized[id.z * rows.pixels + id.x];
    let row = id.z * rows.pixels * 3u;
    for (var channel = 0u; channel < 3u; channel++) {
        let value = (pixel >> (rows.order[channel] * 8u)) & 255u;
        let at = select(channel * rows.pixels + id.x, id.x * 3u + channel, rows.channels_last != 0u);
        floats[row + at] = tables[channel * 256u + value];
    }
}
