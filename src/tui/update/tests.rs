//! What each key, command and click changes.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

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
fn a_search_goes_around() {
    let mut state = state();
    press(&mut state, "g");
    line(&mut state, "/allRED");
    assert!(message(&state).starts_with("nothing matches allRED"), "a capital letter counts");
    line(&mut state, "/allred");
    assert_eq!((selected(&state), message(&state)), ("gloo::allreduce", "hit 1 of 16"));
    press(&mut state, "nn");
    assert_eq!(message(&state), "hit 3 of 16");
    press(&mut state, "NNN");
    assert_eq!(message(&state), "hit 16 of 16; from the end again");
    press(&mut state, "n");
    assert_eq!(message(&state), "hit 1 of 16; from the start again");
    for _ in 0..4 {
        key(&mut state, KeyCode::Esc);
    }
    assert!(state.search.is_none());
    press(&mut state, "n");
    assert_eq!(message(&state), "no search yet: / starts one");
}

#[test]
fn hits_are_in_time_and_unfold_what_hides_them() {
    let mut state = state();
    press(&mut state, "cg");
    line(&mut state, "/addmm$");
    let mut last = 0;
    for _ in 0..15 {
        let slice = state.selected.and_then(|at| state.scene.slice(at)).copied().expect("a hit is selected");
        assert!(slice.start_ns >= last);
        last = slice.start_ns;
        assert!(matches!(state.lines[state.line].kind, LineKind::Depth(_, depth) if depth == slice.depth));
        press(&mut state, "n");
    }
}

#[test]
fn a_bad_expression_is_told_and_can_be_mended() {
    let mut state = state();
    line(&mut state, "/aten::(");
    assert_eq!(message(&state), "not a regular expression: unclosed group; \\ before a sign takes it literally");
    assert!(matches!(&state.mode, Mode::Prompt(prompt) if prompt.text == "aten::("));
    key(&mut state, KeyCode::Backspace);
    key(&mut state, KeyCode::Enter);
    assert_eq!(state.mode, Mode::Browse);
    assert!(state.search.is_some());
}

#[test]
fn long_searches_go_on_by_ticks() {
    let mut state = state();
    state.search_for("aten").expect("the expression is good");
    let at_once = state.search.as_ref().map(|s| s.hits.clone()).unwrap_or_default();
    state.search_for("aten").expect("the expression is good");
    // Begun again, with little at a time.
    let search = state.search.as_mut().expect("there is a search");
    search.hits.clear();
    let regex = super::search::expression("aten").expect("the expression is good");
    search.scan = Some(crate::tui::state::Scan::new(regex, 0, None));
    let mut ticks = 0;
    while !state.advance_search(20) {
        ticks += 1;
        assert!(ticks < 10_000);
    }
    assert!(ticks > 5, "{ticks}");
    assert_eq!(state.search.map(|s| s.hits), Some(at_once));
}

#[test]
fn slices_of_the_same_name() {
    let mut state = state();
    choose(&mut state, Layer::Python, 2);
    press(&mut state, "g.");
    assert_eq!(selected(&state), "load_batch");
    press(&mut state, "**");
    assert_eq!((selected(&state), message(&state)), ("load_batch", "hit 3 of 16"));
    press(&mut state, "#");
    assert_eq!(message(&state), "hit 2 of 16");
}

#[test]
fn the_finder_goes_to_a_track() {
    let mut state = state();
    press(&mut state, "c");
    ctrl(&mut state, 'p');
    assert!(matches!(&state.mode, Mode::Prompt(prompt) if prompt.kind == PromptKind::Finder));
    assert!(!state.finder.hits.is_empty(), "all are listed at first");
    press(&mut state, "rank1 nccl");
    let (_, best) = state.finder.hits[0];
    let path = state.node_path(best);
    assert!(path.contains("rank 1") && path.ends_with("nccl"), "{path}");
    key(&mut state, KeyCode::Enter);
    assert_eq!((state.chosen_node(), &state.mode), (Some(best), &Mode::Browse));
}

#[test]
fn commands_say_what_is_wrong_and_what_to_do() {
    let mut state = judged();
    for (typed, answer) in [
        (":stpe 3", "no command stpe; did you mean step?"),
        (":kubernetes", "no command kubernetes; ? lists all"),
        (":rank 9", "no rank \"9\": this recording has ranks 0 to 1"),
        (":time soon", "not a time: \"soon\"; write it as 250ms, 1.5s or 1m30s"),
        (":time", "a time is missing; write it as 250ms, 1.5s or 1m30s"),
        (":filter -trch", "no layer trch; did you mean torch?"),
        (":filter rank=7", "no rank 7 in this recording; rank= shows all"),
        (":pin nothing_like_it", "no track matches nothing_like_it; Ctrl-P finds tracks by some of their letters"),
        (":theme blue", "theme dark, or theme light"),
        (":export", "give a file, such as export screen.svg"),
    ] {
        line(&mut state, typed);
        assert_eq!(message(&state), answer, "{typed}");
        assert!(state.message.as_ref().is_some_and(|message| message.bad));
        key(&mut state, KeyCode::Esc);
    }
}

#[test]
fn commands_do_what_they_say() {
    let mut state = state();
    line(&mut state, ":zoom 50ms");
    assert_eq!(state.view.len_ns(), 50 * MS);
    line(&mut state, ":time 600ms");
    assert_eq!(state.cursor_ns, 600 * MS);
    assert!(state.view.holds(600 * MS));
    line(&mut state, ":time +1.5ms");
    line(&mut state, ":t -1ns");
    assert_eq!(state.cursor_ns, 601_500_000 - 1);
    line(&mut state, ":rank 1");
    let path = state.chosen_node().map(|id| state.node_path(id)).unwrap_or_default();
    assert!(path.contains("rank 1"), "{path}");
    press(&mut state, "r");
    let effects = line(&mut state, ":w part.pftrace");
    assert_eq!(effects, [Effect::Write { path: "part.pftrace".into(), window: state.focus() }]);
    assert_eq!(line(&mut state, ":export a b.svg"), [Effect::Export { path: "a b.svg".into() }]);
    assert_eq!(line(&mut state, ":diff x"), [Effect::Diff { path: "x".into() }]);
    assert_eq!(line(&mut state, ":theme light"), [Effect::Background(Background::Light)]);
    assert_eq!(line(&mut state, ":ascii"), [Effect::Marks(Marks::Ascii)]);
    assert_eq!(line(&mut state, ":q"), [Effect::Quit]);
    line(&mut state, ":help");
    assert_eq!(state.mode, Mode::Help(0));
    press(&mut state, "q");
    assert_eq!(state.mode, Mode::Browse);
}

#[test]
fn filters_hide_layers_ranks_and_short_slices() {
    let mut state = state();
    let layers = |state: &State| {
        let layer = |line: &crate::tui::state::Line| match line.kind {
            LineKind::Depth(track, _) => Some(state.scene.trace.tracks[track.0 as usize].layer),
            _ => None,
        };
        state.lines.iter().filter_map(layer).collect::<std::collections::BTreeSet<_>>()
    };
    line(&mut state, ":filter -torch -sched");
    assert_eq!(message(&state), "filter: -torch -sched".replace("-torch -sched", "-sched -torch"));
    assert!(!layers(&state).contains(&Layer::Torch));
    line(&mut state, ":filter +torch");
    assert!(layers(&state).contains(&Layer::Torch) && !layers(&state).contains(&Layer::Sched));
    line(&mut state, ":filter nccl python");
    assert_eq!(layers(&state).into_iter().collect::<Vec<_>>(), [Layer::Python, Layer::Nccl]);
    line(&mut state, ":filter off rank=1");
    let ranks = |state: &State| state.lines.iter().filter(|l| state.node_path(l.node).contains("rank 0")).count();
    assert_eq!(ranks(&state), 0);
    line(&mut state, ":filter off min=30ms");
    line(&mut state, "/load_batch");
    assert_eq!(message(&state), "hit 1 of 1", "one batch takes 45 ms");
    line(&mut state, ":filter off");
    assert!(ranks(&state) > 0 && !state.filter.is_on());
}

#[test]
fn commands_are_completed_and_recalled() {
    let mut state = state();
    let text = |state: &State| match &state.mode {
        Mode::Prompt(prompt) => prompt.text.clone(),
        _ => String::new(),
    };
    press(&mut state, ":fil");
    key(&mut state, KeyCode::Tab);
    assert_eq!(text(&state), "filter ");
    press(&mut state, "-to");
    key(&mut state, KeyCode::Tab);
    assert_eq!(text(&state), "filter -torch ");
    key(&mut state, KeyCode::Enter);
    line(&mut state, ":zoom 1ms");
    press(&mut state, ":new");
    key(&mut state, KeyCode::Up);
    key(&mut state, KeyCode::Up);
    assert_eq!(text(&state), "filter -torch");
    key(&mut state, KeyCode::Down);
    assert_eq!(text(&state), "zoom 1ms");
    key(&mut state, KeyCode::Down);
    assert_eq!(text(&state), "new");
    ctrl(&mut state, 'u');
    press(&mut state, "t");
    key(&mut state, KeyCode::Tab);
    assert_eq!((text(&state), message(&state)), ("t".to_owned(), "theme  time"));
}

#[test]
fn the_mouse_selects_and_fits() {
    let mut state = state();
    choose(&mut state, Layer::Torch, 0);
    let body = areas(&state).body;
    let row = body.y + state.row_of_line(state.line, body.height.into()).expect("it is on the screen") as u16;
    // 20 ms of 800: in the middle of the first operator.
    let column = body.x + body.width * 25 / 800;
    click(&mut state, column, row);
    assert_eq!(selected(&state), "aten::linear");
    assert!(state.view == state.bounds());
    click(&mut state, column, row);
    assert!(state.view.len_ns() < 30 * MS, "the second click fits it: {:?}", state.view);
}

#[test]
fn the_mouse_drags_ranges_and_turns_its_wheel() {
    let mut state = state();
    let body = areas(&state).body;
    mouse(&mut state, MouseEventKind::Down(MouseButton::Left), body.x, body.y);
    mouse(&mut state, MouseEventKind::Drag(MouseButton::Left), body.right() + 50, body.y);
    assert_eq!(state.range, Some(state.bounds()));
    mouse(&mut state, MouseEventKind::Drag(MouseButton::Left), body.x + body.width / 2 - 1, body.y);
    mouse(&mut state, MouseEventKind::Up(MouseButton::Left), body.x + body.width / 2 - 1, body.y);
    let range = state.range.expect("a range was dragged");
    assert!(range.from_ns == 0 && range.to_ns.abs_diff(400 * MS) < 10 * MS, "{range:?}");
    assert_eq!(state.selected, None);
    let before = state.view;
    mouse(&mut state, MouseEventKind::ScrollUp, body.x, body.y);
    assert_eq!((state.view.from_ns, state.view.len_ns()), (0, before.len_ns() * 3 / 4));
    mouse(&mut state, MouseEventKind::ScrollRight, body.x, body.y);
    assert!(state.view.from_ns > 0);
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
fn effects_and_their_outcomes() {
    let mut state = state();
    assert_eq!(press(&mut state, "q"), [Effect::Quit]);
    assert_eq!(ctrl(&mut state, 'z'), [Effect::Suspend]);
    assert_eq!(ctrl(&mut state, 'l'), [Effect::Redraw]);
    assert_eq!(ctrl(&mut state, 'c'), [Effect::Quit]);
    update(&mut state, Msg::Done(Outcome::Failed("can't write".to_owned())));
    assert!(state.message.as_ref().is_some_and(|message| message.bad));
    assert_eq!(press(&mut state, "~"), []);
    assert_eq!(message(&state), "can't write", "a key that does nothing says nothing");
}

#[test]
fn a_capture_is_followed_until_the_user_looks_elsewhere() {
    let mut state = state();
    update(&mut state, Msg::Live(Live::default()));
    assert!(state.following());
    press(&mut state, "ww");
    assert!(state.following(), "zooming keeps the edge");
    assert_eq!(state.view.to_ns, state.bounds().to_ns);
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
