//! Landlock: which files a process may open, and that it opens no connection.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Compatible, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::{Layer, Reach};

/// All that is asked for. Older kernels do less: from version 4 on connections are refused and from 6 on signals to
/// others, both of which seccomp does as well, and from 5 on commands to devices, of which only those of GPUs are open.
const NEWEST: ABI = ABI::V9;

/// Below this, files outside could be cut off.
const OLDEST: ABI = ABI::V3;

/// What programs, shared libraries, ONNX Runtime and the drivers of GPUs read of a system.
const SYSTEM: [&str; 25] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/run/opengl-driver",
    "/proc",
    "/sys",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/passwd",
    "/etc/vulkan",
    "/etc/glvnd",
    "/etc/egl",
    "/etc/drirc",
    "/etc/nvidia",
    "/etc/OpenCL",
    "/etc/os-release",
    "/dev/random",
    "/dev/urandom",
    "/dev/zero",
    "/dev/null",
];

/// The devices that are written to, by the beginning of their name in `/dev`: GPUs, and shared memory.
const DEVICES: [&str; 8] = ["null", "dri", "nvidia", "kfd", "dxg", "mali", "udmabuf", "shm"];

/// Files and folders of drivers and libraries that the environment names.
const DRIVER_VARIABLES: [&str; 4] = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "LD_LIBRARY_PATH"];

/// Where drivers are registered, below folders that hold other programs' things as well.
const REGISTERED: [&str; 2] = ["vulkan", "glvnd"];

/// Where drivers keep compiled shaders.
const DRIVER_CACHES: [&str; 2] = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// The most that is looked at of a folder of libraries; the largest that are in use have some thousands.
const MOST_BESIDE: usize = 10_000;

/// Restricts this thread, and those that it starts, to `reach` and the system; without one, to what is open already.
pub(super) fn restrict(reach: Option<&Reach>) -> Layer {
    let opens = reach.and_then(|reach| reach.write.iter().find(|folder| opens(folder, &reach.sealed)));
    match (ruled(reach), opens) {
        (Err(error), _) => Layer::Missing(error.to_string()),
        (Ok(status), Some(folder)) if layer(&status) == Layer::On => Layer::Missing(format!(
            "`{}`, which is written to, is above files that must not be changed: name another folder",
            folder.display()
        )),
        (Ok(status), _) => layer(&status),
    }
}

/// Whether somebody who may write below `folder` could change one of the folders `sealed`, or put another in its place.
fn opens(folder: &Path, sealed: &[PathBuf]) -> bool {
    // Of what is not there, nothing is opened.
    let Ok(folder) = folder.canonicalize() else { return false };
    let sealed = sealed.iter().filter_map(|path| std::path::absolute(path).ok());
    // Each folder on the way counts: there could be links in it.
    sealed
        .into_iter()
        .any(|path| path.ancestors().filter_map(|way| way.canonicalize().ok()).any(|real| real.starts_with(&folder)))
}

fn layer(status: &RestrictionStatus) -> Layer {
    match status.landlock {
        _ if status.ruleset == RulesetStatus::NotEnforced => Layer::Missing("this kernel has none".into()),
        LandlockStatus::Available { effective_abi, .. } if effective_abi < OLDEST => Layer::Missing(format!(
            "this kernel has version {} of it, {} is needed",
            effective_abi as i32, OLDEST as i32
        )),
        _ => Layer::On,
    }
}

fn ruled(reach: Option<&Reach>) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(landlock::CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    if let Some(reach) = reach {
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let device = read | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::Truncate;
        // Neither programs nor devices come into being in a job's folders; nor links and pipes, which whoever reads an
        // output would follow or wait for.
        let no: BitFlags<AccessFs> = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym | IoctlDev | ResolveUnix});
        let write = AccessFs::from_all(NEWEST) & !no;
        let caches = DRIVER_CACHES.iter().filter_map(std::env::var_os).map(PathBuf::from);
        let caches = caches.filter(|folder| !opens(folder, &reach.sealed));
        rules = rules
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(drivers(), read))?
            .add_rules(path_beneath_rules(devices(), device))?
            .add_rules(path_beneath_rules(&reach.read, read))?
            .add_rules(path_beneath_rules(reach.libraries.iter().flat_map(|path| with_libraries(path)), read))?
            .add_rules(path_beneath_rules(caches, write))?
            .add_rules(path_beneath_rules(&reach.write, write))?
            .add_rules(path_beneath_rules(&reach.tidy, AccessFs::RemoveDir))?;
    }
    rules.restrict_self()
}

fn devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_one = |name: &str| DEVICES.iter().any(|device| name.starts_with(device));
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path()).collect()
}

/// Libraries that are loaded already, which on some systems are nowhere in particular, what the environment names, and
/// where a user's drivers are registered.
fn drivers() -> Vec<PathBuf> {
    let variable = |name: &str| {
        let paths = std::env::var_os(name).map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
        paths.unwrap_or_default()
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let loaded = maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| Path::new("/").join(path));
    let loaded = loaded.filter(|path| is_library(path) && !SYSTEM.iter().any(|folder| path.starts_with(folder)));
    let named = DRIVER_VARIABLES.iter().flat_map(|name| variable(name));
    let (folders, files): (Vec<_>, Vec<_>) = named.partition(|path| path.is_dir());
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let data = home.into_iter().flat_map(|home| [".local/share", ".config"].map(|below| home.join(below)));
    let data = data.chain(variable("XDG_DATA_DIRS")).filter(|folder| folder.is_absolute());
    let registered = data.flat_map(|folder| REGISTERED.map(|below| folder.join(below)));
    let mut libraries: Vec<PathBuf> = loaded.chain(files).collect();
    libraries.sort();
    libraries.dedup();
    let mut all: Vec<PathBuf> = libraries.iter().flat_map(|path| with_libraries(path)).collect();
    all.extend(folders.into_iter().chain(registered));
    all.sort();
    all.dedup();
    all
}

/// A library, or a file that names one, with the libraries beside it and beside what it is a link to: it may load
/// these. Not their folder, which may be anybody's and hold anything.
fn with_libraries(path: &Path) -> Vec<PathBuf> {
    let places = [std::path::absolute(path), path.canonicalize()];
    let folders = places.iter().flatten().filter_map(|path| path.parent());
    let entries = folders.filter_map(|folder| std::fs::read_dir(folder).ok());
    let beside = entries.flat_map(|entries| entries.take(MOST_BESIDE).flatten()).map(|entry| entry.path());
    let beside = beside.filter(|path| is_library(path) && path.is_file());
    std::iter::once(path.to_owned()).chain(beside).collect()
}

/// By its name: `lib.so`, `lib.so.1`.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}
