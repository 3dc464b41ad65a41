//! Kills for the tests: after a set number of steps every further one fails, as if the process or the machine had died.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::disk::Step;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It is killed; what it wrote stays, and the last write may be half done.
    Kill,
    /// The machine loses power; whatever was not synced is as it was before.
    Power,
}

/// What was done and not synced, and how to undo it.
enum Undo {
    Append(PathBuf, u64),
    Create(PathBuf),
    Rename(PathBuf, PathBuf, Option<Vec<u8>>),
    Remove(PathBuf, Option<Vec<u8>>),
}

#[derive(Default)]
struct State {
    left: Option<u64>,
    steps: u64,
    dead: bool,
    death: Option<Death>,
    undo: Vec<Undo>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Lets `steps` more steps of this thread happen; the next one is its last.
pub(super) fn after(steps: Option<u64>, death: Death) {
    STATE.with_borrow_mut(|state| *state = State { left: steps, death: Some(death), ..State::default() });
}

/// Says that a file was written by someone who syncs nothing, as scripts do.
pub(super) fn unsynced(path: &Path) {
    STATE.with_borrow_mut(|state| state.undo.push(Undo::Append(path.to_owned(), 0)));
}

/// Makes the next step the last one.
pub(super) fn die_next() {
    STATE.with_borrow_mut(|state| state.left = Some(0));
}

/// Brings the disk to what is left after the death, and the thread to life; answers with the steps that were taken.
pub(super) fn revive() -> u64 {
    STATE.with_borrow_mut(|state| {
        let state = std::mem::take(state);
        if state.dead && state.death == Some(Death::Power) {
            state.undo.into_iter().rev().for_each(undo);
        }
        state.steps
    })
}

/// Called before each step.
pub(super) fn before(step: &Step<'_>) -> io::Result<()> {
    STATE.with_borrow_mut(|state| {
        if state.death.is_none() {
            return Ok(());
        }
        let last = state.left == Some(0) && !state.dead;
        if last {
            state.dead = true;
            if let Step::Append(path, bytes) = step {
                remember(state, step);
                let mut file = fs::OpenOptions::new().append(true).open(path)?;
                file.write_all(&bytes[..bytes.len() / 2])?;
            }
        }
        if state.dead {
            return Err(io::Error::other("killed by the test"));
        }
        state.steps += 1;
        state.left = state.left.map(|left| left - 1);
        remember(state, step);
        Ok(())
    })
}

fn remember(state: &mut State, step: &Step<'_>) {
    let file = |path: &Path| fs::read(path).ok();
    match *step {
        Step::Append(path, _) => {
            state.undo.push(Undo::Append(path.to_owned(), fs::metadata(path).map_or(0, |m| m.len())))
        }
        Step::Create(path) => match file(path) {
            Some(old) => state.undo.push(Undo::Remove(path.to_owned(), Some(old))),
            None => state.undo.push(Undo::Create(path.to_owned())),
        },
        Step::Rename(from, to) => {
            // What is not durable under the old name is not under the new one either.
            for undo in &mut state.undo {
                match undo {
                    Undo::Append(path, _) if path == from => *path = to.to_owned(),
                    _ => {}
                }
            }
            state.undo.push(Undo::Rename(from.to_owned(), to.to_owned(), file(to)));
        }
        Step::Remove(path) => state.undo.push(Undo::Remove(path.to_owned(), file(path))),
        Step::SyncFile(path) => {
            state.undo.retain(|undo| !matches!(undo, Undo::Append(appended, _) if appended == path));
        }
        Step::SyncFolder(folder) => state.undo.retain(|undo| match undo {
            Undo::Append(..) => true,
            Undo::Create(path) | Undo::Rename(_, path, _) | Undo::Remove(path, _) => path.parent() != Some(folder),
        }),
    }
}

/// A file's name may have gone with its folder's: what cannot be undone has been undone already.
fn undo(undo: Undo) {
    match undo {
        Undo::Append(path, len) => {
            let _ = fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(len));
        }
        Undo::Create(path) => {
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        Undo::Rename(from, to, old) => {
            let _ = fs::rename(&to, from);
            if let Some(old) = old {
                let _ = fs::write(to, old);
            }
        }
        Undo::Remove(path, Some(bytes)) => {
            let _ = fs::write(path, bytes);
        }
        Undo::Remove(path, None) => {
            let _ = fs::create_dir(path);
        }
    }
}
