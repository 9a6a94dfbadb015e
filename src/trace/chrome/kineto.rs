//! What PyTorch's profiler (Kineto) calls things, in our words (docs/recording.md).

use super::event::{Scalar, scalar};
use crate::trace::model::Layer;
use serde_json::value::RawValue;

/// Which track of its thread or device an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// A track of the host thread, named like the layer.
    Host(Layer),
    /// A track of a device's stream.
    Device(Layer),
    /// What a device worked for (`gpu_user_annotation`).
    DeviceNotes,
    /// The profiler's notes on itself, which are no activity of the job.
    Skip,
}

/// Sorts an event by category and name.
pub(super) fn lane(cat: &str, name: &str) -> Lane {
    match cat {
        "kernel" if is_collective(name) => Lane::Device(Layer::Nccl),
        "kernel" | "gpu_memcpy" | "gpu_memset" | "cuda_sync" => Lane::Device(Layer::Gpu),
        "gpu_user_annotation" => Lane::DeviceNotes,
        "user_annotation" if name.starts_with("ProfilerStep#") => Lane::Host(Layer::Step),
        "user_annotation" | "cpu_op" | "operator" | "cpu_instant_event" => {
            if is_collective(name) || name == "record_param_comms" {
                Lane::Host(Layer::Nccl)
            } else {
                Lane::Host(Layer::Torch)
            }
        }
        "python_function" => Lane::Host(Layer::Python),
        "cuda_runtime" | "cuda_driver" | "runtime" | "driver" => Lane::Host(Layer::Cuda),
        "Trace" | "ac2g" | "fwdbwd" => Lane::Skip,
        _ => Lane::Host(Layer::from_name(cat)),
    }
}

/// An NCCL kernel, or the scope around a collective of torch.distributed.
fn is_collective(name: &str) -> bool {
    ["nccl", "gloo:", "c10d::", "rccl", "ucc:"].iter().any(|prefix| name.starts_with(prefix))
}

/// Arguments that only serve the profiler's own bookkeeping.
fn is_bookkeeping(key: &str) -> bool {
    matches!(
        key,
        "Ev Idx" | "Record function id" | "Python id" | "Python parent id" | "Python module id" | "cbid" | "queued"
    )
}

/// An argument's name here; `None` for one not worth keeping.
pub(super) fn key(key: &str) -> Option<&str> {
    if is_bookkeeping(key) {
        return None;
    }
    Some(match key {
        "In msg nelems" => "count",
        "Group size" => "ranks",
        "Rank" => "rank",
        "Process Group Name" => "comm",
        "Collective name" => "collective",
        "shared memory" => "shared_bytes",
        other => other,
    })
}

/// Bytes of one element of a torch type, as named by the profiler.
pub(super) fn dtype_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "Byte" | "Char" | "Bool" | "Float8_e4m3fn" | "Float8_e5m2" | "Float8_e4m3fnuz" | "Float8_e5m2fnuz" => 1,
        "Short" | "Half" | "BFloat16" | "UInt16" => 2,
        "Int" | "Float" | "UInt32" => 4,
        "Long" | "Double" | "ComplexFloat" | "UInt64" => 8,
        "ComplexDouble" => 16,
        _ => return None,
    })
}

/// Direction of a copy, from a name such as `Memcpy HtoD (Pageable -> Device)`.
pub(super) fn copy_kind(name: &str) -> Option<&'static str> {
    let direction = name.strip_prefix("Memcpy ")?;
    Some(match direction.get(..4)? {
        "HtoD" => "h2d",
        "DtoH" => "d2h",
        "DtoD" | "PtoP" => "d2d",
        "HtoH" => "h2h",
        _ => return None,
    })
}

/// Splits a Python frame's name `torch/nn/modules/linear.py(124): forward` into file, line and
/// function.
pub(super) fn python_frame(name: &str) -> Option<(&str, u64, &str)> {
    let (place, function) = name.split_once("): ")?;
    let (file, line) = place.rsplit_once('(')?;
    Some((file, line.parse().ok()?, function))
}

/// Rank in the file's `distributedInfo`.
pub(super) fn rank(value: &str) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Distributed<'a> {
        #[serde(borrow)]
        rank: Option<&'a RawValue>,
    }
    let distributed: Distributed<'_> = serde_json::from_str(value).ok()?;
    match scalar(distributed.rank?) {
        Scalar::Missing => None,
        rank => u32::try_from(rank.u64()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(python_frame("a(1)/b.py(12): f"), Some(("a(1)/b.py", 12, "f")));
        assert_eq!(python_frame("nn.Module: Linear_0"), None);
        assert_eq!(copy_kind("Memcpy DtoH (Device -> Pinned)"), Some("d2h"));
        assert_eq!(copy_kind("Memset (Device)"), None);
        assert_eq!(rank(r#"{"backend":"nccl","rank":3,"world_size":8}"#), Some(3));
        assert_eq!(rank(r#"{"backend":"nccl"}"#), None);
    }

    #[test]
    fn collectives_have_a_layer_of_their_own() {
        assert_eq!(lane("kernel", "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(a)"), Lane::Device(Layer::Nccl));
        assert_eq!(lane("kernel", "sgemm_128"), Lane::Device(Layer::Gpu));
        assert_eq!(lane("user_annotation", "gloo:all_reduce"), Lane::Host(Layer::Nccl));
        assert_eq!(lane("user_annotation", "ProfilerStep#4"), Lane::Host(Layer::Step));
        assert_eq!(lane("sched", "running"), Lane::Host(Layer::Sched));
        assert_eq!(lane("overhead", "CUPTI"), Lane::Host(Layer::Other));
    }
}
