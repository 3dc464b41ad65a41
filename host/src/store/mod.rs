//! Where bytes live: folders of this machine, and places in object stores.
//!
//! What goes in: a folder's path, or a place's name. What comes out: the files below it that a job may read, by their
//! relative paths; and an output that appears at a place once it is whole. A job never speaks to a store itself: it is
//! behind a wall without a network, and holds no keys. A process of its own fetches files into a folder for it
//! ([`objects`]), a little ahead of what is scored, and removes them again ([`Spool`]).

mod cause;
mod local;
pub mod objects;
mod spool;
mod url;
mod words;

pub use local::{MAX_FILES, StoreError, list, private_folder, view_of_file};
pub use spool::{Spool, SpoolError, SpoolFolder};
pub use url::{BadUrl, StoreUrl};
pub use words::{Ask, Tell};
