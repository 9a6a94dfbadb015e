//! The `:` commands: one table, from which they are performed, completed and told.

use std::path::PathBuf;

use super::Effect;
use super::words::{nearest, parse_length};
use crate::trace::Layer;
use crate::tui::palette::{Background, Marks};
use crate::tui::scene::{NodeId, NodeKind, Window};
use crate::tui::state::{Filter, Mode, State};
use crate::view::human::count;

/// What a command comes to: effects, or for people what is wrong and what to type.
type Done = Result<Vec<Effect>, String>;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Other names, shorter or of other programs.
    pub also: &'static [&'static str],
    /// What comes behind it.
    pub usage: &'static str,
    /// What it does, for people.
    pub help: &'static str,
    run: fn(&mut State, &str) -> Done,
}

/// Every command there is.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    Command { name: "step", also: &[], usage: "N", help: "go to step N, counted from 1", run: step },
    Command { name: "rank", also: &[], usage: "N", help: "go to rank N's rows", run: rank },
    Command { name: "time", also: &["goto", "t"], usage: "T|+T|-T", help: "go to T after the start, or T on or back: 1.5s, +20ms", run: time },
    Command { name: "zoom", also: &["z"], usage: "T", help: "show a stretch of length T around the cursor", run: zoom },
    Command { name: "filter", also: &["f"], usage: "WHAT", help: "leave out: -LAYER +LAYER LAYER rank=N,N min=T off", run: filter },
    Command { name: "find", also: &["search"], usage: "REGEX", help: "search names and arguments, as / does", run: find },
    Command { name: "pin", also: &[], usage: "REGEX", help: "pin the tracks whose path matches", run: pin },
    Command { name: "diff", also: &["compare"], usage: "FILE", help: "compare with another recording", run: diff },
    Command { name: "export", also: &[], usage: "FILE", help: "write the screen, as .svg or .txt", run: export },
    Command { name: "w", also: &["write"], usage: "FILE", help: "cut the range, else the view, to a new recording", run: write },
    Command { name: "theme", also: &[], usage: "dark|light", help: "colours for a dark or a light terminal", run: theme },
    Command { name: "ascii", also: &[], usage: "on|off", help: "draw without Unicode", run: ascii },
    Command { name: "help", also: &["h"], usage: "", help: "keys and commands", run: help },
    Command { name: "quit", also: &["q", "q!", "exit"], usage: "", help: "leave the viewer", run: quit },
];

/// The command of a name, of another name of it, or of a start that no other has.
pub fn command_named(name: &str) -> Option<&'static Command> {
    let named = COMMANDS.iter().find(|command| command.name == name || command.also.contains(&name));
    named.or_else(|| {
        let mut starting = COMMANDS.iter().filter(|command| !name.is_empty() && command.name.starts_with(name));
        starting.next().filter(|_| starting.next().is_none())
    })
}

/// Performs a line.
pub(super) fn perform(state: &mut State, line: &str) -> Done {
    let line = line.trim().trim_start_matches(':').trim_start();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match command_named(name) {
        Some(command) => (command.run)(state, rest.trim()),
        None => {
            let hint = match nearest(name, COMMANDS.iter().map(|command| command.name)) {
                Some(near) => format!("did you mean {near}?"),
                None => "? lists all".to_owned(),
            };
            Err(format!("no command {name}; {hint}"))
        }
    }
}

/// What a word could be completed to, behind the words before it.
pub(super) fn completions(state: &State, before: &str, word: &str) -> Vec<String> {
    let fits = |text: &str| text.starts_with(word);
    let command = before.split_whitespace().next();
    let texts: Vec<String> = match command {
        None => COMMANDS.iter().map(|command| command.name.to_owned()).collect(),
        Some("filter" | "f") => {
            let sign = if word.starts_with(['-', '+']) { word.get(..1).unwrap_or("") } else { "" };
            let layers = state.layers().into_iter().map(|layer| format!("{sign}{}", layer.name()));
            let ranks = state.ranks().into_iter().filter(|_| word.starts_with('r')).map(|rank| format!("rank={rank}"));
            layers.chain(ranks).chain(["min=".to_owned(), "rank=".to_owned(), "off".to_owned()]).collect()
        }
        Some("rank") => state.ranks().into_iter().map(|rank| rank.to_string()).collect(),
        Some("theme") => vec!["dark".to_owned(), "light".to_owned()],
        Some("ascii") => vec!["on".to_owned(), "off".to_owned()],
        Some(_) => Vec::new(),
    };
    texts.into_iter().filter(|text| fits(text)).collect()
}

fn step(state: &mut State, rest: &str) -> Done {
    let steps = state.steps_here().map_or(0, |steps| steps.boundaries_ns.len() - 1);
    if steps == 0 {
        state.no_steps();
        return Ok(Vec::new());
    }
    let number = rest.parse().ok().filter(|number| (1..=steps).contains(number));
    let number = number.ok_or_else(|| format!("no step {rest:?}: there are steps 1 to {}", count(steps as u64)))?;
    state.go_to_step(number);
    if let Some(stretch) = state.step_window(number) {
        state.fit_to(stretch);
    }
    Ok(Vec::new())
}

fn rank(state: &mut State, rest: &str) -> Done {
    let ranks = state.ranks();
    let number: Option<u32> = rest.parse().ok();
    let Some(number) = number.filter(|number| ranks.contains(number)) else {
        return Err(match (ranks.first(), ranks.last()) {
            (Some(first), Some(last)) => format!("no rank {rest:?}: this recording has ranks {first} to {last}"),
            _ => "this recording names no ranks".to_owned(),
        });
    };
    let of_rank = |kind: NodeKind| match kind {
        NodeKind::Rank(rank) => rank == number,
        NodeKind::Process(p) => state.scene.trace.processes.get(p.0 as usize).is_some_and(|p| p.rank == Some(number)),
        _ => false,
    };
    let node = state.scene.tree.nodes.iter().position(|node| of_rank(node.kind));
    let node = node.ok_or_else(|| format!("nothing was recorded of rank {number}"))?;
    if !state.filter.ranks.is_empty() && state.filter.ranks.insert(number) {
        state.rebuild_lines();
    }
    state.go_to_node(NodeId(node as u32));
    Ok(Vec::new())
}

fn time(state: &mut State, rest: &str) -> Done {
    let bounds = state.bounds();
    let (sign, text) = match rest.chars().next() {
        Some(sign @ ('+' | '-')) => (sign, &rest[1..]),
        _ => (' ', rest),
    };
    let length = parse_length(text)?;
    let to = match sign {
        '+' => state.cursor_ns.saturating_add(length),
        '-' => state.cursor_ns.saturating_sub(length),
        _ => bounds.from_ns.saturating_add(length),
    };
    state.stop_following();
    let inside = to.clamp(bounds.from_ns, bounds.to_ns - 1);
    if inside != to {
        let all = crate::view::human::seconds(bounds.len_ns() as f64 / 1e9);
        state.say(format!("that is outside the recording, which is {all} long"));
    }
    state.reveal(Window::new(inside, inside.saturating_add(1)));
    state.set_cursor(inside);
    state.select_under_cursor();
    Ok(Vec::new())
}

fn zoom(state: &mut State, rest: &str) -> Done {
    let length = parse_length(rest)?.max(1);
    let from = state.cursor_ns.saturating_sub(length / 2);
    state.stop_following();
    state.show(Window::new(from, from.saturating_add(length)));
    Ok(Vec::new())
}

fn filter(state: &mut State, rest: &str) -> Done {
    if rest.is_empty() {
        state.say(state.filter_words());
        return Ok(Vec::new());
    }
    let mut filter = state.filter.clone();
    let mut only = false;
    let mut words = rest.split_whitespace().peekable();
    while let Some(word) = words.next() {
        if word == "off" {
            filter = Filter::default();
        } else if let Some(ranks) = word.strip_prefix("rank=").or_else(|| word.strip_prefix("ranks=")) {
            let all = state.ranks();
            filter.ranks.clear();
            for rank in ranks.split(',').filter(|rank| !matches!(*rank, "" | "all")) {
                let number = rank.parse().ok().filter(|number| all.contains(number));
                filter
                    .ranks
                    .insert(number.ok_or_else(|| format!("no rank {rank} in this recording; rank= shows all"))?);
            }
        } else if let Some(length) = word.strip_prefix("min=") {
            filter.min_ns = if length.is_empty() { 0 } else { parse_length(length)? };
        } else if word == "min" {
            filter.min_ns = parse_length(words.next().unwrap_or_default())?;
        } else if let Some(name) = word.strip_prefix('-') {
            filter.hidden.insert(layer(state, name)?);
        } else if let Some(name) = word.strip_prefix('+') {
            filter.hidden.remove(&layer(state, name)?);
        } else {
            // Bare names: these alone.
            let shown = layer(state, word)?;
            if !only {
                filter.hidden = Layer::ALL.into_iter().filter(|layer| *layer != Layer::Meta).collect();
                only = true;
            }
            filter.hidden.remove(&shown);
        }
    }
    state.set_filter(filter);
    Ok(Vec::new())
}

fn layer(state: &State, name: &str) -> Result<Layer, String> {
    let known = Layer::ALL.into_iter().find(|layer| *layer != Layer::Meta && layer.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = state.layers().into_iter().map(Layer::name).collect();
        match nearest(name, names.iter().copied()) {
            Some(near) => format!("no layer {name}; did you mean {near}?"),
            None => format!("no layer {name}; there are {}", names.join(", ")),
        }
    })
}

fn find(state: &mut State, rest: &str) -> Done {
    if rest.is_empty() {
        state.drop_search();
        return Ok(Vec::new());
    }
    state.search_for(rest)?;
    Ok(Vec::new())
}

fn pin(state: &mut State, rest: &str) -> Done {
    if rest.is_empty() {
        return Err("give an expression for the tracks to pin, such as pin torch; P unpins all".to_owned());
    }
    let regex = super::search::expression(rest)?;
    let matching = |id: &NodeId| regex.is_match(&state.node_path(*id));
    let tracks = state.scene.tree.nodes.iter().enumerate().filter(|(_, node)| matches!(node.kind, NodeKind::Track(_)));
    let found: Vec<NodeId> = tracks.map(|(i, _)| NodeId(i as u32)).filter(matching).take(MOST_PINNED + 1).collect();
    if found.is_empty() {
        return Err(format!("no track matches {rest}; Ctrl-P finds tracks by some of their letters"));
    }
    if found.len() > MOST_PINNED {
        return Err(format!("more than {MOST_PINNED} tracks match {rest}; narrow it"));
    }
    let before = state.pinned.len();
    for id in found {
        if !state.pinned.contains(&id) {
            state.pinned.push(id);
        }
    }
    let added = state.pinned.len() - before;
    state.relist_chosen();
    state.say(format!("{} pinned; P unpins all", crate::view::human::plural(added as u64, "track", "tracks")));
    Ok(Vec::new())
}

/// More pinned tracks than this leave no room for anything.
const MOST_PINNED: usize = 100;

fn path(rest: &str, example: &str) -> Result<PathBuf, String> {
    if rest.is_empty() { Err(format!("give a file, such as {example}")) } else { Ok(PathBuf::from(rest)) }
}

fn diff(_: &mut State, rest: &str) -> Done {
    Ok(vec![Effect::Diff { path: path(rest, "diff before.pftrace")? }])
}

fn export(_: &mut State, rest: &str) -> Done {
    Ok(vec![Effect::Export { path: path(rest, "export screen.svg")? }])
}

fn write(state: &mut State, rest: &str) -> Done {
    Ok(vec![Effect::Write { path: path(rest, "w part.pftrace")?, window: state.focus() }])
}

fn theme(_: &mut State, rest: &str) -> Done {
    match rest {
        "dark" => Ok(vec![Effect::Background(Background::Dark)]),
        "light" => Ok(vec![Effect::Background(Background::Light)]),
        _ => Err("theme dark, or theme light".to_owned()),
    }
}

fn ascii(_: &mut State, rest: &str) -> Done {
    match rest {
        "" | "on" => Ok(vec![Effect::Marks(Marks::Ascii)]),
        "off" => Ok(vec![Effect::Marks(Marks::Unicode)]),
        _ => Err("ascii on, or ascii off".to_owned()),
    }
}

fn help(state: &mut State, _: &str) -> Done {
    state.mode = Mode::Help(0);
    Ok(Vec::new())
}

fn quit(_: &mut State, _: &str) -> Done {
    Ok(vec![Effect::Quit])
}
