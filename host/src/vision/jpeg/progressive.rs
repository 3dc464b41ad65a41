//! Progressive scans of a JPEG: each brings some coefficients, or one more bit of them.
//! What goes in: a scan's bits. What comes out: coefficients of the frame's components.

use super::frame::Frame;
use super::huffman::{Bits, Table};
use super::scan::{Band, Member, Restarts};
use super::segments::Reader;
use super::{Trouble, ZIGZAG};

impl Reader<'_> {
    /// Reads the bits of a progressive scan. Where they end.
    pub(super) fn progressive_scan(
        &self,
        frame: &mut Frame,
        mut members: Vec<Member>,
        band: Band,
    ) -> Result<usize, Trouble> {
        let alone = members.len() == 1;
        let (across, down) = Self::mcus(frame, &members);
        let (mut bits, mut restarts) = (Bits::new(self.bytes, self.at), Restarts::new(self.restart));
        // Blocks still to come that have nothing in this band.
        let mut empty_run = 0u32;
        for mcu_y in 0..down {
            for mcu_x in 0..across {
                if let Some(number) = restarts.due() {
                    bits = bits.after_restart(number)?;
                    empty_run = 0;
                    members.iter_mut().for_each(|member| member.before = 0);
                }
                for member in &mut members {
                    let component = &mut frame.components[member.component];
                    let (h, v) = if alone { (1, 1) } else { component.sampling };
                    for (y, x) in (0..v).flat_map(|y| (0..h).map(move |x| (y, x))) {
                        let at = (mcu_y * v + y) * component.padded.0 + mcu_x * h + x;
                        let block = &mut component.coefficients[at];
                        self.progressive_block(&mut bits, member, block, band, &mut empty_run)?;
                    }
                }
            }
            bits.check()?;
        }
        Ok(bits.position())
    }

    /// What a progressive scan says of one block.
    #[inline]
    fn progressive_block(
        &self,
        bits: &mut Bits,
        member: &mut Member,
        block: &mut [i16; 64],
        band: Band,
        empty_run: &mut u32,
    ) -> Result<(), Trouble> {
        if band.first == 0 {
            if band.refines {
                block[0] |= i16::from(bits.bit()) << band.shift;
            } else if let Some(dc) = &self.dc[member.dc & 3] {
                member.before = member.before.wrapping_add(bits.difference(dc));
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
        block[usize::from(ZIGZAG[k])] = bits.signed(size) << band.shift;
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
