//! What a processor does of a JPEG when a GPU does the rest: the entropy-coded numbers, and what is to be done with them.
//! What goes in: a whole file and a recipe. What comes out: [`Split`], all of it integers, from which the same bits follow
//! as from [`crate::vision::decode_and_prepare`] where every later step is computed with them. No sample is made here.
//!
//! Taken are sequential files of grey or YCbCr pictures whose chroma is whole, halved across, or halved both ways, and
//! antialiased recipes of floats. All others are refused as unsupported, and go the usual way.

use std::ops::Range;

use super::colour::Space;
use super::frame::{Component, Frame, nearby};
use super::huffman::{Bits, Table};
use super::scan::Restarts;
use super::segments::{Reader, Step, next_marker};
use super::{Format, Limits, Part, Trouble, VisionError, ZIGZAG, wide};
use crate::vision::prepare::{axes, tables};
use crate::vision::resample::Plan;
use crate::vision::{Layout, Recipe, guarded};

/// The marker of a scan.
const SCAN: u8 = 0xDA;

/// The most entries of a picture, as many as the index has bits for; of usual photographs, those of 20 million pixels.
const MOST_ENTRIES: usize = 1 << 24;

/// The most entries of a block beside its first, as many as the index has bits for.
const MOST_IN_BLOCK: usize = 255;

/// No 8-bit picture has coefficients beyond 1023, before they are divided by their steps.
const LARGEST: i16 = 2047;

/// The least and the largest number of one entry.
const IN_ONE: Range<i16> = -512..512;

/// A JPEG file after entropy decoding, and the way to a row of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Columns and rows of the picture as stored.
    pub size: (u32, u32),
    /// The columns that the resize looks at.
    pub columns: Range<u32>,
    /// The rows that the resize looks at.
    pub rows: Range<u32>,
    /// Luma alone, or luma and both chromas.
    pub components: Vec<Blocks>,
    /// Of each block its first coefficient, and then those that are not zero: their places (row-major) in the lowest 6
    /// bits, and numbers in the upper 10, signed. Numbers at the same place are added up.
    pub entries: Vec<u16>,
    /// What columns are made of, counted from the first that is looked at.
    pub across: Vec<Tap>,
    /// What rows are made of, likewise.
    pub down: Vec<Tap>,
    /// Whether rows are made fewer before columns are.
    pub rows_first: bool,
}

/// The blocks of a component that the resize needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    /// Columns and rows of samples that the whole component has, padding left out.
    pub samples: (u32, u32),
    /// Columns and rows of the picture for one of the component's.
    pub ratio: (u32, u32),
    /// Columns and rows of blocks.
    pub columns: Range<u32>,
    /// Rows of blocks.
    pub rows: Range<u32>,
    /// What coefficients are multiplied with, row-major.
    pub steps: [i16; 64],
    /// For each block, row by row, where its entries begin, times 256, and how many follow the first.
    pub index: Vec<u32>,
}

/// What one pixel of a resized line is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// The first pixel.
    pub first: u32,
    /// The weights of it and those after it, with 22 fractional bits.
    pub weights: Vec<i32>,
}

/// How resized bytes become a model's floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Floats {
    /// Columns and rows.
    pub size: (u32, u32),
    /// The float of each byte, for each channel in the order of the output.
    pub tables: [[f32; 256]; 3],
    /// Which colour each channel of the output is: 0 red, 1 green, 2 blue.
    pub order: [u32; 3],
    /// Whether each pixel's channels lie together.
    pub channels_last: bool,
}

/// How `recipe` makes floats of bytes.
///
/// # Errors
/// If it cannot be followed, keeps bytes, or does not round to bytes first.
pub fn floats(recipe: &Recipe) -> Result<Floats, VisionError> {
    recipe.check()?;
    if recipe.bytes || !recipe.antialias {
        return Err(VisionError::Recipe("only antialiased recipes of floats can be split".into()));
    }
    let order = if recipe.blue_first { [2, 1, 0] } else { [0, 1, 2] };
    let all = tables(recipe);
    Ok(Floats {
        size: (recipe.width, recipe.height),
        tables: order.map(|channel| all[channel]),
        order: order.map(|channel| channel as u32),
        channels_last: recipe.layout == Layout::ChannelsLast,
    })
}

/// Reads the entropy-coded numbers of the JPEG file `bytes` that `recipe` needs.
///
/// # Errors
/// As [`crate::vision::decode_and_prepare`]; [`VisionError::Unsupported`] where the file or the recipe is of a kind that
/// has to be decoded the usual way.
pub fn split(bytes: &[u8], limits: &Limits, recipe: &Recipe) -> Result<Split, VisionError> {
    floats(recipe)?;
    if Format::of(bytes) != Some(Format::Jpeg) {
        return Err(Trouble::Unsupported("it is no JPEG").into());
    }
    guarded(Format::Jpeg, || {
        let opened = super::open(bytes, limits)?;
        let size = opened.size();
        let (x, y) = axes(size, recipe);
        let Plan::Antialiased(plan) = Plan::new(recipe.filter, recipe.antialias, (&x, &y))? else {
            return Err(Trouble::Unsupported("its recipe takes the nearest pixels").into());
        };
        let part = plan.part();
        let (components, entries) = coefficients(opened.reader, limits, (recipe, &part))?;
        let [across, down] = plan.taps();
        let taps = |taps: Vec<(usize, &[i32])>, start: usize| {
            let tap =
                |(first, weights): (usize, &[i32])| Tap { first: (first - start) as u32, weights: weights.into() };
            taps.into_iter().map(tap).collect()
        };
        Ok(Split {
            size: (size.0 as u32, size.1 as u32),
            across: taps(across, part.columns.start),
            down: taps(down, part.rows.start),
            columns: narrow(part.columns),
            rows: narrow(part.rows),
            components,
            entries,
            rows_first: plan.takes_rows_first(),
        })
    })
}

/// Pictures have 65 535 columns and rows at most.
fn narrow(range: Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}

/// The rest of a file whose frame header has been read.
fn coefficients(
    mut reader: Reader,
    limits: &Limits,
    (recipe, part): (&Recipe, &Part),
) -> Result<(Vec<Blocks>, Vec<u16>), VisionError> {
    let frame = reader.frame.as_ref().ok_or(Trouble::Damaged("no frame header"))?;
    let mut kept = kept(frame, part)?;
    let words = kept.iter().map(|blocks| blocks.index.len() as u64).sum::<u64>();
    limits.check_memory(Format::Jpeg, words * 4 + MOST_ENTRIES as u64 * 2)?;
    // Photographs have one and a third for each byte of the file.
    let mut entries = Vec::with_capacity((words as usize * 64).min(reader.bytes.len() / 2 * 3));
    loop {
        let (code, at) = next_marker(reader.bytes, reader.at)?;
        if code == SCAN {
            reader.at = at;
            read_scan(&mut reader, &mut kept, &mut entries)?;
        } else if reader.segment()? == Step::Ended {
            break;
        }
    }
    let Reader { frame, jfif, adobe, orientation, .. } = reader;
    let frame = frame.ok_or(Trouble::Damaged("no frame header"))?;
    if frame.components.iter().any(|component| !component.seen) {
        return Err(Trouble::Damaged("a component has no scan").into());
    }
    if !matches!(frame.space(jfif, adobe)?, Space::Grey | Space::YCbCr) {
        return Err(Trouble::Unsupported("its colours are neither grey nor YCbCr").into());
    }
    if recipe.upright && (2..=8).contains(&orientation) {
        return Err(Trouble::Unsupported("it has to be turned upright").into());
    }
    for (blocks, component) in kept.iter_mut().zip(&frame.components) {
        blocks.steps = component.steps.ok_or(Trouble::Damaged("a quantisation table is missing"))?;
    }
    Ok((kept, entries))
}

/// Room for the blocks that `part` needs.
fn kept(frame: &Frame, part: &Part) -> Result<Vec<Blocks>, Trouble> {
    if frame.progressive {
        return Err(Trouble::Unsupported("it is progressive"));
    }
    if !matches!(frame.components.len(), 1 | 3) {
        return Err(Trouble::Unsupported("it has neither one component nor three"));
    }
    if frame.components[0].ratio != (1, 1) {
        return Err(Trouble::Unsupported("its luma is not whole"));
    }
    let blocks = |component: &Component| {
        if !matches!(component.ratio, (1, 1) | (2, 1) | (2, 2)) {
            return Err(Trouble::Unsupported("its components have other sizes than whole, halved across and halved"));
        }
        let range = |wanted: &Range<usize>, ratio: usize, samples: usize| {
            let Range { start, end } = nearby(wanted, ratio, samples);
            narrow(start / 8..end.div_ceil(8))
        };
        let columns = range(&part.columns, component.ratio.0, component.width);
        let rows = range(&part.rows, component.ratio.1, component.height);
        let index = vec![0; columns.len() * rows.len()];
        Ok(Blocks {
            samples: (component.width as u32, component.height as u32),
            ratio: (component.ratio.0 as u32, component.ratio.1 as u32),
            columns,
            rows,
            steps: [0; 64],
            index,
        })
    };
    frame.components.iter().map(blocks).collect()
}

/// One component's part in a scan.
struct Lane<'t> {
    kept: usize,
    tables: (&'t Table, &'t Table),
    before: i16,
    /// Blocks across and down in one MCU.
    across: usize,
    down: usize,
}

/// Reads a scan whose marker has been read.
fn read_scan(reader: &mut Reader, kept: &mut [Blocks], entries: &mut Vec<u16>) -> Result<(), Trouble> {
    let length = reader.bytes.get(reader.at..).and_then(|rest| rest.first_chunk()).ok_or(Trouble::Truncated)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length < 2 {
        return Err(Trouble::Damaged("a segment shorter than its own length"));
    }
    let body = reader.bytes.get(reader.at + 2..reader.at + length).ok_or(Trouble::Truncated)?;
    let mut frame = reader.frame.take().ok_or(Trouble::Damaged("a scan before its frame"))?;
    // A component that comes twice is refused, so that there are three scans at most.
    let (members, _) = reader.scan_header(body, &mut frame.components, false)?;
    let (across, down) = Reader::mcus(&frame, &members);
    let mut lanes = Vec::with_capacity(3);
    for member in &members {
        let (Some(dc), Some(ac)) = (&reader.dc[member.dc & 3], &reader.ac[member.ac & 3]) else {
            return Err(Trouble::Damaged("a scan without its tables"));
        };
        let (across, down) = if members.len() == 1 { (1, 1) } else { frame.components[member.component].sampling };
        lanes.push(Lane { kept: member.component, tables: (dc, ac), before: 0, across, down });
    }
    let mut bits = Bits::new(reader.bytes, reader.at + length);
    let mut restarts = Restarts::new(reader.restart);
    for row in 0..down {
        bits = wide(
            #[inline(always)]
            || read_row(bits, &mut restarts, (&mut lanes, kept, entries), (row, across)),
        )?;
        bits.check()?;
        if entries.len() > MOST_ENTRIES {
            return Err(Trouble::Unsupported("it has too many coefficients"));
        }
    }
    reader.at = bits.position();
    reader.frame = Some(frame);
    Ok(())
}

/// A row of MCUs. The bits go in and out by value, so that they stay in registers.
#[inline(always)]
fn read_row<'a>(
    mut bits: Bits<'a>,
    restarts: &mut Restarts,
    (lanes, kept, entries): (&mut [Lane], &mut [Blocks], &mut Vec<u16>),
    (row, across): (usize, usize),
) -> Result<Bits<'a>, Trouble> {
    let mut room = [0; MOST_ROOM];
    for mcu in 0..across {
        if let Some(number) = restarts.due() {
            bits = bits.after_restart(number)?;
            lanes.iter_mut().for_each(|lane| lane.before = 0);
        }
        for lane in &mut *lanes {
            let blocks = &mut kept[lane.kept];
            for y in row * lane.down..(row + 1) * lane.down {
                for x in mcu * lane.across..(mcu + 1) * lane.across {
                    let count = read_block(&mut bits, lane.tables, &mut lane.before, &mut room)?;
                    let (x, y) = (x as u32, y as u32);
                    if !blocks.columns.contains(&x) || !blocks.rows.contains(&y) {
                        continue;
                    }
                    let at = (y - blocks.rows.start) as usize * blocks.columns.len();
                    let word = (entries.len() as u32) << 8 | (count - 1) as u32;
                    blocks.index[at + (x - blocks.columns.start) as usize] = word;
                    entries.extend_from_slice(&room[..count]);
                }
            }
        }
    }
    Ok(bits)
}

/// Room for the entries of the block that takes the most: 63 numbers in five parts each, and the first.
const MOST_ROOM: usize = 63 * 5 + 1;

/// What has been read of a block.
struct Progress {
    /// How many entries it has.
    count: usize,
    /// The place of the last coefficient in zigzag order, and the coefficient.
    place: usize,
    value: i16,
    /// Whether a number was beyond what pictures have.
    is_wild: bool,
}

/// One block's entries; how many they are.
#[inline(always)]
fn read_block(
    bits: &mut Bits,
    (dc, ac): (&Table, &Table),
    before: &mut i16,
    room: &mut [u16; MOST_ROOM],
) -> Result<usize, Trouble> {
    *before = before.wrapping_add(bits.difference(dc));
    room[0] = *before as u16;
    let mut at = Progress { count: 1, place: 0, value: 0, is_wild: false };
    // Two numbers for one filling of the reader.
    while read_number::<true>(bits, ac, room, &mut at) && read_number::<false>(bits, ac, room, &mut at) {}
    // Zeros may go past the end, numbers not.
    if at.place > 63 && at.value != 0 {
        return Err(Trouble::Damaged("a block has more than 64 numbers"));
    }
    if at.is_wild {
        return Err(Trouble::Unsupported("it has larger numbers than pictures have"));
    }
    if at.count - 1 > MOST_IN_BLOCK {
        return Err(Trouble::Unsupported("a block of it has too many entries"));
    }
    Ok(at.count)
}

/// One more coefficient. Whether the block may go on.
#[inline(always)]
fn read_number<const FILL: bool>(bits: &mut Bits, ac: &Table, room: &mut [u16; MOST_ROOM], at: &mut Progress) -> bool {
    let Some((step, value)) = bits.coefficient::<FILL>(ac) else { return false };
    (at.place, at.value) = (at.place + step, value);
    let place = ZIGZAG[at.place & 63];
    let mut left = value;
    if !IN_ONE.contains(&value) {
        (left, at.count) = push_parts(room, at.count, (place, value));
        at.is_wild |= !(-LARGEST..=LARGEST).contains(&value);
    }
    room[at.count] = entry(place, left);
    // Sixteen zeros are none.
    at.count += usize::from(value != 0);
    at.place < 63
}

/// Entries for what of `value` is beyond one entry; what is left for the last, and how many entries there are now.
#[cold]
#[inline(never)]
fn push_parts(room: &mut [u16; MOST_ROOM], mut count: usize, (place, value): (u8, i16)) -> (i16, usize) {
    let mut left = value.clamp(-LARGEST, LARGEST);
    while !IN_ONE.contains(&left) {
        let part = left.clamp(IN_ONE.start, IN_ONE.end - 1);
        room[count] = entry(place, part);
        count += 1;
        left -= part;
    }
    (left, count)
}

#[inline(always)]
fn entry(place: u8, value: i16) -> u16 {
    (value << 6) as u16 | u16::from(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_one_entry_does_not_hold_are_the_sum_of_several() {
        for (value, parts) in [(511, 1), (-512, 1), (512, 2), (1023, 3), (-1023, 2), (2047, 5), (-2047, 4)] {
            let (mut room, mut count, mut left) = ([0; MOST_ROOM], 0, value);
            if !IN_ONE.contains(&value) {
                (left, count) = push_parts(&mut room, 0, (8, value));
            }
            room[count] = entry(8, left);
            let all = &room[..=count];
            assert_eq!(all.len(), parts, "{value}");
            assert_eq!(all.iter().map(|&e| (e as i16) >> 6).sum::<i16>(), value);
            assert!(all.iter().all(|&e| e & 63 == 8));
        }
        assert!(push_parts(&mut [0; MOST_ROOM], 0, (8, -32_767)).1 < 5, "the wildest takes no more room");
    }

    #[test]
    fn files_and_recipes_of_other_kinds_are_refused_and_damaged_ones_found() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/pictures");
        let (limits, recipe) = (Limits::default(), Recipe::new(20, 12).unwrap());
        let (mut taken, mut refused) = (0, 0);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            match split(&bytes, &limits, &recipe) {
                Ok(_) => {
                    taken += 1;
                    let half = split(&bytes[..bytes.len() / 2], &limits, &recipe);
                    let whole = crate::vision::decode(&bytes[..bytes.len() / 2], &limits);
                    assert_eq!(half.err(), whole.err(), "{}", path.display());
                }
                Err(VisionError::Unsupported { .. }) => refused += 1,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        assert!(taken >= 5 && refused >= 5, "{taken} and {refused}");
        let mut bytes = Recipe::new(20, 12).unwrap();
        bytes.set_bytes();
        assert!(matches!(split(b"\xFF\xD8\xFF", &limits, &bytes), Err(VisionError::Recipe(_))));
        assert!(matches!(split(b"text", &limits, &recipe), Err(VisionError::Unsupported { .. })));
    }
}
