//! Reads JSON traces as a stream of events.

use std::borrow::Cow;
use std::io::Read;

use serde_json::value::RawValue;

use super::event::{JsonEvent, Members, Scalar, micros, scalar};
use super::kineto::{self, Lane};
use super::places::Places;
use super::scan::{Scanner, Stop};
use crate::trace::ClockSnapshot;
use crate::trace::build::Builder;
use crate::trace::model::{Arg, Flags, Layer, StrId, Trace};
use crate::trace::read::ReadError;

/// A longer list or object among the arguments is left out.
const MAX_NESTED_TEXT: usize = 512;

struct Reader {
    builder: Builder,
    places: Places,
    /// Added to every time: Kineto's `baseTimeNanoseconds`.
    base_ns: i128,
    /// Events read before the base was known have to be moved.
    late_base: bool,
    rank: Option<u32>,
    args: Vec<(StrId, Arg)>,
    seen_list: bool,
    events: u64,
    unreadable: u64,
    impossible: u64,
}

/// Reads a whole recording.
pub(in crate::trace) fn read(input: &mut dyn Read) -> Result<Trace, ReadError> {
    let mut reader = Reader {
        builder: Builder::new(),
        places: Places::default(),
        base_ns: 0,
        late_base: false,
        rank: None,
        args: Vec::new(),
        seen_list: false,
        events: 0,
        unreadable: 0,
        impossible: 0,
    };
    let mut scan = Scanner::new(input);
    let stopped = reader.top(&mut scan);
    let offset = scan.offset();
    if reader.events == 0 && (!reader.seen_list || reader.unreadable > 0 || stopped.is_err()) {
        return Err(match stopped {
            Err(Stop::Io(source)) => ReadError::Io { offset, source },
            _ => ReadError::NotATrace { offset },
        });
    }
    match stopped {
        Ok(()) => {}
        Err(Stop::Io(source)) => {
            reader.builder.warn(format!("the recording could be read up to byte {offset} only: {source}"));
        }
        Err(Stop::Cut) => reader.builder.warn(format!("the recording is cut at byte {offset}")),
        Err(Stop::TooLarge | Stop::Damaged) => reader
            .builder
            .warn(format!("the recording is damaged at byte {offset}: everything from there on was left out")),
    }
    Ok(reader.finish())
}

impl Reader {
    fn finish(mut self) -> Trace {
        if self.unreadable > 0 {
            self.builder.warn(format!("{} events can't be read and were left out", self.unreadable));
        }
        if self.impossible > 0 {
            self.builder.warn(format!("{} events have an impossible time or duration", self.impossible));
        }
        self.places.resolve(self.rank, &mut self.builder);
        let mut trace = self.builder.finish();
        if let Some(base) = u64::try_from(self.base_ns).ok().filter(|base| *base > 0) {
            // Its times are ns since 1970.
            trace.clock = Some(ClockSnapshot { monotonic_ns: base, boottime_ns: base, realtime_ns: base });
        }
        if self.late_base {
            let base = u64::try_from(self.base_ns).unwrap_or(0);
            for track in &mut trace.tracks {
                track.slices.iter_mut().for_each(|s| s.start_ns = s.start_ns.saturating_add(base));
                track.instants.iter_mut().for_each(|i| i.ts_ns = i.ts_ns.saturating_add(base));
                track.counters.iter_mut().for_each(|c| c.ts_ns = c.ts_ns.saturating_add(base));
            }
        }
        trace
    }

    fn top(&mut self, scan: &mut Scanner<'_>) -> Result<(), Stop> {
        match scan.peek(b"\xef\xbb\xbf")? {
            b'[' => self.events(scan),
            b'{' => {
                scan.step();
                loop {
                    if scan.peek(b",")? == b'}' {
                        return Ok(());
                    }
                    let key = String::from_utf8_lossy(scan.value()?).into_owned();
                    let key = key.trim_matches('"');
                    if scan.peek(b":")? == b'[' && key == "traceEvents" {
                        self.events(scan)?;
                    } else {
                        let value = scan.value()?;
                        self.top_member(key, &String::from_utf8_lossy(value));
                    }
                }
            }
            _ => Err(Stop::Damaged),
        }
    }

    fn top_member(&mut self, key: &str, value: &str) {
        match key {
            "baseTimeNanoseconds" => {
                if let Ok(base) = value.trim_matches('"').parse::<u64>() {
                    self.base_ns = i128::from(base);
                    self.late_base = self.events > 0;
                }
            }
            "distributedInfo" => self.rank = kineto::rank(value),
            _ => {}
        }
    }

    fn events(&mut self, scan: &mut Scanner<'_>) -> Result<(), Stop> {
        self.seen_list = true;
        scan.step();
        loop {
            if scan.peek(b",")? == b']' {
                scan.step();
                return Ok(());
            }
            let text = scan.value()?;
            if let Ok(event) = serde_json::from_slice::<JsonEvent<'_>>(text) {
                self.event(&event);
                self.events += 1;
                continue;
            }
            // Texts that are no UTF-8, most likely.
            let text = String::from_utf8_lossy(text);
            match serde_json::from_str::<JsonEvent<'_>>(&text) {
                Ok(event) => {
                    self.event(&event);
                    self.events += 1;
                }
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn time(&mut self, raw: Option<&RawValue>) -> Option<u64> {
        let ns = micros(raw)?.saturating_add(if self.late_base { 0 } else { self.base_ns });
        match u64::try_from(ns) {
            Ok(ns) => Some(ns),
            Err(_) => {
                self.impossible += 1;
                Some(if ns < 0 { 0 } else { u64::MAX })
            }
        }
    }

    fn event(&mut self, event: &JsonEvent<'_>) {
        let args = event.args.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let ph = event.ph.text();
        if ph == "M" {
            self.places.metadata(event.name.text(), &event.pid, &event.tid, &args, &mut self.builder);
            return;
        }
        if !matches!(ph, "X" | "B" | "E" | "i" | "I" | "R" | "C" | "b" | "e" | "n") {
            return;
        }
        let Some(ts_ns) = self.time(event.ts) else {
            self.unreadable += 1;
            return;
        };
        match ph {
            "C" => self.counter(event, &args, ts_ns),
            "b" | "e" | "n" => {
                let track = self.places.flying(&event.pid, event.cat.text(), &event.id, &mut self.builder);
                let name = self.builder.text(event.name.text());
                self.fill_args(&args);
                let (run, flags) = (self.builder.args(&self.args), self.builder.flags(&self.args));
                match ph {
                    "b" => self.builder.begin(track, ts_ns, name, run, flags),
                    "e" => self.builder.end(track, ts_ns, run),
                    _ => self.builder.instant(track, ts_ns, name, run),
                }
            }
            _ => self.synchronous(ph, event, &args, ts_ns),
        }
    }

    fn synchronous(&mut self, ph: &str, event: &JsonEvent<'_>, args: &Members<'_>, ts_ns: u64) {
        let (cat, name) = (event.cat.text(), event.name.text());
        let pid = event.pid.text();
        let lane = match (cat, pid) {
            // Torch before Kineto: no categories.
            ("", "CPU functions") => kineto::lane("cpu_op", name),
            ("", "CUDA functions") => kineto::lane("kernel", name),
            ("", "Traces") => Lane::Skip,
            ("", "") if matches!(event.pid, Scalar::Text(_)) => Lane::Skip,
            _ => kineto::lane(cat, name),
        };
        let closing = match ph {
            "E" => self.places.closing(&event.pid, &event.tid, &mut self.builder),
            _ => None,
        };
        let track = closing.or_else(|| self.places.track(&event.pid, &event.tid, lane, &mut self.builder));
        let Some(track) = track else { return };
        self.fill_args(args);
        let mut name = name;
        if lane == Lane::Host(Layer::Python)
            && let Some((file, line, function)) = kineto::python_frame(name)
        {
            name = function;
            self.push("file", Arg::Str(StrId(0)), Some(file));
            self.push("line", Arg::U64(line), None);
        }
        if let Some(kind) = kineto::copy_kind(name) {
            self.push("kind", Arg::Str(StrId(0)), Some(kind));
        }
        if matches!(lane, Lane::Host(Layer::Nccl) | Lane::Device(Layer::Nccl)) {
            let count = args.get("In msg nelems").u64();
            if let (Some(count), Some(size)) = (count, kineto::dtype_bytes(args.get("dtype").text())) {
                self.push("bytes", Arg::U64(count.saturating_mul(size)), None);
            }
        }
        if name == "capture"
            && let Scalar::Text(json) = args.get("json")
            && cat == Layer::Meta.name()
        {
            self.builder.meta_json(&json);
            return;
        }
        let name = self.builder.text(name);
        let (run, flags) = (self.builder.args(&self.args), self.builder.flags(&self.args));
        match ph {
            "X" => {
                let (dur_ns, flags) = match micros(event.dur).unwrap_or(0) {
                    dur if dur < 0 => {
                        self.impossible += 1;
                        (0, flags.with(Flags::CLAMPED))
                    }
                    dur => (u64::try_from(dur).unwrap_or(u64::MAX), flags),
                };
                self.builder.slice(track, ts_ns, dur_ns, name, run, flags);
            }
            "B" => {
                self.places.opened(&event.pid, &event.tid, track, &mut self.builder);
                self.builder.begin(track, ts_ns, name, run, flags);
            }
            "E" => self.builder.end(track, ts_ns, run),
            _ => self.builder.instant(track, ts_ns, name, run),
        }
    }

    fn counter(&mut self, event: &JsonEvent<'_>, args: &Members<'_>, ts_ns: u64) {
        let layer = Layer::from_name(event.cat.text());
        for (series, raw) in &args.0 {
            let value = match scalar(raw) {
                Scalar::U64(n) => n as f64,
                Scalar::I64(n) => n as f64,
                Scalar::F64(n) => n,
                Scalar::Text(text) => match text.parse() {
                    Ok(n) => n,
                    Err(_) => continue,
                },
                _ => continue,
            };
            let name = event.name.text();
            let name = if series == "value" || args.0.len() == 1 {
                Cow::Borrowed(name)
            } else {
                Cow::Owned(format!("{name} {series}"))
            };
            let track = self.places.counter((&event.pid, &event.tid), &name, layer, &mut self.builder);
            self.builder.counter(track, ts_ns, value);
        }
    }

    fn push(&mut self, key: &str, value: Arg, text: Option<&str>) {
        let key = self.builder.text(key);
        if self.args.iter().any(|(known, _)| *known == key) {
            return;
        }
        let value = text.map_or(value, |text| Arg::Str(self.builder.text(text)));
        self.args.push((key, value));
    }

    fn fill_args(&mut self, args: &Members<'_>) {
        self.args.clear();
        for (key, raw) in &args.0 {
            let Some(key) = kineto::key(key) else { continue };
            let key = self.builder.text(key);
            let value = match scalar(raw) {
                Scalar::Missing => continue,
                Scalar::Bool(value) => Arg::U64(u64::from(value)),
                Scalar::U64(n) => Arg::U64(n),
                Scalar::I64(n) => Arg::I64(n),
                Scalar::F64(n) => Arg::F64(n),
                Scalar::Text(text) => Arg::Str(self.builder.text(&text)),
                Scalar::Nested if raw.get().len() <= MAX_NESTED_TEXT => Arg::Str(self.builder.text(raw.get())),
                Scalar::Nested => continue,
            };
            self.args.push((key, value));
        }
    }
}
