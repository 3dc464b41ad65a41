//! Object stores, spoken to: the process that fetches a job's files (`fetch`), and the one that publishes its output
//! (`publish`).
//!
//! What goes in: a place, keys from the environment as each store's own tools have them, and what a job asks. What comes
//! out: files in a folder, in plan order; and objects that appear whole, `job.json` last. What an object holds is not
//! looked at.

mod fetch;
mod publish;

pub use fetch::serve;
pub use publish::{claim, publish};

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme, RetryConfig};

use super::cause::Cause;
use super::{MAX_FILES, StoreUrl};
use crate::fault::{self, Fault};
use crate::tls;

/// Seconds for which a store may fail before a job does, and the variable that says otherwise.
const PATIENCE: u64 = 180;
const PATIENCE_VARIABLE: &str = "SCOREHOST_STORE_SECONDS";

/// What is done about a place that is not free. A job keeps its place: to resume it asks for the same again.
const OF_ITS_OWN: &str =
    "name a place of its own for each job; with this one the same job goes on only once it is empty";

/// Characters of what a store says.
const MOST_WORDS: usize = 900;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// It cannot be opened.
    #[error("cannot open `{place}`")]
    Open {
        /// Which.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// It does not answer, or refuses.
    #[error("cannot {what} `{place}`")]
    Store {
        /// What was tried.
        what: &'static str,
        /// With which place or object.
        place: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// There is nothing.
    #[error("`{0}` holds no object")]
    Empty(String),
    /// There is more than a job can number.
    #[error("`{0}` holds more than {MAX_FILES} objects")]
    TooMany(String),
    /// What one mini-batch waits for does not fit.
    #[error("the files of one mini-batch of `{place}` have more than {most} GiB\nhint: make mini-batches smaller")]
    TooLarge {
        /// Where.
        place: String,
        /// The limit.
        most: u64,
    },
    /// Objects lie there that are no output's.
    #[error("`{0}` is not empty\nhint: {OF_ITS_OWN}")]
    Occupied(String),
    /// Another output is there, or about to be.
    #[error("`{place}` has the output of job `{job}`\nhint: {OF_ITS_OWN}")]
    Taken {
        /// Where.
        place: String,
        /// Whose.
        job: String,
    },
    /// A folder that is no complete output.
    #[error("`{}` holds no complete output of a job\nhint: `run` makes one; a job that was stopped goes on with --resume", .0.display())]
    Incomplete(PathBuf),
    /// A file of this machine cannot be read or written.
    #[error("cannot {what}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ObjectsError {
    /// What went wrong without a store's own words, which name its address and its accounts.
    pub fn in_brief(&self) -> String {
        let (ObjectsError::Store { source, .. } | ObjectsError::Open { source, .. }) = self else {
            return fault::chain(self);
        };
        use object_store::Error::{InvalidPath, NotFound};
        let why = match source {
            NotFound { .. } => "there is no such bucket or object",
            InvalidPath { .. } => "a key has an empty part, or `.` or `..`",
            // Listing one is answered with 404, which no error of the crate's own tells.
            other if fault::chain(other).contains("NoSuchBucket") => "there is no such bucket",
            _ => match self.cause() {
                Some(cause) => cause.brief(),
                None => "the store does not answer as it should; the log of this host's operator has its words",
            },
        };
        format!("{self}: {why}")
    }

    /// All of it on one line, for whoever owns the environment; its cure is [`ObjectsError::hint`].
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(next) = cause {
            // The library's errors say their causes themselves, several times over.
            let next_text = next.to_string();
            if !text.contains(&next_text) {
                text = format!("{text}: {next_text}");
            }
            cause = next.source();
        }
        // A store's answer may be a page.
        let words: Vec<&str> =
            text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
        words.join(" ").chars().take(MOST_WORDS).collect()
    }

    /// What is to be done in the environment, where that is known.
    pub fn hint(&self) -> Option<String> {
        let (ObjectsError::Store { place, .. } | ObjectsError::Open { place, .. }) = self else { return None };
        self.cause().map(|cause| cause.cure(place))
    }

    fn cause(&self) -> Option<Cause> {
        use object_store::Error::{PermissionDenied, Unauthenticated};
        match self {
            ObjectsError::Store { source: PermissionDenied { .. } | Unauthenticated { .. }, .. } => Some(Cause::Denied),
            ObjectsError::Store { source, .. } | ObjectsError::Open { source, .. } => Cause::of(&fault::chain(source)),
            _ => None,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            ObjectsError::Open { .. }
            | ObjectsError::Empty(_)
            | ObjectsError::TooMany(_)
            | ObjectsError::TooLarge { .. }
            | ObjectsError::Occupied(_)
            | ObjectsError::Incomplete(_)
            | ObjectsError::Taken { .. } => Fault::Caller,
            ObjectsError::Store { source, .. } if is_of_the_object(source) => Fault::Caller,
            ObjectsError::Store { .. } => Fault::Transient,
            ObjectsError::File { .. } => Fault::Host,
        }
    }
}

fn file(what: &'static str) -> impl Fn(std::io::Error) -> ObjectsError {
    move |source| ObjectsError::File { what, source }
}

/// Whether a variable of the environment is a store's setting, keys among them.
pub fn is_setting(name: &str) -> bool {
    ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a store has answered, and trying again would not change it.
fn is_of_the_object(error: &object_store::Error) -> bool {
    use object_store::Error::{InvalidPath, NotFound, PermissionDenied, Unauthenticated};
    matches!(error, NotFound { .. } | InvalidPath { .. } | PermissionDenied { .. } | Unauthenticated { .. })
}

/// A place that is open.
#[derive(Clone)]
struct Objects {
    store: Arc<dyn ObjectStore>,
    root: Path,
    shown: String,
    /// Bytes of the files that lie here, or are coming.
    held: Arc<AtomicU64>,
}

impl Objects {
    fn open(place: &StoreUrl) -> Result<Self, ObjectsError> {
        // What speaks https needs it; one that is there already does as well.
        tls::install();
        // A caller's place decides the bucket, and nothing in the environment.
        let is_meant = |key: &str| {
            is_setting(key)
                && !["_BUCKET", "_BUCKET_NAME", "_CONTAINER_NAME"].iter().any(|suffix| key.ends_with(suffix))
        };
        let environment = std::env::vars_os().filter_map(|(key, value)| {
            let (key, value) = (key.into_string().ok()?, value.into_string().ok()?);
            is_meant(&key).then_some((key, value))
        });
        // By the whole request, a large object on a slow line would be cut off; by silence, nothing is waited for in vain.
        let defaults =
            [("timeout", "1 hour"), ("read_timeout", "30 seconds")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let shown = place.to_string();
        let opened = store_of(place, defaults.into_iter().chain(environment));
        let (store, root) = opened.map_err(|source| ObjectsError::Open { place: shown.clone(), source })?;
        Ok(Self { store, root, shown, held: Arc::default() })
    }

    fn at(&self, what: &'static str, name: &str) -> impl Fn(object_store::Error) -> ObjectsError {
        let place =
            if name.is_empty() { self.shown.clone() } else { format!("{}/{name}", self.shown.trim_end_matches('/')) };
        move |source| ObjectsError::Store { what, place: place.clone(), source }
    }

    /// The object of a name below the place.
    fn key(&self, name: &str) -> Result<Path, object_store::path::Error> {
        if self.root.as_ref().is_empty() { Path::parse(name) } else { Path::parse(format!("{}/{name}", self.root)) }
    }
}

/// The store of a place, with settings as `object_store` names them; what is none of the store's is passed over.
fn store_of(
    place: &StoreUrl,
    settings: impl Iterator<Item = (String, String)>,
) -> Result<(Arc<dyn ObjectStore>, Path), object_store::Error> {
    macro_rules! built {
        ($builder:ty) => {{
            let new = <$builder>::new().with_url(place.url().as_str()).with_retry(retry());
            let builder = settings.fold(new, |builder, (key, value)| match key.to_ascii_lowercase().parse() {
                Ok(key) => builder.with_config(key, value),
                Err(_) => builder,
            });
            Arc::new(builder.build()?)
        }};
    }
    let (scheme, root) = ObjectStoreScheme::parse(place.url())?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder),
        ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder),
        ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder),
        _ => return Err(object_store::Error::NotSupported { source: "no store that is known".into() }),
    };
    Ok((store, root))
}

/// How long a request is tried again that the store did not answer, or refused for the time being.
fn retry() -> RetryConfig {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(PATIENCE);
    RetryConfig { retry_timeout: Duration::from_secs(seconds), max_retries: 1000, ..RetryConfig::default() }
}

fn runtime() -> Result<tokio::runtime::Runtime, ObjectsError> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().map_err(file("start threads"))
}
