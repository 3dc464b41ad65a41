//! What is read of a request: names of its path, its query, its JSON. What is wrong with one is told as a problem, and no
//! body is read that is too large or too slow.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// What a JSON body may have.
const MOST_BODY: usize = 1 << 20;
/// What is read of one that has more.
const MOST_DROPPED: usize = 16 << 20;
/// How long a JSON body, or a part of a file, may take.
pub(super) const PART: Duration = Duration::from_secs(30);

/// The names in a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(names)| Self(names)).map_err(|e| Problem::no_path(&e.body_text()))
    }
}

/// What is asked for in the query.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(asked)| Self(asked)).map_err(|e| Problem::no_query(&e.body_text()))
    }
}

/// A JSON body.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(Problem::not_json());
        }
        let body = tokio::time::timeout(PART, read(request.into_body())).await.map_err(|_| Problem::slow())??;
        let Members(body) = serde_json::from_slice(&body).map_err(|error| Problem::wrong(&error))?;
        Ok(Self(body))
    }
}

/// What a header says that is there once or not at all: of two, nobody could tell which one counts.
pub(super) fn one_header(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Problem::refused(&format!("the header `{name}` is not in ASCII"))),
        },
        _ => Err(Problem::refused(&format!("the header `{name}` is there twice"))),
    }
}

/// What is written with its members' names: without this, a list of their values in order would do as well.
#[derive(Default)]
pub(super) struct Members<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Named(PhantomData)).map(Self)
    }
}

struct Named<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// A body that may have so many bytes. Of one that has more, some are read and dropped: a caller that still sends would
/// not see the answer.
async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let (mut kept, mut count, mut parts) = (Vec::new(), 0, body.into_data_stream());
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| Problem::broken())?;
        count += part.len();
        if count <= MOST_BODY {
            kept.extend_from_slice(&part);
        } else if count > MOST_DROPPED {
            break;
        }
    }
    if count > MOST_BODY { Err(Problem::too_large(MOST_BODY)) } else { Ok(kept) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_names() {
        #[derive(Debug, Default, PartialEq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Two {
            a: u32,
            b: u32,
        }
        let read = |text| serde_json::from_str::<Members<Two>>(text).map(|Members(two)| two).ok();
        assert_eq!(read(r#"{"b": 2}"#), Some(Two { a: 0, b: 2 }));
        assert_eq!(read("{}"), Some(Two::default()));
        for text in ["[1, 2]", "[]", "null", "1", r#"{"c": 1}"#, r#"{"a": 1, "a": 2}"#] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
