//! Contract 0.1.0, for scripts that were built against it: what differs from today's, and nothing else.
//!
//! Differences: `tensor.top` gave a list a row; there was no `tables`. Every other function is today's, offered under
//! the older name as well.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, HasSelf, Lift, Linker, Lower, Resource};

use super::bindings::scorehost::script as today;
use super::bindings::scorehost::script::tensors::HostTensor as _;
use super::imports::HostTensor;
use super::state::State;

/// The version that its components name.
pub(crate) const VERSION: &str = "0.1.0";

wasmtime::component::bindgen!({
    inline: "
        package scorehost:previous;
        world exported {
            export scorehost:script/script@0.1.0;
        }
    ",
    path: "../wit/0.1.0",
    exports: { default: async },
    with: { "scorehost:script/types@0.1.0": super::bindings::scorehost::script::types },
});

/// One entry of `top`.
#[derive(Clone, Copy, ComponentType, Lift, Lower)]
#[component(record)]
struct Scored {
    #[component(name = "index")]
    index: u32,
    #[component(name = "score")]
    score: f32,
}

/// Offers the contract's imports under their names of 0.1.0.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    macro_rules! as_today {
        ($($interface:ident),*) => {$(
            let name = concat!("scorehost:script/", stringify!($interface), "@0.1.0");
            today::$interface::add_to_linker_instance::<_, HasSelf<State>>(&mut linker.instance(name)?, |state| state)?;
        )*};
    }
    as_today!(types, context, images, tensors, models, log);
    linker.allow_shadowing(true);
    let mut tensors = linker.instance("scorehost:script/tensors@0.1.0")?;
    tensors.func_wrap_async(
        "[method]tensor.top",
        |mut store: StoreContextMut<'_, State>, (this, k): (Resource<HostTensor>, u32)| {
            Box::new(async move { Ok((store.data_mut().top(this, k).await?.map(by_rows),)) })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn by_rows(largest: today::tensors::Largest) -> Vec<Vec<Scored>> {
    let width = usize::try_from(largest.width).unwrap_or(usize::MAX).max(1);
    let entries = largest.indices.into_iter().zip(largest.scores);
    let entries: Vec<_> = entries.map(|(index, score)| Scored { index, score }).collect();
    entries.chunks(width).map(<[Scored]>::to_vec).collect()
}
