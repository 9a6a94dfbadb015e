//! Commands, filters, completion, effects.

use super::*;

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
