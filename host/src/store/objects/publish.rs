//! An output's way to its place: claimed first, then every file, and the record last.

use std::fs::File;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};

use super::super::StoreUrl;
use super::{Objects, ObjectsError, file, runtime};

/// What is sent at once, and as one part of a large object.
const PART: usize = 8 << 20;
/// Parts of one object, of which stores allow 10,000.
const MOST_PARTS: u64 = 9000;
/// Files sent at once.
const SENT_AT_ONCE: usize = 4;

/// The object that says whose a place is while a job publishes to it, and the one that appears last.
const CLAIM: &str = ".scorehost.json";
const LAST: &str = "job.json";

/// Takes a place for a job's output, before it is made; again is as well.
///
/// # Errors
/// If another output is there, or the store refuses.
pub fn claim(place: &StoreUrl, job: &str) -> Result<(), ObjectsError> {
    let objects = Objects::open(place)?;
    runtime()?.block_on(async {
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        objects.claim(job).await
    })
}

/// Publishes an output folder: every file as an object, `job.json` last, so that who sees it sees all. Again is as well.
///
/// # Errors
/// If another output is there, or the store refuses; nothing is half there that `job.json` tells of.
pub fn publish(place: &StoreUrl, folder: &FilePath, job: &str) -> Result<(), ObjectsError> {
    let objects = Objects::open(place)?;
    runtime()?.block_on(async {
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        objects.claim(job).await?;
        // Another one may have ended with the same place since it was looked at.
        if let Some(there) = objects.read(LAST).await? {
            return objects.is_of(&there, "name", job);
        }
        let files = futures_util::stream::iter(files(folder)?.into_iter().filter(|(name, _)| name != LAST));
        files
            .map(|(name, bytes)| objects.clone().send(folder.join(&name), name, bytes))
            .buffer_unordered(SENT_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        let last = folder.join(LAST);
        let bytes = std::fs::metadata(&last).map_err(file("read the output"))?.len();
        objects.clone().send(last, LAST.to_owned(), bytes).await?;
        // The output is there, and says whose it is.
        let _ = objects.store.delete(&objects.named(CLAIM)).await;
        Ok(())
    })
}

/// The files of an output, by their names, without what is hidden; links are not followed.
fn files(folder: &FilePath) -> Result<Vec<(String, u64)>, ObjectsError> {
    let failed = file("read the output");
    let walk = walkdir::WalkDir::new(folder).follow_links(false).sort_by_file_name().into_iter();
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let mut files = Vec::new();
    for entry in walk.filter_entry(visible) {
        let entry = entry.map_err(|e| failed(e.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let name = entry.path().strip_prefix(folder).ok().and_then(FilePath::to_str);
        let name = name.ok_or_else(|| failed(std::io::Error::other("a file's name is not Unicode")))?;
        files.push((name.to_owned(), entry.metadata().map_err(|e| failed(e.into()))?.len()));
    }
    Ok(files)
}

impl Objects {
    /// A name of ours.
    fn named(&self, name: &str) -> Path {
        self.root.clone().join(name)
    }

    /// A small object; none where there is none.
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let failed = self.at("read", name);
        match self.store.get(&self.named(name)).await {
            // A record of ours is some kilobytes.
            Ok(got) if got.meta.size > PART as u64 => Ok(Some(Vec::new())),
            Ok(got) => Ok(Some(got.bytes().await.map_err(failed)?.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether what is there says that it is the job's.
    fn is_of(&self, there: &[u8], key: &str, job: &str) -> Result<(), ObjectsError> {
        let there: serde_json::Value = serde_json::from_slice(there).unwrap_or_default();
        let whose = there[key].as_str().unwrap_or("another");
        if whose == job {
            return Ok(());
        }
        Err(ObjectsError::Taken { place: self.shown.clone(), job: whose.chars().take(128).collect() })
    }

    /// Takes the place: nothing lies there, and it lies in no other job's.
    async fn claim(&self, job: &str) -> Result<(), ObjectsError> {
        match self.read(CLAIM).await? {
            Some(there) => self.is_of(&there, "job", job)?,
            None => {
                self.is_empty().await?;
                self.put_claim(job).await?;
            }
        }
        // After the claim: of two jobs whose places lie in each other, one at least sees the other.
        let nested = self.nested(job).await;
        if nested.is_err() {
            let _ = self.store.delete(&self.named(CLAIM)).await;
        }
        nested
    }

    async fn is_empty(&self) -> Result<(), ObjectsError> {
        let root = (!self.root.as_ref().is_empty()).then_some(&self.root);
        let mut objects = self.store.list(root);
        while let Some(object) = objects.try_next().await.map_err(self.at("list", ""))? {
            // An object of the place's own name stands for a folder.
            if object.location != self.root {
                return Err(ObjectsError::Occupied(self.shown.clone()));
            }
        }
        Ok(())
    }

    /// Refuses a place that lies in another output's.
    async fn nested(&self, job: &str) -> Result<(), ObjectsError> {
        let parts: Vec<_> = self.root.parts().collect();
        for depth in 0..parts.len() {
            let above = Self { root: parts[..depth].iter().cloned().collect(), ..self.clone() };
            for (name, key) in [(CLAIM, "job"), (LAST, "name")] {
                // Keys may be for this place alone.
                if let Ok(Some(there)) = above.read(name).await {
                    above.is_of(&there, key, job)?;
                }
            }
        }
        Ok(())
    }

    async fn put_claim(&self, job: &str) -> Result<(), ObjectsError> {
        let text = serde_json::json!({ "job": job }).to_string();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.store.put_opts(&self.named(CLAIM), PutPayload::from(text.clone()), options).await;
        match put {
            Ok(_) => {}
            // A store without such a write: the claim that is read below is the last one's.
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                if self.read(CLAIM).await?.is_none() {
                    let put = self.store.put(&self.named(CLAIM), PutPayload::from(text)).await;
                    put.map_err(self.at("write", CLAIM))?;
                }
            }
            // It may be there all the same, if only the answer was lost: what is read decides.
            Err(error) => {
                return match self.read(CLAIM).await? {
                    Some(there) => self.is_of(&there, "job", job),
                    None => Err(self.at("write", CLAIM)(error)),
                };
            }
        }
        match self.read(CLAIM).await? {
            Some(there) => self.is_of(&there, "job", job),
            None => Err(ObjectsError::Taken { place: self.shown.clone(), job: "another".to_owned() }),
        }
    }

    /// Sends a file as an object, which is there whole or not at all.
    async fn send(self, path: PathBuf, name: String, bytes: u64) -> Result<(), ObjectsError> {
        let failed = file("read the output");
        let mut from = File::open(path).map_err(&failed)?;
        let key = self.key(&name).map_err(|e| self.at("write", &name)(e.into()))?;
        if bytes <= PART as u64 {
            let mut all = Vec::new();
            from.take(PART as u64 + 1).read_to_end(&mut all).map_err(&failed)?;
            return self.store.put(&key, all.into()).await.map(drop).map_err(self.at("write", &name));
        }
        let part = usize::try_from(bytes / MOST_PARTS + 1).unwrap_or(usize::MAX).max(PART);
        let upload = self.store.put_multipart(&key).await.map_err(self.at("write", &name))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, part);
        let mut buffer = vec![0; PART];
        loop {
            let count = from.read(&mut buffer).map_err(&failed)?;
            if count == 0 {
                break;
            }
            upload.wait_for_capacity(2).await.map_err(self.at("write", &name))?;
            upload.write(&buffer[..count]);
        }
        upload.finish().await.map(drop).map_err(self.at("write", &name))
    }
}
