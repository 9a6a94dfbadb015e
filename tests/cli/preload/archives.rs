//! Layers of artifacts that are archives, and runs that are cut off while these become files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::environment::{Ran, TestEnvironment};
use super::super::support;
use super::super::support::http::{Fault, noise, sha256};
use super::super::support::kube::free_port;
use super::damage::Small;
use super::sources::{Layer, Running, path_of, protected, publish, registry, registry_of, wait_for_port};
use super::{contents, safetensors};

const TAR: &str = "application/vnd.cncf.model.weight.v1.tar";

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

fn preload(environment: &TestEnvironment, host: &str, more: &[&str]) -> Ran {
    let source = format!("oci://{host}/org/model:v1");
    environment.run([&["preload", source.as_str(), "--to", "store"], more].concat())
}

/// The directory of the repository in the store.
fn repository(environment: &TestEnvironment) -> PathBuf {
    let hub = environment.path("store/hub");
    let there = fs::read_dir(&hub).unwrap().flatten().map(|entry| entry.path());
    there.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("models--")).unwrap()
}

fn blobs(repository: &Path) -> usize {
    fs::read_dir(repository.join("blobs")).unwrap().count()
}

/// kill -9 at random moments while an archive becomes files; then one run to the end.
/// AICTL_TEST_KILLS=200 for as many.
#[test]
fn killed_while_it_unpacks_it_goes_on() {
    let kills: u64 = std::env::var("AICTL_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let environment = TestEnvironment::new();
    let files: Vec<(String, Vec<u8>)> =
        (0..24).map(|number| (format!("{number:02}.bin"), noise(2_500_000, number))).collect();
    let listed: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let layer = archive(&listed);
    let (server, host, revision) = registry(&environment, TAR, &layer);
    let mut random = 0x5eed_u64;
    let (mut killed, mut fetched) = (0, 0);
    for _ in 0..kills {
        let mut command = environment.command();
        command.args(["preload", &format!("oci://{host}/org/model:v1"), "--to", "store", "-o", "json"]);
        command.current_dir(environment.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        if !lines.any(|line| line.contains(r#""event":"unpacking""#)) {
            // The one before was killed when all was done.
            assert!(child.wait().unwrap().success());
            break;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis((random >> 33) % 60));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        fetched += server.take_bytes();
        if ended.success() {
            break;
        }
        killed += 1;
        let repository = repository(&environment);
        for blob in fs::read_dir(repository.join("blobs")).unwrap().flatten() {
            let length = blob.metadata().unwrap().len() as usize;
            assert!(length == layer.len() || length == 2_500_000, "{length} bytes under a final name");
        }
    }
    assert!(killed > 0);
    let ran = preload(&environment, &host, &["-o", "name"]);
    let path = path_of(&environment, &ran);
    assert!(path.ends_with(revision) && contents(&path) == files, "{ran}");
    fetched += server.take_bytes();
    assert!(fetched < layer.len() as u64 + 100_000, "{fetched} of {}: it came once", layer.len());
    let repository = repository(&environment);
    assert_eq!(blobs(&repository), 24, "the archive is gone");
    assert_eq!(contents(&repository.join(".aictl/incomplete")), [], "nothing is left");
}

#[test]
fn an_archive_becomes_files_while_others_come() {
    let environment = TestEnvironment::new();
    let (quick, slow) = (archive(&[("a.bin", &noise(1_000_000, 1))]), archive(&[("b.bin", &noise(9_000_000, 2))]));
    let layer = |content, path| Layer { kind: TAR, content, path, typeflag: None };
    let (server, host, _) = registry_of(&environment, &[layer(&quick, "a.bin"), layer(&slow, "b.bin")]);
    let target = format!("/v2/org/model/blobs/sha256:{}", sha256(&slow));
    server.faults(move |request, _| {
        let signed_in = request.headers.contains_key("authorization");
        match request.target == target {
            true if signed_in => Some(Fault::Slow(500_000)),
            _ if request.target.starts_with("/token") || signed_in => None,
            _ => Some(Fault::Status(401, None)),
        }
    });
    let mut command = environment.command();
    command.args(["preload", &format!("oci://{host}/org/model:v1"), "--to", "store", "-o", "json"]);
    command.current_dir(environment.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told: Vec<String> = lines.by_ref().take_while(|line| !line.contains(r#""event":"unpacked""#)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let done = told.iter().filter(|line| line.contains(r#""event":"file_done""#)).count();
    assert!(done == 1 && told.iter().any(|line| line.contains(r#""event":"unpacking""#)), "{told:#?}");
    // One is files; of the other what came is there.
    server.take_log();
    server.faults(|request, _| {
        let signed_in = request.headers.contains_key("authorization");
        (!signed_in && !request.target.starts_with("/token")).then_some(Fault::Status(401, None))
    });
    let ran = preload(&environment, &host, &["-o", "name"]);
    let wanted = [("a.bin".to_owned(), noise(1_000_000, 1)), ("b.bin".to_owned(), noise(9_000_000, 2))];
    assert!(contents(&path_of(&environment, &ran)) == wanted);
    let again = server.take_log().into_iter().filter(|request| request.target.ends_with(&sha256(&quick))).count();
    assert_eq!((again, blobs(&repository(&environment))), (0, 2));
}

#[test]
fn an_archive_that_fills_the_disk_stops_and_goes_on() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(small) = support::require_some("tmpfs", Small::mount(environment.path("store"))) else { return };
    let (one, other) = (vec![0; 30_000_000], noise(10_000_000, 1));
    let plain = archive(&[("a.bin", &one), ("b.bin", &other)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let (server, host, _) = registry(&environment, "application/vnd.cncf.model.weight.v1.tar+gzip", &gzip);
    // What is to come would fit; what it holds doesn't.
    let fits = |ran: Ran| serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()[0]["fits"].clone();
    assert_eq!(fits(preload(&environment, &host, &["--dry-run", "-o", "json"])), true);
    // A little more, and it is refused before a byte comes: both say so.
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![1; 9_000_000]).unwrap();
    assert_eq!(fits(preload(&environment, &host, &["--dry-run", "-o", "json"])), false);
    server.take_log();
    let ran = preload(&environment, &host, &[]);
    assert!(ran.status == Some(1) && ran.stderr.contains("hint: make room"), "{ran}");
    assert!(server.take_log().iter().all(|request| !request.target.contains("/blobs/")));
    fs::remove_file(&ballast).unwrap();

    // Room for the archive and its first file.
    let resized = |size| Command::new("mount").args(["-o", size]).arg(&small.0).status().unwrap().success();
    assert!(resized("remount,size=45000000"));
    let ran = preload(&environment, &host, &[]);
    assert!(ran.status == Some(1) && ran.stderr.contains("hint: make room"), "{ran}");
    let repository = repository(&environment);
    assert_eq!((fs::read_dir(repository.join("snapshots")).unwrap().count(), blobs(&repository)), (0, 2), "{ran}");
    let first = fs::metadata(repository.join("blobs").join(sha256(&one))).unwrap().modified().unwrap();
    // Not enough to write the first once more, nor beside what a run leaves that is killed.
    assert!(resized("remount,size=52000000"));
    let left = repository.join(".aictl/incomplete").join(format!("{}.1", sha256(&gzip)));
    fs::write(left, vec![1; 5_000_000]).unwrap();
    server.take_log();
    let ran = preload(&environment, &host, &["-o", "name"]);
    assert!(contents(&path_of(&environment, &ran)) == [("a.bin".to_owned(), one.clone()), ("b.bin".to_owned(), other)]);
    assert_eq!(fs::metadata(repository.join("blobs").join(sha256(&one))).unwrap().modified().unwrap(), first);
    assert!(server.take_log().iter().all(|request| !request.target.contains("/blobs/")), "nothing came again");
}

#[test]
fn what_a_cut_off_run_left_goes_with_the_next_or_with_gc() {
    let environment = TestEnvironment::new();
    let layer = archive(&[("a.bin", &noise(3_000_000, 1)), ("b.json", b"{}")]);
    let (server, host, _) = registry(&environment, TAR, &layer);
    assert_eq!(preload(&environment, &host, &[]).status, Some(0));
    let repository = repository(&environment);
    let left = repository.join("blobs").join(sha256(&layer));
    assert!(!left.exists());
    // As a run leaves it that is killed between the names and the removal.
    fs::write(&left, &layer).unwrap();
    let ran = preload(&environment, &host, &[]);
    assert!(ran.status == Some(0) && ran.stderr.is_empty() && !left.exists(), "{ran}");
    // And with a member in the middle, and no run for days.
    let aside = repository.join(".aictl/incomplete").join(format!("{}.1", sha256(&layer)));
    for path in [&left, &aside] {
        fs::write(path, &layer).unwrap();
        let day = Duration::from_secs(3 * 86400);
        fs::File::open(path).unwrap().set_modified(std::time::SystemTime::now() - day).unwrap();
    }
    let ran = environment.run(["preload", "gc", "--to", "store", "--max-size", "1GB"]);
    assert!(ran.status == Some(0) && !left.exists() && !aside.exists(), "{ran}");
    server.take_log();
    let ran = preload(&environment, &host, &["--verify"]);
    assert!(ran.status == Some(0) && server.take_log().iter().all(|request| !request.target.contains("/blobs/")));
}

/// ModelPack's tools pack each file alone, and say so: what is not wanted does not come.
#[test]
fn an_archive_of_one_file_that_is_not_wanted_stays_where_it_is() {
    let environment = TestEnvironment::new();
    let weights = safetensors(&[("w".to_owned(), noise(3_000_000, 1))]);
    let (one, other, directory) = (
        archive(&[("a.safetensors", &weights)]),
        archive(&[("sub/b.bin", &noise(3_000_000, 2))]),
        archive(&[("more/c.bin", b"c"), ("more/c.json", b"{}")]),
    );
    let layer = |content, path, typeflag| Layer { kind: TAR, content, path, typeflag: Some(typeflag) };
    let layers =
        [layer(&one, "a.safetensors", b'0'), layer(&other, "sub/b.bin", b'0'), layer(&directory, "more", b'5')];
    let (server, host, _) = registry_of(&environment, &layers);
    let ran = preload(&environment, &host, &["-o", "name", "--exclude", "*/*.bin"]);
    let path = path_of(&environment, &ran);
    let mut wanted = vec![("a.safetensors".to_owned(), weights), ("more/c.json".to_owned(), b"{}".to_vec())];
    assert!(contents(&path) == wanted);
    let asked: Vec<String> = server.take_log().into_iter().map(|request| request.target).collect();
    let fetched = |layer: &[u8]| asked.iter().any(|target| target.ends_with(&sha256(layer)));
    assert!(fetched(&one) && fetched(&directory) && !fetched(&other), "{asked:?}");
    let again = preload(&environment, &host, &["--exclude", "*/*.bin"]);
    assert!(again.status == Some(0) && again.stderr.is_empty(), "{again}");
    assert!(server.take_log().iter().all(|request| !request.target.contains("/blobs/")));
    // Now it is.
    let ran = preload(&environment, &host, &["-o", "name"]);
    wanted.extend([("more/c.bin".to_owned(), b"c".to_vec()), ("sub/b.bin".to_owned(), noise(3_000_000, 2))]);
    wanted.sort();
    assert!(contents(&path_of(&environment, &ran)) == wanted);
    assert_eq!(blobs(&repository(&environment)), 4);
}

/// A file in an archive may be a layer itself, of this artifact or of another.
#[test]
fn an_archive_in_an_archive_is_a_file() {
    for salt in 0..4 {
        let environment = TestEnvironment::new();
        let inner = archive(&[("in.bin", &noise(100_000, salt))]);
        let outer = archive(&[("shards/0.tar", &inner), ("out.bin", &noise(2_000_000, salt + 100))]);
        let more = archive(&[("more.bin", &noise(1_000_000, salt + 200))]);
        let layer = |content| Layer { kind: TAR, content, path: "x", typeflag: None };
        let (server, host, _) = registry_of(&environment, &[layer(&inner)]);
        let both = publish(&server, "v2", &[layer(&outer), layer(&inner), layer(&more), layer(&more)]);
        let first = preload(&environment, &host, &["-o", "name"]);
        assert!(contents(&path_of(&environment, &first)) == [("in.bin".to_owned(), noise(100_000, salt))]);
        let ran = environment.run(["preload", &format!("oci://{host}/org/model:v2"), "--to", "store", "-o", "name"]);
        let path = path_of(&environment, &ran);
        let wanted = [
            ("in.bin".to_owned(), noise(100_000, salt)),
            ("more.bin".to_owned(), noise(1_000_000, salt + 200)),
            ("out.bin".to_owned(), noise(2_000_000, salt + 100)),
            ("shards/0.tar".to_owned(), inner.clone()),
        ];
        assert!(path.ends_with(both) && contents(&path) == wanted, "{salt}: {ran}");
        // Alone, in an empty store.
        let source = format!("oci://{host}/org/model:v2");
        let ran = environment.run(["preload", &source, "--to", "other/store", "-o", "name"]);
        let path = environment.path("other/store").join(ran.stdout.trim().split_once("other/store/").unwrap().1);
        assert!(contents(&path) == wanted, "{salt}: {ran}");
    }
}

#[test]
fn archives_that_hold_the_same_name_are_refused_whatever_is_here() {
    let environment = TestEnvironment::new();
    let (one, other) = (archive(&[("config.json", b"A")]), archive(&[("config.json", b"B"), ("b", b"b")]));
    let layer = |content| Layer { kind: TAR, content, path: "x", typeflag: None };
    let (server, host, _) = registry_of(&environment, &[layer(&one)]);
    publish(&server, "v2", &[layer(&other)]);
    publish(&server, "v3", &[layer(&one), layer(&other)]);
    let run = |tag| environment.run(["preload", &format!("oci://{host}/org/model:{tag}"), "--to", "store"]);
    let refused = run("v3");
    assert!(refused.status == Some(1) && refused.stderr.contains("it is there twice"), "{refused}");
    assert_eq!((run("v1").status, run("v2").status), (Some(0), Some(0)));
    let refused = run("v3");
    assert!(refused.status == Some(1) && refused.stderr.contains("it is there twice"), "{refused}");
}

/// ORAS calls all that it packs a layer of an image; only what it says is to be unpacked is an archive.
#[test]
fn a_file_that_oras_pushed_is_a_file() {
    let environment = TestEnvironment::new();
    let packed = archive(&[("in.bin", b"1")]);
    let zeros = [0; 4096];
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let layer = |content, path| Layer { kind, content, path, typeflag: None };
    let layers = [layer(b"{}".as_slice(), "config.json"), layer(&zeros, "zeros.bin"), layer(&packed, "data.tar")];
    let (_server, host, _) = registry_of(&environment, &layers);
    let ran = preload(&environment, &host, &["-o", "name"]);
    let wanted = [
        ("config.json".to_owned(), b"{}".to_vec()),
        ("data.tar".to_owned(), packed.clone()),
        ("zeros.bin".to_owned(), zeros.to_vec()),
    ];
    assert!(contents(&path_of(&environment, &ran)) == wanted, "{ran}");
}

/// Two that don't fit beside each other are unpacked one after the other.
#[test]
fn archives_wait_for_each_other_s_room() {
    if !support::require("root", support::is_root()) {
        return;
    }
    let environment = TestEnvironment::new();
    let Some(_small) = support::require_some("tmpfs", Small::mount(environment.path("store"))) else { return };
    let files: Vec<(String, Vec<u8>)> = (0..3).map(|number| (format!("{number}"), noise(5_500_000, number))).collect();
    let archives: Vec<Vec<u8>> = files.iter().map(|(name, bytes)| archive(&[(name, bytes)])).collect();
    let layers: Vec<Layer<'_>> =
        archives.iter().map(|content| Layer { kind: TAR, content, path: "x", typeflag: None }).collect();
    let (_server, host, _) = registry_of(&environment, &layers);
    let ran = preload(&environment, &host, &["-o", "name"]);
    assert!(contents(&path_of(&environment, &ran)) == files, "{ran}");
}

#[test]
fn what_is_named_stays_and_what_is_lost_is_counted() {
    let environment = TestEnvironment::new();
    let layer = archive(&[("w.bin", &noise(3_000_000, 1)), ("b.json", b"{}")]);
    let (server, host, revision) = registry(&environment, TAR, &layer);
    let ran = preload(&environment, &host, &["-o", "name"]);
    let path = path_of(&environment, &ran);
    // A narrower run: the names of the first are there, and read.
    assert_eq!(preload(&environment, &host, &["--exclude", "*.bin", "--verify"]).status, Some(0));
    let old = std::time::SystemTime::now() - Duration::from_secs(3 * 86400);
    for blob in fs::read_dir(path.join("../../blobs")).unwrap().flatten() {
        fs::File::open(blob.path()).unwrap().set_modified(old).unwrap();
    }
    let ran = environment.run(["preload", "gc", "--to", "store", "--max-size", "1GB"]);
    assert!(ran.status == Some(0) && fs::read(path.join("w.bin")).unwrap() == noise(3_000_000, 1), "{ran}");
    // Of an archive all comes for a file that is lost; the plan says so.
    assert_eq!(preload(&environment, &host, &[]).status, Some(0));
    fs::remove_file(fs::canonicalize(path.join("b.json")).unwrap()).unwrap();
    let ran = preload(&environment, &host, &["--dry-run", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(plan[0]["fetch_bytes"].as_u64(), Some(layer.len() as u64), "{ran}");
    server.take_bytes();
    assert_eq!(preload(&environment, &host, &[]).status, Some(0));
    assert!(server.take_bytes() >= layer.len() as u64 && contents(&path).len() == 2);
    // An index by its digest, and nobody to ask which manifest it leads to.
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": format!("sha256:{revision}"), "size": 1}]
    })
    .to_string();
    let digest = sha256(index.as_bytes());
    server.file(&format!("/v2/org/model/manifests/sha256:{digest}"), protected(&server, index.into_bytes()));
    let source = format!("oci://{host}/org/model@sha256:{digest}");
    assert_eq!(environment.run(["preload", &source, "--to", "store"]).status, Some(0));
    let mut command = environment.command();
    command.args(["preload", &source, "--to", "store"]).env("HF_HUB_OFFLINE", "1");
    let ran = environment.ran(command.current_dir(environment.path("")).output().unwrap());
    assert_eq!(ran.status, Some(0), "{ran}");
}

/// The distribution project's own server, and archives as tar, pzstd and gzip make them.
#[test]
fn a_real_registry_gives_what_real_tools_packed() {
    let (Some(registry), Some(pzstd)) = (support::program("docker-registry"), support::program("pzstd")) else {
        support::require("docker-registry and pzstd (Debian: docker-registry, zstd)", false);
        return;
    };
    let environment = TestEnvironment::new();
    let port = free_port();
    let configuration = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
        environment.path("registry").display()
    );
    environment.write("registry.yml", configuration);
    let mut command = Command::new(registry);
    command.arg("serve").arg(environment.path("registry.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let _running = Running(command.spawn().unwrap());
    wait_for_port(port);

    let weights = safetensors(&[("w".to_owned(), noise(20_000_000, 1))]);
    environment.write("model/model.safetensors", &weights);
    environment.write("model/sub/config.json", "{}");
    // Holes, for tar to find.
    let holes = fs::File::create(environment.path("holes.bin")).unwrap();
    holes.set_len(3_000_000).unwrap();
    let shell = |line: &str| {
        let mut command = environment.command_of("/bin/sh".as_ref());
        let ran = command.args(["-euc", line]).current_dir(environment.path("")).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    shell(&format!(
        "tar -C model --format=posix -cf plain.tar .; gzip -k plain.tar; {} -q -p 4 plain.tar -o plain.tar.zst",
        pzstd.display()
    ));
    shell("tar -S --format=posix -cf pax.tar holes.bin; tar -S --format=gnu -cf gnu.tar holes.bin");
    let push = |tag: &str, file: &str, kind: &str| {
        let script = r#"
import hashlib, json, sys, urllib.request
base, tag, kind, *files = sys.argv[1:]
def send(method, url, body=b"", **headers):
    return urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))
def blob(body):
    digest = "sha256:" + hashlib.sha256(body).hexdigest()
    place = send("POST", f"{base}/blobs/uploads/").headers["location"]
    send("PUT", place + ("&" if "?" in place else "?") + "digest=" + digest, body, **{"content-type": "application/octet-stream"})
    return {"digest": digest, "size": len(body)}
layers = [dict(blob(open(file, "rb").read()), mediaType=kind) for file in files]
config = dict(blob(b"{}"), mediaType="application/vnd.oci.empty.v1+json")
kind = "application/vnd.oci.image.manifest.v1+json"
manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers}
send("PUT", f"{base}/manifests/{tag}", json.dumps(manifest).encode(), **{"content-type": kind})
"#;
        let base = format!("http://127.0.0.1:{port}/v2/org/model");
        let mut command = environment.command_of("/usr/bin/python3".as_ref());
        command.args(["-c", script, &base, tag, kind]).arg(environment.path(file));
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    for (tag, file, ending) in
        [("plain", "plain.tar", "tar"), ("gzip", "plain.tar.gz", "tar+gzip"), ("zstd", "plain.tar.zst", "tar+zstd")]
    {
        push(tag, file, &format!("application/vnd.cncf.model.weight.v1.{ending}"));
        let source = format!("oci://127.0.0.1:{port}/org/model:{tag}");
        let ran = environment.run(["preload", &source, "--to", "store", "-o", "name"]);
        let wanted =
            [("model.safetensors".to_owned(), weights.clone()), ("sub/config.json".to_owned(), b"{}".to_vec())];
        assert!(contents(&path_of(&environment, &ran)) == wanted, "{tag}");
    }
    for (tag, file) in [("pax", "pax.tar"), ("gnu", "gnu.tar")] {
        push(tag, file, TAR);
        let source = format!("oci://127.0.0.1:{port}/org/model:{tag}");
        let ran = environment.run(["preload", &source, "--to", "store"]);
        assert!(ran.status == Some(1) && ran.stderr.contains("is stored sparse"), "{tag}: {ran}");
    }
}
