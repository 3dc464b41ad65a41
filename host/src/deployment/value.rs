//! One written value → one typed value, by the kind of its key.
//!
//! A message says what was found and what is allowed; who wrote it where is added by [`super::spec`].

use std::collections::BTreeMap;

use super::keys::Kind;
use super::yaml::{Node, Scalar, Value as Yaml};

/// A value of the type that its key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// Whole numbers, bytes and seconds.
    Integer(i64),
    Texts(BTreeMap<String, String>),
    Model(ModelReference),
    NotUsed,
}

/// What `model` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelReference {
    /// A file or folder; it may still be a registered model, `name:version`, if there is no such file.
    Path(String),
    /// A registered model and its version.
    Registered(String, String),
}

/// A value that does not fit its key: what it is, and what it may be.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) found: String,
    pub(super) allowed: String,
}

/// More than any list of tags or variables has.
const MAX_ENTRIES: usize = 256;
/// More than any name of a model, path or tag has; whole descriptions fit.
const MAX_TEXT: usize = 32 << 10;
/// What file systems take in one name.
const MAX_FILE_NAME: usize = 200;
/// Files of an output folder that a job writes besides the predictions.
const TAKEN: &[&str] = &["errors.csv", "mini_batches.csv", "job.json", "logs", "report.html"];
/// Variables that the host sets itself. Others that begin with `AZUREML_` are left alone: Azure's examples set some.
const HOST_VARIABLES: &[&str] = &["AZUREML_MODEL_DIR", "AZUREML_BI_OUTPUT_PATH"];

/// Reads `node` as `kind` asks.
pub(super) fn read(kind: Kind, node: &Node) -> Result<Value, Misfit> {
    match kind {
        Kind::NotUsed => Ok(Value::NotUsed),
        Kind::Texts => texts(node, |key, _| if key.is_empty() { Err("a name") } else { Ok(()) }).map(Value::Texts),
        Kind::Variables => texts(node, variable).map(Value::Texts),
        Kind::Model => model(node).map(Value::Model),
        _ => {
            let allowed = allowed(kind);
            let scalar = scalar(node, &allowed)?;
            read_scalar(kind, scalar).ok_or_else(|| Misfit { found: describe(node), allowed })
        }
    }
}

fn read_scalar(kind: Kind, scalar: &Scalar) -> Option<Value> {
    let text = scalar.text.as_str();
    let number = |n: Option<i64>, min, max| n.filter(|n| (min..=max).contains(n)).map(Value::Integer);
    match kind {
        Kind::Integer { min, max } => number(integer(text), min, max),
        Kind::Bytes { min, max } => number(bytes(text), min, max),
        Kind::Seconds { min, max } => number(seconds(text), min, max),
        _ => {
            let fits = match kind {
                Kind::Name => is_name(text),
                Kind::Path => !text.is_empty() && !text.contains('\0'),
                Kind::FileName => is_file_name(text),
                Kind::Choice(words) => words.contains(&text),
                _ => true,
            };
            (fits && text.len() <= MAX_TEXT).then(|| Value::Text(text.to_owned()))
        }
    }
}

/// What a kind takes, in words.
fn allowed(kind: Kind) -> String {
    match kind {
        Kind::Text => format!("text of at most {MAX_TEXT} bytes"),
        Kind::Name => "a name of 1 to 64 letters, digits, `-` and `_` that begins with a letter".to_owned(),
        Kind::Path => "a path".to_owned(),
        Kind::FileName => format!(
            "the name of a file without folders, that does not begin with `.` and is none of `{}`",
            TAKEN.join("`, `")
        ),
        Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Bytes { min, max } => {
            format!("a size from {} to {}, in bytes or as `512MiB`", size_text(min), size_text(max))
        }
        Kind::Seconds { min, max } => format!("seconds from {min} to {max}, or a duration as `PT30S`"),
        Kind::Choice(words) => format!("`{}`", words.join("`, `")),
        Kind::Texts => "a map of texts".to_owned(),
        Kind::Variables => "a map of environment variables".to_owned(),
        Kind::Model => "a path, `name@version`, or a map with `path`".to_owned(),
        Kind::NotUsed => "anything".to_owned(),
    }
}

fn scalar<'n>(node: &'n Node, allowed: &str) -> Result<&'n Scalar, Misfit> {
    match &node.value {
        Yaml::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
        _ => Err(Misfit { found: describe(node), allowed: allowed.to_owned() }),
    }
}

/// A node in a few words, for messages.
pub(super) fn describe(node: &Node) -> String {
    match &node.value {
        Yaml::List(_) => "a list".to_owned(),
        Yaml::Map(_) => "a map".to_owned(),
        Yaml::Scalar(scalar) if scalar.is_null() => "empty".to_owned(),
        Yaml::Scalar(scalar) => {
            let short: String = scalar.text.chars().take(40).collect();
            let rest = if short.len() < scalar.text.len() { "…" } else { "" };
            let number = scalar.plain && scalar.text.parse::<f64>().is_ok();
            format!("{} `{short}{rest}`", if number { "the number" } else { "the text" })
        }
    }
}

/// A map of scalars as texts, each as it is written: `yes` and `1.10` stay what a person typed.
fn texts(
    node: &Node,
    check: impl Fn(&str, &str) -> Result<(), &'static str>,
) -> Result<BTreeMap<String, String>, Misfit> {
    let entries = match &node.value {
        Yaml::Map(entries) if entries.len() <= MAX_ENTRIES => entries,
        Yaml::Scalar(scalar) if scalar.is_null() => return Ok(BTreeMap::new()),
        Yaml::Map(entries) => {
            let allowed = format!("at most {MAX_ENTRIES} entries");
            return Err(Misfit { found: format!("a map of {} entries", entries.len()), allowed });
        }
        _ => return Err(Misfit { found: describe(node), allowed: "a map of texts".to_owned() }),
    };
    let mut map = BTreeMap::new();
    for entry in entries {
        let found = || format!("a map in which `{}` is {}", entry.key, describe(&entry.value));
        let Yaml::Scalar(scalar) = &entry.value.value else {
            return Err(Misfit { found: found(), allowed: "a map of texts".to_owned() });
        };
        let text = if scalar.is_null() { String::new() } else { scalar.text.clone() };
        if text.len() > MAX_TEXT {
            return Err(Misfit { found: found(), allowed: format!("texts of at most {MAX_TEXT} bytes") });
        }
        check(&entry.key, &text).map_err(|allowed| Misfit { found: found(), allowed: allowed.to_owned() })?;
        map.insert(entry.key.clone(), text);
    }
    Ok(map)
}

fn variable(name: &str, value: &str) -> Result<(), &'static str> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !name.starts_with(first) || !name.chars().all(|c| first(c) || c.is_ascii_digit()) {
        return Err("a map whose names are letters, digits and `_`");
    }
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("SCOREHOST_") || HOST_VARIABLES.contains(&upper.as_str()) {
        return Err("any name that the host does not set itself");
    }
    if value.contains('\0') { Err("a value without a zero byte") } else { Ok(()) }
}

fn model(node: &Node) -> Result<ModelReference, Misfit> {
    let wrong = |found| Misfit { found, allowed: allowed(Kind::Model) };
    let scalar = match &node.value {
        Yaml::Scalar(scalar) if !scalar.is_null() => scalar,
        Yaml::Map(entries) => {
            // Azure's inline form; its other keys describe the model to a registry that is not asked here.
            let others = ["name", "version", "type", "description", "tags", "properties", "flavors", "path"];
            if let Some(entry) = entries.iter().find(|entry| !others.contains(&entry.key.as_str())) {
                return Err(wrong(format!("a map with the key `{}`", entry.key)));
            }
            match entries.iter().find(|entry| entry.key == "path").map(|entry| &entry.value.value) {
                Some(Yaml::Scalar(path)) if !path.is_null() => path,
                _ => return Err(wrong("a map without a `path`".to_owned())),
            }
        }
        _ => return Err(wrong(describe(node))),
    };
    let text = scalar.text.as_str();
    if text.is_empty() || text.len() > MAX_TEXT || text.contains('\0') {
        return Err(wrong(describe(node)));
    }
    if text.starts_with("azureml:") {
        let name = text.trim_start_matches("azureml:");
        return registered(name).ok_or_else(|| wrong(describe(node)));
    }
    Ok(match registered(text) {
        Some(reference) if text.contains('@') => reference,
        _ => ModelReference::Path(text.to_owned()),
    })
}

/// `name@version` or `name:version`; none for what can only be a path.
pub(super) fn registered(text: &str) -> Option<ModelReference> {
    let (name, version) = text.split_once(['@', ':'])?;
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (plain(name) && plain(version)).then(|| ModelReference::Registered(name.to_owned(), version.to_owned()))
}

fn is_name(text: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.len() <= 64 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(part)
}

fn is_file_name(text: &str) -> bool {
    // The rules of every system at once, so that a deployment works on all of them.
    let odd = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    let lower = text.to_ascii_lowercase();
    (1..=MAX_FILE_NAME).contains(&text.len())
        && !text.starts_with('.')
        && !text.ends_with(['.', ' '])
        && !text.contains(odd)
        && !TAKEN.contains(&lower.as_str())
}

/// Decimal digits with a sign; `010` is refused, since it is eight to some readers of YAML and ten to others.
fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let ambiguous = digits.len() > 1 && digits.starts_with('0');
    if plain && !ambiguous { text.parse().ok() } else { None }
}

fn bytes(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let scale: i64 = match text[end..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "TiB" | "Ti" => 1 << 40,
        _ => return None,
    };
    integer(&text[..end])?.checked_mul(scale)
}

/// A whole number, or `PT1H2M3S` with any of its parts; days and longer are no timeouts.
fn seconds(text: &str) -> Option<i64> {
    let Some(mut rest) = text.strip_prefix("PT") else { return integer(text) };
    let mut total: Option<i64> = None;
    for (unit, scale) in [('H', 3600), ('M', 60), ('S', 1)] {
        if let Some((digits, after)) = rest.split_once(unit) {
            let part = integer(digits).filter(|n| *n >= 0)?.checked_mul(scale)?;
            total = Some(total.unwrap_or(0).checked_add(part)?);
            rest = after;
        }
    }
    total.filter(|_| rest.is_empty())
}

fn size_text(bytes: i64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_or_refused() {
        let none: Option<i64> = None;
        for (text, expected) in
            [("0", Some(0)), ("-1", Some(-1)), ("+7", Some(7)), ("010", none), ("1_000", none), ("5.0", none)]
        {
            assert_eq!(integer(text), expected, "{text}");
        }
        for (text, expected) in [
            ("512MiB", Some(512 << 20)),
            ("512 MiB", Some(512 << 20)),
            ("1Gi", Some(1 << 30)),
            ("2MB", Some(2_000_000)),
            ("77", Some(77)),
            ("9223372036854775807TiB", none),
            ("MiB", none),
            ("1.5GiB", none),
            ("-1MiB", none),
            ("5 parsecs", none),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("30", Some(30)),
            ("PT30S", Some(30)),
            ("PT1M30S", Some(90)),
            ("PT2H", Some(7200)),
            ("PT", none),
            ("PT5", none),
            ("PT1S1M", none),
            ("P1D", none),
            ("PT-5S", none),
            ("30s", none),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn only_plain_file_names_pass() {
        for (name, fits) in [
            ("predictions.csv", true),
            ("my scores.txt", true),
            ("Job.JSON", false),
            ("logs", false),
            ("../x.csv", false),
            ("a\\b", false),
            (".scorehost", false),
            ("..", false),
            ("", false),
            ("x\ny", false),
            ("C:x", false),
        ] {
            assert_eq!(is_file_name(name), fits, "{name}");
        }
    }

    #[test]
    fn only_names_with_versions_are_registered_models() {
        for (text, expected) in [
            ("resnet@3", Some(("resnet", "3"))),
            ("resnet:latest", Some(("resnet", "latest"))),
            ("model", None),
            ("./a:b/c", None),
            ("a:b:c", None),
        ] {
            let expected = expected.map(|(n, v)| ModelReference::Registered(n.into(), v.into()));
            assert_eq!(registered(text), expected, "{text}");
        }
    }
}
