//! Whose fault an error is: the one question that retries, exit codes and HTTP statuses ask of it.
//! Knows nothing of any particular error.

use std::error::Error;
use std::fmt::Write;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request, the deployment or the input is wrong; the same call fails again.
    Caller,
    /// The scoring script trapped, ran out of a limit, or broke the contract.
    Script,
    /// Something was busy or gone for a while; the same call may succeed later.
    Transient,
    /// This host or its machine failed.
    Host,
}

/// An error and its causes on one line, outermost first, joined by `: `.
///
/// Errors here never print their own cause, so nothing is said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer `a`")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer `a`: inner");
    }
}
