//! What was measured, as people and programs get it. The names here are those of the JSON, which
//! `host/docs/measuring.md` explains.

use std::path::PathBuf;

use super::pictures::Pictures;
use super::rates::Rate;
use crate::infer::Port;

/// What a device can do at best, and who says so.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Peaks {
    /// 10¹² operations a second.
    pub tera_flops: f64,
    /// 10⁹ bytes a second to and from its memory.
    pub giga_bytes: f64,
    /// Where the two come from.
    pub source: String,
}

/// What was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Bench {
    /// The version of this program.
    pub version: &'static str,
    /// The model.
    pub model: Benched,
    /// Where it ran.
    pub device: OnDevice,
    /// What the device could do at best, if that is known.
    pub peaks: Option<Peaks>,
    /// The whole network, batch by batch.
    pub batches: Vec<Batch>,
    /// Layer by layer, at the largest batch of which there is a profile.
    pub layers: Option<Layers>,
    /// Why there are no layers.
    pub layers_left_out: Option<String>,
    /// From files to predictions.
    pub pictures: Option<Pictures>,
    /// The most memory that the process had at once, in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// The model that was measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Benched {
    /// Its file.
    pub path: PathBuf,
    /// Its inputs.
    pub inputs: Vec<Port>,
    /// Its outputs.
    pub outputs: Vec<Port>,
    /// Bytes of its weights on the device, if the engine tells.
    pub weight_bytes: Option<u64>,
    /// In what its layers are computed, if the engine tells: `f32`, `f16`, or both.
    pub precision: Option<String>,
}

/// Where it ran.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OnDevice {
    /// As deployments name it.
    pub name: &'static str,
    /// Adapter and driver, or engine and threads.
    pub description: String,
    /// Why this one.
    pub reason: String,
    /// Whether it is a GPU whose work the processor does, so that times say nothing about shaders.
    pub is_software: bool,
}

/// The whole network with some pictures at a time.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Batch {
    /// How many.
    pub images: usize,
    /// One run after the other, from host memory to host memory.
    pub alone: Option<Rate>,
    /// Several runs under way at once through the queue that jobs use.
    pub queued: Option<Rate>,
    /// Images a second by the device's own clock: the sum of its layers, without copies.
    pub device_only: Option<f64>,
    /// Bytes that the device holds for it, weights included, if the engine tells.
    pub device_bytes: Option<u64>,
    /// What else is to be known: what failed, what was cut.
    pub notes: Vec<String>,
}

/// Layers at one batch.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Layers {
    /// Pictures in a run.
    pub images: usize,
    /// In the order in which they are performed.
    pub rows: Vec<Layer>,
    /// All of them together.
    pub total: Work,
}

impl Layers {
    /// The `count` layers that took longest beyond what they had to, and by how many microseconds; none without times or
    /// peaks.
    pub fn most_lost<'a>(&'a self, count: usize) -> Vec<(&'a Layer, f64)> {
        let lost = |row: &'a Layer| {
            Some((row, row.work.microseconds? - row.work.least_microseconds?)).filter(|(_, lost)| *lost > 0.0)
        };
        let mut all: Vec<(&'a Layer, f64)> = self.rows.iter().filter_map(lost).collect();
        all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        all.truncate(count);
        all
    }
}

/// One layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Layer {
    /// The name of the file's node that it comes from.
    pub node: String,
    /// Its sizes, as `56×56×64→256 1×1`.
    pub shape: String,
    /// What computes it.
    pub kernel: String,
    /// In what: `f32` or `f16`.
    pub precision: &'static str,
    /// What keeps it from being faster on a perfect device, if its peaks are known: `arithmetic` or `memory`.
    pub bound: Option<&'static str>,
    /// How much it is.
    #[serde(flatten)]
    pub work: Work,
}

/// Work, and the time that it took and had to take, for one run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Work {
    /// Operations for one picture.
    pub operations_per_image: u64,
    /// Bytes read and written for one picture.
    pub bytes_per_image: u64,
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Microseconds that it took, if that is to be had.
    pub microseconds: Option<f64>,
    /// 10¹² operations a second that this makes.
    pub tera_flops: Option<f64>,
    /// 10⁹ bytes a second that this makes, each number counted once.
    pub giga_bytes: Option<f64>,
    /// Microseconds that it takes at least, if the device's peaks are known.
    pub least_microseconds: Option<f64>,
    /// Least over measured: 1 is perfect.
    pub fraction: Option<f64>,
}
