//! How long work takes on the device: from the device's own clock where it has one, else from outside.

use std::time::Instant;

use super::engine::{Engine, device_error, mapped};
use super::workspace::map;
use crate::infer::InferError;

/// The most passes that one set of time stamps holds.
pub(super) const MOST_PASSES: usize = 2048;

/// The median time of each of `count` passes over `runs` runs, in nanoseconds, after one that is not counted; `record`
/// writes pass number `i`. None if the device has no clock, or there are too many passes.
pub(super) fn passes(
    engine: &Engine,
    count: usize,
    runs: usize,
    record: impl Fn(usize, &mut wgpu::ComputePass<'_>),
) -> Result<Option<Vec<f64>>, InferError> {
    if !engine.times || count == 0 || count > MOST_PASSES {
        return Ok(None);
    }
    let stamps = u32::try_from(2 * count).map_err(|_| device_error("too many steps to time".into(), false))?;
    let bytes = 8 * u64::from(stamps);
    let (set, resolved, read) = engine
        .attempt(|| {
            let set = engine.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("times"),
                ty: wgpu::QueryType::Timestamp,
                count: stamps,
            });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let resolved = engine.buffer("times", bytes, usage);
            let read = engine.buffer("times read", bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            (set, resolved, read)
        })
        .map_err(|trouble| engine.error_of(trouble))?;
    let mut taken: Vec<Vec<f64>> = vec![Vec::with_capacity(runs); count];
    for run in 0..=runs {
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (at, stamp) in (0..count).zip((0..stamps).step_by(2)) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(stamp),
                    end_of_pass_write_index: Some(stamp + 1),
                }),
            });
            record(at, &mut pass);
        }
        encoder.resolve_query_set(&set, 0..stamps, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &read, 0, Some(bytes));
        let submission = engine.submit(encoder.finish())?;
        let mapping = map(read.slice(..bytes), wgpu::MapMode::Read);
        engine.wait(submission)?;
        mapped(&mapping)?;
        let view = read.get_mapped_range(..bytes).map_err(|error| device_error(error.to_string(), false))?;
        let ticks: &[u64] = bytemuck::cast_slice(&view);
        let period = f64::from(engine.queue.get_timestamp_period());
        if run > 0 {
            for (times, pair) in taken.iter_mut().zip(ticks.chunks(2)) {
                #[expect(clippy::cast_precision_loss, reason = "a time for people")]
                times.push(pair[1].saturating_sub(pair[0]) as f64 * period);
            }
        }
        drop(view);
        read.unmap();
    }
    Ok(Some(taken.iter_mut().map(|times| median(times)).collect()))
}

/// The median time of one pass, in nanoseconds, by whichever clock there is.
pub(super) fn one(
    engine: &Engine,
    runs: usize,
    record: impl Fn(&mut wgpu::ComputePass<'_>),
) -> Result<f64, InferError> {
    if let Some(times) = passes(engine, 1, runs, |_, pass| record(pass))? {
        return Ok(times[0]);
    }
    let mut taken = Vec::with_capacity(runs);
    for run in 0..=runs {
        let mut encoder = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        let began = Instant::now();
        let submission = engine.submit(encoder.finish())?;
        engine.wait(submission)?;
        if run > 0 {
            taken.push(began.elapsed().as_secs_f64() * 1e9);
        }
    }
    Ok(median(&mut taken))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_counts() {
        assert_eq!(median(&mut [9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut []), 0.0);
    }
}
