//! Each case runs in a process of its own, since a wall stays: this test program, told to run `inside` alone.

use std::net::TcpStream;
use std::process::Command;

use super::*;

const CASE: &str = "SCOREHOST_TEST_CONFINED";

fn in_a_process(case: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let folder = tempfile::tempdir().unwrap();
    for name in ["read", "write", "other"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("file"), name).unwrap();
    }
    command.args(["--exact", "confine::tests::inside", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env(CASE, case).env("FOLDER", folder.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{case}: {text}");
    print!("{text}");
}

fn refused<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
}

#[test]
#[ignore = "the other tests run it, each in a process of its own"]
fn inside() {
    let folder = PathBuf::from(std::env::var_os("FOLDER").unwrap());
    let at = |name: &str| folder.join(name).join("file");
    let case = std::env::var(CASE).unwrap();
    // Landlock holds for threads that begin later, and a test has a thread of its own.
    let (landlock, seccomp) = match case.as_str() {
        "job" => {
            let reach = Reach { read: vec![folder.join("read")], write: vec![folder.join("write")], tidy: vec![] };
            (files::restrict(Some(&reach)), calls::restrict(calls::Process::Job))
        }
        "landlock" => {
            let reach = Reach { read: vec![folder.join("read")], write: vec![folder.join("write")], tidy: vec![] };
            (files::restrict(Some(&reach)), Layer::Off)
        }
        "seccomp" => (Layer::Off, calls::restrict(calls::Process::Computation)),
        _ => panic!("no such case"),
    };
    println!("{case}: landlock {landlock}, seccomp {seccomp}");
    if landlock == Layer::On {
        assert_eq!(std::fs::read_to_string(at("read")).unwrap(), "read");
        assert!(refused(std::fs::write(at("read"), "changed")));
        std::fs::write(at("write"), "changed").unwrap();
        std::fs::rename(at("write"), folder.join("write/moved")).unwrap();
        assert!(refused(std::fs::read(at("other"))));
        assert!(refused(std::fs::read_dir(folder.join("other"))));
        assert!(refused(std::fs::rename(folder.join("write/moved"), at("other"))));
        assert!(refused(Command::new("/bin/true").status()));
        // What drivers and libraries need.
        assert!(std::fs::read_dir("/usr").is_ok() && std::fs::read("/proc/self/status").is_ok());
        std::fs::write("/dev/null", "x").unwrap();
    }
    if seccomp == Layer::On {
        assert!(refused(TcpStream::connect("127.0.0.1:9")));
        assert!(refused(std::os::unix::net::UnixDatagram::unbound()));
        assert!(refused(Command::new("/bin/true").status()));
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        assert_eq!(refused(std::fs::read("/proc/self/status")), case == "seccomp");
    }
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
fn what_is_required_and_missing_is_an_error_and_off_is_off() {
    assert_eq!(confine(Confine::Off, &Reach::default()).unwrap(), Confinement::OFF);
    assert!(!Confinement::OFF.is_lacking());
    let lacking = Confinement { landlock: Layer::Missing("this kernel has none".into()), seccomp: Layer::On };
    assert!(lacking.is_lacking());
    let text = ConfineError::Incomplete(lacking).to_string();
    assert_eq!(text, "the process cannot be confined: landlock is missing (this kernel has none), seccomp is on");
}
