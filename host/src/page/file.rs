//! Files as bytes: outputs to keep, and pictures of an input to look at.

use std::fs::File;
use std::io::Read;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;

use super::{Page, Pages, Viewer};

/// Bytes of a file that are read at once.
const CHUNK: usize = 256 << 10;

/// A body of so many bytes of a file, read as they are taken.
fn body(file: File, bytes: u64) -> Body {
    Body::from_stream(stream::try_unfold((file, bytes), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = move || -> std::io::Result<_> {
            let mut part = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            let count = file.read(&mut part)?;
            part.truncate(count);
            Ok((part, file))
        };
        let (part, file) = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        if part.is_empty() {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
        }
        let left = left - part.len() as u64;
        Ok(Some((Bytes::from(part), (file, left))))
    }))
}

/// So many bytes of a file as an answer of this media type.
pub(crate) fn sent(file: File, bytes: u64, kind: &'static str) -> Response {
    let mut response = body(file, bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    // Whatever a stranger wrote, opened by itself it may do nothing.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    response
}

/// A file of a job's output, to be kept and not to be opened.
pub(super) async fn output(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path((name, path)): Path<(String, String)>,
) -> Page {
    let (file, bytes) = pages.call(move |host| host.open_output(&viewer.caller, &name, &path)).await?;
    let mut response = sent(file, bytes, "application/octet-stream");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// A picture of a job's input, as it was sent: the browser decodes it, and the host does not.
pub(super) async fn picture(
    State(pages): State<Pages>,
    Extension(viewer): Extension<Viewer>,
    Path((name, path)): Path<(String, String)>,
) -> Page {
    let (kind, bytes, file) = pages.call(move |host| host.picture(&viewer.caller, &name, &path)).await?;
    Ok(sent(file, bytes, kind.media_type()))
}
