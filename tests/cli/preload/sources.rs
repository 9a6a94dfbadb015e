//! Sources that are no hub: mounts, claims, plain servers, buckets, registries.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::environment::{Ran, TestEnvironment};
use super::super::support;
use super::super::support::http::{Fault, Served, Server, noise, sha256};
use super::super::support::kube::free_port;
use super::{contents, safetensors};

pub fn path_of(environment: &TestEnvironment, ran: &Ran) -> std::path::PathBuf {
    assert_eq!(ran.status, Some(0), "{ran}");
    environment.path("store").join(ran.stdout.trim().split_once("store/").unwrap().1)
}

#[test]
fn a_directory_is_copied_and_seen_to_change() {
    let environment = TestEnvironment::new();
    environment.write("model/config.json", "{}");
    environment.write("model/sub/weights.bin", noise(20_000_000, 1));
    environment.write("model/empty", "");
    let wanted = contents(&environment.path("model"));
    let ran = environment.run(["preload", "./model", "--to", "store", "-o", "name"]);
    assert!(contents(&path_of(&environment, &ran)) == wanted);
    let ran = environment.run(["preload", "./model", "--to", "store"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    environment.write("model/config.json", "{\"new\": 1}");
    let wanted = contents(&environment.path("model"));
    let ran = environment.run(["preload", "./model", "--to", "store", "-o", "name"]);
    assert!(contents(&path_of(&environment, &ran)) == wanted);
}

#[test]
fn a_claim_is_where_it_is_mounted() {
    let environment = TestEnvironment::new();
    environment.write("mounted/llama/config.json", "{}");
    let mount = format!("weights={}", environment.path("mounted").display());
    let ran = environment.run(["preload", "pvc://weights/llama", "--mount", &mount, "--to", "store", "-o", "name"]);
    assert_eq!(contents(&path_of(&environment, &ran)), [("config.json".to_owned(), b"{}".to_vec())]);
    let ran = environment.run(["preload", "pvc://other/llama", "--to", "store"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("pvc://other/llama"), "{ran}");
}

#[test]
fn an_index_page_is_a_directory() {
    let environment = TestEnvironment::new();
    let server = Server::start();
    server.document(
        "/m/",
        &[],
        "<a href=\"../\">up</a><a href=\"a%20b.bin\">a</a><a href=\"sub/\">s</a><a href=\"http://other/x\">x</a>",
    );
    server.document("/m/sub/", &[], "<a href='c.bin'>c</a>");
    server.file("/m/a%20b.bin", Served::new(noise(1000, 1)));
    server.file("/m/sub/c.bin", Served::new(noise(9_000_000, 2)));
    let ran = environment.run(["preload", &format!("{}/m/", server.url()), "--to", "store", "-o", "name"]);
    let found = contents(&path_of(&environment, &ran));
    assert!(found == [("a b.bin".to_owned(), noise(1000, 1)), ("sub/c.bin".to_owned(), noise(9_000_000, 2))]);
}

/// A layer of an artifact.
pub struct Layer<'a> {
    /// Its media type.
    pub kind: &'a str,
    /// Its content.
    pub content: &'a [u8],
    /// The file in it.
    pub path: &'a str,
    /// What tar calls the kind of that, if it is told.
    pub typeflag: Option<u8>,
}

/// A registry with one artifact, whose one layer has a file of a media type.
pub fn registry(environment: &TestEnvironment, kind: &str, content: &[u8]) -> (Server, String, String) {
    registry_of(environment, &[Layer { kind, content, path: "weights/model.safetensors", typeflag: None }])
}

/// A registry with one artifact. It answers as the distribution spec's "token authentication" says: 401
/// with a challenge, until a token comes that its issuer gave for a password.
pub fn registry_of(environment: &TestEnvironment, layers: &[Layer<'_>]) -> (Server, String, String) {
    let server = Server::start();
    let revision = publish(&server, "v1", layers);
    let host = server.url().replace("http://", "");
    let pair = "YWRhOmdlaGVpbQ=="; // ada:geheim
    environment.write(".docker/config.json", format!(r#"{{"auths": {{"{host}": {{"auth": "{pair}"}}}}}}"#));
    server.faults(move |request, _| {
        let said = request.headers.get("authorization").map_or("", String::as_str);
        let right = match request.target.strip_prefix("/token") {
            Some(query) => {
                said == format!("Basic {pair}")
                    && query.contains("service=registry")
                    && query.contains("org%2Fmodel%3Apull")
            }
            None => said == "Bearer of-the-issuer",
        };
        (!right).then_some(Fault::Status(401, None))
    });
    (server, host, revision)
}

/// A document that is given to who has a token, and else says where to get one.
pub fn protected(server: &Server, content: Vec<u8>) -> Served {
    let challenge = format!("Bearer realm=\"{}/token\",service=\"registry\"", server.url());
    let mut served = Served { etag: None, ..Served::new(content) };
    served.headers.push(("WWW-Authenticate".to_owned(), challenge));
    served
}

/// Gives an artifact a tag; returns the digest of its manifest.
pub fn publish(server: &Server, tag: &str, layers: &[Layer<'_>]) -> String {
    let describe = |layer: &Layer<'_>| {
        // ORAS names files as images do.
        let name = match layer.kind.starts_with("application/vnd.oci.image.") {
            true => "org.opencontainers.image.title",
            false => "org.cncf.model.filepath",
        };
        let mut annotations = serde_json::json!({name: layer.path});
        if let Some(typeflag) = layer.typeflag {
            let about = serde_json::json!({"name": layer.path, "mode": 0o644, "typeflag": typeflag}).to_string();
            annotations["org.cncf.model.file.metadata+json"] = about.into();
        }
        let digest = format!("sha256:{}", sha256(layer.content));
        serde_json::json!({
            "mediaType": layer.kind, "digest": digest, "size": layer.content.len(), "annotations": annotations})
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "layers": layers.iter().map(describe).collect::<Vec<_>>()
    })
    .to_string();
    let digest = sha256(manifest.as_bytes());
    for name in [tag, &format!("sha256:{digest}")] {
        server.file(&format!("/v2/org/model/manifests/{name}"), protected(server, manifest.clone().into_bytes()));
    }
    for layer in layers {
        let digest = sha256(layer.content);
        server.file(&format!("/v2/org/model/blobs/sha256:{digest}"), protected(server, layer.content.to_vec()));
    }
    server.file("/token", Served { etag: None, ..Served::new(br#"{"token": "of-the-issuer"}"#.to_vec()) });
    digest
}

#[test]
fn an_artifact_of_a_registry_needs_a_token() {
    let environment = TestEnvironment::new();
    let weights = safetensors(&[("w".to_owned(), noise(10_000_000, 1))]);
    let (server, host, digest) = registry(&environment, "application/vnd.cncf.model.weight.v1.raw", &weights);
    let source = format!("oci://{host}/org/model:v1");
    let ran = environment.run(["preload", &source, "--to", "store", "-o", "name"]);
    let path = path_of(&environment, &ran);
    assert!(contents(&path) == [("weights/model.safetensors".to_owned(), weights)]);
    assert!(path.ends_with(format!("snapshots/{digest}")));
    for secret in ["geheim", "YWRhOmdlaGVpbQ", "of-the-issuer"] {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran}");
    }
    drop(server);
    fs::remove_file(environment.path(".docker/config.json")).unwrap();
    let other = TestEnvironment::new();
    let (_server, host, _) = registry(&other, "application/vnd.cncf.model.weight.v1.raw", b"x");
    fs::remove_file(other.path(".docker/config.json")).unwrap();
    let ran = other.run(["preload", &format!("oci://{host}/org/model:v1"), "--to", "store"]);
    assert!(ran.status == Some(4) && ran.stderr.contains("is refused"), "{ran}");
}

/// A program that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_for_port(port: u16) {
    let since = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(since.elapsed() < Duration::from_secs(60), "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Against an S3 implementation that is not ours.
#[test]
fn a_bucket() {
    let Some(python) = support::require_some("moto (test.sh)", support::models_python()) else { return };
    let environment = TestEnvironment::new();
    let port = free_port();
    let mut server = environment.command_of(&python);
    server.args([
        "-c",
        "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])",
        &port.to_string(),
    ]);
    let _server = Running(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for_port(port);
    environment.write("a.bin", noise(20_000_000, 1));
    environment.write("b.json", "{}");
    let endpoint = format!("http://127.0.0.1:{port}");
    let put = "
import boto3, sys
s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1')
s3.create_bucket(Bucket='models')
for key, path in [('llama/a.bin', 'a.bin'), ('llama/sub/b.json', 'b.json'), ('llama2/c.json', 'b.json')]:
    s3.upload_file(path, 'models', key)
s3.put_object(Bucket='models', Key='llama/empty')";
    let keys = |command: &mut Command| {
        command
            .env("AWS_ACCESS_KEY_ID", "key-secret")
            .env("AWS_SECRET_ACCESS_KEY", "other-secret")
            .env("AWS_ENDPOINT_URL", &endpoint);
        command.env("AWS_REGION", "us-east-1");
    };
    let mut fill = environment.command_of(&python);
    keys(fill.args(["-c", put, &endpoint]));
    let ran = environment.ran(fill.output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran}");
    let preload = |arguments: &[&str]| {
        let mut command = environment.command();
        keys(command.arg("preload").args(arguments).args(["--to", "store"]));
        let ran = environment.ran(command.output().unwrap());
        assert!(!ran.stdout.contains("secret") && !ran.stderr.contains("secret"), "{ran}");
        ran
    };
    let ran = preload(&["s3://models/llama", "-o", "name"]);
    let found = contents(&path_of(&environment, &ran));
    let wanted = [("a.bin", noise(20_000_000, 1)), ("empty", vec![]), ("sub/b.json", b"{}".to_vec())];
    assert!(found == wanted.map(|(name, content)| (name.to_owned(), content)));
    let ran = preload(&["s3://models/llama"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));
    // One object by its name.
    let ran = preload(&["s3://models/llama2/c.json", "-o", "name"]);
    assert_eq!(contents(&path_of(&environment, &ran)), [("c.json".to_owned(), b"{}".to_vec())]);
    let ran = preload(&["s3://models/none"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("s3://models/none has no files"), "{ran}");
    let ran = preload(&["s3://nobody/none"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("NoSuchBucket") && !ran.stderr.contains("hint"), "{ran}");
}

/// Against nginx: its parts, its tags, its index pages.
#[test]
fn nginx() {
    let Some(nginx) = support::require_some("nginx", nginx_program()) else { return };
    let environment = TestEnvironment::new();
    environment.write("www/m/a.bin", noise(30_000_000, 1));
    environment.write("www/m/sub/b.json", "{}");
    let (port, root) = (free_port(), environment.path("www").display().to_string());
    let directory = environment.path("nginx").display().to_string();
    fs::create_dir_all(&directory).unwrap();
    let user = if support::is_root() { "user root;" } else { "" };
    let configuration = format!(
        "{user} daemon off; pid {directory}/pid; error_log {directory}/error.log;
        events {{}}
        http {{ access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
          fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
          server {{ listen 127.0.0.1:{port}; root {root}; autoindex on; }} }}"
    );
    let file = environment.write("nginx/nginx.conf", configuration);
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-e").arg(format!("{directory}/error.log"));
    let _server = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for_port(port);
    let ran = environment.run(["preload", &format!("http://127.0.0.1:{port}/m/"), "--to", "store", "-o", "name"]);
    assert!(contents(&path_of(&environment, &ran)) == contents(&environment.path("www/m")));
}

fn nginx_program() -> Option<std::path::PathBuf> {
    support::program("nginx").or_else(|| Some("/usr/sbin/nginx".into())).filter(|path| path.is_file())
}
