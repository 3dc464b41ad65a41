//! Whether a failed attempt is worth another, and when. Rules over values; the waiting is the worker's.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::script::ScriptError;

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again on a fresh instance, after a pause.
    Retry(Duration),
    /// The mini-batch has failed.
    GiveUp,
}

/// Decides on attempt number `attempt` (1 for the first) having failed with `error`.
pub fn decide(error: &ScriptError, attempt: u32, max_retries: u32) -> Decision {
    if attempt > max_retries || !error.is_worth_a_retry() {
        return Decision::GiveUp;
    }
    match error {
        // Something was busy: give it time.
        ScriptError::Transient(_) | ScriptError::BuiltIn { .. } | ScriptError::Engine(_) => {
            Decision::Retry(pause(attempt))
        }
        _ => Decision::Retry(Duration::ZERO),
    }
}

/// 0.1 s, 0.2 s, 0.4 s … up to 5 s. Without jitter: the instances of one job are few.
fn pause(attempt: u32) -> Duration {
    let most = Duration::from_secs(5);
    let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_millis(100)).with_max_delay(most);
    pauses.without_max_times().build().nth(attempt.saturating_sub(1).min(16) as usize).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_fail_again_is_not_tried_again() {
        let trap = || ScriptError::Trap { reason: "x".into() };
        let cases = [
            (trap(), 1, 3, Decision::Retry(Duration::ZERO)),
            // Three retries are four attempts.
            (trap(), 3, 3, Decision::Retry(Duration::ZERO)),
            (trap(), 4, 3, Decision::GiveUp),
            (trap(), 1, 0, Decision::GiveUp),
            (ScriptError::Permanent("x".into()), 1, 3, Decision::GiveUp),
            (ScriptError::Stopped, 1, 3, Decision::GiveUp),
            (ScriptError::FailedFile { index: 9, files: 1 }, 1, 3, Decision::GiveUp),
            (ScriptError::Transient("x".into()), 1, 3, Decision::Retry(Duration::from_millis(100))),
            (ScriptError::Transient("x".into()), 3, 3, Decision::Retry(Duration::from_millis(400))),
            (ScriptError::Transient("x".into()), 90, 99, Decision::Retry(Duration::from_secs(5))),
        ];
        for (error, attempt, max, expected) in cases {
            let rounded = match decide(&error, attempt, max) {
                Decision::Retry(pause) => Decision::Retry(Duration::from_millis(pause.as_millis() as u64)),
                Decision::GiveUp => Decision::GiveUp,
            };
            assert_eq!(rounded, expected, "{error} {attempt} of {max}");
        }
    }
}
