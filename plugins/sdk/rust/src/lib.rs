//! Write a Scorehost scoring script in Rust: a plain `fn init` and `fn run`.
//!
//! ```ignore
//! use scorehost_sdk::{Image, Model, Output, Recipe, Result, file_name, script};
//!
//! struct Scorer { model: Model, recipe: Recipe }
//!
//! fn init() -> Result<Scorer> {
//!     let model = Model::open(None)?;
//!     let recipe = Recipe::for_model(&model)?;
//!     Ok(Scorer { model, recipe })
//! }
//!
//! fn run(scorer: &mut Scorer, mini_batch: &[String]) -> Result<Output> {
//!     Output::by_file(mini_batch, ["file", "class"], |file| {
//!         let logits = scorer.model.predict(&Image::open(file)?.tensor(&scorer.recipe)?)?;
//!         Ok((file_name(file), logits.best()?.0))
//!     })
//! }
//!
//! script!(init, run);
//! ```
//!
//! What `init` returns is handed to each `run`. A panic ends the instance, and its text is in the mini-batch's error;
//! the next attempt begins with `init` on a fresh one.

mod output;
mod table;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "scoring-script",
        pub_export_macro: true,
        default_bindings_module: "scorehost_sdk::bindings",
        generate_all,
    });
}

use bindings::exports::scorehost::script::script::Failure as ExportedFailure;
pub use bindings::scorehost::script::context;
pub use bindings::scorehost::script::images::{self, Filter, Image, Layout, Recipe};
pub use bindings::scorehost::script::log::{self, Level};
pub use bindings::scorehost::script::models::{Model, Port};
pub use bindings::scorehost::script::tables::{Field, Kind, Writer};
pub use bindings::scorehost::script::tensors::{Element, Largest, Tensor, concatenate, stack};
pub use bindings::scorehost::script::types::{Cells, Column, Failure};
pub use output::{Cell, Output, Row};
pub use table::{Batch, Table};

/// What `init` and `run` return.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure that would come again, from any error.
    pub fn permanent(reason: impl std::fmt::Display) -> Self {
        Failure::Permanent(reason.to_string())
    }

    /// A failure worth another attempt, from any error.
    pub fn transient(reason: impl std::fmt::Display) -> Self {
        Failure::Transient(reason.to_string())
    }

    /// Its reason in words.
    pub fn reason(&self) -> &str {
        match self {
            Failure::Transient(reason) | Failure::Permanent(reason) => reason,
        }
    }
}

impl From<String> for Failure {
    /// A failure that would come again.
    fn from(reason: String) -> Self {
        Failure::Permanent(reason)
    }
}

impl From<&str> for Failure {
    /// A failure that would come again.
    fn from(reason: &str) -> Self {
        Failure::Permanent(reason.to_owned())
    }
}

impl From<std::io::Error> for Failure {
    /// A file that cannot be read would not be readable the next time.
    fn from(error: std::io::Error) -> Self {
        Failure::Permanent(error.to_string())
    }
}

/// The last part of a path: `cat.jpg` for `/input/pets/cat.jpg`.
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The setting `key` of the deployment as a number, or `default` where it is absent.
///
/// # Errors
/// If it is there and not a number.
pub fn setting_or<T: std::str::FromStr>(key: &str, default: T) -> Result<T> {
    match context::setting(key) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("setting `{key}` is `{text}`, which is not a number").into()),
    }
}

impl Recipe {
    /// The recipe that a picture model's only input asks for: its size and layout, bytes where it takes bytes, and
    /// else floats in [0, 1].
    ///
    /// # Errors
    /// If the input is not a batch of RGB pictures of fixed size.
    pub fn for_model(model: &Model) -> Result<Recipe> {
        let inputs = model.inputs();
        let [input] = inputs.as_slice() else {
            return Err(format!("the model has {} inputs, not one", inputs.len()).into());
        };
        let (height, width, layout) = match input.shape.as_slice() {
            [_, Some(3), Some(height), Some(width)] => (*height, *width, Layout::ChannelsFirst),
            [_, Some(height), Some(width), Some(3)] => (*height, *width, Layout::ChannelsLast),
            other => {
                return Err(
                    format!("the model's input `{}` is not a batch of RGB pictures: {other:?}", input.name).into()
                );
            }
        };
        let recipe = Recipe::new(width, height);
        recipe.layout(layout);
        match input.element {
            Element::Float => recipe.normalize(1.0 / 255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            Element::UnsignedByte => recipe.bytes(),
            Element::Integer => {
                return Err(format!("the model's input `{}` takes integers, not pictures", input.name).into());
            }
        }
        Ok(recipe)
    }
}

impl Tensor {
    /// The largest entry of each row, as index and score.
    ///
    /// # Errors
    /// If the tensor's computation failed.
    pub fn best_of_rows(&self) -> Result<Vec<(u32, f32)>> {
        let best = self.top(1)?;
        Ok(best.indices.into_iter().zip(best.scores).collect())
    }

    /// The largest entry of the first row, as index and score.
    ///
    /// # Errors
    /// If the tensor's computation failed, or it is empty.
    pub fn best(&self) -> Result<(u32, f32)> {
        self.best_of_rows()?.first().copied().ok_or_else(|| "the model gave no scores".into())
    }
}

#[doc(hidden)]
pub fn exported_failure(failure: Failure) -> ExportedFailure {
    failure
}

/// Makes two functions a scoring script: `fn init() -> Result<S>` and `fn run(&mut S, &[String]) -> Result<Output>`.
#[macro_export]
macro_rules! script {
    ($init:path, $run:path) => {
        const _: () = {
            use $crate::bindings::exports::scorehost::script::script as contract;

            struct Script;

            type State = ::std::boxed::Box<
                dyn ::std::ops::FnMut(&[::std::string::String]) -> $crate::Result<$crate::Output>,
            >;

            ::std::thread_local! {
                static STATE: ::std::cell::RefCell<::std::option::Option<State>> = const { ::std::cell::RefCell::new(None) };
            }

            impl contract::Guest for Script {
                fn init() -> ::std::result::Result<(), $crate::Failure> {
                    let mut state = $init()?;
                    STATE.set(Some(::std::boxed::Box::new(move |files: &[::std::string::String]| $run(&mut state, files))));
                    Ok(())
                }

                fn run(
                    mini_batch: ::std::vec::Vec<::std::string::String>,
                ) -> ::std::result::Result<contract::Output, $crate::Failure> {
                    STATE.with_borrow_mut(|state| {
                        let run = state.as_mut().expect("the host calls init first");
                        run(&mini_batch)?.into_contract()
                    })
                }
            }

            $crate::bindings::export!(Script with_types_in $crate::bindings);
        };
    };
}
