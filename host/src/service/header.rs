//! What decides the bytes of a job's output, kept beside them: a resumed job must find it unchanged.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ServiceError;
use super::digest::ModelDigest;
use crate::builtin;
use crate::cache::hex;
use crate::deployment::Deployment;
use crate::job::Scorer;
use crate::job::record::{DeviceRecord, Digest};

/// See the module.
pub(super) struct Header {
    pub(super) job: String,
    pub(super) script: Digest,
    pub(super) model: Option<Digest>,
    pub(super) value: Value,
    /// Whether this continues an earlier run, which may have been stopped before its first commit.
    pub(super) is_resumed: bool,
}

impl Header {
    pub(super) fn new(
        deployment: &Deployment,
        scorer: &Scorer,
        model: Option<&ModelDigest>,
        device: (&DeviceRecord, &str),
        (name_of_job, input): (Option<&str>, &Path),
    ) -> Self {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let script = match scorer {
            Scorer::Script(script) => {
                let name = deployment.script.as_deref().map(name).unwrap_or_default();
                Digest { name, digest: script.digest().to_owned() }
            }
            // Bytes that it writes change with its version; the model has a digest of its own.
            Scorer::BuiltIn(_) => Digest { name: "built-in".to_owned(), digest: builtin::VERSION.to_owned() },
        };
        let model = deployment.model.as_deref().zip(model);
        let model = model.map(|(path, model)| Digest { name: name(path), digest: model.whole.clone() });
        let job = name_of_job.map_or_else(job_name, str::to_owned);
        let settings = &deployment.settings;
        let variables = settings
            .environment_variables
            .iter()
            .fold(Sha256::new(), |hash, (name, value)| hash.chain_update(format!("{name}\0{value}\0")));
        let value = json!({
            // Values are often secrets: their digest tells a change as well.
            "environment_variables": hex(&variables.finalize()),
            "input": input,
            "limits": [settings.limits.pixels, settings.limits.output_rows],
            "mini_batch_size": deployment.settings.mini_batch_size,
            "job": job,
            "script": script.digest,
            "columns": if let Scorer::BuiltIn(scorer) = scorer { scorer.learned() } else { Value::Null },
            "model": model.as_ref().map(|m| &m.digest),
            "device": format!("{}: {}", device.0.name, device.1),
            "tags": deployment.tags,
            "deterministic": settings.deterministic,
            "output": [deployment.settings.output_action, deployment.settings.output_format],
        });
        Self { job, script, model, value, is_resumed: false }
    }

    /// Compares with what an earlier run stored, and takes over its job's name.
    pub(super) fn continue_as(mut self, then: &Value) -> Result<Self, ServiceError> {
        const ALL: [&str; 10] = [
            "script",
            "model",
            "device",
            "tags",
            "output",
            "mini_batch_size",
            "environment_variables",
            "input",
            "limits",
            "deterministic",
        ];
        for what in ALL {
            if self.value[what] != then[what] {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                return Err(ServiceError::Changed { what, now: text(&self.value[what]), then: text(&then[what]) });
            }
        }
        self.is_resumed = true;
        // Learned when the job began, and not again.
        self.value["columns"] = then["columns"].clone();
        self.job = then["job"].as_str().unwrap_or(&self.job).to_owned();
        Ok(self)
    }
}

/// A name that sorts by time and does not repeat on one machine.
fn job_name() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let digits: String = now.chars().filter(char::is_ascii_digit).collect();
    format!("job-{digits}-{:05}", std::process::id() % 100_000)
}
