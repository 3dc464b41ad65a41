//! What a script learns of time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scorehost_sdk::{Failure, Output, Result, context, file_name, setting_or};

/// A row for each file: the time of day, what passes between two readings, what a sleep takes, all in nanoseconds, and
/// what is left of the call in milliseconds. With the setting `fails`, the first attempt fails after all of it.
pub(crate) fn tells_time(files: &[String]) -> Result<Output> {
    let sleep = Duration::from_millis(setting_or("sleep_ms", 3)?);
    let mut output = Output::new(["file", "day", "between", "slept", "left"]);
    for file in files {
        let day = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?;
        let before = Instant::now();
        let between = before.elapsed();
        std::thread::sleep(sleep);
        let slept = before.elapsed();
        let [day, between, slept] = [day, between, slept].map(|time| time.as_nanos().to_string());
        let left = context::remaining_ms().to_string();
        output.push((file_name(file), day, between, slept, left));
    }
    if setting_or("fails", 0)? > 0 && context::attempt() == 1 {
        return Err(Failure::Transient("the first attempt always fails".into()));
    }
    Ok(output)
}
