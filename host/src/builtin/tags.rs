//! The deployment's tags that the built-in scorer reads. Others are whatever their author keeps with the deployment,
//! but for those that begin with `picture_` or `table_`: a misspelt one would silently give other numbers.

use std::collections::BTreeMap;

use super::BuiltInError;
use crate::vision::Filter;

/// What the tags say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tags {
    /// `predictions`: what of the outputs becomes columns.
    pub(super) predictions: Option<Kind>,
    /// `device_batching`: the most rows that the model is given at once.
    pub(super) batch: Option<usize>,
    /// `picture_size`: width and height.
    pub(super) size: Option<(u32, u32)>,
    /// `picture_shorter_side`: what the shorter side becomes before the centre is cut out.
    pub(super) shorter_side: Option<u32>,
    /// `picture_filter`.
    pub(super) filter: Option<Filter>,
    /// `picture_scale`, `picture_mean` and `picture_deviation`: pixel × scale − mean, divided by deviation.
    pub(super) scale: Option<f32>,
    pub(super) mean: Option<[f32; 3]>,
    pub(super) deviation: Option<[f32; 3]>,
    /// `table_columns`: what goes into the model's only input, in this order.
    pub(super) columns: Option<Vec<String>>,
}

/// What of the outputs becomes columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The most likely class and its probability.
    Class,
    /// Every number.
    Values,
}

/// Every tag that is read, with what it may be.
const TAGS: [(&str, &str); 9] = [
    ("predictions", "`class` or `values`"),
    ("device_batching", "a whole number from 1 on"),
    ("picture_size", "width and height as `224x224`"),
    ("picture_shorter_side", "a whole number of pixels"),
    ("picture_filter", "`nearest`, `bilinear`, `bicubic` or `lanczos`"),
    ("picture_scale", "a number, or one divided by another as `1/255`"),
    ("picture_mean", "three numbers for red, green and blue, as `0.485, 0.456, 0.406`"),
    ("picture_deviation", "three numbers for red, green and blue, as `0.229, 0.224, 0.225`"),
    ("table_columns", "the names of the columns that the model takes, as `age, income`"),
];

/// What tags for pictures begin with.
pub(super) const PICTURE: &str = "picture_";

/// What tags for tables begin with.
pub(super) const TABLE: &str = "table_";

const PREFIXES: [&str; 2] = [PICTURE, TABLE];

impl Tags {
    /// Reads what concerns the built-in scorer.
    ///
    /// # Errors
    /// If a tag is not what it may be, or begins with a prefix of ours and is none of those that are read.
    pub(super) fn read(tags: &BTreeMap<String, String>) -> Result<Self, BuiltInError> {
        let mut read = Self::default();
        for (key, value) in tags {
            let refuse = |allowed: &str| {
                let (key, value) = (key.clone(), value.clone());
                Err(BuiltInError::Tag { key, value, allowed: allowed.to_owned() })
            };
            match TAGS.iter().find(|(known, _)| known == key) {
                Some((_, allowed)) if read.take(key, value.trim()).is_none() => return refuse(allowed),
                None => {
                    if let Some(prefix) = PREFIXES.iter().find(|prefix| key.starts_with(**prefix)) {
                        let ours = TAGS.iter().map(|(key, _)| *key).filter(|k| k.starts_with(prefix));
                        let ours = ours.collect::<Vec<_>>().join("`, `");
                        return refuse(&format!("nothing, since of tags that begin so only `{ours}` are read"));
                    }
                }
                _ => {}
            }
        }
        Ok(read)
    }

    /// Refuses tags that begin with `prefix`, which mean nothing to a model that takes `takes`.
    ///
    /// # Errors
    /// Names the first of them.
    pub(super) fn refuse(tags: &BTreeMap<String, String>, prefix: &str, takes: &str) -> Result<(), BuiltInError> {
        tags.iter().find(|(key, _)| key.starts_with(prefix)).map_or(Ok(()), |(key, value)| {
            let allowed = format!("nothing, since the model takes {takes}");
            Err(BuiltInError::Tag { key: key.clone(), value: value.clone(), allowed })
        })
    }

    fn take(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "predictions" => self.predictions = Some(kind(value)?),
            "device_batching" => self.batch = Some(value.parse().ok().filter(|&n| n > 0)?),
            "picture_size" => self.size = Some(size(value)?),
            "picture_shorter_side" => self.shorter_side = Some(value.parse().ok()?),
            "picture_filter" => self.filter = Some(filter(value)?),
            "picture_scale" => self.scale = Some(ratio(value)?),
            "picture_mean" => self.mean = Some(three(value)?),
            "picture_deviation" => self.deviation = Some(three(value)?),
            "table_columns" => self.columns = Some(columns(value)?),
            _ => unreachable!("every tag of the table is read above; this is a bug"),
        }
        Some(())
    }
}

fn kind(text: &str) -> Option<Kind> {
    match text {
        "class" => Some(Kind::Class),
        "values" => Some(Kind::Values),
        _ => None,
    }
}

fn size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(['x', '×']).unwrap_or((text, text));
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

fn filter(text: &str) -> Option<Filter> {
    match text {
        "nearest" => Some(Filter::Nearest),
        "bilinear" => Some(Filter::Bilinear),
        "bicubic" => Some(Filter::Bicubic),
        "lanczos" => Some(Filter::Lanczos),
        _ => None,
    }
}

fn number(text: &str) -> Option<f32> {
    text.trim().parse().ok().filter(|x: &f32| x.is_finite())
}

fn ratio(text: &str) -> Option<f32> {
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    Some(number(above)? / number(below)?).filter(|x| x.is_finite())
}

fn three(text: &str) -> Option<[f32; 3]> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    let numbers: Vec<f32> = text.split(',').take(4).map(number).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

fn columns(text: &str) -> Option<Vec<String>> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_sound = names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names[..i].contains(name));
    is_sound.then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &[(&str, &str)]) -> Result<Tags, String> {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Tags::read(&tags).map_err(|e| e.to_string())
    }

    #[test]
    fn tags_are_read_and_those_of_others_left_alone() {
        let tags = read(&[
            ("device_acceleration", "CUDA"),
            ("device_batching", "16"),
            ("picture_size", "320 x 240"),
            ("picture_scale", "1/255"),
            ("picture_mean", "0.5,0.4, 0.3"),
            ("predictions", "values"),
        ])
        .unwrap();
        assert_eq!((tags.batch, tags.size, tags.predictions), (Some(16), Some((320, 240)), Some(Kind::Values)));
        assert_eq!((tags.scale, tags.mean, tags.deviation), (Some(1.0 / 255.0), Some([0.5, 0.4, 0.3]), None));
        assert_eq!(read(&[("picture_size", "224")]).unwrap().size, Some((224, 224)));
    }

    #[test]
    fn wrong_tags_are_refused_with_what_they_may_be() {
        for (key, value, expected) in [
            ("predictions", "best", "`best`; allowed is `class` or `values`"),
            ("device_batching", "0", "from 1 on"),
            ("picture_size", "big", "as `224x224`"),
            ("picture_scale", "1/0", "divided by another"),
            ("picture_mean", "1, 2", "three numbers"),
            ("picture_mean", "1, 2, 3, 4", "three numbers"),
            ("picture_mean", "1, 2, NaN", "three numbers"),
            ("picture_filter", "sharp", "`lanczos`"),
            ("picture_std", "1, 1, 1", "only `picture_size`, "),
            ("table_column", "a", "only `table_columns` are read"),
            ("table_columns", "a,,b", "as `age, income`"),
            ("table_columns", "a, a", "as `age, income`"),
        ] {
            let error = read(&[(key, value)]).expect_err(key);
            assert!(error.contains(expected), "{expected}\n{error}");
        }
    }
}
