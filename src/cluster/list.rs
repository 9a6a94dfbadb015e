//! Long lists, a page at a time, into types that keep only what is needed.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use kube::Client;
use kube::api::ListParams;
use kube::client::Body;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Cluster, ClusterError, answer, read};

/// Objects a page, as kubectl has it.
const PAGE: u32 = 500;
/// A list is begun anew so often when the server has forgotten where it was.
const AFRESH: usize = 3;

/// What the API server calls its binary form.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Reads a page in the API server's binary form; `None` if it is none.
pub(super) type Binary<T> = fn(&[u8]) -> Option<Page<T>>;

#[derive(Deserialize)]
pub(super) struct Page<T> {
    #[serde(default)]
    metadata: Place,
    // A list without items is `null` in some servers.
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

impl<T> Page<T> {
    /// Of what else than JSON a page was read from.
    pub fn of(items: Vec<T>, more: String) -> Page<T> {
        Page { metadata: Place { more: Some(more) }, items: Some(items) }
    }
}

#[derive(Default, Deserialize)]
struct Place {
    #[serde(default, rename = "continue")]
    more: Option<String>,
}

/// Which objects of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Label selector; all if `None`.
    pub labels: Option<String>,
    /// Field selector; all if `None`.
    pub fields: Option<String>,
    /// Objects a page; 500 if `None`.
    pub page: Option<u32>,
    /// All at once from the server's memory, which may be a moment behind: several times as fast for
    /// resources that it has no types of, whose pages it reads anew from etcd.
    pub cached: bool,
}

impl Choice {
    /// Those with these labels.
    pub fn labels(selector: impl Into<String>) -> Choice {
        Choice { labels: Some(selector.into()), ..Choice::default() }
    }

    /// Those with these fields.
    pub fn fields(selector: impl Into<String>) -> Choice {
        Choice { fields: Some(selector.into()), ..Choice::default() }
    }
}

/// Lists what is below a path of the API (`/api/v1/nodes`), page by page; `keep` makes of an object
/// what is kept of it, or nothing. `what` is what can't be done without it: "cannot list the nodes
/// of prod".
///
/// # Errors
/// If a page can't be had, or the server forgets again and again how far it was.
pub async fn list<T: DeserializeOwned, K>(
    cluster: &Cluster,
    what: &str,
    path: &str,
    choice: &Choice,
    keep: impl FnMut(T) -> Option<K>,
) -> Result<Vec<K>, ClusterError> {
    list_as(cluster, what, path, choice, None, keep).await
}

/// The same, in the binary form of the API server where it has one, which costs the server a third
/// of what JSON does.
///
/// # Errors
/// As [`list`].
pub(super) async fn list_as<T: DeserializeOwned, K>(
    cluster: &Cluster,
    what: &str,
    path: &str,
    choice: &Choice,
    binary: Option<Binary<T>>,
    mut keep: impl FnMut(T) -> Option<K>,
) -> Result<Vec<K>, ClusterError> {
    let client = cluster.client();
    let mut kept = Vec::new();
    let mut more: Option<String> = None;
    let mut afresh = 0;
    loop {
        match page::<T>(&client, what, path, choice, binary, more.as_deref()).await {
            Ok(page) => {
                kept.extend(page.items.into_iter().flatten().filter_map(&mut keep));
                more = page.metadata.more.filter(|token| !token.is_empty());
                if more.is_none() {
                    return Ok(kept);
                }
            }
            // The rest would be of another moment: all of it again.
            Err(ClusterError::Refused { code: 410, .. }) if more.is_some() && afresh < AFRESH => {
                afresh += 1;
                more = None;
                kept.clear();
            }
            Err(error) => return Err(error),
        }
    }
}

async fn page<T: DeserializeOwned>(
    client: &Client,
    what: &str,
    path: &str,
    choice: &Choice,
    binary: Option<Binary<T>>,
    more: Option<&str>,
) -> Result<Page<T>, ClusterError> {
    let mut parameters = ListParams {
        label_selector: choice.labels.clone(),
        field_selector: choice.fields.clone(),
        continue_token: more.map(str::to_owned),
        ..ListParams::default()
    };
    if choice.cached {
        parameters = parameters.match_any();
    } else {
        parameters.limit = Some(choice.page.unwrap_or(PAGE));
    }
    let request = || Request::new(path).list(&parameters).map_err(kube::Error::BuildRequest);
    if let Some(binary) = binary
        && let Some(page) = answer(what, binary_page(client, request, binary)).await?
    {
        return Ok(page);
    }
    let text = read(what, || async { client.request_text(request()?).await }).await?;
    serde_json::from_str(&text).map_err(|error| broken(what, kube::Error::SerdeError(error)))
}

/// `None` where the server answers anything else than such a page: JSON then tells what it has, or
/// what is wrong.
async fn binary_page<T>(
    client: &Client,
    request: impl Fn() -> kube::Result<hyper::Request<Vec<u8>>>,
    binary: Binary<T>,
) -> kube::Result<Option<Page<T>>> {
    let (mut parts, body) = request()?.into_parts();
    parts.headers.insert(ACCEPT, HeaderValue::from_static(PROTOBUF));
    let response = client.send(hyper::Request::from_parts(parts, Body::from(body))).await?;
    let is_binary = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == PROTOBUF.as_bytes());
    if !response.status().is_success() || !is_binary {
        return Ok(None);
    }
    let bytes = response.into_body().collect_bytes().await?;
    Ok(binary(&bytes))
}

/// Gets one object below a path; `None` if there is none of that name.
///
/// # Errors
/// If the server does not answer, or says no.
pub async fn get<T: DeserializeOwned>(
    cluster: &Cluster,
    what: &str,
    path: &str,
    name: &str,
) -> Result<Option<T>, ClusterError> {
    let request = Request::new(path)
        .get(name, &kube::api::GetParams::default())
        .map_err(|error| broken(what, kube::Error::BuildRequest(error)))?;
    match answer(what, cluster.client().request_text(request)).await {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| broken(what, kube::Error::SerdeError(error))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn broken(what: &str, error: kube::Error) -> ClusterError {
    ClusterError::of(what, error)
}

/// Reads the first object below a path, to see whether the path is there at all.
///
/// # Errors
/// As [`list`].
pub(super) async fn some<T: DeserializeOwned>(cluster: &Cluster, what: &str, path: &str) -> Result<(), ClusterError> {
    let parameters = ListParams { limit: Some(1), ..ListParams::default() };
    let request =
        Request::new(path).list(&parameters).map_err(|error| broken(what, kube::Error::BuildRequest(error)))?;
    let text = answer(what, cluster.client().request_text(request)).await?;
    serde_json::from_str::<Page<T>>(&text).map(|_| ()).map_err(|error| broken(what, kube::Error::SerdeError(error)))
}
