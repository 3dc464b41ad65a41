//! Landlock: which files a process may open, and that it opens no connection.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Compatible, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::{Layer, Reach};

/// All that is asked for. Older kernels do less: from version 4 on connections are refused, which seccomp does as well,
/// from 5 on device commands, from 6 on signals to others.
const NEWEST: ABI = ABI::V7;

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

/// Folders of Vulkan's drivers that the environment names.
const DRIVER_VARIABLES: [&str; 5] =
    ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "LD_LIBRARY_PATH", "XDG_DATA_DIRS"];

/// Where drivers keep compiled shaders.
const DRIVER_CACHES: [&str; 2] = ["MESA_SHADER_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// Restricts this thread, and those that it starts, to `reach` and the system; without one, to what is open already.
pub(super) fn restrict(reach: Option<&Reach>) -> Layer {
    match ruled(reach) {
        Err(error) => Layer::Missing(error.to_string()),
        Ok(status) => layer(&status),
    }
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
        // Neither programs nor devices come into being in a job's folders.
        let no: BitFlags<AccessFs> = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | IoctlDev});
        let write = AccessFs::from_all(NEWEST) & !no;
        let tidy = AccessFs::ReadDir | AccessFs::RemoveDir;
        rules = rules
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(drivers(), read))?
            .add_rules(path_beneath_rules(devices(), device))?
            .add_rules(path_beneath_rules(&reach.read, read))?
            .add_rules(path_beneath_rules(DRIVER_CACHES.iter().filter_map(std::env::var_os), write))?
            .add_rules(path_beneath_rules(&reach.write, write))?
            .add_rules(path_beneath_rules(&reach.tidy, tidy))?;
    }
    rules.restrict_self()
}

fn devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_one = |name: &str| DEVICES.iter().any(|device| name.starts_with(device));
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path()).collect()
}

/// The folders of libraries that are loaded already, which on some systems are nowhere in particular, those that the
/// environment names, and those where a user's drivers are registered.
fn drivers() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let loaded =
        maps.lines().filter_map(|line| line.split_once('/')).map(|(_, path)| PathBuf::from(format!("/{path}")));
    let loaded = loaded.filter(|path| path.to_string_lossy().contains(".so")).filter_map(|path| folder(&path));
    let named = DRIVER_VARIABLES.iter().filter_map(std::env::var_os);
    let named: Vec<PathBuf> = named.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>()).collect();
    let named = named.into_iter().filter_map(|path| if path.is_dir() { Some(path) } else { folder(&path) });
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let users =
        home.into_iter().flat_map(|home| [".local/share/vulkan", ".config/vulkan"].map(|below| home.join(below)));
    let mut all: Vec<PathBuf> = loaded.chain(named).chain(users).collect();
    all.sort();
    all.dedup();
    all
}

fn folder(path: &Path) -> Option<PathBuf> {
    path.parent().filter(|folder| folder.is_absolute() && folder.parent().is_some()).map(Path::to_owned)
}
