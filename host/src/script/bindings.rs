//! The contract's bindings, generated from `wit/`. What may wait is `async`: the script's fibre is suspended, and a
//! deadline can end it. What only reads state is not, and costs tens of nanoseconds.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "scoring-script",
    imports: {
        "scorehost:script/images.load": async | trappable,
        "scorehost:script/images.[static]image.open": async | trappable,
        "scorehost:script/images.[method]image.crop": async | trappable,
        "scorehost:script/images.[method]image.tensor": async | trappable,
        "scorehost:script/models.[static]model.open": async | trappable,
        "scorehost:script/models.[method]model.predict": async | trappable,
        "scorehost:script/models.[method]model.predict-named": async | trappable,
        "scorehost:script/tensors.[method]tensor.shape": async | trappable,
        "scorehost:script/tensors.[method]tensor.element": async | trappable,
        "scorehost:script/tensors.[method]tensor.floats": async | trappable,
        "scorehost:script/tensors.[method]tensor.integers": async | trappable,
        "scorehost:script/tensors.[method]tensor.slice": async | trappable,
        "scorehost:script/tensors.[method]tensor.top": async | trappable,
        "scorehost:script/tables.[static]table.open": async | trappable,
        "scorehost:script/tables.[method]table.next": async | trappable,
        "scorehost:script/tables.[method]batch.columns": async | trappable,
        "scorehost:script/tables.[method]batch.column": async | trappable,
        "scorehost:script/tables.[method]batch.tensor": async | trappable,
        "scorehost:script/tables.[static]writer.create": async | trappable,
        "scorehost:script/tables.[method]writer.write": async | trappable,
        "scorehost:script/tables.[method]writer.finish": async | trappable,
        "scorehost:script/tensors.stack": async | trappable,
        "scorehost:script/tensors.concatenate": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "scorehost:script/tensors.tensor": super::imports::HostTensor,
        "scorehost:script/images.image": super::imports::HostImage,
        "scorehost:script/images.recipe": super::imports::HostRecipe,
        "scorehost:script/models.model": super::imports::HostModel,
        "scorehost:script/tables.table": super::imports::HostTable,
        "scorehost:script/tables.batch": super::imports::HostBatch,
        "scorehost:script/tables.writer": super::imports::HostWriter,
    },
});

/// wasi-nn, for components that were built against it.
pub(super) mod nn {
    wasmtime::component::bindgen!({
        path: "../wit/wasi-nn",
        world: "ml",
        imports: {
            "wasi:nn/graph.load-by-name": async | trappable,
            "wasi:nn/inference.[method]graph-execution-context.compute": async | trappable,
            "wasi:nn/tensor.[method]tensor.dimensions": async | trappable,
            "wasi:nn/tensor.[method]tensor.ty": async | trappable,
            "wasi:nn/tensor.[method]tensor.data": async | trappable,
            default: trappable,
        },
        with: {
            "wasi:nn/errors.error": crate::script::imports::NnError,
            "wasi:nn/graph.graph": crate::script::imports::NnGraph,
            "wasi:nn/inference.graph-execution-context": crate::script::imports::NnContext,
            "wasi:nn/tensor.tensor": crate::script::imports::NnTensor,
        },
    });
}
