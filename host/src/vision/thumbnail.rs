//! A picture small enough to be shown in a page.

use std::io::Cursor;

use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;

use super::{Filter, Fit, Limits, Recipe, VisionError};

/// Good enough to recognise a picture by, at a few kilobytes.
const QUALITY: u8 = 80;

/// The picture file `bytes` as a JPEG of `side` × `side` pixels, its centre cut out, upright.
///
/// # Errors
/// As [`super::decode`].
pub fn thumbnail(bytes: &[u8], side: u32, limits: &Limits) -> Result<Vec<u8>, VisionError> {
    let picture = super::decode(bytes, limits)?;
    let mut recipe = Recipe::new(side, side)?;
    recipe.set_filter(Filter::Bicubic, true);
    recipe.set_fit(Fit::ShorterSide(side));
    recipe.set_layout(super::Layout::ChannelsLast);
    recipe.set_bytes();
    recipe.set_upright();
    let mut pixels = vec![0; recipe.row_len()];
    super::prepare_bytes_into(&picture, &recipe, &mut pixels)?;
    let mut jpeg = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode(&pixels, side, side, ExtendedColorType::Rgb8)
        .map_err(|e| VisionError::Recipe(format!("the thumbnail cannot be encoded: {e}")))?;
    Ok(jpeg.into_inner())
}
