//! An endpoint's YAML, as Azure's batch endpoints have it → what was written there.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::Kind;
use super::value::{self, Misfit, Value};
use super::yaml::{self, Entry, Node, Value as Yaml};
use super::{Place, SpecError};

/// Every key, and what it takes. Who may call is the tokens' business here, so that `auth_mode` says nothing.
const KEYS: [(&str, Kind); 7] = [
    ("$schema", Kind::NotUsed),
    ("name", Kind::Text),
    ("description", Kind::Text),
    ("tags", Kind::Texts),
    ("properties", Kind::NotUsed),
    ("auth_mode", Kind::NotUsed),
    ("defaults.deployment_name", Kind::Text),
];
/// The map that keys are nested in.
const GROUP: &str = "defaults";

/// What was written for an endpoint. Which names and texts are taken, the host decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// Its name.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The owner's own words.
    pub tags: BTreeMap<String, String>,
    /// The deployment that is to answer by default.
    pub default_deployment: Option<String>,
    /// The keys that were written and mean nothing here.
    pub not_used: Vec<String>,
}

impl EndpointSpec {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is over 1 MiB or not YAML, or holds a key that is unknown or of the wrong type.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        Self::parse(&yaml::read(path)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SpecError> {
        let root = yaml::parse(text, path)?;
        let line = |line| Place::Line { path: path.to_owned(), line };
        let mut spec = Self::default();
        let Some(entries) = entries(&root) else {
            let reason = format!("an endpoint is a map of keys, not {}", value::describe(&root));
            return Err(SpecError::Syntax { place: line(root.line), reason });
        };
        for entry in entries {
            if entry.key != GROUP {
                spec.take(&entry.key, entry, line(entry.line))?;
                continue;
            }
            let Some(inner) = entries_of(entry) else {
                let found = value::describe(&entry.value);
                let (key, allowed) = (GROUP.to_owned(), "a map".to_owned());
                return Err(SpecError::Value { place: line(entry.line), key, found, allowed });
            };
            for inner in inner {
                spec.take(&format!("{GROUP}.{}", inner.key), inner, line(inner.line))?;
            }
        }
        Ok(spec)
    }

    fn take(&mut self, written: &str, entry: &Entry, place: Place) -> Result<(), SpecError> {
        let Some((name, kind)) = KEYS.iter().find(|(name, _)| *name == written) else {
            let key: String = written.chars().take(80).collect();
            return Err(SpecError::Unknown { place, nearest: nearest(&key), key });
        };
        let read = value::read(*kind, &entry.value).map_err(|Misfit { found, allowed }| SpecError::Value {
            place,
            key: written.to_owned(),
            found,
            allowed,
        })?;
        match (*name, read) {
            ("name", Value::Text(text)) => self.name = Some(text),
            ("description", Value::Text(text)) => self.description = Some(text),
            ("defaults.deployment_name", Value::Text(text)) => self.default_deployment = Some(text),
            ("tags", Value::Texts(tags)) => self.tags = tags,
            _ => self.not_used.push(written.to_owned()),
        }
        Ok(())
    }
}

fn entries(node: &Node) -> Option<&[Entry]> {
    match &node.value {
        Yaml::Map(entries) => Some(entries),
        _ => None,
    }
}

/// The entries of a map that may be left empty.
fn entries_of(entry: &Entry) -> Option<&[Entry]> {
    match &entry.value.value {
        Yaml::Scalar(scalar) if scalar.is_null() => Some(&[]),
        _ => entries(&entry.value),
    }
}

/// The key that a misspelt one most likely means.
fn nearest(written: &str) -> Option<String> {
    let alike = |name: &str| strsim::normalized_damerau_levenshtein(written, name);
    let names = KEYS.iter().map(|(name, _)| *name).chain([GROUP]);
    let best = names.max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(best) >= 0.6).then(|| best.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EndpointSpec, SpecError> {
        EndpointSpec::parse(text, Path::new("endpoint.yml"))
    }

    #[test]
    fn azures_endpoint_reads_as_it_is() {
        let spec = parse(
            "$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json\nname: my-batch\n\
             description: Scores pictures\nauth_mode: aad_token\ntags: {team: a}\nproperties: {x: {y: 1}}\n\
             defaults:\n  deployment_name: by-file\n",
        );
        let expected = EndpointSpec {
            name: Some("my-batch".into()),
            description: Some("Scores pictures".into()),
            tags: BTreeMap::from([("team".into(), "a".into())]),
            default_deployment: Some("by-file".into()),
            not_used: vec!["$schema".into(), "auth_mode".into(), "properties".into()],
        };
        assert_eq!(spec.unwrap(), expected);
        assert_eq!(parse("name: a\ndefaults:\n").unwrap().default_deployment, None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, expected) in [
            ("nam: a\n", "`endpoint.yml` line 1: unknown key `nam` | did you mean `name`?"),
            ("name: a\ndefault: {}\n", "line 2: unknown key `default` | did you mean `defaults`?"),
            (
                "defaults:\n  deployment: a\n",
                "line 2: unknown key `defaults.deployment` | did you mean `defaults.deployment_name`?",
            ),
            ("xyzzy: a\n", "unknown key `xyzzy` | "),
            ("name: [a]\n", "`name` is a list; allowed is"),
            ("tags: a\n", "`tags` is the text `a`; allowed is a map of texts"),
            ("defaults: a\n", "`defaults` is the text `a`; allowed is a map"),
            ("- a\n", "an endpoint is a map of keys, not a list"),
            ("name: a\nname: b\n", "name"),
        ] {
            let error = parse(text).unwrap_err();
            let text = format!("{error} | {}", error.hint().unwrap_or_default());
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
