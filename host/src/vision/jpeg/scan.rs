//! Scans of a JPEG: which blocks come in which order, and their coefficients, sequential or progressive.
//! What goes in: a scan header and the bits after it. What comes out: samples (sequential) or coefficients
//! (progressive) in the frame's components.

use super::huffman::{Bits, Table};
use super::transform::{self, Extent};
use super::{Component, MOST_SCANS, Reader, Trouble, ZIGZAG};

/// One component's part in a scan.
struct Member {
    component: usize,
    dc: usize,
    ac: usize,
    /// The last DC value, from which the next differs.
    before: i16,
}

/// The coefficients and bits that a progressive scan brings.
#[derive(Clone, Copy)]
struct Band {
    /// First and last coefficient in zigzag order.
    first: usize,
    last: usize,
    /// Whether bits above the lowest were brought by an earlier scan.
    refines: bool,
    /// How far what is brought is shifted up.
    shift: u32,
}

/// A block's coefficients and where they go.
struct Target<'a> {
    component: &'a mut Component,
    x: usize,
    y: usize,
}

impl Reader<'_> {
    /// Reads a scan: its header in `body`, then its bits, to the marker behind them.
    pub(super) fn read_scan(&mut self, body: &[u8]) -> Result<(), Trouble> {
        self.scans += 1;
        if self.scans > MOST_SCANS {
            return Err(Trouble::Damaged("more than a hundred scans"));
        }
        let mut frame = self.frame.take().ok_or(Trouble::Damaged("a scan before its frame"))?;
        let (mut members, band) = self.scan_header(body, &mut frame.components, frame.progressive)?;
        let alone = members.len() == 1;
        let (across, down) = if alone { frame.components[members[0].component].blocks } else { frame.mcus };
        let mut bits = Bits::new(self.bytes, self.at);
        let (mut until_restart, mut restarts) = (self.restart, 0u8);
        // Blocks still to come that have nothing in this band.
        let mut empty_run = 0u32;
        for mcu_y in 0..down {
            for mcu_x in 0..across {
                if self.restart > 0 && until_restart == 0 {
                    bits.check()?;
                    self.expect_restart(&mut bits, restarts)?;
                    restarts = (restarts + 1) & 7;
                    until_restart = self.restart;
                    empty_run = 0;
                    members.iter_mut().for_each(|member| member.before = 0);
                }
                until_restart = until_restart.wrapping_sub(1);
                for member in &mut members {
                    let component = &mut frame.components[member.component];
                    let (h, v) = if alone { (1, 1) } else { component.sampling };
                    for (y, x) in (0..v).flat_map(|y| (0..h).map(move |x| (y, x))) {
                        let mut target = Target { component: &mut *component, x: mcu_x * h + x, y: mcu_y * v + y };
                        match band {
                            None => self.sequential_block(&mut bits, member, &mut target)?,
                            Some(band) => {
                                self.progressive_block(&mut bits, member, &mut target, band, &mut empty_run)?
                            }
                        }
                    }
                }
            }
            bits.check()?;
        }
        self.at = bits.position();
        self.frame = Some(frame);
        Ok(())
    }

    fn scan_header(
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

    /// Goes past the restart marker that must come now.
    fn expect_restart(&mut self, bits: &mut Bits, number: u8) -> Result<(), Trouble> {
        self.at = bits.position();
        if self.next_marker()? != 0xD0 + number {
            return Err(Trouble::Damaged("a restart marker is missing"));
        }
        bits.restart(self.at);
        Ok(())
    }

    /// A whole block, transformed at once.
    #[inline]
    fn sequential_block(&self, bits: &mut Bits, member: &mut Member, target: &mut Target) -> Result<(), Trouble> {
        let (Some(dc), Some(ac), Some(steps)) =
            (&self.dc[member.dc & 3], &self.ac[member.ac & 3], &target.component.steps)
        else {
            return Err(Trouble::Damaged("a scan without its tables"));
        };
        let mut block = [0i16; 64];
        let size = bits.symbol(dc);
        member.before = member.before.wrapping_add(bits.signed(size) as i16);
        block[0] = member.before.wrapping_mul(steps[0] as i16);
        let (mut k, mut last) = (1, 0);
        while k < 64 {
            let (run, value) = if let Some(found) = bits.coefficient(ac) {
                found
            } else {
                let symbol = bits.symbol(ac);
                let (run, size) = ((symbol >> 4) as usize, symbol & 15);
                if size == 0 {
                    if run != 15 {
                        break;
                    }
                    k += 16;
                    continue;
                }
                (run, bits.signed(size) as i16)
            };
            k += run;
            let place = usize::from(*ZIGZAG.get(k).ok_or(Trouble::Damaged("a block has more than 64 numbers"))?);
            block[place & 63] = value.wrapping_mul(steps[place & 63] as i16);
            last = k;
            k += 1;
        }
        let Component { samples, padded, .. } = &mut *target.component;
        let stride = padded.0 * 8;
        transform::inverse(&block, Extent::of(last), samples, target.y * 8 * stride + target.x * 8, stride);
        Ok(())
    }

    /// What a progressive scan says of one block.
    #[inline]
    fn progressive_block(
        &self,
        bits: &mut Bits,
        member: &mut Member,
        target: &mut Target,
        band: Band,
        empty_run: &mut u32,
    ) -> Result<(), Trouble> {
        let at = (target.y * target.component.padded.0 + target.x) * 64;
        let block = target.component.coefficients[at..].first_chunk_mut::<64>();
        let block = block.expect("blocks of a scan lie inside their plane; this is a bug");
        if band.first == 0 {
            if band.refines {
                block[0] |= i16::from(bits.bit()) << band.shift;
            } else if let Some(dc) = &self.dc[member.dc & 3] {
                let size = bits.symbol(dc);
                member.before = member.before.wrapping_add(bits.signed(size) as i16);
                block[0] = member.before << band.shift;
            }
            return Ok(());
        }
        let Some(ac) = &self.ac[member.ac & 3] else { return Ok(()) };
        if band.refines { refine(bits, ac, block, band, empty_run) } else { bring(bits, ac, block, band, empty_run) }
    }
}

/// The first scan of a band: numbers, runs of zeros, and runs of blocks without any.
fn bring(
    bits: &mut Bits,
    table: &Table,
    block: &mut [i16; 64],
    band: Band,
    empty_run: &mut u32,
) -> Result<(), Trouble> {
    if *empty_run > 0 {
        *empty_run -= 1;
        return Ok(());
    }
    let mut k = band.first;
    while k <= band.last {
        let symbol = bits.symbol(table);
        let (run, size) = (symbol >> 4, symbol & 15);
        if size == 0 {
            if run == 15 {
                k += 16;
                continue;
            }
            *empty_run = (1 << run) - 1 + bits.number(run);
            break;
        }
        k += run as usize;
        if k > band.last {
            return Err(Trouble::Damaged("a block has more numbers than its band"));
        }
        block[usize::from(ZIGZAG[k])] = (bits.signed(size) as i16) << band.shift;
        k += 1;
    }
    Ok(())
}

/// A later scan of a band: one more bit for each number that is not zero, and new numbers between them.
fn refine(
    bits: &mut Bits,
    table: &Table,
    block: &mut [i16; 64],
    band: Band,
    empty_run: &mut u32,
) -> Result<(), Trouble> {
    let one = 1i16 << band.shift;
    let mut k = band.first;
    if *empty_run == 0 {
        while k <= band.last {
            let symbol = bits.symbol(table);
            let (mut run, size) = (symbol >> 4, symbol & 15);
            let mut new = 0;
            if size == 1 {
                new = if bits.bit() { one } else { -one };
            } else if size > 1 {
                return Err(Trouble::Damaged("a refinement by more than one bit"));
            } else if run < 15 {
                *empty_run = (1 << run) + bits.number(run);
                break;
            }
            // Over numbers that are there, refining each, and over `run` zeros, to the zero that becomes `new`.
            while k <= band.last {
                let value = &mut block[usize::from(ZIGZAG[k])];
                if *value != 0 {
                    refine_one(bits, value, one);
                } else if run == 0 {
                    *value = new;
                    break;
                } else {
                    run -= 1;
                }
                k += 1;
            }
            if k > band.last && new != 0 {
                return Err(Trouble::Damaged("a block has more numbers than its band"));
            }
            k += 1;
        }
    }
    if *empty_run > 0 {
        for &place in ZIGZAG.iter().take(band.last + 1).skip(k) {
            let value = &mut block[usize::from(place)];
            if *value != 0 {
                refine_one(bits, value, one);
            }
        }
        *empty_run -= 1;
    }
    Ok(())
}

#[inline]
fn refine_one(bits: &mut Bits, value: &mut i16, one: i16) {
    if bits.bit() && *value & one == 0 {
        *value = value.wrapping_add(if *value > 0 { one } else { -one });
    }
}
