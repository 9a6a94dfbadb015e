//! From the answers of a Prometheus with dcgm-exporter (or aictl's own exporter) to nodes.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use super::{GpuSample, Metric, NodeSample, PodRef};

/// What is asked of a Prometheus; of the rest nothing is shown for a fleet.
pub const ASKED: [Metric; 14] = [
    Metric::Utilisation,
    Metric::MemoryUsed,
    Metric::MemoryFree,
    Metric::MemoryReserved,
    Metric::MemoryUtilisation,
    Metric::Power,
    Metric::PowerLimit,
    Metric::Temperature,
    Metric::MemoryTemperature,
    Metric::SmClock,
    Metric::ThrottleReasons,
    Metric::XidLast,
    Metric::EccUncorrected,
    Metric::RowRemapFailure,
];

/// The answer to an instant query, as far as it is of use.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(default, borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(default, borrow)]
    result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    metric: Labels<'a>,
    #[serde(borrow)]
    value: (f64, Cow<'a, str>),
}

#[derive(Deserialize)]
struct Labels<'a> {
    #[serde(default, borrow)]
    gpu: Cow<'a, str>,
    #[serde(default, borrow, rename = "UUID")]
    uuid: Cow<'a, str>,
    #[serde(default, borrow, rename = "modelName")]
    model: Cow<'a, str>,
    #[serde(default, borrow, rename = "Hostname")]
    hostname: Cow<'a, str>,
    #[serde(default, borrow)]
    instance: Cow<'a, str>,
    #[serde(default, borrow)]
    node: Cow<'a, str>,
    // A scrape that does not honour labels moves the pod's to exported_….
    #[serde(default, borrow)]
    namespace: Cow<'a, str>,
    #[serde(default, borrow)]
    pod: Cow<'a, str>,
    #[serde(default, borrow)]
    container: Cow<'a, str>,
    #[serde(default, borrow)]
    exported_namespace: Cow<'a, str>,
    #[serde(default, borrow)]
    exported_pod: Cow<'a, str>,
    #[serde(default, borrow)]
    exported_container: Cow<'a, str>,
    #[serde(default, borrow, rename = "GPU_I_ID")]
    mig: Cow<'a, str>,
}

/// Nodes as they are put together from several answers.
#[derive(Debug, Default)]
pub struct Gathered {
    nodes: Vec<NodeSample>,
    /// By node and uuid (else index): where the GPU is.
    places: HashMap<(String, String), (usize, usize)>,
    by_name: HashMap<String, usize>,
}

impl Gathered {
    /// Takes the answer to a query for one metric. How many series it had.
    ///
    /// # Errors
    /// A sentence: it is no answer of Prometheus, or it is a refusal.
    pub fn add(&mut self, metric: Metric, text: &str) -> Result<usize, String> {
        let answer: Answer<'_> =
            serde_json::from_str(text).map_err(|error| format!("this is no answer of a Prometheus: {error}"))?;
        if answer.status != "success" {
            return Err(answer.error.map_or_else(|| "it failed without a reason".to_owned(), Cow::into_owned));
        }
        let series = answer.data.map(|data| data.result).unwrap_or_default();
        let count = series.len();
        for one in series {
            self.series(metric, &one);
        }
        Ok(count)
    }

    fn series(&mut self, metric: Metric, series: &Series<'_>) {
        let labels = &series.metric;
        // Values of MIG devices are none of the whole GPU's.
        if !labels.mig.is_empty() {
            return;
        }
        let Ok(value) = series.value.1.parse::<f64>() else { return };
        let instance = labels.instance.rsplit_once(':').map_or(&*labels.instance, |(host, _)| host);
        let Some(name) = [&*labels.hostname, &*labels.node, instance].into_iter().find(|name| !name.is_empty()) else {
            return;
        };
        let key = if labels.uuid.is_empty() { &labels.gpu } else { &labels.uuid };
        let gpu = self.gpu(name, key, labels);
        let (namespace, pod, container) = if labels.exported_pod.is_empty() {
            (&labels.namespace, &labels.pod, &labels.container)
        } else {
            (&labels.exported_namespace, &labels.exported_pod, &labels.exported_container)
        };
        // Without the exporter's own word for a pod, `pod` is the exporter's own pod.
        let is_exporter = pod.contains("dcgm-exporter") || pod.starts_with("aictl-");
        if !pod.is_empty() && !is_exporter && gpu.pods.is_empty() {
            gpu.pods.push(PodRef {
                namespace: namespace.to_string(),
                pod: pod.to_string(),
                container: container.to_string(),
                uid: String::new(),
            });
        }
        // DCGM says so where a value is blank.
        if value < 9.0e15 {
            gpu.metrics.set(metric, value / metric.scale());
        }
    }

    fn gpu(&mut self, node: &str, key: &str, labels: &Labels<'_>) -> &mut GpuSample {
        let place = (node.to_owned(), key.to_owned());
        let (at, gpu) = match self.places.get(&place) {
            Some(found) => *found,
            None => {
                let at = *self.by_name.entry(node.to_owned()).or_insert_with(|| {
                    self.nodes.push(NodeSample { node: node.to_owned(), ..NodeSample::default() });
                    self.nodes.len() - 1
                });
                self.nodes[at].gpus.push(GpuSample {
                    index: labels.gpu.parse().unwrap_or_default(),
                    uuid: labels.uuid.to_string(),
                    name: labels.model.to_string(),
                    ..GpuSample::default()
                });
                let found = (at, self.nodes[at].gpus.len() - 1);
                self.places.insert(place, found);
                found
            }
        };
        &mut self.nodes[at].gpus[gpu]
    }

    /// For how long GPUs have done nothing: those of an answer to [`idle_query`].
    ///
    /// # Errors
    /// As [`Gathered::add`].
    pub fn idle(&mut self, seconds: f64, text: &str) -> Result<(), String> {
        let mut idle = Gathered::default();
        idle.add(Metric::Utilisation, text)?;
        for place in idle.places.keys() {
            if let Some((node, gpu)) = self.places.get(place) {
                self.nodes[*node].gpus[*gpu].metrics.set(Metric::Idle, seconds);
            }
        }
        Ok(())
    }

    /// The nodes, by name, with their GPUs by index.
    pub fn finish(mut self, at: jiff::Timestamp) -> Vec<NodeSample> {
        for node in &mut self.nodes {
            node.at = Some(at);
            node.gpus.sort_by_key(|gpu| gpu.index);
            for gpu in &mut node.gpus {
                let values = &gpu.metrics;
                let total = values.get(Metric::MemoryUsed).and_then(|used| {
                    Some(used + values.get(Metric::MemoryFree)? + values.get(Metric::MemoryReserved).unwrap_or(0.0))
                });
                gpu.metrics.set(Metric::MemoryTotal, total);
            }
        }
        self.nodes.sort_by(|a, b| a.node.cmp(&b.node));
        self.nodes
    }
}

/// The query for GPUs that did nothing in the last seconds.
pub fn idle_query(seconds: u64) -> String {
    format!("max_over_time({}[{seconds}s]) == 0", Metric::Utilisation.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(series: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    #[test]
    fn series_become_gpus_of_nodes() {
        let one = |gpu: u32, value: &str, more: &str| {
            format!(
                r#"{{"metric":{{"__name__":"x","gpu":"{gpu}","UUID":"GPU-{gpu}","device":"nvidia{gpu}","Hostname":"b","modelName":"H100"{more}}},"value":[1.5,"{value}"]}}"#
            )
        };
        let mut gathered = Gathered::default();
        let pod =
            r#","exported_pod":"train-0","exported_namespace":"a","pod":"nvidia-dcgm-exporter-x","namespace":"gpu"#;
        let pod = format!("{pod}\"");
        let load = answer(&[one(1, "0", ""), one(0, "93", &pod), one(0, "7", r#","GPU_I_ID":"3""#)].join(","));
        assert_eq!(gathered.add(Metric::Utilisation, &load), Ok(3));
        gathered.add(Metric::MemoryUsed, &answer(&one(0, "1024", ""))).unwrap();
        gathered.add(Metric::MemoryFree, &answer(&one(0, "3072", ""))).unwrap();
        gathered.add(Metric::Power, &answer(&one(1, "9223372036854775794", ""))).unwrap();
        gathered.idle(600.0, &answer(&one(1, "0", ""))).unwrap();
        let other = r#"{"metric":{"gpu":"0","instance":"a:9400"},"value":[1,"5"]}"#;
        gathered.add(Metric::Utilisation, &answer(other)).unwrap();
        let nodes = gathered.finish(jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(nodes.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let gpus = &nodes[1].gpus;
        assert_eq!(gpus[0].metrics.get(Metric::Utilisation), Some(93.0));
        assert_eq!((gpus[0].metrics.memory_share(), gpus[0].owner().as_str()), (Some(0.25), "a/train-0"));
        assert_eq!((gpus[1].metrics.get(Metric::Power), gpus[1].metrics.get(Metric::Idle)), (None, Some(600.0)));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let mut gathered = Gathered::default();
        assert!(gathered.add(Metric::Power, "<html>").unwrap_err().contains("no answer of a Prometheus"));
        let refused = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
        assert_eq!(gathered.add(Metric::Power, refused), Err("parse error".to_owned()));
    }
}
