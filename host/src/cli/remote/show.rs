//! What verbs print of a host's things: tables for people, JSON for programs, names for scripts.

use clap::ValueEnum;
use indicatif::HumanBytes;
use scorehost::service::host::{
    Action, DeploymentView, EndpointView, InputSpec, JobView, ModelView, NewTokenView, TenantDetailView, TenantView,
    TokenView, UploadLineView, UploadView, UsageView,
};
use serde::Serialize;

use super::super::table::Table;
use super::super::{note, say};
use super::error::plain;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// All there is, for programs
    Json,
    /// Just the names, for scripts
    Name,
    /// A table for programs: titles, then a line each
    Csv,
}

/// Facts with their titles.
type Facts = Vec<(&'static str, String)>;
/// How a number of bytes is written.
type Bytes = fn(u64) -> String;

/// For people: `1.50 GiB`.
fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// For programs.
fn plain_bytes(bytes: u64) -> String {
    bytes.to_string()
}

/// A thing that is printed.
pub(super) trait Shown: Serialize {
    /// The titles of those facts that a list shows.
    const COLUMNS: &'static [&'static str];
    /// What other verbs call it by.
    fn name(&self) -> String;
    /// All that people are shown of it.
    fn facts(&self, bytes: Bytes) -> Facts;
}

/// Prints one thing.
pub(super) fn one<T: Shown>(thing: &T, format: Format) {
    match format {
        Format::Json => say_json(thing),
        Format::Csv => say_csv(std::slice::from_ref(thing)),
        Format::Name => say!("{}", plain(&thing.name())),
        Format::Table => {
            say!("{}", sheet(thing).join("\n"));
        }
    }
}

/// A line for each fact; one of several lines goes on below where it began.
fn sheet<T: Shown>(thing: &T) -> Vec<String> {
    let facts: Facts = thing.facts(human).into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = facts.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
    let below = format!("\n{:width$}  ", "");
    facts.iter().map(|(title, value)| format!("{title:<width$}  {}", plain(value).replace('\n', &below))).collect()
}

/// Prints a list.
pub(super) fn all<T: Shown>(things: &[T], format: Format) {
    match format {
        Format::Json => say_json(&things),
        Format::Csv => say_csv(things),
        Format::Name => things.iter().for_each(|thing| say!("{}", plain(&thing.name()))),
        Format::Table if things.is_empty() => note!("there is none"),
        Format::Table => lines(things).print(),
    }
}

fn lines<T: Shown>(things: &[T]) -> Table {
    let titles: Vec<String> = T::COLUMNS.iter().map(|title| format!("<{title}")).collect();
    let mut table = Table::new(&titles.iter().map(String::as_str).collect::<Vec<_>>());
    for thing in things {
        let facts = thing.facts(human);
        // One thing, one line.
        let cell = |title: &&str| facts.iter().find(|(t, _)| t == title).map(|(_, v)| plain(v).replace('\n', " "));
        table.row(T::COLUMNS.iter().map(|title| cell(title).unwrap_or_default()));
    }
    table
}

fn say_csv<T: Shown>(things: &[T]) {
    say!("{}", csv(things).trim_end());
}

/// What lists show, quoted where it has to be.
fn csv<T: Shown>(things: &[T]) -> String {
    let mut text = csv::Writer::from_writer(Vec::new());
    let mut write = |row: Vec<String>| text.write_record(row).expect("rows are of one length; this is a bug");
    write(T::COLUMNS.iter().map(|&title| title.to_owned()).collect());
    for thing in things {
        let facts = thing.facts(plain_bytes);
        let cell = |title: &&str| facts.iter().find(|(t, _)| t == title).map(|(_, v)| plain(v)).unwrap_or_default();
        write(T::COLUMNS.iter().map(cell).collect());
    }
    let bytes = text.into_inner().expect("a vector takes all; this is a bug");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn say_json(value: &impl Serialize) {
    say!("{}", serde_json::to_string_pretty(value).expect("views are plain values; this is a bug"));
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

impl Shown for TenantView {
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "weight",
        "jobs at once",
        "jobs waiting",
        "bytes",
        "instances",
        "memory",
        "CPU s a month",
        "device s a month",
        "created",
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self, bytes: Bytes) -> Facts {
        vec![
            ("name", self.name.clone()),
            ("weight", self.weight.to_string()),
            ("jobs at once", self.quotas.running.to_string()),
            ("jobs waiting", self.quotas.queued.to_string()),
            ("bytes", bytes(self.quotas.storage)),
            ("instances", limit(self.quotas.instances)),
            ("memory", self.quotas.memory.map(bytes).unwrap_or_default()),
            ("CPU s a month", limit(self.quotas.cpu_seconds)),
            ("device s a month", limit(self.quotas.device_seconds)),
            ("created", self.created.clone()),
        ]
    }
}

/// A limit; one that is not there is not shown.
fn limit(most: Option<u64>) -> String {
    most.map(|most| most.to_string()).unwrap_or_default()
}

impl Shown for TenantDetailView {
    const COLUMNS: &'static [&'static str] = TenantView::COLUMNS;

    fn name(&self) -> String {
        self.tenant.name.clone()
    }

    fn facts(&self, bytes: Bytes) -> Facts {
        let (quotas, used) = (&self.tenant.quotas, &self.used);
        let of = |have: String, most: Option<u64>| match most {
            Some(most) => format!("{have} of {most}"),
            None => have,
        };
        vec![
            ("name", self.tenant.name.clone()),
            ("weight", self.tenant.weight.to_string()),
            ("jobs at once", of(used.running.to_string(), Some(quotas.running.into()))),
            ("jobs waiting", of(used.queued.to_string(), Some(quotas.queued.into()))),
            ("bytes", format!("{} of {}", bytes(used.storage), bytes(quotas.storage))),
            ("instances", of(used.instances.to_string(), quotas.instances)),
            (
                "memory",
                match quotas.memory {
                    Some(most) => format!("{} of {}", bytes(used.memory), bytes(most)),
                    None => bytes(used.memory),
                },
            ),
            ("CPU s a month", of(format!("{:.1}", used.cpu_seconds), quotas.cpu_seconds)),
            ("device s a month", of(format!("{:.1}", used.device_seconds), quotas.device_seconds)),
            ("created", self.tenant.created.clone()),
        ]
    }
}

impl Shown for UsageView {
    const COLUMNS: &'static [&'static str] =
        &["tenant", "job", "jobs", "CPU s", "device s", "instance s", "bytes in", "bytes out", "files", "rows"];

    fn name(&self) -> String {
        self.job.clone().unwrap_or_else(|| self.tenant.clone())
    }

    fn facts(&self, bytes: Bytes) -> Facts {
        let usage = &self.usage;
        vec![
            ("tenant", self.tenant.clone()),
            ("job", text(self.job.as_ref())),
            ("jobs", self.jobs.to_string()),
            ("CPU s", format!("{:.2}", usage.cpu_seconds)),
            ("device s", format!("{:.2}", usage.device_seconds)),
            ("instance s", format!("{:.2}", usage.instance_seconds)),
            ("bytes in", bytes(usage.input_bytes)),
            ("bytes out", bytes(usage.output_bytes)),
            ("files", usage.files.to_string()),
            ("rows", usage.rows.to_string()),
        ]
    }
}

impl Shown for Action {
    const COLUMNS: &'static [&'static str] = &["at", "token", "token name", "action", "object", "detail"];

    fn name(&self) -> String {
        self.object.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        vec![
            ("at", self.at.clone()),
            ("token", self.token.clone()),
            ("token name", text(self.token_name.as_ref())),
            ("action", self.action.clone()),
            ("object", self.object.clone()),
            ("detail", self.detail.clone()),
        ]
    }
}

impl Shown for TokenView {
    const COLUMNS: &'static [&'static str] = &["id", "tenant", "name", "scopes", "created", "expires", "revoked"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        vec![
            ("id", self.id.clone()),
            ("tenant", self.tenant.clone()),
            ("name", self.name.clone()),
            ("scopes", self.scopes.join(" ")),
            ("created", self.created.clone()),
            ("expires", text(self.expires.as_ref())),
            ("revoked", text(self.revoked.as_ref())),
        ]
    }
}

impl Shown for NewTokenView {
    const COLUMNS: &'static [&'static str] = &["id", "tenant", "expires"];

    /// Itself: what a script would keep.
    fn name(&self) -> String {
        self.token.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        vec![
            ("id", self.id.clone()),
            ("tenant", self.tenant.clone()),
            ("token", self.token.clone()),
            ("expires", text(self.expires.as_ref())),
        ]
    }
}

impl Shown for ModelView {
    const COLUMNS: &'static [&'static str] = &["name", "version", "digest", "created"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        vec![
            ("name", self.name.clone()),
            ("version", self.version.to_string()),
            ("digest", self.digest.clone()),
            ("created", self.created.clone()),
        ]
    }
}

impl Shown for EndpointView {
    const COLUMNS: &'static [&'static str] = &["name", "default deployment", "description", "scoring uri", "updated"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        let tags: Vec<String> = self.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let defaults = &self.defaults;
        let default = defaults.deployment_name.as_ref().zip(defaults.deployment_version);
        // As it is written to make it the default again.
        let default = default.map(|(name, version)| format!("{name}:{version}"));
        vec![
            ("name", self.name.clone()),
            ("default deployment", text(default.as_ref())),
            ("description", self.description.clone()),
            ("tags", tags.join(", ")),
            ("scoring uri", self.scoring_uri.clone()),
            ("created", self.created.clone()),
            ("updated", self.updated.clone()),
        ]
    }
}

impl Shown for DeploymentView {
    const COLUMNS: &'static [&'static str] = &["name", "version", "default", "created"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        vec![
            ("name", self.name.clone()),
            ("version", self.version.to_string()),
            ("endpoint", self.endpoint.clone()),
            ("default", if self.is_default { "yes" } else { "no" }.to_owned()),
            ("digest", self.digest.clone()),
            ("script", text(self.script.as_ref())),
            ("registered model", text(self.model.as_ref())),
            ("created", self.created.clone()),
        ]
    }
}

impl Shown for UploadLineView {
    const COLUMNS: &'static [&'static str] = &["id", "finished", "begun", "files", "bytes"];

    fn name(&self) -> String {
        self.id.clone()
    }

    fn facts(&self, bytes: Bytes) -> Facts {
        let many = || "very many".to_owned();
        vec![
            ("id", self.id.clone()),
            ("finished", if self.finished { "yes" } else { "no" }.to_owned()),
            ("begun", self.begun.clone()),
            ("files", self.count.map_or_else(many, |count| count.to_string())),
            ("bytes", self.bytes.map(bytes).unwrap_or_default()),
        ]
    }
}

impl Shown for UploadView {
    const COLUMNS: &'static [&'static str] = UploadLineView::COLUMNS;

    fn name(&self) -> String {
        self.id.clone()
    }

    fn facts(&self, bytes: Bytes) -> Facts {
        let all = self.files.iter().fold(0, |all: u64, file| all.saturating_add(file.bytes));
        let line = UploadLineView {
            id: self.id.clone(),
            finished: self.finished,
            begun: self.begun.clone(),
            count: Some(self.files.len() as u64),
            bytes: Some(all),
        };
        line.facts(bytes)
    }
}

impl Shown for JobView {
    const COLUMNS: &'static [&'static str] = &["name", "endpoint", "deployment", "status", "done", "created", "ended"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self, _: Bytes) -> Facts {
        let input = match &self.input {
            InputSpec::Upload(upload) => format!("upload {upload}"),
            InputSpec::Path(path) => format!("server:{path}"),
            InputSpec::Url(place) => place.to_string(),
        };
        let set: Vec<String> = self.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (error, hint) =
            self.error.as_deref().map_or(("", ""), |error| error.split_once("\nhint: ").unwrap_or((error, "")));
        let canceling = if self.canceling { " (asked to stop)" } else { "" };
        vec![
            ("name", self.name.clone()),
            ("endpoint", self.endpoint.clone()),
            ("deployment", format!("{}:{}", self.deployment, self.version)),
            ("status", format!("{:?}{canceling}", self.status)),
            ("done", super::job::counts(self).unwrap_or_default()),
            ("waits", text(self.waits.as_ref())),
            ("error", error.to_owned()),
            ("hint", hint.to_owned()),
            ("input", input),
            ("output", text(self.output.as_ref())),
            ("set", set.join(", ")),
            ("created", self.created.clone()),
            ("started", text(self.started.as_ref())),
            ("ended", text(self.ended.as_ref())),
            ("CPU s", format!("{:.2}", self.usage.cpu_seconds)),
            ("device s", format!("{:.2}", self.usage.device_seconds)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_line_for_each_and_moves_no_cursor() {
        let model = |name: &str, version| ModelView {
            name: name.to_owned(),
            version,
            digest: String::new(),
            created: "2026".to_owned(),
        };
        let table = lines(&[model("a", 1), model("b\x1b[2J\nc", 12)]);
        assert_eq!(
            table.lines(),
            ["  name     version  created", "  a        1        2026", "  b\u{fffd}[2J c  12       2026"]
        );
        let usage = UsageView {
            tenant: "t".to_owned(),
            job: None,
            jobs: 1,
            usage: scorehost::service::host::Usage { input_bytes: 3 << 20, ..Default::default() },
        };
        assert!(lines(std::slice::from_ref(&usage)).lines()[1].contains("  3.00 MiB"));
        assert!(csv(&[usage]).contains(",3145728,"), "programs get numbers");
        let text = csv(&[model("a,\"b\"", 1)]);
        assert_eq!(text, "name,version,digest,created\n\"a,\"\"b\"\"\",1,,2026\n");
    }

    #[test]
    fn a_fact_of_several_lines_stays_in_its_column_and_a_hint_has_a_line() {
        let job = serde_json::json!({
            "name": "j", "endpoint": "e", "deployment": "d", "version": 1, "digest": "", "status": "Failed",
            "canceling": false, "input": {"path": "/in"}, "output": "s3://b/out", "set": {}, "progress": null,
            "error": "it broke\nin two\nhint: mend it", "record": null, "starts": 1, "created": "2026", "started": null,
            "ended": null,
        });
        let job: JobView = serde_json::from_value(job).unwrap();
        let sheet = sheet(&job);
        let of = |title: &str| sheet.iter().find(|line| line.starts_with(title)).map(String::as_str);
        assert_eq!(of("error"), Some("error       it broke\n            in two"));
        assert_eq!(of("hint"), Some("hint        mend it"));
        assert_eq!(of("output"), Some("output      s3://b/out"));
        assert_eq!(of("waits"), None);
    }
}
