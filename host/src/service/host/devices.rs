//! What models can run on, and how many jobs do now.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Caller, Host, HostError, Scope, process};
use crate::fault;

/// How long what was seen is told again: devices come and go with drivers, and to look takes seconds.
const FRESH: Duration = Duration::from_secs(600);
/// The same for a look that failed.
const FAILED: Duration = Duration::from_secs(30);

/// What was seen last. Who finds it old looks again, and others wait for them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    last: Mutex<Option<(Instant, Option<Value>)>>,
}

/// Something that models can run on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineView {
    /// `gpu`, `onnxruntime` or `cpu`: as deployments and records name it.
    pub name: String,
    /// In words.
    pub description: String,
    /// Its driver, for a GPU.
    pub driver: String,
    /// Whether models run on it.
    pub available: bool,
    /// Whether the processor does an adapter's work; such a one is taken only where it is asked for.
    pub software: bool,
    /// Why not, or what of it is off.
    pub notice: String,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DevicesView {
    /// What was found; none if looking failed.
    pub engines: Option<Vec<EngineView>>,
    /// Jobs that run now on each, by its name and description, with the files that they score in a second together.
    pub load: BTreeMap<(String, String), (u64, f64)>,
    /// Jobs that run, and as many as may.
    pub running: usize,
    /// See `running`.
    pub most: usize,
}

impl Host {
    /// What models can run on here, with its load: jobs of all tenants, as numbers only.
    ///
    /// # Errors
    /// If the caller may not.
    pub fn devices(&self, caller: &Caller) -> Result<DevicesView, HostError> {
        caller.may(Scope::Read)?;
        let mut load = BTreeMap::new();
        let heard = self.scheduler.all_heard();
        let running = heard.len();
        for one in heard {
            if let Some(device) = one.device {
                let (jobs, rate) = load.entry((device.name, device.description)).or_insert((0, 0.0));
                *jobs += 1;
                *rate += one.pace.map_or(0.0, |pace| pace.files_per_second);
            }
        }
        let engines = self.devices_seen().map(|facts| engines(&facts));
        Ok(DevicesView { engines, load, running, most: self.options.most_jobs })
    }

    fn devices_seen(&self) -> Option<Value> {
        let mut last = self.devices.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((when, facts)) = last.as_ref()
            && when.elapsed() < if facts.is_some() { FRESH } else { FAILED }
        {
            return facts.clone();
        }
        let facts = process::devices(&self.options.program)
            .inspect_err(|error| tracing::error!(error = fault::chain(error), "the devices cannot be looked at"))
            .ok();
        *last = Some((Instant::now(), facts.clone()));
        facts
    }
}

/// What `devices --json` says, in the order of its own list.
fn engines(facts: &Value) -> Vec<EngineView> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let adapter = |one: &Value| {
        let (adapter, report) = (&one["adapter"], &one["report"]);
        let off: Vec<String> = list(&report["Ok"]["families"])
            .iter()
            .filter(|family| family["passed"] != true)
            .map(|family| format!("{} is off: {}", text(&family["family"]), text(&family["reason"])))
            .collect();
        EngineView {
            name: "gpu".into(),
            description: text(&adapter["name"]),
            driver: format!("{}, {}", text(&adapter["backend"]), text(&adapter["driver"])),
            available: report["Ok"].is_object(),
            software: adapter["kind"] == "software",
            notice: report["Err"].as_str().map_or_else(|| off.join("; "), str::to_owned),
        }
    };
    let engine = |one: &Value| {
        let (available, words) = (one["available"] == true, text(&one["description"]));
        let (description, notice) = if available { (words, String::new()) } else { (String::new(), words) };
        EngineView { name: text(&one["name"]), description, notice, available, ..EngineView::default() }
    };
    let adapters = list(&facts["adapters"]);
    adapters.iter().map(adapter).chain(list(&facts["engines"]).iter().map(engine)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_devices_prints_is_understood() {
        let adapter = json!({"name": "A", "backend": "vulkan", "kind": "software", "driver": "d 1"});
        let families =
            json!([{"family": "pool", "passed": false, "reason": "wrong"}, {"family": "top", "passed": true}]);
        let facts = json!({
            "adapters": [{"adapter": adapter, "report": {"Ok": {"families": families}}}, {"adapter": {}, "report": {"Err": "no"}}],
            "engines": [{"name": "cpu", "description": "rten", "available": true}],
        });
        let all = engines(&facts);
        assert_eq!((all.len(), all[0].available, all[0].software), (3, true, true));
        assert_eq!((all[0].notice.as_str(), all[0].driver.as_str()), ("pool is off: wrong", "vulkan, d 1"));
        assert_eq!((all[1].available, all[1].notice.as_str()), (false, "no"));
        assert_eq!((all[2].name.as_str(), all[2].description.as_str()), ("cpu", "rten"));
        assert_eq!(engines(&json!("nonsense")), []);
    }
}
