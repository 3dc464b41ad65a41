//! Which host is asked, and as whom. What goes in: what was typed, the environment, and the user's profile, a file of a
//! few lines (`url: …`, `token: …`, `ca: …`). What comes out: an address and a token that belong together.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::RemoteError;

/// Where `scorehost serve` listens by itself.
const URL: &str = "http://127.0.0.1:8484";
/// A hundred times what two lines take.
const MOST_BYTES: u64 = 64 << 10;

/// See the module. Without `Debug`: a token is for nobody's eyes.
#[derive(Clone)]
pub(super) struct Profile {
    /// Without a `/` at its end.
    pub(super) url: String,
    pub(super) token: String,
    /// Where the token was found, for people.
    pub(super) token_from: String,
    /// A file of the authorities that may speak for the host, in the place of the system's.
    pub(super) ca: Option<PathBuf>,
}

/// What the file says.
#[derive(Default)]
struct Written {
    url: Option<String>,
    token: Option<String>,
    ca: Option<String>,
}

impl Profile {
    /// What holds for this call. Without an address the file's holds, and without `SCOREHOST_TOKEN` the file's token.
    pub(super) fn find(url: Option<&str>) -> Result<Self, RemoteError> {
        let token = std::env::var("SCOREHOST_TOKEN").ok().filter(|token| !token.trim().is_empty());
        let url = url.filter(|url| !url.is_empty());
        let written = match file() {
            // Whoever says both is not stopped by a file that has nothing to say.
            Some(path) if url.is_none() || token.is_none() => read(&path)?,
            _ => Written::default(),
        };
        let mut profile = choose(url, token.as_deref(), &written)?;
        if let Some(ca) = std::env::var_os("SCOREHOST_CA").filter(|ca| !ca.is_empty()) {
            profile.ca = Some(ca.into());
        }
        Ok(profile)
    }
}

/// A token goes to no other host than the one that it was written beside.
fn choose(url: Option<&str>, token: Option<&str>, written: &Written) -> Result<Profile, RemoteError> {
    let its_url = address(written.url.as_deref().unwrap_or(URL))?;
    let url = url.map_or_else(|| Ok(its_url.clone()), address)?;
    let named = token.map(|token| (token, "SCOREHOST_TOKEN".to_owned()));
    let of_file = || {
        let path = file().map(|path| format!(" `{}`", path.display())).unwrap_or_default();
        Some((written.token.as_deref().filter(|_| url == its_url)?, format!("the profile{path}")))
    };
    let ca = written.ca.as_ref().filter(|_| url == its_url).map(PathBuf::from);
    match named.or_else(of_file) {
        Some((token, token_from)) => Ok(Profile { url, token: token.trim().to_owned(), token_from, ca }),
        None => Err(RemoteError::NoToken { url }),
    }
}

/// Checks an address.
fn address(url: &str) -> Result<String, RemoteError> {
    let refused = |reason| Err(RemoteError::Url { url: url.to_owned(), reason });
    if !["https://", "http://"].iter().any(|begin| url.starts_with(begin)) {
        return refused("it does not begin with https:// or http://");
    }
    // What a browser would put right is not guessed at.
    let is_odd = url.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    if is_odd || !url.parse::<reqwest::Url>().is_ok_and(|parts| parts.has_host()) {
        return refused("it cannot be read");
    }
    if url.contains(['@', '?', '#']) {
        return refused("there is more in it than a host, a port and a path");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Where the profile is, whether it is there or not.
fn file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = variable("XDG_CONFIG_HOME")
        .or_else(|| variable("APPDATA"))
        .or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("scorehost").join("config.yml"))
}

fn read(path: &Path) -> Result<Written, RemoteError> {
    let failed = |source: std::io::Error| RemoteError::Profile { path: path.to_owned(), reason: source.to_string() };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Written::default()),
        Err(error) => return Err(failed(error)),
    };
    if is_open_to_others(&file).map_err(failed)? {
        return Err(RemoteError::OpenProfile { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    parse(&text).map_err(|reason| RemoteError::Profile { path: path.to_owned(), reason })
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o077 != 0)
}

/// Elsewhere a user's folder is the user's alone.
#[cfg(not(unix))]
fn is_open_to_others(_: &File) -> std::io::Result<bool> {
    Ok(false)
}

/// Lines of `key: value`; what stands after `#` at the begin of a line, and blank lines, are left out. Messages repeat
/// no value: it may be a token.
fn parse(text: &str) -> Result<Written, String> {
    let mut written = Written::default();
    let lines = text.lines().map(str::trim).enumerate().map(|(at, line)| (at + 1, line));
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let (key, value) = line.split_once(':').ok_or_else(|| format!("line {number} is not `key: value`"))?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|&c| value.strip_prefix(c)?.strip_suffix(c));
        let place = match key.trim() {
            "url" => &mut written.url,
            "token" => &mut written.token,
            "ca" => &mut written.ca,
            _ => return Err(format!("line {number} has a key that is not `url`, `token` or `ca`")),
        };
        if place.replace(quoted.unwrap_or(value).to_owned()).is_some() {
            return Err(format!("line {number} repeats a key"));
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_only_to_the_host_that_it_was_written_beside() {
        let written = || parse("# mine\nurl: http://a:1/\n\ntoken: 'sh_1'\n").unwrap();
        let chosen = |url, token| choose(url, token, &written()).map(|p| (p.url, p.token));
        let pair = |url: &str, token: &str| (url.to_owned(), token.to_owned());
        assert_eq!(chosen(None, None).unwrap(), pair("http://a:1", "sh_1"));
        assert_eq!(chosen(Some("http://a:1"), None).unwrap(), pair("http://a:1", "sh_1"));
        assert_eq!(chosen(Some("http://b:1"), Some("sh_2\n")).unwrap(), pair("http://b:1", "sh_2"));
        assert!(matches!(chosen(Some("http://b:1"), None), Err(RemoteError::NoToken { .. })));
        let from = |token| choose(None, token, &written()).unwrap().token_from;
        assert!(from(Some("sh_2")) == "SCOREHOST_TOKEN" && from(None).starts_with("the profile"));
        let beside_no_url = choose(None, None, &parse("token: t").unwrap()).map(|p| p.url);
        assert_eq!(beside_no_url.unwrap(), URL);
        assert!(matches!(choose(None, None, &Written::default()), Err(RemoteError::NoToken { .. })));
    }

    #[test]
    fn authorities_speak_for_the_host_that_they_were_written_beside() {
        let written = parse("url: https://a\ntoken: t\nca: /etc/a.pem\n").unwrap();
        assert_eq!(choose(None, None, &written).unwrap().ca, Some(PathBuf::from("/etc/a.pem")));
        assert_eq!(choose(Some("https://b"), Some("u"), &written).unwrap().ca, None);
    }

    #[test]
    fn addresses_are_of_a_host_and_no_more() {
        for (url, expected) in [
            ("http://host:8484/", Some("http://host:8484")),
            ("http://[::1]:8484", Some("http://[::1]:8484")),
            ("http://host/below", Some("http://host/below")),
            ("https://host", Some("https://host")),
            ("https:host", None),
            ("https://\\host", None),
            ("host:8484", None),
            ("http://", None),
            ("http://user:word@host", None),
            ("http://host?a", None),
            ("ftp://host", None),
            ("http://host name", None),
        ] {
            assert_eq!(address(url).ok().as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn profiles_that_are_wrong_say_the_line_and_no_token() {
        for (text, expected) in [
            ("url http", "line 1 is not"),
            ("\ntokn: secret", "line 2 has a key"),
            ("url: a\nurl: b", "line 2 repeats"),
        ] {
            let error = parse(text).err().unwrap();
            assert!(error.contains(expected) && !error.contains("secret"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_profile_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yml");
        std::fs::write(&path, "token: t\n").unwrap();
        for (mode, is_refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(matches!(read(&path), Err(RemoteError::OpenProfile { .. })), is_refused, "{mode:o}");
        }
        assert!(read(&folder.path().join("lost.yml")).unwrap().token.is_none());
    }
}
