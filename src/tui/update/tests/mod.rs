//! What each key, command and click changes.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

mod commands;
mod find;
mod mouse;

use super::{Effect, Msg, Outcome, areas, update};
use crate::analyze::judge_steps;
use crate::trace::Layer;
use crate::tui::palette::{Background, Marks};
use crate::tui::scene::Window;
use crate::tui::state::{LineKind, Live, Mode, Panel, PromptKind, Size, State};
use crate::tui::testing::{MS, Recording, two_ranks};

fn state() -> State {
    two_ranks().state(120, 40)
}

fn judged() -> State {
    let mut state = state();
    let (report, steps) = judge_steps(&state.scene.trace);
    update(&mut state, Msg::Judged(Box::new(report), steps));
    state
}

fn key(state: &mut State, code: KeyCode) -> Vec<Effect> {
    update(state, Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// Presses the characters one after the other.
fn press(state: &mut State, keys: &str) -> Vec<Effect> {
    keys.chars().flat_map(|c| key(state, KeyCode::Char(c))).collect()
}

fn ctrl(state: &mut State, c: char) -> Vec<Effect> {
    update(state, Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL)))
}

/// Types a line and Enter.
fn line(state: &mut State, text: &str) -> Vec<Effect> {
    press(state, text);
    key(state, KeyCode::Enter)
}

fn mouse(state: &mut State, kind: MouseEventKind, column: u16, row: u16) {
    update(state, Msg::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }));
}

fn click(state: &mut State, column: u16, row: u16) {
    mouse(state, MouseEventKind::Down(MouseButton::Left), column, row);
    mouse(state, MouseEventKind::Up(MouseButton::Left), column, row);
}

fn message(state: &State) -> &str {
    state.message.as_ref().map_or("", |message| &message.text)
}

fn selected(state: &State) -> &str {
    state.selected.map_or("", |at| state.scene.name(at))
}

/// Chooses the first line of a layer's depth.
fn choose(state: &mut State, layer: Layer, depth: u16) {
    let of_layer = |kind: LineKind| match kind {
        LineKind::Depth(track, d) => d == depth && state.scene.trace.tracks[track.0 as usize].layer == layer,
        _ => false,
    };
    state.line = state.lines.iter().position(|line| of_layer(line.kind)).expect("the layer has a line");
}

#[test]
fn zooming_in_and_out_leads_back() {
    let mut state = state();
    press(&mut state, "www");
    assert_eq!(state.view.len_ns(), 100 * MS);
    press(&mut state, "sss");
    assert_eq!(state.view, state.bounds());
    press(&mut state, "wdd");
    assert_eq!(state.view, Window::new(360 * MS, 760 * MS));
    press(&mut state, "aaaaaaaaa");
    assert_eq!(state.view.from_ns, 0);
    press(&mut state, "G");
    assert_eq!((state.view.to_ns, state.cursor_ns), (800 * MS, 800 * MS - 1));
    press(&mut state, "g");
    assert_eq!((state.view.from_ns, state.cursor_ns), (0, 0));
    press(&mut state, "0");
    assert_eq!(state.view, state.bounds());
}

#[test]
fn single_nanoseconds_can_be_looked_at_in_unix_time() {
    let unix = 1_700_000_000_123_456_789;
    let recording = Recording::new().process(7, "p", None).thread(7, 7, "t");
    let slices = (0..50).fold(recording, |r, i| r.slice((7, 7), Layer::Torch, "ns", unix + 1_000_000_000 * i, 1));
    let mut state = slices.state(120, 40);
    choose(&mut state, Layer::Torch, 0);
    press(&mut state, "g..");
    let stretch = state.selected.and_then(|at| state.slice_window(at)).expect("a slice is selected");
    assert_eq!(stretch, Window::new(unix + 1_000_000_000, unix + 1_000_000_001));
    key(&mut state, KeyCode::Enter);
    assert!(state.view.len_ns() <= 11, "{:?}", state.view);
    assert!(state.view.from_ns < stretch.from_ns && stretch.to_ns < state.view.to_ns);
    assert_eq!(state.cursor_ns, stretch.from_ns);
}

#[test]
fn many_small_moves_are_one_past_view() {
    let mut state = state();
    press(&mut state, "wwwdda");
    let there = state.view;
    press(&mut state, "0");
    key(&mut state, KeyCode::Backspace);
    assert_eq!(state.view, there);
    press(&mut state, "(");
    assert_eq!(state.view, state.bounds());
    press(&mut state, "(");
    assert_eq!(message(&state), "there is no view before this one");
    press(&mut state, ")");
    assert_eq!(state.view, there);
}

#[test]
fn slices_are_gone_through_along_a_row_and_across_rows() {
    let mut state = state();
    choose(&mut state, Layer::Python, 0);
    let module = state.line;
    press(&mut state, "g.");
    assert_eq!(selected(&state), "<module>");
    press(&mut state, "j");
    assert_eq!((selected(&state), state.line), ("train_step", module + 1));
    press(&mut state, "...");
    let start = |state: &State| state.selected.and_then(|at| state.scene.slice(at)).map(|s| s.start_ns);
    let fourth = start(&state).expect("a slice is selected");
    press(&mut state, ",");
    assert_eq!(start(&state), Some(fourth - 100 * MS));
    press(&mut state, "k");
    assert_eq!(selected(&state), "<module>");
    press(&mut state, ".");
    assert_eq!(message(&state), "no later slice on this row");
}

#[test]
fn a_slice_off_the_screen_is_moved_into_view_without_zooming() {
    let mut state = state();
    choose(&mut state, Layer::Python, 1);
    press(&mut state, "g.");
    press(&mut state, "ff");
    let length = state.view.len_ns();
    assert!((99 * MS..130 * MS).contains(&length), "{length}");
    press(&mut state, "....");
    let stretch = state.selected.and_then(|at| state.slice_window(at)).expect("a slice is selected");
    assert!(state.view.from_ns <= stretch.from_ns && stretch.to_ns <= state.view.to_ns);
    assert_eq!(state.view.len_ns(), length);
}

#[test]
fn a_range_is_marked_by_keys() {
    let mut state = state();
    choose(&mut state, Layer::Python, 1);
    press(&mut state, "g.v..v");
    assert_eq!(state.range, Some(Window::new(0, 299 * MS)));
    assert_eq!(state.mark, None);
    press(&mut state, "r");
    assert_eq!(state.range, Some(Window::new(200 * MS, 299 * MS)));
    key(&mut state, KeyCode::Esc);
    assert_eq!((selected(&state), state.range.is_some()), ("", true));
    key(&mut state, KeyCode::Esc);
    assert_eq!(state.range, None);
}

#[test]
fn folds_pins_and_order() {
    let mut state = state();
    let all = state.lines.len();
    press(&mut state, "c");
    assert_eq!(state.lines.len(), state.scene.tree.roots.len());
    press(&mut state, "C");
    assert!(state.lines.len() >= all);
    choose(&mut state, Layer::Torch, 0);
    let node = state.chosen_node();
    press(&mut state, "p");
    assert_eq!(state.lines[0].node, node.expect("a node is chosen"));
    assert!(state.pinned_lines > 0 && state.line >= state.pinned_lines, "the chosen line stays where it was");
    assert_eq!(state.chosen_node(), node);
    press(&mut state, "P");
    assert_eq!(state.pinned_lines, 0);
    assert_eq!(state.chosen_node(), node);
    let line = state.line;
    press(&mut state, "J");
    assert_eq!(state.chosen_node(), node);
    assert!(state.line > line);
    press(&mut state, "K");
    assert_eq!(state.line, line);
    press(&mut state, "  ");
    assert_eq!(state.chosen_node(), node);
}

#[test]
fn steps_are_gone_to_by_key_and_by_number() {
    let mut state = judged();
    assert!(state.steps_here().is_some(), "the judge finds steps: {:?}", state.scene.steps.len());
    press(&mut state, "g]");
    let first = state.range.expect("a step is the range");
    assert_eq!(state.step_window(1), Some(first));
    press(&mut state, "]");
    assert_eq!(state.range, state.step_window(2));
    press(&mut state, "[");
    assert_eq!(state.range, Some(first));
    press(&mut state, "[");
    assert_eq!(message(&state), "this is the first step");
    line(&mut state, ":step 5");
    assert_eq!(state.range, state.step_window(5));
    line(&mut state, ":step 5000");
    assert!(message(&state).starts_with("no step \"5000\": there are steps 1 to "), "{}", message(&state));
    assert!(matches!(&state.mode, Mode::Prompt(_)), "what can't be done can be mended");
}

#[test]
fn without_steps_the_keys_say_so() {
    let mut state = state();
    press(&mut state, "]");
    assert_eq!(message(&state), "steps are not known yet: the recording is still being judged");
    press(&mut state, "!");
    assert!(message(&state).contains("not known yet"));
}

#[test]
fn panels_take_the_arrow_keys_and_give_them_back() {
    let mut state = judged();
    press(&mut state, "V");
    assert_eq!((state.panel, state.panel_focus), (Panel::Verdict, true));
    key(&mut state, KeyCode::Esc);
    assert!(!state.panel_focus);
    press(&mut state, "tF");
    assert_eq!(state.panel, Panel::Flame);
    press(&mut state, "F");
    assert_eq!(state.panel, Panel::Details);
    press(&mut state, "oooo");
    assert_eq!(state.panel, Panel::Hidden);
    key(&mut state, KeyCode::Tab);
    assert!(!state.panel_focus, "nothing is there to move in");
}

#[test]
fn a_capture_is_followed_until_the_user_looks_elsewhere() {
    let mut state = state();
    update(&mut state, Msg::Live(Live::default()));
    assert!(state.following());
    press(&mut state, "ww");
    assert!(state.following(), "zooming keeps the edge");
    // The view moves by whole columns.
    assert!(state.bounds().to_ns - state.view.to_ns <= 2 * 200 * MS / 80, "{:?}", state.view);
    press(&mut state, "a");
    assert!(!state.following());
    press(&mut state, "L");
    assert!(state.following());
    press(&mut state, " ");
    assert!(!state.following());
    press(&mut state, "G");
    assert!(state.following());
    choose(&mut state, Layer::Python, 1);
    press(&mut state, ",");
    assert!(!state.following(), "who selects a slice wants to look at it");
    press(&mut state, "L");
    update(&mut state, Msg::Live(Live { ended: true, ..Live::default() }));
    assert!(!state.following());
    assert_eq!(message(&state), "the capture is over; the recording is whole");
}

#[test]
fn a_smaller_screen_keeps_the_chosen_line() {
    let mut state = state();
    state.line = state.lines.len() - 1;
    for rows in [40, 12, 5, 3, 1, 0, 24] {
        update(&mut state, Msg::Resize(Size { columns: 80, rows }));
        let height = usize::from(areas(&state).body.height);
        assert!(height == 0 || state.row_of_line(state.line, height).is_some(), "{rows} rows");
    }
}
