//! A real Slurm for a test: slurmctld, two nodes or more, munged, and slurmrestd if asked for, all on
//! loopback with ports and a key of their own, in a directory of their own. They end with the test.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::kube::free_port;
use super::{is_root, program, require, write_program};

/// A node as the configuration has it.
#[derive(Debug, Clone, Copy)]
pub struct Nodes {
    /// How many: n1, n2, …
    pub count: usize,
    /// Fake GPUs on each, of type a100.
    pub gpus: usize,
    /// Shards on each.
    pub shards: usize,
    /// More lines for slurm.conf: nodes of State=CLOUD, partitions.
    pub more: &'static str,
}

impl Default for Nodes {
    fn default() -> Nodes {
        Nodes { count: 2, gpus: 2, shards: 8, more: "" }
    }
}

/// A running Slurm.
pub struct Slurm {
    directory: tempfile::TempDir,
    /// Starts children on a thread that stays: a child that ends with its parent ends with the
    /// parent's thread.
    starter: Sender<(Command, Sender<Child>)>,
    daemons: Vec<(String, Child)>,
    user: String,
}

impl Slurm {
    /// Starts one; `None`, having said so, where Slurm or root is missing.
    pub fn start(nodes: Nodes) -> Option<Slurm> {
        let programs = ["slurmctld", "slurmd", "munged", "sbatch", "scontrol"];
        let there = is_root() && programs.iter().all(|name| find(name).is_some());
        require("Slurm (slurmctld, slurmd, munge) and root", there).then_some(())?;
        // Short, since sockets lie in it, whose paths may have 107 characters.
        let directory = tempfile::Builder::new().prefix("aictl-slurm-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (starter, orders): (_, Receiver<(Command, Sender<Child>)>) = channel();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn().unwrap());
            }
        });
        let mut slurm = Slurm { directory, starter, daemons: Vec::new(), user: "root".to_owned() };
        slurm.configure(nodes);
        slurm.daemon(
            "munged",
            &[
                "--foreground",
                "--force",
                "--key-file",
                "@/munge.key",
                "--socket",
                "@/munge.s",
                "--pid-file",
                "@/munge.pid",
                "--log-file",
                "@/munge.log",
                "--seed-file",
                "@/munge.seed",
            ],
        );
        slurm.wait_for("munged's socket", |slurm| listens(&slurm.path("munge.s")));
        slurm.start_controller();
        for node in 1..=nodes.count {
            slurm.daemon("slurmd", &["-D", "-N", &format!("n{node}")]);
        }
        slurm.wait_for("idle nodes", |slurm| {
            let text = slurm.said("sinfo", &["--noheader", "--Node", "--format=%N %T"]);
            text.lines().filter(|line| line.starts_with('n') && line.ends_with(" idle")).count() == nodes.count
        });
        Some(slurm)
    }

    fn configure(&self, nodes: Nodes) {
        let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = hostname.trim().split('.').next().unwrap();
        let at = self.directory.path().display();
        // A key that munged takes is read by its owner alone.
        let key: Vec<u8> = (0..128).map(|_| fastrand::u8(..)).collect();
        for name in ["munge.key", "jwt.key"] {
            fs::write(self.path(name), &key).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o400)).unwrap();
        }
        fs::create_dir(self.path("state")).unwrap();
        let jwt = if find_plugin("auth_jwt.so") {
            format!("AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={at}/jwt.key\n")
        } else {
            String::new()
        };
        let mut text = format!(
            "ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={at}/munge.s
{jwt}CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={at}/state
SlurmdSpoolDir={at}/spool-%n
SlurmctldPidFile={at}/slurmctld.pid
SlurmdPidFile={at}/slurmd-%n.pid
SlurmctldLogFile={at}/slurmctld.log
SlurmdLogFile={at}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu,shard
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PriorityType=priority/basic
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=1
MessageTimeout=5
",
            port = free_port()
        );
        let mut gres = String::new();
        let sharing = if nodes.shards > 0 { format!(",shard:{}", nodes.shards) } else { String::new() };
        for node in 1..=nodes.count {
            let have = if nodes.gpus > 0 { format!(" Gres=gpu:a100:{}{sharing}", nodes.gpus) } else { String::new() };
            text.push_str(&format!("NodeName=n{node} NodeHostname={host} NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=4000 Feature=fast{have}\n", free_port()));
            for gpu in 0..nodes.gpus {
                // Device nodes: with plain files jobs get a count and no CUDA_VISIBLE_DEVICES.
                let path = self.path(&format!("gpu-{node}-{gpu}"));
                let made = Command::new("mknod").arg(&path).args(["c", "1", "3"]).status().unwrap();
                assert!(made.success(), "mknod {}", path.display());
            }
            if nodes.gpus > 0 {
                gres.push_str(&format!(
                    "NodeName=n{node} Name=gpu Type=a100 File={at}/gpu-{node}-[0-{}]\n",
                    nodes.gpus - 1
                ));
            }
            if nodes.shards > 0 {
                gres.push_str(&format!("NodeName=n{node} Name=shard Count={}\n", nodes.shards));
            }
        }
        text.push_str(&format!(
            "PartitionName=main Nodes=n[1-{}] Default=YES MaxTime=1-00:00:00 State=UP\n",
            nodes.count
        ));
        text.push_str(&nodes.more.replace("HOST", host).replace('@', &at.to_string()));
        fs::write(self.path("slurm.conf"), text).unwrap();
        fs::write(self.path("gres.conf"), gres).unwrap();
    }

    /// Starts slurmctld (again).
    pub fn start_controller(&mut self) {
        self.daemon("slurmctld", &["-i", "-D"]);
        self.wait_for("slurmctld", |slurm| {
            slurm.command("scontrol").arg("ping").output().unwrap().stdout.windows(5).any(|word| word == b"is UP")
        });
    }

    /// Ends slurmctld, as if its machine were away.
    pub fn stop_controller(&mut self) {
        for (_, child) in self.daemons.iter_mut().filter(|(name, _)| name == "slurmctld") {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.daemons.retain(|(name, _)| name != "slurmctld");
    }

    /// Starts slurmrestd at a socket, for local users, and gives its address. It refuses to be root,
    /// so its jobs are those of `nobody`, who may write below [`Slurm::shared`].
    pub fn rest_at_socket(&mut self) -> Option<String> {
        require("slurmrestd", find("slurmrestd").is_some()).then_some(())?;
        let socket = self.shared().join("rest.s");
        self.rest("rest_auth/local", &format!("unix:{}", socket.display()));
        self.wait_for("slurmrestd's socket", |_| listens(&socket));
        self.user = "nobody".to_owned();
        Some(format!("unix:{}", socket.display()))
    }

    /// Starts slurmrestd at a port, where it wants a JWT, and gives its address.
    pub fn rest_at_port(&mut self) -> Option<String> {
        require(
            "slurmrestd with JWT (slurm-wlm-jwt-plugin)",
            find("slurmrestd").is_some() && find_plugin("auth_jwt.so"),
        )
        .then_some(())?;
        let port = free_port();
        self.rest("rest_auth/jwt", &format!("127.0.0.1:{port}"));
        self.wait_for("slurmrestd", |_| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(format!("http://127.0.0.1:{port}"))
    }

    fn rest(&mut self, auth: &str, at: &str) {
        // Its plugins for the accounting end it where there is none.
        let all =
            fs::read_dir(plugins()).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let kinds: Vec<String> = all
            .filter_map(|name| Some(name.strip_prefix("openapi_v")?.strip_suffix(".so")?.replace('_', ".")))
            .map(|version| format!("openapi/v{version}"))
            .collect();
        let arguments = [
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "slurmrestd",
            "-a",
            auth,
            "-s",
            &kinds.join(","),
            at,
        ];
        let mut command = self.command("setpriv");
        command.args(arguments);
        if auth.ends_with("jwt") {
            command.env("SLURM_JWT", "daemon");
        }
        self.keep("slurmrestd", command);
    }

    /// A JWT of root's that is good for so many seconds; below 0 it has expired.
    pub fn token(&self, seconds: i64) -> String {
        if seconds > 0 {
            let text = self.said("scontrol", &["token", "username=root", &format!("lifespan={seconds}")]);
            return text.trim().trim_start_matches("SLURM_JWT=").to_owned();
        }
        use base64::Engine as _;
        let part =
            |value: serde_json::Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.c2lnbmF0dXJl",
            part(serde_json::json!({"alg": "HS256", "typ": "JWT"})),
            part(serde_json::json!({"exp": 1_000_000, "sun": "root"}))
        )
    }

    fn daemon(&mut self, name: &str, arguments: &[&str]) {
        let at = self.directory.path().display().to_string();
        let mut command = self.command(name);
        command.args(arguments.iter().map(|argument| argument.replace('@', &at)));
        self.keep(name, command);
    }

    fn keep(&mut self, name: &str, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{name}.out"))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // SAFETY: prctl alone, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let (answer, child) = channel();
        self.starter.send((command, answer)).unwrap();
        self.daemons.push((name.to_owned(), child.recv().unwrap()));
    }

    /// A program of Slurm's, ready to run against it.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
        command.env_clear().env("PATH", PATH).env("SLURM_CONF", self.path("slurm.conf")).current_dir(self.shared());
        command
    }

    /// What a program of Slurm's prints; it must not fail.
    pub fn said(&self, name: &str, arguments: &[&str]) -> String {
        let output: Output = self.command(name).args(arguments).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// SLURM_CONF.
    pub fn configuration(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// A directory that everybody may write to.
    pub fn shared(&self) -> PathBuf {
        let path = self.path("shared");
        if !path.exists() {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for something that takes a while.
    pub fn wait_for(&self, what: &str, there: impl Fn(&Slurm) -> bool) {
        let begin = Instant::now();
        while !there(self) {
            if begin.elapsed() > Duration::from_secs(90) {
                let logs = fs::read_dir(self.directory.path()).unwrap().flatten().map(|entry| entry.path());
                let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log" || end == "out"));
                let text: Vec<String> = logs
                    .map(|path| format!("{}:\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default()))
                    .collect();
                panic!("no {what}\n{}", text.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // Steps first, which would outlive slurmd.
        let _ = self.command("scancel").arg("--user=root").output();
        let _ = self.command("scancel").arg("--user=nobody").output();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(5) {
            let left = self.command("squeue").args(["--noheader", "--states=running,completing"]).output();
            if left.is_ok_and(|left| left.stdout.is_empty()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for (_, child) in &mut self.daemons {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Whether somebody listens at a socket: its file is there a moment sooner.
fn listens(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn find(name: &str) -> Option<PathBuf> {
    PATH.split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file())
        .or_else(|| program(name))
}

fn plugins() -> PathBuf {
    let places = [
        "/usr/lib/x86_64-linux-gnu/slurm-wlm",
        "/usr/lib/aarch64-linux-gnu/slurm-wlm",
        "/usr/lib64/slurm",
        "/usr/lib/slurm",
    ];
    places.iter().map(PathBuf::from).find(|path| path.is_dir()).unwrap_or_default()
}

fn find_plugin(name: &str) -> bool {
    plugins().join(name).is_file()
}

impl Slurm {
    /// A directory of Slurm's programs that speak to this Slurm, whatever the environment says.
    pub fn programs(&self) -> PathBuf {
        let directory = self.path("programs");
        if !directory.exists() {
            let being_made = self.path("programs.new");
            fs::create_dir_all(&being_made).unwrap();
            for name in ["sbatch", "scontrol", "scancel", "squeue", "sacct", "srun", "sinfo"] {
                let program = find(name).unwrap();
                let text = format!(
                    "#!/bin/sh\nexport SLURM_CONF={}\nexec {} \"$@\"\n",
                    self.configuration().display(),
                    program.display()
                );
                write_program(&being_made.join(name), &text);
            }
            fs::rename(being_made, &directory).unwrap();
        }
        directory
    }
}
