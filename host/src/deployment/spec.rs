//! A deployment as it was written: which keys, with which values, where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::{self, Key, Kind, Level};
use super::value::{self, Misfit, ModelReference, Value};
use super::yaml::{self, Entry, Node, Scalar, Value as Yaml};
use super::{Place, SpecError};

/// The key that says where the script lies,
pub(super) const CODE: &str = "code_configuration.code";
/// and what its value begins with where that is no folder.
const ARTIFACT: &str = "oci:";

/// What was written for a deployment: each key known, each value of its type and in range.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(super) path: PathBuf,
    pub(super) written: BTreeMap<&'static str, Written>,
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) value: Value,
    pub(super) place: Place,
}

impl Spec {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, is over 1 MiB, is not UTF-8, or as [`Spec::parse`].
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        Self::parse(&yaml::read(path)?, path)
    }

    /// Checks `text` as what stands in the file at `path`, which need not exist.
    ///
    /// # Errors
    /// If it is over 1 MiB, not YAML, repeats a key (in either layout), or holds one that is unknown, of the wrong
    /// type or out of range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SpecError> {
        let root = yaml::parse(text, path)?;
        let mut spec = Self { path: path.to_owned(), written: BTreeMap::new() };
        let Yaml::Map(entries) = &root.value else {
            let reason = format!("a deployment is a map of keys, not {}", value::describe(&root));
            return Err(SpecError::Syntax { place: spec.line(root.line), reason });
        };
        // The type first: the keys of a pipeline are unknown here, and that would be the lesser message.
        if let Some(entry) = entries.iter().find(|entry| entry.key == "type") {
            spec.take("type", entry)?;
            spec.refuse_pipeline()?;
        }
        for entry in entries.iter().filter(|entry| entry.key != "type") {
            spec.take(&entry.key, entry)?;
        }
        Ok(spec)
    }

    /// Overrides one value, as `--set key=value` does: `settings.mini_batch_size` or `mini_batch_size`, `tags.team`.
    ///
    /// # Errors
    /// As for a value in the file, naming `--set` instead of a line.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        let place = Place::Set { key: key.to_owned() };
        let node = Node { line: 1, value: Yaml::Scalar(Scalar { text: value.to_owned(), plain: true }) };
        let bare = key.strip_prefix("settings.").unwrap_or(key);
        let of_map = keys::KEYS.iter().find_map(|known| {
            let inner = if known.level == Level::Settings { bare } else { key };
            let inner = inner.strip_prefix(known.name)?.strip_prefix('.')?;
            matches!(known.kind, Kind::Texts | Kind::Variables).then_some((known, inner))
        });
        let Some((known, inner)) = of_map else {
            let known = keys::find(key).filter(|known| known.kind != Kind::NotUsed);
            let known = known.ok_or_else(|| unknown(key, place.clone()))?;
            let value = read(known, &node, key, &place)?;
            self.written.insert(known.name, Written { value, place });
            return self.refuse_pipeline();
        };
        let entry = Entry { key: inner.to_owned(), line: 1, value: node };
        let map = Node { line: 1, value: Yaml::Map(vec![entry]) };
        let Value::Texts(mut texts) = read(known, &map, key, &place)? else {
            unreachable!("maps are read as maps; this is a bug")
        };
        if let Some(Written { value: Value::Texts(before), .. }) = self.written.get(known.name) {
            for (name, text) in before {
                texts.entry(name.clone()).or_insert_with(|| text.clone());
            }
        }
        self.written.insert(known.name, Written { value: Value::Texts(texts), place });
        Ok(())
    }

    /// The registered model that `model` names, as its name and version, if it names one. Whoever keeps models
    /// answers with `set("model", path)`.
    pub fn registered_model(&self) -> Option<(String, String)> {
        let Value::Model(reference) = &self.written.get("model")?.value else { return None };
        let reference = match reference {
            ModelReference::Path(path) if !self.folder().join(path).exists() => value::registered(path)?,
            other => other.clone(),
        };
        match reference {
            ModelReference::Registered(name, version) => Some((name, version)),
            ModelReference::Path(_) => None,
        }
    }

    /// The artifact that `code_configuration.code` names, if it names one and no folder: `oci://REGISTRY/REPOSITORY:TAG`
    /// or `oci:FOLDER:TAG`. Whoever fetches scripts answers with `set("code_configuration.code", folder)`.
    pub fn artifact(&self) -> Option<&str> {
        match &self.written.get(CODE)?.value {
            Value::Text(text) if text.starts_with(ARTIFACT) => Some(text),
            _ => None,
        }
    }

    /// The folder that written paths start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// Takes one key and what is below it.
    fn take(&mut self, written: &str, entry: &Entry) -> Result<(), SpecError> {
        let place = self.line(entry.line);
        let Some(key) = keys::find(written) else {
            return if keys::is_group(written) {
                self.take_group(written, entry)
            } else {
                Err(unknown(written, place))
            };
        };
        let value = read(key, &entry.value, written, &place)?;
        if let Some(first) = self.written.get(key.name) {
            return Err(SpecError::Duplicate { place, key: written.to_owned(), first: first.place.clone() });
        }
        self.written.insert(key.name, Written { value, place });
        Ok(())
    }

    fn take_group(&mut self, written: &str, group: &Entry) -> Result<(), SpecError> {
        let entries = match &group.value.value {
            Yaml::Map(entries) => entries,
            Yaml::Scalar(scalar) if scalar.is_null() => return Ok(()),
            _ => {
                let found = value::describe(&group.value);
                let place = self.line(group.line);
                return Err(SpecError::Value { place, key: written.to_owned(), found, allowed: "a map".to_owned() });
            }
        };
        for entry in entries {
            self.take(&format!("{written}.{}", entry.key), entry)?;
        }
        Ok(())
    }

    fn refuse_pipeline(&self) -> Result<(), SpecError> {
        match self.written.get("type") {
            Some(Written { value: Value::Text(text), place }) if text == "pipeline" => Err(SpecError::Refused {
                place: place.clone(),
                key: "type",
                value: text.clone(),
                reason: "and pipelines of components are not run here",
                cure: "deploy each step as a model deployment of its own",
            }),
            _ => Ok(()),
        }
    }

    fn line(&self, line: usize) -> Place {
        Place::Line { path: self.path.clone(), line }
    }
}

fn read(key: &Key, node: &Node, written: &str, place: &Place) -> Result<Value, SpecError> {
    value::read(key.kind, node).map_err(|Misfit { found, allowed }| SpecError::Value {
        place: place.clone(),
        key: written.to_owned(),
        found,
        allowed,
    })
}

fn unknown(written: &str, place: Place) -> SpecError {
    let short: String = written.chars().take(80).collect();
    SpecError::Unknown { place, nearest: keys::nearest(&short), key: short }
}
