//! Which form of a kernel is the fastest on an adapter, as measured on it: kept by adapter, driver and the kernel's whole
//! text, in which every size of the layer stands. Never by batch, or a picture's bits would depend on its company.
//!
//! What comes out: a table, read when a device is opened and written by `scorehost devices --tune`. Measuring is `model`'s.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::adapter::AdapterReport;
use crate::cache::{Private, hex};

/// The most bytes that a table may have; a form takes about a hundred.
const MOST_BYTES: u64 = 4 << 20;

/// The forms that were chosen on one adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Tuning {
    /// The adapter and driver, for readers of the file.
    adapter: String,
    /// The digest of the kernel's untuned text → the name of the form.
    forms: BTreeMap<String, String>,
}

impl Tuning {
    /// What was kept for this adapter; nothing if there is no such file, or it is not one.
    pub(super) fn read(cache: &Private, adapter: &AdapterReport) -> Self {
        let read = cache.read(&file_name(adapter), MOST_BYTES).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let read: Self = read.unwrap_or_default();
        // The name of the file is a digest, so this differs only if somebody changed it.
        if read.adapter == identity(adapter) { read } else { Self { adapter: identity(adapter), ..Self::default() } }
    }

    /// Keeps the table.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn keep(&self, cache: &Private, adapter: &AdapterReport) -> std::io::Result<()> {
        cache.keep(&file_name(adapter), &serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?)
    }

    /// The form for the kernel whose untuned text is `source`.
    pub(super) fn form(&self, source: &str) -> Option<&str> {
        self.forms.get(&digest(source)).map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    pub(super) fn choose(&mut self, source: &str, form: String) {
        self.forms.insert(digest(source), form);
    }

    /// A short name of the whole table: other forms may give other bits.
    pub(super) fn name(&self) -> String {
        if self.forms.is_empty() {
            return "untuned".into();
        }
        let all: String = self.forms.iter().map(|(source, form)| format!("{source} {form}\n")).collect();
        format!("tuned {}", &digest(&all)[..12])
    }
}

fn identity(adapter: &AdapterReport) -> String {
    format!("{} {} {}", adapter.backend, adapter.name, adapter.driver)
}

fn file_name(adapter: &AdapterReport) -> String {
    format!("tuning-{}.json", &digest(&identity(adapter))[..16])
}

/// The digest of `text`, in hexadecimal digits.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}
