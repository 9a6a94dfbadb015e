//! Models in the page cache, locked there, and in the memory of a GPU: real files, the real kernel,
//! a libcuda.so.1 of our own (tests/support/cuda).

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::environment::binary;
use crate::support;

/// A model in a directory on a disk, and records of its own.
struct Model {
    directory: TempDir,
}

/// Bytes of a shard's tensors: two layers.
const LAYER: usize = 3_000_000;

impl Model {
    /// Two shards with two layers each, an index, a configuration. Not in /tmp, which may be memory.
    fn new() -> Model {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let model = Model { directory };
        fs::create_dir(model.path()).unwrap();
        let mut map = serde_json::Map::new();
        for shard in 0..2 {
            let name = format!("model-0000{}-of-00002.safetensors", shard + 1);
            let layers = [shard * 2, shard * 2 + 1].map(|layer| format!("model.layers.{layer}.mlp.weight"));
            for layer in &layers {
                map.insert(layer.clone(), name.clone().into());
            }
            model.write(&name, &tensors(&layers, shard as u8));
        }
        let index = serde_json::json!({ "metadata": {}, "weight_map": map });
        model.write("model.safetensors.index.json", index.to_string().as_bytes());
        model.write("config.json", b"{}");
        model
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("model")
    }

    fn pins(&self) -> PathBuf {
        self.directory.path().join("state/pins")
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
        path
    }

    fn shard(&self, number: usize) -> PathBuf {
        self.path().join(format!("model-0000{number}-of-00002.safetensors"))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("COLUMNS", "100")
            .env("LANG", "C.UTF-8")
            .env("AICTL_PRELOAD_PINS", self.pins())
            .arg("preload");
        command
    }

    /// Runs `aictl preload ARGUMENTS`, the model's path in the place of `@`.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        for argument in arguments {
            if *argument == "@" {
                command.arg(self.path())
            } else {
                command.arg(argument)
            };
        }
        ran(command.output().unwrap())
    }

    fn status(&self) -> Value {
        let ran = self.run(&["status", "@", "-o", "json", "--files"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.json()[0].clone()
    }

    fn bytes(&self) -> u64 {
        self.status()["bytes"].as_u64().unwrap()
    }

    fn resident(&self) -> u64 {
        self.status()["resident_bytes"].as_u64().unwrap()
    }

    /// Out of memory, checked.
    fn cold(&self) {
        let ran = self.run(&["evict", "@"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(self.resident(), 0);
    }
}

/// What a process holds must not outlive the test.
impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.command().arg("evict").arg(self.path()).output();
    }
}

#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn ran(output: Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// A safetensors file with a tensor of [`LAYER`] bytes for each name.
fn tensors(names: &[String], seed: u8) -> Vec<u8> {
    let entry = |(i, name): (usize, &String)| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{LAYER}],"data_offsets":[{},{}]}}"#, i * LAYER, (i + 1) * LAYER)
    };
    let json = format!("{{{}}}", names.iter().enumerate().map(entry).collect::<Vec<_>>().join(","));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend((0..names.len() * LAYER).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed));
    bytes
}

#[test]
fn a_model_is_warmed_shown_and_dropped() {
    let model = Model::new();
    let status = model.status();
    assert_eq!((status["schema"].as_str(), status["state"].as_str()), (Some("aictl.model/v1"), Some("ready")));
    assert_eq!((status["files"].as_u64(), status["verified"].as_bool()), (Some(4), Some(false)));
    assert_eq!(status["resident_bytes"], status["bytes"], "what was just written is there");
    assert_eq!(status["on_disk_bytes"], status["bytes"]);
    model.cold();
    let warm = model.run(&["@", "--page-cache", "-o", "json"]);
    assert_eq!(warm.code, 0, "{warm:?}");
    assert_eq!(warm.json()[0]["resident_bytes"], status["bytes"]);
    assert!(warm.stderr.contains(r#""event":"warm_done""#), "{}", warm.stderr);
    let again = model.run(&["@", "--page-cache"]);
    assert_eq!((again.code, again.stderr.as_str()), (0, ""), "nothing to do, nothing to say");
    let wide = model.run(&["status", "@", "-o", "wide"]);
    assert!(wide.stdout.contains("model-00001-of-00002.safetensors   6.00MB   6.00MB      0B"), "{}", wide.stdout);
    for way in ["sendfile", "populate", "pread"] {
        model.cold();
        let warm = model.run(&["@", "--page-cache", "--way", way]);
        assert_eq!((warm.code, model.resident()), (0, model.bytes()), "{way}: {warm:?}");
    }
}

#[test]
fn a_dry_run_reads_nothing() {
    let model = Model::new();
    model.cold();
    let dry = model.run(&["@", "--page-cache", "--dry-run"]);
    assert_eq!((dry.code, model.resident()), (0, 0), "{dry:?}");
    assert!(dry.stderr.contains("12.0 MB to read into the page cache"), "{}", dry.stderr);
}

#[test]
fn odd_files_are_told_truly() {
    let model = Model::new();
    model.write("empty.safetensors", b"");
    File::create(model.path().join("sparse.bin")).unwrap().set_len(5_000_000).unwrap();
    symlink(model.shard(1), model.path().join("link.safetensors")).unwrap();
    symlink("nowhere", model.path().join("broken.safetensors")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        model.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    model.cold();
    assert_eq!(model.run(&["@", "--page-cache"]).code, 0);
    let status = model.status();
    assert_eq!((status["files"].as_u64(), &status["resident_bytes"]), (Some(7), &status["bytes"]));
    fs::remove_file(model.shard(2)).unwrap();
    let status = model.status();
    assert_eq!(status["state"], "partial", "the index names what is gone");
    let none = model.run(&["status", "/no/such/model"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("cannot open /no/such/model"), "{}", none.stderr);
    let file = model.run(&["status", model.shard(1).to_str().unwrap(), "-o", "json"]);
    assert_eq!((file.code, file.json()[0]["files"].as_u64()), (0, Some(1)));
}

#[test]
fn ranks_and_patterns_bring_their_tensors_alone() {
    let model = Model::new();
    model.cold();
    let rank = model.run(&["@", "--page-cache", "--rank", "0/2"]);
    assert_eq!(rank.code, 0, "{rank:?}");
    let files = model.status()["per_file"].as_array().unwrap().clone();
    let of = |number: usize| {
        let name = model.shard(number).file_name().unwrap().to_str().unwrap().to_owned();
        let file = files.iter().find(|file| file["name"] == name.as_str()).unwrap();
        (file["resident_bytes"].as_u64().unwrap(), file["bytes"].as_u64().unwrap())
    };
    assert_eq!(of(1).0, of(1).1);
    // The kernel reads some pages with the header.
    assert!(of(2).0 < LAYER as u64, "{files:?}");
    for wrong in [["--rank", "2/2"], ["--rank", "x"], ["--tensors", "[a"]] {
        assert_eq!(model.run(&[["@", "--page-cache"], wrong].concat()).code, 2, "{wrong:?}");
    }
    model.write("model-00002-of-00002.safetensors", &[0xff; 100]);
    let lying = model.run(&["@", "--page-cache", "--tensors", "*layers.0*"]);
    assert_eq!(lying.code, 1);
    assert!(lying.stderr.contains("no sound safetensors file") && lying.stderr.contains("claims"), "{}", lying.stderr);
}

#[test]
fn loaders_that_go_past_the_cache_are_named() {
    let model = Model::new();
    let runai = model.run(&["@", "--page-cache", "--loader", "runai"]);
    assert!(runai.stderr.contains("RUNAI_STREAMER_FS_STRATEGY=sync_buffered"), "{}", runai.stderr);
    assert!(!model.run(&["@", "--page-cache", "--loader", "vllm"]).stderr.contains("warning"));
    assert_eq!(model.run(&["@", "--page-cache", "--loader", "emacs"]).code, 2);
}

/// On overlayfs, as in a container's image, cachestat sees the empty upper file.
#[test]
fn an_overlay_hides_nothing() {
    let can = support::is_root() && support::program("unshare").is_some();
    if !support::require("root and unshare", can) {
        return;
    }
    let model = Model::new();
    for name in ["upper", "work", "merged"] {
        fs::create_dir(model.directory.path().join(name)).unwrap();
    }
    let inside = |arguments: &[&str]| {
        let script =
            "cd $0 && mount -t overlay overlay -o lowerdir=model,upperdir=upper,workdir=work merged && exec \"$@\"";
        let mut shell = Command::new("unshare");
        shell.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LANG", "C.UTF-8");
        shell.env("AICTL_PRELOAD_PINS", model.pins()).args(["-m", "sh", "-c", script]).arg(model.directory.path());
        ran(shell.arg(binary()).arg("preload").args(arguments).output().unwrap())
    };
    model.cold();
    let cold = inside(&["status", "./merged", "-o", "json"]);
    assert_eq!((cold.code, &cold.json()[0]["resident_bytes"]), (0, &0.into()), "{cold:?}");
    let warm = inside(&["./merged", "--page-cache", "-o", "json"]);
    assert_eq!((warm.code, &warm.json()[0]["resident_bytes"]), (0, &warm.json()[0]["bytes"]), "{warm:?}");
    assert_eq!(model.resident(), model.bytes(), "the layer's pages are the same");
}

/// A place that others can reach, with the program, which they can't reach where it was built. Linked
/// rather than copied where that can be: a file that is written can't be run, and a process that
/// another test starts meanwhile holds it open for writing for a moment.
fn for_others() -> (TempDir, std::path::PathBuf) {
    let place = TempDir::new().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("aictl");
    if fs::hard_link(binary(), &program).is_err() {
        fs::copy(binary(), &program).unwrap();
    }
    (place, program)
}

/// Somebody who owns nothing.
const NOBODY: u32 = 65_534;

#[test]
fn what_the_kernel_keeps_from_others_is_unknown() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let model = Model::new();
    let (place, program) = for_others();
    let readable = place.path().join("model");
    fs::create_dir(&readable).unwrap();
    fs::copy(model.shard(1), readable.join("a.safetensors")).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.env_clear().env("HOME", "/nonexistent").env("LANG", "C.UTF-8").current_dir("/").uid(NOBODY).gid(NOBODY);
        command.env("AICTL_PRELOAD_PINS", "/nonexistent/pins").arg("preload");
        ran(command.args(arguments).output().unwrap())
    };
    let path = readable.to_str().unwrap();
    let status = as_nobody(&["status", path, "-o", "json", "--files"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert_eq!(status.json()[0]["resident_bytes"], Value::Null);
    assert!(status.json()[0]["per_file"][0]["unknown"].as_str().unwrap().contains("owner"));
    assert!(as_nobody(&["status", path]).stdout.contains("unknown"));
    let warm = as_nobody(&[path, "--page-cache"]);
    assert_eq!(warm.code, 4, "{warm:?}");
    assert!(warm.stderr.contains("can't be seen"), "{}", warm.stderr);
    let evict = as_nobody(&["evict", path]);
    assert_eq!(evict.code, 4, "{evict:?}");
}

/// A memory control group of its own, of version 1 or 2.
struct Group {
    path: PathBuf,
}

impl Group {
    fn new(name: &str, limit: u64) -> Option<Group> {
        let name = format!("aictl-{name}-{}", std::process::id());
        let (path, file) = if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
            (Path::new("/sys/fs/cgroup/memory").join(name), "memory.limit_in_bytes")
        } else {
            (Path::new("/sys/fs/cgroup").join(name), "memory.max")
        };
        fs::create_dir(&path).ok()?;
        let group = Group { path };
        fs::write(group.path.join(file), limit.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_small_control_group_is_seen_before_anything_is_read() {
    let group = support::is_root().then(|| Group::new("small", 64 << 20)).flatten();
    let Some(group) = support::require_some("root and a memory control group", group) else { return };
    let model = Model::new();
    model.write("big.safetensors", &vec![1; 100 << 20]);
    model.cold();
    let inside = |arguments: &[&str]| {
        let mut shell = Command::new("/bin/sh");
        shell.env_clear().env("HOME", model.directory.path()).env("LANG", "C.UTF-8");
        shell.env("AICTL_PRELOAD_PINS", model.pins()).arg("-c");
        shell.arg(format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.path.display()));
        shell.arg("sh").arg(binary()).arg("preload").arg(model.path()).args(arguments);
        ran(shell.output().unwrap())
    };
    let refused = inside(&["--page-cache"]);
    assert_eq!((refused.code, model.resident()), (3, 0), "{refused:?}");
    assert!(refused.stderr.contains("do not fit into memory") && refused.stderr.contains("limited by control group"));
    assert!(refused.stderr.contains("--fit"), "{}", refused.stderr);
    let fitted = inside(&["--page-cache", "--fit"]);
    assert_eq!(fitted.code, 3, "{fitted:?}");
    assert!(fitted.stderr.contains("the rest does not fit"), "{}", fitted.stderr);
    let files = model.status()["per_file"].as_array().unwrap().clone();
    let resident = |start: &str| {
        let file = files.iter().find(|file| file["name"].as_str().unwrap().starts_with(start)).unwrap();
        (file["resident_bytes"].as_u64().unwrap(), file["bytes"].as_u64().unwrap())
    };
    // What the index names comes before what lies beside it.
    assert_eq!(resident("model-00001").0, resident("model-00001").1, "{files:?}");
    assert!(resident("big").0 < resident("big").1);
}

#[test]
fn what_is_pinned_stays_until_it_is_evicted() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let model = Model::new();
    model.cold();
    let pinned = model.run(&["@", "--pin"]);
    assert_eq!(pinned.code, 0, "{pinned:?}");
    let status = model.status();
    assert_eq!(status["pinned_bytes"], status["bytes"]);
    let record = fs::read_dir(model.pins()).unwrap().next().unwrap().unwrap().path();
    let pin: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    let pid = pin["pid"].as_u64().unwrap();
    let locked = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let locked = locked.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
    let kib: u64 = locked.trim_end_matches(" kB").trim().parse().unwrap();
    assert!(kib * 1024 >= status["bytes"].as_u64().unwrap(), "{locked}");
    let again = model.run(&["@", "--pin", "-v"]);
    assert!(again.stderr.contains(&format!("process {pid} holds it already")), "{}", again.stderr);
    assert_eq!(fs::read_dir(model.pins()).unwrap().count(), 1);
    let evicted = model.run(&["evict", "@", "-o", "json"]);
    assert_eq!(evicted.code, 0, "{evicted:?}");
    assert_eq!((&evicted.json()[0]["unpinned"][0], &evicted.json()[0]["resident_bytes"]), (&pid.into(), &0.into()));
    assert_eq!(model.status()["pinned_bytes"], 0);
    assert_eq!(fs::read_dir(model.pins()).unwrap().count(), 0, "the record is gone");

    // One that is killed leaves a record, which counts for nothing.
    assert_eq!(model.run(&["@", "--pin"]).code, 0);
    let record = fs::read_dir(model.pins()).unwrap().next().unwrap().unwrap().path();
    let pin: Value = serde_json::from_str(&fs::read_to_string(&record).unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pin["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let gone = || !Path::new(&format!("/proc/{}/exe", pid.as_raw_nonzero())).exists();
    let begin = std::time::Instant::now();
    while !gone() {
        assert!(begin.elapsed().as_secs() < 60, "process {} goes on", pid.as_raw_nonzero());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(model.status()["pinned_bytes"], 0);
    assert!(!record.exists());
}

#[test]
fn a_service_holds_it_in_the_foreground() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let model = Model::new();
    let socket = model.directory.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let mut command = model.command();
    command.arg(model.path()).args(["--pin", "--foreground", "-q"]).env("NOTIFY_SOCKET", &socket);
    let mut service = command.stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut heard = [0; 16];
    manager.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    manager.recv(&mut heard).unwrap();
    assert!(heard.starts_with(b"READY=1"));
    let status = model.status();
    assert_eq!(status["pinned_bytes"], status["bytes"]);
    let pid = rustix::process::Pid::from_child(&service);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(service.wait().unwrap().code(), Some(0));
    assert_eq!(model.status()["pinned_bytes"], 0);
}

#[test]
fn memory_that_may_not_be_locked_is_said() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let model = Model::new();
    let (place, program) = for_others();
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().env("HOME", "/nonexistent").env("LANG", "C.UTF-8").current_dir("/").uid(NOBODY).gid(NOBODY);
    shell.args(["-c", "ulimit -l 64; exec \"$@\"", "sh"]).arg(&program).arg("preload");
    let file = place.path().join("a.safetensors");
    fs::copy(model.shard(1), &file).unwrap();
    shell.arg(&file).args(["--pin", "--pins", "/nonexistent/pins"]);
    let refused = ran(shell.output().unwrap());
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("may lock 65.5 kB of memory, and 6.00 MB are needed"), "{}", refused.stderr);
    assert!(refused.stderr.contains("ulimit -l"));
}

/// The stand-in for CUDA, built once.
fn cuda() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cuda/cuda.c");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
        fs::create_dir_all(&directory).unwrap();
        let beside = directory.join(format!("new.{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wall", "-Werror"]);
        let output = cc.arg("-o").arg(&beside).arg(&source).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&beside, directory.join("libcuda.so.1")).unwrap();
        directory
    })
}

impl Model {
    /// Runs with the stand-in, set so.
    fn with_cuda(&self, setting: &str, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        command.env("LD_LIBRARY_PATH", cuda()).env("AICTL_TEST_CUDA", setting);
        ran(command.arg(self.path()).args(arguments).output().unwrap())
    }
}

fn can_build() -> bool {
    support::require("a C compiler", support::program("cc").is_some())
}

#[test]
fn tensors_go_into_a_gpu_and_leave_nothing_behind() {
    if !can_build() {
        return;
    }
    let model = Model::new();
    // More than both buffers of all threads, so that each is filled again.
    let many: Vec<String> = (0..60).map(|i| format!("model.layers.{i}.w")).collect();
    model.write("model-00001-of-00002.safetensors", &tensors(&many, 9));
    let log = model.directory.path().join("log");
    let loaded = model.with_cuda(&format!("gpus=2 log={}", log.display()), &["--gpu", "1", "-o", "json"]);
    assert_eq!(loaded.code, 0, "{loaded:?}");
    let gpu = &loaded.json()[0]["gpus"][0];
    assert_eq!((gpu["gpu"].as_u64(), gpu["name"].as_str()), (Some(1), Some("Stand-in 1")));
    assert_eq!(gpu["bytes"].as_u64(), Some(62 * LAYER as u64), "tensors without headers");
    assert_eq!(gpu["matches"], true);
    assert!(gpu["compared_bytes"].as_u64().unwrap() >= 4 << 20);
    assert!(gpu["host_to_device_gigabytes_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(fs::read_to_string(&log).unwrap(), "device 0 host 0 streams 0 events 0 contexts 0\n");
    let rank = model.with_cuda("", &["--gpu", "0", "--rank", "0/2", "-o", "json"]);
    assert!(rank.json()[0]["gpus"][0]["bytes"].as_u64().unwrap() < 62 * LAYER as u64, "{rank:?}");
}

#[test]
fn trouble_with_a_gpu_is_told_apart() {
    if !can_build() {
        return;
    }
    let model = Model::new();
    for (setting, code, words) in [
        ("cuInit=100", 4, "no CUDA driver: cuInit: CUDA_ERROR_NO_DEVICE"),
        ("gpus=0", 4, "CUDA_ERROR_NO_DEVICE"),
        ("gpus=1", 4, "no GPU 3: CUDA has 1"),
        ("gpus=9 free=1000", 1, "GPU 3 has 1000 bytes free, and 12000000 are needed"),
        ("gpus=9 cuMemAlloc=2", 1, "cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY"),
        ("gpus=9 cuMemHostAlloc=999", 1, "cuMemHostAlloc failed: error 999"),
        ("gpus=9 cuMemcpyHtoDAsync=1", 1, "cuMemcpyHtoDAsync failed"),
        ("gpus=9 corrupt", 3, "what was copied back differs from the file"),
    ] {
        let ran = model.with_cuda(setting, &["--gpu", "3"]);
        assert_eq!(ran.code, code, "{setting}: {ran:?}");
        assert!(ran.stderr.contains(words), "{setting}: {}", ran.stderr);
    }
    // A file that is no library keeps the loader from a real one of this machine.
    let broken = model.directory.path().join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("libcuda.so.1"), [0; 100]).unwrap();
    let none =
        ran(model.command().env("LD_LIBRARY_PATH", &broken).arg(model.path()).args(["--gpu", "0"]).output().unwrap());
    assert_eq!(none.code, 4, "{none:?}");
    assert!(none.stderr.contains("no CUDA driver") && none.stderr.contains("hint:"), "{}", none.stderr);
}

#[test]
fn a_driver_that_hangs_is_left() {
    if !can_build() {
        return;
    }
    let model = Model::new();
    let hung = model.with_cuda("cuDevicePrimaryCtxRetain=hang", &["--gpu", "0", "--gpu-deadline", "1s"]);
    assert_eq!(hung.code, 4, "{hung:?}");
    assert!(hung.stderr.contains("does not answer (1 s)"), "{}", hung.stderr);
}

#[test]
fn kept_tensors_have_handles_until_they_are_evicted() {
    if !can_build() {
        return;
    }
    let model = Model::new();
    let kept = model.with_cuda("", &["--gpu", "0", "--keep", "-o", "json"]);
    assert_eq!(kept.code, 0, "{kept:?}");
    let gpu = kept.json()[0]["gpus"][0].clone();
    let handles: Value = serde_json::from_str(&fs::read_to_string(gpu["handles"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((handles["schema"].as_str(), &handles["pid"]), (Some("aictl.gpu_handles/v1"), &gpu["keeper"]));
    let allocations = handles["allocations"].as_array().unwrap();
    assert_eq!(allocations.len(), 2);
    assert_eq!(allocations[1]["ipc_handle"].as_str().unwrap().len(), 128);
    let second = &allocations[0]["tensors"][1];
    assert_eq!((second["offset"].as_u64(), second["bytes"].as_u64()), (Some(LAYER as u64), Some(LAYER as u64)));
    let again = model.with_cuda("", &["--gpu", "0", "--keep"]);
    assert!(again.stderr.contains("keeps it in the memory of GPU 0 already"), "{}", again.stderr);
    let evicted = model.run(&["evict", "@", "-o", "json"]);
    assert_eq!(evicted.json()[0]["unpinned"][0], gpu["keeper"], "{evicted:?}");
    assert!(!Path::new(gpu["handles"].as_str().unwrap()).exists());
}
