//! What is kept is kept, across crashes and versions, and nothing crosses from tenant to tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::*;

struct Fixture {
    state: Arc<State>,
    tenant: i64,
    folder: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(&folder.path().join("state.db")).unwrap();
    let tenant = state.create_tenant("one", 1, Quotas::default(), None).unwrap().id;
    Fixture { state: Arc::new(state), tenant, folder }
}

impl Fixture {
    fn new_deployment(&self, name: &str) -> NewDeployment {
        NewDeployment {
            name: name.into(),
            spec: "name: x\n".into(),
            digest: String::new(),
            script: None,
            model: None,
            set_default: true,
        }
    }

    fn deploy(&self, endpoint: &str, name: &str, digest: &str) -> Deployment {
        let new = NewDeployment { digest: digest.into(), ..self.new_deployment(name) };
        self.state.create_deployment(self.tenant, endpoint, new, "t").unwrap()
    }

    fn endpoint(&self, name: &str) {
        self.state.create_endpoint(self.tenant, name, ("", &BTreeMap::new()), "t").unwrap();
    }
}

fn new_job(id: &str) -> NewJob {
    NewJob {
        id: id.into(),
        endpoint: "e".into(),
        deployment: None,
        input: json!({"upload": "u"}),
        overrides: BTreeMap::from([("settings.mini_batch_size".into(), "5".into())]),
        idempotency: None,
        request: "r".into(),
        most_queued: 10,
    }
}

fn accepted(submitted: Submitted) -> Job {
    match submitted {
        Submitted::New(job) | Submitted::Again(job) => job,
        Submitted::NoDeployment => panic!("no deployment"),
    }
}

#[test]
fn what_was_answered_is_there_after_the_file_is_opened_again() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    let job = accepted(at.state.submit(at.tenant, new_job("job-1"), "t").unwrap());
    assert_eq!((job.status, job.version, job.deployment.as_str()), (JobStatus::Queued, 1, "d"));
    let path = at.folder.path().join("state.db");
    drop(at.state);
    let state = State::open(&path).unwrap();
    assert_eq!(state.job(at.tenant, "job-1").unwrap(), job);
    assert_eq!(state.endpoint(at.tenant, "e").unwrap().default_deployment, Some(("d".into(), 1)));
}

#[test]
fn a_job_keeps_the_version_that_it_was_given() {
    let at = fixture();
    at.endpoint("e");
    assert_eq!(at.deploy("e", "d", "sha256:1").version, 1);
    let job = accepted(at.state.submit(at.tenant, new_job("job-1"), "t").unwrap());
    // The same again is the same; something else is the next.
    assert_eq!(at.deploy("e", "d", "sha256:1").version, 1);
    assert_eq!(at.deploy("e", "d", "sha256:2").version, 2);
    assert_eq!(at.state.job(at.tenant, "job-1").unwrap().folder, job.folder);
    let later = accepted(at.state.submit(at.tenant, new_job("job-2"), "t").unwrap());
    assert_eq!((later.version, later.folder.as_str()), (2, "sha256:2"));
    // Back to the first, by its number; and a version that nobody made the default answers nobody.
    let default = |version| EndpointChange { default_deployment: Some(("d".into(), version)), ..Default::default() };
    at.state.update_endpoint(at.tenant, "e", default(Some(1)), "t").unwrap();
    let new = NewDeployment { set_default: false, digest: "sha256:3".into(), ..at.new_deployment("d") };
    assert_eq!(at.state.create_deployment(at.tenant, "e", new, "t").unwrap().version, 3);
    assert_eq!(accepted(at.state.submit(at.tenant, new_job("job-3"), "t").unwrap()).version, 1);
    assert!(matches!(
        at.state.update_endpoint(at.tenant, "e", default(Some(9)), "t"),
        Err(StateError::Unknown { name, .. }) if name == "d:9"
    ));
}

#[test]
fn numbers_of_deleted_versions_are_not_used_again() {
    let at = fixture();
    at.endpoint("e");
    assert_eq!(at.deploy("e", "d", "sha256:1").version, 1);
    at.deploy("e", "other", "sha256:2");
    at.state.delete_deployment(at.tenant, "e", "d", "t").unwrap();
    assert!(matches!(at.state.deployment(at.tenant, "e", "d", None), Err(StateError::Unknown { .. })));
    assert_eq!(at.deploy("e", "d", "sha256:1").version, 2);
}

#[test]
fn what_is_in_use_is_not_removed() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "old", "sha256:1");
    at.deploy("e", "new", "sha256:2");
    let in_use = |result: Result<()>| matches!(result, Err(StateError::InUse { .. }));
    assert!(in_use(at.state.delete_deployment(at.tenant, "e", "new", "t")));
    let mut job = new_job("job-1");
    job.deployment = Some(("old".into(), None));
    at.state.submit(at.tenant, job, "t").unwrap();
    assert!(in_use(at.state.delete_deployment(at.tenant, "e", "old", "t")));
    assert!(in_use(at.state.delete_endpoint(at.tenant, "e", "t")));
    assert_eq!(at.state.cancel(at.tenant, "job-1", "t").unwrap().status, JobStatus::Canceled);
    at.state.delete_deployment(at.tenant, "e", "old", "t").unwrap();
    at.state.delete_endpoint(at.tenant, "e", "t").unwrap();
    // The record stays.
    assert_eq!(at.state.job(at.tenant, "job-1").unwrap().deployment, "old");
}

#[test]
fn a_key_gives_the_same_job_and_refuses_another_request() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    let keyed =
        |id: &str, request: &str| NewJob { idempotency: Some("k".into()), request: request.into(), ..new_job(id) };
    assert!(matches!(at.state.submit(at.tenant, keyed("job-1", "r"), "t").unwrap(), Submitted::New(_)));
    let Submitted::Again(job) = at.state.submit(at.tenant, keyed("job-2", "r"), "t").unwrap() else { panic!() };
    assert_eq!(job.id, "job-1");
    assert!(matches!(at.state.submit(at.tenant, keyed("job-3", "s"), "t"), Err(StateError::KeyReused(_))));
    // Another tenant's key is another key.
    let other = at.state.create_tenant("two", 1, Quotas::default(), None).unwrap().id;
    assert!(matches!(at.state.submit(other, keyed("job-4", "r"), "t"), Err(StateError::Unknown { .. })));
}

#[test]
fn nothing_of_another_tenant_is_found() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    at.state.submit(at.tenant, new_job("job-1"), "t").unwrap();
    let other = at.state.create_tenant("two", 1, Quotas::default(), None).unwrap().id;
    let unknown = |found: bool| assert!(found);
    unknown(matches!(at.state.endpoint(other, "e"), Err(StateError::Unknown { .. })));
    unknown(matches!(at.state.deployments(other, "e"), Err(StateError::Unknown { .. })));
    unknown(matches!(at.state.job(other, "job-1"), Err(StateError::Unknown { .. })));
    unknown(matches!(at.state.cancel(other, "job-1", "t"), Err(StateError::Unknown { .. })));
    unknown(matches!(at.state.delete_endpoint(other, "e", "t"), Err(StateError::Unknown { .. })));
    assert_eq!(at.state.jobs(other, &Page { before: None, endpoint: None, status: None, most: 10 }).unwrap(), []);
    // And the name is free there.
    at.state.create_endpoint(other, "e", ("", &BTreeMap::new()), "t").unwrap();
}

#[test]
fn a_job_that_was_asked_to_stop_is_not_begun() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    for id in ["job-1", "job-2"] {
        at.state.submit(at.tenant, new_job(id), "t").unwrap();
    }
    assert!(at.state.begin("job-1").unwrap());
    assert_eq!(
        at.state.waiting().unwrap().iter().map(|(_, job, n)| (job.id.as_str(), *n)).collect::<Vec<_>>(),
        [("job-2", 1)]
    );
    let job = at.state.cancel(at.tenant, "job-1", "t").unwrap();
    assert_eq!((job.status, job.cancel, job.ended), (JobStatus::Running, true, None));
    assert!(!at.state.begin("job-1").unwrap());
    at.state.end("job-1", Ended { status: JobStatus::Canceled, record: None, error: None }).unwrap();
    assert_eq!(at.state.resume(at.tenant, "job-1", "t").unwrap().status, JobStatus::Queued);
    assert!(at.state.begin("job-1").unwrap());
}

#[test]
fn too_many_waiting_jobs_are_refused_by_number() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    for i in 0..10 {
        at.state.submit(at.tenant, new_job(&format!("job-{i}")), "t").unwrap();
    }
    let error = at.state.submit(at.tenant, new_job("job-x"), "t").unwrap_err();
    assert_eq!(error.to_string(), "the tenant has 10 queued jobs, and may have 10");
}

#[test]
fn many_callers_at_once_share_the_disk_and_each_gets_an_answer() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let (state, tenant) = (Arc::clone(&at.state), at.tenant);
            scope.spawn(move || {
                for i in 0..8 {
                    let new = NewJob { most_queued: 1000, ..new_job(&format!("job-{caller}-{i}")) };
                    state.submit(tenant, new, "t").unwrap();
                }
            });
        }
    });
    assert_eq!(
        at.state.jobs(at.tenant, &Page { before: None, endpoint: None, status: None, most: 1000 }).unwrap().len(),
        128
    );
}

#[test]
fn a_change_that_fails_leaves_nothing_and_its_neighbours_stay() {
    let at = fixture();
    at.endpoint("e");
    let change = EndpointChange {
        description: Some("new".into()),
        default_deployment: Some(("none".into(), None)),
        ..Default::default()
    };
    assert!(matches!(at.state.update_endpoint(at.tenant, "e", change, "t"), Err(StateError::Unknown { .. })));
    assert_eq!(at.state.endpoint(at.tenant, "e").unwrap().description, "");
}

#[test]
fn the_audit_log_is_appended_to_and_never_changed() {
    let at = fixture();
    at.endpoint("e");
    let log = at.state.audit_log(at.tenant, 10).unwrap();
    assert_eq!(
        log.iter().map(|a| (a.action.as_str(), a.object.as_str())).collect::<Vec<_>>(),
        [("endpoint create", "e"), ("tenant create", "one")]
    );
    for sql in ["DELETE FROM audit", "UPDATE audit SET object = 'x'"] {
        let result = at.state.change(move |on| Ok(on.execute(sql, [])?));
        assert!(result.unwrap_err().to_string().contains("database"), "{sql}");
    }
    assert_eq!(at.state.audit_log(at.tenant, 10).unwrap(), log);
}

#[test]
fn a_later_versions_file_is_refused_in_words() {
    let at = fixture();
    let path = at.folder.path().join("state.db");
    drop(at.state);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = State::open(&path).err().unwrap();
    assert!(error.to_string().starts_with("the database is of version 99, and this program knows 1"), "{error}");
}
