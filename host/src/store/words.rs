//! What a job and the process that fetches its files say to each other, as lines of JSON.

use serde::{Deserialize, Serialize};

/// What a job asks. Files are numbered as in its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// List what there is, and write it where [`super::Spool`] says.
    List,
    /// The plan is written: fetch its files from this one on.
    Fetch(u64),
    /// Those before this one are waited for.
    Want(u64),
    /// Those before this one are not needed any more.
    Done(u64),
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// The listing is written.
    Listed,
    /// Files before this one are there, or cannot be: one that the store does not have is not in the folder.
    Have(u64),
    /// The store does not answer, or refuses altogether.
    Lost(String),
}

impl Ask {
    /// The line, with its end.
    pub fn line(self) -> String {
        line(&self)
    }
}

impl Tell {
    /// The line, with its end.
    pub fn line(&self) -> String {
        line(self)
    }
}

fn line(word: &impl Serialize) -> String {
    let mut line = serde_json::to_string(word).expect("plain values are JSON; this is a bug");
    line.push('\n');
    line
}
