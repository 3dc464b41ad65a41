//! The OpenAPI document: what the handlers say of themselves, and what is true of all of them alike.
//!
//! What goes in: routes with their requests and answers. What comes out: one JSON document, the same for every host of this
//! version. A problem is written once here, and not at every route.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use super::problem::Problem;

/// What comes first in the document.
const ABOUT: &str = "Endpoints with versioned deployments, and jobs that score folders of files with them. Everything below \
`/v1`, and Azure's routes, need a token. Bodies are JSON of at most 1 MiB; members that are not known are refused. What goes \
wrong is a problem as RFC 9457 has it, with the cure as `hint`.";

/// The parts that routes are sorted into, in the order in which they are used.
const TAGS: [(&str, &str); 8] = [
    ("host", "The host itself. All but `whoami` needs no token."),
    ("uploads", "Folders that are sent file by file."),
    ("models", "Models with versions that do not change."),
    ("endpoints", "Stable names that jobs are posted to."),
    ("deployments", "Versions of what answers at an endpoint: a script, a model, settings."),
    ("jobs", "Folders that are scored, and what came of it."),
    ("azure", "The same jobs as clients of Azure's batch endpoints post and poll them."),
    ("tenants", "Who may do what, and who did what."),
];

/// What names in paths are.
const NAMES: [(&str, &str); 5] = [
    ("endpoint", "The endpoint's name."),
    ("name", "Its name."),
    ("id", "Its public name, as the answer that made it has it."),
    ("path", "The file's path below the folder, with `/` between its parts."),
    ("version", "The version's number."),
];

/// What the names of new things may be, as `service::host::names` has it, and the schemas with one.
const NAME: &str = "^[A-Za-z](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?$";
const NAMED: [&str; 4] = ["NewModel", "NewEndpoint", "NewTenant", "NewToken"];

/// Problems, by the name of their answer: the status, and when it is.
const PROBLEMS: [(&str, u16, &str); 12] = [
    ("Refused", 400, "The request cannot be done as it is; the problem says why."),
    ("Stranger", 401, "There is no token, or none that is taken: the same for every reason."),
    ("Scope", 403, "The token may not do this."),
    ("Unknown", 404, "There is no such thing in the token's tenant."),
    ("Slow", 408, "The body came too slowly."),
    ("Conflict", 409, "It exists, or is in use."),
    ("TooLarge", 413, "The body is too large."),
    ("NotJson", 415, "The body is not said to be JSON."),
    (
        "Unprocessable",
        422,
        "The body is not what this route takes, or the idempotency key was used for another request.",
    ),
    ("TooMany", 429, "A limit of the tenant or of the host is reached; `Retry-After` says when to try again."),
    ("Failed", 500, "The host failed; its log says why."),
    ("Closed", 503, "The host is ending."),
];

/// The document, as text with a line for each member.
pub fn openapi() -> String {
    let text = serde_json::to_string_pretty(&document()).expect("plain values are JSON; this is a bug");
    text + "\n"
}

/// The document.
pub(super) fn document() -> Value {
    let described = serde_json::to_value(super::described()).expect("a document is JSON; this is a bug");
    let version = env!("CARGO_PKG_VERSION");
    let mut document = json!({
        "openapi": described["openapi"],
        "info": {
            "title": "Scorehost",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "version": version,
        },
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths(&described["paths"]),
        "components": described["components"],
    });
    let components = &mut document["components"];
    components["schemas"]["Problem"] = json!(Problem::schema());
    // Those that only a problem names.
    let mut inner = Vec::new();
    <Problem as utoipa::ToSchema>::schemas(&mut inner);
    for (name, schema) in inner {
        components["schemas"][name.as_str()] = json!(schema);
    }
    for schema in NAMED {
        components["schemas"][schema]["properties"]["name"]["pattern"] = json!(NAME);
    }
    sort(&mut components["schemas"]);
    bound(&mut document);
    let components = &mut document["components"];
    let answers = PROBLEMS.map(|(name, status, when)| (name.to_owned(), answer(status, when)));
    components["responses"] = Value::Object(answers.into_iter().collect());
    components["securitySchemes"] = json!({
        "token": {"type": "http", "scheme": "bearer", "description": "A token that an administrator made."}
    });
    document
}

/// Numbers without a sign end where theirs do, and not where those with a sign end.
fn bound(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let most = match members.get("format").and_then(Value::as_str) {
                Some("int32") => Some(u64::from(u32::MAX)),
                Some("int64") => Some(u64::MAX),
                _ => None,
            };
            if let Some(most) = most
                && members.get("minimum").and_then(Value::as_u64).is_some()
            {
                members.remove("format");
                members.entry("maximum").or_insert(json!(most));
            }
            members.values_mut().for_each(bound);
        }
        Value::Array(items) => items.iter_mut().for_each(bound),
        _ => {}
    }
}

fn sort(members: &mut Value) {
    if let Value::Object(members) = members {
        members.sort_keys();
    }
}

/// A problem as an answer.
fn answer(status: u16, when: &str) -> Value {
    let text = |description: &str| json!({"schema": {"type": "string"}, "description": description, "required": true});
    let mut answer = json!({
        "description": when,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    });
    match status {
        401 => answer["headers"] = json!({"www-authenticate": text("How a token is sent.")}),
        429 | 503 => answer["headers"] = json!({"retry-after": text("Seconds.")}),
        _ => {}
    }
    answer
}

/// The paths, with names that OpenAPI has and with what each route has in common with others.
fn paths(described: &Value) -> Value {
    let mut paths = Map::new();
    for (path, operations) in described.as_object().into_iter().flatten() {
        let is_secured = path.starts_with("/v1/") || path.starts_with("/endpoints/");
        let mut operations = operations.clone();
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            complete(operation, method, is_secured);
        }
        // OpenAPI knows no path that goes on over several parts; who sends one writes `/` as `%2F`, or as it is.
        paths.insert(path.replace("{*", "{"), operations);
    }
    paths.sort_keys();
    Value::Object(paths)
}

fn complete(operation: &mut Value, method: &str, is_secured: bool) {
    let operation_id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let is_whoami = operation_id == "whoami";
    let has = |place: &str| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.filter(|parameter| parameter["in"] == place).count() > 0
    };
    let (has_names, has_query, has_headers) = (has("path"), has("query"), has("header"));
    let (has_json, has_file) = match operation["requestBody"]["content"].as_object() {
        Some(kinds) => (kinds.contains_key("application/json"), !kinds.contains_key("application/json")),
        None => (false, false),
    };
    if has_file {
        // An empty file is one too.
        operation["requestBody"]["required"] = json!(false);
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let known = NAMES.iter().find(|(name, _)| parameter["name"] == *name && parameter["in"] == "path");
        if let Some((_, description)) = known {
            parameter["description"] = json!(description);
        }
    }
    if !is_secured {
        return;
    }
    operation["security"] = json!([{"token": []}]);
    let changes = method != "get";
    let follows = operation_id == "events";
    let applies = |status: u16| match status {
        400 => has_names || has_query || has_headers || has_json,
        403 => !is_whoami,
        // The report of usage has a tenant's name in its query.
        404 => has_names || has_json || operation_id == "usage",
        408 => has_json || has_file,
        413 | 415 | 422 => has_json,
        409 => changes,
        429 => changes || follows,
        _ => true,
    };
    if let Some(answers) = operation["responses"].as_object_mut() {
        for (name, status, _) in PROBLEMS.iter().filter(|(_, status, _)| applies(*status)) {
            answers.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{name}")}));
        }
        answers.sort_keys();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref`, and every name that could be one's.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn everything_that_is_named_is_there_and_everything_there_is_described() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 30, "{found:?}");
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} is not there");
        }
        let mut ids = BTreeSet::new();
        let mut routes = 0;
        for (path, operations) in document["paths"].as_object().unwrap() {
            assert!(!path.contains('*'), "{path}");
            for (method, operation) in operations.as_object().unwrap() {
                routes += 1;
                let text = |value: &Value| value.as_str().is_some_and(|text| text.ends_with('.'));
                assert!(text(&operation["summary"]), "{method} {path} has no summary");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
                let tag = operation["tags"][0].as_str().unwrap();
                assert!(TAGS.iter().any(|(name, _)| *name == tag), "{tag}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(text(&parameter["description"]), "{method} {path}: {parameter}");
                }
                let is_open = path.starts_with("/docs") || path.ends_with("z");
                assert_eq!(operation["security"].is_null(), is_open, "{method} {path}");
                assert_eq!(operation["responses"]["401"].is_null(), is_open, "{method} {path}");
            }
        }
        assert!(routes > 30, "{routes}");
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for (member, schema) in schema["properties"].as_object().into_iter().flatten() {
                let is_described = |schema: &Value| schema["description"].is_string() || schema["$ref"].is_string();
                let cases = schema["oneOf"].as_array();
                let is_described = is_described(schema) || cases.is_some_and(|cases| cases.iter().any(is_described));
                assert!(is_described, "`{member}` of `{name}` is not described: {schema}");
            }
        }
    }
}
