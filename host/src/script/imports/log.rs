//! `log`: lines for the mini-batch's log.

use crate::script::bindings::scorehost::script::log::{Host, Level as Guest};
use crate::script::log::Level;
use crate::script::state::State;

impl Host for State {
    fn write(&mut self, level: Guest, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Guest::Debug => Level::Debug,
            Guest::Info => Level::Info,
            Guest::Warning => Level::Warning,
            Guest::Error => Level::Error,
        };
        self.log.line(level, &message);
        Ok(())
    }
}
