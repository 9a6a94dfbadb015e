//! Wheel, clicks and drags.

use super::*;

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
fn the_mouse_moves_in_the_minimap_the_rulers_and_the_labels() {
    let mut state = judged();
    press(&mut state, "0ww");
    let (length, map) = (state.view.len_ns(), areas(&state).minimap);
    click(&mut state, map.x, map.y);
    assert_eq!((state.view.from_ns, state.view.len_ns()), (0, length), "where the view is not, it goes");
    mouse(&mut state, MouseEventKind::Down(MouseButton::Left), map.x, map.y);
    mouse(&mut state, MouseEventKind::Drag(MouseButton::Left), map.x + map.width / 2, map.y);
    mouse(&mut state, MouseEventKind::Up(MouseButton::Left), map.x + map.width / 2, map.y);
    assert_eq!(state.view.len_ns(), length);
    assert!(state.view.from_ns.abs_diff(400 * MS) < 10 * MS, "the view is dragged along: {:?}", state.view);
    press(&mut state, "0");
    mouse(&mut state, MouseEventKind::Down(MouseButton::Left), map.x, map.y);
    mouse(&mut state, MouseEventKind::Drag(MouseButton::Left), map.x + map.width / 4 - 1, map.y);
    mouse(&mut state, MouseEventKind::Up(MouseButton::Left), map.x + map.width / 4 - 1, map.y);
    assert!(state.view.len_ns().abs_diff(200 * MS) < 10 * MS, "a new view is spanned: {:?}", state.view);
    press(&mut state, "0");
    let ruler = areas(&state).ruler;
    click(&mut state, ruler.x + ruler.width / 2, ruler.y);
    assert!(state.cursor_ns.abs_diff(400 * MS) < 10 * MS);
    assert!(ruler.height > 1, "there is a ruler of steps");
    click(&mut state, ruler.x + ruler.width / 2, ruler.y + 1);
    assert!(state.range.is_some_and(|range| range.holds(400 * MS)));
    let labels = areas(&state).labels;
    let lines = state.lines.len();
    state.line = 3;
    click(&mut state, labels.x, labels.y);
    assert_eq!((state.line, state.lines.len()), (0, lines));
    click(&mut state, labels.x, labels.y);
    assert!(state.line == 0 && state.lines.len() < lines, "the second click folds");
    let verdict = areas(&state).verdict;
    click(&mut state, verdict.x, verdict.y);
    assert_eq!((state.panel, state.panel_focus), (Panel::Verdict, true));
}
