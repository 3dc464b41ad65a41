//! Endpoints: stable names, with the deployment that answers by default.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::tenants::audit;
use super::{Result, State, StateError, deployments, is_taken, json, now, optional};

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number.
    pub id: i64,
    /// Its name, unique in its tenant.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The owner's own words about it.
    pub tags: BTreeMap<String, String>,
    /// The deployment that answers where none is named, and its version: a later one answers when somebody says so.
    pub default_deployment: Option<(String, u32)>,
    /// When it was made.
    pub created: String,
    /// When it was last changed.
    pub updated: String,
}

/// What changes of an endpoint; absent is as it was.
#[derive(Clone, Debug, Default)]
pub struct EndpointChange {
    /// See [`Endpoint`].
    pub description: Option<String>,
    /// Replaces all.
    pub tags: Option<BTreeMap<String, String>>,
    /// One of its deployments, at a version or the latest.
    pub default_deployment: Option<(String, Option<u32>)>,
}

/// Bytes of each text in the audit log.
const MOST_WORDS: usize = 160;

const COLUMNS: &str = "id, name, description, tags, default_deployment, default_version, created, updated";

fn endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: row.get(0)?,
        name: row.get(1)?,
        description: row.get(2)?,
        tags: json(row.get_ref(3)?.as_str()?)?,
        default_deployment: row.get::<_, Option<String>>(4)?.zip(row.get(5)?),
        created: row.get(6)?,
        updated: row.get(7)?,
    })
}

pub(super) fn find(on: &Connection, tenant: i64, name: &str) -> Result<Endpoint> {
    let mut query = on.prepare_cached(&format!("SELECT {COLUMNS} FROM endpoints WHERE tenant = ?1 AND name = ?2"))?;
    let found = optional(query.query_row(params![tenant, name], endpoint))?;
    found.ok_or_else(|| StateError::Unknown { what: "endpoint", name: name.to_owned() })
}

/// Sets the default to a version that exists; what changed by it, in words.
pub(super) fn set_default(on: &Connection, endpoint: &Endpoint, name: &str, version: Option<u32>) -> Result<String> {
    let deployment = deployments::find(on, endpoint.id, name, version)?;
    let sql = "UPDATE endpoints SET default_deployment = ?1, default_version = ?2, updated = ?3 WHERE id = ?4";
    on.execute(sql, params![deployment.name, deployment.version, now(), endpoint.id])?;
    Ok(format!("default {} → {}:{}", shown(endpoint), deployment.name, deployment.version))
}

/// The deployment that answers by default.
fn shown(endpoint: &Endpoint) -> String {
    let default = endpoint.default_deployment.as_ref();
    default.map_or_else(|| "none".to_owned(), |(name, version)| format!("{name}:{version}"))
}

/// What is written of an endpoint, as the audit log tells it: a part of each.
fn words(description: Option<&str>, tags: Option<&str>) -> Vec<String> {
    let written = [("description", description.unwrap_or_default()), ("tags", tags.unwrap_or_default())];
    let written = written.into_iter().filter(|(_, text)| !matches!(*text, "" | "{}"));
    written.map(|(what, text)| format!("{what} {}", &text[..text.floor_char_boundary(MOST_WORDS)])).collect()
}

fn to_json(tags: &BTreeMap<String, String>) -> String {
    serde_json::to_string(tags).expect("a map of texts is JSON; this is a bug")
}

impl State {
    /// Makes an endpoint, on behalf of the token `by`.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn create_endpoint(
        &self,
        tenant: i64,
        name: &str,
        (description, tags): (&str, &BTreeMap<String, String>),
        by: &str,
    ) -> Result<Endpoint> {
        let (name, description, tags, by) = (name.to_owned(), description.to_owned(), to_json(tags), by.to_owned());
        self.change(move |on| {
            let sql = "INSERT INTO endpoints (tenant, name, description, tags, created, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?5)";
            on.execute(sql, params![tenant, name, description, tags, now()]).map_err(|e| {
                if is_taken(&e) { StateError::Exists { what: "endpoint", name: name.clone() } } else { e.into() }
            })?;
            audit(on, (tenant, &by), ("endpoint create", &name), &words(Some(&description), Some(&tags)).join(", "))?;
            find(on, tenant, &name)
        })
    }

    /// One endpoint.
    ///
    /// # Errors
    /// If there is none.
    pub fn endpoint(&self, tenant: i64, name: &str) -> Result<Endpoint> {
        find(&self.read(), tenant, name)
    }

    /// A tenant's endpoints, by name.
    ///
    /// # Errors
    /// The database's.
    pub fn endpoints(&self, tenant: i64) -> Result<Vec<Endpoint>> {
        let read = self.read();
        let sql = format!("SELECT {COLUMNS} FROM endpoints WHERE tenant = ?1 ORDER BY name");
        let mut query = read.prepare_cached(&sql)?;
        let rows = query.query_map([tenant], endpoint)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Changes an endpoint, all at once.
    ///
    /// # Errors
    /// If there is none, or no such deployment.
    pub fn update_endpoint(&self, tenant: i64, name: &str, change: EndpointChange, by: &str) -> Result<Endpoint> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.change(move |on| {
            let endpoint = find(on, tenant, &name)?;
            let tags = change.tags.as_ref().map(to_json);
            let sql =
                "UPDATE endpoints SET description = coalesce(?1, description), tags = coalesce(?2, tags), updated = ?3
                       WHERE id = ?4";
            on.execute(sql, params![change.description, tags, now(), endpoint.id])?;
            let mut changed = Vec::new();
            if let Some((deployment, version)) = &change.default_deployment {
                changed.push(set_default(on, &endpoint, deployment, *version)?);
            }
            changed.extend(words(change.description.as_deref(), tags.as_deref()));
            audit(on, (tenant, &by), ("endpoint update", &name), &changed.join(", "))?;
            find(on, tenant, &name)
        })
    }

    /// Removes an endpoint with its deployments; its jobs stay.
    ///
    /// # Errors
    /// If there is none, or jobs of it wait or run.
    pub fn delete_endpoint(&self, tenant: i64, name: &str, by: &str) -> Result<()> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.change(move |on| {
            let endpoint = find(on, tenant, &name)?;
            let sql = "SELECT count(*) FROM jobs WHERE tenant = ?1 AND endpoint = ?2
                       AND status IN ('Queued', 'Running', 'Finalizing')";
            let active: u64 = on.query_row(sql, params![tenant, name], |row| row.get(0))?;
            if active > 0 {
                let by = format!("{active} jobs wait or run");
                return Err(StateError::InUse { what: "endpoint", name, by });
            }
            on.execute("DELETE FROM endpoints WHERE id = ?1", [endpoint.id])?;
            audit(on, (tenant, &by), ("endpoint delete", &name), &format!("default {}", shown(&endpoint)))
        })
    }
}
