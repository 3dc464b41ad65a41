//! Pictures for a model: its only input → a recipe, and how many go into the model at once.

mod score;

pub(super) use score::score;

use super::BuiltInError;
use super::tags::Tags;
use crate::infer::{Port, element_name, shape_text};
use crate::tensor::Element;
use crate::vision::{Filter, Fit, Layout, Recipe};

/// What the names of picture files end with.
pub(super) const ENDINGS: &[&str] = &["png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif"];

/// Bytes of pictures that the model is given at once: a hundred at 224×224, so that a device has enough to do and the
/// next ones are made meanwhile.
const BATCH_BYTES: usize = 64 << 20;
/// And their number, for models of small pictures.
const BATCH_ROWS: usize = 256;

/// How a model's pictures are made.
#[derive(Clone)]
pub(super) struct Pictures {
    pub(super) recipe: Recipe,
    /// The size of the input's first dimension, where it is fixed.
    pub(super) fixed: Option<usize>,
    /// The most rows at once.
    rows: usize,
    text: String,
}

impl Pictures {
    /// What `inputs` ask for: size and layout, bytes where they take bytes, else floats in [0, 1], or as tags say.
    ///
    /// # Errors
    /// If they are not one batch of RGB pictures, or its size is open.
    pub(super) fn new(inputs: &[Port], tags: &Tags) -> Result<Self, BuiltInError> {
        let takes = || inputs.iter().map(port_text).collect::<Vec<_>>().join(", ");
        let refuse = || BuiltInError::Inputs { takes: takes() };
        let [input] = inputs else { return Err(refuse()) };
        let (height, width, layout) = match *input.shape.as_slice() {
            [_, Some(3), height, width] => (height, width, Layout::ChannelsFirst),
            [_, height, width, Some(3)] => (height, width, Layout::ChannelsLast),
            _ => return Err(refuse()),
        };
        let (width, height) = picture_size(input, width, height, tags)?;
        let mut recipe = Recipe::new(width, height).map_err(|e| BuiltInError::Outputs(e.to_string()))?;
        recipe.set_layout(layout);
        let has_numbers = tags.scale.is_some() || tags.mean.is_some() || tags.deviation.is_some();
        match input.element {
            Element::U8 if has_numbers => {
                let allowed = "nothing, since the model takes the pixels' bytes as they are".to_owned();
                return Err(BuiltInError::Tag {
                    key: "picture_scale, _mean, _deviation".into(),
                    value: "…".into(),
                    allowed,
                });
            }
            Element::U8 => recipe.set_bytes(),
            Element::F32 => {
                let (mean, deviation) = (tags.mean.unwrap_or([0.0; 3]), tags.deviation.unwrap_or([1.0; 3]));
                recipe.set_normalise(tags.scale.unwrap_or(1.0 / 255.0), mean, deviation);
            }
            Element::I64 => return Err(refuse()),
        }
        if let Some(filter) = tags.filter {
            recipe.set_filter(filter, true);
        }
        if let Some(side) = tags.shorter_side {
            recipe.set_fit(Fit::ShorterSide(side));
        }
        recipe.check().map_err(|e| BuiltInError::Outputs(e.to_string()))?;
        let fixed = super::fixed_rows(input)?;
        let rows = tags.batch.unwrap_or(BATCH_ROWS);
        Ok(Self { text: text(&recipe, input.element, layout, tags), recipe, fixed, rows })
    }

    /// How many pictures the model is given at once, where an instance may hold so many bytes.
    pub(super) fn batch(&self, limit: usize) -> usize {
        // A quarter, since three batches are on their way at the same time.
        let bytes = BATCH_BYTES.min(limit / 4);
        self.fixed.unwrap_or_else(|| self.rows.min(bytes / self.recipe.row_bytes().max(1)).max(1))
    }

    pub(super) fn describe(&self) -> &str {
        &self.text
    }
}

fn port_text(port: &Port) -> String {
    format!("`{}`: {} {}", port.name, shape_text(&port.shape), element_name(port.element))
}

/// The size that the input has, the tag gives, or both agree on.
fn picture_size(
    input: &Port,
    width: Option<usize>,
    height: Option<usize>,
    tags: &Tags,
) -> Result<(u32, u32), BuiltInError> {
    let side = |fixed: Option<usize>, tag: Option<u32>| match fixed {
        None => tag,
        Some(n) => u32::try_from(n).ok().filter(|n| tag.is_none_or(|tag| tag == *n)),
    };
    match (side(width, tags.size.map(|s| s.0)), side(height, tags.size.map(|s| s.1)), tags.size) {
        (Some(width), Some(height), _) => Ok((width, height)),
        (_, _, Some((width, height))) => Err(BuiltInError::Tag {
            key: "picture_size".into(),
            value: format!("{width}x{height}"),
            allowed: format!("what the model takes, {}", shape_text(&input.shape)),
        }),
        _ => Err(BuiltInError::Size(input.name.clone())),
    }
}

fn text(recipe: &Recipe, element: Element, layout: Layout, tags: &Tags) -> String {
    let [a, b, c] = recipe.row_shape();
    let (width, height) = if layout == Layout::ChannelsFirst { (c, b) } else { (b, a) };
    let filter = match tags.filter.unwrap_or(Filter::Bicubic) {
        Filter::Nearest => "nearest",
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
        Filter::Lanczos => "Lanczos",
    };
    let fit = match tags.shorter_side {
        None => format!("resized to {width}×{height} ({filter}, antialiased)"),
        Some(side) => {
            format!("resized to {side} on the shorter side ({filter}, antialiased), cut to {width}×{height}")
        }
    };
    let numbers = match (element, tags.scale, tags.mean, tags.deviation) {
        (Element::U8, ..) => "bytes".to_owned(),
        (_, None, None, None) => "floats in [0, 1]".to_owned(),
        (_, scale, mean, deviation) => format!(
            "floats (pixel × {} − {:?}) ÷ {:?}",
            scale.map_or_else(|| "1/255".to_owned(), |x| x.to_string()),
            mean.unwrap_or([0.0; 3]),
            deviation.unwrap_or([1.0; 3]),
        ),
    };
    let order = if layout == Layout::ChannelsFirst { "channels first" } else { "channels last" };
    format!("pictures: {fit}, RGB, {numbers}, {order}")
}
