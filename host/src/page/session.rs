//! Who is signed in. What goes in: a token that a browser sent once. What comes out: a random id that the browser keeps as
//! a cookie, and behind it the token, in this process's memory and nowhere else.
//!
//! The token is asked about again at each request, so that one that is revoked or expires ends its sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// How long somebody stays signed in: a day's work.
pub(super) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once; beyond that the oldest ends. A session is small, and most are forgotten ones.
const MOST: usize = 1024;
/// Those of one token, so that its owner does not end the others' by signing in without end.
const MOST_OF_TOKEN: usize = 16;
/// Pages of one session that follow jobs: more than anybody looks at.
const MOST_FOLLOWED: usize = 8;

/// Somebody who signed in.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// What they signed in with.
    pub(super) token: String,
    /// What every form of theirs has to hold.
    pub(super) form_key: String,
    /// Places for pages that follow jobs.
    pub(super) followers: Arc<Semaphore>,
    since: Instant,
}

impl Session {
    /// Whether a form is of this session's own pages.
    pub(super) fn has_made(&self, form_key: &str) -> bool {
        bool::from(self.form_key.as_bytes().ct_eq(form_key.as_bytes()))
    }
}

/// All of them, by the digest of their ids: the time of a look-up tells nothing of an id.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: Mutex<HashMap<[u8; 32], Session>>,
}

impl Sessions {
    /// Signs somebody in whose token was recognised; the id is for their cookie. None if the system has no random numbers.
    pub(super) fn begin(&self, token: &str) -> Option<String> {
        let (id, form_key) = (random()?, random()?);
        let followers = Arc::new(Semaphore::new(MOST_FOLLOWED));
        let session = Session { token: token.to_owned(), form_key, followers, since: Instant::now() };
        let mut all = self.all();
        all.retain(|_, session| session.since.elapsed() < LIFETIME);
        if all.values().filter(|session| session.token == token).count() >= MOST_OF_TOKEN {
            end_oldest(&mut all, |session| session.token == token);
        } else if all.len() >= MOST {
            end_oldest(&mut all, |_| true);
        }
        all.insert(key(&id), session);
        Some(id)
    }

    /// Whose id this is.
    pub(super) fn find(&self, id: &str) -> Option<Session> {
        self.all().get(&key(id)).filter(|session| session.since.elapsed() < LIFETIME).cloned()
    }

    /// Signs somebody out.
    pub(super) fn end(&self, id: &str) {
        self.all().remove(&key(id));
    }

    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end_oldest(all: &mut HashMap<[u8; 32], Session>, of: impl Fn(&Session) -> bool) {
    let oldest = all.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.since);
    if let Some(oldest) = oldest.map(|(key, _)| *key) {
        all.remove(&oldest);
    }
}

fn key(id: &str) -> [u8; 32] {
    Sha256::digest(id).into()
}

fn random() -> Option<String> {
    let mut bytes = [0u8; 32];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_its_id_until_it_ends() {
        let sessions = Sessions::default();
        let (one, two) = (sessions.begin("a").unwrap(), sessions.begin("b").unwrap());
        assert_eq!(sessions.find(&one).unwrap().token, "a");
        assert!(sessions.find("").is_none() && sessions.find("a").is_none());
        let (first, second) = (sessions.find(&one).unwrap(), sessions.find(&two).unwrap());
        assert!(first.has_made(&first.form_key) && !first.has_made(&second.form_key) && !first.has_made(""));
        sessions.end(&one);
        assert!(sessions.find(&one).is_none() && sessions.find(&two).is_some());
    }

    #[test]
    fn signing_in_without_end_ends_ones_own_oldest_sessions_only() {
        let sessions = Sessions::default();
        let other = sessions.begin("other").unwrap();
        let first = sessions.begin("a").unwrap();
        let ids: Vec<_> = (0..MOST_OF_TOKEN).map(|_| sessions.begin("a").unwrap()).collect();
        assert!(sessions.find(&first).is_none() && sessions.find(&other).is_some());
        assert!(ids.iter().all(|id| sessions.find(id).is_some()));
        for i in 0..MOST {
            sessions.begin(&i.to_string()).unwrap();
        }
        assert!(sessions.find(&other).is_none());
        assert_eq!(sessions.all().len(), MOST);
    }
}
