//! Which kinds of objects a cluster serves, in which versions: asked, never assumed.

use std::collections::BTreeMap;

use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;

use crate::cluster::{Cluster, ClusterError, read};

/// What a cluster serves: by group and kind, in the version that the server prefers.
#[derive(Debug, Clone, Default)]
pub struct Served {
    kinds: BTreeMap<(String, String), ApiResource>,
    groups: BTreeMap<String, Vec<String>>,
    assumed: bool,
}

/// The newest form of discovery, all groups in one answer; older servers answer with the last.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// What is written where no cluster can be asked (`--dry-run` away from it): the versions of the
/// projects' releases of 2026. Never used for what is sent.
const PUBLISHED: [(&str, &str, &str, &str); 18] = [
    ("batch", "v1", "Job", "jobs"),
    ("kueue.x-k8s.io", "v1beta2", "Workload", "workloads"),
    ("kueue.x-k8s.io", "v1beta2", "LocalQueue", "localqueues"),
    ("kueue.x-k8s.io", "v1beta2", "ClusterQueue", "clusterqueues"),
    ("batch.volcano.sh", "v1alpha1", "Job", "jobs"),
    ("scheduling.volcano.sh", "v1beta1", "PodGroup", "podgroups"),
    ("scheduling.volcano.sh", "v1beta1", "Queue", "queues"),
    ("bus.volcano.sh", "v1alpha1", "Command", "commands"),
    ("scheduling.x-k8s.io", "v1alpha1", "QueueUnit", "queueunits"),
    ("jobset.x-k8s.io", "v1alpha2", "JobSet", "jobsets"),
    ("kubeflow.org", "v1", "PyTorchJob", "pytorchjobs"),
    ("kubeflow.org", "v1", "MPIJob", "mpijobs"),
    ("trainer.kubeflow.org", "v1alpha1", "TrainJob", "trainjobs"),
    ("trainer.kubeflow.org", "v1alpha1", "ClusterTrainingRuntime", "clustertrainingruntimes"),
    ("ray.io", "v1", "RayJob", "rayjobs"),
    ("ray.io", "v1", "RayCluster", "rayclusters"),
    ("sparkoperator.k8s.io", "v1beta2", "SparkApplication", "sparkapplications"),
    ("flink.apache.org", "v1beta1", "FlinkDeployment", "flinkdeployments"),
];

#[derive(Deserialize)]
struct Groups {
    /// Of the new form.
    #[serde(default)]
    items: Vec<Group>,
    /// Of the old one.
    #[serde(default)]
    groups: Vec<OldGroup>,
}

#[derive(Deserialize)]
struct Group {
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    #[serde(default)]
    response_kind: Kind,
}

#[derive(Deserialize, Default)]
struct Kind {
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldGroup {
    name: String,
    versions: Vec<OldVersion>,
    preferred_version: Option<OldVersion>,
}

#[derive(Deserialize, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
struct OldVersion {
    version: String,
}

#[derive(Deserialize)]
struct OldResources {
    resources: Vec<OldResource>,
}

#[derive(Deserialize)]
struct OldResource {
    name: String,
    kind: String,
}

impl Served {
    /// What is assumed where no cluster can be asked.
    pub fn published() -> Served {
        let mut served = Served { assumed: true, ..Served::default() };
        for (group, version, kind, plural) in PUBLISHED {
            served.add(group, version, kind, plural);
        }
        served
    }

    /// Whether it is [`Served::published`].
    pub fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// Asks.
    ///
    /// # Errors
    /// If the server can't be asked.
    pub async fn discover(cluster: &Cluster) -> Result<Served, ClusterError> {
        let client = cluster.client();
        let what = format!("cannot ask {} what it serves", cluster.name());
        let mut request = kube::core::Request::new("/apis")
            .list(&kube::api::ListParams::default())
            .map_err(|error| ClusterError::of(what.clone(), kube::Error::BuildRequest(error)))?;
        // A plain path: the list's own query is not wanted.
        if let Ok(uri) = "/apis".parse() {
            *request.uri_mut() = uri;
        }
        if let Ok(accept) = ACCEPT.parse() {
            request.headers_mut().insert("accept", accept);
        }
        let groups: Groups = read(&what, || client.request(request.clone())).await?;
        let mut served = Served::default();
        for group in &groups.items {
            for version in &group.versions {
                for resource in &version.resources {
                    served.add(
                        &group.metadata.name,
                        &version.version,
                        &resource.response_kind.kind,
                        &resource.resource,
                    );
                }
            }
        }
        if groups.items.is_empty() {
            served.ask_each(&client, &groups.groups, &what).await?;
        }
        // The core group has a place of its own and one kind that matters here.
        served.add("batch", "v1", "Job", "jobs");
        Ok(served)
    }

    async fn ask_each(&mut self, client: &Client, groups: &[OldGroup], what: &str) -> Result<(), ClusterError> {
        let wanted = |group: &&OldGroup| {
            PUBLISHED.iter().any(|(name, ..)| *name == group.name) || group.name.ends_with("kueue.x-k8s.io")
        };
        for group in groups.iter().filter(wanted) {
            let first = group.preferred_version.iter();
            let rest = group.versions.iter().filter(|version| Some(*version) != group.preferred_version.as_ref());
            for version in first.chain(rest) {
                let path = format!("/apis/{}/{}", group.name, version.version);
                let request = kube::core::Request::new(path.clone()).get("", &kube::api::GetParams::default());
                let Ok(mut request) = request else { continue };
                if let Ok(uri) = path.parse() {
                    *request.uri_mut() = uri;
                }
                let resources: OldResources = read(what, || client.request(request.clone())).await?;
                for resource in resources.resources.iter().filter(|resource| !resource.name.contains('/')) {
                    self.add(&group.name, &version.version, &resource.kind, &resource.name);
                }
            }
        }
        Ok(())
    }

    /// The first version of a kind is the server's choice; later ones are kept out.
    fn add(&mut self, group: &str, version: &str, kind: &str, plural: &str) {
        let versions = self.groups.entry(group.to_owned()).or_default();
        if !versions.iter().any(|known| known == version) {
            versions.push(version.to_owned());
        }
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        self.kinds.entry((group.to_owned(), kind.to_owned())).or_insert(resource);
    }

    /// A kind, in the version that the server prefers.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&ApiResource> {
        self.kinds.get(&(group.to_owned(), kind.to_owned()))
    }

    /// Whether it has any kind of a group.
    pub fn group(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The versions of a group, the preferred first.
    pub fn versions(&self, group: &str) -> &[String] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// The resource of an object that names its own version and kind.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Option<ApiResource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let known = self.kind(group, kind)?;
        Some(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &known.plural))
    }
}
