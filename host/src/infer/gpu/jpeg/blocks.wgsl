// Entries to samples: libjpeg's accurate inverse transform in integers. Its twin is `twin::blocks`.
// Eight lanes have a block; each makes a column of it, and then a row.

@group(0) @binding(0) var<storage, read> pictures: array<Picture>;
@group(0) @binding(1) var<storage, read> steps: array<i32>;
@group(0) @binding(2) var<storage, read> index: array<u32>;
@group(0) @binding(3) var<storage, read> entries: array<u32>;
@group(0) @binding(4) var<storage, read_write> planes: array<u32>;

// Entries of a block may meet in one place, which adds them up.
var<workgroup> numbers: array<atomic<i32>, 512>;
var<workgroup> between: array<i32, 512>;

fn wrapped(value: i32) -> i32 {
    return (value << 16u) >> 16u;
}

fn entry(at: u32) -> i32 {
    let word = entries[at >> 1u];
    // Signed, 16 bits.
    return wrapped(i32(word >> ((at & 1u) * 16u)));
}

fn rounded(value: i32, shift: u32) -> i32 {
    return clamp((value + (1i << (shift - 1u))) >> shift, -32768, 32767);
}

// The constants are those of `vision/jpeg/transform.rs`, with 13 fractional bits.
fn pass_of(x: array<i32, 8>, shift: u32) -> array<i32, 8> {
    let even2 = x[2] * 4433 + x[6] * (4433 - 15137);
    let even3 = x[2] * (4433 + 6270) + x[6] * 4433;
    let even0 = (x[0] + x[4]) << 13u;
    let even1 = (x[0] - x[4]) << 13u;
    let left = wrapped(x[7] + x[3]);
    let right = wrapped(x[5] + x[1]);
    let turn3 = left * (9633 - 16069) + right * 9633;
    let turn4 = left * 9633 + right * (9633 - 3196);
    let odd0 = x[1] * (12299 - 7373) - x[7] * 7373 + turn4;
    let odd1 = x[3] * (25172 - 20995) - x[5] * 20995 + turn3;
    let odd2 = x[5] * (16819 - 20995) - x[3] * 20995 + turn4;
    let odd3 = x[7] * (2446 - 7373) - x[1] * 7373 + turn3;
    let sum0 = even0 + even3;
    let sum1 = even1 + even2;
    let sum2 = even1 - even2;
    let sum3 = even0 - even3;
    return array<i32, 8>(
        rounded(sum0 + odd0, shift), rounded(sum1 + odd1, shift), rounded(sum2 + odd2, shift), rounded(sum3 + odd3, shift),
        rounded(sum3 - odd3, shift), rounded(sum2 - odd2, shift), rounded(sum1 - odd1, shift), rounded(sum0 - odd0, shift),
    );
}

fn sample(value: i32) -> u32 {
    return u32(clamp(value + 128, 0, 255));
}

@compute @workgroup_size(64)
fn blocks(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = (lane >> 3u) * 64u;
    let line = lane & 7u;
    var block = group.x * 8u + (lane >> 3u);
    var part = 0u;
    loop {
        if part >= pictures[group.z].components { break; }
        let count = pictures[group.z].parts[part].blocks_x * pictures[group.z].parts[part].blocks_y;
        if block < count { break; }
        block -= count;
        part += 1u;
    }
    let is_there = part < pictures[group.z].components;
    for (var i = 0u; i < 8u; i++) {
        atomicStore(&numbers[own + line * 8u + i], 0);
    }
    workgroupBarrier();
    if is_there {
        let word = index[pictures[group.z].parts[part].index + block];
        let start = pictures[group.z].entries * 2u + (word >> 8u);
        let count = word & 255u;
        if line == 0u {
            atomicAdd(&numbers[own], entry(start));
        }
        for (var i = line; i < count; i += 8u) {
            let number = entry(start + 1u + i);
            atomicAdd(&numbers[own + (u32(number) & 63u)], number >> 6u);
        }
    }
    workgroupBarrier();
    if is_there {
        let first = pictures[group.z].parts[part].steps + line;
        var column: array<i32, 8>;
        for (var i = 0u; i < 8u; i++) {
            column[i] = wrapped(atomicLoad(&numbers[own + i * 8u + line]) * steps[first + i * 8u]);
        }
        let made = pass_of(column, 11u);
        for (var i = 0u; i < 8u; i++) {
            between[own + i * 8u + line] = made[i];
        }
    }
    workgroupBarrier();
    if is_there {
        var row: array<i32, 8>;
        for (var i = 0u; i < 8u; i++) {
            row[i] = between[own + line * 8u + i];
        }
        let made = pass_of(row, 18u);
        let across = pictures[group.z].parts[part].blocks_x;
        let y = block / across;
        let at = pictures[group.z].parts[part].plane + (y * 8u + line) * across * 2u + (block - y * across) * 2u;
        planes[at] = sample(made[0]) | sample(made[1]) << 8u | sample(made[2]) << 16u | sample(made[3]) << 24u;
        planes[at + 1u] = sample(made[4]) | sample(made[5]) << 8u | sample(made[6]) << 16u | sample(made[7]) << 24u;
    }
}
