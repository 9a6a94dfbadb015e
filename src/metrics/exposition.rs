//! The text that Prometheus reads (exposition format 0.0.4): for each metric its help, its type and
//! one line a value, with the labels that dcgm-exporter gives.

use std::fmt::Write as _;

use super::{GpuSample, Kind, Metric, NodeSample, PodRef, Scope, Values};

/// What the text is, for the HTTP header.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders what was measured.
pub fn render(nodes: &[NodeSample]) -> String {
    let mut out = String::with_capacity(nodes.iter().map(|node| node.gpus.len() * 24_000 + 4_000).sum());
    for scope in [Scope::Gpu, Scope::Link, Scope::Instance, Scope::Process, Scope::Node] {
        // Labels once a thing, not once a value.
        let things = things(nodes, scope);
        for metric in Metric::of(scope) {
            let mut headed = false;
            for (labels, values) in &things {
                let Some(value) = values.get(metric) else { continue };
                if !headed {
                    head(&mut out, metric.name(), metric.help(), metric.kind());
                    headed = true;
                }
                let _ = writeln!(out, "{}{{{labels}}} {}", metric.name(), number(value * metric.scale()));
            }
        }
    }
    head(&mut out, "aictl_nvml_up", "1 if NVML could be read.", Kind::Gauge);
    for node in nodes {
        let mut labels = Labels::default();
        labels.add("Hostname", &node.node);
        let _ = writeln!(out, "aictl_nvml_up{{{}}} {}", labels.0, u8::from(node.blind.is_none()));
    }
    out
}

fn head(out: &mut String, name: &str, help: &str, kind: Kind) {
    let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
    let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", help.replace('\\', r"\\").replace('\n', r"\n"));
}

/// Go's shortest form is any that reads back as the same number; so is Rust's.
fn number(value: f64) -> String {
    value.to_string()
}

fn things(nodes: &[NodeSample], scope: Scope) -> Vec<(String, &Values)> {
    let mut all = Vec::new();
    for node in nodes {
        if scope == Scope::Node {
            let mut labels = Labels::default();
            labels.add("Hostname", &node.node);
            all.push((labels.0, &node.machine));
        }
        for gpu in &node.gpus {
            let base = || labels_of(node, gpu);
            match scope {
                Scope::Gpu => {
                    let mut labels = base();
                    // As dcgm-exporter has it: one pod a GPU. With several, none can be named.
                    if let [pod] = gpu.pods.as_slice() {
                        labels.pod(pod);
                    }
                    all.push((labels.0, &gpu.metrics));
                }
                Scope::Link => all.extend(gpu.nvlinks.iter().map(|link| {
                    let mut labels = base();
                    labels.add("nvlink", &link.link.to_string());
                    (labels.0, &link.metrics)
                })),
                Scope::Instance => all.extend(gpu.instances.iter().map(|instance| {
                    let mut labels = base();
                    let id = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
                    labels.add("GPU_I_ID", &id(instance.gpu_instance));
                    labels.add("compute_instance", &id(instance.compute_instance));
                    labels.add("mig_uuid", instance.uuid.as_deref().unwrap_or_default());
                    (labels.0, &instance.metrics)
                })),
                Scope::Process => all.extend(gpu.processes.iter().map(|process| {
                    let mut labels = base();
                    labels.add("pid", &process.pid.to_string());
                    labels.add("process", process.name.as_deref().unwrap_or_default());
                    labels.add("user", process.user.as_deref().unwrap_or_default());
                    labels.add("slurm_job", &process.slurm_job.map(|job| job.to_string()).unwrap_or_default());
                    if let Some(pod) = &process.pod {
                        labels.pod(pod);
                    }
                    (labels.0, &process.metrics)
                })),
                Scope::Node => {}
            }
        }
    }
    all
}

fn labels_of(node: &NodeSample, gpu: &GpuSample) -> Labels {
    let mut labels = Labels::default();
    labels.add("gpu", &gpu.index.to_string());
    labels.add("UUID", &gpu.uuid);
    labels.add("pci_bus_id", gpu.pci.as_deref().unwrap_or_default());
    labels.add("device", &format!("nvidia{}", gpu.index));
    labels.add("modelName", &gpu.name);
    labels.add("Hostname", &node.node);
    labels.add("DCGM_FI_DRIVER_VERSION", node.driver.as_deref().unwrap_or_default());
    labels
}

/// Labels as they are written; an empty one is the same as none, and left out.
#[derive(Default)]
struct Labels(String);

impl Labels {
    fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(name);
        self.0.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => self.0.push_str(r"\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str(r"\n"),
                // What a process calls itself may hold anything; a terminal may show this text.
                c if c.is_control() => self.0.push('?'),
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }

    fn pod(&mut self, pod: &PodRef) {
        self.add("container", &pod.container);
        self.add("namespace", &pod.namespace);
        self.add("pod", &pod.pod);
        self.add("pod_uid", &pod.uid);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::testing::node;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut node = node("gpu-1", 1);
        node.gpus[0].processes[0].name = Some("evil\"} 1\nfake{\u{1b}\\".to_owned());
        let text = render(&[node]);
        let labels = "gpu=\"0\",UUID=\"GPU-gpu-1-0\",pci_bus_id=\"0000:1b:00.0\",device=\"nvidia0\",\
            modelName=\"NVIDIA H100 80GB HBM3\",Hostname=\"gpu-1\",DCGM_FI_DRIVER_VERSION=\"570.86.15\"";
        let pod = "container=\"main\",namespace=\"team-a\",pod=\"train-0\",pod_uid=\"uid-0\"";
        for line in [
            "# TYPE DCGM_FI_DEV_GPU_UTIL gauge".to_owned(),
            format!("DCGM_FI_DEV_GPU_UTIL{{{labels},{pod}}} 90"),
            // 40 GiB, in MiB; 1.5 J, in mJ.
            format!("DCGM_FI_DEV_FB_USED{{{labels},{pod}}} 40960"),
            "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter".to_owned(),
            format!("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{labels},{pod}}} 1500"),
            "aictl_nvml_up{Hostname=\"gpu-1\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
        }
        assert!(text.contains(r#"process="evil\"} 1\nfake{?\\""#), "{text}");
        assert!(!text.contains("DCGM_FI_DEV_ENC_UTIL"), "what is not supported is absent");
    }

    proptest! {
        /// Each line is a comment, or a name, labels whose quotes close, and a number.
        #[test]
        fn no_name_breaks_the_format(name in ".{0,40}", user in ".{0,20}", value in any::<f64>()) {
            let mut node = node("n", 1);
            node.gpus[0].processes[0].name = Some(name);
            node.gpus[0].processes[0].user = Some(user);
            node.gpus[0].metrics.set(Metric::Power, value);
            for line in render(&[node]).split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let (name, rest) = line.split_once('{').unwrap();
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
                let (mut quoted, mut escaped, mut end) = (false, false, 0);
                for (at, c) in rest.char_indices() {
                    match c {
                        _ if escaped => escaped = false,
                        '\\' if quoted => escaped = true,
                        '"' => quoted = !quoted,
                        '}' if !quoted => { end = at; break; }
                        _ => {}
                    }
                }
                prop_assert!(rest[end + 1..].trim().parse::<f64>().is_ok(), "{}", line);
            }
        }
    }
}
