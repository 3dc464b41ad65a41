//! How many pictures a device takes at a time: the one rule that cuts a batch into micro-batches.
//! What goes in: what one picture needs and what the device allows, as numbers. Pure.

use super::kernel::Grid;

/// The end of what 32-bit indices of a shader reach in any buffer, whatever its adapter says.
const BINDING_BYTES: u64 = (1 << 31) - 4;

/// How many times a device's budget a single picture may take before its model is refused.
const ONE_PICTURE: u64 = 4;

/// What a model asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// Bytes of each buffer for one picture.
    pub(super) per_image: Vec<u64>,
    /// Bytes that do not depend on the batch: weights.
    pub(super) fixed: u64,
    /// The grids of all steps.
    pub(super) grids: Vec<Grid>,
}

/// What a device allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of one buffer that a shader can see.
    pub(super) binding_bytes: u64,
    /// Bytes of everything together, for as many pictures as possible; a single one may take a few times as much.
    pub(super) memory_bytes: u64,
    /// Workgroups along one axis of a grid.
    pub(super) workgroups: u32,
    /// Pictures at a time, even if more would fit: beyond this nothing becomes faster.
    pub(super) images: u64,
}

/// Pictures that fit at a time, or what the device has too little of for a single one.
pub(super) fn images_at_a_time(needs: &Needs, room: Room) -> Result<u64, &'static str> {
    let binding = room.binding_bytes.min(BINDING_BYTES);
    let largest = needs.per_image.iter().copied().max().unwrap_or(0).max(1);
    let all: u64 = needs.per_image.iter().fold(0u64, |all, &n| all.saturating_add(n)).max(1);
    let by_binding = binding / largest;
    if by_binding == 0 {
        return Err("one picture needs a larger buffer than the adapter has");
    }
    // Models come from anyone, and a software adapter takes the memory of this process.
    if all > room.memory_bytes.saturating_mul(ONE_PICTURE) {
        return Err("one picture needs more memory than the engine takes");
    }
    // Weights beyond the budget are not refused here: the device may well have the memory, and says so if not.
    let by_memory = (room.memory_bytes.saturating_sub(needs.fixed) / all).max(1);
    let most = by_binding.min(by_memory).min(room.images).max(1);
    let fits = |images: u64| needs.grids.iter().all(|grid| grid.workgroups(images, room.workgroups).is_some());
    if !fits(1) {
        return Err("one picture needs more workgroups than the adapter has");
    }
    // A grid that fits some pictures fits fewer, so halving finds the most.
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) { low = middle } else { high = middle - 1 }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { binding_bytes: 1000, memory_bytes: 5000, workgroups: 100, images: 64 };

    #[test]
    fn the_scarcest_thing_decides() {
        let needs = |per_image: &[u64], fixed| Needs { per_image: per_image.to_vec(), fixed, grids: vec![] };
        let with_grid = |grid| Needs { grids: vec![grid], ..needs(&[1], 0) };
        let cases = [
            ("the most pictures", needs(&[1, 1], 0), Ok(64)),
            ("one buffer", needs(&[100, 1], 0), Ok(10)),
            ("all buffers", needs(&[100, 100, 100, 100, 100, 100, 100], 0), Ok(7)),
            ("weights take their part", needs(&[100, 100], 4000), Ok(5)),
            ("weights beyond the budget leave one picture at a time", needs(&[1], 9000), Ok(1)),
            ("not even one picture", needs(&[1001], 0), Err("one picture needs a larger buffer than the adapter has")),
            (
                "not even one picture's memory",
                needs(&[1000; 21], 0),
                Err("one picture needs more memory than the engine takes"),
            ),
            ("one picture may take more than the budget", needs(&[1000; 20], 0), Ok(1)),
            ("workgroups", with_grid(Grid::Tiles { rows: 6400, tile: 128, columns: 10 }), Ok(20)),
            (
                "not even one picture's workgroups",
                with_grid(Grid::Tiles { rows: 1, tile: 1, columns: 10_001 }),
                Err("one picture needs more workgroups than the adapter has"),
            ),
        ];
        for (why, needs, want) in cases {
            assert_eq!(images_at_a_time(&needs, ROOM), want, "{why}");
        }
    }
}
