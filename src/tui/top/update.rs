//! The one way to change the state.

use std::collections::HashSet;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::keys::{Action, action};
use super::rows;
use super::state::{Key, Level, Mode, REMEMBERED, TopState};
use super::view;
use crate::metrics::jobs::Owners;
use crate::metrics::{Metric, NodeSample};
use crate::tui::state::Size;

/// What happened.
#[derive(Debug)]
pub enum TopMsg {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// The terminal has another size.
    Resize(Size),
    /// A look: nodes, which pods asked for how many GPUs, and when it was ("12:01:02").
    Look(Vec<NodeSample>, Owners, String),
    /// A look failed.
    Failed(String),
    /// Something to be said at the bottom.
    Said(String),
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopEffect {
    /// Leave.
    Quit,
    /// Stop, as Ctrl-Z does.
    Suspend,
    /// Draw all of it anew.
    Redraw,
    /// Look now, not only when it is time.
    Look,
    /// Run aictl itself with these arguments, the terminal being its own meanwhile.
    Run(Vec<String>),
}

impl TopState {
    /// Takes a message; returns what is to be done outside.
    pub fn update(&mut self, message: TopMsg) -> Vec<TopEffect> {
        match message {
            TopMsg::Key(key) => return self.key(key),
            TopMsg::Mouse(mouse) => self.mouse(mouse),
            TopMsg::Resize(size) => {
                self.size = size;
                self.settle();
            }
            TopMsg::Look(nodes, owners, at) => self.looked(nodes, owners, at),
            TopMsg::Failed(why) => self.message = Some((why, true)),
            TopMsg::Said(text) => self.message = Some((text, false)),
        }
        Vec::new()
    }

    fn looked(&mut self, nodes: Vec<NodeSample>, owners: Owners, at: String) {
        if self.paused {
            return;
        }
        let first = self.looks == 0;
        self.looks += 1;
        for node in &nodes {
            for gpu in &node.gpus {
                let past = self.past.entry((node.node.clone(), gpu.index)).or_default();
                let of = |metric| gpu.metrics.get(metric);
                let power = of(Metric::Power).zip(of(Metric::PowerLimit)).map(|(power, limit)| power / limit);
                for (ring, share) in [
                    (&mut past.load, of(Metric::Utilisation).map(|load| load / 100.0)),
                    (&mut past.memory, gpu.metrics.memory_share()),
                    (&mut past.power, power),
                ] {
                    ring.push_back(share.map(|share| share as f32));
                    if ring.len() > REMEMBERED {
                        ring.pop_front();
                    }
                }
            }
        }
        // GPUs that are gone are not remembered for ever.
        if self.looks.is_multiple_of(REMEMBERED as u64) {
            let there: HashSet<(&str, u32)> = nodes
                .iter()
                .flat_map(|node| node.gpus.iter().map(move |gpu| (node.node.as_str(), gpu.index)))
                .collect();
            self.past.retain(|(node, index), _| there.contains(&(node.as_str(), *index)));
        }
        let loads: Vec<f64> = nodes.iter().filter_map(rows::mean).collect();
        let mean = (!loads.is_empty()).then(|| (loads.iter().sum::<f64>() / loads.len() as f64 / 100.0) as f32);
        self.mean.push_back(mean);
        if self.mean.len() > REMEMBERED {
            self.mean.pop_front();
        }
        (self.nodes, self.owners, self.at) = (nodes, owners, at);
        if self.message.as_ref().is_some_and(|(_, bad)| *bad) {
            self.message = None;
        }
        // One node is no fleet.
        if first && self.nodes.len() == 1 {
            self.level = Level::Node(self.nodes[0].node.clone());
        }
        self.settle();
    }

    fn key(&mut self, key: KeyEvent) -> Vec<TopEffect> {
        match &mut self.mode {
            Mode::Help(top) => {
                match action(key) {
                    Some(Action::Down) => *top += 1,
                    Some(Action::Up) => *top = top.saturating_sub(1),
                    Some(Action::Quit | Action::Help | Action::Back | Action::Into) => self.mode = Mode::Browse,
                    Some(Action::Suspend) => return vec![TopEffect::Suspend],
                    _ => {}
                }
                Vec::new()
            }
            Mode::Filter(text) => {
                match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => self.mode = Mode::Browse,
                    KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
                    KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && !c.is_control() => {
                        text.push(c)
                    }
                    KeyCode::Backspace => drop(text.pop()),
                    KeyCode::Enter => {
                        self.mode = Mode::Browse;
                        return Vec::new();
                    }
                    KeyCode::Esc => {
                        self.filter.clear();
                        self.mode = Mode::Browse;
                    }
                    _ => {}
                }
                if let Mode::Filter(text) = &self.mode {
                    self.filter = text.to_lowercase().split_whitespace().map(str::to_owned).collect();
                }
                self.settle();
                Vec::new()
            }
            Mode::Browse => action(key).map_or_else(Vec::new, |action| self.act(action)),
        }
    }

    fn act(&mut self, action: Action) -> Vec<TopEffect> {
        self.message = None;
        let page = isize::try_from(view::room(self).saturating_sub(1).max(1)).unwrap_or(1);
        match action {
            Action::Down => self.step(1),
            Action::Up => self.step(-1),
            Action::PageDown => self.step(page),
            Action::PageUp => self.step(-page),
            Action::First => self.step(isize::MIN / 2),
            Action::Last => self.step(isize::MAX / 2),
            Action::Into => self.into(),
            Action::Back => self.back(),
            Action::AllGpus => {
                let level = if self.level == Level::Gpus { Level::Fleet } else { Level::Gpus };
                self.way.clear();
                self.go(level);
            }
            Action::Sort => {
                self.sort = self.sort.next();
                self.message = Some((format!("ordered by {}", self.sort.word()), false));
                self.top = 0;
                self.settle();
            }
            Action::Filter => self.mode = Mode::Filter(self.filter.join(" ")),
            Action::Pause => {
                self.paused = !self.paused;
                let words = if self.paused { "held still; Space goes on" } else { "going on" };
                self.message = Some((words.to_owned(), false));
            }
            Action::Look => return vec![TopEffect::Look],
            Action::Profile | Action::Diagnose | Action::Log => {
                return match self.command(action) {
                    Ok(arguments) => vec![TopEffect::Run(arguments)],
                    Err(why) => {
                        self.message = Some((why, true));
                        Vec::new()
                    }
                };
            }
            Action::Help => self.mode = Mode::Help(0),
            Action::Redraw => return vec![TopEffect::Redraw],
            Action::Suspend => return vec![TopEffect::Suspend],
            Action::Quit => return vec![TopEffect::Quit],
        }
        Vec::new()
    }

    /// What aictl is asked about the chosen row. Names of a cluster are arguments of a process, never
    /// words of a shell; one that begins with "-" is none.
    fn command(&self, action: Action) -> Result<Vec<String>, String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        if action == Action::Diagnose {
            if self.local {
                return Ok(words(&["diagnose", "--local"]));
            }
            let node = self.chosen_node().ok_or("no node is chosen")?;
            return Ok(words(&["diagnose", "--", node]));
        }
        let (_, gpu) = self.chosen_gpu().ok_or("choose a GPU or a process first: Enter goes into a node")?;
        let process = self.chosen_process();
        let pod = process.and_then(|process| process.pod.clone()).or_else(|| gpu.pods.first().cloned());
        let pod = pod.filter(|pod| !pod.pod.is_empty());
        if action == Action::Profile {
            return match (self.local, process, pod) {
                (true, Some(process), _) => Ok(words(&["profile", "--live", "--pid", &process.pid.to_string()])),
                (_, _, Some(pod)) => {
                    Ok(words(&["profile", "--live", "-n", &pod.namespace, &format!("pod/{}", pod.pod)]))
                }
                (true, None, None) => Err("no process is on this GPU".to_owned()),
                (false, ..) => Err("no pod is known to have this GPU".to_owned()),
            };
        }
        let slurm = process.and_then(|process| process.slurm_job);
        match (slurm, pod) {
            (Some(job), _) => Ok(words(&["queue", "logs", &job.to_string()])),
            (None, Some(pod)) => {
                let owner = self.owners.get(&(pod.namespace.clone(), pod.pod.clone()));
                let job = owner.and_then(|owner| owner.owner.as_deref()?.split_once('/')).map(|(_, name)| name);
                let job = job.ok_or_else(|| format!("which job {} is of is not known here", pod.shown()))?;
                Ok(words(&["queue", "logs", "-n", &pod.namespace, "--tail", "200", "--", job]))
            }
            (None, None) => Err("no job is known to have this GPU".to_owned()),
        }
    }

    fn into(&mut self) {
        let next = match (&self.level, &self.chosen) {
            (Level::Fleet, Some(Key::Node(node))) => Level::Node(node.clone()),
            (_, Some(Key::Gpu(node, index))) => Level::Gpu(node.clone(), *index),
            _ => return,
        };
        self.way.push((self.level.clone(), self.chosen.clone()));
        self.go(next);
    }

    fn back(&mut self) {
        if let Some((level, chosen)) = self.way.pop() {
            self.go(level);
            self.chosen = chosen;
            self.settle();
        } else if !self.filter.is_empty() {
            self.filter.clear();
            self.settle();
        } else if matches!(self.level, Level::Node(_)) && self.nodes.len() > 1 {
            self.go(Level::Fleet);
        }
    }

    fn go(&mut self, level: Level) {
        self.level = level;
        self.chosen = None;
        self.top = 0;
        self.settle();
    }

    fn step(&mut self, by: isize) {
        let keys = rows::keys(self);
        let Some(last) = keys.len().checked_sub(1) else { return };
        let at = self.chosen.as_ref().and_then(|chosen| keys.iter().position(|key| key == chosen)).unwrap_or(0);
        let next = at.saturating_add_signed(by).min(last);
        self.chosen = keys.get(next).cloned();
        self.settle();
    }

    /// Keeps a row chosen, and on the screen.
    fn settle(&mut self) {
        let keys = rows::keys(self);
        let at = self.chosen.as_ref().and_then(|chosen| keys.iter().position(|key| key == chosen));
        let at = at.unwrap_or_else(|| self.top.min(keys.len().saturating_sub(1)));
        self.chosen = keys.get(at).cloned();
        let room = view::room(self).max(1);
        self.top = self.top.clamp((at + 1).saturating_sub(room), at);
    }

    fn mouse(&mut self, mouse: MouseEvent) {
        match mouse.kind {
            MouseEventKind::ScrollDown => self.step(3),
            MouseEventKind::ScrollUp => self.step(-3),
            MouseEventKind::Down(MouseButton::Left) => {
                let first = view::first_row(self);
                let Some(row) = usize::from(mouse.row).checked_sub(first).filter(|row| *row < view::room(self)) else {
                    return;
                };
                let keys = rows::keys(self);
                let Some(key) = keys.get(self.top + row) else { return };
                // A second click goes in.
                if self.chosen.as_ref() == Some(key) { self.into() } else { self.chosen = Some(key.clone()) }
            }
            _ => {}
        }
    }
}
