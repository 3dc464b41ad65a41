//! A model's first opening, in a process of its own. Engines compute what they can while they read a model, so that a
//! file of 300 bytes may take all memory or never end; and what brings an engine down would bring the host down.
//!
//! What goes in: a model's file, and which CPU engine is to open it. What comes out: nothing, or a refusal. The trial
//! opens the model and runs one row of zeros where the model says how large that is. A file that passed is remembered by
//! its digest. The GPU's reader is ours, and bounds everything itself.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cpu::Cpu;
#[cfg(feature = "onnxruntime")]
use super::onnxruntime::OnnxRuntime;
use super::rows::MOST_MODEL_BYTES;
use super::{InferError, Model};
use crate::cache::{Private, hex};
use crate::child::{self, Child, ChildEnd, ChildLimits};
use crate::confine::Confine;
use crate::tensor::{Element, Tensor};

/// The hidden verb of the command that is the trial's process.
pub const VERB: &str = "try-model";

/// ResNet-152 opens in a second. The memory comes on top of four times the size of the file.
pub const STANDARD_LIMITS: ChildLimits = ChildLimits { seconds: 60, mib: 4096 };

/// How often the weights may lie in memory: in the file, as read, packed for the processor, and while they are packed.
const WEIGHTS: u64 = 4;

/// Elements of one input that is tried with zeros: eight pictures of a thousand by a thousand.
const MOST_ELEMENTS: usize = 8 << 20;

/// What it may write: reasons, and what a library writes beside.
const MOST_WRITTEN: u64 = 64 << 20;

/// Less than any thread has on which a model is opened or run later: what recurses too deep does so here.
const STACK: usize = 1 << 20;

/// Where files that passed are remembered, below the user's cache folder.
pub const CACHE: &str = "models";

/// A CPU engine.
#[derive(Clone, Copy, Debug)]
pub enum Engine<'a> {
    /// The embedded one.
    Cpu,
    /// ONNX Runtime from this library.
    OnnxRuntime(&'a Path),
}

/// Tries models.
#[derive(Clone, Debug)]
pub struct Trial(Option<Place>);

#[derive(Clone, Debug)]
struct Place {
    program: PathBuf,
    limits: ChildLimits,
    passed: Private,
    confine: Confine,
}

impl Trial {
    /// Tries in a process of `program`, which is the `scorehost` command of this very build, and remembers in `passed`
    /// which files came to an end.
    pub fn child(program: PathBuf, limits: ChildLimits, passed: Private) -> Self {
        Self(Some(Place { program, limits, passed, confine: Confine::Auto }))
    }

    /// The same, whose process has to be confined where `mode` requires it; it is as far as possible in any case.
    #[must_use]
    pub fn confined(mut self, mode: Confine) -> Self {
        if let Some(place) = &mut self.0 {
            place.confine = mode;
        }
        self
    }

    /// Tries nothing: for tests and benches, whose models are their own.
    pub fn none() -> Self {
        Self(None)
    }

    /// Tries the file at `path`, whose SHA-256 is `digest` in hexadecimal digits. What an engine refuses in words
    /// passes: it will say so again.
    ///
    /// # Errors
    /// If the file cannot be read, or an engine does not come to an end with it within its limits.
    pub fn pass(&self, engine: Engine<'_>, path: &Path, digest: &str) -> Result<(), InferError> {
        let Some(place) = &self.0 else { return Ok(()) };
        let mark = place.mark(engine, digest);
        if place.passed.find(&mark).is_some() {
            return Ok(());
        }
        let failed = |source| InferError::Read { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let weights = (file.metadata().map_err(failed)?.len().min(MOST_MODEL_BYTES) >> 20).saturating_mul(WEIGHTS);
        let mib = u32::try_from(weights).unwrap_or(u32::MAX).saturating_add(place.limits.mib);
        let limits = ChildLimits { mib, ..place.limits };
        let mut arguments: Vec<OsString> = vec![VERB.into()];
        if let Engine::OnnxRuntime(library) = engine {
            arguments.extend(["--onnxruntime".into(), library.into()]);
        }
        let child = Child { program: &place.program, arguments, limits, confine: place.confine };
        match child.run(file).map_err(failed)? {
            ChildEnd::Done(_) | ChildEnd::Refused(_) => {
                // What is not remembered is tried again.
                let _ = place.passed.keep(&mark, b"");
                Ok(())
            }
            ChildEnd::TooMuch(end) => Err(InferError::Exhausting {
                path: path.into(),
                reason: format!(
                    "within {limits}: the process that tried it {}\n\
                     hint: if its author is trusted, give it more with SCOREHOST_MODEL_SECONDS and SCOREHOST_MODEL_MIB",
                    printable(&end)
                ),
            }),
            ChildEnd::Unconfined(reason) => {
                let reason = format!("its first opening cannot be confined: {}", printable(&reason));
                Err(InferError::Unavailable { backend: "trial", reason })
            }
            ChildEnd::Accident(end) => {
                let reason = format!("the process that tries models failed: {}", printable(&end));
                Err(InferError::Device { backend: "trial", reason, transient: false })
            }
        }
    }
}

impl Place {
    /// The name under which it is remembered that this engine came to an end with the file.
    fn mark(&self, engine: Engine<'_>, digest: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{digest}\0{}\0{}", env!("CARGO_PKG_VERSION"), self.limits));
        match engine {
            Engine::Cpu => hash.update("cpu"),
            // Another version would lie elsewhere, be of another size, or be written later.
            Engine::OnnxRuntime(library) => {
                let facts = library.metadata().map(|facts| (facts.len(), facts.modified().ok()));
                hash.update(format!("{}\0{facts:?}", library.display()));
            }
        }
        hex(&hash.finalize())
    }
}

/// Another process's last words, which can quote names from the model.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The trial's process: a model on stdin. Returns the exit code.
pub fn try_stdin(library: Option<&Path>, limits: &ChildLimits, mode: Confine) -> u8 {
    if let Err(error) = child::limit_this_process(limits, MOST_WRITTEN) {
        child::say(&format!("its limits cannot be set: {error}"));
        return 1;
    }
    let path = Path::new("stdin");
    let opened = match opener(library) {
        Err(error) => Err(error),
        Ok(open) => {
            if let Err(code) = child::confine_this_process(mode) {
                return code;
            }
            let work = move || {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().take(MOST_MODEL_BYTES + 1).read_to_end(&mut bytes);
                read.map_err(|source| InferError::Read { path: path.into(), source })?;
                run_zeros(open(path, bytes)?.as_ref())
            };
            let failed = |reason: String| InferError::Device { backend: "trial", reason, transient: false };
            let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
            let thread = thread.map_err(|e| failed(e.to_string()));
            // A panic has been printed.
            thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(failed("it panicked".into()))))
        }
    };
    match opened {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string();
            child::say(&text);
            // ONNX Runtime lives on where memory is refused to it, and says so.
            if text.to_ascii_lowercase().contains("alloc") { child::EXHAUSTED } else { child::REFUSED }
        }
    }
}

type Open = Box<dyn FnOnce(&Path, Vec<u8>) -> Result<Box<dyn Model>, InferError> + Send>;

/// What opens a model's bytes once this process can open no files any more.
fn opener(library: Option<&Path>) -> Result<Open, InferError> {
    let Some(library) = library else {
        return Ok(Box::new(|path, bytes| Cpu::new(1).read(path, bytes)));
    };
    #[cfg(feature = "onnxruntime")]
    {
        let engine = OnnxRuntime::open(library, 1)?;
        Ok(Box::new(move |path, bytes| engine.read(path, &bytes)))
    }
    #[cfg(not(feature = "onnxruntime"))]
    Err(InferError::Unavailable { backend: "onnxruntime", reason: format!("no use for `{}`", library.display()) })
}

/// One row of zeros; none where the model does not say how large a row is, or it is very large.
fn run_zeros(model: &dyn Model) -> Result<(), InferError> {
    let mut inputs = Vec::new();
    for port in model.inputs() {
        let shape: Vec<usize> = port.shape.iter().enumerate().map(|(i, n)| n.unwrap_or(usize::from(i == 0))).collect();
        let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n)).unwrap_or(usize::MAX);
        if elements == 0 || elements > MOST_ELEMENTS {
            return Ok(());
        }
        let zeros = match port.element {
            Element::U8 => Tensor::from_u8(shape, vec![0; elements]),
            Element::I64 => Tensor::from_i64(shape, vec![0; elements]),
            Element::F32 => Tensor::from_f32(shape, vec![0.0; elements]),
        };
        inputs.push(zeros.expect("as many as the shape says; this is a bug"));
    }
    model.run(&inputs).map(drop)
}
