//! `tenant` and `token`: who shares a host, and who may do what on it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use scorehost::service::host::{
    NewTokenView, QuotasChange, Scope, TenantDetailView, TenantView, TokenView, recover_token,
};
use serde_json::{Value, json};

use super::super::{COMPLETED, note, say};
use super::error::RemoteError;
use super::path::encoded;
use super::show::Format;
use super::{HostArgs, name, show};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make a tenant
    Create {
        /// Its name
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List the tenants
    List {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show a tenant, and what it has and used of what it may
    Show {
        /// The tenant
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Change a tenant's share and limits; what is not named stays
    Update {
        /// The tenant
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        share: Share,
        #[command(flatten)]
        host: HostArgs,
    },
}

/// What a tenant gets of a host.
#[derive(Args)]
pub(crate) struct Share {
    /// Its share of the host, beside the others'
    #[arg(short, long, value_parser = count, allow_negative_numbers = true)]
    weight: Option<u32>,
    /// Jobs that run at once
    #[arg(long, value_name = "JOBS", value_parser = count, allow_negative_numbers = true)]
    running: Option<u32>,
    /// Jobs that wait
    #[arg(long, value_name = "JOBS", value_parser = count, allow_negative_numbers = true)]
    queued: Option<u32>,
    /// Bytes stored, such as 100GiB
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_negative_numbers = true)]
    storage: Option<u64>,
    /// Instances of its jobs at once, or `none` for any number
    #[arg(long, value_name = "NUMBER", value_parser = number_or_none, allow_negative_numbers = true)]
    instances: Option<Limit>,
    /// Bytes that these instances may have together, such as 8GiB, or `none`
    #[arg(long, value_name = "BYTES", value_parser = bytes_or_none, allow_negative_numbers = true)]
    memory: Option<Limit>,
    /// Seconds of processors in a calendar month (UTC), such as 3600 or 10h, or `none`
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none, allow_negative_numbers = true)]
    cpu_seconds: Option<Limit>,
    /// Seconds of models on their device in a calendar month (UTC), likewise
    #[arg(long, value_name = "SECONDS", value_parser = seconds_or_none, allow_negative_numbers = true)]
    device_seconds: Option<Limit>,
}

/// A limit, or none.
#[derive(Clone, Copy)]
struct Limit(Option<u64>);

/// How many; there is no `none` for these.
fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("a whole number from 0 to {}", u32::MAX))
}

fn number_or_none(text: &str) -> Result<Limit, String> {
    or_none(text, |text| text.parse().map_err(|_| "a whole number".to_owned()))
}

fn bytes_or_none(text: &str) -> Result<Limit, String> {
    or_none(text, bytes)
}

fn seconds_or_none(text: &str) -> Result<Limit, String> {
    let seconds = |text: &str| match text.parse() {
        Ok(seconds) => Ok(seconds),
        Err(_) => humantime::parse_duration(text).map(|time| time.as_secs()),
    };
    or_none(text, |text| seconds(text).map_err(|_| "seconds as a whole number, or a time such as 10h".to_owned()))
}

fn or_none(text: &str, read: impl FnOnce(&str) -> Result<u64, String>) -> Result<Limit, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    read(text).map(|most| Limit(Some(most))).map_err(|cure| format!("{cure}, or `none` for no limit"))
}

/// A number, with or without a unit of bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err("a whole number of bytes, or one with KiB, MiB, GiB or TiB".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "a whole number of bytes, or one with KiB, MiB, GiB or TiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too large".to_owned())
}

impl Share {
    fn change(&self) -> QuotasChange {
        let limit = |limit: Option<Limit>| limit.map(|Limit(most)| most);
        QuotasChange {
            running: self.running,
            queued: self.queued,
            storage: self.storage,
            instances: limit(self.instances),
            memory: limit(self.memory),
            cpu_seconds: limit(self.cpu_seconds),
            device_seconds: limit(self.device_seconds),
        }
    }

    /// As a request has it.
    fn wish(&self) -> Value {
        let mut wish = json!({"quotas": self.change()});
        if let Some(weight) = self.weight {
            wish["weight"] = json!(weight);
        }
        wish
    }
}

#[derive(Subcommand)]
pub(crate) enum TokenVerb {
    /// Make a token. It is shown this once; -o name prints it alone
    Create {
        /// What you call it
        #[arg(short, long, value_parser = name)]
        name: String,
        /// Whose it is [default: yours]
        #[arg(short, long, value_parser = name)]
        tenant: Option<String>,
        /// What it may do: read, invoke, write or admin; several are possible
        #[arg(short, long = "scope", value_name = "SCOPE", value_delimiter = ',', required = true)]
        scopes: Vec<Scope>,
        /// How long it is taken: 12h, 30d [default: until it is revoked]
        #[arg(short, long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Make a token that may do everything, in the folder of a host that is stopped
    Recover {
        /// The host's folder, as `serve` was given it
        #[arg(long, value_name = "FOLDER", default_value = "scorehost-data", env = "SCOREHOST_DATA")]
        data: PathBuf,
    },
    /// List the tokens, without what makes them ones
    List {
        #[command(flatten)]
        host: HostArgs,
    },
    /// End a token
    Revoke {
        /// Its id, as `token list` shows it
        #[arg(long, value_parser = name)]
        id: String,
        #[command(flatten)]
        host: HostArgs,
    },
}

pub(super) fn tenant(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create { name, share, host } => {
            let mut wish = share.wish();
            wish["name"] = json!(name);
            show::one(&host.client()?.post::<TenantView>("/tenants", &wish)?, host.output);
        }
        Verb::List { host } => show::all(&host.client()?.list::<TenantView>("/tenants")?, host.output),
        Verb::Show { name, host } => {
            show::one(&host.client()?.get::<TenantDetailView>(&format!("/tenants/{}", encoded(name)))?, host.output);
        }
        Verb::Update { name, share, host } => {
            if share.weight.is_none() && share.change() == QuotasChange::default() {
                let text = "nothing is said that would change".to_owned();
                return Err(RemoteError::Use { text, hint: "--weight, --running and others say what" }.into());
            }
            let path = format!("/tenants/{}", encoded(name));
            show::one(&host.client()?.patch::<TenantView>(&path, &share.wish())?, host.output);
        }
    }
    Ok(COMPLETED)
}

pub(super) fn token(verb: &TokenVerb) -> anyhow::Result<u8> {
    match verb {
        TokenVerb::Create { name, tenant, scopes, expires, host } => {
            let scopes: Vec<&str> = scopes.iter().map(|scope| scope.name()).collect();
            let mut wish = json!({"name": name, "scopes": scopes});
            if let Some(tenant) = tenant {
                wish["tenant"] = json!(tenant);
            }
            if let Some(expires) = expires {
                wish["lifetime_seconds"] = json!(expires.as_secs());
            }
            show::one(&host.client()?.post::<NewTokenView>("/tokens", &wish)?, host.output);
            if host.output == Format::Table {
                note!("keep the token: it is not shown again");
            }
        }
        TokenVerb::Recover { data } => {
            let token = recover_token(data).with_context(|| format!("no token is made in `{}`", data.display()))?;
            note!("this token may do everything, and is not shown again");
            say!("{token}");
        }
        TokenVerb::List { host } => show::all(&host.client()?.list::<TokenView>("/tokens")?, host.output),
        TokenVerb::Revoke { id, host } => {
            host.client()?.delete(&format!("/tokens/{}", encoded(id)))?;
            note!("revoked token {id}");
        }
    }
    Ok(COMPLETED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [("7", 7), ("1KiB", 1024), ("2 GiB", 2 << 30), ("0", 0), ("3TiB", 3 << 40)] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for bad in ["", "x", "-1", "1GB", "1.5GiB", "99999999999999999999", "99999999TiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_have_units_of_their_own_and_say_what_they_take() {
        let read = |limit: Result<Limit, String>| limit.map(|Limit(most)| most);
        assert_eq!(read(seconds_or_none("90")), Ok(Some(90)));
        assert_eq!(read(seconds_or_none("1h 30s")), Ok(Some(3630)));
        assert_eq!(read(number_or_none("none")), Ok(None));
        assert_eq!(read(bytes_or_none("1KiB")), Ok(Some(1024)));
        for refused in [seconds_or_none("1GiB"), seconds_or_none("-1"), number_or_none("1KiB"), bytes_or_none("1h")] {
            let told = read(refused).unwrap_err();
            assert!(told.contains("or `none`"), "{told}");
        }
        assert!(count("none").unwrap_err().contains("a whole number"));
    }

    #[test]
    fn only_what_was_typed_is_asked_for() {
        let share = Share {
            weight: None,
            running: Some(2),
            queued: None,
            storage: None,
            instances: Some(Limit(None)),
            memory: None,
            cpu_seconds: Some(Limit(Some(60))),
            device_seconds: None,
        };
        assert_eq!(share.wish(), json!({"quotas": {"running": 2, "instances": null, "cpu_seconds": 60}}));
    }
}
