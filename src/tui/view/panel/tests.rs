//! Panels as they look, and panels of every size.

use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::analyze::judge_steps;
use crate::trace::{ArgRef, CaptureMeta, Layer, LayerState, LayerStatus, LostEvents, TrackId};
use crate::tui::palette::{Background, Colors, Look, Marks};
use crate::tui::scene::{SliceRef, Window};
use crate::tui::state::{Panel, State};
use crate::tui::testing::{MS, Recording};

const LOOK: Look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Unicode };
const MAIN: (u32, u32) = (812, 812);

/// A training loop on one device: data, forward with launches, a wait for the device.
fn job() -> Recording {
    let meta = CaptureMeta {
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        end_ns: 2000 * MS,
        targets: vec![812],
        lost: LostEvents { samples: 12, ..LostEvents::default() },
        layers: vec![LayerStatus {
            layer: "nccl".to_owned(),
            state: LayerState::Absent,
            detail: "no libnccl mapped".to_owned(),
        }],
        ..CaptureMeta::default()
    };
    let mut recording = Recording::new().process(812, "python3", Some(0)).thread(812, 812, "python3").meta(&meta);
    let frame = |file: &'static str, line, call_line| {
        [("file", ArgRef::Str(file)), ("line", ArgRef::U64(line)), ("call_line", ArgRef::U64(call_line))]
    };
    let (train, data) = ("/home/me/train.py", "/home/me/data.py");
    recording = recording.slice_with(MAIN, Layer::Python, "<module>", 0, 2000 * MS, &frame(train, 1, 0));
    for step in 0..20u64 {
        let at = step * 100 * MS;
        let load = if step == 12 { 80 } else { 60 } * MS;
        let line = [("file", ArgRef::Str(data)), ("line", ArgRef::U64(20)), ("gil", ArgRef::U64(1))];
        let flow = [("flow", ArgRef::U64(step + 1)), ("stream", ArgRef::U64(7))];
        let kernel =
            [("flow", ArgRef::U64(step + 1)), ("bytes", ArgRef::U64(12_400_000)), ("estimate", ArgRef::U64(1))];
        recording = recording
            .slice_with(MAIN, Layer::Python, "load_batch", at, load, &frame(data, 17, 41))
            .slice_with(MAIN, Layer::Python, "data.py:20", at, load, &line)
            .slice_with(MAIN, Layer::Python, "train_step", at + load, 100 * MS - load, &frame(train, 30, 42))
            .slice(MAIN, Layer::Torch, "aten::linear", at + load, 10 * MS)
            .slice(MAIN, Layer::Torch, "aten::addmm", at + load + MS, 5 * MS)
            .slice_with(MAIN, Layer::Cuda, "cudaLaunchKernel", at + load + 2 * MS, MS / 2, &flow)
            .slice_with(MAIN, Layer::Cuda, "cudaStreamSynchronize", at + load + 10 * MS, 9 * MS, &[])
            .slice_with(MAIN, Layer::Gpu, "gemm_kernel<float>", at + load + 3 * MS, 15 * MS, &kernel)
            .slice(MAIN, Layer::Torch, "Optimizer.step#SGD.step", at + 99 * MS, MS);
    }
    recording
}

fn judged(recording: Recording) -> State {
    let mut state = recording.state(160, 48);
    let (report, steps) = judge_steps(&state.scene.trace);
    state.scene.judged(report, steps);
    state
}

/// The slice of this name that starts last before a moment.
fn find(state: &State, name: &str, before_ns: u64) -> SliceRef {
    let tracks = state.scene.trace.tracks.iter().enumerate();
    let all = tracks.flat_map(|(t, track)| {
        (0..track.slices.len()).map(move |i| SliceRef { track: TrackId(t as u32), index: i as u32 })
    });
    let start = |at: &SliceRef| state.scene.slice(*at).unwrap().start_ns;
    all.filter(|at| state.scene.name(*at) == name && start(at) <= before_ns).max_by_key(start).unwrap()
}

fn finish(state: &mut State) {
    for _ in 0..100_000 {
        if state.advance_panel(1000) {
            return;
        }
    }
    panic!("the statistics never end");
}

fn drawn(state: &State, look: Look, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    super::draw(state, look, area, &mut buffer);
    let row = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|c| c.symbol()).collect::<String>();
    let rows = buffer.content.chunks(usize::from(width.max(1)));
    rows.map(|cells| format!("{}\n", row(cells).trim_end())).collect()
}

#[test]
fn a_slice_tells_all() {
    let mut state = judged(job());
    state.selected = Some(find(&state, "cudaLaunchKernel", 1270 * MS));
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, LOOK, 160, 14), @r"
    slice                                           same name                                   partners                                               details [i]
    ■ cudaLaunchKernel  cuda                        count      20                               launches   gemm_kernel<float>  15.0 ms  1.00 ms later
    duration   500 us                               total      10.0 ms                          awaited by cudaStreamSynchronize  9.00 ms  8.00 ms later
    start      +1.162000 s                          p50        500 us  p99 500 us               stack ─────────────────────────────────────────────────────────────
    clock      2026-01-02 03:04:06.162000 UTC       max        500 us                           in aten::addmm  5.00 ms
    on         thread python3 812, process          this one   the longest of 20                in aten::linear  10.0 ms
               python3 812, rank 0                  spread     █                            …   at train_step  train.py:30
    step       11 of 19  0.5 % of it                                                            at <module>  train.py:42
    stream     7
    flow       12
    ");
    insta::assert_snapshot!(drawn(&state, LOOK, 80, 24), @r"
    slice                               same name                      details [i]
    ■ cudaLaunchKernel  cuda            count      20
    duration   500 us                   total      10.0 ms
    start      +1.162000 s              p50        500 us  p99 500 us
    clock      2026-01-02 03:04:06.1…   max        500 us
    on         thread python3 812,      this one   the longest of 20
               process python3 812,     spread     █
               rank 0                   partners ──────────────────────────────────
    step       11 of 19  0.5 % of it    launches   gemm_kernel<float>  15.0 ms  1.…
    stream     7                        awaited by cudaStreamSynchronize  9.00 ms …
    flow       12                       stack ─────────────────────────────────────
                                        in aten::addmm  5.00 ms
                                        in aten::linear  10.0 ms
                                        at train_step  train.py:30
                                        at <module>  train.py:42
    ");
    state.selected = Some(find(&state, "gemm_kernel<float>", 1300 * MS));
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, Look { marks: Marks::Ascii, ..LOOK }, 160, 14), @r"
    slice                                           same name                                   partners                                               details [i]
    # gemm_kernel<float>  gpu                       count      20                               launched by cudaLaunchKernel  500 us  1.00 ms before
    duration   15.0 ms                              total      300 ms                           awaited by cudaStreamSynchronize  9.00 ms  7.00 ms later
    start      +1.283000 s                          p50        15.0 ms  p99 15.0 ms             stack of the launch -----------------------------------------------
    clock      2026-01-02 03:04:06.283000 UTC       max        15.0 ms                          in aten::addmm  5.00 ms
    on         thread python3 812, process          this one   the longest of 20                in aten::linear  10.0 ms
               python3 812, rank 0                  spread     #                            ~   at train_step  train.py:30
    step       12 of 19  15 % of it                                                             at <module>  train.py:42
    note       estimated: from launch to the next
               synchronize
    bytes      12.4 MB (12,400,000)
    flow       13
    ");
}

#[test]
fn a_range_tells_who_had_it() {
    let mut state = judged(job());
    state.range = Some(Window::new(1100 * MS, 1400 * MS));
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, LOOK, 160, 14), @r"
    range  300 ms                                   busy                                        heaviest names                 SELF     COUNT      P50      P99
    from +1.100000 s, steps 11 to 14                gpu     █▊             15 %  of 1 track     ■ data.py:20                 200 ms         3  60.0 ms  80.0 ms
    input         ████████████  100 %  300 ms       cuda    █▏            9.5 %  of 1 track     ■ train_step                 100 ms         3  40.0 ms  40.0 ms
                                                    torch   █▍             11 %  of 1 track     ■ gemm_kernel<float>        45.0 ms         3  15.0 ms  15.0 ms
                                                    python  ████████████  100 %  of 1 track     ■ cudaStreamSynchronize     27.0 ms         3  9.00 ms  9.00 ms
                                                                                                ■ aten::linear              15.0 ms         3  10.0 ms  10.0 ms
                                                                                                ■ aten::addmm               15.0 ms         3  5.00 ms  5.00 ms
                                                                                                ■ Optimizer.step#SGD.step   3.00 ms         3  1.00 ms  1.00 ms
                                                                                                ■ cudaLaunchKernel          1.50 ms         3   500 us   500 us
    ");
    insta::assert_snapshot!(drawn(&state, LOOK, 80, 16), @r"
    range  300 ms                       busy                           details [i]
    from +1.100000 s, steps 11 to 14    gpu     █▊             15 %  of 1 track
    input         ████████████  100 %   cuda    █▏            9.5 %  of 1 track
                                        torch   █▍             11 %  of 1 track
                                        python  ████████████  100 %  of 1 track
                                        heaviest names                 SELF     CO…
                                        ■ data.py:20                 200 ms       …
                                        ■ train_step                 100 ms       …
                                        ■ gemm_kernel<float>        45.0 ms       …
                                        ■ cudaStreamSynchronize     27.0 ms       …
                                        ■ aten::linear              15.0 ms       …
                                        ■ aten::addmm               15.0 ms       …
                                        ■ Optimizer.step#SGD.step   3.00 ms       …
                                        ■ cudaLaunchKernel          1.50 ms       …
    ");
}

#[test]
fn the_table_sorts_and_jumps() {
    let mut state = judged(job());
    state.panel = Panel::Table;
    state.panel_focus = true;
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, LOOK, 160, 10), @r"
     NAME                                                                                        LAYER     COUNT    TOTAL    SELF▾      P50      P99      MAX  SHARE
    ■ data.py:20                                                                                python        20   1.22 s   1.22 s  60.0 ms  80.0 ms  80.0 ms   61 %
    ■ train_step                                                                                python        20   780 ms   780 ms  40.0 ms  40.0 ms  40.0 ms   39 %
    ■ gemm_kernel<float>                                                                           gpu        20   300 ms   300 ms  15.0 ms  15.0 ms  15.0 ms   15 %
    ■ cudaStreamSynchronize                                                                       cuda        20   180 ms   180 ms  9.00 ms  9.00 ms  9.00 ms  9.0 %
    ■ aten::linear                                                                               torch        20   200 ms   100 ms  10.0 ms  10.0 ms  10.0 ms  5.0 %
    ■ aten::addmm                                                                                torch        20   100 ms   100 ms  5.00 ms  5.00 ms  5.00 ms  5.0 %
    ■ Optimizer.step#SGD.step                                                                    torch        20  20.0 ms  20.0 ms  1.00 ms  1.00 ms  1.00 ms  1.0 %
    ■ cudaLaunchKernel                                                                            cuda        20  10.0 ms  10.0 ms   500 us   500 us   500 us  0.5 %
    ■ <module>                                                                                  python         1   2.00 s      0 s   2.00 s   2.00 s   2.00 s    0 %
    ");
    state.sort_panel(true);
    insta::assert_snapshot!(drawn(&state, LOOK, 80, 10), @r"
     NAME                  COUNT    TOTAL     SELF     P50▾      P99      MAX  SHARE
    ■ <module>                 1   2.00 s      0 s   2.00 s   2.00 s   2.00 s    0 %
    ■ load_batch              20   1.22 s      0 s  60.0 ms  80.0 ms  80.0 ms    0 %
    ■ data.py:20              20   1.22 s   1.22 s  60.0 ms  80.0 ms  80.0 ms   61 %
    ■ train_step              20   780 ms   780 ms  40.0 ms  40.0 ms  40.0 ms   39 %
    ■ gemm_ke…float>          20   300 ms   300 ms  15.0 ms  15.0 ms  15.0 ms   15 %
    ■ aten::linear            20   200 ms   100 ms  10.0 ms  10.0 ms  10.0 ms  5.0 %
    ■ cudaStr…ronize          20   180 ms   180 ms  9.00 ms  9.00 ms  9.00 ms  9.0 %
    ■ aten::addmm             20   100 ms   100 ms  5.00 ms  5.00 ms  5.00 ms  5.0 %
    ■ Optimiz…D.step          20  20.0 ms  20.0 ms  1.00 ms  1.00 ms  1.00 ms  1.0 %
    ");
    state.panel_row = state.table().0.iter().position(|row| state.scene.trace.text(row.name) == "load_batch").unwrap();
    state.panel_enter();
    assert_eq!(state.selected, Some(find(&state, "load_batch", 1200 * MS)), "the longest");
}

#[test]
fn the_flame_zooms_in_and_out() {
    let mut state = judged(job());
    state.panel = Panel::Flame;
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, LOOK, 160, 6), @r"
     <module> (train.py:1)  100 % 2.00 s, GIL held 61 %  of rank 0 · python3 812                                                                          flame [F]
    ▏<module>
    ▏load_batch                                                                                      ▏train_step
    ▏data.py:20
    ");
    state.panel_row = 1;
    insta::assert_snapshot!(drawn(&state, LOOK, 80, 6), @r"
     load_batch (data.py:17)  61 % 1.22 s, GIL held 100 %  of rank 0 · python3 812
    ▏<module>
    ▏load_batch                                     ▏train_step
    ▏data.py:20
    ");
    state.panel_enter();
    insta::assert_snapshot!(drawn(&state, Look { marks: Marks::Ascii, ..LOOK }, 80, 4), @r"
     load_batch (data.py:17)  61 % 1.22 s, GIL held 100 %  of rank 0 - python3 812
    |load_batch
    |data.py:20
    ");
    assert!(state.panel_back());
    assert_eq!(state.panel_row, 1);
    state.panel_side(true);
    assert_eq!(state.flame_words(state.flame_chosen().unwrap().0).split(' ').next(), Some("train_step"));
    assert!(state.panel_back() && !state.panel_back());
}

#[test]
fn the_verdict_leads_to_its_evidence() {
    let mut state = judged(job());
    state.panel = Panel::Verdict;
    finish(&mut state);
    insta::assert_snapshot!(drawn(&state, LOOK, 160, 12), @r"
    verdict
    input bound  100 % of the time, 91 % sure
    because  100 % of each step waits for or loads data in load_batch (data.py:17), called at train.py:41  → 60.0 ms
    because  load_batch (data.py:17) runs in the main thread: 100 % of the loading is in the Python interpreter  → 60.0 ms
    advice   the main thread loads its data itself at train.py:41: load in a background process or thread, or make load_batch (data.py:17), hottest at data.py:20
             faster
    warning  6 % of the events were lost: shares may be off
    lost     12 Python samples
    layer    nccl not there: no libnccl mapped
    ");
    insta::assert_snapshot!(drawn(&state, LOOK, 80, 20), @r"
    verdict
    input bound  100 % of the time, 91 % sure
    because  100 % of each step waits for or loads data in load_batch (data.py:17),
             called at train.py:41  → 60.0 ms
    because  load_batch (data.py:17) runs in the main thread: 100 % of the loading
             is in the Python interpreter  → 60.0 ms
    advice   the main thread loads its data itself at train.py:41: load in a
             background process or thread, or make load_batch (data.py:17), hottest
             at data.py:20 faster
    warning  6 % of the events were lost: shares may be off
    lost     12 Python samples
    layer    nccl not there: no libnccl mapped
    ");
    let lines = state.verdict_lines();
    let because = lines.iter().position(|line| line.text().starts_with("because")).unwrap();
    assert!(lines[because].jump.is_some());
    state.panel_row = because;
    state.panel_enter();
    assert_eq!(state.selected, lines[because].jump);
    assert!(state.panel_rows() > because);
}

#[test]
fn without_a_verdict_it_says_so() {
    let mut state = job().state(80, 24);
    state.panel = Panel::Verdict;
    assert!(drawn(&state, LOOK, 80, 4).contains("judging…"));
    state.panel = Panel::Details;
    assert!(drawn(&state, LOOK, 80, 4).contains("judging"));
}

proptest! {
    /// Whatever the portions, the statistics come out the same.
    #[test]
    fn portions_do_not_matter(portion in 1usize..400, from in 0u64..2000, length in 1u64..2000, panel in 0usize..4) {
        let recording = || {
            let mut state = job().state(80, 24);
            state.range = Some(Window::new(from * MS, (from + length) * MS));
            state.panel = [Panel::Details, Panel::Details, Panel::Table, Panel::Flame][panel];
            if panel == 1 {
                state.selected = Some(find(&state, "aten::addmm", 500 * MS));
            }
            state
        };
        let (mut slowly, mut at_once) = (recording(), recording());
        let mut frames = 0;
        while !slowly.advance_panel(portion) {
            frames += 1;
            prop_assert!(frames < 100_000);
        }
        prop_assert!(!at_once.advance_panel(usize::MAX));
        prop_assert!(at_once.advance_panel(usize::MAX));
        prop_assert_eq!(drawn(&slowly, LOOK, 160, 40), drawn(&at_once, LOOK, 160, 40));
    }

    /// No room is too small, whatever is shown and chosen.
    #[test]
    fn any_room_will_do(
        width in 0u16..200, height in 0u16..30, panel in 0usize..5, row in 0usize..60, ascii in any::<bool>(),
        colour in 0usize..4, chosen in any::<bool>(), work in 0usize..2000,
    ) {
        let mut state = judged(job());
        state.panel = [Panel::Details, Panel::Table, Panel::Flame, Panel::Verdict, Panel::Hidden][panel];
        (state.panel_row, state.panel_focus) = (row, true);
        state.selected = chosen.then(|| find(&state, "load_batch", 700 * MS));
        state.advance_panel(work);
        let look = Look {
            colors: [Colors::None, Colors::Sixteen, Colors::Indexed, Colors::True][colour],
            background: Background::Light,
            marks: if ascii { Marks::Ascii } else { Marks::Unicode },
        };
        let text = drawn(&state, look, width, height);
        prop_assert!(!ascii || text.is_ascii(), "{text}");
        state.panel_enter();
        state.panel_side(chosen);
        state.panel_back();
        drawn(&state, look, width, height);
    }
}

#[test]
fn a_click_chooses_what_is_drawn_there() {
    let mut state = judged(job());
    let area = Rect::new(3, 5, 120, 12);
    let at = |state: &State, x, y| super::row_at(state, area, Position::new(x, y));
    state.panel = Panel::Verdict;
    finish(&mut state);
    assert_eq!(
        [at(&state, 10, 6), at(&state, 10, 7), at(&state, 10, 5), at(&state, 1, 6)],
        [Some(0), Some(1), None, None]
    );
    state.panel = Panel::Table;
    finish(&mut state);
    assert_eq!([at(&state, 10, 6), at(&state, 10, 8), at(&state, 10, 16)], [Some(0), Some(2), None]);
    state.panel = Panel::Flame;
    finish(&mut state);
    let frame = |row: Option<usize>| row.and_then(|row| state.flame_order().get(row).copied()).map(|(f, _)| f);
    let words = |x, y| frame(at(&state, x, y)).map(|f| state.flame_words(f).split(' ').next().unwrap().to_owned());
    assert_eq!(words(50, 6).as_deref(), Some("<module>"));
    assert_eq!(words(10, 7).as_deref(), Some("load_batch"));
    assert_eq!(words(120, 7).as_deref(), Some("train_step"));
    state.selected = Some(find(&state, "load_batch", 0));
    state.panel = Panel::Details;
    finish(&mut state);
    assert_eq!(at(&state, 10, 6), Some(0));
    assert!(at(&state, 100, 6) > Some(4), "the second column goes on counting");
}

#[test]
fn a_comparison_is_shown_before_the_verdict() {
    let mut state = judged(job());
    let lines = vec!["step p50  +12 %".to_owned(), "bad \u{1b}[31m name".to_owned()];
    crate::tui::update(&mut state, crate::tui::Msg::Done(crate::tui::Outcome::Compared(lines)));
    let shown = drawn(&state, LOOK, 80, 6);
    assert!(shown.contains("step p50  +12 %\n bad ?[31m name"), "{shown}");
}

#[test]
fn a_capture_that_goes_on_keeps_its_last_answer() {
    let mut state = judged(job());
    state.live = Some(crate::tui::state::Live { follows: true, ..Default::default() });
    finish(&mut state);
    let before = drawn(&state, LOOK, 160, 12);
    assert!(!before.contains('…'), "{before}");
    // The view follows the edge; the answer stands for a while, then there is another.
    state.view = Window::new(1000 * MS, 2000 * MS);
    assert!(state.advance_panel(100));
    assert!(drawn(&state, LOOK, 160, 12).contains("heaviest names   "), "no mark of something unfinished");
    let mut frames = 0;
    while state.work.range_window() != Some(state.view) {
        state.advance_panel(100);
        frames += 1;
        assert!(frames < 500);
    }
    assert!(frames > 10);
    // Another question is answered at once.
    state.range = Some(Window::new(0, 100 * MS));
    state.advance_panel(100_000);
    assert_eq!(state.work.range_window(), state.range);
}
