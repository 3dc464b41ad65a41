//! `context`: where and when a call runs.

use std::time::Instant;

use crate::script::bindings::scorehost::script::context::Host;
use crate::script::state::State;

impl Host for State {
    fn job(&mut self) -> wasmtime::Result<String> {
        Ok(self.services.job.clone())
    }

    fn mini_batch(&mut self) -> wasmtime::Result<u64> {
        Ok(self.call.mini_batch)
    }

    fn attempt(&mut self) -> wasmtime::Result<u32> {
        Ok(self.call.attempt)
    }

    fn deployment(&mut self) -> wasmtime::Result<String> {
        Ok(self.services.deployment.clone())
    }

    fn setting(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.services.settings.get(&key).cloned())
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<u64> {
        if self.clocks.is_virtual() {
            // What is really left differs from run to run; the deadline holds all the same.
            return Ok(u64::try_from(self.services.timeout.as_millis()).unwrap_or(u64::MAX));
        }
        let left = self.call.deadline.saturating_duration_since(Instant::now());
        Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    fn retire(&mut self) -> wasmtime::Result<()> {
        self.retired = true;
        Ok(())
    }
}
