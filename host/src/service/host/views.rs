//! What callers are told: the words of REST and of the command line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::job::{Progress, record};
use crate::state::{self, JobStatus, Quotas, Usage, UsageLine};
use crate::store::StoreUrl;

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Its name.
    pub name: String,
    /// Its share of the host, beside the others'.
    pub weight: u32,
    /// What it may use.
    pub quotas: Quotas,
    /// When it was made.
    pub created: String,
}

/// A token, without what makes it one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public part.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created: String,
    /// From when on it is not taken.
    pub expires: Option<String>,
    /// When it was revoked.
    pub revoked: Option<String>,
}

/// A token that was made now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// Its public part.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// The token: shown this once.
    pub token: String,
    /// From when on it is not taken.
    pub expires: Option<String>,
}

/// A file of an upload or an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Its path below the folder, with `/` between.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// A folder that is being sent, or was.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// Its name.
    pub id: String,
    /// Whether it is whole: nothing is added any more.
    pub finished: bool,
    /// When it was begun.
    #[serde(default)]
    pub begun: String,
    /// What is there of it, by path.
    pub files: Vec<FileView>,
}

/// An upload, without its files.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UploadLineView {
    /// Its name.
    pub id: String,
    /// Whether it is whole: nothing is added any more.
    pub finished: bool,
    /// When it was begun.
    pub begun: String,
    /// How many files it has; none where it is not finished and a list would have to look at too many.
    pub count: Option<u64>,
    /// Their bytes, likewise.
    pub bytes: Option<u64>,
}

/// How much of a file of an upload is there.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UploadFileView {
    /// Its path below the folder, with `/` between.
    pub path: String,
    /// Bytes that are there: from the next one on it goes on. 0 where `sending` says all.
    pub bytes: u64,
    /// Bytes that it is to have.
    pub total: u64,
    /// Whether it is a file of the upload: one that came in part is none.
    pub whole: bool,
    /// Whether somebody sends it with a `Content-Range` at this moment.
    pub sending: bool,
}

/// An upload that is whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FinishedUploadView {
    /// Its name.
    pub id: String,
    /// That it is.
    pub finished: bool,
    /// How many files it has.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a tenant has of what it may have.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantDetailView {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantView,
    /// Beside its quotas.
    pub used: TenantUseView,
}

/// What a tenant has now, and used in this calendar month, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TenantUseView {
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait.
    pub queued: u64,
    /// Bytes stored.
    pub storage: u64,
    /// Instances of the jobs that run.
    pub instances: u64,
    /// Bytes that these may have together.
    pub memory: u64,
    /// This month.
    pub cpu_seconds: f64,
    /// This month.
    pub device_seconds: f64,
}

/// What a tenant or a job used in a span of days.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// The tenant's name.
    pub tenant: String,
    /// The job, where each is told by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How many jobs.
    pub jobs: u64,
    /// What they used.
    #[serde(flatten)]
    pub usage: Usage,
}

/// A version of a model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    /// Its name.
    pub name: String,
    /// Its number.
    pub version: u32,
    /// Of its files.
    pub digest: String,
    /// When it was made.
    pub created: String,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The owner's own words.
    pub tags: BTreeMap<String, String>,
    /// As Azure has it.
    pub defaults: DefaultsView,
    /// Where jobs are posted in Azure's words: a path of this host.
    pub scoring_uri: String,
    /// When it was made.
    pub created: String,
    /// When it was last changed.
    pub updated: String,
}

/// What an endpoint does where it is not told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DefaultsView {
    /// The deployment that answers.
    pub deployment_name: Option<String>,
    /// Which version of it.
    pub deployment_version: Option<u32>,
}

/// A version of a deployment.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    /// Its endpoint's name.
    pub endpoint: String,
    /// Its name.
    pub name: String,
    /// Its number.
    pub version: u32,
    /// Whether it answers by default.
    pub is_default: bool,
    /// Of the YAML and of every file.
    pub digest: String,
    /// The script's digest.
    pub script: Option<String>,
    /// The registered model's digest, where the YAML names one.
    pub model: Option<String>,
    /// When it was made.
    pub created: String,
}

/// What a job scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum InputSpec {
    /// A folder that was sent.
    Upload(String),
    /// A folder or a file of the host's, below one that the operator allows.
    Path(String),
    /// A place in an object store, below one that the operator allows: `s3://BUCKET/PREFIX`, or one object.
    Url(StoreUrl),
}

/// A wish for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// What is scored.
    pub input: InputSpec,
    /// A place in an object store that the output is published to as well, one for each job, below one that the operator
    /// allows. `job.json` appears there last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<StoreUrl>,
    /// The deployment, or the endpoint's default.
    #[serde(default)]
    pub deployment: Option<String>,
    /// Settings that replace the deployment's, as `--set` does.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// A wish for a job whose input is still to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobCheck {
    /// As the job is to have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<StoreUrl>,
    /// Likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Likewise.
    pub set: BTreeMap<String, String>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressView {
    /// Files of the input.
    pub files: u64,
    /// Those whose mini-batches are committed.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Mini-batches.
    pub mini_batches: u64,
    /// Those that are committed.
    pub mini_batches_done: u64,
    /// Rows that are committed.
    pub rows: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Seconds of processors that its process took, where the system tells.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Seconds that models took on their device, in this process.
    #[serde(default)]
    pub device_seconds: f64,
    /// Bytes of the files that this process scored.
    #[serde(default)]
    pub input_bytes: u64,
}

/// How fast a job goes, since its process began to score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PaceView {
    /// Files whose mini-batches were committed, a second.
    pub files_per_second: f64,
    /// Until the last file is, at that pace.
    pub seconds_left: f64,
}

/// Where a job's models run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceView {
    /// `gpu`, `onnxruntime` or `cpu`.
    pub name: String,
    /// The device in words.
    pub description: String,
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// The endpoint.
    pub endpoint: String,
    /// The deployment that answers it.
    pub deployment: String,
    /// That one's version.
    pub version: u32,
    /// That one's digest.
    pub digest: String,
    /// Where it is.
    pub status: JobStatus,
    /// Why it waits, if it does: told where one job is asked for, and not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Whether it was asked to stop.
    pub canceling: bool,
    /// What is scored.
    pub input: InputSpec,
    /// The place that the output is published to.
    #[serde(default)]
    pub output: Option<String>,
    /// Settings that replace the deployment's.
    pub set: BTreeMap<String, String>,
    /// How far it is, while it runs.
    pub progress: Option<ProgressView>,
    /// How fast it goes, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<PaceView>,
    /// Where its models run, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceView>,
    /// Why it failed.
    pub error: Option<String>,
    /// What `job.json` says, once it ended.
    pub record: Option<Value>,
    /// Instances that score at once.
    #[serde(default)]
    pub instances: u64,
    /// What its processes used, as of a second ago while it runs.
    #[serde(default)]
    pub usage: Usage,
    /// Processes that were begun for it.
    pub starts: u32,
    /// When it was accepted.
    pub created: String,
    /// When its first process was begun.
    pub started: Option<String>,
    /// When it ended.
    pub ended: Option<String>,
}

impl From<&Progress> for ProgressView {
    fn from(progress: &Progress) -> Self {
        let Progress { tally, retries, mini_batches, files, device_time, input_bytes } = *progress;
        Self {
            files,
            done: tally.files,
            failed: tally.failed,
            mini_batches,
            mini_batches_done: tally.mini_batches,
            rows: tally.rows,
            retries,
            cpu_seconds: record::cpu_seconds("self").unwrap_or_default(),
            device_seconds: device_time.as_secs_f64(),
            input_bytes,
        }
    }
}

impl From<UsageLine> for UsageView {
    fn from(line: UsageLine) -> Self {
        let UsageLine { tenant, job, jobs, usage } = line;
        Self { tenant, job, jobs, usage }
    }
}

impl From<state::Tenant> for TenantView {
    fn from(tenant: state::Tenant) -> Self {
        let state::Tenant { id: _, name, weight, quotas, created } = tenant;
        Self { name, weight, quotas, created }
    }
}

impl From<state::Token> for TokenView {
    fn from(token: state::Token) -> Self {
        let state::Token { id, tenant, name, scopes, created, expires, revoked } = token;
        let scopes = scopes.split(' ').map(str::to_owned).collect();
        Self { id, tenant, name, scopes, created, expires, revoked }
    }
}

impl From<state::Model> for ModelView {
    fn from(model: state::Model) -> Self {
        let state::Model { name, version, digest, created } = model;
        Self { name, version, digest, created }
    }
}

impl From<state::Endpoint> for EndpointView {
    fn from(endpoint: state::Endpoint) -> Self {
        let state::Endpoint { id: _, name, description, tags, default_deployment, created, updated } = endpoint;
        let (deployment_name, deployment_version) = default_deployment.unzip();
        let defaults = DefaultsView { deployment_name, deployment_version };
        let scoring_uri = format!("/endpoints/{name}/jobs");
        Self { name, description, tags, defaults, scoring_uri, created, updated }
    }
}
