//! Models: names with versions that never change. Their files lie elsewhere, by digest.

use rusqlite::{Connection, Row, params};

use super::tenants::audit;
use super::{Result, State, StateError, now, optional};

/// A version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Its number among those of this name, from 1.
    pub version: u32,
    /// Of its files, which lie in the folder of that name.
    pub digest: String,
    /// When it was made.
    pub created: String,
}

fn model(row: &Row<'_>) -> rusqlite::Result<Model> {
    Ok(Model { name: row.get(0)?, version: row.get(1)?, digest: row.get(2)?, created: row.get(3)? })
}

/// The latest version of this name, or the named one.
fn find(on: &Connection, tenant: i64, name: &str, version: Option<u32>) -> Result<Option<Model>> {
    let mut query = on.prepare_cached(
        "SELECT name, version, digest, created FROM models WHERE tenant = ?1 AND name = ?2 AND (?3 IS NULL OR version = ?3)
         AND deleted IS NULL ORDER BY version DESC LIMIT 1",
    )?;
    optional(query.query_row(params![tenant, name, version], model))
}

impl State {
    /// Makes a version; the same files again give the version that has them, if that is the latest.
    ///
    /// # Errors
    /// The database's.
    pub fn create_model(&self, tenant: i64, name: &str, digest: &str, by: &str) -> Result<Model> {
        let (name, digest, by) = (name.to_owned(), digest.to_owned(), by.to_owned());
        self.change(move |on| {
            let latest = find(on, tenant, &name, None)?;
            if let Some(latest) = latest.as_ref().filter(|latest| latest.digest == digest) {
                return Ok(latest.clone());
            }
            // Numbers of deleted ones are not used again: YAML still names them.
            let sql = "SELECT coalesce(max(version), 0) + 1 FROM models WHERE tenant = ?1 AND name = ?2";
            let version = on.query_row(sql, params![tenant, name], |row| row.get(0))?;
            let model = Model { name, version, digest, created: now() };
            let sql = "INSERT INTO models (tenant, name, version, digest, created) VALUES (?1, ?2, ?3, ?4, ?5)";
            on.execute(sql, params![tenant, model.name, model.version, model.digest, model.created])?;
            let called = format!("{}:{}", model.name, model.version);
            audit(on, (tenant, &by), ("model create", &called), &model.digest)?;
            Ok(model)
        })
    }

    /// A version, or the latest.
    ///
    /// # Errors
    /// If there is none.
    pub fn model(&self, tenant: i64, name: &str, version: Option<u32>) -> Result<Model> {
        let called = || version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"));
        find(&self.read(), tenant, name, version)?.ok_or_else(|| StateError::Unknown { what: "model", name: called() })
    }

    /// Every version of every model, by name and number.
    ///
    /// # Errors
    /// The database's.
    pub fn models(&self, tenant: i64) -> Result<Vec<Model>> {
        let read = self.read();
        let sql = "SELECT name, version, digest, created FROM models WHERE tenant = ?1 AND deleted IS NULL
                   ORDER BY name, version";
        let mut query = read.prepare_cached(sql)?;
        let rows = query.query_map([tenant], model)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes a version; its files stay for as long as anything names them.
    ///
    /// # Errors
    /// If there is none, or deployments or jobs that have not ended were given it.
    pub fn delete_model(&self, tenant: i64, name: &str, version: u32, by: &str) -> Result<()> {
        let (name, by) = (name.to_owned(), by.to_owned());
        self.change(move |on| {
            let called = format!("{name}:{version}");
            let unknown = || StateError::Unknown { what: "model", name: called.clone() };
            let model = find(on, tenant, &name, Some(version))?.ok_or_else(unknown)?;
            let count =
                |sql: &str| -> Result<u64> { Ok(on.query_row(sql, params![tenant, model.digest], |row| row.get(0))?) };
            let deployments = count(
                "SELECT count(*) FROM deployments JOIN endpoints ON endpoints.id = endpoint
                 WHERE tenant = ?1 AND model = ?2 AND deleted IS NULL",
            )?;
            let jobs = count(
                "SELECT count(*) FROM jobs WHERE tenant = ?1 AND model = ?2
                 AND status IN ('Queued', 'Running', 'Finalizing')",
            )?;
            if deployments + jobs > 0 {
                let by = format!("{deployments} versions of deployments and {jobs} jobs have it");
                return Err(StateError::InUse { what: "model", name: called, by });
            }
            let sql = "UPDATE models SET deleted = ?1 WHERE tenant = ?2 AND name = ?3 AND version = ?4";
            on.execute(sql, params![now(), tenant, name, version])?;
            audit(on, (tenant, &by), ("model delete", &called), &model.digest)
        })
    }
}
