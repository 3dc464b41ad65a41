//! `devices`: what models can run on, and whether it computes right.

use std::path::PathBuf;

use clap::Args;
use scorehost::infer::device::{self, Device, Request};

use super::{COMPLETED, NamedArgs, say};

#[derive(Args)]
pub(crate) struct DevicesArgs {
    #[command(flatten)]
    named: NamedArgs,
    /// Find the fastest form of each kernel of this model on the adapter, and keep what is found; several may be named
    #[arg(long, value_name = "MODEL")]
    tune: Vec<PathBuf>,
    /// Print the facts as JSON
    #[arg(long, conflicts_with = "tune")]
    json: bool,
}

/// An engine that needs no adapter.
#[derive(serde::Serialize)]
struct Engine {
    name: &'static str,
    /// The engine in words, or why it is not to be had.
    description: String,
    available: bool,
}

pub(crate) fn devices(args: &DevicesArgs) -> anyhow::Result<u8> {
    let named = args.named.named();
    if !args.tune.is_empty() {
        return tune(&named, &args.tune);
    }
    let engine = |name, device| {
        let chosen = device::choose(&Request { device, named: &named, model: None });
        match chosen {
            Ok(chosen) => Engine { name, description: chosen.backend.describe(), available: true },
            Err(error) => {
                let text = scorehost::fault::chain(&error);
                // The cure fits another line than this list has.
                let reason = text.split("\nhint:").next().unwrap_or_default().to_owned();
                Engine { name, description: reason, available: false }
            }
        }
    };
    let engines = [engine("cpu", Device::Cpu), engine("onnxruntime", Device::OnnxRuntime)];
    let adapters = adapters();
    if args.json {
        say!("{}", serde_json::to_string_pretty(&serde_json::json!({ "adapters": adapters, "engines": engines }))?);
        return Ok(COMPLETED);
    }
    print_adapters(&adapters);
    for Engine { name, description, available } in &engines {
        say!("{name}: {}{description}", if *available { "" } else { "no: " });
    }
    let chosen = device::choose(&Request { device: Device::Auto, named: &named, model: None })?;
    say!("auto takes {}, since {}", chosen.backend.name(), chosen.reason);
    Ok(COMPLETED)
}

#[cfg(feature = "gpu")]
use gpu::{adapters, print_adapters, tune};

#[cfg(feature = "gpu")]
mod gpu {
    use std::path::PathBuf;

    use scorehost::infer::Backend;
    use scorehost::infer::device::{self, Named};
    use scorehost::infer::gpu::{AdapterReport, Gpu, Options, Report, Selector, Tuned, list_adapters};
    use scorehost::service::ServiceError;

    use super::{COMPLETED, say};

    pub(super) fn tune(named: &Named, models: &[PathBuf]) -> anyhow::Result<u8> {
        let gpu = device::open_gpu(named).map_err(ServiceError::Infer)?;
        say!("{}", gpu.describe());
        for model in models {
            say!("{}: timing every form of its kernels", model.display());
            let tell = &mut |found: &Tuned| {
                let (best, untuned) = found.nanoseconds;
                let what = if found.form == found.untuned {
                    "stays".to_owned()
                } else {
                    format!("instead of {}, {:.2} times as fast", found.untuned, untuned / best)
                };
                let wrong =
                    if found.tried.1 > 0 { format!(", {} of them wrong", found.tried.1) } else { String::new() };
                let (node, form, micros) = (&found.node, &found.form, best / 1e3);
                say!("  {node}: {form}: {micros:.0} µs, {what} ({} forms tried{wrong})", found.tried.0);
            };
            gpu.tune(model, tell).map_err(ServiceError::Infer)?;
        }
        say!("kept for whoever opens this adapter from now on");
        Ok(COMPLETED)
    }

    /// An adapter, and what its self-test found or why it does not open.
    #[derive(serde::Serialize)]
    pub(super) struct Adapter {
        adapter: AdapterReport,
        report: Result<Report, String>,
    }

    pub(super) fn adapters() -> Vec<Adapter> {
        let open = |(i, adapter)| {
            let opened = Gpu::open(Options::new(Selector::Index(i)));
            Adapter { adapter, report: opened.map(|gpu| gpu.report().clone()).map_err(|e| scorehost::fault::chain(&e)) }
        };
        list_adapters().into_iter().enumerate().map(open).collect()
    }

    pub(super) fn print_adapters(adapters: &[Adapter]) {
        if adapters.is_empty() {
            say!("gpu: no adapter (Vulkan, Metal or DirectX 12) was found");
        }
        for (i, Adapter { adapter, report }) in adapters.iter().enumerate() {
            say!("gpu {i}: {adapter}");
            if adapter.is_software() {
                say!("  computed by the processor: taken only as `--adapter software`, never by auto");
            }
            print_abilities(adapter);
            match report {
                Err(reason) => say!("  does not open: {reason}"),
                Ok(report) => print_families(report),
            }
        }
    }

    fn print_abilities(adapter: &AdapterReport) {
        let mib = |bytes: u64| bytes >> 20;
        say!(
            "  buffers up to {} MiB, {} MiB of one in a shader; {} KiB workgroup memory, {} invocations",
            mib(adapter.buffer_bytes),
            mib(adapter.binding_bytes),
            adapter.workgroup_bytes >> 10,
            adapter.workgroup_invocations
        );
        let subgroup = adapter.subgroup.map_or_else(|| "none".to_owned(), |(least, most)| format!("{least} to {most}"));
        let matrices = if adapter.matrices.is_empty() { "none".to_owned() } else { adapter.matrices.join(", ") };
        let halves = if adapter.half_floats { "yes" } else { "no" };
        say!("  16-bit floats: {halves}; subgroups: {subgroup}; cooperative matrices: {matrices}");
    }

    fn print_families(report: &Report) {
        for family in &report.families {
            match (&family.reason, family.error) {
                (None, Some(error)) => say!("  {:?}: passed its self-test, error {error:.1e}", family.family),
                (reason, _) => {
                    say!("  {:?}: off: {}", family.family, reason.as_deref().unwrap_or("it gave no result"));
                }
            }
        }
    }
}

#[cfg(not(feature = "gpu"))]
fn tune(named: &device::Named, _models: &[PathBuf]) -> anyhow::Result<u8> {
    let _ = device::choose(&Request { device: Device::Gpu, named, model: None })
        .map_err(scorehost::service::ServiceError::Infer)?;
    Ok(COMPLETED)
}

#[cfg(not(feature = "gpu"))]
fn adapters() -> Vec<()> {
    Vec::new()
}

#[cfg(not(feature = "gpu"))]
fn print_adapters(_adapters: &[()]) {
    say!("gpu: this build is without the feature `gpu`");
}
