//! Which adapters this machine has, what they can do, and which one is meant.
//!
//! What comes out: reports for people and records, and the adapter that a [`Selector`] chooses. Opens no device.

use std::fmt;

use super::block_on;
use crate::infer::InferError;

/// The adapter that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selector {
    /// The first real GPU, discrete ones before integrated ones; never a software adapter.
    #[default]
    Best,
    /// The adapter at this place of [`list_adapters`], software or not.
    Index(usize),
    /// The first adapter whose name contains this text in any case, software or not.
    Named(String),
    /// The first software adapter: slow, for tests.
    Software,
}

/// What an adapter is and can do.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterReport {
    /// Its name, from the driver.
    pub name: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// The largest part of a buffer that a shader can see, in bytes.
    pub binding_bytes: u64,
    /// The largest buffer, in bytes.
    pub buffer_bytes: u64,
    /// Workgroup memory, in bytes.
    pub workgroup_bytes: u32,
    /// Invocations of one workgroup.
    pub workgroup_invocations: u32,
    /// Whether shaders have 16-bit floats.
    pub half_floats: bool,
    /// Invocations of a subgroup, fewest and most; absent if shaders cannot use subgroups.
    pub subgroup: Option<(u32, u32)>,
    /// Sizes and types of cooperative matrices, as `16×16×16 f16→f32`.
    pub matrices: Vec<String>,
}

impl AdapterReport {
    /// Whether the processor does the adapter's work.
    pub fn is_software(&self) -> bool {
        self.kind == "software"
    }

    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let matrix = |m: wgpu::CooperativeMatrixProperties| {
            format!("{}×{}×{} {}→{}", m.m_size, m.n_size, m.k_size, scalar(m.ab_type), scalar(m.cr_type))
        };
        let subgroup = features.contains(wgpu::Features::SUBGROUP);
        Self {
            driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_owned(),
            name: info.name,
            backend: info.backend.to_str().to_owned(),
            kind: kind(info.device_type),
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            workgroup_invocations: limits.max_compute_invocations_per_workgroup,
            half_floats: features.contains(wgpu::Features::SHADER_F16),
            subgroup: subgroup.then_some((info.subgroup_min_size, info.subgroup_max_size)),
            matrices: adapter.cooperative_matrix_properties().into_iter().map(matrix).collect(),
        }
    }
}

impl fmt::Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.kind, self.backend)?;
        if self.driver.is_empty() { write!(f, ")") } else { write!(f, ", {})", self.driver) }
    }
}

/// Every adapter of this machine, in the driver's order.
pub fn list_adapters() -> Vec<AdapterReport> {
    adapters().iter().map(AdapterReport::of).collect()
}

/// The adapter that `selector` means.
pub(super) fn choose(selector: &Selector) -> Result<wgpu::Adapter, InferError> {
    let mut adapters = adapters();
    let reports: Vec<AdapterReport> = adapters.iter().map(AdapterReport::of).collect();
    match pick(selector, &reports) {
        Ok(at) => Ok(adapters.swap_remove(at)),
        Err(reason) => Err(InferError::Unavailable { backend: "gpu", reason }),
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // The driver's own checks and names for debuggers: neither is wanted in a debug build of this host.
    descriptor.flags = wgpu::InstanceFlags::empty();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(descriptor);
    block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

fn pick(selector: &Selector, reports: &[AdapterReport]) -> Result<usize, String> {
    let names = || reports.iter().map(|report| format!("`{}`", report.name)).collect::<Vec<_>>().join(", ");
    let found = match selector {
        Selector::Best => {
            let rank = |report: &AdapterReport| match report.kind {
                "discrete" => Some(0),
                "integrated" => Some(1),
                "virtual" => Some(2),
                "other" => Some(3),
                _ => None,
            };
            let ranked = reports.iter().enumerate().filter_map(|(at, report)| rank(report).map(|rank| (rank, at)));
            ranked.min().map(|(_, at)| at)
        }
        Selector::Index(at) => Some(*at).filter(|&at| at < reports.len()),
        Selector::Named(name) => {
            let wanted = name.to_lowercase();
            reports.iter().position(|report| report.name.to_lowercase().contains(&wanted))
        }
        Selector::Software => reports.iter().position(AdapterReport::is_software),
    };
    found.ok_or_else(|| match (selector, reports.is_empty()) {
        (_, true) => "no Vulkan, Metal or DirectX 12 driver was found".into(),
        (Selector::Best, _) => {
            format!("there are only software adapters ({}), which are not taken unless named", names())
        }
        (Selector::Index(at), _) => format!("there are {} adapters, counted from 0, and no number {at}", reports.len()),
        (Selector::Named(name), _) => format!("no adapter's name contains `{name}`; there are {}", names()),
        (Selector::Software, _) => format!("there is no software adapter; there are {}", names()),
    })
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

fn scalar(scalar: wgpu::CooperativeScalarType) -> &'static str {
    match scalar {
        wgpu::CooperativeScalarType::F32 => "f32",
        wgpu::CooperativeScalarType::F16 => "f16",
        wgpu::CooperativeScalarType::I32 => "i32",
        wgpu::CooperativeScalarType::U32 => "u32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, kind: &'static str) -> AdapterReport {
        AdapterReport {
            name: name.into(),
            backend: "vulkan".into(),
            kind,
            driver: String::new(),
            binding_bytes: 0,
            buffer_bytes: 0,
            workgroup_bytes: 0,
            workgroup_invocations: 0,
            half_floats: false,
            subgroup: None,
            matrices: Vec::new(),
        }
    }

    #[test]
    fn a_software_adapter_is_taken_only_when_asked_for() {
        let all = [report("llvmpipe", "software"), report("Iris", "integrated"), report("Big Card", "discrete")];
        let cases: [(Selector, &[AdapterReport], Result<usize, &str>); 9] = [
            (Selector::Best, &all, Ok(2)),
            (Selector::Best, &all[..2], Ok(1)),
            (Selector::Best, &all[..1], Err("not taken unless named")),
            (Selector::Best, &[], Err("no Vulkan")),
            (Selector::Named("big".into()), &all, Ok(2)),
            (Selector::Named("pipe".into()), &all, Ok(0)),
            (Selector::Named("other".into()), &all, Err("`Iris`")),
            (Selector::Index(3), &all, Err("no number 3")),
            (Selector::Software, &all[1..], Err("no software")),
        ];
        for (selector, reports, want) in cases {
            match (pick(&selector, reports), want) {
                (Ok(at), Ok(want)) => assert_eq!(at, want, "{selector:?}"),
                (Err(text), Err(want)) => assert!(text.contains(want), "{text}"),
                (got, want) => panic!("{selector:?}: {got:?}, not {want:?}"),
            }
        }
    }
}
