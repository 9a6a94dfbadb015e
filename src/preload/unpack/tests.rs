//! Archives as tools make them, and as nobody should.

use proptest::prelude::*;
use tar::{Builder, EntryType, Header};

use super::super::store::Store;
use super::*;

const LAYER: &str = "0123456789abcdef";

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, content) in files {
        builder.append_data(&mut header(EntryType::Regular, content.len() as u64), name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// With a name that the crate itself would not write.
fn packed_raw(kind: EntryType, name: &[u8], link: &[u8]) -> Vec<u8> {
    let mut header = header(kind, 0);
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..link.len()].copy_from_slice(link);
    if kind == EntryType::GNUSparse {
        fields.set_real_size(0);
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 * 3, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

struct Bench {
    directory: tempfile::TempDir,
    repository: Repository,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let repository = Store::at_home(directory.path()).repository(&"oci://localhost/a/b:c".parse().unwrap());
    repository.create().unwrap();
    Bench { directory, repository }
}

impl Bench {
    fn unpack(&self, archive: &[u8]) -> Result<Vec<Member>, PreloadError> {
        fs::write(self.repository.blob(LAYER), archive).unwrap();
        self.unpack_there(&Together::new(256 << 20))
    }

    fn unpack_there(&self, together: &Together) -> Result<Vec<Member>, PreloadError> {
        let wants = |name: &str| {
            if name == "stop here" {
                together.stop.store(true, Ordering::Relaxed);
            }
            !name.ends_with(".bin")
        };
        let members = unpack(&self.repository, LAYER, &wants, together, &AtomicU64::new(0));
        let left: Vec<_> = fs::read_dir(self.repository.private("incomplete")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the record is left: {left:?}");
        members
    }

    fn content(&self, member: &Member) -> Vec<u8> {
        fs::read(self.repository.blob(&member.sha256)).unwrap()
    }
}

#[test]
fn members_become_blobs_however_they_are_packed() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(120));
    let plain = packed(&[("./a/b.txt", b"hello\n"), (&long, &[7; 3_000_000]), ("c.bin", b"not wanted"), ("e", b"")]);
    let cut = |pack: fn(&[u8]) -> Vec<u8>| [pack(&plain[..1024]), pack(&plain[1024..])].concat();
    for archive in [plain.clone(), gzip(&plain), zstd(&plain), cut(gzip), cut(zstd)] {
        let bench = bench();
        let members = bench.unpack(&archive).unwrap();
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a/b.txt", &long, "c.bin", "e"]);
        assert_eq!(members[0].sha256, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(bench.content(&members[0]), b"hello\n");
        assert_eq!(bench.content(&members[1]), [7; 3_000_000]);
        assert_eq!((members[2].bytes, members[2].stamp), (10, None));
        assert!(!bench.repository.blob(&members[2].sha256).exists());
        assert_eq!(bench.content(&members[3]), b"");
        // Again: what is there stays.
        assert_eq!(bench.unpack(&archive).unwrap(), members);
        // A blob that somebody damaged is replaced.
        fs::write(bench.repository.blob(&members[0].sha256), "HELLO\n").unwrap();
        assert_eq!(bench.content(&bench.unpack(&archive).unwrap()[0]), b"hello\n");
    }
}

#[test]
fn tricks_are_refused_by_name() {
    let tricks: [(EntryType, &[u8], &[u8], &str); 9] = [
        (EntryType::Regular, b"../x", b"", "leaves its directory"),
        (EntryType::Regular, b"/etc/passwd", b"", "absolute"),
        (EntryType::Regular, b"a/../../x", b"", "leaves its directory"),
        (EntryType::Regular, b"a\nb", b"", "control characters"),
        (EntryType::Regular, b"a\xff", b"", "not UTF-8"),
        (EntryType::Symlink, b"x", b"/etc/passwd", "a link"),
        (EntryType::Link, b"x", b"../../y", "a link"),
        (EntryType::Char, b"x", b"", "a device"),
        (EntryType::Fifo, b"x", b"", "a pipe"),
    ];
    for (kind, name, link, word) in tricks {
        let bench = bench();
        let error = bench.unpack(&packed_raw(kind, name, link)).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(error.starts_with("cannot read layer 0123456789ab: "), "{error}");
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn directories_of_before_posix_are_passed_over() {
    let directory = packed_raw(EntryType::Regular, b"sub/", b"");
    let archive = [directory[..512].to_vec(), packed(&[(".//sub/x", b"1")])].concat();
    assert_eq!(bench().unpack(&archive).unwrap()[0].name, "sub/x");
}

#[test]
fn tensors_are_looked_at_as_in_a_file_that_comes_alone() {
    let bench = bench();
    let error = bench.unpack(&packed(&[("a/model.safetensors", b"garbage garbage")])).unwrap_err();
    assert!(matches!(error, PreloadError::Header { .. }), "{error}");
    assert_eq!(fs::read_dir(bench.repository.private("quarantine")).unwrap().count(), 1);
}

#[test]
fn who_lacks_room_waits_for_who_may_give_it() {
    let directory = tempfile::tempdir().unwrap();
    let together = Together::new(256 << 20);
    let free = super::super::store::free_bytes(directory.path());
    together.begun();
    let all = together.room(free / 2, directory.path()).map_err(|_| "no room").unwrap();
    together.begun();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| together.room(free / 2 + free / 4, directory.path()).is_ok());
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!other.is_finished(), "it waits");
        drop(all);
        assert!(other.join().unwrap());
    });
    // Nobody else is at work: nothing will go.
    together.ended(1);
    assert!(matches!(together.room(free * 2, directory.path()), Err(Failure::Store(PreloadError::Full { .. }))));
    // What is yet to come has its room first.
    together.hold.store(u64::MAX / 2, Ordering::Relaxed);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| together.room(1, directory.path()).is_ok());
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!other.is_finished(), "it waits");
        together.hold.store(0, Ordering::Relaxed);
        assert!(other.join().unwrap());
    });
}

#[test]
fn sizes_that_lie_find_no_room_or_no_end() {
    let lie = |size| {
        let mut header = header(EntryType::Regular, size);
        header.set_path("x").unwrap();
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let bench = bench();
    assert!(bench.unpack(&lie(1 << 60)).unwrap_err().is_disk_full());
    let error = bench.unpack(&lie(5000)).unwrap_err().to_string();
    assert!(error.contains("can't be unpacked"), "{error}");
    let half = gzip(&packed(&[("x", &[1; 100_000])]));
    let error = bench.unpack(&half[..half.len() / 2]).unwrap_err().to_string();
    assert!(error.contains("can't be unpacked"), "{error}");
    assert!(bench.unpack(b"\x28\xb5\x2f\xfdnonsense").is_err());
    assert!(bench.unpack(&[b'x'; 2000]).is_err());
    assert!(bench.unpack(b"").is_err());
    assert!(bench.unpack(&packed(&[])).unwrap().is_empty());
}

#[test]
fn what_is_cut_off_between_members_is_not_taken_for_whole() {
    let plain = packed(&[("a", b"1"), ("b", b"2")]);
    // A header and a block of content each.
    for length in [0, 1024, 2048] {
        for archive in [plain[..length].to_vec(), gzip(&plain[..length]), zstd(&plain[..length])] {
            let error = bench().unpack(&archive).unwrap_err().to_string();
            assert!(error.contains("without its end mark"), "{length}: {error}");
        }
    }
    // What was appended by `cat` would be lost.
    let error = bench().unpack(&[plain.clone(), plain].concat()).unwrap_err().to_string();
    assert!(error.contains("something follows"), "{error}");
}

#[test]
fn sparse_files_and_names_for_all_are_refused() {
    let pax = |kind: EntryType, key: &str, value: &str| {
        let record = format!(" {key}={value}\n");
        let length = (record.len()..).find(|length| format!("{length}{record}").len() == *length).unwrap();
        let record = format!("{length}{record}");
        let mut header = header(kind, record.len() as u64);
        header.set_path("x").unwrap();
        header.set_cksum();
        let mut bytes = [header.as_bytes(), record.as_bytes()].concat();
        bytes.resize(1024, 0);
        [bytes, packed(&[("model.gguf", b"abc")])].concat()
    };
    // The size of one with a hole, which is told with the name of its owner.
    let mut unreadable = packed_raw(EntryType::GNUSparse, b"m", b"");
    unreadable[483..495].fill(b'x');
    unreadable[265..269].copy_from_slice(b"\x1b[2J");
    let sum: u64 = unreadable[..148].iter().chain(&unreadable[156..512]).map(|byte| u64::from(*byte)).sum();
    unreadable[148..156].copy_from_slice(format!("{:06o}\0 ", sum + 8 * 32).as_bytes());
    for (archive, word) in [
        (unreadable, "\u{fffd}[2J"),
        (pax(EntryType::XHeader, "GNU.sparse.major", "1"), "\"model.gguf\" in it is stored sparse"),
        (packed_raw(EntryType::GNUSparse, b"m", b""), "\"m\" in it is stored sparse"),
        (pax(EntryType::XGlobalHeader, "path", "y"), "that their path is the same"),
        (pax(EntryType::XGlobalHeader, "GNU.sparse.name", "y"), "that their GNU.sparse.name is the same"),
    ] {
        let error = bench().unpack(&archive).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let members = bench().unpack(&pax(EntryType::XGlobalHeader, "comment", "from git")).unwrap();
    assert_eq!(members[0].name, "model.gguf");
    let members = bench().unpack(&pax(EntryType::XHeader, "path", "other")).unwrap();
    assert_eq!(members[0].name, "other");
}

#[test]
fn names_and_records_without_end_are_not_held() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let mut header = header(kind, 1 << 40);
        header.set_path("x").unwrap();
        header.set_cksum();
        let bench = bench();
        let file = File::create(bench.repository.blob(LAYER)).unwrap();
        (&file).write_all(header.as_bytes()).unwrap();
        file.set_len(1 << 41).unwrap();
        let reached = AtomicU64::new(0);
        let error = unpack(&bench.repository, LAYER, &|_| true, &Together::new(256 << 20), &reached).unwrap_err();
        assert!(error.to_string().contains("more between two files"), "{error}");
        assert!(reached.into_inner() <= 4 << 20);
    }
    let long = "n".repeat(100_000);
    let mut archive = packed(&[("a", b"")]);
    archive.truncate(512);
    let mut builder = Builder::new(archive);
    builder.append_data(&mut header(EntryType::Regular, 0), &long, io::empty()).unwrap();
    let error = bench().unpack(&builder.into_inner().unwrap()).unwrap_err().to_string();
    assert!(error.len() < 400 && error.contains("too long"), "{error}");
}

#[test]
fn a_run_that_was_cut_off_is_gone_on_with() {
    let archive = packed(&[("a", &[1; 2_000_000]), ("b", &[2; 1000]), ("stop here", b"3")]);
    let bench = bench();
    fs::write(bench.repository.blob(LAYER), &archive).unwrap();
    let error = bench.unpack_there(&Together::new(256 << 20)).unwrap_err().to_string();
    assert!(error.contains("the run was ended"), "{error}");
    let member = |name: &str| {
        let mut record = Record::open(&bench.repository, LAYER).unwrap();
        record.take(&bench.repository, name, if name == "a" { 2_000_000 } else { 1000 })
    };
    let (a, b) = (member("a").unwrap(), member("b").unwrap());
    assert_eq!(member("stop here"), None);
    // One is damaged meanwhile, and the record cut off.
    fs::write(bench.repository.blob(&b.sha256), [3; 1000]).unwrap();
    assert_eq!(member("b"), None);
    let path = bench.repository.private("incomplete").join(format!("{LAYER}.members"));
    let text = fs::read(&path).unwrap();
    fs::write(&path, &text[..text.len() - 10]).unwrap();
    let members = unpack(&bench.repository, LAYER, &|_| true, &Together::new(256 << 20), &AtomicU64::new(0)).unwrap();
    assert_eq!(members[0], a, "it was not written again");
    assert_eq!(bench.content(&members[1]), [2; 1000]);
    assert_eq!(bench.content(&members[2]), b"3");
    assert_eq!(member("a").unwrap(), a);
    assert_eq!(member("b").unwrap(), members[1]);
    forget(&bench.repository, LAYER);
    assert_eq!(member("a"), None);
}

#[test]
fn archives_with_the_same_file_agree_on_it() {
    let bench = bench();
    let layers: Vec<String> = (0..4).map(|number| format!("{number:064}")).collect();
    for layer in &layers {
        fs::write(bench.repository.blob(layer), packed(&[(layer.as_str(), &[1; 300_000])])).unwrap();
    }
    let together = Together::new(256 << 20);
    let stamps: Vec<Option<Stamp>> = std::thread::scope(|scope| {
        let unpack = |layer| unpack(&bench.repository, layer, &|_| true, &together, &AtomicU64::new(0)).unwrap();
        let threads: Vec<_> = layers.iter().map(|layer| scope.spawn(move || unpack(layer)[0].stamp)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(stamps[0].is_some() && stamps.iter().all(|stamp| *stamp == stamps[0]), "{stamps:?}");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_write_elsewhere(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0usize..1536) {
        let bench = bench();
        let _ = bench.unpack(&bytes);
        let mut archive = packed(&[("a", b"1"), ("b", b"2")]);
        bytes.truncate(20);
        let at = at.min(archive.len() - 20);
        archive[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = bench.unpack(&archive);
        let beside: Vec<_> = fs::read_dir(bench.directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        prop_assert_eq!(beside, ["hub"]);
    }
}
