//! GPUs as the nodes offer them: whole ones by their resource, parts of one by whatever mechanism is
//! installed.

use std::collections::BTreeSet;

use super::read::Node;
use crate::queue::{Bytes, GpuShare, JobSpec, QueueError};

/// What a pod asks for to get its GPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuRequest {
    /// Resources and amounts.
    pub resources: Vec<(String, String)>,
    /// Annotations of the pod.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Variables of the container.
    pub environment: Vec<(String, String)>,
}

/// The resource of NVIDIA's device plugin.
pub const NVIDIA: &str = "nvidia.com/gpu";
/// Resources of whole GPUs, the usual first.
const WHOLE: [&str; 3] = [NVIDIA, "amd.com/gpu", "gpu.intel.com/i915"];
/// NVIDIA's device plugin under time slicing with `renameByDefault`.
const SHARED: &str = "nvidia.com/gpu.shared";
/// What HAMi's device plugin writes on nodes.
const HAMI: &str = "hami.io/node-nvidia-register";
/// Compute slices of a GPU that can be cut by MIG (A100, H100, B200 alike).
const MIG_SLICES: f64 = 7.0;

/// Whether a resource counts GPUs or parts of them.
pub fn is_gpu(resource: &str) -> bool {
    WHOLE.contains(&resource)
        || resource == SHARED
        || resource == "volcano.sh/vgpu-number"
        || resource.starts_with("nvidia.com/mig-")
}

/// What to ask for. Without a view of the nodes whole GPUs are taken as NVIDIA's.
///
/// # Errors
/// If a part is asked for and no mechanism that the nodes show can give it.
pub fn request(spec: &JobSpec, nodes: Option<&[Node]>) -> Result<GpuRequest, QueueError> {
    let seen = nodes.unwrap_or_default();
    let Some(share) = spec.gpu_share else {
        if spec.gpus_per_node == 0 {
            return Ok(GpuRequest::default());
        }
        let offered = WHOLE.into_iter().find(|resource| seen.iter().any(|node| node.amount(resource) > 0.0));
        return Ok(of([(offered.unwrap_or(NVIDIA).to_owned(), spec.gpus_per_node.to_string())]));
    };
    let hami = seen.iter().any(|node| node.metadata.annotations.contains_key(HAMI));
    let found = [
        hami.then(|| self::hami(share)),
        any(seen, "volcano.sh/vgpu-number").then(|| volcano(share)),
        mig(share, seen),
        time_slices(share, seen),
    ];
    found.into_iter().flatten().next().ok_or_else(|| QueueError::Unsupported {
        engine: "the cluster".to_owned(),
        what: match share {
            GpuShare::Fraction(share) => format!("give {share} of a GPU"),
            GpuShare::Memory(memory) => format!("give {memory} of a GPU's memory"),
        },
        instead: installed(nodes),
    })
}

fn of(resources: impl IntoIterator<Item = (String, String)>) -> GpuRequest {
    GpuRequest { resources: resources.into_iter().collect(), ..GpuRequest::default() }
}

fn any(nodes: &[Node], resource: &str) -> bool {
    nodes.iter().any(|node| node.amount(resource) > 0.0)
}

fn percent(share: f64) -> String {
    format!("{}", (share * 100.0).ceil().clamp(1.0, 100.0))
}

fn hami(share: GpuShare) -> GpuRequest {
    let one = (NVIDIA.to_owned(), "1".to_owned());
    match share {
        GpuShare::Fraction(share) => of([
            one,
            ("nvidia.com/gpucores".to_owned(), percent(share)),
            ("nvidia.com/gpumem-percentage".to_owned(), percent(share)),
        ]),
        GpuShare::Memory(memory) => of([one, ("nvidia.com/gpumem".to_owned(), memory.mebibytes().to_string())]),
    }
}

fn volcano(share: GpuShare) -> GpuRequest {
    let one = ("volcano.sh/vgpu-number".to_owned(), "1".to_owned());
    match share {
        GpuShare::Fraction(share) => of([
            one,
            ("volcano.sh/vgpu-cores".to_owned(), percent(share)),
            ("volcano.sh/vgpu-memory-percentage".to_owned(), percent(share)),
        ]),
        GpuShare::Memory(memory) => of([one, ("volcano.sh/vgpu-memory".to_owned(), memory.mebibytes().to_string())]),
    }
}

/// Slices and gigabytes of a MIG resource: `nvidia.com/mig-3g.40gb`.
fn profile(resource: &str) -> Option<(f64, f64)> {
    let (slices, memory) = resource.strip_prefix("nvidia.com/mig-")?.split_once("g.")?;
    let memory = memory.split_once("gb").map(|(memory, _)| memory)?;
    Some((slices.parse().ok()?, memory.parse().ok()?))
}

/// The smallest piece that is large enough.
fn mig(share: GpuShare, nodes: &[Node]) -> Option<GpuRequest> {
    let resources: BTreeSet<&String> =
        nodes.iter().flat_map(|node| node.status.allocatable.keys()).filter(|name| any(nodes, name)).collect();
    let fits = |(slices, gigabytes): (f64, f64)| match share {
        GpuShare::Fraction(share) => slices / MIG_SLICES >= share,
        GpuShare::Memory(Bytes(bytes)) => gigabytes * f64::from(1u32 << 30) >= bytes as f64,
    };
    let pieces =
        resources.into_iter().filter_map(|name| Some((profile(name)?, name))).filter(|(piece, _)| fits(*piece));
    let smallest = pieces.min_by(|((a, b), _), ((c, d), _)| a.total_cmp(c).then(b.total_cmp(d)))?;
    Some(of([(smallest.1.clone(), "1".to_owned())]))
}

/// Time slicing gives turns, not memory: a share of the memory is counted in turns as well.
fn time_slices(share: GpuShare, nodes: &[Node]) -> Option<GpuRequest> {
    let label = |node: &Node, name: &str| node.metadata.labels.get(name).and_then(|value| value.parse::<f64>().ok());
    let node = nodes.iter().find(|node| label(node, "nvidia.com/gpu.replicas").is_some_and(|count| count > 1.0))?;
    let replicas = label(node, "nvidia.com/gpu.replicas")?;
    let share = match share {
        GpuShare::Fraction(share) => share,
        GpuShare::Memory(Bytes(bytes)) => {
            let mebibytes = label(node, "nvidia.com/gpu.memory")?;
            bytes as f64 / (mebibytes * f64::from(1u32 << 20))
        }
    };
    if share > 1.0 {
        return None;
    }
    let resource = if node.amount(SHARED) > 0.0 { SHARED } else { NVIDIA };
    Some(of([(resource.to_owned(), format!("{}", (share * replicas).ceil().max(1.0)))]))
}

/// What the nodes show, for the error.
fn installed(nodes: Option<&[Node]>) -> String {
    let Some(nodes) = nodes else {
        return "the nodes could not be seen; ask for whole GPUs with --gpus-per-node".to_owned();
    };
    let names: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|node| node.status.allocatable.keys())
        .map(String::as_str)
        .filter(|name| is_gpu(name) || name.contains("gpu"))
        .collect();
    match names.is_empty() {
        true => "no node offers GPUs of any kind".to_owned(),
        false => format!(
            "installed: {}; none of MIG (large enough), time slicing, HAMi or Volcano vGPU; ask for whole GPUs",
            names.into_iter().collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Draft;

    fn node(allocatable: &[(&str, &str)], labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Node {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut node = Node::default();
        node.status.allocatable = map(allocatable);
        node.metadata.labels = map(labels);
        node.metadata.annotations = map(annotations);
        node
    }

    fn spec(draft: Draft) -> JobSpec {
        Draft { command: vec!["true".to_owned()], ..draft }.settle("x").unwrap()
    }

    fn half() -> JobSpec {
        spec(Draft { gpu_fraction: Some(0.5), ..Draft::default() })
    }

    fn memory(text: &str) -> JobSpec {
        spec(Draft { gpu_memory: Some(text.parse().unwrap()), ..Draft::default() })
    }

    fn asked(spec: &JobSpec, node: Node) -> Vec<String> {
        request(spec, Some(&[node]))
            .unwrap()
            .resources
            .iter()
            .map(|(name, amount)| format!("{name}={amount}"))
            .collect()
    }

    #[test]
    fn parts_are_asked_for_by_what_is_installed() {
        let mig = || {
            node(
                &[("nvidia.com/mig-1g.10gb", "4"), ("nvidia.com/mig-3g.40gb", "1"), ("nvidia.com/mig-4g.40gb", "1")],
                &[],
                &[],
            )
        };
        assert_eq!(asked(&half(), mig()), ["nvidia.com/mig-4g.40gb=1"]);
        assert_eq!(asked(&memory("20Gi"), mig()), ["nvidia.com/mig-3g.40gb=1"]);
        assert_eq!(asked(&memory("5Gi"), mig()), ["nvidia.com/mig-1g.10gb=1"]);
        let hami = || node(&[("nvidia.com/gpu", "80")], &[], &[("hami.io/node-nvidia-register", "x")]);
        assert_eq!(asked(&memory("20Gi"), hami()), ["nvidia.com/gpu=1", "nvidia.com/gpumem=20480"]);
        assert_eq!(asked(&half(), hami())[1], "nvidia.com/gpucores=50");
        let volcano = || node(&[("volcano.sh/vgpu-number", "80")], &[], &[]);
        assert_eq!(asked(&memory("1Gi"), volcano()), ["volcano.sh/vgpu-number=1", "volcano.sh/vgpu-memory=1024"]);
        let sliced = || {
            node(
                &[("nvidia.com/gpu", "32")],
                &[("nvidia.com/gpu.replicas", "4"), ("nvidia.com/gpu.memory", "81920")],
                &[],
            )
        };
        assert_eq!(asked(&half(), sliced()), ["nvidia.com/gpu=2"]);
        assert_eq!(asked(&memory("20Gi"), sliced()), ["nvidia.com/gpu=1"]);
    }

    #[test]
    fn without_a_mechanism_the_error_names_what_there_is() {
        let plain = node(&[("nvidia.com/gpu", "8"), ("cpu", "64")], &[], &[]);
        let error = request(&half(), Some(&[plain])).unwrap_err();
        assert!(error.hint().unwrap().contains("nvidia.com/gpu"), "{error:?}");
        let small = node(&[("nvidia.com/mig-1g.10gb", "4")], &[], &[]);
        assert!(request(&memory("40Gi"), Some(&[small])).is_err());
        assert!(request(&half(), None).is_err());
    }

    #[test]
    fn whole_gpus_are_of_the_nodes_own_kind() {
        let two = spec(Draft { gpus_per_node: Some(2), ..Draft::default() });
        assert_eq!(asked(&two, node(&[("amd.com/gpu", "8")], &[], &[])), ["amd.com/gpu=2"]);
        assert_eq!(asked(&two, Node::default()), ["nvidia.com/gpu=2"]);
    }
}
