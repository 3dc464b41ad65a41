//! The rules of dependency that `host/docs/architecture.md` states, held.

use std::path::{Path, PathBuf};

use crate::support::root;

/// Each module with the modules that it may name.
const MAY_NAME: [(&str, &[&str]); 24] = [
    ("api", &["page", "service", "state", "observe", "tls", "fault"]),
    ("page", &["service", "state", "fault"]),
    (
        "cli",
        &[
            "store",
            "service",
            "api",
            "deployment",
            "infer",
            "job",
            "output",
            "project",
            "registry",
            "state",
            "script",
            "child",
            "cache",
            "child",
            "confine",
            "fault",
            "vision",
            "observe",
            "tls",
        ],
    ),
    (
        "service",
        &[
            "job",
            "deployment",
            "builtin",
            "script",
            "infer",
            "output",
            "store",
            "project",
            "registry",
            "state",
            "observe",
            "vision",
            "tensor",
            "cache",
            "confine",
            "fault",
        ],
    ),
    ("job", &["deployment", "builtin", "script", "output", "store", "row", "confine", "fault"]),
    ("builtin", &["deployment", "script", "vision", "infer", "table", "tensor", "row", "fault"]),
    ("script", &["vision", "infer", "table", "tensor", "row", "cache", "child", "confine", "fault"]),
    ("deployment", &["tensor", "row", "fault"]),
    ("output", &["table", "tensor", "row", "fault"]),
    ("vision", &["tensor", "row", "fault"]),
    ("infer", &["tensor", "row", "cache", "child", "confine", "fault"]),
    ("state", &["fault"]),
    ("store", &["tensor", "row", "fault", "tls"]),
    ("project", &["cache", "fault"]),
    ("registry", &["cache", "tls", "fault"]),
    ("observe", &[]),
    ("table", &["tensor", "row", "fault"]),
    ("tensor", &[]),
    ("row", &[]),
    ("cache", &[]),
    ("child", &["confine"]),
    ("confine", &["fault"]),
    ("fault", &[]),
    ("tls", &[]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every module after `crate::` in the code of a file, one or several in braces; comments and their links left out.
fn named(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let first = |part: &str| part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for prefix in ["crate::", "scorehost::"] {
        for part in code.split(prefix).skip(1) {
            match part.strip_prefix('{') {
                None => names.push(first(part)),
                Some(list) => names.extend(outermost(list).iter().map(|part| first(part))),
            }
        }
    }
    names
}

/// The parts between the commas of a braced list, up to the brace that ends it; commas in inner braces do not count.
fn outermost(list: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                parts.last_mut().unwrap().push(c);
            }
        }
    }
    parts
}

#[test]
fn names_in_braces_are_seen() {
    let text = "use crate::{a, b::{c, d}, e};\n// crate::no\nlet x = crate::f::g();";
    assert_eq!(named(text), ["a", "b", "e", "f"]);
}

#[test]
fn modules_name_only_what_lies_below_them() {
    let src = root().join("host/src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "the sources were not found");
    let mut broken = Vec::new();
    for file in files {
        let below = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let module = below.split('/').next().unwrap().trim_end_matches(".rs");
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            assert!(matches!(module, "lib" | "main"), "module `{module}` has no rule");
            continue;
        };
        for name in named(&std::fs::read_to_string(&file).unwrap()) {
            let is_module = MAY_NAME.iter().any(|(module, _)| *module == name);
            if is_module && name != module && !allowed.contains(&name.as_str()) {
                broken.push(format!("{below} names {name}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn outside_crates_live_in_one_module_each() {
    let homes = [
        ("wasmtime", "script/"),
        ("wgpu", "infer/gpu/"),
        ("rten", "infer/cpu"),
        ("ort", "infer/onnxruntime"),
        ("clap", "cli/"),
        ("reqwest", "cli/remote/ registry/"),
        ("ring", "registry/"),
        ("prometheus_client", "observe/"),
        ("tracing_subscriber", "observe/"),
        ("opentelemetry", "observe/"),
        ("opentelemetry_otlp", "observe/"),
        ("opentelemetry_sdk", "observe/"),
        ("rustls", "tls"),
        ("tokio_rustls", "tls"),
        ("landlock", "confine/"),
        ("rustix", "child"),
        ("seccompiler", "confine/"),
        ("axum", "api/ page/"),
        ("utoipa_axum", "api/"),
        ("rusqlite", "state/"),
        ("object_store", "store/"),
    ];
    let src = root().join("host/src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let below = file.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&file).unwrap();
        for (name, home) in homes {
            let uses = text.lines().any(|line| line.trim_start().starts_with(&format!("use {name}::")));
            let is_home = home.split(' ').any(|home| below.starts_with(home));
            assert!(!uses || is_home, "{below} uses {name}, whose home is {home}");
        }
    }
}

/// `FILE.rs::TEST` wherever a document names a test.
fn named_tests(text: &str) -> Vec<(String, String)> {
    let parts = text.split('`').filter_map(|part| part.split_once(".rs::"));
    parts.map(|(file, test)| (format!("{file}.rs"), test.to_owned())).collect()
}

#[test]
fn every_line_of_the_security_tables_names_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("host/docs/security.md")).unwrap();
    let hostile = text.split("\n## ").filter(|section| section.starts_with("A hostile "));
    let mut wrong = Vec::new();
    let mut lines = 0;
    for section in hostile {
        for line in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
            lines += 1;
            let tests = named_tests(line);
            if tests.is_empty() {
                wrong.push(format!("no test: {line}"));
            }
            for (file, test) in tests {
                let source = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
                // As rustfmt writes it, below whatever other attributes it has.
                let is_there = source.contains(&format!("fn {test}() {{"));
                if !is_there {
                    wrong.push(format!("{file} has no test {test}"));
                }
            }
        }
    }
    assert!(lines > 40, "the tables were not found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_decision_is_listed_under_its_own_title() {
    let folder = root().join("host/docs/decisions");
    let list = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let records = names.iter().filter_map(|name| name.to_str()).filter(|name| *name != "README.md");
    for (i, name) in records.enumerate() {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let (number, title) =
            text.lines().next().and_then(|line| line.strip_prefix("# ")?.split_once(". ")).expect(name);
        assert_eq!(number, format!("{:04}", i + 1), "{name}");
        assert!(name.starts_with(number), "{name}");
        assert!(list.contains(&format!("\n{}. [{title}]({name})\n", i + 1)), "{name} is not in README.md as `{title}`");
    }
}
