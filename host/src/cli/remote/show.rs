//! What verbs print of a host's things: tables for people, JSON for programs, names for scripts.

use clap::ValueEnum;
use scorehost::service::host::{
    Action, DeploymentView, EndpointView, InputSpec, JobView, ModelView, NewTokenView, TenantDetailView, TenantView,
    TokenView, UsageView,
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

/// A thing that is printed.
pub(super) trait Shown: Serialize {
    /// The titles of those facts that a list shows.
    const COLUMNS: &'static [&'static str];
    /// What other verbs call it by.
    fn name(&self) -> String;
    /// All that people are shown of it.
    fn facts(&self) -> Facts;
}

/// Prints one thing.
pub(super) fn one<T: Shown>(thing: &T, format: Format) {
    match format {
        Format::Json => say_json(thing),
        Format::Csv => say_csv(std::slice::from_ref(thing)),
        Format::Name => say!("{}", plain(&thing.name())),
        Format::Table => {
            let facts: Facts = thing.facts().into_iter().filter(|(_, value)| !value.is_empty()).collect();
            let width = facts.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
            for (title, value) in facts {
                say!("{title:<width$}  {}", plain(&value));
            }
        }
    }
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
        let facts = thing.facts();
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
        let facts = thing.facts();
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

    fn facts(&self) -> Facts {
        vec![
            ("name", self.name.clone()),
            ("weight", self.weight.to_string()),
            ("jobs at once", self.quotas.running.to_string()),
            ("jobs waiting", self.quotas.queued.to_string()),
            ("bytes", self.quotas.storage.to_string()),
            ("instances", limit(self.quotas.instances)),
            ("memory", limit(self.quotas.memory)),
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

    fn facts(&self) -> Facts {
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
            ("bytes", of(used.storage.to_string(), Some(quotas.storage))),
            ("instances", of(used.instances.to_string(), quotas.instances)),
            ("memory", of(used.memory.to_string(), quotas.memory)),
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

    fn facts(&self) -> Facts {
        let usage = &self.usage;
        vec![
            ("tenant", self.tenant.clone()),
            ("job", text(self.job.as_ref())),
            ("jobs", self.jobs.to_string()),
            ("CPU s", format!("{:.2}", usage.cpu_seconds)),
            ("device s", format!("{:.2}", usage.device_seconds)),
            ("instance s", format!("{:.2}", usage.instance_seconds)),
            ("bytes in", usage.input_bytes.to_string()),
            ("bytes out", usage.output_bytes.to_string()),
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

    fn facts(&self) -> Facts {
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

    fn facts(&self) -> Facts {
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

    fn facts(&self) -> Facts {
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

    fn facts(&self) -> Facts {
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

    fn facts(&self) -> Facts {
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

    fn facts(&self) -> Facts {
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

impl Shown for JobView {
    const COLUMNS: &'static [&'static str] = &["name", "endpoint", "deployment", "status", "done", "created", "ended"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn facts(&self) -> Facts {
        let input = match &self.input {
            InputSpec::Upload(upload) => format!("upload {upload}"),
            InputSpec::Path(path) => format!("server:{path}"),
            InputSpec::Url(place) => place.to_string(),
        };
        let set: Vec<String> = self.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let canceling = if self.canceling { " (asked to stop)" } else { "" };
        vec![
            ("name", self.name.clone()),
            ("endpoint", self.endpoint.clone()),
            ("deployment", format!("{}:{}", self.deployment, self.version)),
            ("status", format!("{:?}{canceling}", self.status)),
            ("done", super::job::counts(self).unwrap_or_default()),
            ("error", text(self.error.as_ref())),
            ("input", input),
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
        let text = csv(&[model("a,\"b\"", 1)]);
        assert_eq!(text, "name,version,digest,created\n\"a,\"\"b\"\"\",1,,2026\n");
    }
}
