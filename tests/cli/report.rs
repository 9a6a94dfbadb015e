//! `aictl report` on recordings of known content.

use std::io::Write as _;
use std::process::Stdio;

use aictl::trace::{
    ArgRef, CaptureMeta, ChromeWriter, ClockSnapshot, Layer, LayerState, LayerStatus, PerfettoWriter, Sink, SliceEvent,
    TrackDef,
};

use super::environment::TestEnvironment;

const MS: u64 = 1_000_000;

/// Twenty steps of 100 ms: `load_ms` in the DataLoader, the rest in an operator and the optimizer.
fn write_steps(sink: &mut dyn Sink, load_ms: u64) {
    const STEP_MS: u64 = 100;
    let start = 1_000_000 * MS;
    sink.process(4242, "python3", Some("python3 train.py"), Some(3)).unwrap();
    sink.thread(4242, 4242, "python3").unwrap();
    let mut track = |name, layer| {
        sink.track(TrackDef { pid: Some(4242), tid: Some(4242), name, layer, counter_unit: None }).unwrap()
    };
    let (cpu, python, torch) =
        (track("cpu", Layer::Sched), track("python", Layer::Python), track("torch", Layer::Torch));
    let mut slice = |track, start_ns, dur_ns, name: &str, args: &[(&str, ArgRef<'_>)]| {
        sink.slice(track, &SliceEvent { start_ns, dur_ns, name, args, flow: 0, estimate: false }).unwrap();
    };
    let file = |file, line| [("file", ArgRef::Str(file)), ("line", ArgRef::U64(line))];
    for step in 0..20 {
        let at = start + step * STEP_MS * MS;
        let computes = at + load_ms * MS;
        let rest = (STEP_MS - load_ms) * MS;
        slice(python, at, STEP_MS * MS, "train", &file("/job/train.py", 40));
        slice(python, at, load_ms * MS, "_BaseDataLoaderIter.__next__", &file("/torch/utils/data/dataloader.py", 700));
        slice(cpu, at, load_ms * MS, "poll", &[]);
        slice(cpu, computes, rest, "running", &[("cpu", ArgRef::U64(1))]);
        slice(torch, computes, rest / 2, "aten::addmm", &[]);
        slice(torch, computes + rest / 2, rest / 2, "Optimizer.step#SGD.step", &[]);
    }
    let meta = CaptureMeta {
        aictl_version: "0.0.0".to_owned(),
        start_ns: start,
        end_ns: start + 20 * STEP_MS * MS,
        targets: vec![4242],
        layers: vec![
            LayerStatus { layer: "torch".to_owned(), state: LayerState::On, detail: "2 operators".to_owned() },
            LayerStatus {
                layer: "cuda".to_owned(),
                state: LayerState::Absent,
                detail: "no libcudart mapped".to_owned(),
            },
        ],
        ..CaptureMeta::default()
    };
    sink.meta(meta.end_ns, &meta).unwrap();
    sink.finish().unwrap();
}

fn perfetto(load_ms: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_steps(&mut PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap(), load_ms);
    bytes
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_verdict_comes_first() {
    let environment = TestEnvironment::new();
    environment.write("run.pftrace", perfetto(70));
    let ran = environment.run(["report", "run.pftrace"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert!(ran.stdout.starts_with("input bound: 70 % of each step waits for data"), "{ran}");
    assert!(ran.stdout.contains("p50 100 ms"), "{ran}");
    assert!(ran.stdout.contains("cuda absent: no libcudart mapped"), "{ran}");
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{ran}");
}

#[test]
fn json_keeps_its_contract() {
    let environment = TestEnvironment::new();
    environment.write("run.pftrace", perfetto(70));
    let ran = environment.run(["report", "run.pftrace", "-o", "json"]);
    let report = json(&ran.stdout);
    assert_eq!(report["schema"], "aictl.report/v1");
    assert_eq!(report["verdict"]["kind"], "input_bound");
    assert_eq!(report["processes"][0]["pid"], 4242);
    assert_eq!(report["processes"][0]["rank"], 3);
    // Fields are only ever added: what is here stays.
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let kept = [
        (&report, "breakdown capture duration_s processes schema steps stragglers top verdict"),
        (&report["steps"], "count p50_ms p99_ms source"),
        (&report["verdict"], "advice because confidence kind share"),
        (&report["breakdown"][0], "category seconds share"),
        (&report["top"], "cuda file nccl python syscall torch"),
        (&report["capture"], "cpu_share lost_events thinned_probes"),
    ];
    for (object, wanted) in kept {
        let there = keys(object);
        assert!(wanted.split(' ').all(|key| object.get(key).is_some()), "{wanted} in {there}");
    }
    let shares: f64 = report["breakdown"].as_array().unwrap().iter().map(|row| row["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-6, "{shares}");
}

#[test]
fn other_formats() {
    let environment = TestEnvironment::new();
    environment.write("run.pftrace", perfetto(70));
    assert_eq!(environment.run(["report", "run.pftrace", "-o", "name"]).stdout, "input_bound\n");
    let yaml = environment.run(["report", "run.pftrace", "-o", "yaml"]).stdout;
    assert!(yaml.starts_with("schema: aictl.report/v1\n"), "{yaml}");
    let configured = TestEnvironment::new().set("AICTL_OUTPUT", "name");
    configured.write("run.pftrace", perfetto(70));
    assert_eq!(configured.run(["report", "run.pftrace"]).stdout, "input_bound\n");
    assert!(configured.run(["report", "run.pftrace", "-o", "json"]).stdout.starts_with('{'), "a flag wins");
    let ascii = environment.run(["report", "run.pftrace", "--ascii"]).stdout;
    assert!(ascii.is_ascii() && ascii.contains("####"), "{ascii}");
}

#[test]
fn all_formats_give_the_same_report() {
    let environment = TestEnvironment::new();
    environment.write("run.pftrace", perfetto(70));
    for (name, gzip) in [("run.json", false), ("run.json.gz", true)] {
        let mut bytes = Vec::new();
        let mut sink: Box<dyn Sink> =
            if gzip { Box::new(ChromeWriter::gzip(&mut bytes)) } else { Box::new(ChromeWriter::new(&mut bytes)) };
        write_steps(sink.as_mut(), 70);
        drop(sink);
        environment.write(name, &bytes);
    }
    let report = |name| json(&environment.run(["report", name, "-o", "json"]).stdout);
    let first = report("run.pftrace");
    assert_eq!(report("run.json")["breakdown"], first["breakdown"]);
    assert_eq!(report("run.json.gz")["breakdown"], first["breakdown"]);
}

#[test]
fn a_recording_comes_through_stdin() {
    let environment = TestEnvironment::new();
    let mut child = environment
        .command()
        .args(["report", "-", "-o", "name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&perfetto(70)).unwrap();
    let ran = environment.ran(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), "input_bound\n"));
}

#[test]
fn a_cut_recording_is_read_up_to_its_end() {
    let environment = TestEnvironment::new();
    let whole = perfetto(70);
    environment.write("cut.pftrace", &whole[..whole.len() * 3 / 4]);
    let ran = environment.run(["report", "cut.pftrace"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(ran.stdout.starts_with("input bound"), "{ran}");
    assert!(ran.stderr.starts_with("warning: "), "{ran}");
}

#[test]
fn without_steps_the_report_is_inconclusive() {
    let environment = TestEnvironment::new();
    let mut bytes = Vec::new();
    PerfettoWriter::new(&mut bytes, ClockSnapshot::default()).unwrap().finish().unwrap();
    environment.write("nothing.pftrace", &bytes);
    let ran = environment.run(["report", "nothing.pftrace"]);
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(ran.stdout.starts_with("inconclusive: "), "{ran}");
}

#[test]
fn what_changed_is_told() {
    let environment = TestEnvironment::new();
    environment.write("before.pftrace", perfetto(70));
    environment.write("after.pftrace", perfetto(10));
    let ran = environment.run(["report", "--diff", "before.pftrace", "after.pftrace"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran}");
    assert!(ran.stdout.contains("\nPER STEP"), "{ran}");
    let input = ran.stdout.lines().find(|line| line.starts_with("input ")).unwrap();
    assert_eq!(input.split_whitespace().collect::<Vec<_>>(), ["input", "70.0ms", "10.0ms", "-60.0ms"]);
    let comparison =
        json(&environment.run(["report", "--diff", "before.pftrace", "after.pftrace", "-o", "json"]).stdout);
    assert_eq!(comparison["verdict"]["before"], "input_bound");
}
