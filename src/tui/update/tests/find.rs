//! Search, same names, the finder.

use super::*;

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
    let regex = crate::tui::update::search::expression("aten").expect("the expression is good");
    search.scan = crate::tui::state::Scan::new(regex, 0, None);
    let mut ticks = 0;
    while !state.advance_search(20) {
        ticks += 1;
        assert!(ticks < 10_000);
    }
    assert!(ticks > 5, "{ticks}");
    assert_eq!(state.search.as_ref().map(|s| &s.hits), Some(&at_once));
    // A capture that grows: what changed is looked at again, and nothing twice.
    let changed = vec![(at_once[0].track, 3), (at_once[at_once.len() - 1].track, 0)];
    let search = state.search.as_mut().expect("there is a search");
    let mut changes = crate::trace::Changes::default();
    changes.tracks = changed;
    search.grown(&changes);
    assert!(search.hits.len() < at_once.len());
    while !state.advance_search(20) {}
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
