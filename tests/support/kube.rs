//! A real Kubernetes API server for tests: etcd and kube-apiserver on loopback, one for a test
//! binary, a namespace for a test. No controllers, scheduler or kubelets run: tests play them.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::zombie_processes, reason = "the servers end with this process, never before")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::{program, require};

/// A running API server.
pub struct Kube {
    directory: PathBuf,
    port: u16,
    count: AtomicU32,
    /// The API server's program and arguments, and its process.
    program: PathBuf,
    arguments: Vec<String>,
    server: Mutex<Child>,
}

/// The token of a user who may do all.
pub const ADMIN: &str = "admin-token";
/// The token of a user who may do nothing, until a test gives it something.
pub const NOBODY: &str = "nobody-token";

impl Kube {
    /// The server of this test binary, started by the first test that asks; `None`, having said so,
    /// where etcd or kube-apiserver is missing.
    pub fn shared() -> Option<&'static Kube> {
        static KUBE: OnceLock<Option<Kube>> = OnceLock::new();
        Kube::of(&KUBE, "shared")
    }

    /// A second server, for tests whose nodes are no business of others.
    pub fn apart() -> Option<&'static Kube> {
        static KUBE: OnceLock<Option<Kube>> = OnceLock::new();
        Kube::of(&KUBE, "apart")
    }

    /// One that may be restarted under those who use it: its tests, and no others.
    pub fn restarting() -> Option<&'static Kube> {
        static KUBE: OnceLock<Option<Kube>> = OnceLock::new();
        Kube::of(&KUBE, "restarting")
    }

    /// Kills the API server, and starts it again a moment later; what it has stored stays.
    pub fn restart(&'static self) {
        {
            let mut server = self.server.lock().unwrap();
            server.kill().unwrap();
            server.wait().unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
        let (send, receive) = std::sync::mpsc::channel();
        // As in `of`: it ends with the thread that started it.
        std::thread::spawn(move || {
            let log = self.directory.join("apiserver-again.log");
            send.send(spawn(Command::new(&self.program).args(&self.arguments), &log)).unwrap();
            loop {
                std::thread::park();
            }
        });
        *self.server.lock().unwrap() = receive.recv().unwrap();
        self.wait();
    }

    fn of(cell: &'static OnceLock<Option<Kube>>, name: &'static str) -> Option<&'static Kube> {
        let kube = cell.get_or_init(|| {
            let (etcd, apiserver) = (program("etcd")?, apiserver()?);
            // A child that is to end with its parent ends with the parent's thread: one that stays.
            let (send, receive) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                send.send(Kube::start(&etcd, &apiserver, name)).unwrap();
                loop {
                    std::thread::park();
                }
            });
            Some(receive.recv().unwrap())
        });
        require("etcd and kube-apiserver (tests/support/kube.sh builds it)", kube.is_some()).then_some(())?;
        kube.as_ref()
    }

    fn start(etcd: &Path, apiserver: &Path, name: &str) -> Kube {
        // Below the target directory, which is not cleared by what tests do to /tmp.
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for old in fs::read_dir(base).into_iter().flatten().flatten() {
            let name = old.file_name().to_string_lossy().into_owned();
            if name.strip_prefix("kube-").is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                let _ = fs::remove_dir_all(old.path());
            }
        }
        let directory = base.join(format!("kube-{}", std::process::id())).join(name);
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name).display().to_string();
        let (client, peer, port) = (free_port(), free_port(), free_port());
        let etcd_url = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        spawn(
            Command::new(etcd).args(["--data-dir", &at("etcd"), "--unsafe-no-fsync", "--log-level=error"]).args([
                "--listen-client-urls",
                &etcd_url,
                "--advertise-client-urls",
                &etcd_url,
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
                "--initial-cluster",
                &format!("default={peer_url}"),
            ]),
            &directory.join("etcd.log"),
        );
        let key = at("service-account.key");
        let made = Command::new("openssl").args(["genrsa", "-out", &key, "2048"]).output().unwrap();
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        fs::write(
            directory.join("tokens.csv"),
            format!("{ADMIN},admin,1,system:masters\n{NOBODY},nobody,2,nobodies\n"),
        )
        .unwrap();
        // Off by default: with it a single GPU can be tainted. Older servers do not know it.
        let help = Command::new(apiserver).arg("--help").output().unwrap();
        let taints: &[&str] = match String::from_utf8_lossy(&help.stdout).contains("DRADeviceTaintRules=") {
            true => &["--feature-gates=DRADeviceTaintRules=true", "--runtime-config=resource.k8s.io/v1beta2=true"],
            false => &[],
        };
        let arguments = [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            &format!("--secure-port={port}"),
            &format!("--etcd-servers={etcd_url}"),
            &format!("--cert-dir={}", at("certs")),
            &format!("--token-auth-file={}", at("tokens.csv")),
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            &format!("--service-account-key-file={key}"),
            &format!("--service-account-signing-key-file={key}"),
            "--service-cluster-ip-range=10.0.0.0/24",
            // Without its controller no namespace has the account that pods are given.
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
            "--enable-aggregator-routing=false",
            "--v=0",
        ];
        let arguments: Vec<String> = taints.iter().chain(&arguments).map(|argument| (*argument).to_owned()).collect();
        let server = spawn(Command::new(apiserver).args(&arguments), &directory.join("apiserver.log"));
        let (program, server) = (apiserver.to_owned(), Mutex::new(server));
        let kube = Kube { directory, port, count: AtomicU32::new(0), program, arguments, server };
        kube.wait();
        kube
    }

    fn wait(&self) {
        let begin = Instant::now();
        while !self.is_ready() {
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "the API server is not ready:\n{}",
                fs::read_to_string(self.directory.join("apiserver.log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_ready(&self) -> bool {
        let url = format!("https://127.0.0.1:{}/readyz", self.port);
        let header = format!("Authorization: Bearer {ADMIN}");
        let asked = Command::new("curl").args(["-sk", "--max-time", "5", "-H", &header, &url]).output().unwrap();
        asked.stdout == b"ok"
    }

    /// Where the server listens: "https://127.0.0.1:PORT".
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate authority of the server, as a file.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("certs/apiserver.crt")
    }

    /// A name of its own for a test's namespace or node: "PREFIX-PID-N".
    pub fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}-{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A kubeconfig for a token and a namespace, against `server` (its own URL, or a proxy's).
    pub fn kubeconfig_at(&self, server: &str, token: &str, namespace: &str) -> String {
        format!(
            "apiVersion: v1
kind: Config
current-context: test
contexts: [{{name: test, context: {{cluster: test, user: test, namespace: {namespace}}}}}]
clusters: [{{name: test, cluster: {{server: {server}, insecure-skip-tls-verify: true}}}}]
users: [{{name: test, user: {{token: {token}}}}}]
"
        )
    }

    /// A kubeconfig of the user who may do all.
    pub fn kubeconfig(&self, namespace: &str) -> String {
        self.kubeconfig_at(&self.url(), ADMIN, namespace)
    }

    /// A client for the test itself, to be used inside [`Kube::block_on`].
    pub fn client(&self) -> kube::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = kube::Config::new(self.url().parse().unwrap());
        config.accept_invalid_certs = true;
        config.auth_info.token = Some(ADMIN.to_owned().into());
        kube::Client::try_from(config).unwrap()
    }

    /// Runs what a test asks of the server.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    /// Makes a namespace of the test's own and gives its name.
    pub fn namespace(&self, prefix: &str) -> String {
        use k8s_openapi::api::core::v1::Namespace;
        let name = self.unique(prefix);
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        self.block_on(async {
            let namespaces: kube::Api<Namespace> = kube::Api::all(self.client());
            namespaces.create(&kube::api::PostParams::default(), &namespace).await.unwrap();
        });
        name
    }
}

/// kube-apiserver, as tests/support/kube.sh finds or has built it.
fn apiserver() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kube.sh");
    let found = Command::new(script).arg("--built").output().ok()?;
    let directory = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
    found.status.success().then(|| directory.join("kube-apiserver"))
}

/// Starts a server that ends with this process, however that ends.
fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = fs::File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    // SAFETY: prctl alone, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.spawn().unwrap()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU32, Ordering};
    // Below the ports that connections get: one of many could have it before the server that it is for.
    const FIRST: u32 = 10_500;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let at = std::process::id().wrapping_mul(211).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + at % COUNT) as u16;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
