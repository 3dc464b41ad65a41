//! What is on the disk before an answer promises it: a host's system calls, in their order. A power cut keeps what was
//! synced; so every name has to come after the bytes behind it, and every promise after the name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Server;
use crate::support::{Place, demo, scorehost, skip};

const CALLS: &str = "trace=openat,mkdir,mkdirat,fsync,fdatasync,rename,renameat,renameat2,link,linkat,copy_file_range,write,\
                     writev,pwrite64,sendto,sendmsg";

/// A host below strace. Ends the host first: it would live on without its tracer.
struct Traced(Child);

impl Traced {
    fn end(&mut self) {
        let tracer = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{tracer}/task/{tracer}/children")).unwrap_or_default();
        for process in children.split_whitespace() {
            let _ = Command::new("kill").args(["-9", process]).status();
        }
        let began = Instant::now();
        while !matches!(self.0.try_wait(), Ok(Some(_))) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
        let _ = self.0.kill();
    }
}

/// What a system call did.
#[derive(Debug)]
enum Step {
    /// Bytes in a file; what they say, as strace shows it.
    Wrote(String, String),
    /// A file or a folder is on the disk.
    Synced(String),
    /// A new name.
    Made(String),
    Renamed(String, String),
    /// Bytes to a caller.
    Answered(String),
}

/// The steps of a trace, each where it was over; answers where they began.
fn steps(trace: &str) -> Vec<Step> {
    let (mut begun, mut steps) = (BTreeMap::new(), Vec::new());
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            match step(&format!("{start}) = 0")) {
                Some(answer @ Step::Answered(_)) => steps.push(answer),
                _ => drop(begun.insert(process, start.trim_end().to_owned())),
            }
        } else if call.starts_with("<... ") {
            let (Some(start), Some((_, end))) = (begun.remove(process), call.split_once("resumed>")) else { continue };
            steps.extend(step(&format!("{start}{end}")));
        } else {
            steps.extend(step(call));
        }
    }
    steps
}

fn step(call: &str) -> Option<Step> {
    let (name, rest) = call.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with('-') || result.starts_with('?') {
        return None;
    }
    // The file behind the first number: `12</a/b>`.
    let file = || Some(arguments.split_once('<')?.1.split_once('>')?.0.to_owned());
    let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
    let path = |at: usize| quoted.get(at).map(|path| (*path).to_owned());
    match name {
        "fsync" | "fdatasync" => Some(Step::Synced(file()?)),
        "rename" | "renameat" | "renameat2" => Some(Step::Renamed(path(0)?, path(1)?)),
        "link" | "linkat" => Some(Step::Made(path(1)?)),
        "mkdir" | "mkdirat" => Some(Step::Made(path(0)?)),
        "openat" if arguments.contains("O_CREAT") => Some(Step::Made(path(0)?)),
        "copy_file_range" => {
            Some(Step::Wrote(arguments.split('<').nth(2)?.split_once('>')?.0.to_owned(), String::new()))
        }
        "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" => {
            let file = file()?;
            let is_caller = file.starts_with("socket:") || file.starts_with("TCP");
            if is_caller {
                Some(Step::Answered(arguments.to_owned()))
            } else {
                Some(Step::Wrote(file, arguments.to_owned()))
            }
        }
        _ => None,
    }
}

/// What a trace holds, and what is wrong with it.
#[derive(Debug, Default)]
struct Found {
    wrong: Vec<String>,
    renamed: usize,
    journaled: usize,
    answered: usize,
    completed: usize,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Holds a trace of a host on `data` against what a power cut would leave of it. `job` is what was submitted.
fn check(steps: &[Step], data: &str, job: &str) -> Found {
    let (tenants, wal) = (format!("{data}/tenants/"), format!("{data}/state.db-wal"));
    let mut found = Found::default();
    // Files with bytes, and names, that are not on the disk; and of these names, those that stand for something whole.
    let (mut dirty, mut names, mut visible) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut is_written, mut is_kept) = (false, false);
    let of_job = |path: &&String| path.contains("/jobs/") && path.contains("/output/") && !path.contains("/logs/");
    for step in steps {
        match step {
            Step::Wrote(file, text) => {
                if *file == wal {
                    is_written |= text.contains(job);
                    // A line of the state: a record of a job that is complete, of which all has to be on the disk.
                    if text.contains(r#"\"state\":\"Completed\""#) {
                        found.completed += 1;
                        let lost = dirty.iter().chain(&visible).filter(of_job);
                        found.wrong.extend(lost.map(|path| format!("the job is complete before `{path}` is synced")));
                    }
                }
                if file.ends_with("/journal") {
                    found.journaled += 1;
                    let lost = dirty.iter().filter(of_job).filter(|path| *path != file);
                    found.wrong.extend(lost.map(|path| format!("the journal counts on `{path}` before it is synced")));
                }
                if file.starts_with(&tenants) {
                    dirty.insert(file.clone());
                }
            }
            Step::Synced(path) => {
                dirty.remove(path);
                names.retain(|name: &String| parent(name) != path);
                visible.retain(|name: &String| parent(name) != path);
                is_kept |= *path == wal && is_written;
            }
            Step::Made(path) if path.starts_with(&tenants) => drop(names.insert(path.clone())),
            Step::Made(_) => {}
            Step::Renamed(from, to) => {
                let below = format!("{from}/");
                if to.starts_with(&tenants) && !to.contains("/making/") {
                    found.renamed += 1;
                    let lost = dirty.iter().filter(|path| *path == from || path.starts_with(&below));
                    let lost = lost.chain(names.iter().filter(|path| path.starts_with(&below)));
                    found.wrong.extend(lost.map(|path| format!("`{to}` appears before `{path}` is synced")));
                    visible.insert(to.clone());
                    names.insert(to.clone());
                }
                names.retain(|path| path != from && !path.starts_with(&below));
                dirty.retain(|path| path != from && !path.starts_with(&below));
            }
            // That a single file of an upload came is no promise: the upload's end is.
            Step::Answered(text) if text.contains("HTTP/1.1 20") && !text.contains("HTTP/1.1 204") => {
                found.answered += 1;
                if text.contains("HTTP/1.1 202") && !is_kept {
                    found.wrong.push("a job is accepted before the state is synced".into());
                }
                let is_upload = text.contains(r#"\"finished\":true"#);
                let host_s = |path: &&String| !path.contains("/jobs/") && !path.contains("/making/");
                let promised = visible.iter().filter(|path| is_upload || !path.contains("/uploads/"));
                let promised = promised.chain(names.iter().filter(|path| is_upload && path.contains("/uploads/")));
                found.wrong.extend(promised.filter(host_s).map(|path| format!("answered before `{path}` is synced")));
            }
            Step::Answered(_) => {}
        }
    }
    found
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_promised_is_on_the_disk() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        skip::<()>("strace", "there is no strace");
        return;
    }
    let place = Place::new();
    let trace = place.at("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "65536", "-e", "signal=none", "-e", CALLS, "-o"]).arg(&trace);
    let host = scorehost();
    command.arg(host.get_program());
    for (key, value) in host.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let Some(server) = Server::begin(command, &place.at("data"), None, &[]) else {
        skip::<()>("strace", "strace may not trace here");
        return;
    };
    let mut server = server;
    let mut traced = Traced(server.child.take().unwrap());
    server.done("POST", "/v1/endpoints", Some(&json!({"name": "shapes"})));
    let yaml = b"name: shapes\nmodel: model\nsettings:\n  device: cpu\n  mini_batch_size: 1\n".to_vec();
    let model = std::fs::read(demo("model").join("resnet14v2-shapes.onnx")).unwrap();
    let upload = server.upload(&[("deployment.yml", yaml), ("model/shapes.onnx", model)]);
    let body = json!({"upload": upload, "set_default": true});
    server.done("POST", "/v1/endpoints/shapes/deployments", Some(&body));
    let mut pictures: Vec<_> =
        std::fs::read_dir(demo("pictures")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pictures.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files: Vec<_> = pictures[..3].iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect();
    let input = server.upload(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>());
    let job = server.submit(&json!({ "upload": input }));
    let ended = server.ended(&job);
    assert_eq!(ended["status"], "Completed", "{ended}");
    traced.end();

    let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
    let data = place.at("data").canonicalize().unwrap();
    let steps = steps(&text);
    let found = check(&steps, data.to_str().unwrap(), &job);
    assert!(found.wrong.is_empty(), "{:#?}", found.wrong);
    // Five files, the deployment, and what the job leaves: the trace was read.
    assert!(
        found.renamed >= 5 + 1 + 3 && found.journaled > 0 && found.completed > 0 && found.answered > 8,
        "{found:?}"
    );
    // Without its syncs, the same host loses something everywhere.
    let lazy: Vec<Step> = steps.into_iter().filter(|step| !matches!(step, Step::Synced(_))).collect();
    let wrong = check(&lazy, data.to_str().unwrap(), &job).wrong.join("\n");
    for text in
        ["the job is complete", "the journal counts on", "appears before", "a job is accepted", "answered before"]
    {
        assert!(wrong.contains(text), "{text} is not found:\n{wrong}");
    }
    println!("{} names, {} answers", found.renamed, found.answered);
}
