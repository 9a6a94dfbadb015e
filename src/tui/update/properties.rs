//! Whatever is pressed, clicked and resized: the view stays inside the recording, the cursor in
//! the view, the chosen line on the screen, and every frame can be drawn.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;

use super::{BINDINGS, Msg, update};
use crate::analyze::judge_steps;
use crate::trace::{ArgRef, Growth, Layer, Sink, SliceEvent, TrackDef, live};
use crate::tui::palette::{Background, Colors, Look, Marks};
use crate::tui::scene::Scene;
use crate::tui::snapshot;
use crate::tui::state::{Live, Mode, Size, State};
use crate::tui::testing::{Recording, two_ranks};

const SCENES: usize = 9;

/// Recordings that are awkward, each in its way.
fn scene(number: usize) -> Scene {
    let at = (7, 7);
    let recording = || Recording::new().process(7, "python3", Some(3)).thread(7, 7, "python3");
    let unix = 1_700_000_000_123_456_789;
    match number {
        0 => Recording::new().scene(),
        1 => recording().slice(at, Layer::Torch, "one", 5, 1).scene(),
        2 => recording().slice(at, Layer::Torch, "none", 0, 0).slice(at, Layer::Torch, "zero", 0, 1).scene(),
        3 => {
            let end = u64::MAX - 1000;
            let r = recording().slice(at, Layer::Cuda, "late", end, 1000);
            r.slice(at, Layer::Sched, "wide", 1 << 60, u64::MAX - (1 << 60)).scene()
        }
        4 => {
            let slices = (0..200).fold(recording(), |r, i| r.slice(at, Layer::Torch, "a\u{1b}[31m漢", unix + i, 1));
            slices.instant(at, "faults", "major_fault", unix + 3).counter(7, "cpu", unix, 1e300).scene()
        }
        5 => {
            let deep = |r: Recording, i: u64| r.slice(at, Layer::Python, &format!("f{i}"), 1000 + i, 2000 - 2 * i);
            (0..300).fold(recording(), deep).scene()
        }
        6 => {
            let many = |r: Recording, i: u32| {
                let r = r.process(i, "w", i.is_multiple_of(2).then_some(i)).thread(i, i, "t");
                r.slice((i, i), Layer::Sched, "running", u64::from(i) * 10, 5)
            };
            (1..150).fold(Recording::new(), many).scene()
        }
        7 => recording().begin(at, Layer::Io, "never ends", 10).counter(7, "cpu", 5, f64::NAN).scene(),
        _ => {
            let trace =
                Arc::new(two_ranks().slice_with(at, Layer::Nccl, "x", 5, 5, &[("bytes", ArgRef::U64(3))]).trace());
            let (report, steps) = judge_steps(&trace);
            let mut scene = Scene::new(trace);
            scene.judged(report, steps);
            scene
        }
    }
}

#[derive(Debug, Clone)]
enum Do {
    Key(KeyEvent),
    Type(String),
    Mouse(u8, u16, u16, bool),
    Resize(u16, u16),
    Tick,
    Live(bool),
}

fn doing() -> impl Strategy<Value = Do> {
    let keys: Vec<KeyEvent> = BINDINGS.iter().flat_map(|b| b.keys).map(|key| key.event()).collect();
    let moves = "[wasdfhjklgG0(),.]".prop_map(|text| {
        let character = text.chars().next().unwrap_or('w');
        Do::Key(KeyEvent::new(KeyCode::Char(character), KeyModifiers::NONE))
    });
    let lines = prop_oneof![
        "[a-z漢+*(.-]{0,6}",
        Just(":step 3".to_owned()),
        Just(":time 18446744073s".to_owned()),
        Just(":time -1ns".to_owned()),
        Just(":zoom 1ns".to_owned()),
        Just(":zoom 584y".to_owned()),
        Just(":rank 3".to_owned()),
        Just(":filter -torch min=2ns rank=3".to_owned()),
        Just(":filter off".to_owned()),
        Just(":pin .".to_owned()),
        Just("/.".to_owned()),
        Just("/bytes=3".to_owned()),
        Just(":help".to_owned()),
    ];
    prop_oneof![
        6 => prop::sample::select(keys).prop_map(Do::Key),
        6 => moves,
        2 => lines.prop_map(Do::Type),
        4 => (0u8..10, 0u16..170, 0u16..60, any::<bool>()).prop_map(|(k, x, y, s)| Do::Mouse(k, x, y, s)),
        1 => (0u16..170, 0u16..60).prop_map(|(x, y)| Do::Resize(x, y)),
        1 => Just(Do::Tick),
        1 => any::<bool>().prop_map(Do::Live),
    ]
}

fn perform(state: &mut State, what: Do) {
    let modifiers = |shift: bool| if shift { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
    match what {
        Do::Key(key) => {
            update(state, Msg::Key(key));
        }
        Do::Type(text) => {
            let keys = text.chars().map(KeyCode::Char).chain([KeyCode::Enter]);
            keys.for_each(|code| {
                update(state, Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)));
            });
        }
        Do::Mouse(kind, column, row, shift) => {
            let left = MouseButton::Left;
            let kind = match kind {
                0 => MouseEventKind::Down(left),
                1 | 2 => MouseEventKind::Drag(left),
                3 => MouseEventKind::Up(left),
                4 => MouseEventKind::ScrollUp,
                5 => MouseEventKind::ScrollDown,
                6 => MouseEventKind::ScrollLeft,
                7 => MouseEventKind::ScrollRight,
                8 => MouseEventKind::Moved,
                _ => MouseEventKind::Down(MouseButton::Right),
            };
            update(state, Msg::Mouse(MouseEvent { kind, column, row, modifiers: modifiers(shift) }));
        }
        Do::Resize(columns, rows) => {
            update(state, Msg::Resize(Size { columns, rows }));
        }
        Do::Tick => {
            update(state, Msg::Tick);
        }
        Do::Live(ended) => {
            update(state, Msg::Live(Live { ended, ..Live::default() }));
        }
    }
}

fn check(state: &State) -> Result<(), TestCaseError> {
    let (view, bounds) = (state.view, state.bounds());
    prop_assert!(view.from_ns < view.to_ns, "{view:?}");
    prop_assert!(bounds.from_ns <= view.from_ns && view.to_ns <= bounds.to_ns, "{view:?} in {bounds:?}");
    prop_assert!(view.holds(state.cursor_ns), "{} in {view:?}", state.cursor_ns);
    prop_assert!(state.line < state.lines.len().max(1), "line {} of {}", state.line, state.lines.len());
    prop_assert!(state.top <= state.lines.len(), "top {} of {}", state.top, state.lines.len());
    if let Some(range) = state.range {
        prop_assert!(range.from_ns < range.to_ns, "{range:?}");
    }
    let height = usize::from(super::areas(state).body.height);
    if height > 1 && state.line < state.lines.len() {
        prop_assert!(
            state.row_of_line(state.line, height).is_some(),
            "line {} of {} at {}",
            state.line,
            height,
            state.top
        );
    }
    if let Mode::Prompt(prompt) = &state.mode {
        prop_assert!(prompt.text.is_char_boundary(prompt.at));
    }
    Ok(())
}

fn draw(state: &State, ascii: bool) {
    let marks = if ascii { Marks::Ascii } else { Marks::Unicode };
    let look = Look { colors: Colors::True, background: Background::Dark, marks };
    let text = snapshot(state, look).text();
    assert!(!text.contains('\u{1b}'), "an escape sequence of the recording reaches the terminal");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leads_out_of_the_recording(
        number in 0..SCENES,
        columns in 0u16..170,
        rows in 0u16..60,
        steps in prop::collection::vec(doing(), 1..40),
        ascii in any::<bool>(),
    ) {
        let mut state = State::new(scene(number), "any", Size { columns, rows });
        check(&state)?;
        for step in steps {
            perform(&mut state, step);
            check(&state)?;
            draw(&state, ascii);
        }
    }

    #[test]
    fn a_growing_capture_is_no_exception(
        steps in prop::collection::vec((doing(), 0u64..40), 1..40),
        limit in prop_oneof![Just(50usize), Just(1_000_000)],
    ) {
        let (mut sink, feed) = live(1000);
        sink.process(7, "python3", None, Some(0)).expect("a live sink takes all");
        sink.thread(7, 7, "python3").expect("a live sink takes all");
        let scene = Scene { growth: Growth::new(limit), ..Scene::default() };
        let mut state = State::new(scene, "live", Size { columns: 100, rows: 30 });
        update(&mut state, Msg::Live(Live { follows: true, ..Live::default() }));
        let mut at = 1_000_000_000_000_000u64;
        let mut tracks = Vec::new();
        for (step, count) in steps {
            if count % 7 == 0 {
                let name = format!("track {count}");
                let def = TrackDef { pid: Some(7), tid: Some(7), name: &name, layer: Layer::Torch, counter_unit: None };
                tracks.push(sink.track(def).expect("a live sink takes all"));
            }
            for i in 0..count {
                let Some(track) = tracks.get((i % 3) as usize) else { break };
                at += 1000 + i;
                let slice = SliceEvent { start_ns: at, dur_ns: 900, name: "x", args: &[], flow: 0, estimate: false };
                sink.slice(*track, &slice).expect("a live sink takes all");
            }
            if let Some(batch) = feed.take() {
                update(&mut state, Msg::Grow(Box::new(batch)));
                check(&state)?;
                // The view moves by whole columns.
                let columns = u64::from(super::areas(&state).body.width).max(1);
                let behind = state.bounds().to_ns - state.view.to_ns;
                let most = 2 * (state.view.len_ns() / columns) + columns;
                prop_assert!(!state.following() || behind <= most, "{behind} ns behind the edge");
            }
            perform(&mut state, step);
            check(&state)?;
            draw(&state, false);
        }
    }

    #[test]
    fn zooming_keeps_the_cursor_where_it_is(
        from in prop_oneof![Just(0u64), Just(1u64 << 53), Just(1_700_000_000_000_000_001), Just(u64::MAX - (1 << 40))],
        length in 1u64..1 << 39,
        at in 0.0f64..1.0,
        ins in 0usize..60,
    ) {
        let recording = Recording::new().process(7, "p", None).thread(7, 7, "t");
        let scene = recording.slice((7, 7), Layer::Torch, "x", from, length).scene();
        let mut state = State::new(scene, "any", Size { columns: 100, rows: 30 });
        state.set_cursor(from + (length as f64 * at) as u64);
        let cursor = state.cursor_ns;
        for _ in 0..ins {
            let before = state.view;
            state.zoom(1, 2, cursor);
            prop_assert!(state.view.len_ns() < before.len_ns() || before.len_ns() <= 10);
            prop_assert_eq!(state.cursor_ns, cursor);
        }
        if ins > 45 {
            prop_assert!(state.view.len_ns() <= 10);
        }
        for _ in 0..64 {
            state.zoom(2, 1, cursor);
        }
        prop_assert_eq!(state.view, state.bounds());
        prop_assert_eq!(state.cursor_ns, cursor);
    }
}
