//! The far side: what a source lists, and the bytes of its files.

mod auth;
mod files;
mod heed;
mod hub;
mod index;
mod objects;
mod registry;
mod web;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};
use url::Url;

use super::access::Access;
use super::error::PreloadError;
use super::name;
use super::source::{Source, hex};
pub use files::expand;

/// Failures of a small read that are too many.
const PATIENCE: u32 = 4;

/// One file of a listing.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its name, a plain relative path.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The name its blob gets: known before the first byte, the same for the same content.
    pub digest: String,
    /// SHA-256 that the source promises.
    pub sha256: Option<String>,
    /// SHA-1 that git has for it: over "blob SIZE\0" and the content.
    pub git: Option<String>,
    /// What the source says of this version of it; every answer must say the same.
    pub etag: Option<String>,
    /// Whether parts of it can be asked for.
    pub in_ranges: bool,
    /// Whether it is an archive, whose members are the files.
    pub packed: bool,
    /// Where it is.
    pub place: Place,
}

/// Where a file is.
#[derive(Debug, Clone)]
pub enum Place {
    /// Behind a URL. `pinned` says whether answers carry the listing's `etag`.
    Web {
        /// The URL.
        url: Url,
        /// Whether the etag is the answering server's own.
        pinned: bool,
        /// Its Last-Modified, where it has no strong etag.
        modified: Option<String>,
    },
    /// An object of a bucket.
    Object(object_store::path::Path),
    /// A file of a mount, as it was.
    File {
        /// Its path.
        path: PathBuf,
        /// Its time of change, ns since 1970.
        modified_ns: i64,
    },
}

/// What a source has.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The revision: what changes when anything does.
    pub revision: String,
    /// Its files, by name.
    pub files: Vec<Remote>,
}

/// The answer to the question for the newest revision.
#[derive(Debug)]
pub enum Newest {
    /// It is this one; its files are to be asked for.
    Revision(String),
    /// The listing came with it.
    Listing(Listing),
}

impl Newest {
    /// The revision.
    pub fn revision(&self) -> &str {
        match self {
            Newest::Revision(revision) => revision,
            Newest::Listing(listing) => &listing.revision,
        }
    }
}

/// Why a read failed.
#[derive(Debug)]
pub enum ReadError {
    /// It is not the version that was listed.
    Changed,
    /// It comes only as a whole.
    NoRanges,
    /// It may work again; not before `wait`, where the other side said so.
    Passing {
        /// Why, without credentials.
        why: String,
        /// How long to wait.
        wait: Option<Duration>,
        /// Whether the other side is overloaded.
        busy: bool,
    },
    /// We are not let.
    Refused(String),
    /// It will not work.
    Final(String),
}

impl ReadError {
    /// A failure that may pass.
    pub fn passing(why: impl Into<String>) -> ReadError {
        ReadError::Passing { why: why.into(), wait: None, busy: false }
    }

    /// In a command's words. `what` is the file or the source.
    pub fn into_error(self, source: &Source, what: &str) -> PreloadError {
        let (why, passing) = match self {
            ReadError::Refused(why) => return PreloadError::Refused { source_name: source.to_string(), why },
            ReadError::Passing { why, .. } => (why, true),
            ReadError::Final(why) => (why, false),
            ReadError::Changed => ("it changed while it was read".to_owned(), true),
            ReadError::NoRanges => ("its server gives no parts of it".to_owned(), false),
        };
        PreloadError::Source { what: what.to_owned(), why, passing }
    }
}

/// Bytes as they come.
pub type Stream = BoxStream<'static, Result<Bytes, ReadError>>;

/// An opened source.
#[derive(Debug)]
pub struct Origin {
    source: Source,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Hub(hub::Hub),
    Index(index::Index),
    Registry(registry::Registry),
    Objects(objects::Objects),
    Files(PathBuf),
}

impl Origin {
    /// Opens a source; nothing is asked for yet.
    ///
    /// # Errors
    /// If the configuration for it is wrong.
    pub fn open(source: &Source, access: &Access, connections: usize) -> Result<Origin, PreloadError> {
        let way = match source {
            Source::Hub { kind, repository, revision } => {
                Way::Hub(hub::Hub::open(kind, repository, revision, access, connections)?)
            }
            Source::Web(url) => Way::Index(index::Index::open(url, connections)?),
            Source::Registry { host, repository, reference } => {
                Way::Registry(registry::Registry::open(host, repository, reference, connections)?)
            }
            Source::Bucket { store, bucket, prefix } => Way::Objects(objects::Objects::open(*store, bucket, prefix)?),
            Source::Path(path) => Way::Files(expand(path)),
            Source::Claim { claim, path } => Way::Files(access.mount(claim).join(path)),
        };
        Ok(Origin { source: source.clone(), way })
    }

    /// The source.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Asks for the newest revision with as little traffic as the source allows.
    ///
    /// # Errors
    /// If it can't be had.
    pub async fn newest(&self) -> Result<Newest, PreloadError> {
        let newest = match &self.way {
            Way::Hub(hub) => hub.newest().await.map(Newest::Revision),
            Way::Index(index) => index.list().await.map(Newest::Listing),
            Way::Registry(registry) => registry.list().await.map(Newest::Listing),
            Way::Objects(objects) => objects.list().await.map(Newest::Listing),
            Way::Files(root) => files::list(root).map(Newest::Listing),
        };
        match newest.map_err(|error| error.into_error(&self.source, &self.source.to_string()))? {
            Newest::Listing(listing) => Ok(Newest::Listing(self.checked(listing)?)),
            revision => Ok(revision),
        }
    }

    /// Lists the files of a revision.
    ///
    /// # Errors
    /// If they can't be had, or a name among them leads elsewhere.
    pub async fn list(&self, revision: &str) -> Result<Listing, PreloadError> {
        let Way::Hub(hub) = &self.way else {
            return match self.newest().await? {
                Newest::Listing(listing) => Ok(listing),
                Newest::Revision(_) => Ok(Listing { revision: revision.to_owned(), files: Vec::new() }),
            };
        };
        let listing = hub.list(revision).await;
        self.checked(listing.map_err(|error| error.into_error(&self.source, &self.source.to_string()))?)
    }

    fn checked(&self, mut listing: Listing) -> Result<Listing, PreloadError> {
        listing.files.sort_by(|one, other| one.name.cmp(&other.name));
        let wrong = |(name, why)| PreloadError::Name { source_name: self.source.to_string(), name, why };
        name::check_together(listing.files.iter().map(|file| file.name.as_str())).map_err(wrong)?;
        if listing.files.is_empty() {
            let what = "no files".to_owned();
            return Err(PreloadError::Nothing { source_name: self.source.to_string(), what });
        }
        Ok(listing)
    }

    /// A small part of a file, wherever it is.
    ///
    /// # Errors
    /// If it can't be had.
    pub async fn bytes(&self, remote: &Remote, range: Range<u64>) -> Result<Vec<u8>, PreloadError> {
        let mut failures = 0;
        loop {
            match self.try_bytes(remote, range.clone()).await {
                Err(ReadError::Passing { wait, .. }) if failures < PATIENCE => {
                    failures += 1;
                    tokio::time::sleep(super::fetch::pause(failures, wait, fastrand::f64())).await;
                }
                other => return other.map_err(|error| error.into_error(&self.source, &remote.name)),
            }
        }
    }

    async fn try_bytes(&self, remote: &Remote, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
        let length = usize::try_from(range.end - range.start).map_err(|_| ReadError::NoRanges)?;
        if let Place::File { path, .. } = &remote.place {
            let mut bytes = vec![0; length];
            let read = std::fs::File::open(path)
                .and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.start));
            return read.map(|()| bytes).map_err(|error| ReadError::Final(error.to_string()));
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        let mut stream = self.read(remote, range).await?;
        while bytes.len() < length {
            match futures::StreamExt::next(&mut stream).await {
                Some(chunk) => bytes.extend_from_slice(&chunk?),
                None => return Err(ReadError::passing("it ended early")),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Starts to read a part of a file that is on no mount.
    ///
    /// # Errors
    /// If it can't be had, or is not what was listed.
    pub async fn read(&self, remote: &Remote, range: Range<u64>) -> Result<Stream, ReadError> {
        match (&self.way, &remote.place) {
            (Way::Hub(hub), Place::Web { .. }) => hub.web().read(remote, range).await,
            (Way::Index(index), Place::Web { .. }) => index.web().read(remote, range).await,
            (Way::Registry(registry), Place::Web { .. }) => registry.read(remote, range).await,
            (Way::Objects(objects), Place::Object(path)) => objects.read(path, remote, range).await,
            _ => Err(ReadError::Final("it is on another kind of source".to_owned())),
        }
    }
}

/// The name of a blob for content that is known by its source's words alone.
fn made_digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    format!("tag-{}", &hex(&hash.finalize())[..40])
}

/// The revision of a source that has none: a digest over what it lists.
fn made_revision(files: &[Remote]) -> String {
    let mut lines: Vec<String> =
        files.iter().map(|file| format!("{} {} {}\n", file.digest, file.bytes, file.name)).collect();
    lines.sort();
    let mut hash = Sha256::new();
    lines.iter().for_each(|line| hash.update(line.as_bytes()));
    hex(&hash.finalize())[..40].to_owned()
}
