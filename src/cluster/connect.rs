//! From what the user said to a connection.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::ClusterError;

/// A server that doesn't take the connection by then is not reachable.
const CONNECT: Duration = Duration::from_secs(5);
/// Nothing at all is heard on a connection for this long: it is dead. Longer than a watch lasts,
/// which may be silent to its end.
const SILENCE: Duration = Duration::from_secs(295);
/// A request that is no stream is answered by then.
const ANSWER: Duration = Duration::from_secs(30);

/// Which cluster is meant; what is `None` comes from the kubeconfig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The file; else `$KUBECONFIG` or `~/.kube/config`, else the account of the pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; else its current one.
    pub context: Option<String>,
    /// The namespace; else the context's, else "default".
    pub namespace: Option<String>,
}

/// A connection to a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    name: String,
    namespace: String,
    chosen: bool,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Reads the configuration; the server itself is first spoken to by the first request.
    ///
    /// # Errors
    /// If there is no configuration, it is wrong, or it names a context that it doesn't have.
    pub async fn connect(options: &Options) -> Result<Cluster, ClusterError> {
        Cluster::connect_as(options, true).await
    }

    /// The same for those who wait by rules of their own: a request that is refused for now (429, 503)
    /// comes back at once. Eviction says 429 where a budget forbids it.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub async fn connect_impatiently(options: &Options) -> Result<Cluster, ClusterError> {
        Cluster::connect_as(options, false).await
    }

    async fn connect_as(options: &Options, retrying: bool) -> Result<Cluster, ClusterError> {
        let (mut config, name) = configuration(options).await?;
        config.default_retry = retrying;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        config.write_timeout = Some(SILENCE);
        let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string();
        let client = Client::try_from(config)
            .map_err(|source| ClusterError::of(format!("cannot connect to {server}"), source))?;
        Ok(Cluster { client, name, namespace, chosen: options.namespace.is_some() })
    }

    /// For requests.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// What the context calls the cluster; "in-cluster" in a pod.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that is meant where none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether the user chose the namespace, rather than the context.
    pub fn namespace_was_chosen(&self) -> bool {
        self.chosen
    }
}

/// Waits for the answer to a request that is no stream. `what` is what can't be done without it:
/// "cannot list the nodes of prod".
///
/// # Errors
/// If the server answers with an error, can't be reached, or doesn't answer in time.
pub async fn answer<T>(what: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answered) => answered.map_err(|source| ClusterError::of(what, source)),
        Err(_) => Err(ClusterError::Silent { what: what.to_owned(), after: ANSWER }),
    }
}

/// How often a request that changes nothing is made while the server is busy, and the first pause.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(150);

/// As [`answer`], for requests that change nothing: one that the server refuses for now is made again.
///
/// # Errors
/// As [`answer`].
pub async fn read<T, F: Future<Output = kube::Result<T>>>(
    what: &str,
    request: impl Fn() -> F,
) -> Result<T, ClusterError> {
    let mut tried = 1;
    loop {
        match answer(what, request()).await {
            Err(ClusterError::Refused { code: 429 | 500 | 502 | 503 | 504, .. }) if tried < TRIES => {
                tokio::time::sleep(PAUSE * (1 << tried)).await;
                tried += 1;
            }
            answered => return answered,
        }
    }
}

async fn configuration(options: &Options) -> Result<(Config, String), ClusterError> {
    let wrong = |source: KubeconfigError| match source {
        KubeconfigError::LoadContext(_) | KubeconfigError::LoadClusterOfContext(_) => {
            ClusterError::Context { context: options.context.clone().unwrap_or_default() }
        }
        source => ClusterError::Kubeconfig { source: Box::new(source) },
    };
    let read = match &options.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        // No file at all: the pod's own account, if this is a pod.
        Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath)
            if options.kubeconfig.is_none() && options.context.is_none() =>
        {
            let config = Config::incluster().map_err(|_| ClusterError::NoConfiguration)?;
            return Ok((config, "in-cluster".to_owned()));
        }
        Err(error) => return Err(wrong(error)),
    };
    let name = options.context.clone().or_else(|| kubeconfig.current_context.clone()).unwrap_or_default();
    let asked = KubeConfigOptions { context: options.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &asked).await.map_err(wrong)?;
    Ok((config, name))
}
