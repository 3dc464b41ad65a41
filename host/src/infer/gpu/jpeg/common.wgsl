// What every step of a split JPEG sees. The twins of these structs are in `packed.rs`, field by field.

struct Component {
    // Samples of the whole component.
    width: u32,
    height: u32,
    // Columns and rows of the picture for one of its own.
    ratio_x: u32,
    ratio_y: u32,
    // Which blocks are here: from these on, and so many.
    first_x: u32,
    first_y: u32,
    blocks_x: u32,
    blocks_y: u32,
    // Where its steps, the index of its blocks, and its samples (words of four) begin.
    steps: u32,
    index: u32,
    plane: u32,
    // Whether halved chroma is enlarged smoothly.
    fancy: u32,
}

// One direction of a resize.
struct Direction {
    from_x: u32,
    from_y: u32,
    to_x: u32,
    to_y: u32,
    // 0 makes columns, 1 makes rows.
    axis: u32,
    // Where the taps, and the pixels before and after, begin.
    taps: u32,
    source: u32,
    made: u32,
}

struct Picture {
    // The part of the picture that is resized.
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    // How many components it has.
    components: u32,
    // Where its entries begin, two to a word, and its pixels.
    entries: u32,
    pixels: u32,
    blocks: u32,
    directions: array<Direction, 2>,
    parts: array<Component, 3>,
}
