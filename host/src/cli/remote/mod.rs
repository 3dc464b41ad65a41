//! The verbs that ask a running host, over HTTP: `model`, `endpoint`, `deployment`, `job`, `upload`, `tenant`, `token`,
//! `usage` and `audit`, in the words of Azure's command line.
//!
//! What goes in: what was typed, and files to send. What comes out: requests, and answers printed as tables, JSON or
//! names. No rule is here: what may be named, made or deleted, the host decides.

mod client;
mod deployment;
mod download;
mod endpoint;
mod error;
mod job;
mod model;
mod path;
mod profile;
mod report;
mod show;
mod tenant;
mod upload;
mod uploads;

use std::io::{BufRead, IsTerminal, Write};

use clap::{Args, Subcommand};

pub(crate) use error::RemoteError;

use client::Client;
use profile::Profile;
use show::Format;

#[derive(Subcommand)]
pub(crate) enum Group {
    /// Models that a host keeps
    #[command(subcommand)]
    Model(model::Verb),
    /// Endpoints of a host: names that jobs are posted to
    #[command(subcommand)]
    Endpoint(endpoint::Verb),
    /// Deployments below a host's endpoints: what answers jobs
    #[command(subcommand)]
    Deployment(deployment::Verb),
    /// Jobs of a host
    #[command(subcommand)]
    Job(job::Verb),
    /// Uploads that a host keeps: folders that were sent to it
    #[command(subcommand)]
    Upload(uploads::Verb),
    /// Tenants of a host: who shares it
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Tokens of a host: who may do what
    #[command(subcommand)]
    Token(tenant::TokenVerb),
    /// What tenants and jobs of a host used, by days
    Usage(report::UsageArgs),
    /// Who changed what of your tenant on a host, the newest first
    Audit(report::AuditArgs),
}

/// Which host is asked, and how its answer is printed.
#[derive(Args)]
pub(crate) struct HostArgs {
    /// The host. The token comes from SCOREHOST_TOKEN; both may be written in scorehost/config.yml in your config folder
    /// [default: http://127.0.0.1:8484]
    #[arg(long, value_name = "URL", env = "SCOREHOST_URL")]
    url: Option<String>,
    /// What is printed
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

impl HostArgs {
    fn client(&self) -> Result<Client, RemoteError> {
        Client::new(Profile::find(self.url.as_deref())?)
    }
}

/// Whether what cannot be undone is to be done.
#[derive(Args)]
pub(crate) struct Yes {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Yes {
    /// Asks on a terminal; elsewhere nobody could answer.
    fn is_given(&self, question: &str) -> Result<bool, RemoteError> {
        if self.yes {
            return Ok(true);
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            let text = format!("{question} There is no terminal to answer on");
            return Err(RemoteError::Use { text, hint: "--yes answers" });
        }
        // With stderr gone the answer is waited for all the same.
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        // What cannot be read is no yes.
        let _ = stdin.lock().read_line(&mut answer);
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// A name is never empty: in a script that is a variable without a value, and would name the list of all.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// Does the verb.
pub(crate) fn remote(group: &Group) -> anyhow::Result<u8> {
    match group {
        Group::Model(verb) => model::model(verb),
        Group::Endpoint(verb) => endpoint::endpoint(verb),
        Group::Deployment(verb) => deployment::deployment(verb),
        Group::Job(verb) => job::job(verb),
        Group::Upload(verb) => uploads::uploads(verb),
        Group::Tenant(verb) => tenant::tenant(verb),
        Group::Token(verb) => tenant::token(verb),
        Group::Usage(args) => report::usage(args),
        Group::Audit(args) => report::audit(args),
    }
}
