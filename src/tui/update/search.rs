//! The search over names and arguments: done in portions, hits in time.

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

use crate::trace::{Arg, ArgsId, Layer, StrId, Trace, TrackId};
use crate::tui::scene::SliceRef;
use crate::tui::state::{SEARCH_LIMIT, Scan, Search, State};
use crate::view::human::count;

/// What a frame may spend on the search: one for each slice, more for each expression tried.
/// A million takes some ten milliseconds.
pub(super) const PORTION: usize = 300_000;

/// A compiled expression takes no more memory than this, in bytes.
const EXPRESSION_BYTES: usize = 4 << 20;

/// Where a hit stands in time; of those that start together, the one that comes first.
type Place = (u64, TrackId, u32);

impl State {
    /// Starts a search; the first hit from the cursor on is gone to.
    pub(super) fn search_for(&mut self, pattern: &str) -> Result<(), String> {
        let regex = expression(pattern)?;
        self.begin_search(pattern.to_owned(), regex, true);
        Ok(())
    }

    /// Goes to the next or the previous slice of the selected one's name.
    pub(super) fn same_name(&mut self, later: bool) {
        let Some(at) = self.selected else {
            return self.say("select a slice first: * and # go to others of its name");
        };
        let pattern = format!("^{}$", regex::escape(self.scene.name(at)));
        if self.search.as_ref().is_some_and(|search| search.pattern == pattern) {
            return self.hit_by(later);
        }
        match expression(&pattern) {
            Ok(regex) => self.begin_search(pattern, regex, later),
            Err(why) => self.complain(why),
        }
    }

    /// Forgets the search.
    pub(super) fn drop_search(&mut self) {
        self.search = None;
    }

    /// Goes on with the search for a frame's time; true once it is whole.
    pub(super) fn advance_search(&mut self, portion: usize) -> bool {
        let Some(mut search) = self.search.take_if(|search| !search.scan.whole) else { return true };
        let mut left = portion;
        while left > 0 && !search.scan.whole {
            self.scan_track(&mut search, &mut left);
        }
        let whole = search.scan.whole;
        let jump = if whole { search.scan.jump.take() } else { None };
        self.search = Some(search);
        if let Some(later) = jump {
            self.first_hit(later);
        }
        whole
    }

    /// Goes to the next or the previous hit from the selected one, or from the cursor.
    pub(super) fn hit_by(&mut self, later: bool) {
        let Some(search) = &mut self.search else { return self.say("no search yet: / starts one") };
        search.scan.jump = None;
        let hit = self.selected.filter(|at| search.holds(*at));
        let here = hit.and_then(|hit| self.place(hit)).unwrap_or(if later {
            (self.cursor_ns, TrackId(u32::MAX), u32::MAX)
        } else {
            (self.cursor_ns, TrackId(0), 0)
        });
        self.hit_beside(here, later);
    }

    /// How the search stands, in words.
    pub fn search_status(&self) -> Option<String> {
        let search = self.search.as_ref()?;
        let more = if search.more { "the first " } else { "" };
        let hits = match search.hits.len() {
            1 => "1 hit".to_owned(),
            many => format!("{more}{} hits", count(many as u64)),
        };
        if search.scan.whole {
            return Some(format!("{hits} for {}", search.pattern));
        }
        let looked: u64 = search.scan.looked.iter().map(|looked| u64::from(*looked)).sum();
        let part = looked * 100 / (self.scene.trace.slice_count() as u64).max(1);
        Some(format!("searching, {part} %: {hits} for {}", search.pattern))
    }

    fn begin_search(&mut self, pattern: String, regex: Regex, later: bool) {
        let scan = Scan::new(regex, self.scene.trace.strings.len(), Some(later));
        self.search = Some(Search::new(pattern, scan));
        self.advance_search(PORTION);
    }

    /// Looks through the next track, or a part of it.
    fn scan_track(&self, search: &mut Search, left: &mut usize) {
        let trace = &*self.scene.trace;
        let scan = &mut search.scan;
        let Some(track) = trace.tracks.get(scan.track) else {
            scan.whole = true;
            return;
        };
        let id = TrackId(scan.track as u32);
        *left = left.saturating_sub(1);
        if scan.looked.len() < trace.tracks.len() {
            scan.looked.resize(trace.tracks.len(), 0);
        }
        let mut at = scan.looked[scan.track] as usize;
        let mut found = Vec::new();
        let room = SEARCH_LIMIT - search.hits.len().min(SEARCH_LIMIT);
        if track.layer == Layer::Meta || (at < track.slices.len() && !self.shows(id)) {
            at = track.slices.len();
        }
        while let Some(slice) = track.slices.get(at).filter(|_| *left > 0) {
            let hit = slice.dur_ns >= self.filter.min_ns
                && (scan.name(trace, slice.name, left) || scan.arguments(trace, slice.args, left));
            if hit && found.len() == room {
                search.more = true;
                scan.whole = true;
                break;
            }
            if hit {
                found.push(SliceRef { track: id, index: at as u32 });
            }
            at += 1;
            *left = left.saturating_sub(1);
        }
        scan.looked[scan.track] = u32::try_from(at).unwrap_or(u32::MAX);
        if at >= track.slices.len() {
            scan.track += 1;
        }
        if !found.is_empty() {
            search.add(id, found);
        }
    }

    fn first_hit(&mut self, later: bool) {
        let cursor = self.cursor_ns;
        if self.search.as_ref().is_some_and(|search| search.hits.is_empty()) {
            let pattern = self.search.take().map(|search| search.pattern).unwrap_or_default();
            let hint = if self.filter.is_on() { "; the filter hides some slices (:filter off)" } else { "" };
            return self.complain(format!("nothing matches {pattern}{hint}"));
        }
        // The slice that is looked at is none of the others of its name.
        let here = self.selected.and_then(|at| self.place(at));
        let is_hit = |at| self.search.as_ref().is_some_and(|search| search.holds(at));
        let here = here.filter(|_| self.selected.is_some_and(is_hit));
        self.hit_beside(here.unwrap_or((cursor.saturating_sub(1), TrackId(u32::MAX), u32::MAX)), later);
    }

    /// Goes to the hit next to a place, around the recording's ends if need be.
    fn hit_beside(&mut self, here: Place, later: bool) {
        let Some(search) = &self.search else { return };
        let beside = self.beside(search, Some(here), later);
        let wrapped = beside.is_none();
        let Some((at, number)) = beside.or_else(|| self.beside(search, None, later)) else {
            let wait = if search.scan.whole { "no hits" } else { "no hit so far: the search goes on" };
            return self.say(wait);
        };
        let (hit, all, going) = (search.hits[at], search.hits.len(), !search.scan.whole);
        let around = match (wrapped, later) {
            (false, _) => "",
            (true, true) => "; from the start again",
            (true, false) => "; from the end again",
        };
        let so_far = if going { " so far" } else { "" };
        let text = format!("hit {} of {}{so_far}{around}", count(number as u64), count(all as u64));
        self.go_to(hit);
        self.say(text);
    }

    /// The hit before or behind a place (or the very first or last), and its number in time, from 1.
    fn beside(&self, search: &Search, here: Option<Place>, later: bool) -> Option<(usize, usize)> {
        let mut best: Option<(Place, usize)> = None;
        let mut before = 0;
        let mut from = 0;
        while let Some(first) = search.hits.get(from) {
            let to = from + search.hits[from..].partition_point(|hit| hit.track <= first.track);
            let row = &search.hits[from..to];
            let place = |hit: &SliceRef| self.place(*hit).unwrap_or((0, hit.track, hit.index));
            let at = match (here, later) {
                (Some(here), true) => row.partition_point(|hit| place(hit) <= here),
                (Some(here), false) => row.partition_point(|hit| place(hit) < here),
                (None, true) => 0,
                (None, false) => row.len(),
            };
            before += at;
            let at = if later { Some(at) } else { at.checked_sub(1) };
            if let Some((at, hit)) = at.and_then(|at| Some((at, row.get(at)?))) {
                let place = place(hit);
                if best.is_none_or(|(other, _)| if later { place < other } else { place > other }) {
                    best = Some((place, from + at));
                }
            }
            from = to;
        }
        best.map(|(_, at)| (at, if later { before + 1 } else { before }))
    }

    fn place(&self, hit: SliceRef) -> Option<Place> {
        self.scene.slice(hit).map(|slice| (slice.start_ns, hit.track, hit.index))
    }
}

impl Scan {
    fn name(&mut self, trace: &Trace, name: StrId, left: &mut usize) -> bool {
        let at = name.0 as usize;
        if self.names.len() <= at {
            self.names.resize(at + 1, 0);
        }
        if self.names[at] == 0 {
            let text = trace.text(name);
            *left = left.saturating_sub(cost(text));
            self.names[at] = if self.regex.is_match(text) { 2 } else { 1 };
        }
        self.names[at] == 2
    }

    fn arguments(&mut self, trace: &Trace, args: ArgsId, left: &mut usize) -> bool {
        if args == ArgsId(0) {
            return false;
        }
        if self.args.0 == args {
            return self.args.1;
        }
        let mut text = String::new();
        let hit = trace.args.run(args).any(|(name, value)| {
            if let Arg::Str(value) = value
                && let Some(hit) = self.texts.get(&(name, value))
            {
                *left = left.saturating_sub(2);
                return *hit;
            }
            text.clear();
            let name_text = trace.text(name);
            // Writing into a text can't fail.
            let _ = match value {
                Arg::U64(n) => write!(text, "{name_text}={n}"),
                Arg::I64(n) => write!(text, "{name_text}={n}"),
                Arg::F64(n) => write!(text, "{name_text}={n}"),
                Arg::Str(value) => write!(text, "{name_text}={}", trace.text(value)),
            };
            *left = left.saturating_sub(cost(&text));
            let hit = self.regex.is_match(&text);
            if let Arg::Str(value) = value {
                self.texts.insert((name, value), hit);
            }
            hit
        });
        self.args = (args, hit);
        hit
    }
}

/// What trying the expression on a text costs.
fn cost(text: &str) -> usize {
    10 + text.len() / 4
}

/// Compiles an expression; without a capital letter it matches those, too.
pub(super) fn expression(pattern: &str) -> Result<Regex, String> {
    let mut escaped = false;
    let capital = pattern.chars().any(|c| {
        let counts = c.is_uppercase() && !escaped;
        escaped = c == '\\' && !escaped;
        counts
    });
    let built = RegexBuilder::new(pattern).case_insensitive(!capital).size_limit(EXPRESSION_BYTES).build();
    built.map_err(|error| {
        let why = match &error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            // The last line says what is wrong; those before draw the place.
            other => other.to_string().lines().last().unwrap_or("").trim_start_matches("error: ").to_owned(),
        };
        format!("not a regular expression: {why}; \\ before a sign takes it literally")
    })
}
