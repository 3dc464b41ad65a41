//! What tenants share, and how much each may take.

use serde_json::{Value, json};

use super::{server, tenant};
use crate::support::{Place, scripts};

#[test]
fn a_tenant_keeps_no_more_than_its_storage() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &[]);
    let quotas = json!({"running": 1, "queued": 1, "storage": 3 << 20});
    server.done("POST", "/v1/tenants", Some(&json!({"name": "small", "quotas": quotas})));
    let body = json!({"name": "t", "tenant": "small", "scopes": ["read", "invoke", "write"]});
    let token = server.done("POST", "/v1/tokens", Some(&body))["token"].as_str().unwrap().to_owned();
    let theirs = server.of(&token);
    let id = theirs.done("POST", "/v1/uploads", None)["id"].as_str().unwrap().to_owned();
    let put = |path: &str, size: usize| {
        let url = format!("{}/v1/uploads/{id}/files/{path}", theirs.url);
        theirs
            .http
            .put(url)
            .header("authorization", format!("Bearer {token}"))
            .send(vec![0u8; size])
            .unwrap()
            .status()
            .as_u16()
    };
    // The same file again takes the place of the first.
    for _ in 0..5 {
        assert_eq!(put("a", 1 << 20), 204);
    }
    // A file is no folder, and what is refused does not count.
    assert_eq!(put("a/b", 1 << 20), 400);
    assert_eq!((put("b", 1 << 20), put("c", 900 << 10)), (204, 204));
    assert_eq!(put("d", 200 << 10), 429);
    assert_eq!(put("e", 10 << 10), 204);
    // Names take room too.
    assert!((0..30).any(|i| put(&format!("empty{i}"), 0) == 429));
}

#[test]
fn a_tenant_with_many_jobs_does_not_hold_up_anothers_one() {
    if scripts().is_none() {
        return;
    }
    let place = Place::new();
    let server = server(&place, &["--jobs", "1"]);
    let [many, one] = ["many", "one"].map(|name| tenant(&server, name, ""));
    let theirs = server.of(&many.0);
    let jobs: Vec<String> = (0..20).map(|_| theirs.submit(&json!({"upload": many.1}))).collect();
    let single = server.of(&one.0).submit(&json!({"upload": one.1}));
    let single = server.of(&one.0).ended(&single);
    let jobs: Vec<Value> = jobs.iter().map(|name| theirs.ended(name)).collect();
    // Times are texts that sort. What began after the single one was accepted and before it began went ahead of it: what
    // was being begun at that moment, and no more.
    let time = |job: &Value, what: &str| job[what].as_str().unwrap().to_owned();
    let (accepted, began) = (time(&single, "created"), time(&single, "started"));
    let ahead = jobs.iter().filter(|job| time(job, "started") > accepted && time(job, "started") < began).count();
    let after = jobs.iter().filter(|job| time(job, "started") >= began).count();
    assert!(ahead <= 1, "{ahead} went ahead");
    assert!(after >= 10, "only {after} of 20 were waiting: the machine was too quick for this test to say anything");
}
