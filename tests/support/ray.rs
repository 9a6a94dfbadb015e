//! A real Ray of two nodes for tests. It listens at all addresses whatever it is told, so it has a
//! network of its own, and a process namespace that ends it with the test: aictl is run in there.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{answers, cache, is_root, program, require};

/// Where its job server answers, within its network.
pub const ADDRESS: &str = "http://127.0.0.1:8265";

/// A running Ray.
pub struct Ray {
    directory: tempfile::TempDir,
    child: Child,
    /// The first process in its namespaces.
    inside: u32,
    token: Option<String>,
}

impl Ray {
    /// The one of this test binary, without a token: two nodes with 2 GPUs and 4 cores each.
    pub fn shared() -> Option<&'static Ray> {
        static RAY: OnceLock<Option<Ray>> = OnceLock::new();
        let ray = RAY.get_or_init(|| {
            let python = python()?;
            // A child that is to end with its parent ends with the parent's thread: one that stays.
            let (send, receive) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                send.send(Ray::start(&python, None)).unwrap();
                loop {
                    std::thread::park();
                }
            });
            Some(receive.recv().unwrap())
        });
        require(WANTED, ray.is_some()).then_some(())?;
        ray.as_ref()
    }

    /// One of a test's own that wants a token.
    pub fn with_token(token: &str) -> Option<Ray> {
        let python = python();
        require(WANTED, python.is_some()).then_some(())?;
        Some(Ray::start(&python?, Some(token)))
    }

    fn start(python: &Path, token: Option<&str>) -> Ray {
        // Short, since sockets lie in it, whose paths may have 107 characters.
        let directory = tempfile::Builder::new().prefix("aictl-ray-").tempdir_in("/tmp").unwrap();
        let log = fs::File::create(directory.path().join("start.log")).unwrap();
        let programs = python.parent().unwrap().display();
        let at = directory.path().display();
        let common = "--num-cpus=4 --num-gpus=2 --object-store-memory=100000000 --disable-usage-stats";
        let script = format!(
            "set -e
ip link set lo up
{programs}/ray start --head --port=6379 --dashboard-host=127.0.0.1 --temp-dir={at}/r {common}
{programs}/ray start --address=127.0.0.1:6379 {common}
exec sleep infinity"
        );
        let mut command = Command::new("unshare");
        // The kernel ends all processes of a namespace with its first.
        command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", &script]);
        command.env_clear().envs([
            ("PATH", format!("{programs}:{PATH}")),
            ("HOME", at.to_string()),
            ("LANG", "C.UTF-8".to_owned()),
        ]);
        match token {
            Some(token) => command.env("RAY_AUTH_MODE", "token").env("RAY_AUTH_TOKEN", token),
            None => command.env("RAY_AUTH_MODE", "disabled"),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: prctl alone, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap();
        let mut ray = Ray { directory, child, inside: 0, token: token.map(str::to_owned) };
        ray.wait_for("first process", |ray| first_child(ray.child.id()).is_some());
        ray.inside = first_child(ray.child.id()).unwrap();
        ray.wait_for("two nodes", |ray| {
            let status = ray.get("/api/cluster_status");
            status["data"]["clusterStatus"]["loadMetricsReport"]["usage"]["GPU"][1] == 4.0
        });
        ray
    }

    /// A program in Ray's network: `nsenter … PROGRAM`, to which arguments are added.
    pub fn inside(&self, command: &mut Command, program: &Path) {
        command.args([&format!("--target={}", self.inside), "--net", "--"]).arg(program);
    }

    /// Runs a line of shell in Ray's network with Ray's programs on the PATH, to its end: whether it
    /// went well, and what it printed.
    pub fn shell(&self, line: &str) -> (bool, String) {
        let mut command = Command::new("nsenter");
        self.inside(&mut command, Path::new("bash"));
        let programs = python().unwrap().parent().unwrap().display().to_string();
        command.args(["-c", line]).env("PATH", format!("{programs}:{PATH}")).env("RAY_AUTH_MODE", "disabled");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// What its job server says at a path; null if it says nothing.
    pub fn get(&self, path: &str) -> serde_json::Value {
        let mut command = Command::new("nsenter");
        self.inside(&mut command, Path::new("curl"));
        command.args(["-s", "--max-time", "10", &format!("{ADDRESS}{path}")]);
        if let Some(token) = &self.token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap_or_default()
    }

    /// Sends JSON to a path.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> String {
        let mut command = Command::new("nsenter");
        self.inside(&mut command, Path::new("curl"));
        command.args([
            "-s",
            "--max-time",
            "30",
            "-H",
            "content-type: application/json",
            "-d",
            &body.to_string(),
            &format!("{ADDRESS}{path}"),
        ]);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    /// Waits for something that takes a while.
    pub fn wait_for(&self, what: &str, there: impl Fn(&Ray) -> bool) {
        let begin = Instant::now();
        while !there(self) {
            let log = self.directory.path().join("start.log");
            assert!(
                begin.elapsed() < Duration::from_secs(180),
                "no {what}\n{}",
                fs::read_to_string(log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Ray {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const WANTED: &str = "Ray (test.sh makes tests/support/cache/ray), root, unshare, nsenter and ip";
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// A Python with Ray: `AICTL_TEST_RAY_PYTHON`, else the environment that test.sh makes.
fn python() -> Option<PathBuf> {
    let tools = ["unshare", "nsenter", "ip", "curl"].iter().all(|name| program(name).is_some());
    let given = std::env::var_os("AICTL_TEST_RAY_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| cache().join("ray/bin/python"));
    (tools && is_root() && answers(&python, "import importlib.metadata as m; print(m.version('ray'))").is_some())
        .then_some(python)
}

fn first_child(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

impl Ray {
    /// Runs something of this process in Ray's network, on a thread of its own.
    pub fn in_its_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        use std::os::fd::AsRawFd;
        let network = fs::File::open(format!("/proc/{}/ns/net", self.inside)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: changes the network of this thread alone.
                let entered = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "{}", std::io::Error::last_os_error());
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}
