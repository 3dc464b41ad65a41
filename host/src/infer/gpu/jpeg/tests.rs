//! Shaders as text, and on a device against their twins. Against the processor's own way they are tested where both may be
//! named, in `service/bench/pictures/split.rs`.

use wgpu::naga;

use super::super::{Options, Selector};
use super::*;
use crate::cache::Private;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u32
    }
}

/// What a picture of random coefficients is like.
#[derive(Clone, Copy, Debug)]
struct Case {
    size: (u32, u32),
    /// Columns and rows that are cut off on each side.
    cut: (u32, u32),
    /// Of the chroma; absent for grey.
    ratio: Option<(u32, u32)>,
    rows_first: bool,
}

const CASES: [Case; 8] = [
    Case { size: (70, 51), cut: (0, 0), ratio: Some((2, 2)), rows_first: false },
    Case { size: (70, 51), cut: (9, 17), ratio: Some((2, 2)), rows_first: true },
    Case { size: (33, 64), cut: (3, 0), ratio: Some((2, 1)), rows_first: false },
    Case { size: (64, 33), cut: (0, 11), ratio: Some((1, 1)), rows_first: true },
    Case { size: (17, 40), cut: (0, 0), ratio: None, rows_first: false },
    // Too narrow for smooth chroma, and the least there is.
    Case { size: (4, 9), cut: (0, 0), ratio: Some((2, 2)), rows_first: false },
    Case { size: (3, 3), cut: (0, 0), ratio: Some((2, 1)), rows_first: false },
    Case { size: (1, 1), cut: (0, 0), ratio: Some((2, 2)), rows_first: true },
];

fn component(case: &Case, ratio: (u32, u32), (random, entries): (&mut Random, &mut Vec<u16>)) -> Component {
    let samples = (case.size.0.div_ceil(ratio.0), case.size.1.div_ceil(ratio.1));
    let blocks = |size: u32, cut: u32, ratio: u32, samples: u32| {
        let (start, end) = ((cut / ratio).saturating_sub(1), ((size - cut).div_ceil(ratio) + 1).min(samples));
        start / 8..end.div_ceil(8)
    };
    let columns = blocks(case.size.0, case.cut.0, ratio.0, samples.0);
    let rows = blocks(case.size.1, case.cut.1, ratio.1, samples.1);
    let index = (0..columns.len() * rows.len()).map(|_| {
        let (start, count) = (entries.len() as u32, random.below(20));
        entries.push((random.below(2000) as i16 - 1000) as u16);
        // Small places more often than not, the same one twice now and then, and of all sizes.
        for _ in 0..count {
            let (place, size) = (1 + random.below(63), random.below(9));
            let value = random.below(2 << size) as i16 - (1 << size);
            entries.push((value << 6) as u16 | place as u16);
        }
        start << 8 | count
    });
    let index = index.collect();
    Component { samples, ratio, columns, rows, steps: std::array::from_fn(|_| 1 + random.below(12) as i16), index }
}

fn taps(from: u32, to: u32, random: &mut Random) -> Taps {
    let tap = |_| {
        let first = random.below(from);
        let count = 1 + random.below((from - first).min(9));
        // Some below zero, together about one.
        let weights = (0..count).map(|_| ((random.below(1 << 22) as i32 - (1 << 20)) * 2) / count as i32);
        (first, weights.collect())
    };
    Taps((0..to).map(tap).collect())
}

fn picture(case: &Case, rows: &Rows, random: &mut Random) -> Picture {
    let mut entries = Vec::new();
    let ratios: &[(u32, u32)] = match case.ratio {
        Some(ratio) => &[(1, 1), ratio, ratio],
        None => &[(1, 1)],
    };
    let components = ratios.iter().map(|&ratio| component(case, ratio, (random, &mut entries))).collect();
    let part = |size: u32, cut: u32| cut..size - cut;
    let (columns, lines) = (part(case.size.0, case.cut.0), part(case.size.1, case.cut.1));
    Picture {
        components,
        across: taps(columns.len() as u32, rows.size.0, random),
        down: taps(lines.len() as u32, rows.size.1, random),
        columns,
        rows: lines,
        entries,
        rows_first: case.rows_first,
    }
}

fn rows(channels_last: bool) -> Rows {
    let tables = std::array::from_fn(|c| std::array::from_fn(|value| (value as f32 / 255.0 - 0.45) / (0.2 + c as f32)));
    let order = if channels_last { [2, 1, 0] } else { [0, 1, 2] };
    Rows { size: (24, 13), tables, order, channels_last }
}

fn pictures(rows: &Rows) -> Vec<Picture> {
    let mut random = Random(7);
    CASES.iter().map(|case| picture(case, rows, &mut random)).collect()
}

#[test]
fn every_shader_is_valid_and_within_what_all_adapters_have() {
    for (entry, text) in SHADERS {
        let source = text.concat();
        let module = naga::front::wgsl::parse_str(&source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        let flags = naga::valid::ValidationFlags::all();
        let mut validator = naga::valid::Validator::new(flags, naga::valid::Capabilities::empty());
        let info = validator.validate(&module).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&source)));
        let at = module.entry_points.iter().position(|point| point.name == entry).unwrap();
        assert!(module.entry_points[at].workgroup_size.iter().product::<u32>() <= 256, "{entry}");
        let bound = module.global_variables.iter().filter(|(handle, variable)| {
            !info.get_entry_point(at)[*handle].is_empty()
                && matches!(variable.space, naga::AddressSpace::Storage { .. })
        });
        assert!(bound.count() <= 8, "{entry}");
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let shared = module.global_variables.iter().map(|(_, variable)| match variable.space {
            naga::AddressSpace::WorkGroup => layouter[variable.ty].size,
            _ => 0,
        });
        assert!(shared.sum::<u32>() <= 16 << 10, "{entry}");
    }
}

#[test]
fn structs_have_the_size_that_shaders_give_them() {
    let source = SHADERS[0].1.concat();
    let module = naga::front::wgsl::parse_str(&source).unwrap();
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let size = |name: &str| {
        let (handle, _) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name)).unwrap();
        layouter[handle].size as usize
    };
    assert_eq!(size("Picture"), size_of::<packed::PackedPicture>());
    assert_eq!(size("Component"), size_of::<packed::PackedComponent>());
    assert_eq!(size("Direction"), size_of::<packed::PackedDirection>());
}

#[test]
fn pictures_that_contradict_themselves_are_refused() {
    type Change = fn(&mut Picture);
    let changes: [(&str, Change); 12] = [
        ("no columns", |p| p.columns = 5..5),
        ("columns of no component", |p| p.columns.end = 4000),
        ("another part than blocks", |p| p.columns = 1000..1001),
        ("taps for other rows", |p| drop(p.down.0.pop())),
        ("taps beyond the last pixel", |p| p.across.0[0] = (69, vec![1, 1])),
        ("two components", |p| drop(p.components.pop())),
        ("chroma of a third", |p| p.components[1].ratio = (3, 1)),
        ("no ratio", |p| p.components[1].ratio = (0, 0)),
        ("a short index", |p| p.components[2].index.truncate(1)),
        ("no samples", |p| p.components[1].samples = (0, 0)),
        ("blocks that do not cover", |p| p.components[0].columns = 1..10),
        ("entries past the end", |p| p.components[0].index[3] = u32::MAX),
    ];
    let rows = rows(false);
    let sound = picture(&CASES[0], &rows, &mut Random(1));
    assert!(Packed::default().push(&sound, &rows).is_ok());
    for (name, change) in changes {
        let mut picture = sound.clone();
        change(&mut picture);
        assert!(matches!(Packed::default().push(&picture, &rows), Err(InferError::Input(_))), "{name}");
    }
}

#[test]
fn many_pictures_are_put_together_within_the_limit_and_in_order() {
    let rows = rows(false);
    let pictures = pictures(&rows);
    let whole = packs(&pictures, &rows, MOST_WORDS).unwrap();
    assert_eq!(whole.len(), 1);
    let most = 8000;
    let parts = packs(&pictures, &rows, most).unwrap();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.largest() <= most));
    let floats: Vec<f32> = parts.iter().flat_map(|part| twin::prepare(part, &rows)).collect();
    assert!(floats == twin::prepare(&whole[0], &rows), "the parts are not the whole");
    assert!(packs(&pictures, &rows, 1000).is_err(), "one picture takes more");
}

#[test]
fn the_device_gives_the_bits_of_the_twins() {
    let open = |selector| Gpu::open(Options { cache: Private::none(), ..Options::new(selector) });
    let gpu = match open(Selector::Best).or_else(|_| open(Selector::Software)) {
        Ok(gpu) => gpu,
        Err(error) => {
            let required = std::env::var("REQUIRE").is_ok_and(|list| list.split(',').any(|word| word == "gpu"));
            assert!(!required && std::env::var_os("CI").is_none(), "a GPU is required: {error}");
            println!("skipped: no GPU and no software Vulkan driver");
            return;
        }
    };
    let decoder = SplitDecoder::on(&gpu).unwrap();
    for channels_last in [false, true] {
        let rows = rows(channels_last);
        let pictures = pictures(&rows);
        let found = decoder.prepare(&pictures, &rows).unwrap();
        let whole = packs(&pictures, &rows, MOST_WORDS).unwrap();
        let expected = twin::prepare(&whole[0], &rows);
        let found = found.f32().unwrap();
        assert_eq!(found.len(), expected.len());
        let size = rows.pixels() as usize * 3;
        for ((found, expected), case) in found.chunks(size).zip(expected.chunks(size)).zip(CASES) {
            let different = found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(different, 0, "{case:?}, channels last: {channels_last}");
            let first = expected[0].to_bits();
            assert!(size < 10 || expected.iter().any(|x| x.to_bits() != first), "{case:?} is all one colour");
        }
        decoder.prepare_in_place(&pictures, &rows).unwrap();
    }
}
