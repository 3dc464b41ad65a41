//! `endpoint`: names that jobs are posted to, and posting them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use scorehost::deployment::keys::{KEYS, Key, Level};
use scorehost::deployment::{EndpointSpec, Spec};
use scorehost::service::ServiceError;
use scorehost::service::host::{EndpointView, InputSpec, JobCheck, JobRequest, JobView};
use scorehost::store::StoreUrl;
use serde_json::{Map, Value, json};

use super::super::run::key_value;
use super::super::{COMPLETED, FAILED, note};
use super::client::Client;
use super::error::{RemoteError, plain};
use super::path::encoded;
use super::show::Format;
use super::upload::{Upload, pieces};
use super::{HostArgs, Yes, name, show};

/// What a path of the host's begins with.
const ON_HOST: &str = "server:";

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make an endpoint
    Create {
        /// The endpoint's YAML
        #[arg(short, long, value_name = "ENDPOINT.yml")]
        file: Option<PathBuf>,
        /// Its name [default: the YAML's]
        #[arg(short, long, required_unless_present = "file", value_parser = name)]
        name: Option<String>,
        /// What it is for [default: the YAML's]
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// List the endpoints
    List {
        #[command(flatten)]
        host: HostArgs,
    },
    /// Show an endpoint
    Show {
        /// The endpoint
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Change an endpoint
    Update {
        /// The endpoint
        #[arg(short, long, value_parser = name)]
        name: String,
        /// What changes: defaults.deployment_name=…, description=…, tags.KEY=…
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value, required = true)]
        set: Vec<(String, String)>,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Delete an endpoint with its deployments
    Delete {
        /// The endpoint
        #[arg(short, long, value_parser = name)]
        name: String,
        #[command(flatten)]
        yes: Yes,
        #[command(flatten)]
        host: HostArgs,
    },
    /// Post a job: send a folder or a file, and have it scored
    Invoke(InvokeArgs),
}

#[derive(clap::Args)]
pub(crate) struct InvokeArgs {
    /// The endpoint
    #[arg(short, long, value_parser = name)]
    name: String,
    /// A folder or a file to send, server:/PATH for one that the host has, or a place in an object store that the host
    /// reads: s3://BUCKET/PREFIX
    #[arg(short, long)]
    input: PathBuf,
    /// A place in an object store that the host publishes the output to as well; one for each job
    #[arg(long, value_name = "PLACE")]
    output_path: Option<StoreUrl>,
    /// Who answers [default: the endpoint's default deployment]
    #[arg(short, long, value_name = "DEPLOYMENT", value_parser = name)]
    deployment_name: Option<String>,
    /// Replace a setting for this job: --set settings.mini_batch_size=5, or mini_batch_size=5
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Post it once, however often it is tried with this key
    #[arg(long, value_name = "KEY", value_parser = name)]
    idempotency_key: Option<String>,
    /// Go on with an upload that broke off
    #[arg(long, value_name = "UPLOAD", value_parser = name)]
    upload: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

pub(super) fn endpoint(verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::Create { file, name, description, host } => {
            let wish = wish(file.as_deref(), name.as_deref(), description.as_deref())?;
            let client = host.client()?;
            show::one(&whole(&client, client.post("/endpoints", &wish)?), host.output);
        }
        Verb::List { host } => {
            let client = host.client()?;
            let all: Vec<EndpointView> = client.list("/endpoints")?;
            show::all(&all.into_iter().map(|found| whole(&client, found)).collect::<Vec<_>>(), host.output);
        }
        Verb::Show { name, host } => show::one(&find(&host.client()?, name)?, host.output),
        Verb::Update { name, set, host } => show::one(&update(&host.client()?, name, set)?, host.output),
        Verb::Delete { name, yes, host } => {
            if !yes.is_given(&format!("delete endpoint `{name}` with its deployments?"))? {
                note!("nothing was deleted");
                return Ok(FAILED);
            }
            host.client()?.delete(&address(name))?;
            note!("deleted endpoint {name}");
        }
        Verb::Invoke(args) => {
            let job = invoke(args)?;
            show::one(&job, args.host.output);
            if args.host.output == Format::Table {
                note!("hint: scorehost job stream -n {} watches it", plain(&job.name));
            }
        }
    }
    Ok(COMPLETED)
}

fn address(name: &str) -> String {
    format!("/endpoints/{}", encoded(name))
}

fn find(client: &Client, name: &str) -> Result<EndpointView, RemoteError> {
    Ok(whole(client, client.get(&address(name))?))
}

/// With the scoring address as clients of Azure take it, from wherever they are.
fn whole(client: &Client, found: EndpointView) -> EndpointView {
    EndpointView { scoring_uri: format!("{}{}", client.url(), found.scoring_uri), ..found }
}

/// What is asked for; what was typed goes before what is written.
fn wish(file: Option<&Path>, name: Option<&str>, description: Option<&str>) -> anyhow::Result<Value> {
    let spec = file.map(EndpointSpec::read).transpose().map_err(ServiceError::from)?.unwrap_or_default();
    if !spec.not_used.is_empty() {
        note!("note: not used here: {}", spec.not_used.join(", "));
    }
    if let Some(deployment) = &spec.default_deployment {
        note!("note: deployment {deployment} becomes the default with `deployment create --set-default`");
    }
    let Some(name) = name.or(spec.name.as_deref()) else {
        let text = "the file has no `name`".to_owned();
        return Err(RemoteError::Use { text, hint: "--name names the endpoint" }.into());
    };
    let mut wish = json!({"name": name, "tags": spec.tags});
    if let Some(description) = description.or(spec.description.as_deref()) {
        wish["description"] = json!(description);
    }
    Ok(wish)
}

fn update(client: &Client, name: &str, set: &[(String, String)]) -> Result<EndpointView, RemoteError> {
    // The host replaces all tags together.
    let has_tags = set.iter().any(|(key, _)| key.starts_with("tags."));
    let tags = if has_tags { find(client, name)?.tags } else { BTreeMap::new() };
    Ok(whole(client, client.patch(&address(name), &change(set, tags)?)?))
}

fn change(set: &[(String, String)], mut tags: BTreeMap<String, String>) -> Result<Value, RemoteError> {
    let mut change = Map::new();
    for (key, value) in set {
        match (key.as_str(), key.strip_prefix("tags.")) {
            ("defaults.deployment_name", _) => {
                change.insert("defaults".to_owned(), json!({"deployment_name": value}));
            }
            ("description", _) => {
                change.insert(key.clone(), json!(value));
            }
            (_, Some(tag)) if !tag.is_empty() => {
                tags.insert(tag.to_owned(), value.clone());
                change.insert("tags".to_owned(), json!(tags));
            }
            _ => {
                return Err(RemoteError::Use {
                    text: format!("`--set {key}` changes nothing of an endpoint"),
                    hint: "there are `defaults.deployment_name`, `description` and `tags.KEY`",
                });
            }
        }
    }
    Ok(Value::Object(change))
}

fn invoke(args: &InvokeArgs) -> anyhow::Result<JobView> {
    let client = args.host.client()?;
    let (deployment, output, set) = (args.deployment_name.clone(), args.output_path.clone(), settings(&args.set)?);
    let path = format!("{}/jobs", address(&args.name));
    if args.idempotency_key.is_none() {
        // What would be refused is refused before anything is sent.
        let check = JobCheck { output: output.clone(), deployment: deployment.clone(), set: set.clone() };
        client.tell(&format!("{path}/check"), &check)?;
    } else {
        // What was accepted under this key is the answer, whatever would be refused today. Who may post jobs may not look at
        // endpoints, perhaps, and hears of a wrong name after sending.
        match find(&client, &args.name) {
            Err(RemoteError::Answer { status: 403, .. }) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (input, upload) = input(&client, args)?;
    let request = JobRequest { input, output, deployment, set };
    let posted = client.post_once(&path, &request, args.idempotency_key.as_deref());
    let posted = posted.map_err(|error| match upload {
        Some(upload) if error.is_refusal() => {
            upload.drop_own();
            error
        }
        Some(upload) => RemoteError::Unposted { upload: upload.id().to_owned(), source: Box::new(error) },
        None => error,
    });
    Ok(posted?)
}

/// What `--set` replaces, with `settings.` before those keys that `run` takes without; each is one, and has a value that it
/// may have.
fn settings(set: &[(String, String)]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut spec = Spec::parse("type: model", Path::new("")).map_err(ServiceError::from)?;
    let mut full = BTreeMap::new();
    for (key, value) in set {
        spec.set(key, value).map_err(ServiceError::from)?;
        let is =
            |known: &Key| key.strip_prefix(known.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let is_setting = KEYS.iter().any(|known| known.level == Level::Settings && is(known));
        full.insert(if is_setting { format!("settings.{key}") } else { key.clone() }, value.clone());
    }
    Ok(full)
}

/// What is scored, sent if it has to be; with its upload, if it has one.
fn input<'c>(client: &'c Client, args: &InvokeArgs) -> anyhow::Result<(InputSpec, Option<Upload<'c>>)> {
    if let Some(path) = args.input.to_str().and_then(|input| input.strip_prefix(ON_HOST)) {
        if args.upload.is_some() {
            let text = "files of the host's are not uploaded".to_owned();
            return Err(RemoteError::Use { text, hint: "leave out --upload" }.into());
        }
        return Ok((InputSpec::Path(path.to_owned()), None));
    }
    if let Some(place) = args.input.to_str().filter(|text| StoreUrl::is_meant(text)) {
        return Ok((InputSpec::Url(place.parse()?), None));
    }
    let pieces = pieces(&args.input, "")?;
    let upload = Upload::begin(client, args.upload.as_deref())?;
    upload.tell_when_interrupted(Some("endpoint invoke"));
    upload.send(&pieces).map_err(|error| {
        if error.breaks_off() {
            return RemoteError::BrokeOff { upload: upload.id().to_owned(), source: Box::new(error) };
        }
        if error.is_refusal() {
            upload.drop_own();
        }
        error
    })?;
    Ok((InputSpec::Upload(upload.id().to_owned()), Some(upload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_goes_before_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("endpoint.yml");
        std::fs::write(&file, "name: a\ndescription: b\ntags: {c: d}\nauth_mode: aad_token\n").unwrap();
        let written = json!({"name": "a", "description": "b", "tags": {"c": "d"}});
        assert_eq!(wish(Some(&file), None, None).unwrap(), written);
        let typed = json!({"name": "x", "description": "y", "tags": {"c": "d"}});
        assert_eq!(wish(Some(&file), Some("x"), Some("y")).unwrap(), typed);
        assert_eq!(wish(None, Some("x"), None).unwrap(), json!({"name": "x", "tags": {}}));
        std::fs::write(&file, "description: b\n").unwrap();
        assert!(wish(Some(&file), None, None).is_err());
    }

    #[test]
    fn a_change_names_only_what_changes() {
        let set = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
            change(&pairs, BTreeMap::from([("old".to_owned(), "1".to_owned())]))
        };
        let default = set(&[("defaults.deployment_name", "d")]).unwrap();
        assert_eq!(default, json!({"defaults": {"deployment_name": "d"}}));
        let several = set(&[("description", "a=b"), ("tags.new", "2"), ("tags.old", "3")]).unwrap();
        assert_eq!(several, json!({"description": "a=b", "tags": {"new": "2", "old": "3"}}));
        for key in ["name", "tags", "tags.", "defaults", "defaults.deployment"] {
            assert!(set(&[(key, "x")]).is_err(), "{key}");
        }
    }

    #[test]
    fn settings_are_written_as_run_takes_them() {
        let set = |key: &str, value: &str| {
            settings(&[(key.to_owned(), value.to_owned())]).map(|set| set.into_keys().next().unwrap())
        };
        for (typed, value, sent) in [
            ("mini_batch_size", "5", "settings.mini_batch_size"),
            ("settings.mini_batch_size", "5", "settings.mini_batch_size"),
            ("retry_settings.timeout", "5", "settings.retry_settings.timeout"),
            ("environment_variables.A", "x", "settings.environment_variables.A"),
            ("limits.memory", "1GiB", "settings.limits.memory"),
            ("resources.instance_count", "1", "resources.instance_count"),
            ("tags.team", "a", "tags.team"),
        ] {
            assert_eq!(set(typed, value).unwrap(), sent);
        }
        for (key, value) in [("mini_batch_sise", "5"), ("mini_batch_size", "many"), ("settings.nothing", "1")] {
            assert!(set(key, value).unwrap_err().to_string().contains(&format!("`--set {key}`")), "{key}");
        }
    }
}
