//! What to show at the start: `--at`, `--select`, `--panel`.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use regex::Regex;

use super::super::error::Error;
use super::super::values::Length;
use crate::trace::TrackId;
use crate::tui::scene::{SliceRef, Window};
use crate::tui::state::{Panel, State};
use crate::view::human;

/// A place in the recording, as typed; times count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Around a moment.
    Moment(Duration),
    /// From one moment to another.
    Times(Duration, Duration),
    /// Steps, the last included.
    Steps(usize, usize),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let text = text.trim();
        if let Some(steps) = text.strip_prefix("step") {
            let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("'{}' is no step", text.trim()));
            let (first, last) = match steps.split_once("..") {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(steps)?, number(steps)?),
            };
            if last < first {
                return Err(format!("step {last} comes before step {first}"));
            }
            return Ok(At::Steps(first, last));
        }
        let time = |text: &str| {
            let wrong = |_| format!("'{}' is no time; write 12.5s, 250ms, 1.2s..1.4s, or step 42", text.trim());
            text.trim().trim_start_matches('+').parse::<Length>().map(|length| length.0).map_err(wrong)
        };
        match text.split_once("..") {
            None => Ok(At::Moment(time(text)?)),
            Some((from, to)) => {
                let (from, to) = (time(from)?, time(to)?);
                if to <= from {
                    return Err("the end must come after the beginning".to_owned());
                }
                Ok(At::Times(from, to))
            }
        }
    }
}

/// Of the recording, around a moment.
const AROUND: u64 = 20;

/// Shows a place.
pub fn go(state: &mut State, at: At) -> Result<(), Error> {
    let bounds = state.bounds();
    let length = human::seconds(bounds.len_ns() as f64 / 1e9);
    let moment = |since: Duration| {
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let moment = bounds.from_ns.saturating_add(since);
        if moment > bounds.to_ns {
            let shown = human::seconds(since as f64 / 1e9);
            return Err(Error::usage(format!("there is nothing at {shown}: the recording is {length} long")));
        }
        Ok(moment)
    };
    let window = match at {
        At::Moment(at) => {
            let at = moment(at)?;
            let half = (bounds.len_ns() / AROUND / 2).max(1);
            state.cursor_ns = at.min(bounds.to_ns - 1);
            Window::new(at.saturating_sub(half), at.saturating_add(half))
        }
        At::Times(from, to) => {
            let (from, to) = (moment(from)?, moment(to).unwrap_or(bounds.to_ns));
            state.cursor_ns = from + (to - from) / 2;
            Window::new(from, to)
        }
        At::Steps(first, last) => {
            let window = steps(state, first, last)?;
            state.cursor_ns = window.from_ns;
            // The neighbours' edges show that these are whole.
            let margin = window.len_ns() / 20;
            Window::new(window.from_ns.saturating_sub(margin), window.to_ns.saturating_add(margin))
        }
    };
    state.show(window);
    Ok(())
}

fn steps(state: &State, first: usize, last: usize) -> Result<Window, Error> {
    let Some(times) = state.scene.steps.iter().find(|times| times.boundaries_ns.len() > 1) else {
        return Err(Error::usage("no steps were found in this recording").hint("give a time: --at 1.2s..1.4s"));
    };
    let edges = &times.boundaries_ns;
    let count = edges.len() - 1;
    // Steps count from 1, as on the ruler.
    let edge = |step: usize| step.checked_sub(1).filter(|index| *index < count);
    match (edge(first), edge(last)) {
        (Some(first), Some(last)) => Ok(Window::new(edges[first], edges[last + 1])),
        _ => Err(Error::usage(format!("there is no step {}", if edge(first).is_none() { first } else { last }))
            .hint(format!("this recording has steps 1 to {count}"))),
    }
}

/// Selects the longest slice whose name matches, and shows it.
pub fn select(state: &mut State, pattern: &Regex, and_show: bool) -> Result<(), Error> {
    let trace = &state.scene.trace;
    let mut matches: Vec<Option<bool>> = vec![None; trace.strings.len()];
    let mut longest: Option<(u64, SliceRef)> = None;
    for (track, data) in trace.tracks.iter().enumerate() {
        for (index, slice) in data.slices.iter().enumerate() {
            let Some(known) = matches.get_mut(slice.name.0 as usize) else { continue };
            let hit = *known.get_or_insert_with(|| pattern.is_match(trace.text(slice.name)));
            if hit && longest.is_none_or(|(most, _)| slice.dur_ns > most) {
                longest = Some((slice.dur_ns, SliceRef { track: TrackId(track as u32), index: index as u32 }));
            }
        }
    }
    let Some((_, found)) = longest else {
        return Err(Error::usage(format!("no slice's name matches '{pattern}'")));
    };
    state.go_to(found);
    if let (true, Some(slice)) = (and_show, state.scene.slice(found).copied()) {
        let margin = slice.dur_ns.max(1);
        state.cursor_ns = slice.start_ns + slice.dur_ns / 2;
        state.show(Window::new(slice.start_ns.saturating_sub(margin), slice.end_ns().saturating_add(margin)));
    }
    Ok(())
}

/// The lower part of the screen, as `--panel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PanelName {
    /// The selected slice, or the range
    Details,
    /// Python frames, widest first
    Flame,
    /// The heaviest names
    Table,
    /// The verdict's evidence
    Verdict,
    /// All room for the tracks
    None,
}

impl From<PanelName> for Panel {
    fn from(name: PanelName) -> Panel {
        match name {
            PanelName::Details => Panel::Details,
            PanelName::Flame => Panel::Flame,
            PanelName::Table => Panel::Table,
            PanelName::Verdict => Panel::Verdict,
            PanelName::None => Panel::Hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let ms = Duration::from_millis;
        for (text, at) in [
            ("12.5s", At::Moment(ms(12_500))),
            ("+250ms", At::Moment(ms(250))),
            ("3", At::Moment(ms(3000))),
            ("1.2s..1.4s", At::Times(ms(1200), ms(1400))),
            ("1 .. 2", At::Times(ms(1000), ms(2000))),
            ("step 42", At::Steps(42, 42)),
            ("step40..44", At::Steps(40, 44)),
        ] {
            assert_eq!(text.parse(), Ok(at), "{text}");
        }
        for text in ["", "..", "1s..", "2s..1s", "1s..1s", "step", "step x", "step 4..2", "-1s", "noon", "step -1"] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
