// Samples to pixels: libjpeg's smooth enlargement of halved chroma, and BT.601. Its twin is `twin::colours`.

@group(0) @binding(0) var<storage, read> pictures: array<Picture>;
@group(0) @binding(1) var<storage, read> planes: array<u32>;
@group(0) @binding(2) var<storage, read_write> pixels: array<u32>;

fn at(picture: u32, part: u32, x: i32, y: i32) -> i32 {
    let width = i32(pictures[picture].parts[part].width);
    let height = i32(pictures[picture].parts[part].height);
    let column = u32(clamp(x, 0, width - 1)) - pictures[picture].parts[part].first_x * 8u;
    let row = u32(clamp(y, 0, height - 1)) - pictures[picture].parts[part].first_y * 8u;
    let across = pictures[picture].parts[part].blocks_x * 2u;
    let word = planes[pictures[picture].parts[part].plane + row * across + (column >> 2u)];
    return i32((word >> ((column & 3u) * 8u)) & 255u);
}

fn enlarged(picture: u32, part: u32, x: u32, y: u32) -> i32 {
    let ratio_x = pictures[picture].parts[part].ratio_x;
    let ratio_y = pictures[picture].parts[part].ratio_y;
    let is_smooth = pictures[picture].parts[part].fancy != 0u && ratio_x == 2u;
    let near_x = i32(x / max(ratio_x, 1u));
    let near_y = i32(y / max(ratio_y, 1u));
    if !is_smooth {
        return at(picture, part, near_x, near_y);
    }
    let is_odd = i32(x & 1u);
    let far_x = near_x - 1 + 2 * is_odd;
    if ratio_y == 1u {
        return (at(picture, part, near_x, near_y) * 3 + at(picture, part, far_x, near_y) + 1 + is_odd) >> 2u;
    }
    let far_y = near_y - 1 + 2 * i32(y & 1u);
    let near = at(picture, part, near_x, near_y) * 3 + at(picture, part, near_x, far_y);
    let far = at(picture, part, far_x, near_y) * 3 + at(picture, part, far_x, far_y);
    return (near * 3 + far + 8 - is_odd) >> 4u;
}

fn byte(value: i32) -> u32 {
    return u32(clamp(value, 0, 255));
}

@compute @workgroup_size(256)
fn colours(@builtin(global_invocation_id) id: vec3<u32>) {
    let picture = id.z;
    let width = pictures[picture].width;
    if id.x >= width * pictures[picture].height { return; }
    let row = id.x / width;
    let x = pictures[picture].left + id.x - row * width;
    let y = pictures[picture].top + row;
    let luma = enlarged(picture, 0u, x, y);
    var pixel = byte(luma) * 0x010101u;
    if pictures[picture].components == 3u {
        let blues = enlarged(picture, 1u, x, y) - 128;
        let reds = enlarged(picture, 2u, x, y) - 128;
        // 1.402, 0.34414, 0.71414 and 1.772 in 1/65536.
        let red = luma + ((91881 * reds + 32768) >> 16u);
        let green = luma + ((-22554 * blues - 46802 * reds + 32768) >> 16u);
        let blue = luma + ((116130 * blues + 32768) >> 16u);
        pixel = byte(red) | byte(green) << 8u | byte(blue) << 16u;
    }
    pixels[pictures[picture].pixels + id.x] = pixel;
}
