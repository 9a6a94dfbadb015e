//! Long lists, a page at a time, into types that keep only what is needed.

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Cluster, ClusterError, answer, read};

/// Objects a page, as kubectl has it.
const PAGE: u32 = 500;
/// A list is begun anew so often when the server has forgotten where it was.
const AFRESH: usize = 3;

#[derive(Deserialize)]
struct Page<T> {
    #[serde(default)]
    metadata: Place,
    // A list without items is `null` in some servers.
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
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
    mut keep: impl FnMut(T) -> Option<K>,
) -> Result<Vec<K>, ClusterError> {
    let client = cluster.client();
    let mut kept = Vec::new();
    let mut more: Option<String> = None;
    let mut afresh = 0;
    loop {
        match page::<T>(&client, what, path, choice, more.as_deref()).await {
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
    more: Option<&str>,
) -> Result<Page<T>, ClusterError> {
    let parameters = ListParams {
        label_selector: choice.labels.clone(),
        field_selector: choice.fields.clone(),
        limit: Some(choice.page.unwrap_or(PAGE)),
        continue_token: more.map(str::to_owned),
        ..ListParams::default()
    };
    let text = read(what, || async {
        let request = Request::new(path).list(&parameters).map_err(kube::Error::BuildRequest)?;
        client.request_text(request).await
    })
    .await?;
    serde_json::from_str(&text).map_err(|error| broken(what, kube::Error::SerdeError(error)))
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
