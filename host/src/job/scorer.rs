//! What scores mini-batches: a script in its sandbox, or the built-in scorer. A job treats the two alike.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::builtin;
use crate::script::{self, Call, Printed, RunOutput, Script, ScriptError, Services};

/// What a job's instances are made of.
pub enum Scorer {
    /// A scoring script.
    Script(Script),
    /// The host's own scorer, for models without a script.
    BuiltIn(builtin::Scorer),
}

impl Scorer {
    /// A fresh instance, as [`script::Instance::start`] has it.
    pub(super) fn start(
        &self,
        services: &Arc<Services>,
        output: Option<&Path>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Instance, (ScriptError, Printed)> {
        match self {
            Scorer::Script(script) => {
                let instance = script::Instance::start(script, services, output, stop)?;
                Ok(Instance::Script(Box::new(instance)))
            }
            Scorer::BuiltIn(scorer) => Ok(Instance::BuiltIn(Box::new(builtin::Instance::new(scorer, services, stop)))),
        }
    }
}

/// One that runs.
pub(super) enum Instance {
    Script(Box<script::Instance>),
    BuiltIn(Box<builtin::Instance>),
}

impl Instance {
    pub(super) fn run(&mut self, call: &Call<'_>) -> Result<RunOutput, ScriptError> {
        match self {
            Instance::Script(instance) => instance.run(call),
            Instance::BuiltIn(instance) => instance.run(call),
        }
    }

    /// Whether the next call needs a fresh one.
    pub(super) fn is_spent(&self) -> bool {
        match self {
            Instance::Script(instance) => instance.is_spent(),
            // It keeps nothing between calls.
            Instance::BuiltIn(_) => false,
        }
    }

    /// As [`script::Instance::keep_files`] has it.
    pub(super) fn keep_files(&self) {
        match self {
            Instance::Script(instance) => instance.keep_files(),
            // It writes none.
            Instance::BuiltIn(_) => {}
        }
    }

    pub(super) fn take_log(&mut self) -> Printed {
        match self {
            Instance::Script(instance) => instance.take_log(),
            Instance::BuiltIn(_) => Printed::default(),
        }
    }

    pub(super) fn device_time(&self) -> Duration {
        match self {
            Instance::Script(instance) => instance.device_time(),
            Instance::BuiltIn(instance) => instance.device_time(),
        }
    }
}
