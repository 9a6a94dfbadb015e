//! What tests need from the machine, and how they are skipped where it has not got it.
//!
//! A skipped test says "skipped: REASON" on stderr and returns. With `AICTL_REQUIRE_ALL=1`
//! (CI sets it) it fails instead, so that nothing is skipped unseen; a GPU is never required.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod http;
pub mod kube;
pub mod kubelet;
pub mod node;
pub mod queues;
pub mod ray;
pub mod slurm;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns `there`; if it is false, says that the test is skipped for want of `what`, or fails
/// it where everything is required.
///
/// ```ignore
/// if !support::require("root", support::is_root()) {
///     return;
/// }
/// ```
pub fn require(what: &str, there: bool) -> bool {
    if there {
        return true;
    }
    assert!(!everything_is_required(), "needs {what}, and AICTL_REQUIRE_ALL is set");
    skipped(what)
}

/// As [`require`], for what CI machines do not have: a GPU.
pub fn require_hardware(what: &str, there: bool) -> bool {
    there || skipped(what)
}

/// Unwraps what a test needs, or skips the test as [`require`] does.
pub fn require_some<T>(what: &str, thing: Option<T>) -> Option<T> {
    require(what, thing.is_some());
    thing
}

fn skipped(what: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Past the capture of `eprintln!`, which shows nothing of tests that pass.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: needs {what}");
    false
}

fn everything_is_required() -> bool {
    std::env::var_os("AICTL_REQUIRE_ALL").is_some_and(|value| value == "1")
}

/// Whether the test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether eBPF programs can be loaded here: root, and a kernel with BTF.
pub fn can_trace() -> bool {
    is_root() && Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Finds a program on the PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Writes a program that is run soon. Another process writes it: a file that this one has open for writing is open in
/// every child that another test's thread starts meanwhile, until that becomes another program, and such a file can't
/// be run ("text file busy").
pub fn write_program(path: &Path, text: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"mkdir -p "$(dirname "$1")" && cat >"$1" && chmod 755 "$1""#, "sh"]).arg(path);
    let mut child = shell.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "cannot write {}", path.display());
}

/// A CPython of a version such as "3.12": pyenv's, uv's, or the system's. It is asked for its version.
pub fn python(version: &str) -> Option<PathBuf> {
    let mut candidates = Vec::new();
    let roots = [std::env::var_os("PYENV_ROOT").map(PathBuf::from), home(".pyenv"), home(".local/share/uv/python")];
    for root in roots.into_iter().flatten() {
        for directory in [root.join("versions"), root] {
            let Ok(entries) = std::fs::read_dir(directory) else { continue };
            candidates.extend(entries.flatten().map(|entry| entry.path().join("bin").join(format!("python{version}"))));
        }
    }
    candidates.sort();
    candidates.push(PathBuf::from(format!("/usr/bin/python{version}")));
    candidates.push(PathBuf::from(format!("/usr/local/bin/python{version}")));
    candidates.into_iter().find(|python| {
        python.is_file()
            && answers(python, "import sys; print('%d.%d' % sys.version_info[:2])").as_deref() == Some(version)
    })
}

/// The system's Python with the distribution's PyTorch (`apt install python3-torch`).
pub fn system_torch() -> Option<PathBuf> {
    let python = PathBuf::from("/usr/bin/python3");
    answers(&python, "import torch; print(torch.__version__)").map(|_| python)
}

/// A Python with a current PyTorch from PyPI: `AICTL_TEST_TORCH_PYTHON`, else the environment
/// that test.sh makes.
pub fn pypi_torch() -> Option<PathBuf> {
    let given = std::env::var_os("AICTL_TEST_TORCH_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| cache().join("torch/bin/python"));
    answers(&python, "import torch, numpy; print(torch.__version__)").map(|_| python)
}

/// A Python with `perfetto`, `protobuf` and NVIDIA's CUDA runtime and NCCL from PyPI:
/// `AICTL_TEST_VENV_PYTHON`, else the environment that test.sh makes.
pub fn venv_python() -> Option<PathBuf> {
    let given = std::env::var_os("AICTL_TEST_VENV_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| cache().join("venv/bin/python"));
    answers(&python, "import google.protobuf; print(1)").map(|_| python)
}

/// A Python with `huggingface_hub`, `boto3` and `moto`, an implementation of S3:
/// `AICTL_TEST_MODELS_PYTHON`, else the environment that test.sh makes.
pub fn models_python() -> Option<PathBuf> {
    let given = std::env::var_os("AICTL_TEST_MODELS_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| cache().join("models/bin/python"));
    answers(&python, "import huggingface_hub, boto3, moto.server; print(1)").map(|_| python)
}

/// A library of a PyPI package of NVIDIA's, such as "libcudart.so" or "libnccl.so", in the
/// environment that test.sh makes.
pub fn nvidia_library(prefix: &str) -> Option<PathBuf> {
    let site = answers(&venv_python()?, "import sysconfig; print(sysconfig.get_paths()['platlib'])")?;
    let mut directories = vec![PathBuf::from(site).join("nvidia")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if entry.file_name().to_string_lossy().starts_with(prefix) {
                return Some(path);
            }
        }
    }
    None
}

/// Where test.sh puts what tests need: tests/support/cache, not under version control.
pub fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cache")
}

/// What a Python prints for a program; `None` if it fails.
pub fn answers(python: &Path, program: &str) -> Option<String> {
    let output = Command::new(python).args(["-c", program]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn home(below: &str) -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(below))
}
