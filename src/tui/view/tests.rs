//! Frames of small recordings, and what must hold for every frame.

use std::sync::Arc;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use regex::Regex;

use super::draw;
use crate::analyze::judge_steps;
use crate::trace::{ArgRef, CaptureMeta, Layer, LostEvents, Thinned, Trace};
use crate::tui::palette::{Background, Colors, Look, Marks};
use crate::tui::scene::{Scene, SliceRef, Window};
use crate::tui::snapshot;
use crate::tui::state::{Live, Panel, Scan, Search, Size, State};
use crate::tui::testing::{MS, Recording, two_ranks};

const PLAIN: Look = Look { colors: Colors::None, background: Background::Dark, marks: Marks::Unicode };
const ASCII: Look = Look { marks: Marks::Ascii, ..PLAIN };

/// The frame without its bottom line, which others test.
fn frame(state: &State, look: Look) -> String {
    let text = snapshot(state, look).text();
    let lines: Vec<&str> = text.lines().collect();
    lines[..lines.len().saturating_sub(1)].join("\n")
}

fn judged(recording: Recording, columns: u16, rows: u16) -> State {
    let trace = Arc::new(recording.trace());
    let (report, steps) = judge_steps(&trace);
    let mut scene = Scene::new(trace);
    scene.judged(report, steps);
    let mut state = State::new(scene, "two_ranks.pftrace", Size { columns, rows });
    state.panel = Panel::Hidden;
    state
}

/// A recording with everything that is marked.
fn marked() -> Recording {
    let at = (7, 7);
    let meta = CaptureMeta {
        started_at: "2026-05-04T10:20:30.250Z".to_owned(),
        end_ns: 100 * MS,
        lost: LostEvents { slices: 1234, ..LostEvents::default() },
        overhead_share: 0.012,
        thinned: vec![Thinned {
            probe: "torch".to_owned(),
            action: "detached".to_owned(),
            ts_ns: 55 * MS,
            hits_per_s: 9e5,
            cost_share: 0.2,
        }],
        ..CaptureMeta::default()
    };
    let mut recording = Recording::new().process(7, "train", None).thread(7, 7, "train");
    recording = recording
        .slice(at, Layer::Sched, "running", 0, 30 * MS)
        .slice(at, Layer::Sched, "futex", 30 * MS, 20 * MS)
        .slice(at, Layer::Sched, "preempted", 50 * MS, 10 * MS)
        .slice(at, Layer::Sched, "poll", 60 * MS, 40 * MS)
        .slice_with(at, Layer::Gpu, "sgemm_128x64", 5 * MS, 30 * MS, &[("estimate", ArgRef::U64(1))])
        .slice(at, Layer::Torch, "aten::linear", 0, 40 * MS)
        .slice(at, Layer::Torch, "aten::addmm", 2 * MS, 20 * MS)
        .slice(at, Layer::Torch, "aten::linear", 40 * MS, 25 * MS)
        .slice(at, Layer::Torch, "aten::relu", 70 * MS, 1)
        .begin(at, Layer::Python, "train_\u{1b}[31mstep\u{202e}", 20 * MS)
        .instant(at, "faults", "major_fault", 10 * MS)
        .instant(at, "faults", "major_fault", 80 * MS)
        .counter(7, "cpu", 0, 20.0)
        .counter(7, "cpu", 50 * MS, 180.0)
        .meta(&meta);
    for i in 0..400u64 {
        recording = recording.slice(at, Layer::Syscall, "read", 60 * MS + i * 100_000, 30_000 + 100 * i);
    }
    recording
}

#[test]
fn a_small_terminal_shows_the_whole_recording() {
    insta::assert_snapshot!(frame(&judged(two_ranks(), 80, 24), PLAIN), @r"
    two_ranks.pftrace · 800 ms · 2 ranks · 2 processes · 2 threads · 162 slices
    ✓ no single cause 43 % of step time (sure 64 %)  → no single cause stands out:…
    all 800 ms            ██████▃▆█████▅▄█████▇▂██████ ██████▃▃▄▆███▅▄█████▇▂██████
    time                 │0 ms         │200 ms        ▼400 ms       │600 ms
    steps of rank 0         │1      │2     │3     │4     │5      │6     │7     │
    ▾ rank 0 · python3 … ─cccrrr─cccrrrr─ccrrrr─cccrrr─cccrrr─cccrrrr─ccrrrr─cccrrr
     ▾ main thread       ─▌━▌━━━▌▌━━▌━━▌▌━━▌━━▌▌━━▌━━━─▌━▌━━━▌▌━━▌━━▌▌━━▌━━▌▌━━▌━━━
       nccl                 ▕━━━▏   ▐━━▍   ▐━━▋   ▕━━▉│  ▕━━━▏   ▐━━▍   ▐━━▋   ▕━━▉
       torch              ▐▌█    ▐▌━▎   ▐━▌▌   ▕━▌▊   │▐▌█    ▐▌━▎   ▐━▌▌   ▕━▌▊
                          ▐▌┊    ▐▊ ┊   ▐█ ┊   ▕━▎┊   │▐▌┊    ▐▊ ┊   ▐█ ┊   ▕━▎┊
       python            ┣<module>━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━800 ms
                         ┣train…▌train…▌train…▌train…▉┣train…▌train…▌train…▌train…▉
                         ━▌━█   ▐▌━━▎  ▐▌━━▌  ▕▌━━▊   ━▌━█   ▐▌━━▎  ▐▌━━▌  ▕▌━━▊
      cpu          ≤95 % ▄▄▄█████▄▄█████▄▄▄████▄▄▄████▄▄▄█████▄▄█████▄▄▄████▄▄▄████
    ▾ rank 1 · python3 … ─cccrrr─cccrrrr─ccrrrr─cccrrr─cccrrr────ccrr─ccrrrr─cccrrr
     ▾ main thread       ─▌━▌━━━▌▌━━▌━━▌▌━━▌━━▌▌━━▌━━━─▌━▌━━━▌──▌━━▌▌▌━━▌━━▌▌━━▌━━━
       nccl                 ▕━━━▏   ▐━━▍   ▐━━▋   ▕━━▉│  ▕━━━▏   ┊ ▐▍   ▐━━▋   ▕━━▉
       torch              ▐▌█    ▐▌━▎   ▐━▌▌   ▕━▌▊   │▐▌█      ▐▌━▍ ▐━▌▌   ▕━▌▊
                          ▐▌┊    ▐▊ ┊   ▐█ ┊   ▕━▎┊   │▐▌┊      ▐▉   ▐█ ┊   ▕━▎┊
       python            ┣<module>━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━800 ms
                         ┣train…▌train…▌train…▌train…▉┣train…▌train…▌train…▌train…▉
                         ━▌━█   ▐▌━━▎  ▐▌━━▌  ▕▌━━▊   ━▌━█   ▐━━▌━━▍▐▌━━▌  ▕▌━━▊
      cpu          ≤96 % ▄▄▄█████▄▄█████▄▄▄████▄▄▄████▄▄▄█████▄▄█████▄▄▄████▄▄▄████
    ");
}

#[test]
fn a_terminal_without_unicode_shows_the_same() {
    insta::assert_snapshot!(frame(&judged(two_ranks(), 80, 24), ASCII), @r"
    two_ranks.pftrace - 800 ms - 2 ranks - 2 processes - 2 threads - 162 slices
    = no single cause 43 % of step time (sure 64 %)  > no single cause stands out:~
    all 800 ms            ######:+#####+:######.###### ######:::+###+:######.######
    time                 |0 ms         |200 ms        v400 ms       |600 ms
    steps of rank 0         |1      |2     |3     |4     |5      |6     |7     |
    - rank 0 - python3 ~ -cccrrr-cccrrrr-ccrrrr-cccrrr-cccrrr-cccrrrr-ccrrrr-cccrrr
     - main thread       -|=|===||==|==||==|==||==|===-|=|===||==|==||==|==||==|===
       nccl                 |===|   #==|   #==#   |==#|  |===|   #==|   #==#   |==#
       torch              #|#    #|=|   |=||   |=|#   |#|#    #|=|   |=||   |=|#
                          #|:    ## :   |# :   |=|:   |#|:    ## :   |# :   |=|:
       python            [<module>===========================================800 ms
                         [train~|train~|train~|train~#[train~|train~|train~|train~#
                         =|=#   #|==|  ||==|  ||==#   =|=#   #|==|  ||==|  ||==#
      cpu          <95 % ---#####--#####---####---####---#####--#####---####---####
    - rank 1 - python3 ~ -cccrrr-cccrrrr-ccrrrr-cccrrr-cccrrr----ccrr-ccrrrr-cccrrr
     - main thread       -|=|===||==|==||==|==||==|===-|=|===|--|==|||==|==||==|===
       nccl                 |===|   #==|   #==#   |==#|  |===|   : #|   #==#   |==#
       torch              #|#    #|=|   |=||   |=|#   |#|#      ||=| |=||   |=|#
                          #|:    ## :   |# :   |=|:   |#|:      |#   |# :   |=|:
       python            [<module>===========================================800 ms
                         [train~|train~|train~|train~#[train~|train~|train~|train~#
                         =|=#   #|==|  ||==|  ||==#   =|=#   #==|==|||==|  ||==#
      cpu          <96 % ---#####--#####---####---####---#####--#####---####---####
    ");
}

#[test]
fn a_large_terminal_shows_names_and_lengths() {
    let mut state = judged(two_ranks(), 160, 32);
    state.view = Window::new(480 * MS, 620 * MS);
    state.cursor_ns = 555 * MS;
    insta::assert_snapshot!(frame(&state, PLAIN), @r"
    two_ranks.pftrace · 140 ms / 800 ms · 2 ranks · 2 processes · 2 threads · 162 slices
    ✓ no single cause 43 % of step time (sure 64 %)  → no single cause stands out: start with the largest part, communicating with other ranks, and expect small g…
    all 800 ms                             ▄████████████   ████████████▁  ████████████▅  █████████████  ▄█████████▐██       ████████▁  ▌███████████▅  █████████████
                                           █████████████▅ ██████████████ ▄█████████████  █████████████  ██████████▐██▅ ▄█████████████ ▄▌████████████  █████████████
    time                                 │480 ms          │500 ms          │520 ms           │540 ms      ▼555.0 ms             │580 ms          │600 ms
    steps of rank 0                       5                                                               │6
    ▾ rank 0 · python3 100               rrrrrrrrrrrrrrrrr──────────────ccccccccccccccccccccccccccccccccccrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr─────────────cccc
     ▾ main thread                       socket━━━━45.0 ms▌poll────────▌running━━━━━━━━━━━━━━━━━━━━40.0 ms▌socket━━━━━━━━━━━━━━━━━━━━━━━━━45.0 ms▌poll────────▌run…
       nccl                              gloo::allreduce━▌                                                ▐gloo::allreduce━━━━━━━━━━━━━━━44.0 ms▊
       torch                                                           ▐aten::linear━━━━▌autograd::AddmmB…▍                                                   ▐ate…
                                                                        ▐aten::addmm━━━━▏                 │                                                    ▐━━━
       python                            <module>━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━800 ms
                                         train_step━━━━━━▌▐train_step━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━99.0 ms▊▐train_step━━━━━━━
                                                          ▐load_batch━━▌forward━━━━━━━━━━━━━━━━━━━━40.0 ms▍                                      ▐load_batch━━▌for…
      cpu                          ≤95 % ██████████████████▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄████████████████████████████████████████████▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
    ▾ rank 1 · python3 101               rrrrrrrrrrrrrrrrr────────────────────────────────────────cccccccccccccccccccccccccccccccccccrrrrrrrrrrrrr─────────────cccc
     ▾ main thread                       socket━━━━45.0 ms▌poll───────────────────────────45.0 ms▌running━━━━━━━━━━━━━━━━━━━━40.0 ms▌socket━━━━━━▌poll────────▌run…
       nccl                              gloo::allreduce━▌                                                │                         ▐gloo::allr…▊
       torch                                                                                     ▐aten::linear━━━━━▌autograd::Addmm…▌                         ▐ate…
                                                                                                  ▐aten::addmm━━━━▎                                            ▐━━━
       python                            <module>━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━800 ms
                                         train_step━━━━━━▌▐train_step━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━99.0 ms▊▐train_step━━━━━━━
                                                          ▐load_batch━━━━━━━━━━━━━━━━━━━━━45.0 ms▌forward━━━━━━━━━━━━━━━━━━━━40.0 ms▌            ▐load_batch━━▌for…
      cpu                          ≤96 % ██████████████████▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄████████████████████████████████████████████▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄
                                                                                                          │
                                                                                                          │
                                                                                                          │
                                                                                                          │
                                                                                                          │
                                                                                                          │
                                                                                                          │
    ");
}

#[test]
fn a_tiny_terminal_shows_the_rows() {
    insta::assert_snapshot!(frame(&judged(two_ranks(), 40, 8), PLAIN), @r"
    two_ranks.pftrace · 800 ms · 2 ranks
    time        │0 ms        ▼400 ms
    ▾ rank 0 ·… ─cr─crrccr─crrcrrccr─crrcrr
     ▾ main th… ▌▌━▄━▌▌▌▌━▄▌━▌▌▌▌▌▌━▄━▌▌▌▌━
       nccl      ▕━▍ ▐▊ ▐━▏▕━▌ ▐▉ ▕━▎ ▐▋ ▐█
       torch    ▐▆ ▕▌▎ ▆▋ ▐▇ │▇▍ ▐▆ ▕▌▏ ▇▌
                ▐▏ ▕▌  ▋  ▐▎ │▋  ▐▏ ▕▍  ▋
    ");
}

#[test]
fn estimates_losses_and_what_never_ended_are_marked() {
    let mut state = marked().state(100, 24);
    state.panel = Panel::Hidden;
    insta::assert_snapshot!(frame(&state, PLAIN), @r"
    test.pftrace · 100 ms · 1 process · 1 thread · 410 slices    lost 1,234  thinned 1  overhead 1.2 %
    judging…
    all 100 ms              █████████████████████████████████████████×███
    10:20:30.250            │0 ms          │20 ms         │40 ms ▼50.0 ms               │80 ms
    ▾ train 7        ≤180 % ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁██████████████████████████████████████
     ▾ main thread          ┣running━━━━━━━30.0 ms▌futex╍╍╍╍╍╍╍╍╍▌preemp…poll───────────────────40.0 ms
       gpu                     ╱sgemm_128x64╱╱╱╱╱╱╱╱╱╱╱          │
       torch                ┣aten::linear━━━━━━━━━━40.0 ms┣aten::linear━━━━━▊   ▏
                             ▐aten::addmm━━━▌                    │
       python                              ┣train_?[31mstep?━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━80.0 ms▓▒░
       syscall                                                   │       ▃▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▅
       faults                      ◆ major_fault                 │                      ◆ major_fault
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
                                                                 │
    ");
    insta::assert_snapshot!(frame(&state, ASCII), @r"
    test.pftrace - 100 ms - 1 process - 1 thread - 410 slices    lost 1,234  thinned 1  overhead 1.2 %
    judging...
    all 100 ms              #########################################x###
    10:20:30.250            |0 ms          |20 ms         |40 ms v50.0 ms               |80 ms
    - train 7        <180 % _____________________________________######################################
     - main thread          [running=======30.0 ms|futex~~~~~~~~~|preemp~poll-------------------40.0 ms
       gpu                     /sgemm_128x64///////////          |
       torch                [aten::linear==========40.0 ms[aten::linear=====#   |
                             |aten::addmm===#                    |
       python                              [train_?[31mstep?===================================80.0 ms>
       syscall                                                   |       :::::::::::::::+++++++++++++++
       faults                      * major_fault                 |                      * major_fault
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
                                                                 |
    ");
}

#[test]
fn zoomed_to_a_nanosecond_every_cell_is_the_slice() {
    let mut state = marked().state(80, 24);
    state.panel = Panel::Hidden;
    state.view = Window::new(70 * MS, 70 * MS + 1);
    state.cursor_ns = 70 * MS;
    let text = frame(&state, PLAIN);
    assert!(text.lines().any(|line| line.contains("aten::relu━━━")), "{text}");
}

fn buffer_of(state: &State, look: Look) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(state.size.columns, state.size.rows)).unwrap();
    terminal.draw(|frame| draw(state, look, frame)).unwrap().buffer.clone()
}

/// Names as a hostile recording may hold them.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z:_.]{0,40}",
        any::<String>(),
        Just("\u{1b}]0;owned\u{7}".to_owned()),
        Just("模型训练的一步".to_owned()),
        Just("\u{202e}gnp.exe\u{200b}\u{feff}".to_owned()),
        Just("👩‍👩‍👧‍👦e\u{301}\u{1f1e9}\u{1f1ea}".to_owned()),
    ]
}

fn recordings() -> impl Strategy<Value = Trace> {
    let slice = (0..3u32, 0..Layer::ALL.len(), names(), 0..5000u64, 0..900u64, any::<bool>());
    (prop::collection::vec(slice, 0..40), names(), any::<bool>()).prop_map(|(slices, name, rank)| {
        let mut recording =
            Recording::new().process(1, &name, rank.then_some(3)).process(2, "b", rank.then_some(u32::MAX));
        for (who, layer, name, start, length, estimate) in slices {
            let at = (1 + who / 2, 1 + who);
            let args = [("estimate", ArgRef::U64(1))];
            let args = if estimate { &args[..] } else { &[] };
            recording = recording.slice_with(at, Layer::ALL[layer], &name, start, length, args);
            if length == 7 {
                recording = recording.begin(at, Layer::Torch, &name, start).instant(at, "faults", &name, start);
            }
            if length.is_multiple_of(5) {
                recording =
                    recording.counter(1, &name, start, f64::from(length as u32) * if estimate { -1.0 } else { 1e300 });
            }
        }
        recording.trace()
    })
}

fn looks() -> impl Strategy<Value = Look> {
    let colors = prop_oneof![Just(Colors::None), Just(Colors::Sixteen), Just(Colors::Indexed), Just(Colors::True)];
    let background = prop_oneof![Just(Background::Dark), Just(Background::Light)];
    let marks = prop_oneof![Just(Marks::Unicode), Just(Marks::Ascii)];
    (colors, background, marks).prop_map(|(colors, background, marks)| Look { colors, background, marks })
}

/// A state of any kind over a recording.
fn states() -> impl Strategy<Value = State> {
    let numbers = (0..6000u64, 1..6000u64, 0..6000u64, 0..40u32, 0..40usize, 0..6usize);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (recordings(), 0..=200u16, 0..=60u16, numbers, switches).prop_map(|(trace, columns, rows, n, on)| {
        let (from, length, moment, index, line, panel) = n;
        let trace = Arc::new(trace);
        let (report, steps) = judge_steps(&trace);
        let mut scene = Scene::new(trace);
        if on.0 {
            scene.judged(report, steps);
        }
        let mut state = State::new(scene, "t\u{1b}[2J", Size { columns, rows });
        let bounds = state.bounds();
        let inside = |ts: u64| bounds.from_ns + ts % bounds.len_ns();
        let from = inside(from);
        state.view = Window::new(from, from.saturating_add(length).min(bounds.to_ns));
        state.cursor_ns = inside(moment);
        let tracks = state.scene.trace.tracks.len().max(1) as u32;
        let at = SliceRef { track: crate::trace::TrackId(index % tracks), index: index / 3 };
        state.selected = on.1.then_some(at);
        state.range = on.2.then(|| Window::new(inside(moment), inside(moment).saturating_add(length)));
        if on.3 {
            let scan = Scan::new(Regex::new("x").unwrap(), 0, None);
            state.search = Some(Search { pattern: "(".to_owned(), hits: vec![at], more: true, scan });
            state.live = Some(Live { follows: on.1, ended: on.2, events: length, lost: moment, ..Live::default() });
            state.expanded = (0..50).map(crate::tui::scene::NodeId).collect();
            state.folded.clear();
            state.pinned = vec![crate::tui::scene::NodeId(index)];
            state.rebuild_lines();
        }
        state.line = line.min(state.lines.len().saturating_sub(1));
        state.top = line / 2;
        state.panel =
            [Panel::Details, Panel::Flame, Panel::Table, Panel::Verdict, Panel::Hidden, Panel::Details][panel];
        state
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_is_drawn_at_any_size(state in states(), look in looks()) {
        let buffer = buffer_of(&state, look);
        for cell in &buffer.content {
            let text = cell.symbol();
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            prop_assert!(crate::view::text::plain(text) == text || text.chars().count() > 1, "{text:?}");
            if look.marks == Marks::Ascii {
                prop_assert!(text.is_ascii(), "{text:?}");
            }
            if look.colors == Colors::None {
                prop_assert_eq!((cell.fg, cell.bg), (ratatui::style::Color::Reset, ratatui::style::Color::Reset));
            }
        }
        let picture = snapshot(&state, look);
        let svg = picture.svg();
        prop_assert!(svg.ends_with("</svg>\n"));
        prop_assert!(!svg.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert_eq!(picture.text().lines().count(), usize::from(state.size.rows) * usize::from(state.size.columns > 0));
    }

    /// Nothing that happened is drawn as nothing.
    #[test]
    fn every_slice_is_seen(trace in recordings(), columns in 31..180u16) {
        let mut state = State::new(Scene::new(Arc::new(trace)), "t", Size { columns, rows: 60 });
        state.panel = Panel::Hidden;
        state.folded.clear();
        state.expanded = (0..state.scene.tree.nodes.len() as u32).map(crate::tui::scene::NodeId).collect();
        state.rebuild_lines();
        let buffer = buffer_of(&state, ASCII);
        let area = super::areas(&state, buffer.area);
        for (row, y) in (area.body.top()..area.body.bottom()).enumerate() {
            let line = state.line_on_row(row, area.body.height.into()).and_then(|at| state.lines.get(at));
            let Some(crate::tui::state::LineKind::Depth(track, depth)) = line.map(|line| line.kind) else { continue };
            let (index, data) = (&state.scene.index[track.0 as usize], &state.scene.trace.tracks[track.0 as usize]);
            for &at in index.row(depth.into()) {
                let start = data.slices[at as usize].start_ns;
                let column = super::layout::column_of(&state, start.min(state.view.to_ns - 1), area.body.width).unwrap();
                let cell = &buffer[(area.body.x + column, y)];
                // A slice wider than a column is a ground that its name stands on.
                prop_assert!(cell.symbol() != " " || cell.bg != ratatui::style::Color::Reset, "{cell:?}");
            }
        }
    }
}
