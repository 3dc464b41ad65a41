//! JavaScript and TypeScript: esbuild makes one file of the script, the SDK and what they import, with the types taken
//! away; componentize-qjs takes a snapshot of QuickJS that has run it.
//!
//! What goes in: `script.ts` or `script.js`, and the SDK. What comes out: a component. Types are not checked.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::tools::{run, without_a_host};
use super::{ProjectError, Workplace};

/// The versions of npm's packages that this host is tested with.
const PACKAGES: &str = include_str!("../../../plugins/tools/package.json");

/// The script's file, in the order in which they are looked for: a `.js` beside a `.ts` was made of it.
const SOURCES: [&str; 2] = ["script.ts", "script.js"];

/// Builds the script and what it imports.
pub(super) fn build(place: &Workplace<'_>) -> Result<(), ProjectError> {
    let source = SOURCES.map(|name| place.project.join(name)).into_iter().find(|path| path.is_file());
    let Some(source) = source else {
        let reason = "there is no `script.ts` and no `script.js`".to_owned();
        return Err(ProjectError::Source { path: place.project.to_owned(), reason });
    };
    let hint = format!("npm install --prefix {} --save-dev --save-exact {}", place.project.display(), pinned());
    let esbuild = place.find_tool("ESBUILD", &["esbuild"], &hint)?;
    let componentize = place.find_tool("COMPONENTIZE_QJS", &["componentize-qjs"], &hint)?;
    let with = |option: &str, path: &Path| -> OsString { [option.as_ref(), path.as_os_str()].into_iter().collect() };
    let bundle = place.scratch.join("bundle.js");
    let mut command = Command::new(esbuild);
    command.current_dir(place.project).args(["--bundle", "--format=esm", "--target=es2022", "--color=false"]);
    command.args(["--log-level=error", "--external:scorehost:script/*"]);
    command.arg(with("--alias:scorehost:author=", &source));
    command.arg(with("--alias:scorehost=", &place.sdk.join("scorehost.ts")));
    command.arg(place.sdk.join("entry.ts")).arg(with("--outfile=", &bundle));
    run(&mut command)?;
    let mut command = Command::new(componentize);
    // Its world has no asynchronous functions, and not every engine would take its asynchronous form.
    command.current_dir(place.scratch).args(["--sync", "--world", "scoring-script", "--wit"]).arg(place.wit);
    command.arg("--js").arg(bundle).arg("--output").arg(place.component);
    run(&mut command).map_err(|error| without_a_host(error, &source))
}

/// The packages with their versions, as npm takes them.
fn pinned() -> String {
    #[derive(serde::Deserialize)]
    struct Package {
        dependencies: std::collections::BTreeMap<String, String>,
    }
    let package: Package = serde_json::from_str(PACKAGES).expect("package.json is part of the source; this is a bug");
    let packages = package.dependencies.iter().map(|(name, version)| format!("{name}@{version}"));
    packages.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_install_is_named_with_its_versions() {
        let pinned = pinned();
        let versions: Vec<_> = pinned.split(' ').map(|package| package.rsplit_once('@').unwrap()).collect();
        assert!(versions.iter().any(|(name, _)| *name == "componentize-qjs"), "{pinned}");
        assert!(versions.iter().any(|(name, _)| *name == "esbuild"), "{pinned}");
        assert!(versions.iter().all(|(_, version)| version.split('.').all(|n| n.parse::<u32>().is_ok())), "{pinned}");
    }
}
