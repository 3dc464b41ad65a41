//! Kernels as text, without a device.
use super::super::cases;
use super::*;
use wgpu::naga;

const MATRICES: [Option<Matrix>; 4] = [
    None,
    Some(Matrix { size: 8, subgroup: 8, by_number: false }),
    Some(Matrix { size: 16, subgroup: 32, by_number: false }),
    Some(Matrix { size: 8, subgroup: 32, by_number: true }),
];

/// What every WebGPU adapter has.
const LEAST: Abilities = Abilities { half: false, matrix: None, workgroup_bytes: 16 << 10, invocations: 256 };

/// What software drivers, NVIDIA's and Apple's cards offer, and the least of all.
fn adapters() -> Vec<(Precision, Abilities)> {
    let with = |matrix, workgroup_bytes| Abilities { half: true, matrix, workgroup_bytes, invocations: 1024 };
    let mut all = vec![(Precision::Single, LEAST), (Precision::Half, with(None, 16 << 10))];
    for matrix in &MATRICES[1..] {
        all.extend([16 << 10, 32 << 10, 48 << 10].map(|bytes| (Precision::Half, with(*matrix, bytes))));
    }
    all
}

fn parsed(source: &str, name: &str) -> (naga::Module, naga::valid::ModuleInfo) {
    let mut options = naga::front::wgsl::Options::new();
    options.capabilities = naga::valid::Capabilities::all();
    let module = naga::front::wgsl::Frontend::new_with_options(options)
        .parse(source)
        .unwrap_or_else(|e| panic!("{name}: {}", e.emit_to_string(source)));
    let abilities = naga::valid::Capabilities::SHADER_FLOAT16
        | naga::valid::Capabilities::SUBGROUP
        | naga::valid::Capabilities::COOPERATIVE_MATRIX;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), abilities);
    let info = validator.validate(&module);
    let info = info.unwrap_or_else(|e| panic!("{name}: {}\n{source}", e.emit_to_string(source)));
    (module, info)
}

#[test]
fn every_kernel_is_valid_wgsl_without_a_device() {
    let mut seen = Vec::new();
    for (precision, abilities) in adapters() {
        for case in cases::all() {
            let stored = stored(&case.graph, precision);
            let layout = Layout { graph: &case.graph, stored: &stored };
            for step in &case.graph.steps {
                for &family in Family::candidates(&step.operation) {
                    for variant in variants(layout, step, family, &abilities) {
                        let choice = Choice { family, variant };
                        let kernel = kernel(layout, step, choice, &abilities).unwrap();
                        assert_eq!(kernel.weights.len() as u64, packed_bytes(layout, step, choice), "{}", case.name);
                        let (module, info) = parsed(&kernel.source, case.name);
                        let entry = module.entry_points.iter().position(|e| e.name == family.entry()).unwrap();
                        let threads = module.entry_points[entry].workgroup_size[0] as usize;
                        assert!(threads <= abilities.invocations, "{}", case.name);
                        let bound = module.global_variables.iter().filter(|(handle, variable)| {
                            !info.get_entry_point(entry)[*handle].is_empty()
                                && matches!(variable.space, naga::AddressSpace::Storage { .. })
                        });
                        assert!(bound.count() <= 8, "{}: an adapter may have no more", case.name);
                        let mut layouter = naga::proc::Layouter::default();
                        layouter.update(module.to_ctx()).unwrap();
                        let shared = module.global_variables.iter().map(|(_, variable)| match variable.space {
                            naga::AddressSpace::WorkGroup => layouter[variable.ty].size as usize,
                            _ => 0,
                        });
                        assert!(shared.sum::<usize>() <= abilities.workgroup_bytes, "{}: {variant}", case.name);
                        seen.push(family);
                    }
                }
            }
        }
    }
    assert!(Family::ALL.iter().all(|family| seen.contains(family)), "a family without a case");
}

#[test]
fn grids_cover_the_work_and_keep_the_limit() {
    let linear = Grid::Linear { per_image: 1000, share: 64 };
    assert_eq!(linear.workgroups(1, 65535), Some([16, 1, 1]));
    assert_eq!(linear.workgroups(7, 20), Some([20, 6, 1]), "110 workgroups, laid out in rows of twenty");
    assert_eq!(linear.workgroups(1 << 40, 65535), None);
    let tiles = Grid::Tiles { rows: 49, tile: 128, columns: 3 };
    assert_eq!(tiles.workgroups(3, 65535), Some([6, 1, 1]));
    assert_eq!(tiles.workgroups(400, 100), Some([100, 5, 1]), "154 tiles of rows, three of columns each");
    assert_eq!(tiles.workgroups(400, 20), None);
}

#[test]
fn softmax_and_the_largest_read_32_bits_and_places_are_written_in_them() {
    for case in cases::all() {
        let mut graph = case.graph;
        graph.outputs.clear();
        let stored = stored(&graph, Precision::Half);
        let step = graph.steps.last().unwrap();
        let (reads, writes) = match step.operation {
            Operation::Softmax => (Precision::Single, Precision::Half),
            Operation::Top { .. } => (Precision::Single, Precision::Single),
            _ => (Precision::Half, Precision::Half),
        };
        assert_eq!(stored[step.output], writes, "{}", case.name);
        assert!(step.reads().all(|id| stored[id] == reads), "{}", case.name);
    }
}

#[test]
fn a_model_of_which_only_places_come_out_keeps_32_bits() {
    let mut graph = cases::all().swap_remove(0).graph;
    assert!(stored(&graph, Precision::Half).contains(&Precision::Single), "outputs");
    graph.outputs[0].port.element = crate::tensor::Element::I64;
    graph.values.push(Dims::vector(3));
    assert!(stored(&graph, Precision::Half).iter().all(|&stored| stored == Precision::Single));
}
