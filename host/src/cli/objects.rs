//! Places in object stores: what fetches for a job, and `publish`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use scorehost::child;
use scorehost::service::Input;
use scorehost::store::objects::{self, ObjectsError};
use scorehost::store::{self, Spool, SpoolFolder, StoreUrl};

use super::{COMPLETED, follow, say};

/// Bytes of a job's record.
const MOST_RECORD: u64 = 1 << 20;

/// What is started to fetch a job's files.
pub(crate) const FETCH: &str = "fetch";

#[derive(Args)]
pub(crate) struct FetchArgs {
    place: StoreUrl,
    folder: PathBuf,
}

#[derive(Args)]
pub(crate) struct PublishArgs {
    /// A complete output of `run`
    output: PathBuf,
    /// Where it goes, such as s3://BUCKET/PREFIX: one place for each job. Keys are taken from the environment
    place: StoreUrl,
    /// Only take the place for the job of this name, which is to come
    #[arg(long, hide = true, value_name = "JOB")]
    claim: Option<String>,
    /// For a host: ends with stdin, and says of a store's failure no more than its caller may know
    #[arg(long, hide = true)]
    follow: bool,
}

pub(crate) fn fetch(args: &FetchArgs) -> anyhow::Result<u8> {
    let folder = SpoolFolder::new(args.folder.clone());
    objects::serve(&args.place, &folder, BufReader::new(std::io::stdin()), std::io::stdout())?;
    Ok(COMPLETED)
}

pub(crate) fn publish(args: &PublishArgs) -> anyhow::Result<u8> {
    if args.follow {
        follow::end_with_stdin()?;
    }
    let done = match &args.claim {
        Some(job) => objects::claim(&args.place, job),
        None => published(args),
    };
    match done {
        Err(error) if args.follow => {
            // The host logs this for its operator, and tells the caller the other.
            let cure = error.hint().map(|cure| format!("; hint: {cure}")).unwrap_or_default();
            say!("{}{cure}", error.in_full());
            Err(anyhow::anyhow!("{}", error.in_brief()))
        }
        done => done.map(|()| COMPLETED).map_err(Into::into),
    }
}

fn published(args: &PublishArgs) -> Result<(), ObjectsError> {
    let record = File::open(args.output.join("job.json")).and_then(|file| {
        let mut text = Vec::new();
        file.take(MOST_RECORD).read_to_end(&mut text).map(|_| text)
    });
    let record: serde_json::Value = record.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let (Some(job), Some("Completed")) = (record["name"].as_str(), record["state"].as_str()) else {
        return Err(ObjectsError::Incomplete(args.output.clone()));
    };
    objects::publish(&args.place, &args.output, job)
}

/// What a job's files come through: the folder, and the process that fetches; both are gone when this is dropped.
pub(crate) struct Fetcher {
    child: Child,
    spool: Arc<Spool>,
    /// Mostly gone when this removes it: a confined process may not.
    _folder: tempfile::TempDir,
}

impl Fetcher {
    /// Starts to fetch from a place.
    pub(crate) fn start(place: StoreUrl) -> anyhow::Result<(Self, Input)> {
        let folder = store::private_folder(&std::env::temp_dir()).context("cannot make a folder for fetched files")?;
        let spool = SpoolFolder::new(folder.path().to_owned());
        spool.make().context("cannot make a folder for fetched files")?;
        let mut command = Command::new(child::this_program()?);
        command.arg(FETCH).arg(place.to_string()).arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for the job to understand.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().context("cannot start the process that fetches files")?;
        let (Some(asks), Some(tells)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the process that fetches files has no pipes; this is a bug");
        };
        let spool = Arc::new(Spool::new(place, spool, Box::new(asks), Box::new(BufReader::new(tells))));
        Ok((Self { child, spool: Arc::clone(&spool), _folder: folder }, Input::Place(spool)))
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        // Not by a signal, which a confined process may not send.
        self.spool.close();
        let _ = self.child.wait();
    }
}

/// What `--input` names: a path, or a place whose files are fetched while this is held.
pub(crate) fn input_of(text: &std::path::Path) -> anyhow::Result<(Option<Fetcher>, Input)> {
    match text.to_str().filter(|text| StoreUrl::is_meant(text)) {
        Some(place) => {
            let (fetcher, input) = Fetcher::start(place.parse()?)?;
            Ok((Some(fetcher), input))
        }
        None => Ok((None, Input::Path(text.to_owned()))),
    }
}

/// Hears, on a thread of its own, which files are there.
pub(crate) fn listen(input: &Input) -> anyhow::Result<()> {
    let Input::Place(spool) = input else { return Ok(()) };
    let spool = Arc::clone(spool);
    let listen = move || {
        spool.listen(|_| false);
        spool.end();
    };
    let spawned = std::thread::Builder::new().name("fetched".into()).spawn(listen);
    spawned.map(drop).context("cannot start a thread")
}
