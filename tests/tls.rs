//! TLS between the host and its command line, with certificates that `openssl` makes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::service::Server;
use crate::support::{Place, scorehost, skip};

/// An authority, and certificates of it.
struct Authority {
    folder: PathBuf,
    name: String,
}

/// A certificate and its key.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// None where there is no `openssl`.
    fn new(place: &Place, name: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            return skip("openssl", "there is no openssl to make certificates with");
        }
        let one = Self { folder: place.at(""), name: name.to_owned() };
        let subject = format!("/CN=authority {name}");
        one.openssl(
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"],
            |c| {
                c.args(["-subj", &subject, "-keyout"]).arg(one.file("key")).arg("-out").arg(one.certificate());
            },
        );
        Some(one)
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }

    fn certificate(&self) -> PathBuf {
        self.file("pem")
    }

    #[track_caller]
    fn openssl(&self, arguments: &[&str], more: impl Fn(&mut Command)) {
        let mut command = Command::new("openssl");
        command.args(arguments);
        more(&mut command);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate for these names, such as `IP:127.0.0.1`, that ends after so many days.
    fn signs(&self, what: &str, names: &str, days: &str) -> Pair {
        let pair = Pair { certificate: self.file(&format!("{what}.pem")), key: self.file(&format!("{what}.key")) };
        let (request, extensions) = (self.file("csr"), self.file("ext"));
        std::fs::write(&extensions, format!("subjectAltName={names}\n")).unwrap();
        self.openssl(
            &["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=host"],
            |c| {
                c.arg("-keyout").arg(&pair.key).arg("-out").arg(&request);
            },
        );
        self.openssl(&["x509", "-req", "-CAcreateserial", "-days", days], |c| {
            c.arg("-in").arg(&request).arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.file("key"));
            c.arg("-extfile").arg(&extensions).arg("-out").arg(&pair.certificate);
        });
        pair
    }
}

const HERE: &str = "IP:127.0.0.1";

fn server(place: &Place, data: &str, pair: &Pair) -> Server {
    let files = [pair.certificate.to_str().unwrap(), pair.key.to_str().unwrap()];
    Server::start(&place.at(data), None, &["--tls-cert", files[0], "--tls-key", files[1]])
}

fn typed(url: &str, token: &str, authority: Option<&Path>, line: &str) -> Output {
    let mut command = scorehost();
    command.args(line.split(' ')).env("SCOREHOST_URL", url).env("SCOREHOST_TOKEN", token);
    match authority {
        Some(path) => command.env("SCOREHOST_CA", path),
        None => command.env_remove("SCOREHOST_CA"),
    };
    command.output().unwrap()
}

/// What a refused command says.
#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_command_line_speaks_tls_with_a_host_that_it_has_reason_to_trust() {
    let place = Place::new();
    let Some(authority) = Authority::new(&place, "a") else { return };
    let server = server(&place, "data", &authority.signs("here", HERE, "30"));
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let trusted = authority.certificate();
    let file = place.at("e.yml");
    std::fs::write(&file, "name: safe\n").unwrap();
    let create = format!("endpoint create -f {} -o name", file.display());
    let made = typed(&server.url, &server.token, Some(&trusted), &create);
    assert_eq!(String::from_utf8_lossy(&made.stdout), "safe\n", "{}", String::from_utf8_lossy(&made.stderr));
    // By the profile, too.
    let config = place.at("config/scorehost");
    std::fs::create_dir_all(&config).unwrap();
    let profile = format!("url: {}\ntoken: {}\nca: {}\n", server.url, server.token, trusted.display());
    std::fs::write(config.join("config.yml"), profile).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(config.join("config.yml"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let mut command = scorehost();
    for name in ["SCOREHOST_URL", "SCOREHOST_TOKEN", "SCOREHOST_CA"] {
        command.env_remove(name);
    }
    let listed = command.args(["endpoint", "list", "-o", "name"]).env("XDG_CONFIG_HOME", place.at("config")).output();
    assert_eq!(String::from_utf8_lossy(&listed.unwrap().stdout), "safe\n");
    // The system's authorities do not know this one.
    let said = refused(&typed(&server.url, &server.token, None, "endpoint list"));
    assert!(
        said.contains("the certificate of `https://127.0.0.1:") && said.contains("hint: no authority of this system"),
        "{said}"
    );
    let said = refused(&typed(&server.url, &server.token, Some(&file), "endpoint list"));
    assert!(said.contains("has no certificate in PEM"), "{said}");
}

#[test]
fn certificates_of_other_names_and_times_are_not_trusted() {
    let place = Place::new();
    let Some(authority) = Authority::new(&place, "a") else { return };
    let elsewhere = authority.signs("elsewhere", "DNS:elsewhere.example", "30");
    let over = authority.signs("over", HERE, "0");
    // It ends with the second that it was made in.
    std::thread::sleep(Duration::from_secs(2));
    // One that is an authority itself; and one of another authority, of which the host's own certificate is named.
    let itself = Pair { certificate: authority.certificate(), key: authority.file("key") };
    let Some(other) = Authority::new(&place, "b") else { return };
    let unknown = other.signs("unknown", HERE, "30");
    for (pair, reason, cure) in [
        (elsewhere, "not valid for name", "--url has to say a name"),
        (over, "certificate expired", "has to renew it"),
        (itself, "CaUsedAsEndEntity", "the host shows an authority's own certificate"),
        (unknown, "UnknownIssuer", "name the authority's certificate there, not the host's"),
    ] {
        let server = server(&place, reason, &pair);
        // The operator is told what no caller will take, whoever signed it.
        let told = server.log.lock().unwrap().clone();
        let is_odd = matches!(reason, "certificate expired" | "CaUsedAsEndEntity");
        assert_eq!(told.contains("callers will not trust the certificate"), is_odd, "{told}");
        let began = Instant::now();
        let said = refused(&typed(&server.url, &server.token, Some(&authority.certificate()), "endpoint list"));
        assert!(said.contains("is not to be trusted") && said.contains(reason), "{said}");
        assert!(said.lines().any(|line| line.starts_with("hint: ") && line.contains(cure)), "{said}");
        // To ask again would change nothing.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[test]
fn the_tls_port_answers_plain_http_in_words_and_waits_for_nobody_long() {
    let place = Place::new();
    let Some(authority) = Authority::new(&place, "a") else { return };
    let server = server(&place, "data", &authority.signs("here", HERE, "30"));
    let address = server.url.strip_prefix("https://").unwrap();
    let slow: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let began = Instant::now();
    (&slow[0]).write_all(&[0x16]).unwrap();
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut said = String::new();
    plain.read_to_string(&mut said).unwrap();
    assert!(
        said.starts_with("HTTP/1.1 400 ") && said.ends_with("\r\n\r\nthis port speaks https, not http\n"),
        "{said}"
    );
    // Something else is hung up on.
    let mut odd = TcpStream::connect(address).unwrap();
    odd.write_all(&[0, 1, 2, 3]).unwrap();
    assert!(matches!(odd.read(&mut [0; 16]), Ok(0) | Err(_)));
    // The command line tells which of the two to ask, either way round.
    let said = refused(&typed(&format!("http://{address}"), &server.token, None, "endpoint list"));
    assert!(said.contains("speak plain HTTP, but TLS\nhint: ask https://127.0.0.1:"), "{said}");
    let open = Server::start(&place.at("open"), None, &[]);
    let url = open.url.replace("http://", "https://");
    let said = refused(&typed(&url, &open.token, Some(&authority.certificate()), "endpoint list"));
    assert!(said.contains("does not speak TLS\nhint: ask http://127.0.0.1:"), "{said}");
    // Others are served meanwhile.
    let listed = typed(&server.url, &server.token, Some(&authority.certificate()), "endpoint list -o name");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0)), "one that says nothing is hung up on");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_certificate_that_is_replaced_is_served_without_a_restart() {
    let place = Place::new();
    let Some(authority) = Authority::new(&place, "a") else { return };
    let Some(later) = Authority::new(&place, "b") else { return };
    let pair = authority.signs("here", HERE, "30");
    let server = server(&place, "data", &pair);
    let is_trusted = |authority: &Authority| {
        typed(&server.url, &server.token, Some(&authority.certificate()), "endpoint list").status.success()
    };
    assert!(is_trusted(&authority) && !is_trusted(&later));
    let fresh = later.signs("here", HERE, "30");
    // With half of it replaced, nothing fits.
    std::fs::copy(&fresh.key, &pair.key).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(is_trusted(&authority), "what cannot be used does not take the place of what can");
    std::fs::copy(&fresh.certificate, &pair.certificate).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(is_trusted(&later) && !is_trusted(&authority));
}

#[test]
fn a_host_listens_to_others_only_with_tls_or_when_told() {
    let place = Place::new();
    let serve = |more: &[&str]| {
        let mut command = scorehost();
        command.args(["serve", "--listen", "0.0.0.0:0", "--data"]).arg(place.at("data")).args(more).output().unwrap()
    };
    let said = refused(&serve(&[]));
    assert!(said.contains("unencrypted") && said.contains("hint: --tls-cert"), "{said}");
    assert!(!place.at("data").exists());
    std::fs::write(place.at("x.pem"), "").unwrap();
    let file = place.at("x.pem");
    let file = file.to_str().unwrap();
    let output = serve(&["--tls-cert", file, "--tls-key", file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(refused(&output).contains("has no certificate"), "{output:?}");
    let mut command = scorehost();
    command.args(["serve", "--listen", "0.0.0.0:0", "--without-tls", "--data"]).arg(place.at("data"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.take(3).find(|line| line.contains(" at http://0.0.0.0:"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(line.is_some());
}
