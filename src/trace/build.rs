//! Collects events as a reader or sink meets them and turns them into a [`Trace`].

use super::args::SharedArgs;
use super::meta::CaptureMeta;
use super::model::{Arg, ArgsId, CounterSample, Flags, Instant, Layer, Parent, Slice, StrId, Trace, Track, TrackId};
use super::nest::{Mended, RawEvent, RawKind, nest, pair};

/// A [`Trace`] in the making.
pub(super) struct Builder {
    /// What there is so far. Its slices are neither sorted nor nested before [`Builder::finish`].
    pub trace: Trace,
    raw: Vec<Vec<RawEvent>>,
    shared: SharedArgs,
    meta: Option<Result<CaptureMeta, String>>,
    last_ns: u64,
    estimate: StrId,
}

impl Builder {
    pub fn new() -> Self {
        let mut trace = Trace::default();
        let estimate = trace.strings.intern("estimate");
        Builder { trace, raw: Vec::new(), shared: SharedArgs::default(), meta: None, last_ns: 0, estimate }
    }

    /// Stores a text.
    pub fn text(&mut self, text: &str) -> StrId {
        self.trace.strings.intern(text)
    }

    /// Stores a run of arguments; runs that were stored lately are shared.
    pub fn args(&mut self, args: &[(StrId, Arg)]) -> ArgsId {
        self.shared.store(&mut self.trace.args, args)
    }

    /// Whether the arguments mark an estimate.
    pub fn flags(&self, args: &[(StrId, Arg)]) -> Flags {
        let marked =
            args.iter().any(|(key, value)| *key == self.estimate && !matches!(value, Arg::U64(0) | Arg::I64(0)));
        if marked { Flags::ESTIMATE } else { Flags::default() }
    }

    /// Makes a track.
    pub fn track(&mut self, parent: Parent, name: StrId, layer: Layer) -> TrackId {
        let id = TrackId(u32::try_from(self.trace.tracks.len()).unwrap_or(u32::MAX));
        self.trace.tracks.push(Track {
            parent,
            name,
            layer,
            slices: Vec::new(),
            instants: Vec::new(),
            counters: Vec::new(),
        });
        self.raw.push(Vec::new());
        id
    }

    /// A track made by [`Builder::track`].
    pub fn track_mut(&mut self, track: TrackId) -> Option<&mut Track> {
        self.trace.tracks.get_mut(track.0 as usize)
    }

    /// Adds a finished slice.
    pub fn slice(&mut self, track: TrackId, start_ns: u64, dur_ns: u64, name: StrId, args: ArgsId, flags: Flags) {
        let slice = Slice { start_ns, dur_ns, name, args, depth: 0, flags };
        // Where a begin of the same nanosecond may be its parent, only their order tells.
        if self.last_raw_ns(track) == Some(start_ns) {
            self.begin(track, start_ns, name, args, flags);
            self.end(track, slice.end_ns(), ArgsId(0));
            return;
        }
        self.last_ns = self.last_ns.max(slice.end_ns());
        if let Some(track) = self.trace.tracks.get_mut(track.0 as usize) {
            track.slices.push(slice);
        }
    }

    /// Time of the begin or end met last on a track, if it had any.
    pub fn last_raw_ns(&self, track: TrackId) -> Option<u64> {
        self.raw.get(track.0 as usize)?.last().map(|last| last.ts_ns)
    }

    /// Opens a slice.
    pub fn begin(&mut self, track: TrackId, ts_ns: u64, name: StrId, args: ArgsId, flags: Flags) {
        self.raw(track, RawEvent { ts_ns, name, args, flags, kind: RawKind::Begin });
    }

    /// Closes the slice opened last; its arguments are added to the slice's.
    pub fn end(&mut self, track: TrackId, ts_ns: u64, args: ArgsId) {
        let event = RawEvent { ts_ns, name: StrId(0), args, flags: Flags::default(), kind: RawKind::End };
        self.raw(track, event);
    }

    fn raw(&mut self, track: TrackId, event: RawEvent) {
        self.last_ns = self.last_ns.max(event.ts_ns);
        if let Some(raw) = self.raw.get_mut(track.0 as usize) {
            raw.push(event);
        }
    }

    /// Adds a point in time.
    pub fn instant(&mut self, track: TrackId, ts_ns: u64, name: StrId, args: ArgsId) {
        if let Some(track) = self.trace.tracks.get_mut(track.0 as usize) {
            if track.layer != Layer::Meta {
                self.last_ns = self.last_ns.max(ts_ns);
            }
            track.instants.push(Instant { ts_ns, name, args });
        }
    }

    /// Adds a counter's value.
    pub fn counter(&mut self, track: TrackId, ts_ns: u64, value: f64) {
        if let Some(track) = self.trace.tracks.get_mut(track.0 as usize) {
            track.counters.push(CounterSample { ts_ns, value });
        }
    }

    /// Takes the recording's own notes as JSON; the last one counts.
    pub fn meta_json(&mut self, json: &str) {
        let parsed = serde_json::from_str(json).map_err(|error| error.to_string());
        // A broken note does not push out a whole one.
        if parsed.is_ok() || self.meta.is_none() {
            self.meta = Some(parsed);
        }
    }

    /// Takes the recording's own notes.
    pub fn meta(&mut self, meta: &CaptureMeta) {
        self.meta = Some(Ok(meta.clone()));
    }

    /// Tells people what was mended or left out.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.trace.warnings.push(text.into());
    }

    /// Pairs, sorts and nests everything.
    pub fn finish(mut self) -> Trace {
        let mut mended = Mended::default();
        for (index, raw) in std::mem::take(&mut self.raw).into_iter().enumerate() {
            if !raw.is_empty() {
                pair(&mut self.trace, index, raw, self.last_ns, &mut mended);
            }
        }
        for track in &mut self.trace.tracks {
            mended.crossed += nest(&mut track.slices);
            track.slices.shrink_to_fit();
            track.instants.sort_by_key(|i| i.ts_ns);
            track.instants.shrink_to_fit();
            track.counters.sort_by_key(|c| c.ts_ns);
            track.counters.shrink_to_fit();
        }
        self.trace.args.shrink_to_fit();
        self.trace.warnings.extend(mended.words());
        match self.meta.take() {
            Some(Ok(meta)) => self.trace.meta = Some(meta),
            Some(Err(why)) => self.trace.warnings.push(format!("the recording's own notes can't be read: {why}")),
            None => {}
        }
        self.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_arguments_are_stored_once() {
        let mut builder = Builder::new();
        let key = builder.text("file");
        let path = builder.text("train.py");
        let first = builder.args(&[(key, Arg::Str(path))]);
        let other = builder.args(&[(key, Arg::U64(u64::from(path.0)))]);
        assert_eq!(builder.args(&[(key, Arg::Str(path))]).0.min(first.0), first.0);
        assert_ne!(first, other);
        let trace = builder.finish();
        assert_eq!(trace.arg_str(first, "file"), Some("train.py"));
        assert!(trace.args.len() <= 7);
    }

    #[test]
    fn the_last_readable_meta_counts() {
        let mut builder = Builder::new();
        builder.meta_json(r#"{"aictl_version":"1"}"#);
        builder.meta_json(r#"{"aictl_version":"2"}"#);
        builder.meta_json(r#"{"aictl_ver"#);
        assert_eq!(builder.finish().meta.unwrap().aictl_version, "2");
    }
}
