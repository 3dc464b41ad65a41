//! Who calls: tenants, and tokens that are shown once and kept as digests.

use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{DATABASE, Host, HostError, NewTokenView, TenantView, TokenView, hold, names};
use crate::cache::hex;
use crate::observe::Place;
use crate::state::{Action, NewToken, Quotas, QuotasChange, State, Tenant, TokenUse};

/// What a token begins with, so that it is known for one where it should not be.
const PREFIX: &str = "sh";
/// The first tenant.
const FIRST: &str = "default";
/// Longer ones are nobody's.
const MOST_TOKEN: usize = 128;

/// Lines of the audit log that are given at once.
const MOST_ACTIONS: u32 = 1000;

/// How long a token may live that has an end.
const MOST_LIFETIME: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See everything of its tenant.
    Read,
    /// Post jobs, stop and resume them.
    Invoke,
    /// Change models, endpoints and deployments.
    Write,
    /// Make tenants, and tokens for any.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Invoke, Scope::Write, Scope::Admin];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Invoke => "invoke",
            Scope::Write => "write",
            Scope::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Scope::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("`{text}` is no scope; there are read, invoke, write and admin"))
    }
}

/// A caller who was recognised by their token.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(super) tenant: Tenant,
    pub(super) token: String,
    scopes: Vec<Scope>,
    /// Where the request is in a trace, if anybody traces.
    pub(super) place: Option<Place>,
}

impl Caller {
    /// The tenant's name.
    pub fn tenant(&self) -> &str {
        &self.tenant.name
    }

    /// The same caller, whose request has a place in a trace.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The token's public part.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Whether the token has the scope: for who shows what may be done.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// # Errors
    /// If the token lacks both; it names the first.
    pub(super) fn may_either(&self, first: Scope, second: Scope) -> Result<(), HostError> {
        self.may(first).or_else(|lacking| self.may(second).map_err(|_| lacking))
    }

    /// # Errors
    /// If the token lacks the scope.
    pub(super) fn may(&self, scope: Scope) -> Result<(), HostError> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(HostError::Scope(scope)) }
    }
}

/// By which a token is found; nothing of what cannot be one.
fn public_part(token: &str) -> &str {
    token.split('_').nth(1).filter(|_| token.len() <= MOST_TOKEN).unwrap_or_default()
}

/// Whom the token is of, if it is the one that is kept.
fn caller(token: &str, found: Option<TokenUse>) -> Result<Caller, HostError> {
    let given: [u8; 32] = Sha256::digest(token).into();
    // Compared also where there is none, so that the time tells nothing.
    let kept = found.as_ref().map_or([0; 32], |found| found.hash);
    let is_same = bool::from(given.ct_eq(&kept));
    let found = found.filter(|_| is_same).ok_or(HostError::Stranger)?;
    if found.expires.as_ref().is_some_and(|expires| *expires <= crate::state::now()) {
        return Err(HostError::Stranger);
    }
    let scopes = found.scopes.split(' ').filter_map(|scope| scope.parse().ok()).collect();
    Ok(Caller { tenant: found.tenant, token: public_part(token).to_owned(), scopes, place: None })
}

/// A token, and what is kept of it.
fn make_token() -> Result<(String, String, [u8; 32]), HostError> {
    let mut random = [0u8; 40];
    SysRng
        .try_fill_bytes(&mut random)
        .map_err(|e| HostError::Disk { what: "get random numbers", source: std::io::Error::other(e.to_string()) })?;
    let id = hex(&random[..8]);
    let token = format!("{PREFIX}_{id}_{}", URL_SAFE_NO_PAD.encode(&random[8..]));
    let hash = Sha256::digest(&token).into();
    Ok((token, id, hash))
}

/// On the first start: a tenant, and a token that may do everything.
pub(super) fn first_token(state: &State) -> Result<Option<String>, HostError> {
    if !state.tenants()?.is_empty() {
        return Ok(None);
    }
    let tenant = state.create_tenant(FIRST, 1, Quotas::default(), None)?;
    all_scopes(state, tenant.id, "first", "token create").map(Some)
}

/// A token of the first tenant that may do everything, kept on behalf of nobody's token.
fn all_scopes(state: &State, tenant: i64, name: &str, action: &'static str) -> Result<String, HostError> {
    let (token, id, hash) = make_token()?;
    let scopes = Scope::ALL.map(Scope::name).join(" ");
    state.create_token(NewToken { id, tenant, name: name.to_owned(), hash, scopes, expires: None }, action, None)?;
    Ok(token)
}

/// Makes a token that may do everything, for whoever has lost the last: to write in the host's folder is reason enough.
/// Tokens that were there stay, and the audit log has a line.
///
/// # Errors
/// If there is no host's folder, a host serves it, or it cannot be used.
pub fn recover_token(data: &Path) -> Result<String, HostError> {
    let database = data.join(DATABASE);
    if !database.is_file() {
        let text = format!("`{}` is no host's folder: it has no `{DATABASE}`", data.display());
        return Err(HostError::Refused(format!("{text}\nhint: name what `serve` was given as --data")));
    }
    let _lock = hold(data)?;
    let state = State::open(&database)?;
    // A host that ended within its first start has none yet.
    match first_token(&state)? {
        Some(token) => Ok(token),
        None => all_scopes(&state, state.tenant(FIRST)?.id, "recovered", "token recover"),
    }
}

/// Numbers that can be kept, and that tenants are shared by.
fn check_share(weight: u32, quotas: &Quotas) -> Result<(), HostError> {
    if !(1..=1000).contains(&weight) {
        return Err(HostError::Refused(format!("the weight {weight} is not in 1 to 1000")));
    }
    let Quotas { running: _, queued: _, storage, instances, memory, cpu_seconds, device_seconds } = *quotas;
    for (what, most) in [
        ("storage", Some(storage)),
        ("instances", instances),
        ("memory", memory),
        ("cpu_seconds", cpu_seconds),
        ("device_seconds", device_seconds),
    ] {
        if most.is_some_and(|most| i64::try_from(most).is_err()) {
            return Err(HostError::Refused(format!("the quota `{what}` is over {}", i64::MAX)));
        }
    }
    Ok(())
}

impl Host {
    /// Who has this token.
    ///
    /// # Errors
    /// If nobody has: the same for every reason.
    pub fn recognise(&self, token: &str) -> Result<Caller, HostError> {
        let found = self.state.token(public_part(token))?;
        caller(token, found)
    }

    /// The same, where that waits for no disk; nothing where it would.
    pub fn recognise_at_once(&self, token: &str) -> Option<Result<Caller, HostError>> {
        let found = self.state.known_token(public_part(token))?;
        Some(caller(token, Some(found)))
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// If the caller may not, or there is one of this name.
    pub fn create_tenant(
        &self,
        caller: &Caller,
        name: &str,
        weight: u32,
        quotas: Quotas,
    ) -> Result<TenantView, HostError> {
        caller.may(Scope::Admin)?;
        check_share(weight, &quotas)?;
        let name = names::name("tenant", name)?;
        Ok(self.state.create_tenant(name, weight, quotas, Some((caller.tenant.id, &caller.token)))?.into())
    }

    /// Changes a tenant's weight and limits. What runs goes on; what waits is held to them.
    ///
    /// # Errors
    /// If the caller may not, or there is none.
    pub fn update_tenant(
        &self,
        caller: &Caller,
        name: &str,
        weight: Option<u32>,
        change: QuotasChange,
    ) -> Result<TenantView, HostError> {
        caller.may(Scope::Admin)?;
        check_share(weight.unwrap_or(1), &change.of(Quotas::default()))?;
        let tenant = self.state.update_tenant(name, (weight, change), (caller.tenant.id, &caller.token))?;
        self.scheduler.wake();
        Ok(tenant.into())
    }

    /// Every tenant; those who are no administrators see their own.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn tenants(&self, caller: &Caller) -> Result<Vec<TenantView>, HostError> {
        if caller.may(Scope::Admin).is_ok() {
            return Ok(self.state.tenants()?.into_iter().map(Into::into).collect());
        }
        caller.may(Scope::Read)?;
        Ok(vec![caller.tenant.clone().into()])
    }

    /// Makes a token for the caller's tenant, or for another. It is shown this once.
    ///
    /// # Errors
    /// If the caller may not, or there is no such tenant.
    pub fn create_token(
        &self,
        caller: &Caller,
        tenant: Option<&str>,
        name: &str,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<NewTokenView, HostError> {
        caller.may(Scope::Admin)?;
        if scopes.is_empty() {
            return Err(HostError::Refused(
                "a token without a scope is of no use\nhint: there are read, invoke, write and admin".into(),
            ));
        }
        let name = names::name("token", name)?;
        let tenant = tenant.map_or_else(|| Ok(caller.tenant.clone()), |name| self.state.tenant(name))?;
        let expires = lifetime
            .map(|lifetime| {
                if lifetime.is_zero() {
                    return Err(HostError::Refused(
                        "a token that lives for 0 s is never taken\nhint: say for how long, or nothing for a token without \
                         an end"
                            .into(),
                    ));
                }
                if lifetime > MOST_LIFETIME {
                    return Err(HostError::Refused("the token would live for more than ten years\nhint: without a lifetime it has no end".into()));
                }
                let end = SystemTime::now() + lifetime;
                Ok::<_, HostError>(humantime::format_rfc3339_millis(end).to_string())
            })
            .transpose()?;
        let (token, id, hash) = make_token()?;
        let scopes = scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ");
        let new = NewToken {
            id: id.clone(),
            tenant: tenant.id,
            name: name.to_owned(),
            hash,
            scopes,
            expires: expires.clone(),
        };
        self.state.create_token(new, "token create", Some((caller.tenant.id, &caller.token)))?;
        Ok(NewTokenView { id, tenant: tenant.name, token, expires })
    }

    /// The tokens of the caller's tenant; of all, for administrators.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn tokens(&self, caller: &Caller) -> Result<Vec<TokenView>, HostError> {
        caller.may(Scope::Read)?;
        let of = if caller.may(Scope::Admin).is_ok() { None } else { Some(caller.tenant.id) };
        Ok(self.state.tokens(of)?.into_iter().map(Into::into).collect())
    }

    /// Ends a token.
    ///
    /// # Errors
    /// If the caller may not, or there is none.
    pub fn revoke_token(&self, caller: &Caller, id: &str) -> Result<(), HostError> {
        caller.may(Scope::Admin)?;
        Ok(self.state.revoke_token(id, None, (caller.tenant.id, &caller.token))?)
    }

    /// What was changed in the caller's tenant, the newest first.
    ///
    /// # Errors
    /// If the caller may not, or asks for none or too many.
    pub fn audit_log(&self, caller: &Caller, most: u32) -> Result<Vec<Action>, HostError> {
        caller.may(Scope::Read)?;
        if !(1..=MOST_ACTIONS).contains(&most) {
            let text = format!("{most} lines of the audit log cannot be given\nhint: `limit` is 1 to {MOST_ACTIONS}");
            return Err(HostError::Refused(text));
        }
        Ok(self.state.audit_log(caller.tenant.id, most)?)
    }
}
