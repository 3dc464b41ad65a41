//! Each case runs in a process of its own, since a wall stays: this test program, told to run `inside` alone.

use std::ffi::c_long;
use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::*;

const CASE: &str = "SCOREHOST_TEST_CONFINED";

/// A folder of folders, in each of which is a file that holds the folder's name.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for name in
        ["read", "write", "other", "shaders", "cache", "cache/compiled", "library", "linked", "tidy", "tidy/empty"]
    {
        fs::create_dir_all(place.path().join(name)).unwrap();
        fs::write(place.path().join(name).join("file"), name).unwrap();
    }
    fs::remove_file(place.path().join("tidy/empty/file")).unwrap();
    fs::create_dir(place.path().join("way")).unwrap();
    std::os::unix::fs::symlink("../cache", place.path().join("way/there")).unwrap();
    for name in ["library/liba.so", "library/liba.so.1", "library/libb.so", "linked/libreal.so.1", "linked/libc.so"] {
        fs::write(place.path().join(name), name).unwrap();
    }
    std::os::unix::fs::symlink("../linked/libreal.so.1", place.path().join("library/liblink.so")).unwrap();
    place
}

fn run(case: &str, place: &Path) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "confine::tests::inside", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("MESA_SHADER_CACHE_DIR", place.join("shaders")).env("__GL_SHADER_DISK_CACHE_PATH", place.join("cache"));
    command.env(CASE, case).env("FOLDER", place).output().unwrap()
}

fn in_a_process(case: &str) {
    let place = place();
    let output = run(case, place.path());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{case}: {text}");
    print!("{text}");
}

/// Whether this half of the wall stands. Where it does not, the rest of the case is skipped, or fails where it is
/// required.
fn stands(what: &str, layer: &Layer) -> bool {
    let set = |name| std::env::var(name).unwrap_or_default();
    let is_required = !set("CI").is_empty() || set("REQUIRE").split(',').any(|required| required == what);
    assert!(*layer == Layer::On || !is_required, "`{what}` is required, but it is {layer}");
    if *layer != Layer::On {
        println!("skipped: {what} is {layer}");
    }
    *layer == Layer::On
}

fn refused<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

fn reach(place: &Path) -> Reach {
    Reach {
        read: vec![place.join("read")],
        libraries: vec![place.join("library/liblink.so")],
        write: vec![place.join("write")],
        tidy: vec![place.join("tidy")],
        sealed: vec![place.join("cache/compiled"), place.join("way/there/to-come")],
    }
}

/// A process of somebody else's, as far as the wall is concerned. It ends when this one does.
fn neighbour() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[expect(unsafe_code, reason = "what is refused is system calls, which somebody who took the process over makes")]
fn call(number: c_long, arguments: [c_long; 4]) -> Result<(), i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: the callers' pointers are null or to texts that live on; whatever else is wrong is the kernel's to refuse.
    match unsafe { libc::syscall(number, a, b, c, d) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
        _ => Ok(()),
    }
}

/// Calls that fail by themselves or do nothing, and each by which one process could harm another or the user's files.
fn harmful(neighbour: i32, file: &std::ffi::CStr) -> Vec<(&'static str, c_long, [c_long; 4])> {
    let (pid, path, here) = (c_long::from(neighbour), file.as_ptr() as c_long, c_long::from(libc::AT_FDCWD));
    let (none, nothing) = (-1, c"user.nothing".as_ptr() as c_long);
    vec![
        ("kill", libc::SYS_kill, [pid, 0, 0, 0]),
        ("kill of a group", libc::SYS_kill, [0, 0, 0, 0]),
        ("tkill", libc::SYS_tkill, [pid, 0, 0, 0]),
        ("tgkill", libc::SYS_tgkill, [pid, pid, 0, 0]),
        ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, [pid, 1, 0, 0]),
        ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, [pid, pid, 1, 0]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [none, 0, 0, 0]),
        ("fcntl F_SETOWN", libc::SYS_fcntl, [none, libc::F_SETOWN.into(), pid, 0]),
        ("fcntl F_SETSIG", libc::SYS_fcntl, [none, 10, 9, 0]),
        ("fcntl F_SETOWN_EX", libc::SYS_fcntl, [none, 15, 0, 0]),
        ("prlimit64", libc::SYS_prlimit64, [pid, 0, 0, 0]),
        ("ioctl TIOCSTI", libc::SYS_ioctl, [none, 0x5412, 0, 0]),
        ("ioctl TIOCLINUX", libc::SYS_ioctl, [none, 0x541C, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [libc::AF_UNIX.into(), libc::SOCK_DGRAM.into(), 0, 0]),
        ("connect", libc::SYS_connect, [none, 0, 0, 0]),
        ("bind", libc::SYS_bind, [none, 0, 0, 0]),
        ("listen", libc::SYS_listen, [none, 0, 0, 0]),
        ("accept4", libc::SYS_accept4, [none, 0, 0, 0]),
        ("sendto", libc::SYS_sendto, [none, 0, 0, 0]),
        ("sendmsg", libc::SYS_sendmsg, [none, 0, 0, 0]),
        ("recvmsg", libc::SYS_recvmsg, [none, 0, 0, 0]),
        ("shmat", libc::SYS_shmat, [none, 0, 0, 0]),
        ("semop", libc::SYS_semop, [none, 0, 0, 0]),
        ("msgsnd", libc::SYS_msgsnd, [none, 0, 0, 0]),
        ("mq_unlink", libc::SYS_mq_unlink, [0, 0, 0, 0]),
        ("inotify_add_watch", libc::SYS_inotify_add_watch, [none, path, 1, 0]),
        ("fchmodat", libc::SYS_fchmodat, [here, path, 0o600, 0]),
        ("fchmod", libc::SYS_fchmod, [none, 0o600, 0, 0]),
        ("fchownat", libc::SYS_fchownat, [here, path, -1, -1]),
        ("fchown", libc::SYS_fchown, [none, -1, -1, 0]),
        ("setxattr", libc::SYS_setxattr, [path, nothing, 0, 0]),
        ("removexattr", libc::SYS_removexattr, [path, nothing, 0, 0]),
        ("utimensat", libc::SYS_utimensat, [here, path, 0, 0]),
        ("ioctl FS_IOC_SETFLAGS", libc::SYS_ioctl, [none, 0x4008_6602, 0, 0]),
        ("ioctl FS_IOC_FSSETXATTR", libc::SYS_ioctl, [none, 0x401C_5820, 0, 0]),
        #[cfg(target_arch = "x86_64")]
        ("chmod", libc::SYS_chmod, [path, 0o600, 0, 0]),
        #[cfg(target_arch = "x86_64")]
        ("chown", libc::SYS_chown, [path, -1, -1, 0]),
        #[cfg(target_arch = "x86_64")]
        ("utimes", libc::SYS_utimes, [path, 0, 0, 0]),
        // The second number of `sendmsg`.
        #[cfg(target_arch = "x86_64")]
        ("sendmsg of x32", 0x4000_0000 | 518, [none, 0, 0, 0]),
    ]
}

/// Both sides of each refusal: without the wall the call meets something else.
fn assert_calls(place: &Path, is_walled: bool, neighbour: &Child) {
    let file = std::ffi::CString::new(place.join("write/file").into_os_string().into_encoded_bytes()).unwrap();
    for (name, number, arguments) in harmful(neighbour.id().try_into().unwrap(), &file) {
        let got = call(number, arguments);
        assert_eq!(got == Err(libc::EPERM), is_walled, "{name}: {got:?}");
    }
}

fn assert_seccomp(place: &Path, case: &str, neighbour: &Child) {
    assert_calls(place, true, neighbour);
    assert!(refused(TcpStream::connect("127.0.0.1:9")));
    assert!(refused(std::os::unix::net::UnixDatagram::pair()));
    assert!(refused(Command::new("/bin/true").status()));
    // What the runtime and scripts need.
    let own = c_long::from(std::process::id());
    assert_eq!(call(libc::SYS_kill, [own, 0, 0, 0]), Ok(()));
    assert_eq!(call(libc::SYS_prlimit64, [0, 0, 0, 0]), Ok(()));
    assert_eq!(call(libc::SYS_prlimit64, [own, 0, 0, 0]), Ok(()));
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    let opened = fs::File::create(place.join("write/times"));
    assert_eq!(refused(fs::read("/proc/self/status")), case == "seccomp");
    assert_eq!(opened.is_err(), case == "seccomp");
    if let Ok(file) = opened {
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
}

fn assert_landlock(place: &Path) {
    let at = |name: &str| place.join(name).join("file");
    assert_eq!(fs::read_to_string(at("read")).unwrap(), "read");
    assert!(refused(fs::write(at("read"), "changed")));
    fs::write(at("write"), "changed").unwrap();
    fs::rename(at("write"), place.join("write/moved")).unwrap();
    assert!(refused(fs::read(at("other"))));
    assert!(refused(fs::read_dir(place.join("other"))));
    assert!(refused(fs::rename(place.join("write/moved"), at("other"))));
    assert!(refused(Command::new("/bin/true").status()));
    // An empty folder may go, and that is all that is known of its neighbours.
    assert!(refused(fs::read_dir(place.join("tidy"))) && refused(fs::remove_file(at("tidy"))));
    fs::remove_dir(place.join("tidy/empty")).unwrap();
    // Libraries by their names, beside the link and beside what it leads to.
    for library in ["library/liblink.so", "library/liba.so", "library/liba.so.1", "library/libb.so", "linked/libc.so"] {
        assert!(fs::read(place.join(library)).is_ok(), "{library}");
        assert!(refused(fs::write(place.join(library), "changed")), "{library}");
    }
    assert!(refused(fs::read(at("library"))) && refused(fs::read_dir(place.join("library"))));
    assert!(refused(fs::read(at("linked"))) && refused(fs::read_dir(place.join("linked"))));
    // One folder of compiled shaders is for them alone; the other is above code that is run when it is found again.
    fs::write(place.join("shaders/new"), "x").unwrap();
    assert!(refused(fs::write(place.join("cache/new"), "x")) && refused(fs::write(at("cache/compiled"), "x")));
    // What drivers and libraries need.
    assert!(fs::read_dir("/usr").is_ok() && fs::read("/proc/self/status").is_ok());
    fs::write("/dev/null", "x").unwrap();
}

#[test]
#[ignore = "the other tests run it, each in a process of its own"]
fn inside() {
    let place = PathBuf::from(std::env::var_os("FOLDER").unwrap());
    let case = std::env::var(CASE).unwrap();
    let mut neighbour = neighbour();
    assert_calls(&place, false, &neighbour);
    // Landlock holds for threads that begin later, and a test has a thread of its own.
    let landlock = || files::restrict(Some(&reach(&place)));
    let seccomp = calls::restrict;
    match case.as_str() {
        "job" => {
            let (landlock, seccomp) = (landlock(), seccomp(calls::Process::Job));
            if stands("seccomp", &seccomp) {
                assert_seccomp(&place, &case, &neighbour);
            }
            if stands("landlock", &landlock) {
                assert_landlock(&place);
            }
        }
        "landlock" if stands("landlock", &landlock()) => assert_landlock(&place),
        "seccomp" if stands("seccomp", &seccomp(calls::Process::Computation)) => {
            assert_seccomp(&place, &case, &neighbour);
        }
        "abort" if stands("seccomp", &seccomp(calls::Process::Computation)) => std::process::abort(),
        // Where it is, or on the way there, where a link could be put.
        "above" if stands("landlock", &landlock()) => {
            for above in ["cache", "cache/compiled", "way"] {
                let Layer::Missing(why) =
                    files::restrict(Some(&Reach { write: vec![place.join(above)], ..reach(&place) }))
                else {
                    panic!("`{above}` may be written to")
                };
                assert!(why.contains(above) && why.contains("must not be changed"), "{why}");
            }
        }
        "landlock" | "seccomp" | "abort" | "above" => {}
        _ => panic!("no such case"),
    }
    drop(neighbour.stdin.take());
    neighbour.wait().unwrap();
}

#[test]
fn a_jobs_process_reaches_its_folders_and_the_system_and_nothing_else() {
    in_a_process("job");
}

#[test]
fn each_half_of_the_wall_stands_alone() {
    in_a_process("landlock");
    in_a_process("seccomp");
}

#[test]
fn what_is_written_to_must_not_be_above_what_is_sealed() {
    in_a_process("above");
}

#[test]
fn a_process_behind_the_wall_can_still_abort() {
    let place = place();
    let output = run("abort", place.path());
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.signal() == Some(libc::SIGABRT) || text.contains("skipped: "), "{text}");
}

#[test]
fn what_is_required_and_missing_is_an_error_and_off_is_off() {
    assert_eq!(confine(Confine::Off, &Reach::default()).unwrap(), Confinement::OFF);
    assert!(!Confinement::OFF.is_lacking());
    let lacking = Confinement { landlock: Layer::Missing("this kernel has none".into()), seccomp: Layer::On };
    assert!(lacking.is_lacking());
    assert_eq!(enough(Confine::Auto, lacking.clone()).unwrap(), lacking);
    let text = enough(Confine::Required, lacking).unwrap_err().to_string();
    assert_eq!(text, "the process cannot be confined: landlock is missing (this kernel has none), seccomp is on");
}
