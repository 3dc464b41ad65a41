//! What a store's failure comes from, as far as its words tell. In: the words, and the place that was asked. Out: what is to
//! be done, for the operator, who sees the host's environment, and for a caller, who does not.

/// What a failure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The environment has no keys: the machine's own role was asked for, or one of several is missing.
    Keys,
    /// The store is asked by plain HTTP, which nobody allowed.
    PlainHttp,
    /// Nobody answers there.
    Unreachable,
    /// The store does not take the keys for that.
    Denied,
}

/// Which variables a store is asked with: keys, what allows plain HTTP, and what names another address.
struct Variables {
    keys: &'static str,
    plain: &'static str,
    address: &'static str,
}

const S3: Variables = Variables {
    keys: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    plain: "AWS_ALLOW_HTTP",
    address: "AWS_ENDPOINT_URL",
};
const GOOGLE: Variables = Variables {
    keys: "GOOGLE_SERVICE_ACCOUNT, which names a key's file, or GOOGLE_APPLICATION_CREDENTIALS",
    plain: "GOOGLE_ALLOW_HTTP",
    address: "GOOGLE_BASE_URL",
};
const AZURE: Variables = Variables {
    keys: "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    plain: "AZURE_ALLOW_HTTP",
    address: "AZURE_STORAGE_ENDPOINT",
};

/// Where machines in a cloud are told who they are.
const ROLES: [&str; 3] = ["://169.254.169.254/", "://169.254.170.", "://metadata.google.internal/"];
/// What the library says of keys that are there in part.
const LACKING: [&str; 4] = [
    "Missing AccessKeyId",
    "Missing SecretAccessKey",
    "Account must be specified",
    "required configuration is missing",
];

impl Cause {
    /// What the words tell, if they do.
    pub(super) fn of(words: &str) -> Option<Self> {
        let has = |any: &[&str]| any.iter().any(|one| words.contains(one));
        if has(&ROLES) || has(&LACKING) {
            Some(Cause::Keys)
        } else if has(&["URL scheme is not allowed"]) {
            Some(Cause::PlainHttp)
        } else if has(&["tcp connect error", "dns error"]) {
            Some(Cause::Unreachable)
        } else {
            None
        }
    }

    /// For the operator: which variables.
    pub(super) fn cure(self, place: &str) -> String {
        let Variables { keys, plain, address } = match place.split("://").next() {
            Some("gs") => GOOGLE,
            Some("s3" | "s3a") => S3,
            _ => AZURE,
        };
        match self {
            Cause::Keys => {
                format!("set {keys} in the environment; where they are not, the machine's own role has to do")
            }
            Cause::PlainHttp => format!("{address} has https://, or {plain}=true allows plain HTTP"),
            Cause::Unreachable => format!("look at {address}, or where it is not set, at the network"),
            Cause::Denied => format!("give the owner of the keys leave for that there, or other keys: {keys}"),
        }
    }

    /// For a caller.
    pub(super) fn brief(self) -> &'static str {
        match self {
            Cause::Keys | Cause::PlainHttp => {
                "this host is not set up to ask that store; its operator's log says what lacks"
            }
            Cause::Unreachable => "nobody answers there; its operator's log has more",
            Cause::Denied => {
                "the store does not take this host's keys for that; its operator has to be given leave there"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_known_by_the_librarys_words() {
        let role = "Error performing PUT http://169.254.169.254/latest/api/token in 1.3ms - HTTP error";
        for (words, cause, place, cure) in [
            (role, Cause::Keys, "s3://b", "AWS_ACCESS_KEY_ID"),
            ("Missing SecretAccessKey", Cause::Keys, "s3://b", "AWS_SECRET_ACCESS_KEY"),
            ("Account must be specified", Cause::Keys, "az://b", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("builder error: URL scheme is not allowed", Cause::PlainHttp, "s3://b", "AWS_ALLOW_HTTP=true"),
            ("client error (Connect): tcp connect error", Cause::Unreachable, "gs://b", "GOOGLE_BASE_URL"),
        ] {
            assert_eq!(Cause::of(words), Some(cause), "{words}");
            assert!(cause.cure(place).contains(cure), "{}", cause.cure(place));
            // A caller learns no variable.
            assert!(!cause.brief().contains('_'), "{}", cause.brief());
        }
        assert_eq!(Cause::of("SlowDown: reduce your request rate"), None);
    }
}
