//! A picture's file: decoded and prepared by each way that there is to the same numbers, or refused in words by all.
#![no_main]

use libfuzzer_sys::fuzz_target;
use scorehost::vision::{
    Filter, Fit, Layout, Limits, Recipe, decode, decode_and_prepare, header, prepare, prepare_bytes_into, split,
    thumbnail,
};

/// Small enough for thousands of pictures a second, large enough for every path.
const LIMITS: Limits = Limits { pixels: 1 << 16, memory: 16 << 20 };

fuzz_target!(init: scorehost_fuzz::prepare(), |bytes: &[u8]| {
    let recipe = recipe(bytes);
    let size = header(bytes, &LIMITS).ok().map(|header| (header.width, header.height));
    let at_once = decode_and_prepare(bytes, &LIMITS, &recipe);
    let _ = thumbnail(bytes, 16, &LIMITS);
    let _ = split(bytes, &LIMITS, &recipe);
    let picture = match decode(bytes, &LIMITS) {
        Ok(picture) => picture,
        Err(error) => {
            assert!(at_once.is_err(), "decoding failed with {error}, decoding and preparing at once did not");
            return;
        }
    };
    assert_eq!(size, Some((picture.width(), picture.height())), "the header says the size");
    let in_steps = prepare(&picture, &recipe);
    match (at_once, in_steps) {
        (Ok((one, at_once)), Ok(other)) => {
            assert_eq!(size, Some(at_once), "the size does not depend on who asks first");
            assert_eq!(one.shape(), other.shape());
            let bits = |x: Option<&[f32]>| x.map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
            assert_eq!((one.u8(), bits(one.f32())), (other.u8(), bits(other.f32())));
            if let Some(row) = other.u8() {
                let mut into = vec![0; recipe.row_len()];
                prepare_bytes_into(&picture, &recipe, &mut into).expect("it was prepared before");
                assert_eq!(row, into);
            }
        }
        (one, other) => assert_eq!(one.err(), other.err()),
    }
});

/// A recipe that depends on the input's last byte alone, so that the others can be a whole file.
fn recipe(bytes: &[u8]) -> Recipe {
    let choice = bytes.last().copied().unwrap_or_default();
    let is = |bit: u8| choice >> bit & 1 == 1;
    let (width, height) = if is(0) { (24, 24) } else { (33, 7) };
    let mut recipe = Recipe::new(width, height).expect("a size that is taken");
    let filter = [Filter::Nearest, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos][usize::from(choice >> 1 & 3)];
    recipe.set_filter(filter, is(3));
    if is(4) {
        recipe.set_fit(Fit::ShorterSide(40));
    }
    if is(5) {
        recipe.set_upright();
    }
    if is(6) {
        recipe.set_layout(Layout::ChannelsLast);
        recipe.set_blue_first();
    }
    if is(7) {
        recipe.set_bytes();
    } else {
        recipe.set_normalise(1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    }
    recipe
}
