//! Our recordings decode with Perfetto's own schema through an independent library.

use std::path::{Path, PathBuf};
use std::process::Command;

use aictl::trace::{ArgRef, CaptureMeta, ClockSnapshot, Event, Layer, PerfettoWriter, Sink, SliceEvent, TrackDef};

/// A Python that has the packages perfetto and protobuf.
fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/cache/venv/bin/python");
    let python = std::env::var_os("AICTL_TEST_PYTHON").map_or(own, PathBuf::from);
    let has = Command::new(&python).args(["-c", "import perfetto, google.protobuf"]).output();
    has.is_ok_and(|out| out.status.success()).then_some(python)
}

fn plain(start_ns: u64, dur_ns: u64, name: &str) -> SliceEvent<'_> {
    SliceEvent { start_ns, dur_ns, name, args: &[], flow: 0, estimate: false }
}

fn recording(many: u64) -> std::io::Result<Vec<u8>> {
    let clock = ClockSnapshot { monotonic_ns: 1_000, boottime_ns: 5_000, realtime_ns: 1_790_000_000_000_000_000 };
    let mut writer = PerfettoWriter::new(Vec::new(), clock)?;
    writer.process(812, "python3", Some("python3 train.py"), Some(3))?;
    writer.thread(812, 812, "python3")?;
    let def = TrackDef { pid: Some(812), tid: Some(812), name: "torch", layer: Layer::Torch, counter_unit: None };
    let torch = writer.track(def)?;
    let python = writer.track(TrackDef { name: "python", layer: Layer::Python, ..def })?;
    let block = writer.track(TrackDef { tid: None, name: "block vda", layer: Layer::Io, ..def })?;
    let cpu = TrackDef { tid: None, name: "cpu", layer: Layer::Sched, counter_unit: Some("%"), ..def };
    let cpu = writer.track(cpu)?;

    // Children finish, and arrive, before their parents; ends fall on the same nanosecond.
    writer.slice(torch, &plain(2_000, 500, "aten::mm"))?;
    writer.slice(torch, &plain(2_500, 500, "aten::add"))?;
    writer.slice(torch, &plain(1_900, 1_100, "aten::addmm"))?;
    // A parent that starts with its child comes first.
    writer.slice(torch, &plain(4_000, 1_000, "aten::linear"))?;
    writer.slice(torch, &plain(4_000, 300, "aten::t"))?;
    for name in ["main", "train"] {
        let args = [("file", ArgRef::Str("train.py")), ("line", ArgRef::U64(7))];
        writer.begin(python, &Event { ts_ns: 1_500, name, args: &args })?;
    }
    for _ in 0..2 {
        writer.end(python, &Event { ts_ns: 9_000, name: "", args: &[("gil", ArgRef::U64(1))] })?;
    }
    let args = [("bytes", ArgRef::U64(4096)), ("ret", ArgRef::I64(-5)), ("share", ArgRef::F64(0.5))];
    let io = SliceEvent { start_ns: 3_000, dur_ns: 10, name: "read", args: &args, flow: 77, estimate: true };
    writer.slice(block, &io)?;
    writer.instant(block, &Event { ts_ns: 3_005, name: "major_fault", args: &[] })?;
    writer.counter(cpu, 3_000, 99.5)?;
    // Enough names that the table of names starts afresh.
    for n in 0..many {
        writer.slice(python, &plain(10_000 + n * 10, 5, &format!("f{n}")))?;
    }
    // A part that another thread writes: names and tracks have numbers of its own.
    let mut branch = writer.branch().ok_or_else(|| std::io::Error::other("no branches"))?;
    branch.process(813, "python3", None, Some(4))?;
    let def = TrackDef { pid: Some(813), tid: Some(813), ..def };
    let apart = branch.track(TrackDef { name: "apart", ..def })?;
    branch.slice(apart, &plain(2_000, 500, "aten::mm"))?;
    let first = branch.take();
    branch.slice(apart, &plain(3_000, 500, "aten::mm"))?;
    branch.begin(apart, &Event { ts_ns: 5_800, name: "read", args: &[("file", ArgRef::Str("train.py"))] })?;
    branch.end(apart, &Event { ts_ns: 5_900, name: "", args: &[] })?;
    writer.append(&first)?;
    writer.append(&branch.take())?;
    writer.meta(9_999, &CaptureMeta { aictl_version: "0.1.0".into(), ..Default::default() })?;
    writer.finish()?;
    writer.into_inner()
}

#[test]
fn perfetto_s_schema_reads_our_recording() {
    let Some(python) = python() else {
        let why = "no Python with the packages perfetto and protobuf; set AICTL_TEST_PYTHON to one";
        assert!(std::env::var_os("AICTL_REQUIRE_ALL").is_none_or(|v| v != "1"), "{why}");
        eprintln!("skipped: {why}");
        return;
    };
    let many = 40_000;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), recording(many).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/check_perfetto.py");
    let out = Command::new(python).arg(script).arg(file.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let told: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let counts = &told["counts"];
    assert_eq!(counts["slices"], 8 + 3 + many);
    assert_eq!(counts["processes"], 2);
    assert_eq!(counts["threads"], 2);
    assert_eq!(counts["tracks"], 6);
    assert_eq!(counts["instants"], 4);
    assert_eq!(counts["counters"], 1);
    assert_eq!(counts["clears"], 3);
    assert_eq!(told["texts"], serde_json::json!(["train.py"]));
    let nested = told["spans"].as_array().unwrap().iter().filter(|s| s[0] == "torch").cloned().collect::<Vec<_>>();
    let expected = serde_json::json!([
        ["torch", 0, "aten::addmm", 1_900, 1_100],
        ["torch", 0, "aten::linear", 4_000, 1_000],
        ["torch", 1, "aten::add", 2_500, 500],
        ["torch", 1, "aten::mm", 2_000, 500],
        ["torch", 1, "aten::t", 4_000, 300],
    ]);
    assert_eq!(serde_json::Value::from(nested), expected);
    let apart = told["spans"].as_array().unwrap().iter().filter(|s| s[0] == "apart").cloned().collect::<Vec<_>>();
    let expected = serde_json::json!([
        ["apart", 0, "aten::mm", 2_000, 500],
        ["apart", 0, "aten::mm", 3_000, 500],
        ["apart", 0, "read", 5_800, 100],
    ]);
    assert_eq!(serde_json::Value::from(apart), expected);
}
