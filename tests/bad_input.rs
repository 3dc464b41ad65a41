//! Files, deployments, scripts, models and disks that are not as they should be: each gives one clear error that names
//! what it is about, and nothing else is lost.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::{Place, Ran, demo, root, scripts, skip_unprivileged};

/// Pictures of the demo, and their classes.
const GOOD: [(&str, usize); 4] =
    [("0000_arrow.jpg", 0), ("0003_cross.png", 3), ("0006_ring.gif", 6), ("0005_hexagon.tiff", 5)];

const BY_FILE: &str = "score-by-file";
const BY_BATCH: &str = "score-by-batch";

fn model() -> PathBuf {
    demo("model")
}

fn picture(name: &str) -> Vec<u8> {
    std::fs::read(demo("pictures").join(name)).unwrap()
}

/// The first part of a picture.
fn cut(name: &str, bytes: usize) -> Vec<u8> {
    picture(name)[..bytes].to_vec()
}

/// A valid PNG of zeros, 30,000 × 30,000, RGB: 2.7 GB in a few megabytes.
fn png_bomb() -> Vec<u8> {
    const SIDE: u32 = 30_000;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, SIDE, SIDE);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fastest);
    encoder.set_filter(png::Filter::NoFilter);
    let mut writer = encoder.write_header().unwrap();
    let mut stream = writer.stream_writer_with_size(1 << 20).unwrap();
    let rows = vec![0; SIDE as usize * 3];
    (0..SIDE).for_each(|_| stream.write_all(&rows).unwrap());
    stream.finish().unwrap();
    writer.finish().unwrap();
    bytes
}

/// The JPEG with another size in its frame header.
fn jpeg_of_size(name: &str, side: u16) -> Vec<u8> {
    let mut bytes = picture(name);
    let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
    bytes
}

/// Files that cannot be scored, with a part of the reason.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let bmp_of_size = |side: u32| {
        let mut bytes = picture("0004_heart.bmp");
        bytes[18..22].copy_from_slice(&side.to_le_bytes());
        bytes[22..26].copy_from_slice(&side.to_le_bytes());
        bytes
    };
    vec![
        ("empty.jpg", Vec::new(), "the file is empty"),
        ("cut.jpg", cut("0000_arrow.jpg", 900), "the JPEG is cut off"),
        ("cut-in-header.jpg", cut("0000_arrow.jpg", 20), "the JPEG is cut off"),
        ("cut.png", cut("0003_cross.png", 9000), "the PNG is cut off"),
        ("cut.gif", cut("0006_ring.gif", 5000), "the GIF is cut off"),
        ("cut.tiff", cut("0005_hexagon.tiff", 9000), "the TIFF is cut off"),
        ("cut.bmp", cut("0004_heart.bmp", 9000), "the BMP is cut off"),
        // What a file holds decides, not what it is called.
        ("text.jpg", b"this is no picture".to_vec(), "not a picture (png, jpeg, tiff, bmp, gif): it begins with"),
        ("script.png", b"#!/bin/sh\n".to_vec(), "not a picture"),
        ("zeros.gif", vec![0; 1000], "not a picture"),
        ("bomb.png", png_bomb(), "30000 × 30000 pixels, more than the"),
        ("bomb.jpg", jpeg_of_size("0000_arrow.jpg", 65_000), "65000 × 65000 pixels, more than the"),
        ("bomb.bmp", bmp_of_size(60_000), "60000 × 60000 pixels, more than the"),
    ]
}

#[test]
fn bad_pictures_fail_alone_with_their_reason() {
    if scripts().is_none() {
        return;
    }
    let bad = bad_files();
    let place = Place::with_pictures(&GOOD.map(|(name, _)| name));
    for (name, bytes, _) in &bad {
        std::fs::write(place.at("input").join(name), bytes).unwrap();
    }
    // A PNG by another name is a good picture.
    std::fs::copy(demo("pictures/0010_arrow.png"), place.at("input/0010_arrow.jpg")).unwrap();
    let mut good = [GOOD.as_slice(), &[("0010_arrow.jpg", 0)]].concat();
    good.sort_unstable();

    for script in [BY_FILE, BY_BATCH] {
        place.deploy_model(&model(), script, &["mini_batch_size: 4"], &[]);
        let ran = place.run(&["--overwrite"]).completed();
        let scored = ran.scored();
        let rows: Vec<_> = scored.iter().map(|row| (row.file.as_str(), row.class)).collect();
        assert_eq!(rows, good, "{script}");
        let errors = ran.errors();
        assert_eq!(errors.len(), bad.len(), "{script}: {errors:?}");
        // Digits sort before letters: the good files come first.
        let mut names: Vec<_> = bad.iter().collect();
        names.sort_by_key(|(name, ..)| *name);
        for (i, ((name, _, reason), row)) in names.iter().zip(&errors).enumerate() {
            let mini_batch = ((good.len() + i) / 4).to_string();
            assert_eq!(row[..4], [*name, &mini_batch, "1", "file"], "{script}");
            assert!(row[4].contains(reason), "{script}: {row:?}");
        }
        let record = ran.record();
        assert_eq!(record["counts"]["retries"], 0, "{script}");
        let peak = record["peak_memory_bytes"].as_u64().unwrap();
        assert!(peak < 512 << 20, "{script}: {peak} bytes, with pictures that would take gigabytes");
    }
}

#[test]
fn every_kind_of_picture_decodes() {
    if scripts().is_none() {
        return;
    }
    // CMYK, 16-bit, palette, alpha, grey, animated and many more, as tests/reference/make_pictures.py draws them.
    let pictures = root().join("tests/reference/pictures");
    let mut names: Vec<_> =
        std::fs::read_dir(&pictures).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 50);
    for script in [BY_FILE, BY_BATCH] {
        let place = Place::new();
        place.deploy_model(&model(), script, &[], &[]);
        let ran = place.score(&pictures, &["--device", "cpu"]).completed();
        assert_eq!(ran.scored().into_iter().map(|row| row.file).collect::<Vec<_>>(), names, "{script}");
        assert!(ran.errors().is_empty(), "{script}: {:?}", ran.errors());
    }
}

/// A GIF's first frame, with a palette of its own.
fn gif_frame(name: &str) -> (u16, u16, gif::Frame<'static>) {
    let bytes = picture(name);
    let mut decoder = gif::DecodeOptions::new().read_info(bytes.as_slice()).unwrap();
    let palette = decoder.global_palette().map(<[u8]>::to_vec);
    let mut frame = decoder.read_next_frame().unwrap().unwrap().clone();
    frame.palette = frame.palette.or(palette);
    (decoder.width(), decoder.height(), frame)
}

#[test]
fn the_first_frame_of_an_animation_is_scored() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0006_ring.gif"]);
    let (width, height, first) = gif_frame("0006_ring.gif");
    let (_, _, second) = gif_frame("0013_cross.gif");
    let mut animated = Vec::new();
    let mut encoder = gif::Encoder::new(&mut animated, width, height, &[]).unwrap();
    encoder.write_frame(&first).unwrap();
    encoder.write_frame(&second).unwrap();
    drop(encoder);
    std::fs::write(place.at("input/animated.gif"), animated).unwrap();
    place.deploy_model(&model(), BY_FILE, &[], &[]);
    let rows = place.run(&[]).completed().scored();
    assert_eq!((rows[0].class, rows[0].probability), (rows[1].class, rows[1].probability));
    assert_eq!(rows[0].class, 6);
}

#[cfg(unix)]
#[test]
fn pipes_and_links_to_nowhere_do_not_hold_a_job_up() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    let made = Command::new("mkfifo").arg(place.at("input/pipe.jpg")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("nowhere", place.at("input/dangling.jpg")).unwrap();
    std::os::unix::fs::symlink("round.jpg", place.at("input/round.jpg")).unwrap();
    place.deploy_model(&model(), BY_FILE, &[], &[]);
    let ran = place.run(&["--set", "settings.retry_settings.timeout=20"]).completed();
    assert_eq!(ran.scored().len(), 1);
}

#[test]
fn a_file_that_is_gone_when_the_job_resumes_fails_alone() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&GOOD.map(|(name, _)| name));
    std::fs::write(place.at("input/0001_bad.jpg"), "").unwrap();
    let settings = ["mini_batch_size: 1", "error_threshold: 0"];
    place.deploy_model(&model(), BY_FILE, &settings, &[]);
    let ran = place.run(&[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    std::fs::remove_file(place.at("input/0005_hexagon.tiff")).unwrap();
    let ran = place.run(&["--resume", "--set", "settings.error_threshold=-1"]).completed();
    assert_eq!(ran.scored().iter().map(|row| row.class).collect::<Vec<_>>(), [0, 3, 6]);
    let errors = ran.errors();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(errors[1][..4], ["0005_hexagon.tiff", "3", "1", "file"]);
    assert!(errors[1][4].contains("cannot read the file: No such file"), "{errors:?}");
}

#[test]
fn a_file_that_vanishes_while_the_job_runs_fails_alone() {
    if scripts().is_none() {
        return;
    }
    // Enough that the last one is not read ahead before it is gone.
    const COUNT: usize = 3000;
    for script in [BY_FILE, BY_BATCH] {
        let place = Place::new();
        std::fs::copy(demo("pictures/0000_arrow.jpg"), place.at("picture")).unwrap();
        for i in 0..COUNT {
            std::fs::hard_link(place.at("picture"), place.at(&format!("input/{i:04}.jpg"))).unwrap();
        }
        place.deploy_model(&model(), script, &[], &[]);
        let child = place.command(&["--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The plan is stored before the journal.
        while !place.at("output/.scorehost/journal").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::fs::remove_file(place.at("input/2999.jpg")).unwrap();
        let ran = Ran::of(&child.wait_with_output().unwrap(), &place.at("output")).completed();
        assert_eq!(ran.scored().len(), COUNT - 1, "{script}");
        let errors = ran.errors();
        assert_eq!(errors.len(), 1, "{script}: {errors:?}");
        assert_eq!(errors[0][..4], ["2999.jpg", "299", "1", "file"], "{script}");
        assert!(errors[0][4].contains("cannot read the file: No such file"), "{script}: {errors:?}");
    }
}

/// Runs the job as an account that file modes bind: root is not bound, so the command becomes `nobody`, with what it
/// needs copied to where `nobody` may read.
#[cfg(unix)]
fn run_unprivileged(place: &Place) -> Ran {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let mut command = place.command(&[]);
    if std::fs::metadata(place.at("input")).unwrap().uid() == 0 {
        let binary = place.at("scorehost");
        std::fs::copy(env!("CARGO_BIN_EXE_scorehost"), &binary).unwrap();
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(root().join("target/scripts/score-by-file.wasm"), place.at("script.wasm")).unwrap();
        std::fs::create_dir(place.at("model")).unwrap();
        std::fs::copy(model().join("resnet14v2-shapes.onnx"), place.at("model/model.onnx")).unwrap();
        let text = "type: model\nmodel: model\ncode_configuration: {code: ., scoring_script: script.wasm}\n";
        std::fs::write(place.at("deployment.yml"), format!("name: test\n{text}")).unwrap();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new(binary);
        command.args(arguments).uid(NOBODY).gid(NOBODY);
        command.env("SCOREHOST_CACHE", place.at("cache")).env_remove("ORT_DYLIB_PATH");
        let folder = place.at("input").parent().unwrap().to_owned();
        for path in [folder.clone(), place.at("input")].into_iter().chain(files_below(&folder)) {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    Ran::of(&command.current_dir(place.at("input")).output().unwrap(), &place.at("output"))
}

#[cfg(unix)]
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|p| p.is_dir());
    folders.iter().flat_map(|f| files_below(f)).chain(folders.clone()).chain(files).collect()
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_fails_alone() {
    use std::os::unix::fs::PermissionsExt;
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg", "0003_cross.png", "0006_ring.gif"]);
    std::fs::set_permissions(place.at("input/0003_cross.png"), std::fs::Permissions::from_mode(0o000)).unwrap();
    place.deploy_model(&model(), BY_FILE, &[], &[]);
    let ran = run_unprivileged(&place).completed();
    assert_eq!(ran.scored().iter().map(|row| row.class).collect::<Vec<_>>(), [0, 6]);
    let errors = ran.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0][..4], ["0003_cross.png", "0", "1", "file"]);
    assert!(errors[0][4].contains("cannot read the file: Permission denied"), "{errors:?}");
}

#[cfg(unix)]
#[test]
fn an_output_that_may_not_be_written_is_refused_at_once() {
    use std::os::unix::fs::PermissionsExt;
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    std::fs::create_dir(place.at("output")).unwrap();
    std::fs::set_permissions(place.at("output"), std::fs::Permissions::from_mode(0o555)).unwrap();
    place.deploy_model(&model(), BY_FILE, &[], &[]);
    let ran = run_unprivileged(&place);
    refused(&ran, 2, "cannot be written to: Permission denied", "name an output folder that this user may write to");
}

/// The command refused: this exit code, one error that says this, and one cure that says that; an empty one is none.
#[track_caller]
fn refused(ran: &Ran, code: i32, error: &str, hint: &str) {
    let of = |start: &str| ran.stderr.lines().filter_map(|line| line.strip_prefix(start)).collect::<Vec<_>>();
    assert_eq!(ran.code, code, "{}", ran.stderr);
    let [text] = of("error: ")[..] else { panic!("not one error: {}", ran.stderr) };
    assert!(text.contains(error), "{text}\nlacks {error}");
    // A cause that its error's text holds already comes twice.
    let mut parts: Vec<_> = text.split(": ").collect();
    let count = parts.len();
    parts.sort_unstable();
    parts.dedup();
    assert_eq!(parts.len(), count, "said twice: {text}");
    match of("hint: ")[..] {
        [] => assert!(hint.is_empty(), "{}\nlacks the hint {hint}", ran.stderr),
        [cure] => assert!(!hint.is_empty() && cure.contains(hint), "{cure}\nis not {hint:?}"),
        _ => panic!("several hints: {}", ran.stderr),
    }
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("backtrace"), "{}", ran.stderr);
}

/// A deployment's text, with a good script and model where these lines do not say otherwise.
fn deployment(lines: &[&str]) -> String {
    let scripts = root().join("target/scripts");
    let key = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let given: Vec<_> = lines.iter().map(|line| key(line)).collect();
    let code = format!("code_configuration: {{code: {}, scoring_script: score-by-file.wasm}}", scripts.display());
    let model = format!("model: {}", model().display());
    let defaults = ["name: test", "type: model", &code, &model];
    let rest = defaults.into_iter().filter(|line| !given.contains(&key(line)));
    rest.chain(lines.iter().copied()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn deployments_are_refused_by_line_with_a_cure() {
    if scripts().is_none() {
        return;
    }
    let by_file = |more: &str| {
        format!("code_configuration: {{code: {}, scoring_script: {more}}}", root().join("target/scripts").display())
    };
    let (absent, no_script) = (by_file("score-by-none.wasm"), by_file("score-by-file.wasm, colour: red"));
    let cases: [(&[&str], &str, &str); 11] = [
        (
            &["settings: {mini_batch_sise: 3}"],
            "line 5: unknown key `settings.mini_batch_sise`",
            "did you mean `mini_batch_size`?",
        ),
        (&["modle: x"], "unknown key `modle`", "did you mean `model`?"),
        (&["settings: {mini_batch_size: three}"], "line 5: `settings.mini_batch_size` is the text `three`", ""),
        (
            &["settings: {mini_batch_size: 0}"],
            "`settings.mini_batch_size` is the number `0`; allowed is a whole number from 1",
            "",
        ),
        (&["settings: [1]"], "`settings` is a list", ""),
        (&["settings: {output_format: xml}"], "`settings.output_format` is the text `xml`; allowed is `azure`", ""),
        (
            &["settings: {mini_batch_size: 3, mini_batch_size: 4}"],
            "`mini_batch_size` is already written",
            "keep one of them",
        ),
        (&["settings: {"], "line 6: not YAML: while parsing a node", ""),
        (&[&no_script], "unknown key `code_configuration.colour`", ""),
        (
            &[&absent],
            "score-by-none.wasm`, which cannot be opened: No such file",
            "paths are taken from the folder of the deployment file",
        ),
        (
            &["model: nowhere"],
            "nowhere`, which cannot be opened: No such file",
            "paths are taken from the folder of the deployment file",
        ),
    ];
    for (lines, error, hint) in cases {
        let place = Place::with_pictures(&["0000_arrow.jpg"]);
        std::fs::write(place.at("deployment.yml"), deployment(lines)).unwrap();
        let ran = place.run(&[]);
        println!("{}", ran.stderr);
        refused(&ran, 2, error, hint);
        assert!(ran.stderr.contains("deployment.yml`"), "{}", ran.stderr);
        assert!(!place.at("output").exists(), "{lines:?}: a refused job leaves nothing");
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    refused(&place.run(&[]), 2, "deployment.yml`: No such file", "");
    std::fs::write(place.at("deployment.yml"), b"name: \xff\xfe").unwrap();
    refused(&place.run(&[]), 2, "deployment.yml` line 1: not UTF-8 text", "");
    std::fs::write(place.at("deployment.yml"), "").unwrap();
    refused(&place.run(&[]), 2, "deployment.yml` line 1: the file is empty", "");
}

/// The bytes with every `from` made `to`, of the same length.
fn patched(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (mut bytes, mut found) = (bytes.to_vec(), 0);
    for i in 0..bytes.len().saturating_sub(from.len() - 1) {
        if bytes[i..].starts_with(from.as_bytes()) {
            bytes[i..i + to.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "`{from}` is nowhere");
    bytes
}

#[test]
fn what_is_not_a_script_of_this_contract_is_refused_in_plain_words() {
    if scripts().is_none() {
        return;
    }
    let built = std::fs::read(root().join("target/scripts/score-by-file.wasm")).unwrap();
    let mut other_version = built.clone();
    for interface in ["script", "types", "images", "models", "tensors"] {
        let name = |version: &str| format!("scorehost:script/{interface}@{version}");
        other_version = patched(&other_version, &name("0.2.0"), &name("0.3.0"));
    }
    let foreign = patched(&built, "scorehost:script", "elsewhere:script");
    let needs_network = patched(&built, "wasi:cli/environment", "wasi:http/environmen");
    let cases: [(&str, &[u8], &str, &str); 8] = [
        ("core module", b"\0asm\x01\0\0\0", "is a core WebAssembly module, not a component", "wasm32-wasip2"),
        (
            "empty component",
            b"\0asm\x0d\0\x01\0",
            "it exports nothing, not `scorehost:script/script@0.2.0`",
            "`scoring-script` world",
        ),
        ("foreign", &foreign, "it exports `elsewhere:script/script@0.2.0`, not", "`scoring-script` world"),
        (
            "other version",
            &other_version,
            "was built for contract 0.3.0; this host speaks 0.2.0 and 0.1.0",
            "rebuild the script",
        ),
        (
            "other import",
            &needs_network,
            "imports what this host does not offer: `wasi:http/",
            "scripts have no network",
        ),
        ("source", b"def init():\n    pass\n", "is not WebAssembly", "names the compiled component, not its source"),
        ("empty", b"", "is not WebAssembly", "names the compiled component, not its source"),
        ("cut off", &built[..built.len() / 2], "does not compile", ""),
    ];
    for (what, bytes, error, hint) in cases {
        let place = Place::with_pictures(&["0000_arrow.jpg"]);
        std::fs::write(place.at("script.wasm"), bytes).unwrap();
        let text = deployment(&["code_configuration: {code: ., scoring_script: script.wasm}"]);
        std::fs::write(place.at("deployment.yml"), text).unwrap();
        let ran = place.run(&[]);
        println!("{what}: {}", ran.stderr);
        refused(&ran, 2, error, hint);
        assert!(ran.stderr.contains("script.wasm` is refused"), "{what}: {}", ran.stderr);
        assert!(!place.at("output").exists(), "{what}");
        // `check` says the same without a job.
        for path in ["script.wasm", "deployment.yml"] {
            let output = crate::support::scorehost().arg("check").arg(place.at(path)).output().unwrap();
            refused(&Ran::of(&output, &place.at("output")), 2, error, hint);
        }
    }
}

#[test]
fn models_that_cannot_be_opened_are_refused_before_the_first_mini_batch() {
    if scripts().is_none() {
        return;
    }
    let good = std::fs::read(model().join("resnet14v2-shapes.onnx")).unwrap();
    let unsupported = patched(&good, "Relu", "Rexu");
    let cases: [(&str, &[u8], &str); 4] = [
        ("cut off", &good[..good.len() / 2], "is not an ONNX model"),
        ("unsupported operation", &unsupported, "Rexu"),
        ("empty", b"", "is not an ONNX model: it is empty"),
        ("text", b"hello", "is not an ONNX model"),
    ];
    for (what, bytes, error) in cases {
        let place = Place::with_pictures(&["0000_arrow.jpg"]);
        std::fs::create_dir(place.at("model")).unwrap();
        std::fs::write(place.at("model/model.onnx"), bytes).unwrap();
        std::fs::write(place.at("deployment.yml"), deployment(&["model: model"])).unwrap();
        let ran = place.run(&[]);
        println!("{what}: {}", ran.stderr);
        refused(&ran, 2, error, "");
        let about = if what == "unsupported operation" { "stage0.block0.bn1.relu" } else { "model.onnx" };
        assert!(ran.stderr.contains(about), "{what}: {}", ran.stderr);
        assert!(!place.at("output").exists(), "{what}");
    }
}

#[test]
fn a_model_folder_without_a_model_or_with_two_says_so() {
    if scripts().is_none() {
        return;
    }
    for (names, error) in [(&[][..], "holds no `.onnx` file"), (&["a.onnx", "b.onnx"], "`a.onnx`, `b.onnx`; name one")]
    {
        let place = Place::with_pictures(&["0000_arrow.jpg"]);
        std::fs::create_dir(place.at("model")).unwrap();
        for name in names {
            std::fs::copy(model().join("resnet14v2-shapes.onnx"), place.at("model").join(name)).unwrap();
        }
        std::fs::write(place.at("deployment.yml"), deployment(&["model: model"])).unwrap();
        refused(&place.run(&[]), 1, error, "");
    }
}

#[test]
fn a_model_that_does_not_take_pictures_ends_the_job_at_init() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    place.deploy_model(&root().join("tests/reference/models/not-pictures.onnx"), BY_FILE, &[], &[]);
    let ran = place.run(&[]);
    refused(&ran, 1, "the model's input `input` is not a batch of RGB pictures", "");
    assert!(ran.stderr.contains("init failed"), "{}", ran.stderr);
}

#[test]
fn a_tensor_of_the_wrong_shape_names_both_shapes_and_each_file() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg", "0003_cross.png"]);
    place.deploy_model(&model(), "probe", &["mini_batch_size: 1"], &["behave: wrong-shape"]);
    let ran = place.run(&[]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let errors = ran.errors();
    let error = "input `input` takes floats of shape N×3×32×32, not floats of shape 1×3×7×7";
    for (i, (row, name)) in errors.iter().zip(["0000_arrow.jpg", "0003_cross.png"]).enumerate() {
        assert_eq!(row[..4], [name, &i.to_string(), "1", "permanent"]);
        assert!(row[4].contains(error), "{row:?}");
    }
    assert_eq!(errors.len(), 2);
}

#[test]
fn inputs_and_outputs_that_make_no_sense_are_refused() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    place.deploy_model(&model(), BY_FILE, &[], &[]);
    std::fs::create_dir(place.at("nothing")).unwrap();
    std::fs::write(place.at("file"), "").unwrap();
    let run = |input: &str, output: &str| {
        let mut command = crate::support::scorehost();
        command.args(["run", "--device", "cpu", "-f"]).arg(place.at("deployment.yml"));
        command.arg("-i").arg(place.at(input)).arg("-o").arg(place.at(output));
        Ran::of(&command.output().unwrap(), &place.at("output"))
    };
    refused(&run("nowhere", "output"), 2, "nowhere`: No such file", "");
    refused(&run("nothing", "output"), 2, "holds no file that could be scored", "hidden files");
    refused(&run("input", "file"), 2, "file` is not a folder", "");
    refused(&run("input", "no/output"), 2, "the parent folder of", "make the parent folder first");
    run("input", "output").completed();
    refused(&run("input", "output"), 2, "predictions.csv` is there already", "`--overwrite` replaces");
}

/// Runs a shell script in the place, with mounts that end with it. `score FOLDER …` runs the job to that folder.
fn with_mounts(place: &Place, script: &str) -> Option<Output> {
    let all = |how: &'static str| {
        let functions = "score() { \"$0\" run --device cpu --json --quiet -f deployment.yml -i input -o \"$@\"; }\n";
        let mut command = Command::new("unshare");
        command.args([how, "bash", "-uc"]).arg(format!("{functions}{script}")).arg(env!("CARGO_BIN_EXE_scorehost"));
        command.env("SCOREHOST_CACHE", root().join("target/test-cache")).env_remove("ORT_DYLIB_PATH");
        command.current_dir(place.at("input").parent().unwrap());
        command
    };
    for how in ["-m", "-Urm"] {
        let may = Command::new("unshare").args([how, "bash", "-c", "mount -t tmpfs none /mnt"]).output();
        if may.is_ok_and(|output| output.status.success()) {
            return Some(all(how).output().unwrap());
        }
    }
    skip_unprivileged("mount", "this account may not mount, not even in a namespace of its own")
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_the_job_and_loses_nothing() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_files(5000);
    place.probe("fine", &["mini_batch_size: 5"]);
    place.run(&[]).completed();
    let undisturbed = place.read("output/predictions.csv");
    std::fs::create_dir(place.at("small")).unwrap();
    let script = "mount -t tmpfs -o size=120k none small || exit 99
                  score small/output; echo $? >code
                  mount -o remount,size=20m small
                  score small/output --resume; echo $? >code-then
                  cp small/output/*.csv small/output/job.json .";
    let Some(output) = with_mounts(&place, script) else { return };
    let mut ran = Ran::of(&output, &place.at("small/output"));
    ran.code = place.read("code").trim().parse().unwrap();
    let error = "no space is left to write `small/output/.scorehost/";
    refused(&ran, 1, error, "free some space, then continue with `--resume`");
    assert_eq!(place.read("code-then").trim(), "0");
    assert_eq!(place.read("predictions.csv"), undisturbed);
    assert_eq!(place.read("errors.csv").lines().count(), 1);
    let record: serde_json::Value = serde_json::from_str(&place.read("job.json")).unwrap();
    assert_eq!((&record["resumed"], &record["counts"]["rows"]), (&true.into(), &5000.into()));
}

#[cfg(target_os = "linux")]
#[test]
fn read_only_folders_are_good_inputs_and_no_outputs() {
    if scripts().is_none() {
        return;
    }
    let place = Place::with_pictures(&["0000_arrow.jpg"]);
    std::fs::create_dir(place.at("model")).unwrap();
    std::fs::copy(model().join("resnet14v2-shapes.onnx"), place.at("model/model.onnx")).unwrap();
    std::fs::write(place.at("deployment.yml"), deployment(&["model: model"])).unwrap();
    std::fs::create_dir(place.at("fixed")).unwrap();
    let script =
        "mount -t tmpfs -o ro none fixed && mount --bind model model && mount -o remount,bind,ro model || exit 99
                  mount --bind input input && mount -o remount,bind,ro input || exit 99
                  score output >printed && ! touch input/new 2>/dev/null || exit 98
                  score fixed/output";
    let Some(output) = with_mounts(&place, script) else { return };
    let ran = Ran::of(&output, &place.at("output"));
    refused(&ran, 2, "fixed/output` cannot be written to: Read-only file system", "name an output folder");
    assert_eq!(ran.scored().len(), 1);
}
