//! A picture and a recipe to one row of a model's input.
//! What goes in: decoded pixels, or a picture file. What comes out: floats or bytes in the recipe's order, without a
//! batch dimension. Of a JPEG file only what the recipe keeps is transformed, and its pixels are never laid out whole.

use std::cell::RefCell;

use super::picture::Part;
use super::recipe::Normalise;
use super::resample::{Axis, Plan, Row, Scratch};
use super::{Fit, Format, Layout, Limits, Picture, Recipe, VisionError, formats, guarded, jpeg, recognise};
use crate::tensor::Tensor;

/// Room for resizing that a thread keeps at most between pictures.
const KEPT_BYTES: usize = 16 << 20;

thread_local! {
    /// Room for the work of a resize: one allocation per thread instead of one per picture.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The picture's row, of shape [`Recipe::row_shape`].
///
/// # Errors
/// If the recipe cannot be followed, or the picture's proportions take too much memory.
pub fn prepare(picture: &Picture, recipe: &Recipe) -> Result<Tensor, VisionError> {
    Ok(tensor(From::Picture(picture), recipe)?.0)
}

/// The row of the picture file `bytes`, and the picture's columns and rows as stored: what [`super::decode`] and then
/// [`prepare`] make of it, in less time.
///
/// # Errors
/// As [`super::decode`] and [`prepare`].
pub fn decode_and_prepare(bytes: &[u8], limits: &Limits, recipe: &Recipe) -> Result<(Tensor, (u32, u32)), VisionError> {
    tensor(From::File(bytes, limits), recipe)
}

/// Writes the picture's row of floats to `row`, [`Recipe::row_len`] of them.
///
/// # Errors
/// If the recipe cannot be followed or keeps bytes, or `row` has another length.
pub fn prepare_floats_into(picture: &Picture, recipe: &Recipe, row: &mut [f32]) -> Result<(), VisionError> {
    floats_into(From::Picture(picture), recipe, row).map(|_| ())
}

/// Writes the row of floats of the picture file `bytes` to `row`; the picture's columns and rows as stored.
///
/// # Errors
/// As [`super::decode`] and [`prepare_floats_into`].
pub fn decode_floats_into(
    bytes: &[u8],
    limits: &Limits,
    recipe: &Recipe,
    row: &mut [f32],
) -> Result<(u32, u32), VisionError> {
    floats_into(From::File(bytes, limits), recipe, row)
}

/// Writes the picture's row of bytes to `row`, [`Recipe::row_len`] of them.
///
/// # Errors
/// If the recipe cannot be followed or does not keep bytes, or `row` has another length.
pub fn prepare_bytes_into(picture: &Picture, recipe: &Recipe, row: &mut [u8]) -> Result<(), VisionError> {
    bytes_into(From::Picture(picture), recipe, row).map(|_| ())
}

/// Where pixels come from.
#[derive(Clone, Copy)]
enum From<'a> {
    Picture(&'a Picture),
    File(&'a [u8], &'a Limits),
}

fn tensor(from: From, recipe: &Recipe) -> Result<(Tensor, (u32, u32)), VisionError> {
    let shape = recipe.row_shape().to_vec();
    let (tensor, size) = if recipe.bytes {
        let mut row = vec![0; recipe.row_len()];
        let size = bytes_into(from, recipe, &mut row)?;
        (Tensor::from_u8(shape, row), size)
    } else {
        let mut row = vec![0.0; recipe.row_len()];
        let size = floats_into(from, recipe, &mut row)?;
        (Tensor::from_f32(shape, row), size)
    };
    Ok((tensor.expect("the row was made with its shape's length; this is a bug"), size))
}

fn floats_into(from: From, recipe: &Recipe, row: &mut [f32]) -> Result<(u32, u32), VisionError> {
    check(recipe, false, row.len())?;
    let normalise = recipe.normalise.map_or(Change::None, Change::of);
    let tables = tables(recipe);
    rows(from, recipe, &mut |i, pixels| match pixels {
        Row::Bytes(rgb) => place(rgb, i, recipe, row, |value, channel| tables[channel][usize::from(value)]),
        Row::Floats(rgb) => place(rgb, i, recipe, row, |value, channel| normalise.apply(value, channel)),
    })
}

/// All that a byte can become, by channel: one look instead of a division for each pixel.
pub(super) fn tables(recipe: &Recipe) -> [[f32; 256]; 3] {
    let normalise = recipe.normalise.map_or(Change::None, Change::of);
    std::array::from_fn(|c| std::array::from_fn(|value| normalise.apply(value as f32, c)))
}

fn bytes_into(from: From, recipe: &Recipe, row: &mut [u8]) -> Result<(u32, u32), VisionError> {
    check(recipe, true, row.len())?;
    rows(from, recipe, &mut |i, pixels| match pixels {
        Row::Bytes(rgb) => place(rgb, i, recipe, row, |value, _| value),
        Row::Floats(rgb) => {
            place(rgb, i, recipe, row, |value, _| value.round_ties_even().clamp(0.0, 255.0) as u8);
        }
    })
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

/// Gives the resized picture to `emit`, row by row. The picture's columns and rows as stored.
fn rows(from: From, recipe: &Recipe, emit: &mut dyn FnMut(usize, Row)) -> Result<(u32, u32), VisionError> {
    match from {
        From::Picture(picture) => rows_of_picture(picture, recipe, emit),
        From::File(bytes, limits) => {
            let format = recognise(bytes)?;
            guarded(format, || {
                if format == Format::Jpeg
                    && let Some(size) = rows_of_jpeg(bytes, limits, recipe, emit)?
                {
                    return Ok(size);
                }
                rows_of_picture(&formats::decode(format, bytes, limits)?, recipe, emit)
            })
        }
    }
}

fn rows_of_picture(
    picture: &Picture,
    recipe: &Recipe,
    emit: &mut dyn FnMut(usize, Row),
) -> Result<(u32, u32), VisionError> {
    let size = (picture.width, picture.height);
    let upright = recipe.upright.then(|| picture.upright());
    let picture = upright.as_deref().unwrap_or(picture);
    let (x, y) = axes((picture.width as usize, picture.height as usize), recipe);
    let plan = Plan::new(recipe.filter, recipe.antialias, (&x, &y))?;
    let Part { columns, .. } = plan.part();
    run(&plan, &mut |y, rgb| picture.row(y, &columns, rgb), emit);
    Ok(size)
}

/// The same from a file, or nothing if it has to be turned first.
fn rows_of_jpeg(
    bytes: &[u8],
    limits: &Limits,
    recipe: &Recipe,
    emit: &mut dyn FnMut(usize, Row),
) -> Result<Option<(u32, u32)>, VisionError> {
    let must_turn = |orientation: u8| recipe.upright && (2..=8).contains(&orientation);
    let opened = jpeg::open(bytes, limits)?;
    if must_turn(opened.orientation()) {
        return Ok(None);
    }
    let size = opened.size();
    let (x, y) = axes(size, recipe);
    let plan = Plan::new(recipe.filter, recipe.antialias, (&x, &y))?;
    let part = plan.part();
    let planes = opened.planes(&part)?;
    // Said after the pixels began, where nobody says it.
    if must_turn(planes.orientation()) {
        return Ok(None);
    }
    let mut scratch = jpeg::Scratch::default();
    run(&plan, &mut |y, rgb| planes.row(y, &part.columns, &mut scratch, rgb), emit);
    Ok(Some((size.0 as u32, size.1 as u32)))
}

fn run(plan: &Plan, fill: &mut dyn FnMut(usize, [&mut [u8]; 3]), emit: &mut dyn FnMut(usize, Row)) {
    SCRATCH.with_borrow_mut(|scratch| {
        plan.run(scratch, fill, emit);
        if scratch.bytes() > KEPT_BYTES {
            *scratch = Scratch::default();
        }
    });
}

/// How columns and rows change, and which of them are kept.
pub(super) fn axes((from_x, from_y): (usize, usize), recipe: &Recipe) -> (Axis, Axis) {
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

/// Writes row `i` of the resized picture in the recipe's order, each number changed by `change` of it and its channel.
fn place<T: Copy, U>(rgb: [&[T]; 3], i: usize, recipe: &Recipe, row: &mut [U], change: impl Fn(T, usize) -> U) {
    let order = if recipe.blue_first { [2, 1, 0] } else { [0, 1, 2] };
    let width = rgb[0].len();
    match recipe.layout {
        Layout::ChannelsLast => {
            let [a, b, c] = order.map(|channel| rgb[channel].iter().map(move |&value| (value, channel)));
            let pixels = row[i * width * 3..][..width * 3].as_chunks_mut::<3>().0;
            for (((out, a), b), c) in pixels.iter_mut().zip(a).zip(b).zip(c) {
                *out = [a, b, c].map(|(value, channel)| change(value, channel));
            }
        }
        Layout::ChannelsFirst => {
            let plane = row.len() / 3;
            for (out, channel) in row.chunks_exact_mut(plane).zip(order) {
                for (out, &value) in out[i * width..][..width].iter_mut().zip(rgb[channel]) {
                    *out = change(value, channel);
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
            let mut recipe = Recipe::new(cut, cut).unwrap();
            recipe.set_fit(Fit::ShorterSide(side));
            let (x, y) = axes((width, height), &recipe);
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

    fn reference_pictures() -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/pictures");
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// Every filter, antialiased or not, cut from an upright picture or stretched.
    fn recipes() -> Vec<Recipe> {
        let filters = [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
        let recipe = |(i, filter): (usize, Filter)| {
            let mut recipe = Recipe::new(20, 12).unwrap();
            recipe.set_filter(filter, i & 1 == 0);
            if i & 2 == 0 {
                recipe.set_fit(Fit::ShorterSide(24));
                recipe.set_upright();
            } else {
                recipe.set_layout(Layout::ChannelsLast);
            }
            recipe
        };
        filters.into_iter().flat_map(|filter| [filter; 4]).enumerate().map(recipe).collect()
    }

    fn bits(row: &Tensor) -> Vec<u32> {
        row.f32().unwrap().iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn a_file_becomes_what_its_picture_becomes() {
        let limits = Limits::default();
        for (path, whole) in reference_pictures() {
            // Cut off in the middle, whichever way is taken finds the same wrong.
            for bytes in [&whole[..], &whole[..whole.len() / 2]] {
                let picture = super::super::decode(bytes, &limits);
                for recipe in recipes() {
                    match (decode_and_prepare(bytes, &limits, &recipe), &picture) {
                        (Ok((row, size)), Ok(picture)) => {
                            assert_eq!(size, (picture.width(), picture.height()), "{}", path.display());
                            let expected = prepare(picture, &recipe).unwrap();
                            assert_eq!(bits(&row), bits(&expected), "{recipe:?} {}", path.display());
                        }
                        (found, expected) => {
                            assert_eq!(found.as_ref().err(), expected.as_ref().err(), "{recipe:?} {}", path.display());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn wider_vectors_change_no_bit() {
        for (path, bytes) in reference_pictures() {
            for recipe in recipes() {
                let row = || decode_and_prepare(&bytes, &Limits::default(), &recipe).map(|(row, _)| bits(&row));
                assert_eq!(row(), crate::vision::wide::narrowly(row), "{recipe:?} {}", path.display());
            }
        }
    }
}
