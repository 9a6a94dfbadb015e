//! Where a model comes from: the SOURCE of the command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use url::Url;

use super::name;

/// An object store's interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucketry {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// Alibaba Cloud OSS.
    Oss,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

impl Bucketry {
    /// As in a URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Bucketry::S3 => "s3",
            Bucketry::Oss => "oss",
            Bucketry::Gs => "gs",
            Bucketry::Az => "az",
        }
    }
}

/// A source. Prints without credentials, also with `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository of a model hub.
    Hub {
        /// "models" or "datasets".
        kind: &'static str,
        /// `org/name`, or a bare old name.
        repository: String,
        /// A branch, tag or commit.
        revision: String,
    },
    /// Objects below a prefix.
    Bucket {
        /// Whose interface.
        store: Bucketry,
        /// The bucket, or the container.
        bucket: String,
        /// The prefix, without slashes at its ends; empty for all of the bucket.
        prefix: String,
    },
    /// One file, or with a slash at its end what a directory's index page names.
    Web(Url),
    /// A directory or a file of a mount.
    Path(PathBuf),
    /// A path in a volume that a pod has mounted.
    Claim {
        /// The claim's name.
        claim: String,
        /// The path in it; empty for all of it.
        path: String,
    },
    /// An artifact of an OCI registry.
    Registry {
        /// Host and port.
        host: String,
        /// The repository.
        repository: String,
        /// A tag or a digest.
        reference: String,
    },
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        if text.is_empty() {
            return Err("empty; write hf://org/model, s3://bucket/prefix or a path".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("control characters in it".to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else { return bare(text) };
        match scheme.to_ascii_lowercase().as_str() {
            "hf" | "huggingface" => hub(rest),
            "s3" => bucket(Bucketry::S3, rest),
            "oss" => bucket(Bucketry::Oss, rest),
            "gs" | "gcs" => bucket(Bucketry::Gs, rest),
            "az" | "azure" | "abfs" => bucket(Bucketry::Az, rest),
            "http" | "https" => web(text),
            "file" => file(rest),
            "pvc" => claim(rest),
            "oci" => registry(rest),
            _ => Err(format!("no source of kind {scheme}://; there are hf, s3, oss, gs, az, https, file, pvc and oci")),
        }
    }
}

/// `/path`, `./path`, `~/path` is a path; `org/model` a repository of the hub.
fn bare(text: &str) -> Result<Source, String> {
    if text.starts_with(['/', '.', '~']) {
        return Ok(Source::Path(PathBuf::from(text)));
    }
    match text.split_once('@').map_or(text, |(repository, _)| repository).split('/').count() {
        2 => hub(text),
        _ => Err("not a source; write hf://org/model, s3://bucket/prefix, or ./path for a path".to_owned()),
    }
}

fn hub(rest: &str) -> Result<Source, String> {
    let (kind, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => ("datasets", rest),
        Some(("models", rest)) if rest.contains('/') => ("models", rest),
        _ => ("models", rest),
    };
    let (repository, revision) = match rest.split_once('@') {
        Some((_, "")) => return Err("no revision behind the @".to_owned()),
        Some((repository, revision)) => (repository, revision),
        None => (rest, "main"),
    };
    let repository = repository.trim_end_matches('/');
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    if repository.split('/').count() > 2 || !repository.split('/').all(part) {
        return Err("not a repository of a hub; write hf://org/model or hf://org/model@revision".to_owned());
    }
    // It becomes a path below refs/.
    if name::check(revision).is_err() || revision.contains(['?', '#', '%', ' ']) {
        return Err("not a revision; it is a branch, a tag or a commit".to_owned());
    }
    Ok(Source::Hub { kind, repository: repository.to_owned(), revision: revision.to_owned() })
}

fn bucket(store: Bucketry, rest: &str) -> Result<Source, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') {
        return Err("credentials don't belong into a source; set them in the environment".to_owned());
    }
    if bucket.is_empty() || !bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$')) {
        return Err(format!("not a bucket; write {}://bucket/prefix", store.scheme()));
    }
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() {
        name::check(prefix).map_err(|why| format!("not a prefix: {why}"))?;
    }
    Ok(Source::Bucket { store, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn web(text: &str) -> Result<Source, String> {
    let mut url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err("a URL without a host".to_owned());
    }
    url.set_fragment(None);
    Ok(Source::Web(url))
}

fn file(rest: &str) -> Result<Source, String> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("not an absolute path; write file:///path".to_owned());
    }
    Ok(Source::Path(PathBuf::from(path)))
}

fn claim(rest: &str) -> Result<Source, String> {
    let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
    let letters = claim.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
    if claim.is_empty() || claim.len() > 253 || !letters || claim.starts_with(['-', '.']) || claim.ends_with(['-', '.'])
    {
        return Err("not the name of a claim; write pvc://claim/path".to_owned());
    }
    let path = path.trim_matches('/');
    if !path.is_empty() {
        name::check(path).map_err(|why| format!("not a path in a claim: {why}"))?;
    }
    Ok(Source::Claim { claim: claim.to_owned(), path: path.to_owned() })
}

fn registry(rest: &str) -> Result<Source, String> {
    let wrong = || "not an artifact; write oci://registry/repository:tag or …@sha256:digest".to_owned();
    let (host, rest) = rest.split_once('/').ok_or_else(wrong)?;
    let (repository, reference) = match rest.split_once('@') {
        Some((repository, digest)) => {
            let hex = digest.strip_prefix("sha256:").ok_or_else(wrong)?;
            if hex.len() != 64 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err("not a digest; it is sha256: and 64 hexadecimal digits".to_owned());
            }
            // A tag before a digest says nothing more.
            (repository.split(':').next().unwrap_or(repository), digest.to_ascii_lowercase())
        }
        None => match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, tag.to_owned()),
            None => (rest, "latest".to_owned()),
        },
    };
    let component = |part: &str| {
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(letters) && !part.starts_with(['-', '_', '.'])
    };
    let tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let host_letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(host_letters) || !repository.split('/').all(component) {
        return Err(wrong());
    }
    if reference.is_empty() || reference.len() > 128 || !reference.chars().all(tag) || reference.starts_with(['.', '-'])
    {
        return Err(wrong());
    }
    Ok(Source::Registry { host: host.to_owned(), repository: repository.to_owned(), reference })
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Hub { kind, repository, revision } => {
                let kind = if *kind == "models" { "" } else { "datasets/" };
                write!(f, "hf://{kind}{repository}")?;
                if revision == "main" { Ok(()) } else { write!(f, "@{revision}") }
            }
            Source::Bucket { store, bucket, prefix } => {
                write!(f, "{}://{bucket}", store.scheme())?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
            Source::Web(url) => {
                let mut plain = url.clone();
                plain.set_query(None);
                // Fails only for URLs that can't have them.
                let _ = plain.set_username("").and_then(|()| plain.set_password(None));
                f.write_str(plain.as_str())
            }
            Source::Path(path) => write!(f, "file://{}", path.display()),
            Source::Claim { claim, path } if path.is_empty() => write!(f, "pvc://{claim}"),
            Source::Claim { claim, path } => write!(f, "pvc://{claim}/{path}"),
            Source::Registry { host, repository, reference } => {
                let mark = if reference.starts_with("sha256:") { '@' } else { ':' };
                write!(f, "oci://{host}/{repository}{mark}{reference}")
            }
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

/// Characters of a made-up name's readable part.
const READABLE: usize = 60;

impl Source {
    /// The name of the directory that a hub's cache has for it: `models--org--name`. What is from
    /// no hub gets a name of the same shape, `models--s3--bucket.prefix-1a2b3c4d`, so that servers
    /// take it as `s3/bucket.prefix-1a2b3c4d`.
    pub fn directory(&self) -> String {
        if let Source::Hub { kind, repository, .. } = self {
            return format!("{kind}--{}", repository.replace('/', "--"));
        }
        let (scheme, whole) = match self {
            Source::Registry { host, repository, .. } => ("oci".to_owned(), format!("{host}/{repository}")),
            other => {
                let text = other.to_string();
                let (scheme, rest) = text.split_once("://").unwrap_or(("file", &text));
                (scheme.to_owned(), rest.to_owned())
            }
        };
        let mut readable = String::new();
        for c in whole.chars().take(READABLE) {
            match c {
                c if c.is_ascii_alphanumeric() => readable.push(c),
                _ if readable.is_empty() || readable.ends_with('.') => {}
                _ => readable.push('.'),
            }
        }
        let mut hash = Sha256::new();
        hash.update(whole.as_bytes());
        if let Source::Web(url) = self {
            // Two files may differ in their query alone; it stays unreadable.
            hash.update(url.query().unwrap_or_default().as_bytes());
        }
        let hash = hex(&hash.finalize());
        format!("models--{scheme}--{}-{}", readable.trim_end_matches('.'), &hash[..8])
    }

    /// The same, with a path that does not hang on the working directory.
    #[must_use]
    pub fn absolute(self) -> Source {
        match self {
            Source::Path(path) => Source::Path(super::origin::expand(&path)),
            other => other,
        }
    }

    /// The kind of source: "hf", "s3".
    pub fn scheme(&self) -> &'static str {
        match self {
            Source::Hub { .. } => "hf",
            Source::Bucket { store, .. } => store.scheme(),
            Source::Web(_) => "https",
            Source::Path(_) => "file",
            Source::Claim { .. } => "pvc",
            Source::Registry { .. } => "oci",
        }
    }

    /// What `refs/` calls the revision that was asked for; `None` if it says by itself which it is.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Source::Hub { revision, .. } => Some(revision),
            Source::Registry { reference, .. } => (!reference.starts_with("sha256:")).then_some(reference),
            _ => Some("main"),
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        text.parse::<Source>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string()
    }

    #[test]
    fn every_kind() {
        for (text, canonical) in [
            ("hf://org/model", "hf://org/model"),
            ("hf://org/model@main", "hf://org/model"),
            ("hf://org/model@refs/pr/1", "hf://org/model@refs/pr/1"),
            ("hf://gpt2", "hf://gpt2"),
            ("hf://datasets/org/data@v1", "hf://datasets/org/data@v1"),
            ("org/model", "hf://org/model"),
            ("org/model@abc", "hf://org/model@abc"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("s3://bucket", "s3://bucket"),
            ("oss://bucket/a", "oss://bucket/a"),
            ("gcs://bucket/a", "gs://bucket/a"),
            ("az://box/a", "az://box/a"),
            ("https://ada:pass@host/a?sig=1#x", "https://host/a"),
            ("/models/a", "file:///models/a"),
            ("file:///models/a", "file:///models/a"),
            ("pvc://claim/a/b", "pvc://claim/a/b"),
            ("oci://ghcr.io/org/model:v1", "oci://ghcr.io/org/model:v1"),
            ("oci://localhost:5000/model", "oci://localhost:5000/model:latest"),
        ] {
            assert_eq!(shown(text), canonical, "{text}");
        }
    }

    #[test]
    fn wrong_ones_are_told() {
        for text in [
            "",
            "model",
            "a/b/c",
            "ftp://host/a",
            "hf://",
            "hf://a/b/c",
            "hf://org/mo--del",
            "hf://org/../x",
            "hf://org/m@",
            "hf://org/m@../../x",
            "s3://",
            "s3:///a",
            "s3://key:secret@bucket/a",
            "s3://bucket/../x",
            "https://",
            "file://a",
            "pvc://",
            "pvc://Claim/x",
            "pvc://a/../b",
            "oci://host",
            "oci://host/Repo:tag",
            "oci://host/a@sha256:12",
            "a\nb/c",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let source: Source = "https://ada:geheim@host/a.bin?token=geheim".parse().unwrap();
        assert!(!format!("{source} {source:?} {}", source.directory()).contains("geheim"));
    }

    #[test]
    fn directories_have_the_hubs_shape() {
        let directory = |text: &str| text.parse::<Source>().unwrap().directory();
        assert_eq!(directory("hf://org/model@v2"), "models--org--model");
        assert_eq!(directory("hf://datasets/org/data"), "datasets--org--data");
        assert!(directory("s3://bucket/a/b").starts_with("models--s3--bucket.a.b-"));
        assert_ne!(directory("s3://bucket/a/b"), directory("s3://bucket/a.b"));
        assert_ne!(directory("https://h/a?v=1"), directory("https://h/a?v=2"));
        assert_eq!(directory("oci://h/r:v1"), directory("oci://h/r:v2"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = text.parse::<Source>();
        }

        #[test]
        fn what_is_printed_reads_as_the_same(
            text in "(hf|s3|oss|gs|az|file|pvc|oci|https)://[a-zA-Z0-9./:@_-]{0,30}"
        ) {
            if let Ok(source) = text.parse::<Source>() {
                let printed = source.to_string();
                let again: Source = printed.parse().unwrap();
                prop_assert_eq!(again.to_string(), printed);
                prop_assert_eq!(again.directory(), source.directory());
            }
        }

        #[test]
        fn a_directory_is_one_harmless_name(
            text in "(hf|s3|oss|gs|az|file|pvc|oci|https)://[a-zA-Z0-9./:@_ é?-]{0,60}"
        ) {
            if let Ok(source) = text.parse::<Source>() {
                let directory = source.directory();
                prop_assert!(name::check(&directory).is_ok() && !directory.contains('/'), "{}", directory);
            }
        }
    }
}
