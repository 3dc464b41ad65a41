//! Every key of a deployment, with what it takes and what it is without it: the one place these are written.

/// Where a key may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// At the root.
    Root,
    /// Under `settings`, or, in Azure's older layout, at the root.
    Settings,
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Any text.
    Text,
    /// Letters, digits, `-` and `_`: a name that is safe in paths and addresses.
    Name,
    /// A path, taken from the folder of the deployment file.
    Path,
    /// The plain name of a file, which is none of those a job writes besides.
    FileName,
    /// A whole number.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// Bytes: a whole number, or one with a unit, as `512MiB`.
    Bytes {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// Seconds: a whole number, or a duration as Azure's REST writes it, `PT30S`.
    Seconds {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A map of texts.
    Texts,
    /// A map of environment variables.
    Variables,
    /// A path, `name@version`, or a map with `path`.
    Model,
    /// Whatever it is, it is reported as not used.
    NotUsed,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its full name, without `settings.`.
    pub name: &'static str,
    /// Where it may be.
    pub level: Level,
    /// What it takes.
    pub kind: Kind,
    /// What it is when it is not written, in the same words; none is nothing.
    pub default: Option<&'static str>,
}

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

const fn root(name: &'static str, kind: Kind) -> Key {
    Key { name, level: Level::Root, kind, default: None }
}

const fn setting(name: &'static str, kind: Kind, default: Option<&'static str>) -> Key {
    Key { name, level: Level::Settings, kind, default }
}

/// The keys. Names, defaults and bounds of the first dozen settings are Azure's.
pub const KEYS: &[Key] = &[
    root("$schema", Kind::NotUsed),
    root("name", Kind::Name),
    root("endpoint_name", Kind::Name),
    Key { default: Some("model"), ..root("type", Kind::Choice(&["model", "pipeline"])) },
    root("description", Kind::Text),
    root("tags", Kind::Texts),
    root("properties", Kind::NotUsed),
    root("model", Kind::Model),
    root("code_configuration.code", Kind::Path),
    root("code_configuration.scoring_script", Kind::Path),
    root("environment", Kind::NotUsed),
    root("compute", Kind::NotUsed),
    Key { default: Some("1"), ..root("resources.instance_count", Kind::Integer { min: 1, max: 10_000 }) },
    // One `run` names all its files at once, so a million keeps its arguments in tens of megabytes.
    setting("mini_batch_size", Kind::Integer { min: 1, max: 1_000_000 }, Some("10")),
    // As many as the script host keeps room for.
    setting("max_concurrency_per_instance", Kind::Integer { min: 1, max: 256 }, Some("1")),
    setting("error_threshold", Kind::Integer { min: -1, max: i32::MAX as i64 }, Some("-1")),
    setting("retry_settings.max_retries", Kind::Integer { min: 0, max: 1000 }, Some("3")),
    // Three days, the most that Azure's own runs may last.
    setting("retry_settings.timeout", Kind::Seconds { min: 1, max: 259_200 }, Some("30")),
    setting("output_action", Kind::Choice(&["append_row", "summary_only"]), Some("append_row")),
    // Without it: `predictions.` and the ending of `output_format`.
    setting("output_file_name", Kind::FileName, None),
    setting("logging_level", Kind::Choice(&["warning", "info", "debug"]), Some("info")),
    setting("environment_variables", Kind::Variables, None),
    setting("output_format", Kind::Choice(&["azure", "csv", "jsonl", "parquet"]), Some("azure")),
    setting("device", Kind::Choice(&["auto", "gpu", "cpu", "onnxruntime"]), Some("auto")),
    // Whether a script's clocks stand still, but for what it does itself, so that every run gives the same rows.
    setting("deterministic", Kind::Choice(&["false", "true"]), Some("false")),
    // Of one instance; 4 GiB is all that 32-bit WebAssembly can address.
    setting("limits.memory", Kind::Bytes { min: MIB, max: 4 * GIB }, Some("1GiB")),
    setting("limits.table_elements", Kind::Integer { min: 1, max: 200_000 }, Some("100000")),
    // Of one attempt.
    setting("limits.log_bytes", Kind::Bytes { min: 0, max: GIB }, Some("1MiB")),
    // Of one mini-batch; row numbers are 32 bits wide.
    setting("limits.output_rows", Kind::Integer { min: 1, max: 100_000_000 }, Some("1000000")),
    setting("limits.output_bytes", Kind::Bytes { min: KIB, max: 4 * GIB }, Some("256MiB")),
    // Files that a script writes itself in one mini-batch: four times what its rows may take, and nothing to a disk.
    setting("limits.file_bytes", Kind::Bytes { min: KIB, max: 1024 * GIB }, Some("1GiB")),
    // In all of them: a disk of an ordinary machine holds as much, and a larger result can be asked for, also later.
    setting("limits.job_file_bytes", Kind::Bytes { min: KIB, max: 1024 * 1024 * GIB }, Some("64GiB")),
    // Without it: three times `retry_settings.timeout` and 30, Azure's own allowance, since a model may have to be opened.
    setting("limits.init", Kind::Seconds { min: 1, max: 259_200 }, None),
    // Held on the host by one instance.
    setting("limits.tensors", Kind::Bytes { min: MIB, max: 1024 * GIB }, Some("2GiB")),
    // Of one picture, before it is resized.
    setting("limits.pixels", Kind::Integer { min: 1, max: 1_000_000_000 }, Some("89478485")),
];

/// Second spellings that Azure's tools accept.
const ALIASES: &[(&str, &str)] = &[("settings.instance_count", "resources.instance_count")];

/// The key that `written` names, with or without `settings.` where that is its place.
pub(super) fn find(written: &str) -> Option<&'static Key> {
    if let Some((_, name)) = ALIASES.iter().find(|(alias, _)| *alias == written) {
        return KEYS.iter().find(|key| key.name == *name);
    }
    match written.strip_prefix("settings.") {
        Some(name) => KEYS.iter().find(|key| key.level == Level::Settings && key.name == name),
        None => KEYS.iter().find(|key| key.name == written),
    }
}

/// The key of this exact name.
pub(super) fn known(name: &'static str) -> &'static Key {
    KEYS.iter().find(|key| key.name == name).expect("callers name keys of the table; this is a bug")
}

/// Whether `written` is a map that other keys are nested in.
pub(super) fn is_group(written: &str) -> bool {
    let inside = |name: &str, group: &str| name.strip_prefix(group).is_some_and(|rest| rest.starts_with('.'));
    match written.strip_prefix("settings.") {
        Some(group) => KEYS.iter().any(|key| key.level == Level::Settings && inside(key.name, group)),
        None => written == "settings" || KEYS.iter().any(|key| inside(key.name, written)),
    }
}

/// The key that a misspelt or misplaced one most likely means, as it should be written beside it.
pub(super) fn nearest(written: &str) -> Option<String> {
    let (parent, last) = split(written);
    let mut best: Option<(f64, String)> = None;
    // A key is not mended by leaving it out: its own parent is no answer.
    for full in spellings().filter(|full| full != parent) {
        let (its_parent, its_last) = split(&full);
        let beside = parent == its_parent;
        // A part of a longer word counts as alike, as `script` of `scoring_script`.
        let part = last.len() >= 4 && its_last.contains(last);
        let alike = strsim::normalized_damerau_levenshtein(last, its_last).max(if part { 0.7 } else { 0.0 });
        // A neighbour is likelier than a key of the same name elsewhere, and that likelier than a similar path.
        let score =
            if beside { alike + 0.05 } else { alike.max(strsim::normalized_damerau_levenshtein(written, &full)) };
        if score >= 0.6 && best.as_ref().is_none_or(|(top, _)| score > *top) {
            best = Some((score, if beside { its_last.to_owned() } else { full }));
        }
    }
    best.map(|(_, key)| key)
}

/// Every full name, and the groups they are nested in, in the newer layout.
fn spellings() -> impl Iterator<Item = String> {
    let full = |key: &Key| match key.level {
        Level::Root => key.name.to_owned(),
        Level::Settings => format!("settings.{}", key.name),
    };
    KEYS.iter().map(full).flat_map(|name| {
        let group = split(&name).0.to_owned();
        [Some(name), (!group.is_empty()).then_some(group)].into_iter().flatten()
    })
}

fn split(written: &str) -> (&str, &str) {
    written.rsplit_once('.').unwrap_or(("", written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_and_misplaced_keys_name_the_one_meant() {
        for (written, expected) in [
            ("settings.mini_batch_sise", Some("mini_batch_size")),
            ("settings.timeout", Some("settings.retry_settings.timeout")),
            ("settings.name", Some("name")),
            ("setings", Some("settings")),
            ("desciption", Some("description")),
            ("code_configuration.script", Some("scoring_script")),
            ("settings.retry_setings", Some("retry_settings")),
            ("mini_batchsize", Some("settings.mini_batch_size")),
            ("settings.limits.memroy", Some("memory")),
            ("xyzzy", None),
        ] {
            assert_eq!(nearest(written).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn both_layouts_find_the_same_key() {
        for written in ["mini_batch_size", "settings.mini_batch_size"] {
            assert_eq!(find(written).unwrap().name, "mini_batch_size");
        }
        assert_eq!(find("settings.instance_count").unwrap().name, "resources.instance_count");
        assert!(find("settings.name").is_none());
        assert!(is_group("settings.retry_settings") && is_group("limits") && !is_group("settings.resources"));
    }
}
