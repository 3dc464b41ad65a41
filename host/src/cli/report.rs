//! `report.html`: what a job did, as one page that opens without a network.
//!
//! What goes in: the record, the pictures worth showing and the tables of a job that has ended. What comes out: HTML
//! with everything inside it. File names, labels and messages are strangers' words: the template escapes each, and the
//! page forbids itself scripts and every request. Nothing here reads or writes a file.

use std::collections::BTreeMap;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReportData {
    /// The job's name.
    pub(crate) title: String,
    /// How it ended, by the contract's name: `Completed`, `Failed`, `Canceled`.
    pub(crate) state: String,
    /// Why it did not complete; empty if it did.
    pub(crate) reason: String,
    /// The few numbers that matter most, each with its name: `("files/s", "412.8")`.
    pub(crate) figures: Vec<Field>,
    /// The device that models ran on, in words, and why it was that one.
    pub(crate) device: String,
    /// See `device`.
    pub(crate) device_reason: String,
    /// The rest of the record.
    pub(crate) fields: Vec<Field>,
    /// Pictures, in the order they are shown; the first [`MAX_ITEMS`] are.
    pub(crate) items: Vec<Item>,
    /// How many rows each class has, in any order. Without it there is no chart.
    pub(crate) histogram: Vec<Class>,
    /// The files that failed; the first [`MAX_ERRORS`] are shown.
    pub(crate) errors: Vec<ErrorLine>,
    /// The mini-batches, in plan order.
    pub(crate) timings: Vec<Timing>,
}

/// A name and its value.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A picture and what was found in it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) file: String,
    pub(crate) label: String,
    /// From 0 to 1, where the script gives one.
    pub(crate) probability: Option<f64>,
    /// A small JPEG; may be empty.
    pub(crate) thumbnail_jpeg: Vec<u8>,
}

/// A class and its rows.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) label: String,
    pub(crate) count: u64,
}

/// One row of `errors.csv`.
#[derive(Clone, Debug)]
pub(crate) struct ErrorLine {
    pub(crate) file: String,
    pub(crate) mini_batch: u64,
    pub(crate) attempts: u32,
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// How long one mini-batch took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) seconds: f64,
    pub(crate) device_seconds: f64,
    pub(crate) attempts: u32,
}

/// More pictures than this make a page that browsers are slow to open: at 10 KB each, 5 MB.
pub(crate) const MAX_ITEMS: usize = 500;
/// More errors are read in `errors.csv`.
pub(crate) const MAX_ERRORS: usize = 200;
/// More classes are summed up as one.
const MAX_CLASSES: usize = 20;
/// More columns than this cannot be told apart; mini-batches share one then, and the slowest counts.
const MAX_BARS: usize = 100;
/// Height of the chart of timings, in its own units.
const CHART_HEIGHT: f64 = 100.0;

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    data: &'a ReportData,
    gallery: Vec<Tile<'a>>,
    classes: Vec<Bar>,
    errors: &'a [ErrorLine],
    chart: Option<Chart>,
}

/// One picture of the gallery.
struct Tile<'a> {
    file: &'a str,
    label: &'a str,
    /// `97.3 %`, and the same as a width.
    percent: Option<String>,
    picture: Option<String>,
}

/// One bar of the histogram.
struct Bar {
    label: String,
    count: u64,
    /// Of the longest bar, in percent; none for what sums up many, which would dwarf the others.
    width: Option<String>,
    /// Of all rows.
    share: String,
}

/// The chart of timings.
struct Chart {
    columns: Vec<Column>,
    /// One unit for each column.
    width: usize,
    /// How many mini-batches share a column.
    each: usize,
    slowest: String,
    median: String,
    total: String,
    /// Of the time, what models took on their device, in percent.
    device_share: String,
    retried: usize,
}

/// One column of it; `top` and `device_top` are from the chart's upper edge.
struct Column {
    x: usize,
    top: f64,
    height: f64,
    device_top: f64,
    device_height: f64,
    text: String,
}

/// The page, as HTML.
///
/// # Errors
/// If the template fails, which it does only when memory runs out.
pub(crate) fn render(data: &ReportData) -> Result<String, askama::Error> {
    let gallery = data.items.iter().take(MAX_ITEMS).map(tile).collect();
    let errors = &data.errors[..data.errors.len().min(MAX_ERRORS)];
    Page { data, gallery, classes: bars(&data.histogram), errors, chart: chart(&data.timings) }.render()
}

fn tile(item: &Item) -> Tile<'_> {
    let probability = item.probability.filter(|p| p.is_finite()).map(|p| p.clamp(0.0, 1.0));
    let encode = |jpeg: &Vec<u8>| format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
    Tile {
        file: &item.file,
        label: &item.label,
        percent: probability.map(percent),
        picture: Some(&item.thumbnail_jpeg).filter(|jpeg| !jpeg.is_empty()).map(encode),
    }
}

/// The largest classes, largest first, equal ones by name; what is left is one bar.
fn bars(histogram: &[Class]) -> Vec<Bar> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for class in histogram {
        let sum = sums.entry(&class.label).or_default();
        *sum = sum.saturating_add(class.count);
    }
    let mut classes: Vec<(String, u64)> = sums.into_iter().map(|(label, count)| (label.to_owned(), count)).collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let summed = classes.len() > MAX_CLASSES;
    if summed {
        let others = classes.split_off(MAX_CLASSES - 1);
        let count = others.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
        classes.push((format!("{} other classes", others.len()), count));
    }
    let all: u64 = classes.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count));
    let longest = classes.first().map_or(0, |(_, count)| *count);
    let bar = |(i, (label, count))| Bar {
        label,
        count,
        width: (!summed || i < MAX_CLASSES - 1).then(|| percent(ratio(count, longest))),
        share: percent(ratio(count, all)),
    };
    classes.into_iter().enumerate().map(bar).collect()
}

fn chart(timings: &[Timing]) -> Option<Chart> {
    // A clock that was set back, or a damaged table, must not bend the chart.
    let clean = |seconds: f64| if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    let mut sorted: Vec<f64> = timings.iter().map(|t| clean(t.seconds)).collect();
    sorted.sort_by(f64::total_cmp);
    let slowest = *sorted.last()?;
    let scale = if slowest > 0.0 { CHART_HEIGHT / slowest } else { 0.0 };
    let each = timings.len().div_ceil(MAX_BARS);
    let column = |(x, shared): (usize, &[Timing])| {
        let worst = shared.iter().max_by(|a, b| clean(a.seconds).total_cmp(&clean(b.seconds)));
        let worst = worst.expect("chunks are never empty; this is a bug");
        let (seconds, device) = (clean(worst.seconds), clean(worst.device_seconds).min(clean(worst.seconds)));
        let (height, device_height) = (seconds * scale, device * scale);
        let first = x * each;
        let name =
            if shared.len() == 1 { format!("{first}") } else { format!("{first} to {}", first + shared.len() - 1) };
        let text = format!("mini-batch {name}: {}, {} on the device", duration(seconds), duration(device));
        Column { x, top: CHART_HEIGHT - height, height, device_top: CHART_HEIGHT - device_height, device_height, text }
    };
    let columns: Vec<Column> = timings.chunks(each).enumerate().map(column).collect();
    let (total, device) =
        timings.iter().fold((0.0, 0.0), |(all, dev), t| (all + clean(t.seconds), dev + clean(t.device_seconds)));
    Some(Chart {
        width: columns.len(),
        columns,
        each,
        slowest: duration(slowest),
        median: duration(sorted[sorted.len() / 2]),
        total: duration(total),
        device_share: percent(if total > 0.0 { (device / total).min(1.0) } else { 0.0 }),
        retried: timings.iter().filter(|t| t.attempts > 1).count(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "for widths and percentages of one decimal")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else if seconds < 120.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(label: &str) -> Item {
        Item { file: "a.jpg".into(), label: label.into(), probability: Some(0.973), thumbnail_jpeg: vec![1, 2, 3] }
    }

    #[test]
    fn the_words_of_strangers_stay_words() {
        let evil = "\"><script>alert('x')</script>&amp;";
        let field = || Field { name: evil.into(), value: evil.into() };
        let data = ReportData {
            title: evil.into(),
            state: evil.into(),
            reason: evil.into(),
            figures: vec![field()],
            device: evil.into(),
            device_reason: evil.into(),
            fields: vec![field()],
            items: vec![Item { file: evil.into(), ..item(evil) }],
            histogram: vec![Class { label: evil.into(), count: 1 }],
            errors: vec![ErrorLine {
                file: evil.into(),
                mini_batch: 1,
                attempts: 1,
                kind: evil.into(),
                message: evil.into(),
            }],
            timings: vec![],
        };
        let page = render(&data).unwrap();
        assert!(!page.contains("<script") && !page.contains("alert('x')"));
        assert!(page.matches("&#60;script&#62;").count() >= 13, "every field is shown");
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is fetched");
    }

    #[test]
    fn classes_are_summed_sorted_and_bounded() {
        let class = |i: u64| Class { label: format!("class {:03}", i % 30), count: i % 30 };
        let bars = bars(&(0..60).map(class).collect::<Vec<_>>());
        assert_eq!(bars.len(), MAX_CLASSES);
        assert_eq!((bars[0].label.as_str(), bars[0].count, bars[0].width.as_deref()), ("class 029", 58, Some("100.0")));
        assert_eq!((bars[19].label.as_str(), bars[19].count, &bars[19].width), ("11 other classes", 110, &None));
        assert!(super::bars(&[]).is_empty());
        assert_eq!(super::bars(&[Class { label: String::new(), count: 0 }])[0].width.as_deref(), Some("0.0"));
    }

    #[test]
    fn the_chart_holds_any_number_of_mini_batches_and_any_numbers() {
        assert!(chart(&[]).is_none());
        let timing = |seconds, device_seconds| Timing { seconds, device_seconds, attempts: 2 };
        let odd = chart(&[timing(f64::NAN, 1.0), timing(-1.0, f64::INFINITY), timing(0.0, 0.0)]).unwrap();
        assert!(odd.columns.iter().all(|c| c.height == 0.0 && c.device_height == 0.0));
        let many: Vec<Timing> = (0..2050).map(|i| timing(f64::from(i), 1e9)).collect();
        let many = chart(&many).unwrap();
        assert_eq!((many.columns.len(), many.each, many.retried), (98, 21, 2050));
        assert_eq!(many.columns[0].text, "mini-batch 0 to 20: 20.00 s, 20.00 s on the device");
        assert!(many.columns.iter().all(|c| c.top >= 0.0 && c.device_height <= c.height && c.height <= CHART_HEIGHT));
    }

    #[test]
    fn long_lists_are_cut_and_say_so() {
        let error =
            ErrorLine { file: "f".into(), mini_batch: 0, attempts: 1, kind: "trap".into(), message: "m".into() };
        let data = ReportData { items: vec![item("cat"); 600], errors: vec![error; 300], ..ReportData::default() };
        let page = render(&data).unwrap();
        assert_eq!(page.matches("<figure").count(), 500);
        assert!(page.contains("The first 500 of 600 pictures.") && page.contains("The first 200 of 300 errors"));
    }

    #[test]
    fn a_job_without_anything_is_a_page_too() {
        let page = render(&ReportData::default()).unwrap();
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    }
}
