//! What is kept is kept, across crashes and versions, and nothing crosses from tenant to tenant.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::fallible_iterator::FallibleIterator;
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

    /// A job for the endpoint's default, as the service posts it.
    fn submit(&self, id: &str) -> Job {
        let Deployment { name, version, .. } = self.state.answering(self.tenant, "e", None).unwrap().unwrap();
        let new = NewJob { deployment: (name, version), ..new_job(id) };
        accepted(self.state.submit(self.tenant, new, "t").unwrap())
    }

    fn endpoint(&self, name: &str) {
        self.state.create_endpoint(self.tenant, name, ("", &BTreeMap::new()), "t").unwrap();
    }
}

fn new_job(id: &str) -> NewJob {
    NewJob {
        id: id.into(),
        endpoint: "e".into(),
        deployment: ("d".into(), 1),
        input: json!({"upload": "u"}),
        output: None,
        overrides: BTreeMap::from([("settings.mini_batch_size".into(), "5".into())]),
        idempotency: None,
        request: "r".into(),
        instances: 1,
        memory: 0,
    }
}

fn page(most: u32) -> Page {
    Page { before: None, endpoint: None, status: None, most }
}

fn accepted(submitted: Submitted) -> Job {
    match submitted {
        Submitted::New(job) | Submitted::Again(job) => job,
    }
}

#[test]
fn what_was_answered_is_there_after_the_file_is_opened_again() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    let job = at.submit("job-1");
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
    let job = at.submit("job-1");
    // The same again is the same; something else is the next.
    assert_eq!(at.deploy("e", "d", "sha256:1").version, 1);
    assert_eq!(at.deploy("e", "d", "sha256:2").version, 2);
    assert_eq!(at.state.job(at.tenant, "job-1").unwrap().folder, job.folder);
    let later = at.submit("job-2");
    assert_eq!((later.version, later.folder.as_str()), (2, "sha256:2"));
    // Back to the first, by its number; and a version that nobody made the default answers nobody.
    let default = |version| EndpointChange { default_deployment: Some(("d".into(), version)), ..Default::default() };
    at.state.update_endpoint(at.tenant, "e", default(Some(1)), "t").unwrap();
    let new = NewDeployment { set_default: false, digest: "sha256:3".into(), ..at.new_deployment("d") };
    assert_eq!(at.state.create_deployment(at.tenant, "e", new, "t").unwrap().version, 3);
    assert_eq!(at.submit("job-3").version, 1);
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
    job.deployment = ("old".into(), 1);
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
    assert_eq!(at.state.jobs(other, &page(10)).unwrap(), []);
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
        at.state
            .waiting(Duration::ZERO)
            .unwrap()
            .iter()
            .map(|one| (one.job.id.as_str(), one.running))
            .collect::<Vec<_>>(),
        [("job-2", 1)]
    );
    let job = at.state.cancel(at.tenant, "job-1", "t").unwrap();
    assert_eq!((job.status, job.cancel, job.ended), (JobStatus::Running, true, None));
    assert!(!at.state.begin("job-1").unwrap());
    let ended = Ended { status: JobStatus::Canceled, record: None, error: None, used: Usage::default() };
    at.state.end(at.tenant, "job-1", ended).unwrap();
    assert_eq!(at.state.resume(at.tenant, "job-1", "t").unwrap().status, JobStatus::Queued);
    assert!(at.state.begin("job-1").unwrap());
}

#[test]
fn a_complete_job_is_not_resumed_and_says_what_is_done_instead() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    at.submit("job-1");
    let ended = Ended { status: JobStatus::Completed, record: None, error: None, used: Usage::default() };
    at.state.end(at.tenant, "job-1", ended).unwrap();
    let told = at.state.resume(at.tenant, "job-1", "t").unwrap_err().to_string();
    assert_eq!(told, "job `job-1` is not resumed: it is complete\nhint: to score again, post another job");
}

#[test]
fn too_many_waiting_jobs_are_refused_by_number() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    let change = QuotasChange { queued: Some(10), ..Default::default() };
    at.state.update_tenant("one", (None, change), (at.tenant, "t")).unwrap();
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
                    let new = new_job(&format!("job-{caller}-{i}"));
                    state.submit(tenant, new, "t").unwrap();
                }
            });
        }
    });
    assert_eq!(at.state.jobs(at.tenant, &page(1000)).unwrap().len(), 128);
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
fn the_audit_log_says_what_changed_and_by_whose_token() {
    let at = fixture();
    let token = |id: &str, name: &str| NewToken {
        id: id.into(),
        tenant: at.tenant,
        name: name.into(),
        hash: [0; 32],
        scopes: "read admin".into(),
        expires: None,
    };
    at.state.create_token(token("t", "boss"), "token create", None).unwrap();
    at.state.create_token(token("u", "spare"), "token create", Some((at.tenant, "t"))).unwrap();
    let change = QuotasChange { memory: Some(Some(1 << 30)), running: Some(4), ..Default::default() };
    at.state.update_tenant("one", (Some(3), change), (at.tenant, "t")).unwrap();
    at.state.revoke_token("u", None, (at.tenant, "t")).unwrap();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    at.deploy("e", "d", "sha256:2");
    let tags = BTreeMap::from([("k".to_owned(), "ü".repeat(4096))]);
    let default_deployment = Some(("d".into(), Some(1)));
    let change = EndpointChange { description: Some("new".into()), tags: Some(tags), default_deployment };
    at.state.update_endpoint(at.tenant, "e", change, "t").unwrap();
    at.submit("job-1");
    at.state.cancel(at.tenant, "job-1", "t").unwrap();
    at.state.resume(at.tenant, "job-1", "t").unwrap();
    let mut log = at.state.audit_log(at.tenant, 100).unwrap();
    log.reverse();
    let told: Vec<_> = log.iter().map(|a| (a.action.as_str(), a.token_name.as_deref(), a.detail.as_str())).collect();
    let all = "weight 1, running 4, queued 1000, storage 107374182400, instances none, memory none, cpu_seconds none, \
               device_seconds none";
    let boss = Some("boss");
    // What a caller writes is cut.
    let changed = format!("default d:2 → d:1, description new, tags {{\"k\":\"{}", "ü".repeat(77));
    let expected = [
        ("tenant create", None, all),
        ("token create", None, "`boss` of tenant `one`: read admin, without an end"),
        ("token create", boss, "`spare` of tenant `one`: read admin, without an end"),
        ("tenant update", boss, "weight 1 → 3, memory none → 1073741824"),
        ("token revoke", boss, "`spare` of tenant `one`"),
        ("endpoint create", boss, ""),
        ("deployment create", boss, "sha256:1"),
        ("endpoint default", boss, "default none → d:1"),
        ("deployment create", boss, "sha256:2"),
        ("endpoint default", boss, "default d:1 → d:2"),
        ("endpoint update", boss, changed.as_str()),
        ("job submit", boss, "e/d:1, input {\"upload\":\"u\"}"),
        ("job cancel", boss, "e/d:1"),
        ("job resume", boss, "Canceled at e/d:1"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_later_versions_file_is_refused_in_words() {
    let at = fixture();
    let path = at.folder.path().join("state.db");
    drop(at.state);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = State::open(&path).err().unwrap();
    assert!(error.to_string().starts_with("the database is of version 99, and this program knows 3"), "{error}");
}

/// What a host of version 1 wrote, as one of this version left it on its way.
fn file_of_version(version: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let file = Connection::open(&path).unwrap();
    file.execute_batch(include_str!("version-1-file.sql")).unwrap();
    for (before, sql) in MIGRATIONS.iter().enumerate().take(version).skip(1) {
        file.execute_batch(sql).unwrap();
        file.pragma_update(None, "user_version", before + 1).unwrap();
    }
    (folder, path)
}

#[test]
fn what_version_1_wrote_is_all_there() {
    let (folder, path) = file_of_version(1);
    let state = State::open(&path).unwrap();
    let tenants = state.tenants().unwrap();
    let of = |name: &str| tenants.iter().find(|tenant| tenant.name == name).unwrap();
    let small = Quotas { running: 1, queued: 5, storage: 1 << 20, ..Default::default() };
    assert_eq!((of("default").weight, of("default").quotas), (1, Quotas::default()));
    assert_eq!((of("other").weight, of("other").quotas), (3, small));
    let jobs = state.jobs(1, &page(10)).unwrap();
    let statuses: Vec<_> = jobs.iter().rev().map(|job| job.status).collect();
    use JobStatus::{Canceled, Completed, Failed, Queued, Running};
    assert_eq!(statuses, [Completed, Failed, Running, Queued, Canceled]);
    let completed = jobs.last().unwrap();
    assert_eq!(completed.record.as_ref().unwrap()["counts"]["rows"], 40);
    assert_eq!((completed.instances, completed.memory), (1, 0));
    assert_eq!(jobs[1].overrides["settings.mini_batch_size"], "2");
    assert_eq!(state.endpoint(1, "shapes").unwrap().default_deployment, Some(("shapes".into(), 1)));
    let model = state.model(1, "shapes", None).unwrap();
    assert_eq!(state.deployment(1, "shapes", "shapes", None).unwrap().model, Some(model.digest));
    let log = state.audit_log(1, 100).unwrap();
    assert!(log.len() == 13 && log.iter().all(|line| line.detail.is_empty()), "{log:?}");
    let token = state.token("ee557b8971d02922").unwrap().unwrap();
    assert_eq!((token.tenant.name.as_str(), token.scopes.as_str()), ("default", "read invoke write admin"));
    // It is worked with as one of this version is, and opened again.
    state.requeue().unwrap();
    assert_eq!(state.waiting(Duration::ZERO).unwrap()[0].job.id, jobs[2].id);
    drop(state);
    assert_eq!(State::open(&path).unwrap().jobs(1, &page(10)).unwrap().len(), 5);
    // The earlier program finds its own file beside it.
    let kept = Connection::open(folder.path().join("state.db.v1")).unwrap();
    let version: usize = kept.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let count: usize = kept.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0)).unwrap();
    assert_eq!((version, count), (1, 5));
}

#[test]
fn a_file_that_was_brought_up_has_the_schema_of_a_new_one() {
    let schema = |path: &Path| -> Vec<(String, String)> {
        let file = Connection::open(path).unwrap();
        let sql = "SELECT name, replace(sql, '\"', '') FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name";
        let mut query = file.prepare(sql).unwrap();
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    };
    let at = fixture();
    for version in [1, 2] {
        let (folder, path) = file_of_version(version);
        drop(State::open(&path).unwrap());
        assert_eq!(schema(&path), schema(&at.folder.path().join("state.db")));
        let kept = Connection::open(folder.path().join(format!("state.db.v{version}"))).unwrap();
        let kept: usize = kept.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, version);
    }
}

/// As a kill leaves it: the files as they are at that moment, in another folder.
#[test]
fn bringing_a_file_up_that_is_broken_off_anywhere_leaves_one_version_or_the_next() {
    // What each version's change has of steps.
    for (version, last) in [(1, 15), (2, 1)] {
        for broken_off in 0..=last {
            let (folder, path) = file_of_version(version);
            let mut connection = connect(&path).unwrap();
            let transaction = connection.transaction().unwrap();
            let mut steps = rusqlite::Batch::new(&transaction, MIGRATIONS[version]);
            for step in 0..broken_off {
                steps.next().unwrap().unwrap_or_else(|| panic!("there are {step} steps only")).execute([]).unwrap();
            }
            assert_eq!(steps.next().unwrap().is_none(), broken_off == last, "the last is the last");
            let elsewhere = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(folder.path()).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), elsewhere.path().join(entry.file_name())).unwrap();
            }
            drop(transaction);
            let left = elsewhere.path().join("state.db");
            let found: usize =
                Connection::open(&left).unwrap().query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
            assert_eq!(found, version, "after {broken_off} steps");
            let state = State::open(&left).unwrap();
            assert_eq!(state.jobs(1, &page(10)).unwrap().len(), 5, "after {broken_off} steps");
            assert_eq!(state.audit_log(1, 100).unwrap().len(), 13, "after {broken_off} steps");
        }
    }
}

#[test]
fn an_answer_waits_for_the_disk() {
    let at = fixture();
    for connection in [&connect(&at.folder.path().join("state.db")).unwrap(), &*at.state.read()] {
        let pragma = |name: &str| -> String {
            connection
                .query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |row| row.get(0))
                .unwrap()
        };
        // 2 is FULL: the log is synced before a transaction counts.
        assert_eq!((pragma("journal_mode").as_str(), pragma("synchronous").as_str()), ("wal", "2"));
    }
}

#[test]
fn no_question_about_jobs_walks_through_all_of_them() {
    let at = fixture();
    let read = at.state.read();
    let plan = |sql: &str| -> String {
        let mut query = read.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = query.raw_bind_parameter(1, 1).and_then(|()| {
            let mut rows = query.raw_query();
            let mut lines = Vec::new();
            while let Some(row) = rows.next()? {
                lines.push(row.get::<_, String>(3)?);
            }
            Ok(lines)
        });
        lines.unwrap().join("; ")
    };
    let given = |page: &Page| plan(&jobs::listing(page));
    for (before, endpoint, status, index) in [
        (false, false, false, "jobs_of_tenant"),
        (true, false, false, "jobs_of_tenant"),
        (true, true, false, "jobs_of_endpoint"),
        (false, false, true, "jobs_by_status"),
        (true, false, true, "jobs_by_status"),
    ] {
        let told = given(&Page {
            before: before.then(|| "x".into()),
            endpoint: endpoint.then(|| "e".into()),
            status: status.then_some(JobStatus::Queued),
            most: 50,
        });
        assert!(told.contains(&format!("USING INDEX {index}")), "{told}");
        assert!(!told.contains("SCAN") && !told.contains("TEMP B-TREE"), "{told}");
    }
    for sql in [
        "SELECT count(*) FROM jobs WHERE tenant = ?1 AND status = 'Queued'",
        "SELECT min(id) FROM jobs WHERE tenant = ?1 AND status = 'Queued'",
        "SELECT count(*) FROM jobs WHERE tenant = ?1 AND json_extract(input, '$.upload') = 'u'",
        "SELECT total(cpu_seconds) FROM usage WHERE tenant = ?1 AND day >= '2026'",
        "SELECT total(cpu_seconds) FROM usage WHERE job = ?1",
    ] {
        let told = plan(sql);
        assert!(told.starts_with("SEARCH"), "{sql}: {told}");
    }
}

fn used(cpu_seconds: f64) -> Usage {
    Usage { cpu_seconds, files: 2, ..Usage::default() }
}

#[test]
fn numbers_that_a_process_makes_up_hold_nobody_up() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    for id in ["job-1", "job-2", "job-3"] {
        at.submit(id);
    }
    let most = Usage { rows: u64::MAX, files: u64::MAX, input_bytes: u64::MAX, ..used(f64::MAX) };
    for id in ["job-1", "job-2"] {
        assert!(at.state.begin(id).unwrap());
        for _ in 0..20_000 {
            at.state.add_usage(at.tenant, id, most).unwrap();
        }
    }
    assert_eq!(at.state.waiting(Duration::ZERO).unwrap().len(), 1);
    assert!(at.state.usage_of_month(at.tenant).unwrap().rows >= 1 << 50);
    assert_eq!(at.state.usage(&UsageSpan { most: 10, ..Default::default() }).unwrap().len(), 1);
}

#[test]
fn what_jobs_used_is_summed_and_outlives_them() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    for id in ["job-1", "job-2"] {
        at.submit(id);
        assert!(at.state.begin(id).unwrap());
        at.state.add_usage(at.tenant, id, used(1.0)).unwrap();
        let ended = Ended { status: JobStatus::Completed, record: None, error: None, used: used(2.5) };
        at.state.end(at.tenant, id, ended).unwrap();
    }
    assert_eq!(at.state.usage_of_job("job-1").unwrap(), Usage { files: 4, ..used(3.5) });
    at.state.delete_job(at.tenant, "job-1", "t").unwrap();
    assert!(matches!(at.state.job(at.tenant, "job-1"), Err(StateError::Unknown { .. })));
    let span = UsageSpan { most: 10, ..Default::default() };
    let all = at.state.usage(&span).unwrap();
    assert_eq!((all[0].tenant.as_str(), all[0].jobs, all[0].usage.cpu_seconds), ("one", 2, 7.0));
    let each = at.state.usage(&UsageSpan { by_job: true, ..span.clone() }).unwrap();
    assert_eq!(each.iter().map(|line| line.job.clone().unwrap()).collect::<Vec<_>>(), ["job-2", "job-1"]);
    assert_eq!(at.state.usage(&UsageSpan { to: Some("2020-01-01".into()), ..span }).unwrap(), []);
    assert_eq!(at.state.usage_of_month(at.tenant).unwrap().cpu_seconds, 7.0);
}

#[test]
fn what_a_tenant_may_not_have_is_refused_by_number_and_with_when_it_begins_anew() {
    let at = fixture();
    at.endpoint("e");
    at.deploy("e", "d", "sha256:1");
    let limit = |change| at.state.update_tenant("one", (None, change), (at.tenant, "t")).unwrap();
    limit(QuotasChange { instances: Some(Some(4)), memory: Some(Some(1000)), ..Default::default() });
    let submit = |id: &str, instances, memory| {
        let new = NewJob { instances, memory, ..new_job(id) };
        at.state.submit(at.tenant, new, "t").map(accepted).map_err(|error| error.to_string())
    };
    let refused = |result: Result<Job, String>, text: &str| {
        let told = result.unwrap_err();
        assert!(told.starts_with(text), "{told}");
    };
    refused(submit("job-1", 5, 0), "the job asks for 5 instances at once, and the tenant may have 4\nhint: ");
    refused(submit("job-1", 4, 1001), "the job asks for 1001 bytes of memory for its instances, and");
    submit("job-1", 3, 600).unwrap();
    submit("job-2", 3, 600).unwrap();
    let room = || at.state.waiting(Duration::ZERO).unwrap()[0].has_room();
    assert!(room());
    assert!(at.state.begin("job-1").unwrap());
    // Six at once would be too many; it waits.
    assert!(!room());
    limit(QuotasChange { instances: Some(None), ..Default::default() });
    assert!(!room(), "1,200 bytes are too many");
    limit(QuotasChange { memory: Some(None), ..Default::default() });
    assert!(room());
    limit(QuotasChange { cpu_seconds: Some(Some(10)), ..Default::default() });
    at.state.add_usage(at.tenant, "job-1", used(9.9)).unwrap();
    assert!(room());
    at.state.add_usage(at.tenant, "job-1", used(0.2)).unwrap();
    assert!(!room());
    let text = "the tenant has used 10 CPU seconds this month, and may use 10\nhint: it begins anew at ";
    refused(submit("job-3", 1, 0), &format!("{text}{}", next_month()));
    // What is lowered below what a waiting job asks for is told to it.
    limit(QuotasChange { cpu_seconds: Some(None), instances: Some(Some(2)), ..Default::default() });
    assert!(at.state.waiting(Duration::ZERO).unwrap()[0].fits().is_err());
}

#[test]
fn a_model_in_use_is_not_removed_and_its_number_is_not_used_again() {
    let at = fixture();
    at.endpoint("e");
    for digest in ["sha256:a", "sha256:b"] {
        at.state.create_model(at.tenant, "m", digest, "t").unwrap();
    }
    let new = NewDeployment { model: Some("sha256:b".into()), ..at.new_deployment("d") };
    at.state.create_deployment(at.tenant, "e", new, "t").unwrap();
    assert!(matches!(at.state.delete_model(at.tenant, "m", 2, "t"), Err(StateError::InUse { .. })));
    at.state.delete_model(at.tenant, "m", 1, "t").unwrap();
    assert!(matches!(at.state.delete_model(at.tenant, "m", 1, "t"), Err(StateError::Unknown { .. })));
    let digests = at.state.digests(at.tenant).unwrap();
    assert!(digests.contains("sha256:b") && !digests.contains("sha256:a"));
    assert_eq!(at.state.create_model(at.tenant, "m", "sha256:a", "t").unwrap().version, 3);
}
