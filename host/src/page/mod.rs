//! The web page: HTML that the host renders and serves by itself, for people who watch jobs.
//!
//! What goes in: HTTP from a browser, at every path that REST has not. What comes out: pages, after signing in with a
//! token; to everybody else the sign-in page, at every path the same. Pages call the verbs of [`crate::service::host`] as
//! REST does, and hold no rule. Nothing is fetched from elsewhere, no script or style is written into a page, and every
//! form says that this host made it.

mod catalog;
mod file;
mod job;
mod jobs;
mod live;
mod session;
mod words;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Form, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

pub(crate) use file::sent;

use crate::fault;
use crate::service::host::{Caller, Host, HostError};
use crate::state::StateError;
use session::{LIFETIME, Session, Sessions};

/// What the session's cookie is called.
const COOKIE: &str = "scorehost-session";
/// Bytes of a form, and how long it may take.
const MOST_FORM: usize = 16 << 10;
const FORM: Duration = Duration::from_secs(10);
/// Pages that read tables at once: each may read far into one.
const MOST_READERS: usize = 4;
/// Pages that follow jobs at once, of all sessions.
const MOST_FOLLOWERS: usize = 128;

/// Nothing but what this host serves; nobody else's frame; no other base or target of a form.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const ICON: &str = include_str!("templates/icon.svg");
const STYLE: &str = include_str!("templates/page.css");
const SCRIPT: &str = include_str!("templates/page.js");

/// What every page works on.
#[derive(Clone)]
struct Pages {
    host: Arc<Host>,
    sessions: Arc<Sessions>,
    readers: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Pages {
    /// Calls a verb where it may wait for the disk.
    async fn call<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Host) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let host = Arc::clone(&self.host);
        match tokio::task::spawn_blocking(move || verb(&host)).await {
            Ok(result) => result.map_err(|error| Refusal::of(&error)),
            Err(_) => Err(Refusal::host()),
        }
    }

    /// The same for verbs that may read much.
    async fn read<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Host) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let _place = self.readers.acquire().await.map_err(|_| Refusal::host())?;
        self.call(verb).await
    }
}

/// Who looks at a page, for what every page shows.
#[derive(Clone, Debug)]
struct Viewer {
    caller: Caller,
    session: Session,
}

/// The fields of a form that this session's own page sent.
#[derive(Clone, Debug)]
struct Fields(HashMap<String, String>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Why there is no page.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    text: String,
    hint: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, text: &str) -> Self {
        let (text, hint) = match text.split_once("\nhint: ") {
            Some((text, hint)) => (text.to_owned(), Some(hint.to_owned())),
            None => (text.to_owned(), None),
        };
        Self { status, text, hint }
    }

    /// What failed is this host; why is in its log.
    fn host() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the host failed; its log says why")
    }

    fn no_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no such page")
    }

    fn of(error: &HostError) -> Self {
        let status = match error {
            HostError::Stranger => StatusCode::UNAUTHORIZED,
            HostError::Scope(_) => StatusCode::FORBIDDEN,
            HostError::State(StateError::Unknown { .. }) => StatusCode::NOT_FOUND,
            HostError::State(StateError::Exists { .. } | StateError::InUse { .. } | StateError::NotResumed { .. }) => {
                StatusCode::CONFLICT
            }
            HostError::Busy | HostError::State(StateError::Quota { .. } | StateError::Full { .. }) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            error if error.fault() == fault::Fault::Caller => StatusCode::BAD_REQUEST,
            _ => {
                tracing::error!(error = fault::chain(error), "a page cannot be given");
                return Self::host();
            }
        };
        Self::new(status, &error.to_string())
    }
}

/// What every page has around its own.
struct Frame {
    tenant: String,
    form_key: String,
    /// Which part of the host it is of.
    part: &'static str,
    is_admin: bool,
    /// Where the page asks what changes; empty where nothing does.
    live: String,
}

impl Frame {
    fn new(viewer: &Viewer, part: &'static str) -> Self {
        use crate::service::host::Scope;
        let (tenant, is_admin) = (viewer.caller.tenant().to_owned(), viewer.caller.has(Scope::Admin));
        Self { tenant, form_key: viewer.session.form_key.clone(), part, is_admin, live: String::new() }
    }
}

#[derive(Template)]
#[template(path = "signin.html")]
struct SignInPage {
    wrong: bool,
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct RefusalPage {
    frame: Frame,
    title: &'static str,
    text: String,
    hint: Option<String>,
}

type Page = Result<Response, Refusal>;

fn html(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn page(template: &impl Template) -> Page {
    Ok(html(StatusCode::OK, template))
}

/// Every page.
pub(crate) fn router(host: Arc<Host>) -> Router {
    let pages = Pages {
        host,
        sessions: Arc::default(),
        readers: Arc::new(Semaphore::new(MOST_READERS)),
        followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
    };
    let asset =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    Router::new()
        .route("/", get(|| async { Redirect::to("/jobs") }))
        .route("/signout", get(|| async { Redirect::to("/jobs") }).post(sign_out))
        .route("/jobs", get(jobs::page))
        .route("/jobs/{name}", get(job::page).post(job::change))
        .route("/jobs/{name}/gallery", get(job::gallery))
        .route("/jobs/{name}/logs/{mini_batch}/{attempt}", get(job::log))
        .route("/jobs/{name}/pictures/{*path}", get(file::picture))
        .route("/jobs/{name}/outputs/{*path}", get(file::output))
        .route("/endpoints", get(catalog::endpoints))
        .route("/endpoints/{name}", get(catalog::endpoint).post(catalog::change))
        .route("/devices", get(catalog::devices))
        .route("/tenants", get(catalog::tenants))
        .route("/audit", get(catalog::audit))
        .route("/live", get(live::follow))
        .fallback(|| async { Err::<Response, _>(Refusal::no_page()) })
        .method_not_allowed_fallback(|| async { Err::<Response, _>(Refusal::no_page()) })
        .layer(from_fn_with_state(pages.clone(), signed_in))
        // Before signing in: what the sign-in page is made with.
        .route("/assets/page.css", asset("text/css; charset=utf-8", STYLE))
        .route("/assets/page.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/assets/icon.svg", asset("image/svg+xml", ICON))
        .layer(from_fn(guarded))
        .with_state(pages)
}

/// Lets through who is signed in; shows others where they can.
async fn signed_in(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let is_post = request.method() == Method::POST;
    if is_post && !is_own(request.headers()) {
        let text = "this form does not say that a page of this host sent it, or another site did\n\
                    hint: sign in with a browser; programs ask /v1 with `Authorization: Bearer TOKEN`, without signing in\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let viewer = viewer(&pages, request.headers()).await;
    let (parts, body) = request.into_parts();
    let mut request = Request::from_parts(parts, Body::empty());
    let fields = if is_post {
        match fields(request.headers(), body).await {
            Some(fields) => Some(fields),
            None => return (StatusCode::BAD_REQUEST, "this is no form\n").into_response(),
        }
    } else {
        None
    };
    let Some(viewer) = viewer else {
        // To the page that was asked for, which is the one that this form is on.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        return sign_in(&pages, request.headers(), fields, &path).await;
    };
    if let Some(fields) = fields {
        if !viewer.session.has_made(fields.get("form_key")) {
            let text = "this form is not of your session\nhint: load the page again, and send the form from there";
            return refused(&viewer, Refusal::new(StatusCode::FORBIDDEN, text));
        }
        request.extensions_mut().insert(fields);
    }
    request.extensions_mut().insert(viewer.clone());
    let response = next.run(request).await;
    match response.extensions().get::<Arc<Refusal>>() {
        Some(refusal) => {
            let Refusal { status, text, hint } = refusal.as_ref();
            refused(&viewer, Refusal { status: *status, text: text.clone(), hint: hint.clone() })
        }
        None => response,
    }
}

impl IntoResponse for Refusal {
    /// The page around it is made where it is known who looks.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

fn refused(viewer: &Viewer, refusal: Refusal) -> Response {
    let Refusal { status, text, hint } = refusal;
    let title = status.canonical_reason().unwrap_or("Not done");
    html(status, &RefusalPage { frame: Frame::new(viewer, ""), title, text, hint })
}

/// Whether a form was sent from a page of this host. Browsers say so in a header that no page can write; those that do not
/// yet name the page's origin.
fn is_own(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let origin = text("origin").and_then(|origin| origin.split_once("://"));
    origin.is_some_and(|(_, host)| text("host").is_some_and(|own| own.eq_ignore_ascii_case(host)))
}

async fn fields(headers: &HeaderMap, body: Body) -> Option<Fields> {
    let bytes = tokio::time::timeout(FORM, to_bytes(body, MOST_FORM)).await.ok()?.ok()?;
    let mut request = Request::new(Body::from(bytes));
    *request.method_mut() = Method::POST;
    request.headers_mut().insert(header::CONTENT_TYPE, headers.get(header::CONTENT_TYPE)?.clone());
    let Form(fields) = Form::from_request(request, &()).await.ok()?;
    Some(Fields(fields))
}

fn session_id(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, id)| id.to_owned())
}

async fn viewer(pages: &Pages, headers: &HeaderMap) -> Option<Viewer> {
    let session = pages.sessions.find(&session_id(headers)?)?;
    let token = session.token.clone();
    let caller = pages.call(move |host| host.recognise(&token)).await.ok()?;
    Some(Viewer { caller, session })
}

async fn sign_in(pages: &Pages, headers: &HeaderMap, fields: Option<Fields>, path: &str) -> Response {
    let token = fields.and_then(|mut fields| fields.0.remove("token"));
    let wrong = token.is_some();
    if let Some(token) = token {
        let token = token.trim().to_owned();
        let asked = token.clone();
        if pages.call(move |host| host.recognise(&asked)).await.is_ok()
            && let Some(id) = pages.sessions.begin(&token)
        {
            let is_secure = headers.get(header::ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https:"));
            let cookie = cookie(&id, LIFETIME, is_secure);
            return ([(header::SET_COOKIE, cookie)], Redirect::to(own_path(path))).into_response();
        }
    }
    html(StatusCode::UNAUTHORIZED, &SignInPage { wrong })
}

/// Where somebody goes on after signing in: what browsers would take for another host's address is not followed.
fn own_path(path: &str) -> &str {
    let leaves = path.starts_with("//") || path.contains('\\') || !path.starts_with('/');
    if leaves { "/jobs" } else { path }
}

/// No page can read it, no other site's request carries it, and where there is TLS it goes nowhere else.
fn cookie(id: &str, lifetime: Duration, is_secure: bool) -> String {
    let secure = if is_secure { "; Secure" } else { "" };
    format!("{COOKIE}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", lifetime.as_secs())
}

async fn sign_out(State(pages): State<Pages>, Extension(_): Extension<Viewer>, headers: HeaderMap) -> Response {
    if let Some(id) = session_id(&headers) {
        pages.sessions.end(&id);
    }
    ([(header::SET_COOKIE, cookie("", Duration::ZERO, false))], Redirect::to("/jobs")).into_response()
}

/// What browsers are told to hold every page to.
async fn guarded(request: Request, next: Next) -> Response {
    let has_body = !matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = next.run(request).await;
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    let headers = response.headers_mut();
    if has_body && is_refused {
        // What is left of a refused body is not read, so that nothing can follow it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let mut tell = |name: HeaderName, value: &'static str| {
        // A picture has a stricter one.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    tell(header::CONTENT_SECURITY_POLICY, POLICY);
    tell(header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with that, browsers do not say either which page a form of this host was sent from.
    tell(header::REFERRER_POLICY, "same-origin");
    tell(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    tell(header::CACHE_CONTROL, "no-store");
    tell(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    tell(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_other_sites_are_told_from_ours() {
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[("sec-fetch-site", "same-origin")], true),
            // Another port of this machine, another site, a bookmark.
            (&[("sec-fetch-site", "same-site"), ("origin", "http://a:1"), ("host", "a:1")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "none")], false),
            // Browsers that do not say.
            (&[("origin", "http://a:1"), ("host", "a:1")], true),
            (&[("origin", "http://a:2"), ("host", "a:1")], false),
            (&[("origin", "null"), ("host", "null")], false),
            (&[("host", "a:1")], false),
        ];
        for (case, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in case {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            assert_eq!(is_own(&headers), expected, "{case:?}");
        }
    }

    #[test]
    fn signing_in_leads_to_no_other_host() {
        for path in ["//elsewhere.example", "/\\elsewhere.example", "/a\\b", "elsewhere.example", ""] {
            assert_eq!(own_path(path), "/jobs", "{path}");
        }
        assert_eq!(own_path("/jobs/job-1?errors=2"), "/jobs/job-1?errors=2");
    }

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=b; scorehost-session=x-Y_1; c=d"));
        assert_eq!(session_id(&headers).as_deref(), Some("x-Y_1"));
        assert!(cookie("x", LIFETIME, true).ends_with("; HttpOnly; SameSite=Strict; Secure"));
        assert!(cookie("x", LIFETIME, false).ends_with("; HttpOnly; SameSite=Strict"));
    }
}
