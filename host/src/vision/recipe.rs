//! A recipe: how a picture becomes the numbers that a model takes.
//! What goes in: what a script asks for. What comes out: sizes, and whether it can be followed. No pixels.

use std::hash::{Hash, Hasher};

use super::VisionError;

/// The most columns or rows of a prepared picture; models take hundreds.
const MOST_SIDE: u32 = 16_384;
/// The most pixels of a prepared picture: 192 MiB of floats.
const MOST_PIXELS: u64 = 1 << 24;

/// How pixels are weighed when a picture changes size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// The nearest pixel alone.
    Nearest,
    /// Triangle, one pixel to each side.
    Bilinear,
    /// Keys' cubic with a = −½, two pixels to each side.
    Bicubic,
    /// Windowed sinc, three pixels to each side.
    Lanczos,
}

/// How a picture of other proportions is made to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Stretched to the recipe's size.
    Stretch,
    /// Its shorter side becomes this many pixels, then the centre is cut out, rounded as torchvision's `Resize` and
    /// `CenterCrop` do.
    ShorterSide(u32),
}

/// Whether a row of floats has all reds first, or each pixel's three together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// 3 × height × width.
    ChannelsFirst,
    /// Height × width × 3.
    ChannelsLast,
}

/// `(pixel × scale − mean) ÷ deviation`, by channel in the order red, green, blue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalise {
    pub(super) scale: f32,
    pub(super) mean: [f32; 3],
    pub(super) deviation: [f32; 3],
}

impl Normalise {
    fn bits(&self) -> [u32; 7] {
        let ([a, b, c], [d, e, f]) = (self.mean, self.deviation);
        [self.scale, a, b, c, d, e, f].map(f32::to_bits)
    }
}

/// How a picture becomes one row of a model's input. As made: stretched to width × height, bicubic and antialiased
/// as Pillow does it, RGB floats in [0, 255], channels first. Recipes are equal if they give the same bits.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) filter: Filter,
    pub(super) antialias: bool,
    pub(super) fit: Fit,
    pub(super) normalise: Option<Normalise>,
    pub(super) layout: Layout,
    pub(super) blue_first: bool,
    pub(super) bytes: bool,
    pub(super) upright: bool,
}

impl Recipe {
    /// A recipe for `width` × `height` pixels.
    ///
    /// # Errors
    /// If a side is outside 1 to 16 384, or there are more than 2²⁴ pixels.
    pub fn new(width: u32, height: u32) -> Result<Self, VisionError> {
        let sides = 1..=MOST_SIDE;
        if !sides.contains(&width) || !sides.contains(&height) || u64::from(width) * u64::from(height) > MOST_PIXELS {
            return Err(VisionError::Recipe(format!(
                "a recipe for {width} × {height} pixels: sides are 1 to {MOST_SIDE}, and {MOST_PIXELS} pixels the most"
            )));
        }
        Ok(Self {
            width,
            height,
            filter: Filter::Bicubic,
            antialias: true,
            fit: Fit::Stretch,
            normalise: None,
            layout: Layout::ChannelsFirst,
            blue_first: false,
            bytes: false,
            upright: false,
        })
    }

    /// Resizes with `filter`; antialiased to Pillow's numbers, else to those of `tf.image.resize` (not rounded to
    /// whole ones unless the recipe keeps bytes).
    pub fn set_filter(&mut self, filter: Filter, antialias: bool) {
        (self.filter, self.antialias) = (filter, antialias);
    }

    /// Makes other proportions fit in this way.
    pub fn set_fit(&mut self, fit: Fit) {
        self.fit = fit;
    }

    /// Floats become `(pixel × scale − mean) ÷ deviation`, by channel in the order red, green, blue, whatever order
    /// they are written in. A scale that is the nearest float to 1/n divides by n instead, as scripts that it comes
    /// from do.
    pub fn set_normalise(&mut self, scale: f32, mean: [f32; 3], deviation: [f32; 3]) {
        self.normalise = Some(Normalise { scale, mean, deviation });
    }

    /// Where channels go.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// Blue, green, red instead of red, green, blue.
    pub fn set_blue_first(&mut self) {
        self.blue_first = true;
    }

    /// Bytes as they are instead of floats.
    pub fn set_bytes(&mut self) {
        self.bytes = true;
    }

    /// Turns pictures as their camera meant them.
    pub fn set_upright(&mut self) {
        self.upright = true;
    }

    /// Whether rows are bytes instead of floats.
    pub fn keeps_bytes(&self) -> bool {
        self.bytes
    }

    /// The shape of one prepared picture.
    pub fn row_shape(&self) -> [usize; 3] {
        let (width, height) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::ChannelsFirst => [3, height, width],
            Layout::ChannelsLast => [height, width, 3],
        }
    }

    /// How many numbers one prepared picture has.
    pub fn row_len(&self) -> usize {
        self.row_shape().iter().product()
    }

    /// How many bytes one prepared picture takes.
    pub fn row_bytes(&self) -> usize {
        self.row_len() * if self.bytes { 1 } else { size_of::<f32>() }
    }

    /// Checks that what was asked for fits together, so that it can be refused before a picture is read.
    ///
    /// # Errors
    /// Names what does not.
    pub fn check(&self) -> Result<(), VisionError> {
        let wrong = |reason: String| Err(VisionError::Recipe(reason));
        if let Fit::ShorterSide(pixels) = self.fit {
            let least = self.width.max(self.height);
            if !(least..=MOST_SIDE).contains(&pixels) {
                return wrong(format!("a shorter side of {pixels} pixels: the cut needs {least} to {MOST_SIDE}"));
            }
        }
        let Some(Normalise { scale, mean, deviation }) = self.normalise else { return Ok(()) };
        if self.bytes {
            return wrong("a recipe cannot both keep bytes and normalise them".into());
        }
        let numbers = [scale].into_iter().chain(mean).chain(deviation);
        if !numbers.into_iter().all(f32::is_finite) || deviation.contains(&0.0) {
            return wrong("a recipe's scale, mean and deviation are finite, and no deviation is 0".into());
        }
        Ok(())
    }

    /// Everything that makes one recipe another, floats by their bits.
    fn key(&self) -> impl PartialEq + Hash {
        let looks = (self.width, self.height, self.filter, self.antialias, self.fit);
        let numbers = (self.normalise.map(|n| n.bits()), self.layout, self.blue_first, self.bytes, self.upright);
        (looks, numbers)
    }
}

impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Recipe {}

impl Hash for Recipe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_model_takes_are_refused() {
        for (width, height) in [(0, 1), (1, 0), (16_385, 1), (16_384, 16_384), (u32::MAX, u32::MAX)] {
            assert!(Recipe::new(width, height).is_err(), "{width} × {height}");
        }
        assert!(Recipe::new(4096, 4096).is_ok());
    }

    #[test]
    fn rows_have_the_shape_that_was_asked_for() {
        let mut recipe = Recipe::new(4, 2).unwrap();
        assert_eq!((recipe.row_shape(), recipe.row_bytes()), ([3, 2, 4], 96));
        recipe.set_layout(Layout::ChannelsLast);
        recipe.set_bytes();
        assert_eq!((recipe.row_shape(), recipe.row_bytes()), ([2, 4, 3], 24));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let with = |change: fn(&mut Recipe)| {
            let mut recipe = Recipe::new(224, 224).unwrap();
            change(&mut recipe);
            recipe.check()
        };
        assert!(with(|_| {}).is_ok());
        assert!(with(|r| r.set_normalise(1.0 / 255.0, [0.0; 3], [1.0; 3])).is_ok());
        assert!(with(|r| r.set_normalise(f32::NAN, [0.0; 3], [1.0; 3])).is_err());
        assert!(with(|r| r.set_normalise(1.0, [0.0; 3], [1.0, 0.0, 1.0])).is_err());
        assert!(with(|r| r.set_normalise(1.0, [f32::INFINITY; 3], [1.0; 3])).is_err());
        assert!(with(|r| r.set_fit(Fit::ShorterSide(256))).is_ok());
        assert!(with(|r| r.set_fit(Fit::ShorterSide(223))).is_err());
        assert!(with(|r| r.set_fit(Fit::ShorterSide(u32::MAX))).is_err());
        assert!(with(|r| (r.set_bytes(), r.set_normalise(1.0, [0.0; 3], [1.0; 3])).0).is_err());
    }

    #[test]
    fn recipes_are_equal_by_their_bits() {
        let (mut a, mut b) = (Recipe::new(8, 8).unwrap(), Recipe::new(8, 8).unwrap());
        assert_eq!(a, b);
        a.set_normalise(1.0, [0.0; 3], [1.0; 3]);
        assert_ne!(a, b);
        b.set_normalise(1.0, [-0.0; 3], [1.0; 3]);
        assert_ne!(a, b);
    }
}
