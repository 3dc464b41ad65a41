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
    },
});
