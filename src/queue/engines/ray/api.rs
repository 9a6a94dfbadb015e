//! What Ray's job server says, as plain data. Fields that another version does not have keep their
//! defaults.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Metadata that aictl gives its jobs.
pub(super) mod key {
    /// The submission: `JobSpec::id`.
    pub const ID: &str = "aictl.dev/id";
    /// The job's name.
    pub const NAME: &str = "aictl.dev/name";
    /// Who submitted it.
    pub const USER: &str = "aictl.dev/user";
    /// Nodes.
    pub const NODES: &str = "aictl.dev/nodes";
    /// GPUs on each node.
    pub const GPUS: &str = "aictl.dev/gpus-per-node";
    /// Cores on each node.
    pub const CPUS: &str = "aictl.dev/cpus-per-node";
    /// Seconds it may run.
    pub const TIME: &str = "aictl.dev/time-limit-s";
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A job of `/api/jobs/`. Its environment, which may be long, is not kept.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct RayJob {
    #[serde(rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    #[serde(deserialize_with = "null_is_default")]
    pub job_id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub submission_id: String,
    #[serde(deserialize_with = "null_is_default")]
    pub status: String,
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: String,
    #[serde(deserialize_with = "null_is_default")]
    pub message: String,
    #[serde(deserialize_with = "null_is_default")]
    pub error_type: String,
    pub start_time: Option<i64>,
    pub end_time: Option<i64>,
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: BTreeMap<String, String>,
    pub driver_exit_code: Option<i32>,
    pub entrypoint_num_gpus: Option<f64>,
}

impl RayJob {
    /// As every call takes it.
    pub fn id(&self) -> &str {
        if self.submission_id.is_empty() { &self.job_id } else { &self.submission_id }
    }

    /// Whether aictl's driver runs it.
    pub fn is_ours(&self) -> bool {
        self.metadata.contains_key(key::ID)
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.metadata.get(key)?.parse().ok()
    }

    /// Times are in milliseconds.
    pub fn time(milliseconds: Option<i64>) -> Option<Timestamp> {
        milliseconds.filter(|time| *time > 0).and_then(|time| Timestamp::from_millisecond(time).ok())
    }
}

/// A node's or the cluster's resources: "CPU", "GPU", "memory".
pub(super) type Resources = BTreeMap<String, f64>;

/// What `/api/cluster_status` says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Cluster {
    /// In use and in all, by resource.
    pub usage: BTreeMap<String, (f64, f64)>,
    /// What each node has.
    pub nodes: Vec<Resources>,
    /// What is free on each node.
    pub free: Vec<Resources>,
    /// What waits and can't be placed: each bundle, and how often.
    pub demand: Vec<(Resources, f64)>,
    /// Nodes that an autoscaler is starting.
    pub starting: usize,
    /// Whether an autoscaler may add nodes of kinds that are not there now.
    pub grows: bool,
}

impl Cluster {
    /// Reads an answer; what is not understood is left out.
    pub fn of(answer: &Value) -> Cluster {
        let status = &answer["data"]["clusterStatus"];
        let report = &status["loadMetricsReport"];
        let pair = |value: &Value| Some((value.get(0)?.as_f64()?, value.get(1)?.as_f64()?));
        let pairs = |value: &Value| -> BTreeMap<String, (f64, f64)> {
            value
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), pair(value)?)))
                .collect()
        };
        let resources = |value: &Value| -> Resources {
            value
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)))
                .collect()
        };
        let counted = |value: &Value| Some((resources(value.get(0)?), value.get(1)?.as_f64()?));
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut nodes = Vec::new();
        for kind in list(&report["nodeTypes"]) {
            let Some((one, count)) = counted(&kind) else { continue };
            nodes.extend(std::iter::repeat_n(one, (count.max(0.0) as usize).min(100_000)));
        }
        let by_node = report["usageByNode"].as_object().into_iter().flatten();
        let free = by_node
            .map(|(_, usage)| pairs(usage).into_iter().map(|(name, (used, total))| (name, total - used)).collect())
            .collect();
        let mut demand: Vec<(Resources, f64)> = list(&report["resourceDemand"]).iter().filter_map(counted).collect();
        // A placement group: [{"bundles": [[{…}, count], …], "strategy": …}, count].
        for group in list(&report["pgDemand"]) {
            let times = group.get(1).and_then(Value::as_f64).unwrap_or(1.0);
            let bundles = list(&group[0]["bundles"]);
            demand.extend(bundles.iter().filter_map(counted).map(|(bundle, count)| (bundle, count * times)));
        }
        let scaler = &status["autoscalerReport"];
        // Without an autoscaler each node is a kind of its own, named after it.
        let kinds = scaler["nodeTypeMapping"].as_object().into_iter().flatten();
        let grows = kinds.clone().any(|(node, kind)| kind.as_str().is_some_and(|kind| kind != format!("node_{node}")));
        Cluster {
            usage: pairs(&report["usage"]),
            nodes,
            free,
            demand,
            starting: list(&scaler["pendingNodes"]).len(),
            grows,
        }
    }

    /// How many nodes have at least that, all free.
    pub fn fitting(&self, wanted: &Resources) -> u32 {
        Self::count(&self.nodes, wanted)
    }

    /// How many nodes have at least that free now.
    pub fn fitting_now(&self, wanted: &Resources) -> u32 {
        Self::count(&self.free, wanted)
    }

    fn count(nodes: &[Resources], wanted: &Resources) -> u32 {
        let holds = |node: &&Resources| {
            wanted.iter().all(|(name, amount)| node.get(name).copied().unwrap_or_default() + 1e-6 >= *amount)
        };
        nodes.iter().filter(holds).count() as u32
    }

    /// The most of a resource that one node has.
    pub fn largest(&self, name: &str) -> f64 {
        self.nodes.iter().filter_map(|node| node.get(name)).copied().fold(0.0, f64::max)
    }
}

/// Placement groups by name and their states, as `/api/v0/placement_groups` has them.
pub(super) fn groups(answer: &Value) -> BTreeMap<String, String> {
    let list = answer["data"]["result"]["result"].as_array().cloned().unwrap_or_default();
    let mut groups = BTreeMap::new();
    for group in &list {
        let (Some(name), Some(state)) = (group["name"].as_str(), group["state"].as_str()) else { continue };
        // Removed ones stay listed beside a living one of the same name.
        if state != "REMOVED" || !groups.contains_key(name) {
            groups.insert(name.to_owned(), state.to_owned());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster() {
        let answer = json!({"data": {"clusterStatus": {
            "autoscalerReport": {"pendingNodes": [], "nodeTypeMapping": {"8201": "node_8201", "9870": "node_9870"}},
            "loadMetricsReport": {
                "usage": {"GPU": [1.0, 4.0], "CPU": [0.0, 4.0]},
                "resourceDemand": [[{"GPU": 9.0}, 1]],
                "pgDemand": [[{"bundles": [[{"GPU": 2.0}, 3]], "strategy": "STRICT_SPREAD"}, 1]],
                "nodeTypes": [[{"GPU": 2.0, "CPU": 2.0}, 2]],
                "usageByNode": {"8201": {"GPU": [1.0, 2.0], "CPU": [0.0, 2.0]}, "9870": {"GPU": [0.0, 2.0], "CPU": [0.0, 2.0]}}}}}});
        let cluster = Cluster::of(&answer);
        let wanted = |gpus: f64| Resources::from([("GPU".to_owned(), gpus)]);
        assert_eq!(
            (cluster.fitting(&wanted(2.0)), cluster.fitting_now(&wanted(2.0)), cluster.fitting(&wanted(3.0))),
            (2, 1, 0)
        );
        assert_eq!(cluster.usage["GPU"], (1.0, 4.0));
        assert_eq!(cluster.demand.iter().map(|(one, count)| one["GPU"] * count).sum::<f64>(), 15.0);
        assert!(!cluster.grows);
        assert_eq!(Cluster::of(&json!([])), Cluster::default());
    }

    #[test]
    fn a_removed_group_does_not_hide_a_living_one() {
        let answer = json!({"data": {"result": {"result": [
            {"name": "a", "state": "CREATED"}, {"name": "a", "state": "REMOVED"}, {"name": "b", "state": "REMOVED"}, {"name": "b", "state": "PENDING"}]}}});
        let groups = groups(&answer);
        assert_eq!((groups["a"].as_str(), groups["b"].as_str()), ("CREATED", "PENDING"));
    }
}
