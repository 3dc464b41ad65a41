//! The OpenAPI document for programs, and the same for readers: one page without scripts, made of the document alone.

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Shared;
use super::openapi::{document, openapi};

/// A page that loads its own style and nothing else.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const STYLE: &str = include_str!("../../templates/docs.css");

/// Made once: a host's document does not change.
static DOCUMENT: LazyLock<String> = LazyLock::new(openapi);
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let page = Page::of(&document());
    page.render().expect("texts become a text; this is a bug")
});

pub(super) fn docs() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(docs_page)).routes(routes!(docs_style)).routes(routes!(docs_document))
}

/// This description for readers.
#[utoipa::path(get, path = "/docs", tag = "host",
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
async fn docs_page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
    ];
    (headers, Html(PAGE.as_str())).into_response()
}

/// How the page looks.
#[utoipa::path(get, path = "/docs/style.css", tag = "host",
    responses((status = 200, description = "A style sheet.", body = String, content_type = "text/css")))]
async fn docs_style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response()
}

/// This description for programs: an OpenAPI document.
#[utoipa::path(get, path = "/docs/openapi.json", tag = "host",
    responses((status = 200, description = "The document.", body = Value)))]
async fn docs_document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str()).into_response()
}

#[derive(Template)]
#[template(path = "docs.html")]
struct Page {
    title: String,
    version: String,
    about: Words,
    groups: Vec<Group>,
    schemas: Vec<Shape>,
}

/// Routes of one tag.
struct Group {
    name: String,
    about: Words,
    operations: Vec<Operation>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    is_open: bool,
    summary: Words,
    more: Words,
    parameters: Vec<Parameter>,
    body: Option<Content>,
    answers: Vec<Answer>,
}

struct Parameter {
    name: String,
    place: String,
    is_required: bool,
    kind: Kind,
    about: Words,
}

/// A body: its media type, and its shape.
struct Content {
    media: String,
    kind: Kind,
}

struct Answer {
    status: String,
    about: Words,
    body: Option<Content>,
}

/// A schema that has a name.
struct Shape {
    name: String,
    about: Words,
    /// What it may be where it has no members.
    kind: Kind,
    members: Vec<Parameter>,
}

/// What a value is, with the name of a schema that is shown elsewhere.
struct Kind {
    before: String,
    name: Option<String>,
}

/// A text with code in it: whether each part is code.
struct Words(Vec<(bool, String)>);

impl Words {
    fn of(text: &Value) -> Self {
        let text = text.as_str().unwrap_or_default();
        Self(text.split('`').enumerate().map(|(i, part)| (i % 2 == 1, part.to_owned())).collect())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

impl Page {
    fn of(document: &Value) -> Self {
        let group = |tag: &Value| Group {
            name: text(&tag["name"]),
            about: Words::of(&tag["description"]),
            operations: operations(document, &tag["name"]),
        };
        let schemas = members(&document["components"]["schemas"]);
        Self {
            title: text(&document["info"]["title"]),
            version: text(&document["info"]["version"]),
            about: Words::of(&document["info"]["description"]),
            groups: items(&document["tags"]).map(group).collect(),
            schemas: schemas.map(|(name, schema)| shape(name, schema)).collect(),
        }
    }
}

fn operations(document: &Value, tag: &Value) -> Vec<Operation> {
    let all = members(&document["paths"]).flat_map(|(path, methods)| members(methods).map(move |(m, o)| (path, m, o)));
    let of_tag = all.filter(|(_, _, operation)| operation["tags"][0] == *tag);
    of_tag
        .map(|(path, method, operation)| Operation {
            id: text(&operation["operationId"]),
            method: method.to_uppercase(),
            path: path.clone(),
            is_open: operation["security"].is_null(),
            summary: Words::of(&operation["summary"]),
            more: Words::of(&operation["description"]),
            parameters: items(&operation["parameters"]).map(parameter).collect(),
            body: content(&operation["requestBody"]),
            answers: members(&operation["responses"]).map(|(status, answer)| told(document, status, answer)).collect(),
        })
        .collect()
}

fn parameter(parameter: &Value) -> Parameter {
    Parameter {
        name: text(&parameter["name"]),
        place: text(&parameter["in"]),
        is_required: parameter["required"] == true,
        kind: Kind::of(&parameter["schema"]),
        about: Words::of(&parameter["description"]),
    }
}

fn content(of: &Value) -> Option<Content> {
    let (media, content) = members(&of["content"]).next()?;
    Some(Content { media: media.clone(), kind: Kind::of(&content["schema"]) })
}

fn told(document: &Value, status: &str, answer: &Value) -> Answer {
    let shared = answer["$ref"].as_str().and_then(|name| document.pointer(name.trim_start_matches('#')));
    let answer = shared.unwrap_or(answer);
    Answer { status: status.to_owned(), about: Words::of(&answer["description"]), body: content(answer) }
}

fn shape(name: &str, schema: &Value) -> Shape {
    let is_required = |member: &str| items(&schema["required"]).any(|name| name == member);
    let member = |(name, schema): (&String, &Value)| Parameter {
        name: name.clone(),
        place: String::new(),
        is_required: is_required(name),
        kind: Kind::of(schema),
        about: Words::of(&schema["description"]),
    };
    Shape {
        name: name.to_owned(),
        about: Words::of(&schema["description"]),
        kind: Kind::of(schema),
        members: members(&schema["properties"]).map(member).collect(),
    }
}

impl Kind {
    fn plain(before: impl Into<String>) -> Self {
        Self { before: before.into(), name: None }
    }

    fn of(schema: &Value) -> Self {
        if let Some(name) = schema["$ref"].as_str() {
            return Self { before: String::new(), name: name.rsplit('/').next().map(str::to_owned) };
        }
        if schema["enum"].is_array() {
            let words: Vec<_> = items(&schema["enum"]).map(Value::to_string).collect();
            return Self::plain(words.join(" or "));
        }
        if schema["oneOf"].is_array() {
            let kinds: Vec<_> = items(&schema["oneOf"]).map(Self::of).collect();
            let words: Vec<_> = kinds.iter().filter(|kind| kind.name.is_none()).map(|kind| &*kind.before).collect();
            let name = kinds.iter().find_map(|kind| kind.name.clone());
            let before = words.join(" or ") + if name.is_some() { " or " } else { "" };
            return Self { before, name };
        }
        let is = |kind: &str| schema["type"] == kind || items(&schema["type"]).any(|one| one == kind);
        let or_null = if is("null") { " or null" } else { "" };
        if is("array") {
            let Self { before, name } = Self::of(&schema["items"]);
            return Self { before: format!("list of {before}"), name };
        }
        if is("object") && schema["additionalProperties"].is_object() {
            let Self { before, name } = Self::of(&schema["additionalProperties"]);
            return Self { before: format!("map of {before}"), name };
        }
        if is("object") {
            let names: Vec<_> = members(&schema["properties"]).map(|(name, _)| format!("{{{name:?}: …}}")).collect();
            // One member alone is a case of several.
            return Self::plain(if names.len() == 1 { names.concat() } else { format!("object{or_null}") });
        }
        let plain = ["string", "integer", "number", "boolean", "null"].into_iter().find(|kind| is(kind));
        Self::plain(format!("{}{or_null}", plain.unwrap_or("any value")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tells_every_route_and_every_schema_and_escapes_them() {
        let document = document();
        let page = Page::of(&document);
        let html = page.render().unwrap();
        for (path, operations) in members(&document["paths"]) {
            for (_, operation) in members(operations) {
                assert!(html.contains(&format!("id=\"{}\"", text(&operation["operationId"]))), "{path}");
            }
        }
        for (name, _) in members(&document["components"]["schemas"]) {
            assert!(html.contains(&format!("id=\"schema-{name}\"")), "{name}");
        }
        // What is linked to is there.
        for link in html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(html.contains(&format!("id=\"{link}\"")), "{link}");
        }
        let hostile = serde_json::json!({"info": {"title": "<script>x</script>"}});
        assert!(!Page::of(&hostile).render().unwrap().contains("<script"));
        assert!(!html.contains("<script") && !html.contains(" style="));
    }
}
