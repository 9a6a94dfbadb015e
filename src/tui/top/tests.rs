//! Messages in, frames out.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::state::TopState;
use super::update::{TopEffect, TopMsg};
use super::view;
use crate::metrics::jobs::{Owners, PodOwner};
use crate::metrics::testing::node;
use crate::tui::palette::{Background, Colors, Look, Marks};
use crate::tui::state::Size;

fn look() -> Look {
    Look { colors: Colors::None, background: Background::Dark, marks: Marks::Unicode }
}

fn frame(state: &TopState) -> String {
    let mut terminal = Terminal::new(TestBackend::new(state.size.columns, state.size.rows)).unwrap();
    terminal.draw(|frame| view::draw(state, look(), frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(usize::from(buffer.area.width));
    rows.map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
}

fn press(state: &mut TopState, keys: &str) -> Vec<TopEffect> {
    let code = |c| match c {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        c => KeyCode::Char(c),
    };
    keys.chars().flat_map(|c| state.update(TopMsg::Key(KeyEvent::new(code(c), KeyModifiers::NONE)))).collect()
}

fn fleet(columns: u16, rows: u16) -> TopState {
    let mut state = TopState::new("prod".to_owned(), false, Size { columns, rows });
    let mut nodes = vec![node("gpu-1", 4), node("gpu-2", 2), node("gpu-3", 0)];
    nodes[1].gpus[0].metrics.set(crate::metrics::Metric::XidLast, 79.0);
    nodes[2].blind = Some("its exporter did not answer within 5 s".to_owned());
    let owner = PodOwner { owner: Some("Job/train".to_owned()), gpus: 1 };
    let owners = Owners::from([(("team-a".to_owned(), "train-0".to_owned()), owner)]);
    state.update(TopMsg::Look(nodes, owners, "12:01:02".to_owned()));
    state
}

#[test]
fn a_fleet_at_80_columns() {
    assert_snapshot!(frame(&fleet(80, 14)), @r"
     aictl top  prod                                            12:01:02  every 2 s
     3 nodes   1 blind   6 GPUs   3 busy   258 GB/515 GB memory   2046 W power

     NODE   GPUS  BUSY  UTIL  LOAD        MEM  POWER  TEMP  STATE
    ▌gpu-1     4     2   45%  ████▌       50%  1364W   61C  ok
     gpu-2     2     1   45%  ████▌       50%   682W   61C  1 GPU with faults
     gpu-3     0     0     -                -      -     -  blind: its e… within 5 s






     Enter into  s sort: name  / filter  p profile  d diagnose  ? keys  q quit
    ");
}

#[test]
fn into_a_node_a_gpu_and_back() {
    let mut state = fleet(100, 24);
    press(&mut state, "\n");
    assert_snapshot!(frame(&state), @r"
     aictl top  prod › gpu-1                                                        12:01:02  every 2 s
     3 nodes   1 blind   6 GPUs   3 busy   258 GB/515 GB memory   2046 W power   ▄

     GPU  UTIL  LOAD        PAST                 MEMORY     POWER  TEMP  IDLE  FLAGS      OWNER
    ▌  0   90%  █████████                  ▇  42.9/86GB  612/700W   61C     -  power-cap  team-a/train-0
       1   90%  █████████                  ▇  42.9/86GB  612/700W   61C     -  power-cap  team-b/train-1
       2    0%                             ▁  42.9/86GB   70/700W   31C   20m  -          team-a/train-2
       3    0%                             ▁  42.9/86GB   70/700W   31C   20m  -          team-b/train-3















     Enter into  Esc back  s sort: name  / filter  p profile  d diagnose  l log  ? keys  q quit
    ");
    press(&mut state, "\n");
    let gpu = frame(&state);
    let said = gpu.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in ["› GPU 0", "load 90%", "power 612 W / 700 W", "slowed by power-cap", "model NVIDIA"] {
        assert!(said.contains(words), "{words}\n{gpu}");
    }
    let process = gpu.lines().find(|line| line.contains("4000")).unwrap();
    assert!(process.contains("88%") && process.contains("python") && process.contains("ada"), "{gpu}");
    press(&mut state, "\x1b\x1b");
    assert!(frame(&state).contains("gpu-3"), "{}", frame(&state));
}

#[test]
fn rows_are_sorted_and_filtered_and_the_chosen_one_stays() {
    let mut state = fleet(100, 24);
    press(&mut state, "a");
    let gpus = frame(&state);
    assert!(gpus.contains("all GPUs") && gpus.matches("team-").count() == 6, "{gpus}");
    press(&mut state, "/team-b\n");
    let filtered = frame(&state);
    assert!(filtered.matches("team-b").count() >= 3 && !filtered.contains("team-a"), "{filtered}");
    press(&mut state, "G");
    assert!(frame(&state).contains("▌gpu-2"), "{}", frame(&state));
    // Nothing passes: said, and nothing breaks.
    press(&mut state, "/zzz\n");
    assert!(frame(&state).contains("nothing passes the filter"), "{}", frame(&state));
    assert!(press(&mut state, "jkGg\np").is_empty());
    press(&mut state, "\x1b");
    assert_eq!(frame(&state).matches("team-").count(), 6);
    press(&mut state, "s");
    let sorted = frame(&state);
    let loads: Vec<&str> = sorted.lines().filter(|line| line.contains("train-")).collect();
    assert!(loads[0].contains("90%") && loads[5].contains("0%"), "{sorted}");
}

#[test]
fn one_key_asks_aictl_about_the_chosen_thing() {
    let mut state = fleet(100, 24);
    let run = |state: &mut TopState, keys: &str| match press(state, keys).as_slice() {
        [TopEffect::Run(arguments)] => arguments.join(" "),
        other => panic!("{other:?}\n{}", frame(state)),
    };
    assert_eq!(run(&mut state, "d"), "diagnose -- gpu-1");
    assert!(press(&mut state, "p").is_empty());
    assert!(frame(&state).contains("choose a GPU"));
    press(&mut state, "\n");
    assert_eq!(run(&mut state, "p"), "profile --live -n team-a pod/train-0");
    assert_eq!(run(&mut state, "l"), "queue logs -n team-a --tail 200 -- train");
    state.local = true;
    assert_eq!(run(&mut state, "p"), "profile --live --pid 4000");
    assert_eq!(run(&mut state, "d"), "diagnose --local");
    press(&mut state, "G");
    assert!(press(&mut state, "l").is_empty());
    assert!(frame(&state).contains("which job team-b/train-3 is of is not known"), "{}", frame(&state));
}

#[test]
fn every_size_and_key_draws_something() {
    for (columns, rows) in [(1, 1), (20, 6), (33, 8), (80, 24), (250, 60)] {
        let mut state = fleet(columns, rows);
        for keys in [
            "",
            "?",
            "\x1b",
            "\n",
            "\n",
            "jjj",
            "\x1b",
            "/é模型",
            "\n",
            "a",
            "s",
            " ",
            "G",
            "?jjjjjjjjjjjjjjjjjjjjjjjj",
        ] {
            press(&mut state, keys);
            frame(&state);
        }
    }
}

#[test]
fn a_held_screen_stays_and_history_is_bounded() {
    let mut state = fleet(80, 14);
    press(&mut state, " ");
    state.update(TopMsg::Look(Vec::new(), Owners::new(), "13:00:00".to_owned()));
    assert!(frame(&state).contains("gpu-1") && frame(&state).contains("paused"));
    press(&mut state, " ");
    for _ in 0..300 {
        state.update(TopMsg::Look(vec![node("gpu-1", 1)], Owners::new(), String::new()));
    }
    assert_eq!(state.past[&("gpu-1".to_owned(), 0)].load.len(), super::state::REMEMBERED);
    assert_eq!(state.past.len(), 1, "GPUs that are gone are forgotten");
}

#[test]
fn hostile_names_do_not_reach_the_terminal() {
    let mut state = TopState::new("h\u{1b}[2J".to_owned(), true, Size { columns: 90, rows: 20 });
    let mut hostile = node("n\u{1b}]0;x\u{7}", 1);
    hostile.gpus[0].pods[0].pod = "p\u{1b}[31m\u{202e}".to_owned();
    hostile.gpus[0].processes[0].name = Some("\u{1b}c\n".to_owned());
    state.update(TopMsg::Look(vec![hostile], Owners::new(), String::new()));
    for keys in ["", "\n", "\x1b", "a"] {
        press(&mut state, keys);
        let shown = frame(&state);
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()) && !shown.contains('\u{202e}'), "{shown:?}");
    }
}
