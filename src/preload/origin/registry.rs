//! OCI registries: the manifest of an artifact names layers by their digests, and annotations name
//! the files in them (ORAS and ModelPack). Three calls, and the exchange of a password for a token.

use std::collections::BTreeSet;
use std::ops::Range;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::super::error::PreloadError;
use super::super::source::hex;
use super::super::store::manifest::archive_name;
use super::web::{Web, refusal};
use super::{Listing, Place, ReadError, Remote, Stream, auth};

/// Manifests that are understood.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
/// Annotations that name a layer's file: the OCI image spec's, and ModelPack's.
const TITLES: [&str; 3] = ["org.cncf.model.filepath", "org.opencontainers.image.title", "org.cnai.model.filepath"];

/// ModelPack's annotation with what the archiver knew of a layer's file, as JSON; "cnai" before 2025.
const ABOUT: [&str; 2] = ["org.cncf.model.file.metadata+json", "org.cnai.model.file.metadata+json"];

/// ORAS's annotation of a directory that is packed.
const UNPACK: &str = "io.deis.oras.content.unpack";

/// A repository of a registry.
#[derive(Debug)]
pub struct Registry {
    web: Web,
    base: Url,
    host: String,
    repository: String,
    reference: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    layers: Vec<Layer>,
    manifests: Vec<Layer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    annotations: std::collections::BTreeMap<String, String>,
}

/// Of [`ABOUT`], what is of use here.
#[derive(Debug, Deserialize)]
struct About {
    /// What tar calls the kind of a file: a byte, '0' or zero for a plain one.
    typeflag: u8,
}

impl Layer {
    /// Whether it is a file, though its type says it is an archive: ORAS gives all it packs the type of
    /// an image's layer, and says of directories alone that they are to be unpacked.
    fn is_plain_file(&self) -> bool {
        let images = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
        images.iter().any(|kind| self.media_type.starts_with(kind))
            && self.annotations.contains_key(TITLES[1])
            && self.annotations.get(UNPACK).is_none_or(|unpack| unpack != "true")
    }

    /// The file that an archive says it holds, if it is but one: then it need not come if that is not
    /// wanted. Of a directory ModelPack's tools say so.
    fn only_file(&self) -> Option<String> {
        let about = ABOUT.iter().find_map(|name| self.annotations.get(*name))?;
        let about: About = serde_json::from_str(about).ok()?;
        let path = self.annotations.get(TITLES[0]).or_else(|| self.annotations.get(TITLES[2]))?;
        matches!(about.typeflag, 0 | b'0').then(|| path.clone())
    }
}

#[derive(Debug, Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Opens a repository.
    pub fn open(host: &str, repository: &str, reference: &str, connections: usize) -> Result<Registry, PreloadError> {
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        // As Docker's tools do: no TLS with this machine itself.
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let near = name == "localhost" || name == "[::1]" || name.starts_with("127.");
        let scheme = if near { "http" } else { "https" };
        let wrong = |error: url::ParseError| PreloadError::Source {
            what: format!("oci://{host}/{repository}"),
            why: error.to_string(),
            passing: false,
        };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{repository}/")).map_err(wrong)?;
        let web = Web::new(&base, None, connections)?;
        let own = |text: &str| text.to_owned();
        Ok(Registry { web, base, host: own(host), repository: own(repository), reference: own(reference) })
    }

    /// The files of the artifact.
    pub async fn list(&self) -> Result<Listing, ReadError> {
        let (mut digest, mut document) = self.manifest(&self.reference).await?;
        if document.layers.is_empty()
            && let Some(first) = document.manifests.first()
        {
            let first = first.digest.clone();
            (digest, document) = self.manifest(&first).await?;
        }
        let mut files =
            document.layers.iter().map(|layer| self.file(layer)).collect::<Result<Vec<Remote>, ReadError>>()?;
        // An archive that is named twice holds the same files.
        let mut archives = BTreeSet::new();
        files.retain(|file| !file.packed || archives.insert(file.digest.clone()));
        Ok(Listing { revision: digest, files })
    }

    fn file(&self, layer: &Layer) -> Result<Remote, ReadError> {
        let digest = layer.digest.strip_prefix("sha256:").filter(|hex| is_sha256(hex));
        let digest = digest.ok_or_else(|| ReadError::Final(format!("a layer has the digest {:?}", layer.digest)))?;
        // "….v1.tar", "….tar+gzip", "….diff.tar.gzip": how it is packed is seen from its first bytes.
        let kind = layer.media_type.rsplit('.').find(|part| !matches!(*part, "gzip" | "zstd")).unwrap_or_default();
        let packed = (kind == "tar" || kind.starts_with("tar+")) && !layer.is_plain_file();
        let title = TITLES.iter().find_map(|title| layer.annotations.get(*title));
        let name = match title {
            _ if packed => layer.only_file().unwrap_or_else(|| archive_name(&digest.to_ascii_lowercase())),
            Some(title) => title.clone(),
            None => return Err(ReadError::Final(format!("its layer {} has no file name", &digest[..12]))),
        };
        let url = self.base.join(&format!("blobs/sha256:{digest}"));
        let url = url.map_err(|error| ReadError::Final(error.to_string()))?;
        Ok(Remote {
            name,
            bytes: layer.size,
            digest: digest.to_ascii_lowercase(),
            sha256: Some(digest.to_ascii_lowercase()),
            git: None,
            etag: None,
            in_ranges: true,
            packed,
            place: Place::Web { url, pinned: false, modified: None },
        })
    }

    /// A manifest and its own digest.
    async fn manifest(&self, reference: &str) -> Result<(String, Document), ReadError> {
        let url = self.base.join(&format!("manifests/{reference}"));
        let url = url.map_err(|error| ReadError::Final(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        let body = match self.web.document(&url, headers.clone()).await {
            Err(ReadError::Refused(_)) => {
                self.sign_in(&url).await?;
                self.web.document(&url, headers).await?.0
            }
            other => other?.0,
        };
        let digest = hex(&Sha256::digest(&body));
        if reference.strip_prefix("sha256:").is_some_and(|wanted| wanted != digest) {
            return Err(ReadError::Final("its manifest has another digest than was asked for".to_owned()));
        }
        let document = serde_json::from_slice(&body);
        Ok((digest, document.map_err(|error| ReadError::Final(format!("its manifest can't be read: {error}")))?))
    }

    /// Gets a token from where the registry says (distribution spec, "token authentication").
    async fn sign_in(&self, url: &Url) -> Result<(), ReadError> {
        let pair = auth::registry(&self.host);
        self.web.authorize(None);
        let (answer, _) = self.web.send(Method::HEAD, url, HeaderMap::new()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return if answer.status().is_success() {
                Ok(())
            } else {
                Err(refusal(answer.status(), answer.headers(), &[]))
            };
        }
        let asked =
            answer.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if asked.to_ascii_lowercase().starts_with("basic") {
            let pair = pair.as_ref().and_then(auth::basic);
            let none = || ReadError::Refused(format!("{} asks for a password, and there is none for it", self.host));
            self.web.authorize(Some(pair.ok_or_else(none)?));
            return Ok(());
        }
        let field = |name: &str| {
            let (_, rest) = asked.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let realm = field("realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.ok_or_else(|| ReadError::Refused("HTTP 401, without a way to sign in".to_owned()))?;
        if realm.scheme() != "https" && self.base.scheme() == "https" {
            return Err(ReadError::Refused("it wants the password without TLS".to_owned()));
        }
        realm.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", self.repository));
        if let Some(service) = field("service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        let issuer = Web::new(&realm, pair.as_ref().and_then(auth::basic), 1);
        let issuer = issuer.map_err(|error| ReadError::Final(error.to_string()))?;
        let (body, _) = issuer.document(&realm, HeaderMap::new()).await?;
        let token: Token = serde_json::from_slice(&body)
            .map_err(|_| ReadError::Refused("the token's issuer gives none".to_owned()))?;
        let token = token.token.or(token.access_token).and_then(|token| auth::bearer(&token));
        self.web.authorize(Some(token.ok_or_else(|| ReadError::Refused("the token's issuer gives none".to_owned()))?));
        Ok(())
    }

    /// Starts to read a part of a layer; a token lives some minutes only.
    pub async fn read(&self, remote: &Remote, range: Range<u64>) -> Result<Stream, ReadError> {
        match self.web.read(remote, range.clone()).await {
            Err(ReadError::Refused(_)) => {
                if let Place::Web { url, .. } = &remote.place {
                    self.sign_in(url).await?;
                }
                self.web.read(remote, range).await
            }
            other => other,
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit())
}
