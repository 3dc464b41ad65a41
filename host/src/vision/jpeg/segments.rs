//! The segments of a JPEG file: markers, and what their bodies say.
//! What goes in: a whole file. What comes out: tables, the frame header, and scans handed on as they come.

use super::frame::Frame;
use super::huffman::Table;
use super::{Format, Limits, Trouble, VisionError, ZIGZAG, ifd};

/// Reads the segments of a file.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) steps: [Option<[i16; 64]>; 4],
    pub(super) dc: [Option<Table>; 4],
    pub(super) ac: [Option<Table>; 4],
    /// MCUs between restart markers; 0 without them.
    pub(super) restart: usize,
    pub(super) frame: Option<Frame>,
    pub(super) jfif: bool,
    /// The colour transform of an Adobe segment.
    pub(super) adobe: Option<u8>,
    /// As EXIF counts; 1 until a segment says otherwise.
    pub(super) orientation: u8,
    /// Scans read so far.
    pub(super) scans: usize,
    pub(super) limits: Limits,
}

/// Marker codes that are named below.
mod marker {
    pub(super) const DHT: u8 = 0xC4;
    pub(super) const SOS: u8 = 0xDA;
    pub(super) const DQT: u8 = 0xDB;
    pub(super) const DRI: u8 = 0xDD;
    pub(super) const EOI: u8 = 0xD9;
    pub(super) const APP0: u8 = 0xE0;
    pub(super) const APP1: u8 = 0xE1;
    pub(super) const APP14: u8 = 0xEE;
}

/// What a segment was.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    Other,
    Framed,
    Ended,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], limits: Limits) -> Self {
        Self {
            bytes,
            // After the start marker, by which the format was recognised.
            at: 2,
            steps: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            frame: None,
            jfif: false,
            adobe: None,
            orientation: 1,
            scans: 0,
            limits,
        }
    }

    /// Reads the next segment, scans included.
    pub(super) fn segment(&mut self) -> Result<Step, VisionError> {
        let code;
        (code, self.at) = next_marker(self.bytes, self.at)?;
        match code {
            marker::EOI => return Ok(Step::Ended),
            // Markers without a body; a stray restart marker does no harm.
            0x01 | 0xD0..=0xD8 => return Ok(Step::Other),
            _ => {}
        }
        let body = self.body()?;
        match code {
            0xC0..=0xC2 => {
                self.read_frame(code, body)?;
                return Ok(Step::Framed);
            }
            marker::DHT => self.read_tables(body)?,
            0xC3 | 0xC5..=0xC7 => return Err(Trouble::Unsupported("lossless or hierarchical coding").into()),
            0xC8..=0xCF => return Err(Trouble::Unsupported("arithmetic coding").into()),
            marker::DQT => self.read_steps(body)?,
            marker::DRI => match body {
                [high, low] => self.restart = usize::from(u16::from_be_bytes([*high, *low])),
                _ => return Err(Trouble::Damaged("a restart interval of another length than 2").into()),
            },
            marker::SOS => self.read_scan(body)?,
            marker::APP0 if body.starts_with(b"JFIF\0") => self.jfif = true,
            marker::APP1 if body.starts_with(b"Exif\0\0") => {
                self.orientation = ifd::orientation(&body[6..]).unwrap_or(self.orientation);
            }
            marker::APP14 if body.starts_with(b"Adobe") => self.adobe = body.get(11).copied().or(self.adobe),
            _ => {}
        }
        Ok(Step::Other)
    }

    /// The body of the segment whose marker was just read.
    fn body(&mut self) -> Result<&'a [u8], Trouble> {
        let length = self.bytes.get(self.at..self.at + 2).ok_or(Trouble::Truncated)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(Trouble::Damaged("a segment shorter than its own length"));
        }
        let body = self.bytes.get(self.at + 2..self.at + length).ok_or(Trouble::Truncated)?;
        self.at += length;
        Ok(body)
    }

    fn read_steps(&mut self, mut body: &[u8]) -> Result<(), Trouble> {
        while let [kind, rest @ ..] = body {
            let (wide, slot) = (kind >> 4, usize::from(kind & 15));
            let length = if wide == 0 { 64 } else { 128 };
            if wide > 1 || slot > 3 || rest.len() < length {
                return Err(Trouble::Damaged("a quantisation table"));
            }
            let mut table = [0i16; 64];
            for (i, &place) in ZIGZAG.iter().enumerate() {
                // Products wrap to 16 bits, as in libjpeg's vector code, so that the sign of a step says nothing.
                table[usize::from(place)] =
                    if wide == 0 { i16::from(rest[i]) } else { i16::from_be_bytes([rest[2 * i], rest[2 * i + 1]]) };
            }
            self.steps[slot] = Some(table);
            body = &rest[length..];
        }
        Ok(())
    }

    fn read_tables(&mut self, mut body: &[u8]) -> Result<(), Trouble> {
        while let [kind, rest @ ..] = body {
            let (class, slot) = (kind >> 4, usize::from(kind & 15));
            let Some((counts, rest)) = rest.split_first_chunk::<16>() else {
                return Err(Trouble::Damaged("a Huffman table"));
            };
            let total = counts.iter().map(|&n| usize::from(n)).sum::<usize>();
            if class > 1 || slot > 3 || total > 256 || rest.len() < total {
                return Err(Trouble::Damaged("a Huffman table"));
            }
            let table = Table::new(counts, &rest[..total])?;
            if class == 1 {
                self.ac[slot] = Some(table);
            } else if table.fits_dc() {
                self.dc[slot] = Some(table);
            } else {
                return Err(Trouble::Damaged("a Huffman table for DC has other symbols"));
            }
            body = &rest[total..];
        }
        Ok(())
    }

    fn read_frame(&mut self, code: u8, body: &[u8]) -> Result<(), VisionError> {
        if self.frame.is_some() {
            return Err(Trouble::Damaged("a second frame header").into());
        }
        let [bits, h1, h0, w1, w0, count, rest @ ..] = body else {
            return Err(Trouble::Damaged("a frame header").into());
        };
        if *bits != 8 {
            return Err(Trouble::Unsupported("samples of other than 8 bits").into());
        }
        let (width, height) = (u16::from_be_bytes([*w1, *w0]), u16::from_be_bytes([*h1, *h0]));
        if !matches!(count, 1 | 3 | 4) {
            return Err(Trouble::Unsupported("other than 1, 3 or 4 components").into());
        }
        if rest.len() != usize::from(*count) * 3 {
            return Err(Trouble::Damaged("a frame header").into());
        }
        self.limits.check_size(Format::Jpeg, width.into(), height.into())?;
        self.frame = Some(Frame::new(code == 0xC2, (width.into(), height.into()), rest)?);
        Ok(())
    }
}

/// Skips to the next marker, over bytes that do not belong anywhere. Its code, and where what follows it begins.
pub(super) fn next_marker(bytes: &[u8], mut at: usize) -> Result<(u8, usize), Trouble> {
    loop {
        let rest = bytes.get(at..).ok_or(Trouble::Truncated)?;
        let found = rest.iter().position(|&b| b == 0xFF).ok_or(Trouble::Truncated)?;
        at += found + 1;
        let code = *bytes.get(at).ok_or(Trouble::Truncated)?;
        if code != 0 && code != 0xFF {
            return Ok((code, at + 1));
        }
    }
}
