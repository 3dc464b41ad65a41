//! A picture and a recipe to one row of a model's input.
//! What goes in: decoded pixels. What comes out: floats or bytes in the recipe's order, without a batch dimension.

use std::cell::RefCell;

use super::recipe::Normalise;
use super::resample::{self, Axis, Source};
use super::{Fit, Layout, Picture, Recipe, VisionError};
use crate::tensor::Tensor;

/// Room for resizing that a thread keeps at most between pictures.
const KEPT_BYTES: usize = 16 << 20;

thread_local! {
    /// The rows between the two passes of a resize: one allocation per thread instead of one per picture.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The picture's row, of shape [`Recipe::row_shape`].
///
/// # Errors
/// If the recipe cannot be followed, or the picture's proportions take too much memory.
pub fn prepare(picture: &Picture, recipe: &Recipe) -> Result<Tensor, VisionError> {
    let shape = recipe.row_shape().to_vec();
    let tensor = if recipe.bytes {
        let mut row = vec![0; recipe.row_len()];
        prepare_bytes_into(picture, recipe, &mut row)?;
        Tensor::from_u8(shape, row)
    } else {
        let mut row = vec![0.0; recipe.row_len()];
        prepare_floats_into(picture, recipe, &mut row)?;
        Tensor::from_f32(shape, row)
    };
    Ok(tensor.expect("the row was made with its shape's length; this is a bug"))
}

/// Writes the picture's row of floats to `row`, [`Recipe::row_len`] of them.
///
/// # Errors
/// If the recipe cannot be followed or keeps bytes, or `row` has another length.
pub fn prepare_floats_into(picture: &Picture, recipe: &Recipe, row: &mut [f32]) -> Result<(), VisionError> {
    check(recipe, false, row.len())?;
    let normalise = recipe.normalise.map_or(Change::None, Change::of);
    match resized(picture, recipe)? {
        Resized::Bytes(pixels) => {
            // All that a byte can become, by channel: one look instead of a division for each pixel.
            let tables: [[f32; 256]; 3] =
                std::array::from_fn(|c| std::array::from_fn(|value| normalise.apply(value as f32, c)));
            arrange(&pixels, recipe, row, |value, channel| tables[channel][usize::from(value)]);
        }
        Resized::Floats(pixels) => arrange(&pixels, recipe, row, |value, channel| normalise.apply(value, channel)),
    }
    Ok(())
}

/// Writes the picture's row of bytes to `row`, [`Recipe::row_len`] of them.
///
/// # Errors
/// If the recipe cannot be followed or does not keep bytes, or `row` has another length.
pub fn prepare_bytes_into(picture: &Picture, recipe: &Recipe, row: &mut [u8]) -> Result<(), VisionError> {
    check(recipe, true, row.len())?;
    match resized(picture, recipe)? {
        Resized::Bytes(pixels) => arrange(&pixels, recipe, row, |value, _| value),
        Resized::Floats(pixels) => {
            arrange(&pixels, recipe, row, |value, _| value.round_ties_even().clamp(0.0, 255.0) as u8);
        }
    }
    Ok(())
}

fn check(recipe: &Recipe, bytes: bool, length: usize) -> Result<(), VisionError> {
    recipe.check()?;
    if recipe.bytes != bytes || recipe.row_len() != length {
        let kind = if recipe.bytes { "bytes" } else { "floats" };
        return Err(VisionError::Recipe(format!("the recipe makes {} {kind}", recipe.row_len())));
    }
    Ok(())
}

/// The arithmetic of a [`Normalise`], by channel in the order red, green, blue.
#[derive(Clone, Copy)]
enum Change {
    None,
    /// Multiplies by the scale.
    Scale(Normalise),
    /// Divides by this instead: the scale is the nearest float to its inverse.
    Divide(f32, Normalise),
}

impl Change {
    fn of(normalise: Normalise) -> Self {
        let divisor = (1.0 / normalise.scale).round();
        if divisor.is_finite() && divisor >= 2.0 && 1.0 / divisor == normalise.scale {
            Change::Divide(divisor, normalise)
        } else {
            Change::Scale(normalise)
        }
    }

    fn apply(&self, value: f32, channel: usize) -> f32 {
        match self {
            Change::None => value,
            Change::Scale(n) => (value * n.scale - n.mean[channel]) / n.deviation[channel],
            Change::Divide(by, n) => (value / by - n.mean[channel]) / n.deviation[channel],
        }
    }
}

/// Interleaved RGB of the recipe's size.
enum Resized {
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

fn resized(picture: &Picture, recipe: &Recipe) -> Result<Resized, VisionError> {
    let upright = recipe.upright.then(|| picture.upright());
    let picture = upright.as_deref().unwrap_or(picture);
    let (x, y) = axes(picture, recipe);
    let source = Source { rgb: &picture.rgb, width: picture.width as usize };
    if !recipe.antialias {
        return Ok(Resized::Floats(resample::interpolated(source, recipe.filter, (&x, &y))?));
    }
    let pixels = SCRATCH.with_borrow_mut(|scratch| {
        let pixels = resample::antialiased(source, recipe.filter, (&x, &y), scratch);
        if scratch.capacity() > KEPT_BYTES {
            *scratch = Vec::new();
        }
        pixels
    })?;
    Ok(Resized::Bytes(pixels))
}

/// How columns and rows change, and which of them are kept.
fn axes(picture: &Picture, recipe: &Recipe) -> (Axis, Axis) {
    let (from_x, from_y) = (picture.width as usize, picture.height as usize);
    let (width, height) = (recipe.width as usize, recipe.height as usize);
    let Fit::ShorterSide(side) = recipe.fit else {
        let axis = |from, to| Axis { from, to, part: 0..to };
        return (axis(from_x, width), axis(from_y, height));
    };
    let side = side as usize;
    let shorter = from_x.min(from_y);
    // The longer side is rounded down, and the cut's corner to the nearest even number where it is half a pixel.
    let scaled = |from: usize| if from == shorter { side } else { from * side / shorter };
    let corner = |all: usize, cut: usize| ((all - cut) as f64 / 2.0).round_ties_even() as usize;
    let axis = |from: usize, cut: usize| {
        let to = scaled(from);
        let start = corner(to, cut);
        Axis { from, to, part: start..start + cut }
    };
    (axis(from_x, width), axis(from_y, height))
}

/// Writes interleaved RGB in the recipe's order, each number changed by `change` of it and its channel.
fn arrange<T: Copy, U>(pixels: &[T], recipe: &Recipe, row: &mut [U], change: impl Fn(T, usize) -> U) {
    let order = if recipe.blue_first { [2, 1, 0] } else { [0, 1, 2] };
    let pixels = pixels.as_chunks::<3>().0;
    match recipe.layout {
        Layout::ChannelsLast => {
            for (out, pixel) in row.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                *out = order.map(|channel| change(pixel[channel], channel));
            }
        }
        Layout::ChannelsFirst => {
            for (out, channel) in row.chunks_exact_mut(pixels.len()).zip(order) {
                for (out, pixel) in out.iter_mut().zip(pixels) {
                    *out = change(pixel[channel], channel);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Filter;

    /// One row: red, green, blue.
    fn three() -> Picture {
        Picture::new(3, 1, vec![255, 0, 0, 0, 254, 0, 0, 0, 253]).unwrap()
    }

    fn with(change: impl FnOnce(&mut Recipe)) -> Recipe {
        let mut recipe = Recipe::new(3, 1).unwrap();
        change(&mut recipe);
        recipe
    }

    #[test]
    fn channels_go_where_the_recipe_says() {
        let bytes = |recipe: &Recipe| prepare(&three(), recipe).unwrap().u8().unwrap().to_vec();
        assert_eq!(bytes(&with(Recipe::set_bytes)), [255, 0, 0, 0, 254, 0, 0, 0, 253]);
        let blue = with(|r| (r.set_bytes(), r.set_blue_first()).0);
        assert_eq!(bytes(&blue), [0, 0, 253, 0, 254, 0, 255, 0, 0]);
        let last = with(|r| (r.set_bytes(), r.set_blue_first(), r.set_layout(Layout::ChannelsLast)).0);
        assert_eq!(bytes(&last), [0, 0, 255, 0, 254, 0, 253, 0, 0]);
    }

    #[test]
    fn floats_are_normalised_by_their_own_channel() {
        let (mean, deviation) = ([0.5, 0.25, 0.125], [0.5, 0.25, 2.0]);
        let recipe = with(|r| (r.set_normalise(1.0 / 255.0, mean, deviation), r.set_blue_first()).0);
        let row = prepare(&three(), &recipe).unwrap();
        let red = [1.0, -1.0, -1.0];
        let green = [-1.0, (254.0f32 / 255.0 - 0.25) / 0.25, -1.0];
        let blue = [-0.0625, -0.0625, (253.0f32 / 255.0 - 0.125) / 2.0];
        assert_eq!(row.f32().unwrap(), [blue, green, red].concat());
        assert_eq!(row.shape(), [3, 1, 3]);
    }

    #[test]
    fn the_centre_is_cut_as_torchvision_cuts_it() {
        // torchvision 0.20: Resize(shorter) then CenterCrop(cut) of pictures of these sizes; the first kept column
        // and row, and the size in between.
        for ((width, height), side, cut, (to_x, start_x), (to_y, start_y)) in [
            ((500, 375), 256, 224, (341, 58), (256, 16)),
            ((375, 500), 256, 224, (256, 16), (341, 58)),
            ((333, 500), 256, 225, (256, 16), (384, 80)),
            ((100, 100), 33, 32, (33, 0), (33, 0)),
            ((100, 101), 35, 32, (35, 2), (35, 2)),
        ] {
            let picture = Picture::new(width, height, vec![0; (width * height * 3) as usize]).unwrap();
            let mut recipe = Recipe::new(cut, cut).unwrap();
            recipe.set_fit(Fit::ShorterSide(side));
            let (x, y) = axes(&picture, &recipe);
            let cut = cut as usize;
            assert_eq!((x.to, x.part), (to_x, start_x..start_x + cut), "{width} × {height}");
            assert_eq!((y.to, y.part), (to_y, start_y..start_y + cut), "{width} × {height}");
        }
    }

    #[test]
    fn rows_of_another_kind_or_length_are_refused() {
        let picture = three();
        assert!(prepare_floats_into(&picture, &with(|_| {}), &mut [0.0; 8]).is_err());
        assert!(prepare_floats_into(&picture, &with(Recipe::set_bytes), &mut [0.0; 9]).is_err());
        assert!(prepare_bytes_into(&picture, &with(|_| {}), &mut [0; 9]).is_err());
        assert!(prepare_floats_into(&picture, &with(|r| r.set_fit(Fit::ShorterSide(2))), &mut [0.0; 9]).is_err());
    }

    #[test]
    fn extreme_proportions_can_be_prepared() {
        let long = Picture::new(1, 4000, vec![200; 12_000]).unwrap();
        for filter in [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for antialias in [true, false] {
                let recipe = with(|r| (r.set_filter(filter, antialias), r.set_fit(Fit::ShorterSide(3))).0);
                let row = prepare(&long, &recipe).unwrap();
                assert!(row.f32().unwrap().iter().all(|x| (x - 200.0).abs() < 0.01), "{filter:?} {antialias}");
            }
        }
    }
}
