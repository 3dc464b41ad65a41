//! Deployments: versions that never change, below an endpoint.

use rusqlite::{Connection, Row, params};

use super::tenants::audit;
use super::{Result, State, StateError, endpoints, now, optional};

/// A version of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Its name.
    pub name: String,
    /// Its number among those of this name, from 1.
    pub version: u32,
    /// The YAML, with paths inside its own folder.
    pub spec: String,
    /// What identifies it and names its folder: of the YAML and of every file beside it.
    pub digest: String,
    /// The script's digest.
    pub script: Option<String>,
    /// The registered model's digest, where the YAML names one.
    pub model: Option<String>,
    /// When it was made.
    pub created: String,
}

/// A version to make.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    /// See [`Deployment`].
    pub name: String,
    /// See there.
    pub spec: String,
    /// See there.
    pub digest: String,
    /// See there.
    pub script: Option<String>,
    /// See there.
    pub model: Option<String>,
    /// Whether it is to answer by default from now on.
    pub set_default: bool,
}

const COLUMNS: &str = "name, version, spec, digest, script, model, created";

fn deployment(row: &Row<'_>) -> rusqlite::Result<Deployment> {
    Ok(Deployment {
        name: row.get(0)?,
        version: row.get(1)?,
        spec: row.get(2)?,
        digest: row.get(3)?,
        script: row.get(4)?,
        model: row.get(5)?,
        created: row.get(6)?,
    })
}

/// The latest version of this name, or the named one.
pub(super) fn find(on: &Connection, endpoint: i64, name: &str, version: Option<u32>) -> Result<Deployment> {
    let mut query = on.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM deployments WHERE endpoint = ?1 AND name = ?2 AND (?3 IS NULL OR version = ?3)
         AND deleted IS NULL ORDER BY version DESC LIMIT 1"
    ))?;
    let found = optional(query.query_row(params![endpoint, name, version], deployment))?;
    let called = || version.map_or_else(|| name.to_owned(), |version| format!("{name}:{version}"));
    found.ok_or_else(|| StateError::Unknown { what: "deployment", name: called() })
}

impl State {
    /// Makes a version; the same content again gives the version that has it, if that is the latest.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn create_deployment(&self, tenant: i64, endpoint: &str, new: NewDeployment, by: &str) -> Result<Deployment> {
        let (endpoint, by) = (endpoint.to_owned(), by.to_owned());
        self.change(move |on| {
            let endpoint = endpoints::find(on, tenant, &endpoint)?;
            let latest = match find(on, endpoint.id, &new.name, None) {
                Ok(latest) => Some(latest),
                Err(StateError::Unknown { .. }) => None,
                Err(error) => return Err(error),
            };
            if latest.as_ref().is_none_or(|latest| (&latest.digest, &latest.model) != (&new.digest, &new.model)) {
                // Numbers of deleted ones are not used again: jobs still name them.
                let sql = "SELECT coalesce(max(version), 0) + 1 FROM deployments WHERE endpoint = ?1 AND name = ?2";
                let version: u32 = on.query_row(sql, params![endpoint.id, new.name], |row| row.get(0))?;
                on.execute(
                    "INSERT INTO deployments (endpoint, name, version, spec, digest, script, model, created)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![endpoint.id, new.name, version, new.spec, new.digest, new.script, new.model, now()],
                )?;
                let model = new.model.as_ref().map(|model| format!(", model {model}")).unwrap_or_default();
                let called = format!("{}/{}:{version}", endpoint.name, new.name);
                audit(on, (tenant, &by), ("deployment create", &called), &format!("{}{model}", new.digest))?;
            }
            if new.set_default {
                let detail = endpoints::set_default(on, &endpoint, &new.name, None)?;
                let called = format!("{}/{}", endpoint.name, new.name);
                audit(on, (tenant, &by), ("endpoint default", &called), &detail)?;
            }
            find(on, endpoint.id, &new.name, None)
        })
    }

    /// A version, or the latest.
    ///
    /// # Errors
    /// If there is none.
    pub fn deployment(&self, tenant: i64, endpoint: &str, name: &str, version: Option<u32>) -> Result<Deployment> {
        let read = self.read();
        let endpoint = endpoints::find(&read, tenant, endpoint)?;
        find(&read, endpoint.id, name, version)
    }

    /// Every version below an endpoint, by name and number.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn deployments(&self, tenant: i64, endpoint: &str) -> Result<Vec<Deployment>> {
        let read = self.read();
        let endpoint = endpoints::find(&read, tenant, endpoint)?;
        let sql =
            format!("SELECT {COLUMNS} FROM deployments WHERE endpoint = ?1 AND deleted IS NULL ORDER BY name, version");
        let mut query = read.prepare_cached(&sql)?;
        let rows = query.query_map([endpoint.id], deployment)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Removes every version of a name.
    ///
    /// # Errors
    /// If there is none, it is the default, or jobs of it wait or run.
    pub fn delete_deployment(&self, tenant: i64, endpoint: &str, name: &str, by: &str) -> Result<()> {
        let (endpoint, name, by) = (endpoint.to_owned(), name.to_owned(), by.to_owned());
        self.change(move |on| {
            let endpoint = endpoints::find(on, tenant, &endpoint)?;
            find(on, endpoint.id, &name, None)?;
            let in_use = |by: String| StateError::InUse { what: "deployment", name: name.clone(), by };
            if endpoint.default_deployment.as_ref().is_some_and(|(default, _)| *default == name) {
                return Err(in_use(format!("it is the default of endpoint `{}`", endpoint.name)));
            }
            let sql = "SELECT count(*) FROM jobs WHERE tenant = ?1 AND endpoint = ?2 AND deployment = ?3
                       AND status IN ('Queued', 'Running', 'Finalizing')";
            let active: u64 = on.query_row(sql, params![tenant, endpoint.name, name], |row| row.get(0))?;
            if active > 0 {
                return Err(in_use(format!("{active} jobs wait or run")));
            }
            let sql = "SELECT group_concat(version, ', ' ORDER BY version) FROM deployments
                       WHERE endpoint = ?1 AND name = ?2 AND deleted IS NULL";
            let versions: String = on.query_row(sql, params![endpoint.id, name], |row| row.get(0))?;
            let sql = "UPDATE deployments SET deleted = ?1 WHERE endpoint = ?2 AND name = ?3 AND deleted IS NULL";
            on.execute(sql, params![now(), endpoint.id, name])?;
            let called = format!("{}/{name}", endpoint.name);
            audit(on, (tenant, &by), ("deployment delete", &called), &format!("versions {versions}"))
        })
    }
}
