//! Sources that are no hub: mounts, claims, plain servers, buckets, registries.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::super::environment::{Ran, TestEnvironment};
use super::super::support;
use super::super::support::http::{Fault, Served, Server, noise, sha256};
use super::super::support::kube::free_port;
use super::{contents, safetensors};

fn path_of(environment: &TestEnvironment, ran: &Ran) -> std::path::PathBuf {
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

/// A registry with one artifact, whose one layer has a file of a media type. It answers as the
/// distribution spec's "token authentication" says: 401 with a challenge, until a token comes that
/// its issuer gave for a password.
pub fn registry(environment: &TestEnvironment, kind: &str, weights: &[u8]) -> (Server, String, String) {
    let server = Server::start();
    let sum = sha256(weights);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "layers": [{
            "mediaType": kind, "digest": format!("sha256:{sum}"), "size": weights.len(),
            "annotations": {"org.cncf.model.filepath": "weights/model.safetensors"}}]
    })
    .to_string();
    let challenge = format!("Bearer realm=\"{}/token\",service=\"registry\"", server.url());
    let protected = |content: Vec<u8>| {
        let mut served = Served { etag: None, ..Served::new(content) };
        served.headers.push(("WWW-Authenticate".to_owned(), challenge.clone()));
        served
    };
    server.file("/v2/org/model/manifests/v1", protected(manifest.clone().into_bytes()));
    server.file(&format!("/v2/org/model/blobs/sha256:{sum}"), protected(weights.to_vec()));
    server.file("/token", Served { etag: None, ..Served::new(br#"{"token": "of-the-issuer"}"#.to_vec()) });
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
    (server, host, sha256(manifest.as_bytes()))
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

/// A tar archive of files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn layers_that_are_archives_become_their_files() {
    let weights = safetensors(&[("w".to_owned(), noise(20_000_000, 1))]);
    let plain = archive(&[("./model.safetensors", &weights), ("sub/config.json", b"{}"), ("sub/notes.txt", b"no")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Fastest);
    let kinds = [
        ("application/vnd.cncf.model.weight.v1.tar", &plain),
        ("application/vnd.kitops.modelkit.model.v1.tar+gzip", &gzip),
        ("application/vnd.cncf.model.weight.v1.tar+zstd", &zstd),
    ];
    for (kind, layer) in kinds {
        let environment = TestEnvironment::new();
        let (server, host, _) = registry(&environment, kind, layer);
        let source = format!("oci://{host}/org/model:v1");
        let chosen = ["preload", &source, "--to", "store", "-o", "name", "--exclude", "*.txt"];
        let ran = environment.run(chosen);
        let path = path_of(&environment, &ran);
        let mut wanted =
            vec![("model.safetensors".to_owned(), weights.clone()), ("sub/config.json".to_owned(), b"{}".to_vec())];
        assert!(contents(&path) == wanted, "{kind}");
        let blobs = fs::read_dir(path.join("../../blobs")).unwrap().count();
        assert_eq!(blobs, 2, "{kind}: the archive is gone, and what is not wanted never came");
        // Again: one question, nothing fetched.
        server.take_log();
        assert_eq!(environment.run(chosen).status, Some(0));
        let more: Vec<String> = server.take_log().into_iter().map(|request| request.target).collect();
        assert!(more.iter().all(|target| !target.contains("/blobs/")), "{more:?}");
        // More of it is wanted: it comes again.
        let ran = environment.run(["preload", &source, "--to", "store", "-o", "name"]);
        wanted.push(("sub/notes.txt".to_owned(), b"no".to_vec()));
        assert!(contents(&path_of(&environment, &ran)) == wanted, "{kind}");
        // A file that was damaged, too.
        let damaged = fs::canonicalize(path.join("model.safetensors")).unwrap();
        fs::write(&damaged, b"x").unwrap();
        let ran = environment.run(["preload", &source, "--to", "store", "-o", "name"]);
        assert!(contents(&path_of(&environment, &ran)) == wanted, "{kind}");
        let ran = environment.run(["preload", &source, "--to", "other", "--rank", "0/2"]);
        assert!(ran.status == Some(1) && ran.stderr.contains("is an archive"), "{ran}");
    }
}

#[test]
fn an_archive_that_leads_elsewhere_writes_nothing() {
    let environment = TestEnvironment::new();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header, "model.safetensors", "/etc/passwd").unwrap();
    let (_server, host, _) =
        registry(&environment, "application/vnd.cncf.model.weight.v1.tar", &builder.into_inner().unwrap());
    let ran = environment.run(["preload", &format!("oci://{host}/org/model:v1"), "--to", "store"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("is a link; only files are taken"), "{ran}");
    assert!(!environment.path("store/hub").join("snapshots").exists());
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_port(port: u16) {
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
