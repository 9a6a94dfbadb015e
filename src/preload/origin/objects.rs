//! Object stores, through the object_store crate: signatures, listings, tokens of the clouds.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};

use super::super::access::{self, text};
use super::super::error::{PreloadError, scrub};
use super::super::source::Bucketry;
use super::heed::Heed;
use super::{Listing, Place, ReadError, Remote, Stream, made_digest, made_revision};

/// A server that doesn't take a connection by then is not reachable.
const CONNECT: Duration = Duration::from_secs(10);
/// A listing is answered by then.
const ANSWER: Duration = Duration::from_secs(120);

/// A bucket.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    kind: Bucketry,
    bucket: String,
    prefix: String,
    heed: Heed,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own words may hold keys.
        f.debug_struct("Objects").field("bucket", &self.bucket).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Objects {
    /// Opens a bucket with what the environment says.
    pub fn open(kind: Bucketry, bucket: &str, prefix: &str) -> Result<Objects, PreloadError> {
        let heed = Heed::default();
        let store = match kind {
            Bucketry::S3 => s3(bucket, &heed).map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
            Bucketry::Oss => oss(bucket, &heed).map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
            Bucketry::Gs => GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_http_connector(heed.clone())
                .with_client_options(options(false))
                .with_retry(retries())
                .build()
                .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
            Bucketry::Az => MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_http_connector(heed.clone())
                .with_client_options(options(text("AZURE_ALLOW_HTTP").is_some()))
                .with_retry(retries())
                .build()
                .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
        };
        let store = store.map_err(|error| PreloadError::Source {
            what: format!("{}://{bucket}", kind.scheme()),
            why: scrub(&error.to_string()),
            passing: false,
        })?;
        Ok(Objects { store, kind, bucket: bucket.to_owned(), prefix: prefix.to_owned(), heed })
    }

    /// Lists the objects below the prefix, or the one that it names.
    pub async fn list(&self) -> Result<Listing, ReadError> {
        let listed = async {
            let prefix = (!self.prefix.is_empty())
                .then(|| Path::parse(&self.prefix))
                .transpose()
                .map_err(|error| trouble(error.into()))?;
            let mut files = Vec::new();
            let mut objects = self.store.list(prefix.as_ref());
            while let Some(object) = objects.try_next().await.map_err(trouble)? {
                let key = object.location.as_ref();
                let name = key.strip_prefix(&self.prefix).unwrap_or(key).trim_start_matches('/').to_owned();
                // A name that ends with a slash is how tools mark a directory.
                if !name.is_empty() {
                    files.push(self.file(name, &object));
                }
            }
            if let Some(prefix) = prefix.filter(|_| files.is_empty()) {
                match self.store.head(&prefix).await {
                    Ok(object) => {
                        let name = prefix.filename().unwrap_or(prefix.as_ref()).to_owned();
                        files.push(self.file(name, &object));
                    }
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(trouble(error)),
                }
            }
            Ok(Listing { revision: made_revision(&files), files })
        };
        let late = |_| ReadError::passing(format!("no listing within {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, listed).await.map_err(late)?
    }

    /// An error that may pass, with what the server asked for.
    fn rested(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Passing { why, wait: None, busy } => ReadError::Passing { why, wait: self.heed.rest(), busy },
            other => other,
        }
    }

    fn file(&self, name: String, object: &ObjectMeta) -> Remote {
        let tag = object.e_tag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339());
        // An entity tag of these stores is a digest of content (or of parts, with the parts' size).
        let digest = made_digest(&[self.kind.scheme(), &self.bucket, &tag, &object.size.to_string()]);
        Remote {
            name,
            bytes: object.size,
            digest,
            sha256: None,
            git: None,
            etag: object.e_tag.clone(),
            in_ranges: true,
            packed: false,
            place: Place::Object(object.location.clone()),
        }
    }

    /// Starts to read a part of an object.
    pub async fn read(&self, path: &Path, remote: &Remote, range: Range<u64>) -> Result<Stream, ReadError> {
        let wanted = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: remote.etag.clone(),
            ..GetOptions::default()
        };
        let got = self.store.get_opts(path, wanted).await.map_err(|error| self.rested(trouble(error)))?;
        let same = remote.etag.is_none() || got.meta.e_tag.is_none() || got.meta.e_tag == remote.etag;
        if !same || got.meta.size != remote.bytes || got.range != range {
            return Err(ReadError::Changed);
        }
        Ok(got.into_stream().map_err(trouble).boxed())
    }
}

fn options(allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_http1_only()
        .with_connect_timeout(CONNECT)
        .with_timeout_disabled()
        .with_pool_max_idle_per_host(512)
}

/// Requests are made again by the fetch itself, which sees the whole.
fn retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn s3(bucket: &str, heed: &Heed) -> object_store::Result<object_store::aws::AmazonS3> {
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|name| text(name));
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries());
    let mut plain = text("AWS_ALLOW_HTTP").is_some_and(|value| value == "true" || value == "1");
    if let Some(endpoint) = endpoint {
        // Whoever names a server by http:// wants it so.
        plain |= endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(region) = text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")) {
        builder = builder.with_region(region);
    }
    if text("AWS_ACCESS_KEY_ID").is_none()
        && let Some(keys) = profile_keys()
    {
        builder = builder.with_access_key_id(keys.0).with_secret_access_key(keys.1);
        if let Some(token) = keys.2 {
            builder = builder.with_token(token);
        }
    }
    builder.with_http_connector(heed.clone()).with_client_options(options(plain)).build()
}

/// OSS takes signatures of S3's kind at its S3-compatible address, with the bucket in the host's name.
fn oss(bucket: &str, heed: &Heed) -> object_store::Result<object_store::aws::AmazonS3> {
    let region = text("OSS_REGION").or_else(|| text("ALIBABA_CLOUD_REGION_ID"));
    let endpoint = text("OSS_ENDPOINT").or_else(|| Some(format!("https://oss-{}.aliyuncs.com", region.as_deref()?)));
    let endpoint = endpoint.ok_or_else(|| object_store::Error::Generic {
        store: "OSS",
        source: "OSS_ENDPOINT and OSS_REGION are not set".into(),
    })?;
    let endpoint = if endpoint.contains("://") { endpoint } else { format!("https://{endpoint}") };
    let endpoint = endpoint.trim_end_matches('/');
    let plain = endpoint.starts_with("http://");
    let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let named = region.or_else(|| Some(host.strip_prefix("oss-")?.split('.').next()?.to_owned()));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(named.unwrap_or_else(|| "oss".to_owned()))
        .with_retry(retries())
        .with_http_connector(heed.clone())
        .with_client_options(options(plain));
    builder = if host.starts_with(|c: char| c.is_ascii_digit()) || host.starts_with("localhost") {
        builder.with_endpoint(endpoint)
    } else {
        builder.with_endpoint(format!("{scheme}://{bucket}.{host}")).with_virtual_hosted_style_request(true)
    };
    let key = text("OSS_ACCESS_KEY_ID").or_else(|| text("ALIBABA_CLOUD_ACCESS_KEY_ID"));
    let secret = text("OSS_ACCESS_KEY_SECRET").or_else(|| text("ALIBABA_CLOUD_ACCESS_KEY_SECRET"));
    builder = match (key, secret) {
        (Some(key), Some(secret)) => builder.with_access_key_id(key).with_secret_access_key(secret),
        _ => builder.with_skip_signature(true),
    };
    if let Some(token) = text("OSS_SESSION_TOKEN").or_else(|| text("ALIBABA_CLOUD_SECURITY_TOKEN")) {
        builder = builder.with_token(token);
    }
    builder.build()
}

/// Key, secret and token of AWS_PROFILE in the shared credentials file.
fn profile_keys() -> Option<(String, String, Option<String>)> {
    let path = text("AWS_SHARED_CREDENTIALS_FILE").map(std::path::PathBuf::from);
    let path = path.or_else(|| Some(access::home()?.join(".aws/credentials")))?;
    let profile = text("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    keys_of(&std::fs::read_to_string(path).ok()?, &profile)
}

fn keys_of(file: &str, profile: &str) -> Option<(String, String, Option<String>)> {
    let heading = format!("[{profile}]");
    let lines = file.lines().map(str::trim).skip_while(|line| *line != heading).skip(1);
    let pairs: Vec<(&str, &str)> = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Some((find("aws_access_key_id")?, find("aws_secret_access_key")?, find("aws_session_token")))
}

/// Codes of S3 that no second try changes.
const FOR_GOOD: [&str; 6] = [
    "NoSuchBucket",
    "InvalidBucketName",
    "AuthorizationHeaderMalformed",
    "PermanentRedirect",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
];

/// What an error of the crate means, in words without addresses and keys.
fn trouble(error: object_store::Error) -> ReadError {
    use object_store::Error;
    let text = words(&error);
    match error {
        Error::Precondition { .. } => ReadError::Changed,
        Error::NotFound { .. } => ReadError::Final("HTTP 404: no such bucket or object".to_owned()),
        Error::PermissionDenied { .. } => ReadError::Refused(format!("HTTP 403: {text}")),
        Error::Unauthenticated { .. } => ReadError::Refused(format!("HTTP 401: {text}")),
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => ReadError::Final(text),
        _ if FOR_GOOD.iter().any(|code| text.starts_with(code)) => ReadError::Final(text),
        _ if text.contains("416") => ReadError::Changed,
        _ => {
            let busy = ["429", "503", "SlowDown", "RequestLimitExceeded"].iter().any(|sign| text.contains(sign));
            ReadError::Passing { why: text, wait: None, busy }
        }
    }
}

/// The innermost cause says it; the outer ones repeat it with addresses around.
fn words(error: &object_store::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    let text = scrub(&innermost.to_string());
    // Servers answer with a document; its code and message are enough.
    let tag = |name: &str| {
        text.split_once(&format!("<{name}>"))?.1.split_once(&format!("</{name}>")).map(|(inner, _)| inner.to_owned())
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => text.chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_credentials_are_read_by_profile() {
        let file = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[train]\naws_access_key_id=C\naws_secret_access_key = D\naws_session_token = E\n";
        assert_eq!(keys_of(file, "default"), Some(("A".to_owned(), "B".to_owned(), None)));
        assert_eq!(keys_of(file, "train"), Some(("C".to_owned(), "D".to_owned(), Some("E".to_owned()))));
        assert_eq!(keys_of(file, "none"), None);
    }
}
