//! Tokens that were asked for lately, so that most requests are recognised without a look at the disk.
//!
//! What goes in: rows that were read, and word that a token or a tenant changed. What comes out: a row as it is by now, or
//! nothing. It never holds what a change that was answered made untrue.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::TokenUse;

/// Tokens that are kept; of more, all are read again.
const MOST: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Tokens>);

#[derive(Debug, Default)]
struct Tokens {
    by_id: HashMap<String, TokenUse>,
    /// How often something changed.
    changes: u64,
}

/// When a row was read that was not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    changes: u64,
}

impl Known {
    /// The token, or since when it has to be looked for.
    pub(super) fn find(&self, id: &str) -> Result<TokenUse, Asked> {
        let tokens = self.tokens();
        tokens.by_id.get(id).cloned().ok_or(Asked { changes: tokens.changes })
    }

    /// Keeps a row that was read after [`Known::find`], unless something has changed since: it may be of before.
    pub(super) fn keep(&self, id: &str, asked: Asked, token: &TokenUse) {
        let mut tokens = self.tokens();
        if tokens.changes != asked.changes {
            return;
        }
        if tokens.by_id.len() >= MOST {
            tokens.by_id.clear();
        }
        tokens.by_id.insert(id.to_owned(), token.clone());
    }

    /// A token or a tenant has changed, and nobody was told yet.
    pub(super) fn forget(&self) {
        let mut tokens = self.tokens();
        tokens.changes += 1;
        tokens.by_id.clear();
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Quotas, Tenant};
    use super::*;

    fn token() -> TokenUse {
        let tenant = Tenant { id: 1, name: "a".into(), weight: 1, quotas: Quotas::default(), created: String::new() };
        TokenUse { tenant, hash: [0; 32], scopes: "read".into(), expires: None }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let known = Known::default();
        let asked = known.find("t").unwrap_err();
        known.keep("t", asked, &token());
        assert!(known.find("t").is_ok());
        known.forget();
        let asked = known.find("t").unwrap_err();
        known.forget();
        known.keep("t", asked, &token());
        assert!(known.find("t").is_err(), "it was read between the two");
    }

    #[test]
    fn no_more_are_kept_than_have_room() {
        let known = Known::default();
        for i in 0..=MOST {
            let id = i.to_string();
            let asked = known.find(&id).unwrap_err();
            known.keep(&id, asked, &token());
        }
        assert_eq!(known.tokens().by_id.len(), 1);
    }
}
