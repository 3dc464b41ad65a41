//! Scans of a JPEG: which blocks come in which order, and the coefficients of sequential ones.
//! What goes in: a scan header and the bits after it. What comes out: samples (sequential) or coefficients
//! (progressive) in the frame's components.

use super::frame::{Component, Frame};
use super::huffman::{Bits, Table};
use super::segments::Reader;
use super::transform::Extent;
use super::{Trouble, ZIGZAG, wide};

/// The most scans of one picture: encoders make up to a dozen, and a few bytes can say that a whole scan is empty.
const MOST_SCANS: usize = 100;

/// The place of each coefficient as in [`ZIGZAG`], and the last again for those that a run leads to past the end: one
/// check after a block does for all of it.
const PLACES: [u8; 94] = {
    let (mut places, mut k) = ([63; 94], 0);
    while k < 64 {
        places[k] = ZIGZAG[k];
        k += 1;
    }
    places
};

/// One component's part in a scan.
pub(super) struct Member {
    pub(super) component: usize,
    pub(super) dc: usize,
    pub(super) ac: usize,
    /// The last DC value, from which the next differs.
    pub(super) before: i16,
}

/// The coefficients and bits that a progressive scan brings.
#[derive(Clone, Copy)]
pub(super) struct Band {
    /// First and last coefficient in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Whether bits above the lowest were brought by an earlier scan.
    pub(super) refines: bool,
    /// How far what is brought is shifted up.
    pub(super) shift: u32,
}

/// A scan's restart markers.
pub(super) struct Restarts {
    /// MCUs between two; 0 without them.
    interval: usize,
    left: usize,
    next: u8,
}

impl Restarts {
    pub(super) fn new(interval: usize) -> Self {
        Self { interval, left: interval, next: 0 }
    }

    /// To be asked before each MCU: the number of the marker that must come now, if one must.
    #[inline(always)]
    pub(super) fn due(&mut self) -> Option<u8> {
        if self.interval == 0 {
            return None;
        }
        let due = (self.left == 0).then_some(self.next);
        if due.is_some() {
            (self.left, self.next) = (self.interval, (self.next + 1) & 7);
        }
        self.left -= 1;
        due
    }
}

/// One component's part in a sequential scan, and a row of MCUs of it.
struct Lane<'t> {
    component: usize,
    dc: &'t Table,
    ac: &'t Table,
    before: i16,
    /// Blocks across and down in one MCU.
    across: usize,
    down: usize,
    /// Coefficients of the row, `down` rows of blocks.
    blocks: Vec<[i16; 64]>,
    extents: Vec<Extent>,
}

impl Reader<'_> {
    /// Reads a scan: its header in `body`, then its bits, to the marker behind them.
    pub(super) fn read_scan(&mut self, body: &[u8]) -> Result<(), Trouble> {
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(Trouble::Damaged("more than a hundred scans"));
        }
        let mut frame = self.frame.take().ok_or(Trouble::Damaged("a scan before its frame"))?;
        let (members, band) = self.scan_header(body, &mut frame.components, frame.progressive)?;
        self.at = match band {
            Some(band) => self.progressive_scan(&mut frame, members, band)?,
            None => self.sequential_scan(&mut frame, &members)?,
        };
        self.frame = Some(frame);
        Ok(())
    }

    /// MCUs across and down in a scan of these members.
    pub(super) fn mcus(frame: &Frame, members: &[Member]) -> (usize, usize) {
        if let [alone] = members { frame.components[alone.component].blocks } else { frame.mcus }
    }

    /// A row of MCUs is read, then transformed while it is in the cache. Where it ends.
    fn sequential_scan(&self, frame: &mut Frame, members: &[Member]) -> Result<usize, Trouble> {
        let (across, down) = Self::mcus(frame, members);
        let mut lanes = Vec::with_capacity(4);
        for member in members {
            let (Some(dc), Some(ac)) = (&self.dc[member.dc & 3], &self.ac[member.ac & 3]) else {
                return Err(Trouble::Damaged("a scan without its tables"));
            };
            let (h, v) = if members.len() == 1 { (1, 1) } else { frame.components[member.component].sampling };
            lanes.push(Lane {
                component: member.component,
                dc,
                ac,
                before: 0,
                across: h,
                down: v,
                blocks: vec![[0; 64]; across * h * v],
                extents: vec![Extent::Mean; across * h * v],
            });
        }
        let (mut bits, mut restarts) = (Bits::new(self.bytes, self.at), Restarts::new(self.restart));
        for mcu_y in 0..down {
            bits = wide(
                #[inline(always)]
                || read_row(bits, &mut restarts, &mut lanes, across),
            )?;
            bits.check()?;
            wide(
                #[inline(always)]
                || {
                    for lane in &lanes {
                        let (component, row) = (&mut frame.components[lane.component], across * lane.across);
                        let rows = lane.blocks.chunks_exact(row).zip(lane.extents.chunks_exact(row));
                        for (y, (blocks, extents)) in rows.enumerate() {
                            component.transform_row(mcu_y * lane.down + y, blocks, extents);
                        }
                    }
                },
            );
        }
        Ok(bits.position())
    }

    pub(super) fn scan_header(
        &self,
        body: &[u8],
        components: &mut [Component],
        progressive: bool,
    ) -> Result<(Vec<Member>, Option<Band>), Trouble> {
        let wrong = Trouble::Damaged("a scan header");
        let [count, rest @ ..] = body else { return Err(wrong) };
        let count = usize::from(*count);
        if !(1..=components.len()).contains(&count) || rest.len() != count * 2 + 3 {
            return Err(wrong);
        }
        let (parts, ends) = rest.split_at(count * 2);
        let band = Band {
            first: usize::from(ends[0]),
            last: usize::from(ends[1]),
            refines: ends[2] >> 4 != 0,
            shift: u32::from(ends[2] & 15),
        };
        let dc_only = band.first == 0;
        let sound = if dc_only { band.last == 0 } else { band.first <= band.last && band.last < 64 && count == 1 };
        if progressive && !(sound && band.shift <= 13) {
            return Err(Trouble::Damaged("a progressive scan's band"));
        }
        let mut members: Vec<Member> = Vec::with_capacity(4);
        for part in parts.as_chunks::<2>().0 {
            let component = components.iter().position(|c| c.id == part[0]).ok_or(wrong)?;
            let (dc, ac) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            let has = |tables: &[Option<Table>; 4], slot: usize| tables.get(slot).is_some_and(Option::is_some);
            let needs_dc = !progressive || (dc_only && !band.refines);
            let needs_ac = !progressive || !dc_only;
            if (needs_dc && !has(&self.dc, dc)) || (needs_ac && !has(&self.ac, ac)) {
                return Err(Trouble::Damaged("a scan without its Huffman table"));
            }
            if members.iter().any(|m| m.component == component) {
                return Err(wrong);
            }
            members.push(Member { component, dc, ac, before: 0 });
        }
        let blocks = |m: &Member| components[m.component].sampling.0 * components[m.component].sampling.1;
        if count > 1 && members.iter().map(blocks).sum::<usize>() > 10 {
            return Err(Trouble::Damaged("more than ten blocks in an MCU"));
        }
        for member in &members {
            let component = &mut components[member.component];
            if component.seen && !progressive {
                return Err(Trouble::Damaged("a component comes twice"));
            }
            component.seen = true;
            let steps = self.steps[component.quantiser].ok_or(Trouble::Damaged("a quantisation table is missing"))?;
            component.steps.get_or_insert(steps);
        }
        Ok((members, progressive.then_some(band)))
    }
}

/// The coefficients of a row of MCUs. The reader goes in and out by value, so that it stays in registers.
#[inline(always)]
fn read_row<'a>(
    mut bits: Bits<'a>,
    restarts: &mut Restarts,
    lanes: &mut [Lane],
    across: usize,
) -> Result<Bits<'a>, Trouble> {
    for mcu in 0..across {
        if let Some(number) = restarts.due() {
            bits = bits.after_restart(number)?;
            lanes.iter_mut().for_each(|lane| lane.before = 0);
        }
        for lane in &mut *lanes {
            for y in 0..lane.down {
                let first = (y * across + mcu) * lane.across;
                let blocks = lane.blocks[first..][..lane.across].iter_mut();
                for (block, extent) in blocks.zip(&mut lane.extents[first..][..lane.across]) {
                    *extent = read_block(&mut bits, (lane.dc, lane.ac), &mut lane.before, block)?;
                }
            }
        }
    }
    Ok(bits)
}

/// One block's coefficients, row-major.
#[inline(always)]
fn read_block(
    bits: &mut Bits,
    (dc, ac): (&Table, &Table),
    before: &mut i16,
    block: &mut [i16; 64],
) -> Result<Extent, Trouble> {
    *block = [0; 64];
    *before = before.wrapping_add(bits.difference(dc));
    block[0] = *before;
    let mut at = Last { place: 0, value: 0 };
    // Two numbers for one filling of the reader.
    while read_number::<true>(bits, ac, block, &mut at) && read_number::<false>(bits, ac, block, &mut at) {}
    // Zeros may go past the end, numbers not.
    if at.place > 63 && at.value != 0 {
        return Err(Trouble::Damaged("a block has more than 64 numbers"));
    }
    Ok(Extent::of(at.place))
}

/// The last coefficient that a block has so far, and its place in zigzag order.
struct Last {
    place: usize,
    value: i16,
}

/// One more coefficient. Whether the block may go on.
#[inline(always)]
fn read_number<const FILL: bool>(bits: &mut Bits, ac: &Table, block: &mut [i16; 64], last: &mut Last) -> bool {
    let Some((step, value)) = bits.coefficient::<FILL>(ac) else { return false };
    *last = Last { place: last.place + step, value };
    block[usize::from(PLACES[last.place]) & 63] = value;
    last.place < 63
}
