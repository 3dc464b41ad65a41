//! Versions of the contract: components that were built for an older one run as they did, and refusals name both.
//! `tests/contracts/<version>/` keeps components as they were built then.

use std::path::PathBuf;

use crate::support::{Place, demo, root, scorehost, scripts};

fn kept(name: &str) -> PathBuf {
    root().join("tests/contracts/0.1.0").join(name)
}

/// A deployment of the demo's model with a component at this path.
fn deploy(place: &Place, component: &std::path::Path) {
    let text = format!(
        "name: old\nmodel: {}\ncode_configuration:\n  code: {}\n  scoring_script: {}\n",
        demo("model").display(),
        component.parent().unwrap().display(),
        component.file_name().unwrap().to_str().unwrap(),
    );
    std::fs::write(place.at("deployment.yml"), text).unwrap();
}

#[test]
fn components_of_contract_0_1_0_score_as_todays_do() {
    let Some(scripts) = scripts() else { return };
    let pictures = ["0000_arrow.jpg", "0003_cross.png", "0006_ring.gif", "0005_hexagon.tiff"];
    for name in ["score-by-file.wasm", "score-by-batch.wasm"] {
        let place = Place::with_pictures(&pictures);
        std::fs::write(place.at("input/bad.png"), "no picture").unwrap();
        let [old, today] = [kept(name), scripts.join(name)].map(|component| {
            deploy(&place, &component);
            let ran = place.run(&["--overwrite"]).completed();
            let errors = ran.errors();
            assert_eq!((errors.len(), errors[0][0].as_str()), (1, "bad.png"), "{errors:?}");
            ran.predictions()
        });
        assert_eq!(old.lines().count(), 4);
        assert_eq!(old, today, "{name}");
    }
}

#[test]
fn check_tells_which_contract_a_component_was_built_for() {
    let output = scorehost().arg("check").arg(kept("score-by-file.wasm")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("contract: 0.1.0"), "{text}");
}

#[test]
fn a_component_of_another_contract_is_refused_with_both_versions() {
    let place = Place::new();
    // Names of interfaces stand in the component as they are; those of equal length can be exchanged.
    let replaced = |from: &str, to: &str| {
        let bytes = std::fs::read(kept("score-by-file.wasm")).unwrap();
        let mut text: Vec<u8> = bytes;
        let (from, to) = (from.as_bytes(), to.as_bytes());
        let places: Vec<_> = (0..text.len() - from.len()).filter(|&at| text[at..].starts_with(from)).collect();
        assert!(!places.is_empty());
        places.iter().for_each(|&at| text[at..at + to.len()].copy_from_slice(to));
        text
    };
    for (version, code) in [("0.1.9", 0), ("0.3.0", 2), ("1.0.0", 2)] {
        let path = place.at("other.wasm");
        std::fs::write(&path, replaced("scorehost:script/script@0.1.0", &format!("scorehost:script/script@{version}")))
            .unwrap();
        let output = scorehost().arg("check").arg(&path).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{version}: {stderr}");
        if code == 2 {
            let expected = format!("the script was built for contract {version}; this host speaks 0.2.0 and 0.1.0");
            assert!(stderr.contains(&expected) && stderr.contains("hint: rebuild the script"), "{stderr}");
        }
    }
}
