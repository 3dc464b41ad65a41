//! What reads and writes files, and reaches for what is outside.

use std::io::{Seek, SeekFrom, Write};

use scorehost_sdk::{Output, Result, context, file_name};

use crate::{Probe, constant};

pub(crate) fn behave(probe: &mut Probe, behave: &str, files: &[String]) -> Result<Option<Output>> {
    match behave {
        "reads" => return reads(files).map(Some),
        "reads-the-pipe" if context::mini_batch() == 0 => drop(std::fs::read("/input/pipe")?),
        "writes" => return writes(files).map(Some),
        "writes-and-fails" => return writes_and_fails(files).map(Some),
        "keeps-a-file-open" => return keeps_a_file_open(probe, files).map(Some),
        "fills-a-file" => fills_a_file()?,
        "fills-and-removes" => loop {
            std::fs::write(own_path("a"), vec![1; 1 << 20])?;
            std::fs::remove_file(own_path("a"))?;
        },
        "fills-by-its-size" => own_file("a")?.set_len(1 << 40)?,
        "fills-behind-a-hole" => fills_behind_a_hole()?,
        "makes-files" => fills_with(|path| std::fs::write(path, ""))?,
        "makes-folders" => fills_with(std::fs::create_dir)?,
        "makes-links" => fills_with(|path| std::fs::hard_link(own_path("first"), path))?,
        "writes-over-itself" => return writes_over_itself(files).map(Some),
        "escapes" => return escapes().map(Some),
        "opens-many" => return Err(format!("{} files open", opens_many(files)).into()),
        "long-file-name" => drop(std::fs::read("/input/".to_owned() + &"long".repeat(16 << 20))?),
        _ => {}
    }
    Ok(None)
}

fn reads(files: &[String]) -> Result<Output> {
    Output::by_file(files, ["file", "text"], |file| Ok((file_name(file), std::fs::read_to_string(file)?)))
}

/// A file of its own for each input, in the output folder.
fn writes(files: &[String]) -> Result<Output> {
    let folder = std::env::var("SCOREHOST_OUTPUT_DIR").map_err(|e| e.to_string())?;
    for file in files {
        std::fs::write(format!("{folder}/{}.txt", file_name(file)), context::mini_batch().to_string())?;
        if context::mini_batch() == 1 && context::attempt() == 1 {
            panic!("after the first file");
        }
    }
    Ok(constant(files))
}

/// A row for each attempt to reach something outside.
fn escapes() -> Result<Output> {
    let mut output = Output::new(["what", "outcome"]);
    let mut tried = |what: &str, outcome: std::io::Result<String>| {
        output.push((what, outcome.unwrap_or_else(|e| format!("refused: {:?}", e.kind()))));
    };
    for path in [
        "/etc/passwd",
        "/input/../../etc/passwd",
        "/input/a.txt/../../../etc/passwd",
        "../etc/passwd",
        "etc/passwd",
        "/input/leaves",
        "/input/leaves/",
        "/input/folder-leaves/passwd",
        "/model/leaves",
        "/model/../other-model/secret",
        "/proc/self/environ",
        "/proc/self/mem",
        "/dev/zero",
        "//etc/passwd",
    ] {
        tried(path, std::fs::read_to_string(path));
    }
    for folder in ["/", "..", "/input/..", "/input/folder-leaves", "/proc"] {
        tried(folder, std::fs::read_dir(folder).map(|entries| format!("{} entries", entries.count())));
    }
    tried("link", std::fs::read_link("/input/leaves").map(|path| path.display().to_string()));
    tried("write", std::fs::write("/input/new", "x").map(|()| "written".into()));
    tried("remove", std::fs::remove_file("/input/a.txt").map(|()| "removed".into()));
    tried("rename", std::fs::rename("/input/a.txt", "/input/b.txt").map(|()| "renamed".into()));
    tried("make", std::fs::create_dir("/input/folder").map(|()| "made".into()));
    tried("network", std::net::TcpStream::connect("127.0.0.1:80").map(|_| "connected".into()));
    tried("listen", std::net::TcpListener::bind("127.0.0.1:0").map(|_| "listens".into()));
    let send = |socket: std::net::UdpSocket| socket.send_to(b"x", "127.0.0.1:9");
    tried("datagram", std::net::UdpSocket::bind("127.0.0.1:0").and_then(send).map(|_| "sent".into()));
    let look_up = std::net::ToSocketAddrs::to_socket_addrs("localhost:80");
    tried("name", look_up.map(|all| format!("{} addresses", all.count())));
    tried("process", std::process::Command::new("/bin/true").status().map(|_| "ran".into()));
    tried("thread", std::thread::Builder::new().spawn(|| ()).map(|_| "spawned".into()));
    tried("arguments", Ok(std::env::args().collect::<Vec<_>>().join(",")));
    let mut names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    tried("environment", Ok(names.join(",")));
    Ok(output)
}

fn own_path(name: &str) -> String {
    format!("{}/{name}", std::env::var("SCOREHOST_OUTPUT_DIR").unwrap_or_default())
}

fn fills_a_file() -> std::io::Result<()> {
    let mut file = own_file("a")?;
    loop {
        file.write_all(&[1; 1 << 16])?;
    }
}

fn fills_behind_a_hole() -> std::io::Result<()> {
    let mut file = std::fs::File::create(own_path("a"))?;
    loop {
        file.seek(SeekFrom::Current(1 << 20))?;
        file.write_all(&[1])?;
    }
}

fn fills_with(make: impl Fn(String) -> std::io::Result<()>) -> std::io::Result<()> {
    drop(own_file("first")?);
    (0u64..).try_for_each(|i| make(own_path(&i.to_string())))
}

/// A file of 256 KiB, a hundred times: it never takes more.
fn writes_over_itself(files: &[String]) -> Result<Output> {
    let mut file = std::fs::File::create(own_path(&format!("{}.bin", context::mini_batch())))?;
    for i in 0..100 {
        file.rewind()?;
        file.write_all(&[i; 256 << 10])?;
    }
    Ok(constant(files))
}

fn own_file(name: &str) -> std::io::Result<std::fs::File> {
    let folder = std::env::var("SCOREHOST_OUTPUT_DIR").unwrap_or_default();
    std::fs::File::options().create(true).append(true).open(format!("{folder}/{name}"))
}

/// A file, and then a failure that is not tried again, at every other mini-batch.
fn writes_and_fails(files: &[String]) -> Result<Output> {
    drop(own_file(&format!("{}.txt", context::mini_batch()))?);
    if context::mini_batch().is_multiple_of(2) { Err("even".into()) } else { Ok(constant(files)) }
}

/// Goes on writing to the file of the first mini-batch that it sees.
fn keeps_a_file_open(probe: &mut Probe, files: &[String]) -> Result<Output> {
    if probe.open.is_none() {
        probe.open = Some(own_file(&format!("{}.txt", context::mini_batch()))?);
    }
    if let Some(file) = &mut probe.open {
        writeln!(file, "{}", context::mini_batch())?;
    }
    Ok(constant(files))
}

fn opens_many(files: &[String]) -> usize {
    let mut open = Vec::new();
    while let Ok(file) = std::fs::File::open(&files[0]) {
        open.push(file);
    }
    open.len()
}
