//! One function per file format: bytes to a [`Picture`]. JPEG has a module of its own.
//! What goes in: bytes that begin like the format. What comes out: 8-bit RGB, within the limits.

use std::io::{Cursor, ErrorKind};
use std::num::NonZeroU64;

use image::ImageDecoder;
use image::codecs::bmp::BmpDecoder;
use tiff::decoder::{BufferLayoutPreference, DecodingResult};

use super::{Format, Limits, Picture, VisionError, convert, ifd, jpeg};

/// Columns and rows, from the headers alone.
pub(super) fn size(format: Format, bytes: &[u8], limits: &Limits) -> Result<(u32, u32), VisionError> {
    let (width, height) = match format {
        Format::Jpeg => {
            let (width, height) = jpeg::open(bytes, limits)?.size();
            (width as u32, height as u32)
        }
        Format::Png => {
            let mut decoder = png_decoder(bytes, limits);
            let info = decoder.read_header_info().map_err(png_error)?;
            (info.width, info.height)
        }
        Format::Tiff => {
            let (width, height) = open_tiff(&without_palette(bytes).0, limits)?.dimensions().map_err(tiff_error)?;
            // As it will be decoded: upright.
            if ifd::orientation(bytes).is_some_and(|n| n >= 5) { (height, width) } else { (width, height) }
        }
        Format::Bmp => BmpDecoder::new(Cursor::new(bytes)).map_err(bmp_error)?.dimensions(),
        Format::Gif => {
            let mut decoder = gif_options(limits).read_info(bytes).map_err(gif_error)?;
            let (width, height) = FirstFrame::of(&mut decoder, limits)?.picture;
            (width as u32, height as u32)
        }
    };
    limits.check_size(format, width, height)?;
    Ok((width, height))
}

/// The picture.
pub(super) fn decode(format: Format, bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    match format {
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Png => decode_png(bytes, limits),
        Format::Tiff => decode_tiff(bytes, limits),
        Format::Bmp => decode_bmp(bytes, limits),
        Format::Gif => decode_gif(bytes, limits),
    }
}

fn png_decoder<'a>(bytes: &'a [u8], limits: &Limits) -> png::Decoder<Cursor<&'a [u8]>> {
    let bound = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: bound });
    // Neither is used, and both may be compressed bombs.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder
}

fn decode_png(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let mut decoder = png_decoder(bytes, limits);
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let info = decoder.read_header_info().map_err(png_error)?;
    let (width, height) = (info.width, info.height);
    limits.check_size(Format::Png, width, height)?;
    let mut reader = decoder.read_info().map_err(png_error)?;
    let size = reader.output_buffer_size().ok_or(VisionError::TooLarge { width, height, limit: limits.pixels })?;
    let mut pixels = vec![0; size];
    reader.next_frame(&mut pixels).map_err(png_error)?;
    let channels = reader.output_color_type().0.samples();
    let orientation = reader.info().exif_metadata.as_deref().and_then(ifd::orientation).unwrap_or(1);
    Ok(Picture { width, height, rgb: to_rgb(pixels, channels), orientation })
}

/// Interleaved grey, grey and alpha, RGB or RGBA, as RGB.
fn to_rgb(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        3 => pixels,
        4 => pixels.as_chunks::<4>().0.iter().flat_map(|p| [p[0], p[1], p[2]]).collect(),
        _ => pixels.chunks_exact(channels).flat_map(|p| [p[0]; 3]).collect(),
    }
}

fn png_error(error: png::DecodingError) -> VisionError {
    let format = Format::Png;
    match error {
        png::DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => VisionError::Truncated { format },
        png::DecodingError::LimitsExceeded => VisionError::Memory { format, limit: Limits::default().memory },
        other => VisionError::Damaged { format, reason: other.to_string() },
    }
}

fn decode_bmp(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(bmp_error)?;
    let (width, height) = decoder.dimensions();
    limits.check_size(Format::Bmp, width, height)?;
    let channels = usize::from(decoder.color_type().channel_count());
    let size = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
    limits.check_memory(Format::Bmp, size as u64)?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels).map_err(bmp_error)?;
    Ok(Picture { width, height, rgb: to_rgb(pixels, channels), orientation: 1 })
}

fn bmp_error(error: image::ImageError) -> VisionError {
    let format = Format::Bmp;
    match error {
        image::ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => VisionError::Truncated { format },
        image::ImageError::Unsupported(e) => VisionError::Unsupported { format, reason: e.to_string() },
        other => VisionError::Damaged { format, reason: other.to_string() },
    }
}

fn gif_options(limits: &Limits) -> gif::DecodeOptions {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    if let Some(bytes) = NonZeroU64::new(limits.memory) {
        options.set_memory_limit(gif::MemoryLimit::Bytes(bytes));
    }
    options
}

/// Where the first frame of a GIF lies in its picture, in pixels.
struct FirstFrame {
    left: usize,
    top: usize,
    across: usize,
    down: usize,
    /// The colour of the rest.
    background: u8,
    /// Columns and rows: the screen's, widened by a frame that leaves it.
    picture: (usize, usize),
}

impl FirstFrame {
    fn of(decoder: &mut gif::Decoder<&[u8]>, limits: &Limits) -> Result<Self, VisionError> {
        let format = Format::Gif;
        limits.check_size(format, decoder.width().into(), decoder.height().into())?;
        let screen = (usize::from(decoder.width()), usize::from(decoder.height()));
        let frame = decoder.next_frame_info().map_err(gif_error)?;
        let frame = frame.ok_or(VisionError::Damaged { format, reason: "it has no frame".into() })?;
        let (left, top) = (usize::from(frame.left), usize::from(frame.top));
        let (across, down) = (usize::from(frame.width), usize::from(frame.height));
        let background = frame.transparent.unwrap_or(0);
        let picture = (screen.0.max(left + across), screen.1.max(top + down));
        limits.check_size(format, picture.0 as u32, picture.1 as u32)?;
        Ok(Self { left, top, across, down, background, picture })
    }
}

/// The first frame, on a screen of the transparent colour or else the first one, as Pillow has it; transparent
/// pixels keep the colour that their palette has for them.
fn decode_gif(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let mut decoder = gif_options(limits).read_info(bytes).map_err(gif_error)?;
    let first = FirstFrame::of(&mut decoder, limits)?;
    let FirstFrame { left, top, across, down, background, picture: (width, height) } = first;
    let mut indices = vec![0; across * down];
    decoder.read_into_buffer(&mut indices).map_err(gif_error)?;
    let palette = decoder.palette().ok();
    let colour = |index: u8| match palette {
        Some(palette) => {
            palette.get(usize::from(index) * 3..).and_then(|p| p.first_chunk::<3>()).copied().unwrap_or([0; 3])
        }
        None => [index; 3],
    };
    let colours: Vec<[u8; 3]> = (0..=255).map(colour).collect();
    let mut rgb = colours[usize::from(background)].repeat(width * height);
    if across > 0 {
        for (y, row) in indices.chunks_exact(across).enumerate() {
            let start = ((top + y) * width + left) * 3;
            for (pixel, &index) in rgb[start..].chunks_exact_mut(3).zip(row) {
                pixel.copy_from_slice(&colours[usize::from(index)]);
            }
        }
    }
    Ok(Picture { width: width as u32, height: height as u32, rgb, orientation: 1 })
}

fn gif_error(error: gif::DecodingError) -> VisionError {
    let format = Format::Gif;
    match error {
        gif::DecodingError::UnexpectedEof => VisionError::Truncated { format },
        gif::DecodingError::Io(e) if e.kind() == ErrorKind::UnexpectedEof => VisionError::Truncated { format },
        gif::DecodingError::MemoryLimit | gif::DecodingError::OutOfMemory => {
            VisionError::Memory { format, limit: Limits::default().memory }
        }
        other => VisionError::Damaged { format, reason: other.to_string() },
    }
}

/// Tags of TIFF that are asked for by number.
mod tag {
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const COLOUR_MAP: u16 = 320;
    /// The value of `PHOTOMETRIC` for palettes, and for grey.
    pub(super) const PALETTE: u16 = 3;
    pub(super) const BLACK_IS_ZERO: u16 = 1;
}

/// A TIFF with palette as one of grey indices, and its palette (all reds, then greens, then blues; 16 bits each):
/// the decoder knows no palettes. Others as they are.
fn without_palette(bytes: &[u8]) -> (std::borrow::Cow<'_, [u8]>, Option<Vec<u16>>) {
    let kind = ifd::entry(bytes, tag::PHOTOMETRIC).filter(|e| e.short(bytes) == Some(tag::PALETTE));
    let palette = ifd::entry(bytes, tag::COLOUR_MAP).and_then(|e| e.shorts(bytes, 3 * 65536));
    match (kind, palette) {
        (Some(kind), Some(palette)) => {
            let mut grey = bytes.to_vec();
            kind.overwrite_short(&mut grey, tag::BLACK_IS_ZERO);
            (grey.into(), Some(palette))
        }
        _ => (bytes.into(), None),
    }
}

fn open_tiff<'a>(bytes: &'a [u8], limits: &Limits) -> Result<tiff::decoder::Decoder<Cursor<&'a [u8]>>, VisionError> {
    let bound = usize::try_from(limits.memory).unwrap_or(usize::MAX);
    let mut bounds = tiff::decoder::Limits::default();
    (bounds.decoding_buffer_size, bounds.intermediate_buffer_size, bounds.ifd_value_size) = (bound, bound, 1 << 24);
    Ok(tiff::decoder::Decoder::new(Cursor::new(bytes)).map_err(tiff_error)?.with_limits(bounds))
}

fn decode_tiff(bytes: &[u8], limits: &Limits) -> Result<Picture, VisionError> {
    let format = Format::Tiff;
    let unsupported = |reason: String| VisionError::Unsupported { format, reason };
    let (bytes, palette) = without_palette(bytes);
    let mut decoder = open_tiff(&bytes, limits)?;
    let (width, height) = decoder.dimensions().map_err(tiff_error)?;
    limits.check_size(format, width, height)?;
    let colours = decoder.colortype().map_err(tiff_error)?;
    let mut samples = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut samples).map_err(tiff_error)?;
    if samples.as_buffer(0).byte_len() < layout.complete_len {
        return Err(VisionError::Memory { format, limit: limits.memory });
    }
    let channels = usize::from(colours.num_samples());
    let bits = colours.bit_depth();
    let indexed = palette.is_some();
    let samples = eight_bits(samples, &layout, bits, width as usize * channels / layout.planes.max(1), !indexed)
        .ok_or_else(|| unsupported(format!("samples of {bits} bits ({colours:?})")))?;
    let pixels = interleaved(samples, layout.planes);
    use tiff::ColorType as C;
    let rgb = match (colours, palette) {
        (C::Gray(_), Some(palette)) => look_up(&pixels, &palette),
        (C::Gray(_), None) => to_rgb(pixels, 1),
        (C::GrayA(_), _) => to_rgb(pixels, 2),
        (C::RGB(_), _) => pixels,
        (C::RGBA(_), _) => to_rgb(pixels, 4),
        (C::CMYK(_) | C::CMYKA(_), _) => {
            let inks = |p: &[u8]| [p[0], p[1], p[2]].map(|ink| convert::through_black(ink, p[3]));
            pixels.chunks_exact(channels).flat_map(inks).collect()
        }
        (C::Multiband { num_samples: 2, .. }, _) => to_rgb(pixels, 2),
        (other, _) => return Err(unsupported(format!("{other:?}"))),
    };
    if rgb.len() != width as usize * height as usize * 3 {
        return Err(VisionError::Damaged { format, reason: "it has another count of samples than pixels".into() });
    }
    // Pillow turns TIFFs upright as it loads them, whether asked to or not; so they are here.
    let orientation = ifd::orientation(&bytes).unwrap_or(1);
    Ok(Picture { width, height, rgb, orientation }.upright().into_owned())
}

/// Samples as bytes: 16 bits become their high byte, 1 to 4 bits are spread over 0 to 255 where `spread`.
fn eight_bits(
    samples: DecodingResult,
    layout: &BufferLayoutPreference,
    bits: u8,
    per_row: usize,
    spread: bool,
) -> Option<Vec<u8>> {
    match samples {
        DecodingResult::U8(bytes) if bits == 8 => Some(bytes),
        DecodingResult::U8(bytes) if matches!(bits, 1 | 2 | 4) => {
            let factor = if spread { 255 / ((1u16 << bits) - 1) as u8 } else { 1 };
            let rows = bytes.chunks_exact(layout.row_stride?.get());
            Some(rows.flat_map(|row| convert::unpacked(row, bits, per_row)).map(|x| x * factor).collect())
        }
        DecodingResult::U16(words) if bits == 16 => Some(words.iter().map(|&w| (w >> 8) as u8).collect()),
        _ => None,
    }
}

/// Planes of one channel each as interleaved channels.
fn interleaved(samples: Vec<u8>, planes: usize) -> Vec<u8> {
    if planes <= 1 {
        return samples;
    }
    let plane = samples.len() / planes;
    (0..plane * planes).map(|i| samples[i % planes * plane + i / planes]).collect()
}

fn look_up(indices: &[u8], palette: &[u16]) -> Vec<u8> {
    let size = palette.len() / 3;
    let part = |place: usize| palette.get(place).map_or(0, |&p| (p >> 8) as u8);
    let colours: Vec<[u8; 3]> =
        (0..256).map(|i| if i < size { [part(i), part(size + i), part(2 * size + i)] } else { [0; 3] }).collect();
    indices.iter().flat_map(|&i| colours[usize::from(i)]).collect()
}

fn tiff_error(error: tiff::TiffError) -> VisionError {
    let format = Format::Tiff;
    match error {
        tiff::TiffError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => VisionError::Truncated { format },
        tiff::TiffError::UnsupportedError(e) => VisionError::Unsupported { format, reason: e.to_string() },
        tiff::TiffError::LimitsExceeded => VisionError::Memory { format, limit: Limits::default().memory },
        other => VisionError::Damaged { format, reason: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::super::{decode, header};
    use super::*;

    fn reference() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference")
    }

    fn picture(name: &str) -> Vec<u8> {
        fs::read(reference().join("pictures").join(name)).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Picture, VisionError> {
        decode(bytes, &Limits::default())
    }

    #[test]
    fn every_format_and_mode_has_pillows_pixels() {
        // Made by tests/reference/make_pictures.py with Pillow 13.0.
        let pixels = to_rgb(read(&fs::read(reference().join("pixels.png")).unwrap()).unwrap().rgb, 3);
        let pixels: Vec<u8> = pixels.chunks_exact(3).map(|p| p[0]).collect();
        let table = fs::read_to_string(reference().join("pixels.csv")).unwrap();
        let mut wrong = Vec::new();
        for line in table.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let number = |i: usize| cells[i].parse::<usize>().unwrap();
            let bytes = picture(cells[0]);
            let found = read(&bytes).unwrap_or_else(|e| panic!("{}: {e}", cells[0]));
            let size = (number(1), number(2));
            let header = header(&bytes, &Limits::default()).unwrap();
            if (header.width as usize, header.height as usize) != size {
                wrong.push(format!("{}: header {header:?}", cells[0]));
            }
            if (found.width as usize, found.height as usize) != size {
                wrong.push(format!("{}: {} × {}", cells[0], found.width, found.height));
                continue;
            }
            let expected = &pixels[number(3)..][..size.0 * size.1 * 3];
            let off = found.rgb.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            if usize::from(off) > number(4) {
                wrong.push(format!("{}: off by {off}", cells[0]));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_cut_off_picture_is_refused_wherever_it_is_cut() {
        for entry in fs::read_dir(reference().join("pictures")).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let whole = read(&bytes).unwrap();
            for cut in (0..16).map(|part| bytes.len() * part / 16) {
                match read(&bytes[..cut]) {
                    Err(_) => {}
                    // What is missing may be a later page, or what comes after the pixels.
                    Ok(picture) => assert_eq!(picture, whole, "{name} cut at {cut} of {}", bytes.len()),
                }
                let jpeg_or_png = name.ends_with(".jpg") || name.ends_with(".png");
                if jpeg_or_png && !name.contains("junk") {
                    assert!(read(&bytes[..cut]).is_err(), "{name} cut at {cut} of {}", bytes.len());
                }
            }
            if name.ends_with(".jpg") && !name.contains("junk") {
                assert!(read(&bytes[..bytes.len() - 1]).is_err(), "{name} without its last byte");
            }
        }
    }

    #[test]
    fn damaged_pictures_never_panic() {
        for entry in fs::read_dir(reference().join("pictures")).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let mut state = 12345u32;
            for _ in 0..40 {
                let mut damaged = bytes.clone();
                for _ in 0..1 + state % 4 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let at = state as usize % damaged.len();
                    damaged[at] ^= (state >> 24) as u8 | 1;
                }
                let limits = Limits { pixels: 1 << 16, memory: 1 << 22 };
                if let Err(VisionError::Damaged { reason, .. }) = decode(&damaged, &limits) {
                    assert!(!reason.contains("panicked"), "{reason}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_picture_says_so() {
        assert_eq!(read(b""), Err(VisionError::Empty));
        let text = read(b"once upon a time").unwrap_err().to_string();
        assert!(text.contains("\"once upo\""), "{text}");
        assert!(matches!(read(b"\xFF\xD8\xFF"), Err(VisionError::Truncated { format: Format::Jpeg })));
        assert!(read(b"GIF89a").is_err() && read(b"BM").is_err() && read(b"II*\0").is_err());
        assert!(read(b"\x89PNG\r\n\x1A\n").is_err());
    }

    #[test]
    fn bombs_are_refused_before_they_are_unpacked() {
        let large = |name: &str, width: usize, height: usize, sides: [u8; 4]| {
            let mut bytes = picture(name);
            bytes[width..width + sides.len() / 2].copy_from_slice(&sides[..2]);
            bytes[height..height + sides.len() / 2].copy_from_slice(&sides[2..]);
            bytes
        };
        // 30 000 × 30 000 as 16-bit numbers, high byte first or last.
        let (high, low) = ([0x75, 0x30, 0x75, 0x30], [0x30, 0x75, 0x30, 0x75]);
        let jpeg = picture("jpeg-444.jpg");
        let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        for (bytes, format) in [
            (large("jpeg-444.jpg", frame + 7, frame + 5, high), Format::Jpeg),
            (large("gif-plain.gif", 6, 8, low), Format::Gif),
            (large("bmp-rgb.bmp", 18, 22, low), Format::Bmp),
        ] {
            for result in [header(&bytes, &Limits::default()).map(|_| ()), read(&bytes).map(|_| ())] {
                assert!(matches!(result, Err(VisionError::TooLarge { width: 30_000, .. })), "{format}: {result:?}");
            }
        }
        let progressive = picture("jpeg-444-progressive.jpg");
        let tight = Limits { pixels: 1 << 20, memory: 1000 };
        assert!(matches!(decode(&progressive, &tight), Err(VisionError::Memory { .. })));
    }

    #[test]
    fn orientation_is_told_but_not_applied() {
        for (name, orientation) in [("jpeg-exif-6.jpg", 6), ("jpeg-444.jpg", 1), ("png-exif-6.png", 6)] {
            assert_eq!(read(&picture(name)).unwrap().orientation(), orientation, "{name}");
        }
    }
}
