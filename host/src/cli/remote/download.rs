//! Fetching a job's output. What goes in: a job's name and a folder. What comes out: the output's files below the folder,
//! each whole or not at all.
//!
//! The host is not trusted with the folder: a path that could leave it is refused before anything is written, and what
//! is written goes through a handle of the folder that follows no link out of it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use scorehost::service::host::FileView;

use super::client::{Client, Page, retried};
use super::error::{RemoteError, plain};
use super::path::{encoded, encoded_path, local};

/// Bytes that are fetched and written at once.
const BUFFER: usize = 64 << 10;

/// What was fetched.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

/// Fetches every file of the output, or none.
pub(super) fn download(client: &Client, job: &str, folder: &Path, may_replace: bool) -> Result<Fetched, RemoteError> {
    let outputs = format!("/jobs/{}/outputs", encoded(job));
    let listed: Page<FileView> = client.get_files(&outputs)?;
    let files = places(listed.items)?;
    let failed = |source| RemoteError::File { what: "write to the folder", path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let target = Dir::open_ambient_dir(folder, ambient_authority()).map_err(failed)?;
    if !may_replace && let Some((_, place)) = files.iter().find(|(_, place)| target.symlink_metadata(place).is_ok()) {
        return Err(RemoteError::Exists(folder.join(place)));
    }
    let mut fetched = Fetched::default();
    for (file, place) in &files {
        let address = format!("{outputs}/{}", encoded_path(&file.path));
        retried(|| write(&target, folder, file, place, &mut client.open(&address)?))?;
        fetched.files += 1;
        fetched.bytes += file.bytes;
    }
    Ok(fetched)
}

/// Where each file goes.
fn places(files: Vec<FileView>) -> Result<Vec<(FileView, PathBuf)>, RemoteError> {
    let place = |file: FileView| match local(&file.path) {
        Some(place) => Ok((file, place)),
        None => Err(RemoteError::Path(plain(&file.path).chars().take(256).collect())),
    };
    files.into_iter().map(place).collect()
}

/// Writes one file beside its place and renames it, once it is as long as the host said.
fn write(target: &Dir, folder: &Path, file: &FileView, place: &Path, from: &mut impl Read) -> Result<(), RemoteError> {
    let failed = |source| RemoteError::File { what: "write", path: folder.join(place), source };
    if let Some(parent) = place.parent() {
        target.create_dir_all(parent).map_err(failed)?;
    }
    let part = format!(".scorehost-part-{}", std::process::id());
    let mut into = target.create(&part).map_err(failed)?;
    let done = copy(file, from, &mut into, failed).and_then(|()| target.rename(&part, target, place).map_err(failed));
    if done.is_err() {
        // The error that is told is the first.
        let _ = target.remove_file(&part);
    }
    done
}

fn copy(
    file: &FileView,
    from: &mut impl Read,
    into: &mut impl Write,
    failed: impl Fn(std::io::Error) -> RemoteError,
) -> Result<(), RemoteError> {
    let (mut buffer, mut came) = (vec![0; BUFFER], 0u64);
    loop {
        let lost = |source| RemoteError::Lost { path: plain(&file.path), source };
        let read = from.read(&mut buffer).map_err(lost)?;
        came += read as u64;
        // Not more than was said is written, however much comes.
        if came > file.bytes || (read == 0 && came < file.bytes) {
            return Err(RemoteError::Length { path: plain(&file.path), said: file.bytes, came });
        }
        if read == 0 {
            return into.flush().map_err(failed);
        }
        into.write_all(&buffer[..read]).map_err(&failed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::tests::{answer, host};
    use super::*;

    fn file(path: &str, bytes: u64) -> FileView {
        FileView { path: path.to_owned(), bytes }
    }

    #[test]
    fn one_path_that_leaves_the_folder_refuses_all() {
        assert_eq!(places(vec![file("a/b.csv", 1)]).unwrap()[0].1, PathBuf::from("a/b.csv"));
        let refused = places(vec![file("a", 1), file("../b\x1b", 1)]).unwrap_err();
        assert!(refused.to_string().contains("`../b\u{fffd}`"), "{refused}");
    }

    #[test]
    fn a_file_of_another_length_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let write = |said, mut came: &[u8]| {
            write(&target, folder.path(), &file("logs/a", said), Path::new("logs/a"), &mut came)
        };
        for (said, came) in [(3, b"ab".as_slice()), (1, b"ab"), (0, b"a")] {
            assert!(matches!(write(said, came), Err(RemoteError::Length { .. })), "{said}");
            assert!(!folder.path().join("logs/a").exists());
        }
        write(2, b"ab").unwrap();
        assert_eq!(std::fs::read(folder.path().join("logs/a")).unwrap(), b"ab");
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["logs"], "no part is left");
    }

    #[cfg(unix)]
    #[test]
    fn no_link_leads_out_of_the_folder() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(outside.path(), folder.path().join("logs")).unwrap();
        let target = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let done = write(&target, folder.path(), &file("logs/a", 1), Path::new("logs/a"), &mut b"x".as_slice());
        assert!(matches!(done, Err(RemoteError::File { .. })), "{done:?}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_output_is_fetched_whole_and_replaces_nothing_unasked() {
        let listed = answer("200 OK", r#"{"items":[{"path":"a b.csv","bytes":2},{"path":"logs/0.txt","bytes":0}]}"#);
        let bytes = || vec![answer("200 OK", "xy"), answer("200 OK", "")];
        let cut = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nx".to_owned();
        let answers = [vec![listed.clone(), cut], bytes(), vec![listed.clone(), listed], bytes()].concat();
        let (client, asked) = host(answers);
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("new/folder");
        let all = Fetched { files: 2, bytes: 2 };
        assert_eq!(download(&client, "job-1", &target, false).unwrap(), all);
        assert_eq!(std::fs::read(target.join("a b.csv")).unwrap(), b"xy");
        assert!(matches!(download(&client, "job-1", &target, false), Err(RemoteError::Exists(_))));
        assert_eq!(download(&client, "job-1", &target, true).unwrap(), all);
        let asked = asked.join().unwrap();
        assert!(asked[1].starts_with("GET /v1/jobs/job-1/outputs/a%20b.csv "), "{}", asked[1]);
        assert!(asked[3].starts_with("GET /v1/jobs/job-1/outputs/logs/0.txt "), "{}", asked[3]);
    }
}
