//! Recordings that others wrote.

use super::perfetto::wire::{self, event_type, field};
use super::*;

fn open(bytes: &[u8]) -> Trace {
    read(&mut { bytes }).unwrap()
}

fn names(track: &Track, trace: &Trace) -> Vec<(String, u64, u64)> {
    track.slices.iter().map(|s| (trace.text(s.name).to_owned(), s.start_ns, s.dur_ns)).collect()
}

fn layer(trace: &Trace, layer: Layer) -> &Track {
    trace.tracks.iter().find(|t| t.layer == layer).unwrap()
}

#[test]
fn torch_2_15_with_stacks() {
    let trace = open(include_bytes!("../../tests/fixtures/kineto-2.15-cpu.json.gz"));
    assert!(trace.warnings.iter().all(|w| w.contains("crossed")), "{:?}", trace.warnings);
    assert_eq!((trace.processes.len(), trace.processes[0].name.as_str()), (1, "python"));
    let torch = layer(&trace, Layer::Torch);
    let addmm = torch.slices.iter().find(|s| trace.text(s.name) == "aten::addmm").unwrap();
    assert!(addmm.depth > 0 && addmm.dur_ns > 0);
    // Times are absolute: base plus microseconds.
    assert!(addmm.start_ns > 1_790_000_000_000_000_000);
    let scope = torch.slices.iter().find(|s| trace.text(s.name) == "user_scope").unwrap();
    assert_eq!(scope.depth, 0);
    let python = layer(&trace, Layer::Python);
    let forward = python.slices.iter().find(|s| trace.text(s.name) == "forward").unwrap();
    assert!(trace.arg_str(forward.args, "file").unwrap().ends_with("linear.py"));
    assert!(trace.arg_u64(forward.args, "line").unwrap() > 1);
    assert!(trace.arg(forward.args, "Ev Idx").is_none());
}

#[test]
fn torch_1_13_without_kineto() {
    let trace = open(include_bytes!("../../tests/fixtures/torch-1.13-cpu.json.gz"));
    assert_eq!(trace.processes[0].name, "CPU functions");
    let torch = layer(&trace, Layer::Torch);
    assert!(torch.slices.iter().any(|s| trace.text(s.name) == "Optimizer.step#SGD.step"));
    assert_eq!(trace.tracks.len(), 1);
}

#[test]
fn kineto_of_a_gpu_job() {
    // In the shape of a two-rank job's file; times shortened.
    let text = br#"{
      "schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "NVIDIA H100"}],
      "distributedInfo": {"backend": "nccl", "rank": 1, "world_size": 2},
      "baseTimeNanoseconds": 1000000,
      "traceEvents": [
      {"ph":"M","name":"process_name","ts":0,"pid":77,"tid":0,"args":{"name":"python"}},
      {"ph":"M","name":"process_labels","ts":0,"pid":0,"tid":0,"args":{"labels":"GPU 0"}},
      {"ph":"M","name":"process_name","ts":0,"pid":0,"tid":0,"args":{"name":"python"}},
      {"ph":"M","name":"thread_name","ts":0,"pid":77,"tid":77,"args":{"name":"thread 77 (python)"}},
      {"ph":"X","cat":"user_annotation","name":"ProfilerStep#3","pid":77,"tid":77,"ts":0.5,"dur":900},
      {"ph":"X","cat":"cuda_runtime","name":"cudaLaunchKernel","pid":77,"tid":77,"ts":10,"dur":5.25,"args":{"correlation":9,"cbid":211}},
      {"ph":"s","id":9,"pid":77,"tid":77,"ts":10,"cat":"ac2g","name":"ac2g"},
      {"ph":"f","id":9,"pid":0,"tid":7,"ts":20,"cat":"ac2g","name":"ac2g","bp":"e"},
      {"ph":"X","cat":"kernel","name":"sgemm","pid":0,"tid":7,"ts":20,"dur":100.003,"args":{"stream":7,"correlation":9,"grid":[1,2,3]}},
      {"ph":"X","cat":"kernel","name":"sgemm2","pid":0,"tid":7,"ts":120,"dur":100,"args":{"stream":7}},
      {"ph":"X","cat":"gpu_memcpy","name":"Memcpy HtoD (Pageable -> Device)","pid":0,"tid":7,"ts":300,"dur":10,"args":{"bytes":4096}},
      {"ph":"X","cat":"gpu_user_annotation","name":"ProfilerStep#3","pid":0,"tid":7,"ts":20,"dur":300},
      {"ph":"X","cat":"kernel","name":"ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)","pid":0,"tid":20,"ts":400,"dur":50,
       "args":{"stream":20,"Collective name":"allreduce","In msg nelems":1024,"Out msg nelems":1024,"Group size":2,"dtype":"BFloat16","Process Group Name":"0"}},
      {"ph":"X","cat":"cpu_op","name":"bad","pid":77,"tid":77,"ts":-5000,"dur":-3},
      {"ph":"X","cat":"cpu_op","name":"no time","pid":77,"tid":77},
      {"ph":"i","s":"g","name":"Record Window End","pid":"","tid":"","ts":999}
      ], "traceName": "x.json" }"#;
    let trace = open(text);
    assert_eq!((trace.processes.len(), trace.processes[0].rank), (1, Some(1)));
    assert_eq!(trace.threads[0].name, "thread 77 (python)");
    let step = layer(&trace, Layer::Step);
    assert_eq!(names(step, &trace), [("ProfilerStep#3".to_owned(), 1_000_500, 900_000)]);
    let gpu = layer(&trace, Layer::Gpu);
    assert_eq!(gpu.parent, Parent::Process(ProcessId(0)));
    assert_eq!(trace.text(gpu.name), "GPU 0 stream 7");
    // Three ns of overlap cost three ns and no kernel.
    assert_eq!(names(gpu, &trace)[0], ("sgemm".to_owned(), 1_020_000, 100_000));
    assert_eq!(names(gpu, &trace)[1], ("sgemm2".to_owned(), 1_120_000, 100_000));
    assert_eq!(trace.arg_str(gpu.slices[0].args, "grid"), Some("[1,2,3]"));
    assert_eq!(trace.arg_u64(gpu.slices[0].args, "correlation"), Some(9));
    assert_eq!(trace.arg_str(gpu.slices[2].args, "kind"), Some("h2d"));
    let nccl = layer(&trace, Layer::Nccl).slices[0];
    assert_eq!(trace.arg_u64(nccl.args, "bytes"), Some(2048));
    assert_eq!(trace.arg_u64(nccl.args, "ranks"), Some(2));
    assert_eq!(trace.arg_str(nccl.args, "collective"), Some("allreduce"));
    assert_eq!(layer(&trace, Layer::Cuda).slices[0].dur_ns, 5250);
    assert_eq!(layer(&trace, Layer::Torch).slices[0].start_ns, 0);
    let told = trace.warnings.join("\n");
    assert!(
        told.contains("crossed") && told.contains("impossible") && told.contains("1 events can't be read"),
        "{told}"
    );
}

#[test]
fn chrome_begin_and_end_without_categories() {
    let trace = open(
        br#"[{"ph":"B","name":"a","cat":"torch","pid":1,"tid":2,"ts":1},
            {"ph":"B","name":"b","cat":"torch","pid":1,"tid":2,"ts":2},
            {"ph":"E","pid":1,"tid":2,"ts":3},{"ph":"E","pid":1,"tid":2,"ts":4},{"ph":"E","pid":1,"tid":2,"ts":5},
            {"ph":"C","name":"mem","pid":1,"ts":3,"args":{"used":5,"free":7}},
            {"ph":"b","cat":"net","id":"0x1","name":"fetch","pid":1,"ts":1},
            {"ph":"e","cat":"net","id":"0x1","name":"fetch","pid":1,"ts":9"#,
    );
    let torch = layer(&trace, Layer::Torch);
    assert_eq!(names(torch, &trace), [("a".to_owned(), 1000, 3000), ("b".to_owned(), 2000, 1000)]);
    let counters: Vec<_> = trace.tracks.iter().filter(|t| !t.counters.is_empty()).map(|t| trace.text(t.name)).collect();
    assert_eq!(counters, ["mem used", "mem free"]);
    let told = trace.warnings.join("\n");
    assert!(told.contains("the recording is cut") && told.contains("end without a begin"), "{told}");
}

/// A packet as other programs write them.
fn packet(body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::message(&mut bytes, field::TRACE_PACKET, body);
    bytes
}

fn inline_event(ts: u64, clock: Option<u64>, kind: u64, name: &str) -> Vec<u8> {
    packet(|b| {
        wire::uint(b, field::PACKET_TIMESTAMP, ts);
        wire::uint(b, field::PACKET_SEQUENCE, 9);
        if let Some(clock) = clock {
            wire::uint(b, field::PACKET_CLOCK, clock);
        }
        wire::message(b, field::PACKET_TRACK_EVENT, |b| {
            wire::uint(b, field::EVENT_TYPE, kind);
            if !name.is_empty() {
                wire::bytes(b, field::EVENT_NAME, name.as_bytes());
            }
        });
    })
}

fn foreign_start() -> Vec<u8> {
    let clock = |b: &mut Vec<u8>, id: u64, time: u64, incremental: bool| {
        wire::message(b, field::SNAPSHOT_CLOCK, |b| {
            wire::uint(b, field::CLOCK_ID, id);
            wire::uint(b, field::CLOCK_TIMESTAMP, time);
            if incremental {
                wire::uint(b, field::CLOCK_INCREMENTAL, 1);
                wire::uint(b, field::CLOCK_MULTIPLIER, 1000);
            }
        });
    };
    let mut bytes = packet(|b| {
        wire::uint(b, field::PACKET_SEQUENCE, 9);
        wire::message(b, field::PACKET_CLOCK_SNAPSHOT, |b| {
            clock(b, 6, 10_000_000, false);
            clock(b, 3, 4_000_000, false);
            clock(b, 64, 10, true);
        });
    });
    bytes.extend(packet(|b| {
        wire::uint(b, field::PACKET_SEQUENCE, 9);
        wire::uint(b, field::PACKET_SEQUENCE_FLAGS, wire::STATE_CLEARED);
        wire::message(b, field::PACKET_DEFAULTS, |b| {
            wire::uint(b, field::PACKET_CLOCK, 64);
            wire::message(b, field::DEFAULTS_EVENT, |b| wire::uint(b, field::EVENT_TRACK, 77));
        });
    }));
    bytes.extend(packet(|b| {
        wire::message(b, field::PACKET_DESCRIPTOR, |b| {
            wire::uint(b, field::TRACK_UUID, 77);
            wire::message(b, field::TRACK_THREAD, |b| {
                wire::uint(b, field::THREAD_PID, 5);
                wire::uint(b, field::THREAD_TID, 6);
                wire::bytes(b, field::THREAD_NAME, b"work\xffer");
            });
        });
    }));
    bytes
}

#[test]
fn perfetto_with_defaults_and_incremental_clocks() {
    let mut bytes = foreign_start();
    bytes.extend(inline_event(5, None, event_type::BEGIN, "outer"));
    bytes.extend(inline_event(2, None, event_type::BEGIN, "inner"));
    bytes.extend(inline_event(3, None, event_type::END, ""));
    bytes.extend(inline_event(1, None, event_type::END, ""));
    // The same track on the boot clock.
    bytes.extend(inline_event(11_000_000, Some(6), event_type::BEGIN, "late"));
    let trace = open(&bytes);
    let expected = [
        ("outer".to_owned(), 4_005_000, 6_000),
        ("inner".to_owned(), 4_007_000, 3_000),
        ("late".to_owned(), 5_000_000, 0),
    ];
    assert_eq!(names(&trace.tracks[0], &trace), expected);
    assert_eq!(trace.threads[0].name, "work\u{fffd}er");
    assert_eq!(trace.processes[0].pid, 5);
}

#[test]
fn perfetto_out_of_order_is_paired_by_time() {
    let mut bytes = foreign_start();
    for (ts, kind, name) in [
        (30, event_type::BEGIN, "second"),
        (10, event_type::BEGIN, "first"),
        (40, event_type::END, ""),
        (20, event_type::END, ""),
    ] {
        bytes.extend(inline_event(ts, Some(3), kind, name));
    }
    let trace = open(&bytes);
    assert_eq!(names(&trace.tracks[0], &trace), [("first".to_owned(), 10, 10), ("second".to_owned(), 30, 10)]);
}

#[test]
fn perfetto_packed_packets() {
    use std::io::Write;
    let mut inner = inline_event(10, Some(3), event_type::BEGIN, "x");
    inner.extend(inline_event(20, Some(3), event_type::END, ""));
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&inner).unwrap();
    let packed = packed.finish().unwrap();
    let mut bytes = foreign_start();
    bytes.extend(packet(|b| wire::bytes(b, field::PACKET_COMPRESSED, &packed)));
    let trace = open(&bytes);
    assert_eq!(names(&trace.tracks[0], &trace), [("x".to_owned(), 10, 10)]);
}

#[test]
fn perfetto_descriptors_in_a_circle() {
    let mut bytes = foreign_start();
    for (uuid, parent) in [(1, 2), (2, 1)] {
        bytes.extend(packet(|b| {
            wire::message(b, field::PACKET_DESCRIPTOR, |b| {
                wire::uint(b, field::TRACK_UUID, uuid);
                wire::uint(b, field::TRACK_PARENT, parent);
            });
        }));
    }
    bytes.extend(packet(|b| {
        wire::uint(b, field::PACKET_TIMESTAMP, u64::MAX);
        wire::message(b, field::PACKET_TRACK_EVENT, |b| {
            wire::uint(b, field::EVENT_TYPE, event_type::BEGIN);
            wire::uint(b, field::EVENT_TRACK, 1);
            wire::uint(b, field::EVENT_NAME_IID, 5);
        });
    }));
    let trace = open(&bytes);
    assert_eq!(trace.tracks[0].parent, Parent::Global);
    assert!(trace.warnings.iter().any(|w| w.contains("names refer to packets that are missing")));
}
