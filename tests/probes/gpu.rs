//! CUDA and NCCL: with stand-ins for NVIDIA's libraries, and with the real ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aictl::trace::{Layer, LayerState};

use crate::rig::{Running, Seen, record, record_until};
use crate::support;

struct Built {
    dir: tempfile::TempDir,
}

impl Built {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn cc(arguments: &[&str], output: &Path, sources: &[&str]) {
    let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/gpu");
    let mut command = Command::new("cc");
    command.args(arguments).arg("-o").arg(output).args(sources.iter().map(|s| support.join(s))).arg("-ldl");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds the target, the library it loads later, and the stand-ins; `None` where that can't be.
fn build() -> Option<Built> {
    if !support::require("root and BTF", support::can_trace())
        || !support::require("a C compiler", support::program("cc").is_some())
    {
        return None;
    }
    let built = Built { dir: tempfile::tempdir().unwrap() };
    cc(&["-O1", "-rdynamic"], &built.path("target"), &["target.c", "kernels.c"]);
    cc(&["-O1", "-shared", "-fPIC", "-DLATER"], &built.path("liblater.so"), &["kernels.c"]);
    for library in ["libcuda.so.1", "libcudart.so.12", "libnccl.so.2"] {
        cc(&["-O0", "-shared", "-fPIC"], &built.path(library), &["stub.c"]);
    }
    Some(built)
}

fn start(built: &Built, libraries: [PathBuf; 3]) -> Running {
    Running::start(Command::new(built.path("target")).args(libraries).arg(built.path("liblater.so")))
}

#[test]
fn calls_kernels_and_collectives_are_told() {
    let Some(built) = build() else { return };
    let libraries = ["libcudart.so.12", "libcuda.so.1", "libnccl.so.2"].map(|name| built.path(name));
    let mut target = start(&built, libraries);
    let pid = target.pid();
    // The library with another kernel is loaded while the capture runs.
    let mut launched = 0;
    let late = move |seen: &Seen| {
        launched += usize::from(seen.arg("kernel") == "late_add");
        // Turns enough for what happens in one of ten alone.
        launched > 40
    };
    let captured = record_until(pid, late, || target.tell("load"));
    assert_eq!(captured.state(Layer::Cuda), LayerState::On);
    assert_eq!(captured.state(Layer::Nccl), LayerState::On);
    assert_eq!(captured.state(Layer::Torch), LayerState::Absent);

    let launches = captured.named("cudaLaunchKernel");
    let of = |kernel: &str| launches.iter().filter(|s| s.arg("kernel") == kernel).copied().collect::<Vec<_>>();
    let scale = of("scale");
    assert!(!scale.is_empty(), "{}", captured.summary());
    assert_eq!(
        (scale[0].arg("grid"), scale[0].arg("block"), scale[0].arg("shared_bytes")),
        ("32x2x1", "128x1x1", "48")
    );
    assert!(!of("at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float> >").is_empty());
    assert!(!of("late_add").is_empty(), "the kernel of a library loaded later");

    let driver = captured.named("cuLaunchKernel");
    assert!(driver.iter().any(|s| {
        s.arg("kernel").ends_with("longer_than_one_record_can_hold_0")
            && s.arg("grid") == "16x1x1"
            && s.arg("block") == "256x1x2"
            && s.arg("shared_bytes") == "1024"
    }));
    let copy = captured.named("cudaMemcpyAsync")[0];
    assert_eq!((copy.arg("bytes"), copy.arg("kind")), ("4096", "h2d"));
    let waits = captured.named("cudaStreamSynchronize");
    assert!(waits.iter().all(|s| s.dur_ns > 2_000_000), "a wait lasts as long as it lasts");

    let reduce = captured.named("ncclAllReduce");
    let known = reduce.iter().find(|s| s.layer == Layer::Nccl && !s.arg("rank").is_empty()).unwrap();
    assert_eq!((known.arg("count"), known.arg("dtype"), known.arg("op")), ("1048576", "float32", "sum"));
    assert_eq!((known.arg("bytes"), known.arg("rank"), known.arg("ranks")), ("4194304", "3", "4"));
    captured.assert_nested(&[Layer::Cuda, Layer::Nccl, Layer::Gpu]);
    assert_eq!(captured.meta.lost.total(), 0);
}

#[test]
fn the_devices_work_is_estimated_and_marked() {
    let Some(built) = build() else { return };
    let libraries = ["libcudart.so.12", "libcuda.so.1", "libnccl.so.2"].map(|name| built.path(name));
    let target = start(&built, libraries);
    let captured = record(target.pid(), Duration::from_secs(2), || ());
    let device = captured.of(Layer::Gpu);
    assert!(!device.is_empty(), "{}", captured.summary());
    assert!(device.iter().all(|s| s.estimate && s.arg("estimate") == "1" && s.track.ends_with("(estimated)")));
    assert!(device.iter().any(|s| s.name == "vectorized_elementwise_kernel<CUDAFunctor_add>"));
    // An arrow leads from a launch to its work, which can't begin before it.
    let work = device.iter().find(|s| s.name == "scale").unwrap();
    let launch = captured.slices.iter().find(|s| s.layer == Layer::Cuda && s.flow == work.flow).unwrap();
    assert!(work.flow != 0 && launch.name == "cudaLaunchKernel" && launch.start_ns <= work.start_ns);
    // 4 MiB between 4 ranks: 1.5 times bytes over time.
    let reduce = device.iter().find(|s| s.name == "ncclAllReduce" && !s.arg("bus_gb_s").is_empty()).unwrap();
    let rate: f64 = reduce.arg("bus_gb_s").parse().unwrap();
    let expected = 4_194_304.0 * 1.5 / reduce.dur_ns as f64;
    assert!((rate / expected - 1.0).abs() < 1e-6, "{rate} against {expected}");
    let api = captured.slices.iter().find(|s| s.name == "ncclAllReduce" && s.layer == Layer::Nccl).unwrap();
    assert_eq!(api.arg("bus_gb_s"), "", "the call itself is no measure of the collective");
}

#[test]
fn nvidias_own_libraries_are_probed() {
    let Some(built) = build() else { return };
    let library = |name| support::require_some(name, support::nvidia_library(name));
    let (Some(runtime), Some(nccl)) = (library("libcudart.so"), library("libnccl.so")) else { return };
    let target = start(&built, [runtime, PathBuf::from("-"), nccl]);
    let captured = record(target.pid(), Duration::from_secs(2), || ());
    // Without a GPU every call fails, which the recording says.
    for name in ["cudaLaunchKernel", "cudaMemcpyAsync", "cudaMalloc", "cudaStreamSynchronize", "cudaDeviceSynchronize"]
    {
        assert!(!captured.named(name).is_empty(), "{name}: {}", captured.summary());
    }
    assert!(captured.named("cudaLaunchKernel").iter().any(|s| s.arg("kernel") == "scale"));
    let reduce = captured.named("ncclAllReduce");
    assert!(!reduce.is_empty(), "{}", captured.summary());
    assert_eq!((reduce[0].arg("dtype"), reduce[0].arg("count")), ("float32", "1048576"));
    assert_eq!(captured.meta.lost.total(), 0);
}
