//! Each kernel family against its twin, on small layers, on the device that will run it.
//!
//! Drivers compile shaders, and some compile them wrongly: what cannot be trusted here is switched off.

use std::sync::Arc;

use super::cases::{self, Case};
use super::engine::Engine;
use super::kernel::Family;
use super::model::{GpuModel, Recipe};
use super::twin;
use crate::fault::chain;
use crate::infer::{InferError, Model, Precision};

/// The most that a result may differ from its twin's, as a part of the layer's root mean square: 32-bit sums in another
/// order stay well below, and so does the rounding of values and weights to 16 bits.
pub(super) fn tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::Single => 1e-4,
        Precision::Half => 2e-3,
    }
}

/// What the self-test found out about one family.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FamilyReport {
    /// Which family.
    pub family: Family,
    /// Whether its results are right; models that need one that is not are refused.
    pub passed: bool,
    /// The largest error, as a part of the layer's root mean square; absent if there was no result.
    pub error: Option<f32>,
    /// What went wrong.
    pub reason: Option<String>,
}

/// Tests every family that this adapter has in `precision`, the one that loads inputs first.
pub(super) fn run(engine: &Arc<Engine>, precision: Precision) -> Vec<FamilyReport> {
    let cases = cases::all();
    let possible = Family::ALL.into_iter().filter(|family| family.works_with(precision, &engine.abilities));
    let report = |family| match cases.iter().find(|case| case.families().contains(&family)) {
        None => FamilyReport { family, passed: false, error: None, reason: Some("it has no test".into()) },
        Some(case) => verdict(family, case.name, precision, compare(engine, case, family, precision)),
    };
    possible.map(report).collect()
}

fn verdict(family: Family, case: &str, precision: Precision, compared: Result<f32, InferError>) -> FamilyReport {
    match compared {
        Ok(error) if error <= tolerance(precision) => {
            FamilyReport { family, passed: true, error: Some(error), reason: None }
        }
        Ok(error) => {
            let reason = format!("its results for `{case}` are wrong by {error:.1e} of their size");
            FamilyReport { family, passed: false, error: error.is_finite().then_some(error), reason: Some(reason) }
        }
        Err(error) => FamilyReport { family, passed: false, error: None, reason: Some(chain(&error)) },
    }
}

/// The largest difference between a case on the device, done by `family`, and on the twins; infinite for NaN.
pub(super) fn compare(
    engine: &Arc<Engine>,
    case: &Case,
    family: Family,
    precision: Precision,
) -> Result<f32, InferError> {
    let recipe = Recipe { families: &[family, Family::Gather], precision };
    let model = GpuModel::compile(Arc::clone(engine), case.graph.clone(), recipe)?;
    let inputs = case.inputs(case.batch);
    let made = model.run(&inputs)?;
    let wanted = twin::run(&case.graph, &inputs);
    let errors = made.iter().zip(&wanted).map(|(made, wanted)| largest_error(made.f32().unwrap_or(&[]), wanted));
    Ok(errors.fold(0.0, f32::max))
}

/// The largest difference as a part of the root mean square of what is wanted; infinite where a number is missing or NaN.
pub(super) fn largest_error(made: &[f32], wanted: &[f32]) -> f32 {
    if made.len() != wanted.len() || made.iter().any(|v| v.is_nan()) {
        return f32::INFINITY;
    }
    let squares: f64 = wanted.iter().map(|&w| f64::from(w).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    let size = (squares / wanted.len().max(1) as f64).sqrt().max(1e-30);
    let largest = made.iter().zip(wanted).map(|(m, w)| f64::from((m - w).abs())).fold(0.0, f64::max);
    #[expect(clippy::cast_possible_truncation, reason = "a ratio for people")]
    let error = (largest / size) as f32;
    if error.is_nan() { f32::INFINITY } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number_counts_as_wrong() {
        let cases: [(&[f32], &[f32], bool); 5] = [
            (&[1.0, 2.0], &[1.0, 2.0], true),
            (&[1.0, f32::NAN], &[1.0, 2.0], false),
            (&[1.0], &[1.0, 2.0], false),
            (&[0.0, 0.0], &[1.0, 2.0], false),
            (&[1.0, f32::INFINITY], &[1.0, 2.0], false),
        ];
        for (made, wanted, right) in cases {
            assert_eq!(
                verdict(Family::Pool, "a layer", Precision::Single, Ok(largest_error(made, wanted))).passed,
                right,
                "{made:?}"
            );
        }
    }
}
