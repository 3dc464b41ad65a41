//! Tenants, their tokens, and the audit log.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Result, State, StateError, is_taken, now, optional};

/// What a tenant may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Jobs that run.
    pub running: u32,
    /// Jobs that wait.
    pub queued: u32,
    /// Bytes of uploads, deployments and outputs together.
    pub storage: u64,
    /// Instances of the jobs that run, together; any number, where nothing is said.
    pub instances: Option<u64>,
    /// Bytes that these instances may have together: each as many as its deployment's `limits.memory`.
    pub memory: Option<u64>,
    /// Seconds of processors that jobs take in one calendar month, UTC.
    pub cpu_seconds: Option<u64>,
    /// Seconds that models take on their device in one calendar month, UTC.
    pub device_seconds: Option<u64>,
}

impl Default for Quotas {
    /// What a tenant of a small host needs; none keeps the others from theirs.
    fn default() -> Self {
        let (instances, memory, cpu_seconds, device_seconds) = (None, None, None, None);
        Self { running: 4, queued: 1000, storage: 100 << 30, instances, memory, cpu_seconds, device_seconds }
    }
}

/// What changes of a tenant's limits: absent is as it was, `null` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotasChange {
    /// See [`Quotas`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<u64>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub instances: Option<Option<u64>>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub memory: Option<Option<u64>>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub cpu_seconds: Option<Option<u64>>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub device_seconds: Option<Option<u64>>,
}

/// What is there, if only as `null`.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl QuotasChange {
    /// The limits after the change.
    #[must_use]
    pub fn of(&self, quotas: Quotas) -> Quotas {
        Quotas {
            running: self.running.unwrap_or(quotas.running),
            queued: self.queued.unwrap_or(quotas.queued),
            storage: self.storage.unwrap_or(quotas.storage),
            instances: self.instances.unwrap_or(quotas.instances),
            memory: self.memory.unwrap_or(quotas.memory),
            cpu_seconds: self.cpu_seconds.unwrap_or(quotas.cpu_seconds),
            device_seconds: self.device_seconds.unwrap_or(quotas.device_seconds),
        }
    }
}

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its number.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its share of the host, beside the others'.
    pub weight: u32,
    /// What it may use.
    pub quotas: Quotas,
    /// When it was made.
    pub created: String,
}

/// A token as it is kept: not the token, which only its owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its public part.
    pub id: String,
    /// The tenant's name.
    pub tenant: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do, in words with spaces between.
    pub scopes: String,
    /// When it was made.
    pub created: String,
    /// From when on it is not taken any more.
    pub expires: Option<String>,
    /// When it was revoked.
    pub revoked: Option<String>,
}

/// A token to keep.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its public part.
    pub id: String,
    /// The tenant.
    pub tenant: i64,
    /// What its owner calls it.
    pub name: String,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: String,
    /// From when on it is not taken any more.
    pub expires: Option<String>,
}

/// What is needed to decide whether a token is taken.
#[derive(Clone, Debug)]
pub struct TokenUse {
    /// Whose it is.
    pub tenant: Tenant,
    /// SHA-256 of the whole token.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: String,
    /// From when on it is not taken any more.
    pub expires: Option<String>,
}

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Action {
    /// When.
    pub at: String,
    /// By which token; empty for the host itself.
    pub token: String,
    /// What the token's owner calls it.
    #[serde(default)]
    pub token_name: Option<String>,
    /// What was done.
    pub action: String,
    /// To what.
    pub object: String,
    /// What changed by it, in words.
    #[serde(default)]
    pub detail: String,
}

/// Bytes of what a line of the audit log tells of a change.
const MOST_DETAIL: usize = 512;

const TENANT: &str = "tenants.id, tenants.name, weight, running, queued, storage, tenants.created, instances, memory, \
                      cpu_seconds, device_seconds";

fn tenant(row: &Row<'_>) -> rusqlite::Result<Tenant> {
    let quotas = Quotas {
        running: row.get(3)?,
        queued: row.get(4)?,
        storage: row.get(5)?,
        instances: row.get(7)?,
        memory: row.get(8)?,
        cpu_seconds: row.get(9)?,
        device_seconds: row.get(10)?,
    };
    Ok(Tenant { id: row.get(0)?, name: row.get(1)?, weight: row.get(2)?, quotas, created: row.get(6)? })
}

/// The tenant that something belongs to.
pub(super) fn of_id(on: &Connection, id: i64) -> Result<Tenant> {
    Ok(on.prepare_cached(&format!("SELECT {TENANT} FROM tenants WHERE id = ?1"))?.query_row([id], tenant)?)
}

fn of_name(on: &Connection, name: &str) -> Result<Tenant> {
    let sql = format!("SELECT {TENANT} FROM tenants WHERE name = ?1");
    let found = optional(on.prepare_cached(&sql)?.query_row([name], tenant))?;
    found.ok_or_else(|| StateError::Unknown { what: "tenant", name: name.to_owned() })
}

fn set_quotas(on: &Connection, tenant: i64, quotas: &Quotas) -> Result<()> {
    let Quotas { running, queued, storage, instances, memory, cpu_seconds, device_seconds } = quotas;
    let sql =
        "UPDATE tenants SET running = ?1, queued = ?2, storage = ?3, instances = ?4, memory = ?5, cpu_seconds = ?6,
               device_seconds = ?7 WHERE id = ?8";
    on.execute(sql, params![running, queued, storage, instances, memory, cpu_seconds, device_seconds, tenant])?;
    Ok(())
}

/// Writes a line of the audit log, in the change that it tells of: what was done to what, and what changed by it.
pub(super) fn audit(
    on: &Connection,
    (tenant, token): (i64, &str),
    (action, object): (&str, &str),
    detail: &str,
) -> Result<()> {
    // Callers choose some of it, and the log is kept for ever.
    let detail = &detail[..detail.floor_char_boundary(MOST_DETAIL)];
    on.prepare_cached("INSERT INTO audit (at, tenant, token, action, object, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![now(), tenant, token, action, object, detail])?;
    Ok(())
}

/// A tenant's share in words: all of it, or what changed.
fn share(before: Option<(u32, &Quotas)>, (weight, quotas): (u32, &Quotas)) -> String {
    let parts = |(weight, quotas): (u32, &Quotas)| {
        let Quotas { running, queued, storage, instances, memory, cpu_seconds, device_seconds } = *quotas;
        [
            ("weight", Some(u64::from(weight))),
            ("running", Some(running.into())),
            ("queued", Some(queued.into())),
            ("storage", Some(storage)),
            ("instances", instances),
            ("memory", memory),
            ("cpu_seconds", cpu_seconds),
            ("device_seconds", device_seconds),
        ]
    };
    let shown = |most: Option<u64>| most.map_or_else(|| "none".to_owned(), |most| most.to_string());
    let now = parts((weight, quotas)).into_iter();
    let told: Vec<String> = match before.map(parts) {
        None => now.map(|(what, most)| format!("{what} {}", shown(most))).collect(),
        Some(before) => {
            let both = before.into_iter().zip(now).filter(|((_, then), (_, now))| then != now);
            both.map(|((what, then), (_, now))| format!("{what} {} → {}", shown(then), shown(now))).collect()
        }
    };
    told.join(", ")
}

impl State {
    /// Makes a tenant, on behalf of the token `by` of tenant `of`; the first has neither.
    ///
    /// # Errors
    /// If there is one of this name.
    pub fn create_tenant(&self, name: &str, weight: u32, quotas: Quotas, by: Option<(i64, &str)>) -> Result<Tenant> {
        let (name, by) = (name.to_owned(), by.map(|(tenant, token)| (tenant, token.to_owned())));
        self.change(move |on| {
            let created = now();
            let sql =
                "INSERT INTO tenants (name, weight, running, queued, storage, created) VALUES (?1, ?2, 0, 0, 0, ?3)";
            on.execute(sql, params![name, weight, created]).map_err(|e| {
                if is_taken(&e) { StateError::Exists { what: "tenant", name: name.clone() } } else { e.into() }
            })?;
            let id = on.last_insert_rowid();
            set_quotas(on, id, &quotas)?;
            let (of, token) = by.unwrap_or((id, String::new()));
            audit(on, (of, &token), ("tenant create", &name), &share(None, (weight, &quotas)))?;
            Ok(Tenant { id, name, weight, quotas, created })
        })
    }

    /// Changes a tenant's weight and limits, all at once.
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn update_tenant(
        &self,
        name: &str,
        (weight, change): (Option<u32>, QuotasChange),
        by: (i64, &str),
    ) -> Result<Tenant> {
        let (name, by) = (name.to_owned(), (by.0, by.1.to_owned()));
        self.change_access(move |on| {
            let found = of_name(on, &name)?;
            on.execute("UPDATE tenants SET weight = coalesce(?1, weight) WHERE id = ?2", params![weight, found.id])?;
            let quotas = change.of(found.quotas);
            set_quotas(on, found.id, &quotas)?;
            let before = (found.weight, &found.quotas);
            let detail = share(Some(before), (weight.unwrap_or(found.weight), &quotas));
            audit(on, (by.0, &by.1), ("tenant update", &name), &detail)?;
            of_id(on, found.id)
        })
    }

    /// Every tenant, by name.
    ///
    /// # Errors
    /// The database's.
    pub fn tenants(&self) -> Result<Vec<Tenant>> {
        let read = self.read();
        let mut query = read.prepare_cached(&format!("SELECT {TENANT} FROM tenants ORDER BY name"))?;
        let rows = query.query_map([], tenant)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The tenant of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn tenant(&self, name: &str) -> Result<Tenant> {
        of_name(&self.read(), name)
    }

    /// Keeps a token, on behalf of another; whoever has the host's folder is nobody's token. `action` is what the audit
    /// log calls it.
    ///
    /// # Errors
    /// The database's.
    pub fn create_token(&self, new: NewToken, action: &'static str, by: Option<(i64, &str)>) -> Result<()> {
        let by = by.map(|(tenant, token)| (tenant, token.to_owned()));
        self.change(move |on| {
            let sql = "INSERT INTO tokens (id, tenant, name, hash, scopes, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            on.execute(sql, params![new.id, new.tenant, new.name, new.hash, new.scopes, now(), new.expires])?;
            let (of, token) = by.unwrap_or((new.tenant, String::new()));
            let until = new.expires.map_or_else(|| "without an end".to_owned(), |end| format!("until {end}"));
            let tenant = of_id(on, new.tenant)?.name;
            let detail = format!("`{}` of tenant `{tenant}`: {}, {until}", new.name, new.scopes);
            audit(on, (of, &token), (action, &new.id), &detail)
        })
    }

    /// The token with this public part, unless it was revoked, where no disk has to be asked for it.
    pub fn known_token(&self, id: &str) -> Option<TokenUse> {
        self.known.find(id).ok()
    }

    /// The token with this public part, unless it was revoked.
    ///
    /// # Errors
    /// The database's.
    pub fn token(&self, id: &str) -> Result<Option<TokenUse>> {
        let asked = match self.known.find(id) {
            Ok(token) => return Ok(Some(token)),
            Err(asked) => asked,
        };
        let sql = format!(
            "SELECT {TENANT}, hash, scopes, expires FROM tokens JOIN tenants ON tenants.id = tenant
             WHERE tokens.id = ?1 AND revoked IS NULL"
        );
        let read = self.read();
        let mut query = read.prepare_cached(&sql)?;
        let found = optional(query.query_row([id], |row| {
            Ok(TokenUse { tenant: tenant(row)?, hash: row.get(11)?, scopes: row.get(12)?, expires: row.get(13)? })
        }))?;
        if let Some(token) = &found {
            self.known.keep(id, asked, token);
        }
        Ok(found)
    }

    /// The tokens of one tenant, or of all, the newest last.
    ///
    /// # Errors
    /// The database's.
    pub fn tokens(&self, of: Option<i64>) -> Result<Vec<Token>> {
        let read = self.read();
        let mut query = read.prepare_cached(
            "SELECT tokens.id, tenants.name, tokens.name, scopes, tokens.created, expires, revoked
             FROM tokens JOIN tenants ON tenants.id = tenant WHERE ?1 IS NULL OR tenant = ?1 ORDER BY tokens.created, tokens.id",
        )?;
        let rows = query.query_map([of], |row| {
            Ok(Token {
                id: row.get(0)?,
                tenant: row.get(1)?,
                name: row.get(2)?,
                scopes: row.get(3)?,
                created: row.get(4)?,
                expires: row.get(5)?,
                revoked: row.get(6)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// Revokes a token of a tenant, or of any.
    ///
    /// # Errors
    /// If there is none, it was revoked before, or nobody could make another after it.
    pub fn revoke_token(&self, id: &str, of: Option<i64>, by: (i64, &str)) -> Result<()> {
        let (id, by) = (id.to_owned(), (by.0, by.1.to_owned()));
        self.change_access(move |on| {
            let others = "SELECT count(*) FROM tokens WHERE id <> ?1 AND revoked IS NULL AND expires IS NULL
                          AND ' ' || scopes || ' ' LIKE '% admin %'";
            let others: u64 = on.query_row(others, [&id], |row| row.get(0))?;
            if others == 0 {
                let by = "no other token without an end may make tokens".to_owned();
                return Err(StateError::InUse { what: "token", name: id, by });
            }
            let sql =
                "UPDATE tokens SET revoked = ?1 WHERE id = ?2 AND revoked IS NULL AND (?3 IS NULL OR tenant = ?3)";
            if on.execute(sql, params![now(), id, of])? == 0 {
                return Err(StateError::Unknown { what: "token", name: id });
            }
            let sql = "SELECT '`' || tokens.name || '` of tenant `' || tenants.name || '`'
                       FROM tokens JOIN tenants ON tenants.id = tenant WHERE tokens.id = ?1";
            let detail: String = on.query_row(sql, [&id], |row| row.get(0))?;
            audit(on, (by.0, &by.1), ("token revoke", &id), &detail)
        })
    }

    /// The latest lines of a tenant's audit log, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub fn audit_log(&self, tenant: i64, most: u32) -> Result<Vec<Action>> {
        let read = self.read();
        let mut query = read.prepare_cached(
            "SELECT at, token, tokens.name, action, object, detail FROM audit LEFT JOIN tokens ON tokens.id = token
             WHERE audit.tenant = ?1 ORDER BY audit.id DESC LIMIT ?2",
        )?;
        let rows = query.query_map(params![tenant, most], |row| {
            Ok(Action {
                at: row.get(0)?,
                token: row.get(1)?,
                token_name: row.get(2)?,
                action: row.get(3)?,
                object: row.get(4)?,
                detail: row.get(5)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
