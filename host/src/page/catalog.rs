//! What the host has beside jobs: endpoints with their versions, devices, tenants, and who changed what.

use askama::Template;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Redirect};

use super::jobs::Time;
use super::{Fields, Frame, Page, Pages, Viewer, words};
use crate::service::host::{DevicesView, EndpointView, EngineView, Scope};

/// Lines of the audit log that are shown.
const MOST_ACTIONS: u32 = 200;

struct Endpoint {
    name: String,
    description: String,
    /// The default deployment with its version.
    answers: Option<String>,
    updated: Time,
}

fn endpoint_of(view: EndpointView) -> Endpoint {
    let EndpointView { name, description, defaults, updated, .. } = view;
    let answers = defaults.deployment_name.zip(defaults.deployment_version);
    let answers = answers.map(|(name, version)| format!("{name}:{version}"));
    Endpoint { name, description: words::plain(&description, 500), answers, updated: Time::new(&updated) }
}

#[derive(Template)]
#[template(path = "endpoints.html")]
struct EndpointsPage {
    frame: Frame,
    endpoints: Vec<Endpoint>,
}

pub(super) async fn endpoints(State(pages): State<Pages>, Extension(viewer): Extension<Viewer>) -> Page {
    let caller = viewer.caller.clone();
    let found = pages.call(move |host| host.endpoints(&caller)).await?;
    let frame = Frame::new(&viewer, "endpoints");
    super::page(&EndpointsPage { frame, endpoints: found.into_iter().map(endpoint_of).collect() })
}

struct Version {
    name: String,
    version: u32,
    is_default: bool,
    digest: String,
    script: String,
    /// The registered model's digest, where there is one.
    model: String,
    created: Time,
}

#[derive(Template)]
#[template(path = "endpoint.html")]
struct EndpointPage {
    frame: Frame,
    endpoint: Endpoint,
    tags: Vec<(String, String)>,
    versions: Vec<Version>,
    may_write: bool,
}

pub(super) async fn endpoint(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path(name): Path<String>,
) -> Page {
    let caller = viewer.caller.clone();
    let both = pages.call(move |host| Ok((host.endpoint(&caller, &name)?, host.deployments(&caller, &name)?))).await?;
    let (view, deployments) = both;
    let tag = |(key, value): (&String, &String)| (words::plain(key, 200), words::plain(value, 500));
    let mut versions: Vec<Version> = deployments
        .into_iter()
        .map(|d| Version {
            name: d.name,
            version: d.version,
            is_default: d.is_default,
            digest: d.digest,
            script: d.script.unwrap_or_else(|| "built-in scorer".into()),
            model: d.model.unwrap_or_default(),
            created: Time::new(&d.created),
        })
        .collect();
    versions.sort_by(|a, b| (&a.name, b.version).cmp(&(&b.name, a.version)));
    let template = EndpointPage {
        frame: Frame::new(&viewer, "endpoints"),
        tags: view.tags.iter().map(tag).collect(),
        endpoint: endpoint_of(view),
        versions,
        may_write: viewer.caller.has(Scope::Write),
    };
    super::page(&template)
}

/// Makes a version the one that answers, and shows the endpoint.
pub(super) async fn change(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Extension(fields): Extension<Fields>,
    Path(name): Path<String>,
) -> Page {
    let back = format!("/endpoints/{}", words::address(&name));
    let default = fields.get("default").to_owned();
    pages.call(move |host| host.update_endpoint(&viewer.caller, &name, (None, None), Some(&default))).await?;
    Ok(Redirect::to(&back).into_response())
}

struct Device {
    engine: EngineView,
    jobs: u64,
    rate: Option<String>,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct DevicesPage {
    frame: Frame,
    devices: Vec<Device>,
    /// Whether looking at them succeeded.
    seen: bool,
    running: u64,
    most: u64,
}

/// The devices with the jobs on them; a job's own word for a device may be longer than the device's.
fn devices_of(view: DevicesView) -> (Vec<Device>, bool) {
    let DevicesView { engines, mut load, .. } = view;
    let seen = engines.is_some();
    let mut devices: Vec<Device> =
        engines.unwrap_or_default().into_iter().map(|engine| Device { engine, jobs: 0, rate: None }).collect();
    for device in &mut devices {
        let of = |(name, words): &(String, String)| {
            *name == device.engine.name && (words.contains(&device.engine.description) || *name != "gpu")
        };
        let mine: Vec<_> = load.keys().filter(|key| device.engine.available && of(key)).cloned().collect();
        let (mut jobs, mut rate) = (0, 0.0);
        for key in mine {
            let (more, faster) = load.remove(&key).unwrap_or_default();
            jobs += more;
            rate += faster;
        }
        (device.jobs, device.rate) = (jobs, (rate > 0.0).then(|| words::rate(rate)));
    }
    // What runs on something that was not found just now is shown all the same.
    devices.extend(load.into_iter().map(|((name, description), (jobs, rate))| Device {
        engine: EngineView { name, description, available: true, ..EngineView::default() },
        jobs,
        rate: (rate > 0.0).then(|| words::rate(rate)),
    }));
    (devices, seen)
}

pub(super) async fn devices(State(pages): State<Pages>, Extension(viewer): Extension<Viewer>) -> Page {
    let caller = viewer.caller.clone();
    let view = pages.read(move |host| host.devices(&caller)).await?;
    let (running, most) = (view.running as u64, view.most as u64);
    let (devices, seen) = devices_of(view);
    super::page(&DevicesPage { frame: Frame::new(&viewer, "devices"), devices, seen, running, most })
}

/// What is used of a quota.
struct Used {
    have: u64,
    most: u64,
    text: String,
}

struct Tenant {
    name: String,
    weight: u32,
    running: Used,
    queued: Used,
    stored: Used,
    created: Time,
}

#[derive(Template)]
#[template(path = "tenants.html")]
struct TenantsPage {
    frame: Frame,
    tenants: Vec<Tenant>,
}

pub(super) async fn tenants(State(pages): State<Pages>, Extension(viewer): Extension<Viewer>) -> Page {
    let caller = viewer.caller.clone();
    let found = pages.read(move |host| host.tenants_with_use(&caller)).await?;
    let used = |have: u64, most: u64, text: fn(u64) -> String| Used {
        have,
        // A meter needs a range.
        most: most.max(1),
        text: format!("{} of {}", text(have), text(most)),
    };
    let tenants = found.into_iter().map(|one| {
        let quotas = one.tenant.quotas;
        Tenant {
            running: used(one.running, quotas.running.into(), words::count),
            queued: used(one.queued, quotas.queued.into(), words::count),
            stored: used(one.stored, quotas.storage, words::bytes),
            name: one.tenant.name,
            weight: one.tenant.weight,
            created: Time::new(&one.tenant.created),
        }
    });
    super::page(&TenantsPage { frame: Frame::new(&viewer, "tenants"), tenants: tenants.collect() })
}

struct Action {
    at: Time,
    token: String,
    action: String,
    object: String,
    detail: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    actions: Vec<Action>,
    most: u32,
}

pub(super) async fn audit(State(pages): State<Pages>, Extension(viewer): Extension<Viewer>) -> Page {
    let caller = viewer.caller.clone();
    let found = pages.call(move |host| host.audit_log(&caller, MOST_ACTIONS)).await?;
    let actions = found.into_iter().map(|one| Action {
        at: Time::new(&one.at),
        token: one.token_name.map_or(one.token.clone(), |name| format!("{name} {}", one.token)),
        action: one.action,
        object: words::plain(&one.object, 200),
        detail: words::plain(&one.detail, 512),
    });
    super::page(&AuditPage { frame: Frame::new(&viewer, "audit"), actions: actions.collect(), most: MOST_ACTIONS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_counted_where_they_run() {
        let engine = |name: &str, description: &str, available| EngineView {
            name: name.into(),
            description: description.into(),
            available,
            ..EngineView::default()
        };
        let engines = Some(vec![engine("gpu", "A", true), engine("gpu", "B", true), engine("cpu", "rten", true)]);
        let load = [(("gpu", "B (vulkan)"), (2, 10.0)), (("cpu", "rten on 2"), (1, 0.0)), (("gpu", "C"), (1, 5.0))]
            .map(|((name, words), load)| ((name.to_owned(), words.to_owned()), load))
            .into();
        let (devices, seen) = devices_of(DevicesView { engines, load, running: 4, most: 4 });
        let told: Vec<_> = devices.iter().map(|d| (d.engine.description.as_str(), d.jobs, d.rate.clone())).collect();
        let rate = |text: &str| Some(text.to_owned());
        assert!(seen);
        assert_eq!(told, [("A", 0, None), ("B", 2, rate("10.0")), ("rten", 1, None), ("C", 1, rate("5.0"))]);
    }
}
