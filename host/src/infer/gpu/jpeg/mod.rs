//! JPEG pictures after entropy decoding → a model's rows of floats, on the GPU. A trial that no job uses
//! (`docs/decisions/0028-split-jpeg-decoding.md`).
//!
//! What goes in: [`Picture`]s, whose coefficients, steps and weights are integers, and [`Rows`]. What comes out: floats, the
//! same bits as the processor's own way gives. No file is read here: entropy decoding is a processor's work.
//!
//! ```text
//! blocks     entries → samples: dequantised, and the inverse transform
//! colours    samples → pixels: chroma enlarged, red, green and blue
//! resample   pixels → fewer of them, first in one direction, then in the other
//! numbers    bytes → floats, by a table
//! ```

mod packed;
#[cfg(test)]
mod twin;

use std::sync::{Arc, Mutex, PoisonError};

use super::Gpu;
use super::engine::{Engine, device_error, mapped};
use super::workspace::map;
use crate::infer::InferError;
use crate::tensor::Tensor;

pub use self::packed::{Component, Picture, Rows, Taps};

use self::packed::{BLOCKS, GROUP, Packed};

/// Words of the largest buffer that one run takes: 64 MiB, some eighty photographs of 200 000 pixels.
const MOST_WORDS: u64 = 16 << 20;

const COMMON: &str = include_str!("common.wgsl");

/// Each entry point and its module, in the order in which they run.
const SHADERS: [(&str, &[&str]); 5] = [
    ("blocks", &[COMMON, include_str!("blocks.wgsl")]),
    ("colours", &[COMMON, include_str!("colours.wgsl")]),
    ("first", &[COMMON, include_str!("resample.wgsl")]),
    ("second", &[COMMON, include_str!("resample.wgsl")]),
    ("numbers", &[include_str!("numbers.wgsl")]),
];

/// Makes rows of floats from entropy-decoded pictures.
pub struct SplitDecoder {
    engine: Arc<Engine>,
    pipelines: Vec<wgpu::ComputePipeline>,
    /// Runs wait for each other: buffers of several would take more memory than they are worth.
    turn: Mutex<()>,
}

impl SplitDecoder {
    /// A decoder on the device that `gpu` has open.
    ///
    /// # Errors
    /// If the device is lost, or refuses a shader.
    pub fn on(gpu: &Gpu) -> Result<Self, InferError> {
        Self::new(gpu.opener.engine()?)
    }

    pub(super) fn new(engine: Arc<Engine>) -> Result<Self, InferError> {
        let pipelines = SHADERS.iter().map(|(entry, text)| compile(&engine, entry, &text.concat()));
        let pipelines = pipelines.collect::<Result<_, _>>()?;
        Ok(Self { engine, pipelines, turn: Mutex::new(()) })
    }

    /// The rows of `pictures`, as N × 3 × height × width or N × height × width × 3 floats.
    ///
    /// # Errors
    /// If a picture contradicts itself or is too large for the device, or the device fails.
    pub fn prepare(&self, pictures: &[Picture], rows: &Rows) -> Result<Tensor, InferError> {
        let mut floats = Vec::new();
        self.run(pictures, rows, &mut |engine, buffer, bytes, mut encoder| {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let read = engine.attempt(|| engine.buffer("split rows read", bytes, usage));
            let read = read.map_err(|trouble| engine.error_of(trouble))?;
            encoder.copy_buffer_to_buffer(buffer, 0, &read, 0, Some(bytes));
            let submission = engine.submit(encoder.finish())?;
            let mapping = map(read.slice(..bytes), wgpu::MapMode::Read);
            engine.wait(submission)?;
            mapped(&mapping)?;
            let view = read.get_mapped_range(..bytes).map_err(|error| device_error(error.to_string(), false))?;
            floats.extend_from_slice(bytemuck::cast_slice::<u8, f32>(&view));
            Ok(())
        })?;
        let (width, height) = (rows.size.0 as usize, rows.size.1 as usize);
        let shape = if rows.channels_last {
            vec![pictures.len(), height, width, 3]
        } else {
            vec![pictures.len(), 3, height, width]
        };
        Tensor::from_f32(shape, floats).map_err(|error| InferError::Input(error.to_string()))
    }

    /// Does all of [`SplitDecoder::prepare`] but fetching the rows, which a model on the same device would read where they
    /// are. For measuring.
    ///
    /// # Errors
    /// As [`SplitDecoder::prepare`].
    pub fn prepare_in_place(&self, pictures: &[Picture], rows: &Rows) -> Result<(), InferError> {
        self.run(pictures, rows, &mut |engine, _, _, encoder| {
            let submission = engine.submit(encoder.finish())?;
            engine.wait(submission)
        })
    }

    /// Records the work on as many pictures at a time as have room, and gives it to `done` with the buffer of floats and its
    /// bytes.
    fn run(&self, pictures: &[Picture], rows: &Rows, done: &mut Done) -> Result<(), InferError> {
        let most = MOST_WORDS.min(self.engine.binding_bytes() / 4);
        for packed in packs(pictures, rows, most)? {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = packed.pictures.len() as u64 * rows.pixels() * 12;
            let recorded = self.engine.attempt(|| self.record(&packed, rows, bytes));
            let (floats, encoder) = recorded.map_err(|trouble| self.engine.error_of(trouble))?;
            done(&self.engine, &floats, bytes, encoder)?;
        }
        Ok(())
    }

    fn record(&self, packed: &Packed, rows: &Rows, bytes: u64) -> (wgpu::Buffer, wgpu::CommandEncoder) {
        let engine = &self.engine;
        let upload = |name: &str, bytes: &[u8]| engine.upload(name, bytes);
        let room = |name: &str, words: u64| engine.buffer(name, words * 4, wgpu::BufferUsages::STORAGE);
        let pictures = upload("split pictures", bytemuck::cast_slice(&packed.pictures));
        let steps = upload("split steps", bytemuck::cast_slice(&packed.steps));
        let index = upload("split index", bytemuck::cast_slice(&packed.index));
        let entries = upload("split entries", bytemuck::cast_slice(&packed.entries));
        let taps = upload("split taps", bytemuck::cast_slice(&packed.taps));
        let head = upload("split head", bytemuck::cast_slice(&rows.words()));
        let tables = upload("split tables", bytemuck::cast_slice(rows.tables.as_flattened()));
        let planes = room("split planes", packed.plane_words);
        let pixels = room("split pixels", packed.pixels);
        let between = room("split between", packed.between);
        let resized = room("split resized", bytes / 12);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let floats = engine.buffer("split rows", bytes, usage);
        let bound: [&[&wgpu::Buffer]; 5] = [
            &[&pictures, &steps, &index, &entries, &planes],
            &[&pictures, &planes, &pixels],
            &[&pictures, &taps, &pixels, &between],
            &[&pictures, &taps, &between, &resized],
            &[&head, &resized, &tables, &floats],
        ];
        let all = packed.pictures.len() as u32;
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for ((pipeline, buffers), groups) in self.pipelines.iter().zip(bound).zip(groups(packed, rows)) {
            let entries = buffers.iter().zip(0..);
            let entries: Vec<wgpu::BindGroupEntry> = entries
                .map(|(buffer, binding)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
                .collect();
            let group = engine.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups, 1, all);
        }
        drop(pass);
        (floats, encoder)
    }
}

type Done<'a> = dyn FnMut(&Engine, &wgpu::Buffer, u64, wgpu::CommandEncoder) -> Result<(), InferError> + 'a;

/// Workgroups across for each shader, enough for the picture that needs the most of them.
fn groups(packed: &Packed, rows: &Rows) -> [u32; 5] {
    let most = |count: &dyn Fn(&packed::PackedPicture) -> u32| packed.pictures.iter().map(count).max().unwrap_or(0);
    let made = |i: usize| most(&|picture| picture.directions[i].to_x * picture.directions[i].to_y);
    [
        most(&|picture| picture.blocks).div_ceil(BLOCKS),
        most(&|picture| picture.width * picture.height).div_ceil(GROUP),
        made(0).div_ceil(GROUP),
        made(1).div_ceil(GROUP),
        (rows.pixels() as u32).div_ceil(GROUP),
    ]
}

/// Pictures put together so that no buffer has more than `most` words, and no dispatch more pictures than it may.
fn packs(pictures: &[Picture], rows: &Rows, most: u64) -> Result<Vec<Packed>, InferError> {
    let mut all = Vec::new();
    let mut current = Packed::default();
    for picture in pictures {
        let mut one = Packed::default();
        one.push(picture, rows)?;
        let largest = one.largest().max(rows.pixels() * 3);
        if largest > most {
            return Err(InferError::Input("a split picture is too large for the device".into()));
        }
        // The sum of what is largest is no less than the largest of the sums.
        let held = current.largest().max(current.pictures.len() as u64 * rows.pixels() * 3);
        if !current.pictures.is_empty() && (held + largest > most || current.pictures.len() >= 1024) {
            all.push(std::mem::take(&mut current));
        }
        current.push(picture, rows)?;
    }
    all.extend((!current.pictures.is_empty()).then_some(current));
    Ok(all)
}

fn compile(engine: &Engine, entry: &str, text: &str) -> Result<wgpu::ComputePipeline, InferError> {
    let compiled = engine.attempt(|| {
        let source = wgpu::ShaderSource::Wgsl(text.into());
        // With every index checked: what is uploaded follows from files.
        let module = engine.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(entry), source });
        engine.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: None,
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        })
    });
    compiled.map_err(|trouble| engine.error_of(trouble))
}

#[cfg(test)]
mod tests;
