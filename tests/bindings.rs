//! The bindings of the C and the Go SDK are what the generators make of `wit/`; they are checked in, so that an author needs
//! a compiler alone. `REWRITE_GOLDEN=1 cargo test --test scenarios bindings` writes them again.

use std::collections::BTreeMap;
use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};

use crate::support::root;

/// Files by their path in a folder.
type Generated = BTreeMap<String, String>;

#[test]
fn the_c_sdk_has_the_contracts_bindings() {
    // The type of the world is added by `scorehost build`, for every language alike.
    let options = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    are_the_contracts("plugins/sdk/c/generated", &generated(options.build()));
}

#[test]
fn the_go_sdk_has_the_contracts_bindings() {
    let options = wit_bindgen_go::Opts {
        // It would be done by a Go that may be here or not.
        format: wit_bindgen_go::Format::False,
        pkg_name: Some("scorehost/internal/generated".into()),
        export_pkg_name: Some("scorehost/internal/script".into()),
        ..Default::default()
    };
    let mut files = generated(options.build());
    for text in files.values_mut() {
        // The SDK brings the memory and the types that the generated code uses, and nothing is fetched.
        *text = text.replace("go.bytecodealliance.org/pkg/wit/", "scorehost/internal/wit/");
    }
    are_the_contracts("plugins/sdk/go/internal/generated", &files);
}

fn generated(mut generator: Box<dyn WorldGenerator>) -> Generated {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).unwrap();
    let world = resolve.select_world(&[package], Some("scoring-script")).unwrap();
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    files.iter().map(|(name, bytes)| (name.to_owned(), text(bytes))).collect()
}

/// Compares a folder with what was generated, or rewrites it.
#[track_caller]
fn are_the_contracts(folder: &str, generated: &Generated) {
    assert!(!generated.is_empty());
    let folder = root().join(folder);
    if std::env::var_os("REWRITE_GOLDEN").is_some() {
        drop(std::fs::remove_dir_all(&folder));
        for (name, text) in generated {
            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let found = contents(&folder);
    let names = |files: &Generated| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(generated), "in {}", folder.display());
    for (name, text) in generated {
        let same = found[name] == *text;
        assert!(same, "{} is not what wit/ gives; REWRITE_GOLDEN=1 writes it again", folder.join(name).display());
    }
}

fn contents(folder: &Path) -> Generated {
    let files = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}
