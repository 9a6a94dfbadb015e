//! Frames of a stretch of time merged by call path: where a thread's, or a process's, time went.

use rustc_hash::FxHashMap;

use super::walk::{Visible, Walk};
use super::work::Run;
use crate::trace::{Arg, Layer, Parent, StrId, Trace, TrackId};
use crate::tui::scene::{NodeId, NodeKind, Scene, SliceRef, Window};
use crate::tui::state::{LineKind, State};

/// More paths than this are not told apart: the others count for their callers.
const MOST_FRAMES: usize = 200_000;

/// What a frame is, apart from who called it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameKey {
    /// Function, operator, or line ("train.py:42").
    pub name: StrId,
    /// Source file; 0 if unknown.
    pub file: StrId,
}

/// One call path's last frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What it is.
    pub key: FrameKey,
    /// Its caller; `None` at the top.
    pub parent: Option<usize>,
    /// First line of the function, or the line itself; 0 if unknown.
    pub line: u64,
    /// Library that ran below it, where it is one line's; 0 if none.
    pub native: StrId,
    /// Time in it and in what it called, in ns.
    pub total_ns: u64,
    /// Time in it alone, in ns.
    pub self_ns: u64,
    /// Part of the time in which the thread was seen to hold the GIL, in ns.
    pub gil_ns: u64,
    /// Slices.
    pub count: u64,
    /// The longest of them.
    pub longest: SliceRef,
    /// Its length.
    pub longest_ns: u64,
    /// What it called, the most time first once the work is whole.
    pub children: Vec<usize>,
}

/// Which tracks are merged, and what to call them.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// Their layer.
    pub layer: Layer,
    /// The tracks.
    pub tracks: Vec<TrackId>,
    /// Whose they are: "python3 812", "all 4 threads of python3 812".
    pub of: String,
}

/// The frames of a stretch, as far as they are merged.
#[derive(Debug, Clone)]
pub struct FlameRun {
    /// Which tracks.
    pub scope: Scope,
    /// The stretch.
    pub window: Window,
    /// All frames; callers before callees.
    pub frames: Vec<Frame>,
    /// Frames without a caller.
    pub roots: Vec<usize>,
    /// Time in all roots, in ns.
    pub total_ns: u64,
    paths: FxHashMap<(usize, FrameKey), usize>,
    walk: Walk<usize>,
    keys: Keys,
    sorted: bool,
}

#[derive(Debug, Clone, Copy)]
struct Keys {
    file: Option<StrId>,
    line: Option<StrId>,
    native: Option<StrId>,
    gil: Option<StrId>,
}

/// No caller.
const TOP: usize = usize::MAX;

impl FlameRun {
    /// A frame by its path of names and files.
    pub fn find(&self, path: &[(StrId, StrId)]) -> Option<usize> {
        let mut at = TOP;
        for (name, file) in path {
            at = *self.paths.get(&(at, FrameKey { name: *name, file: *file }))?;
        }
        (at != TOP).then_some(at)
    }

    /// The path of a frame, from the top.
    pub fn path(&self, frame: usize) -> Vec<(StrId, StrId)> {
        let mut path = Vec::new();
        let mut at = Some(frame);
        while let Some(frame) = at.and_then(|at| self.frames.get(at)) {
            path.push((frame.key.name, frame.key.file));
            at = frame.parent;
        }
        path.reverse();
        path
    }

    /// Children of a frame (of none: the roots), the most time first.
    pub fn children(&self, frame: Option<usize>) -> Vec<usize> {
        let mut children = match frame {
            None => self.roots.clone(),
            Some(frame) => self.frames.get(frame).map(|f| f.children.clone()).unwrap_or_default(),
        };
        if !self.sorted {
            self.sort(&mut children);
        }
        children
    }

    fn sort(&self, frames: &mut [usize]) {
        frames.sort_by_key(|f| (std::cmp::Reverse(self.frames[*f].total_ns), *f));
    }
}

impl Run for FlameRun {
    type About = Scope;
    type Stamp = (Window, u64);

    fn start(scene: &Scene, scope: &Scope, (window, _): &(Window, u64)) -> FlameRun {
        let find = |key| scene.trace.strings.find(key);
        FlameRun {
            scope: scope.clone(),
            window: *window,
            frames: Vec::new(),
            roots: Vec::new(),
            total_ns: 0,
            paths: FxHashMap::default(),
            walk: Walk::new(*window, Visible::Tracks(scope.tracks.clone())),
            keys: Keys { file: find("file"), line: find("line"), native: find("native"), gil: find("gil") },
            sorted: false,
        }
    }

    fn advance(&mut self, scene: &Scene, left: &mut usize) -> bool {
        let FlameRun { frames, roots, total_ns, paths, walk, keys, .. } = self;
        let whole = walk.advance(scene, left, |_, met, open, _| {
            let met = met?;
            let mut found = Found::default();
            found.read(&scene.trace, keys, met.slice.args);
            let key = FrameKey { name: met.slice.name, file: found.file };
            let parent = open.last().map_or(TOP, |(_, frame)| *frame);
            let full = frames.len() >= MOST_FRAMES;
            let frame = match paths.get(&(parent, key)) {
                Some(frame) => *frame,
                None if full && parent != TOP => return Some(parent),
                None => {
                    let frame = frames.len();
                    paths.insert((parent, key), frame);
                    frames.push(Frame {
                        key,
                        parent: (parent != TOP).then_some(parent),
                        line: found.line,
                        native: found.native,
                        total_ns: 0,
                        self_ns: 0,
                        gil_ns: 0,
                        count: 0,
                        longest: met.at,
                        longest_ns: 0,
                        children: Vec::new(),
                    });
                    match frames.get_mut(parent) {
                        Some(caller) => caller.children.push(frame),
                        None => roots.push(frame),
                    }
                    frame
                }
            };
            match frames.get_mut(parent) {
                Some(caller) => caller.self_ns = caller.self_ns.saturating_sub(met.inside_ns),
                None => *total_ns += met.inside_ns,
            }
            let entry = &mut frames[frame];
            entry.total_ns += met.inside_ns;
            entry.self_ns += met.inside_ns;
            entry.count += 1;
            if entry.count == 1 || met.slice.dur_ns > entry.longest_ns {
                (entry.longest, entry.longest_ns) = (met.at, met.slice.dur_ns);
            }
            if entry.native == StrId(0) {
                entry.native = found.native;
            }
            if found.gil {
                entry.gil_ns += met.inside_ns;
                for (_, outer) in open.iter() {
                    frames[*outer].gil_ns += met.inside_ns;
                }
            }
            Some(frame)
        });
        if whole && !self.sorted {
            for frame in 0..self.frames.len() {
                let mut children = std::mem::take(&mut self.frames[frame].children);
                self.sort(&mut children);
                self.frames[frame].children = children;
            }
            let mut roots = std::mem::take(&mut self.roots);
            self.sort(&mut roots);
            (self.roots, self.sorted) = (roots, true);
        }
        whole
    }
}

#[derive(Default)]
struct Found {
    file: StrId,
    line: u64,
    native: StrId,
    gil: bool,
}

impl Found {
    fn read(&mut self, trace: &Trace, keys: &Keys, args: crate::trace::ArgsId) {
        for (key, value) in trace.args.run(args) {
            let key = Some(key);
            match value {
                Arg::Str(text) if key == keys.file => self.file = text,
                Arg::Str(text) if key == keys.native => self.native = text,
                Arg::U64(n) if key == keys.line => self.line = n,
                Arg::I64(n) if key == keys.line => self.line = n.max(0) as u64,
                Arg::U64(n) if key == keys.gil => self.gil = n > 0,
                _ => {}
            }
        }
    }
}

impl State {
    /// Which tracks the flame is about: Python of the chosen line's thread (of all threads, on the
    /// line of a process), else its operators, else the line's own track.
    pub fn flame_scope(&self) -> Scope {
        let trace = &self.scene.trace;
        let line = self.lines.get(self.line);
        let kind = line.and_then(|l| self.scene.tree.get(l.node)).map(|n| n.kind);
        let own = match line.map(|l| l.kind) {
            Some(LineKind::Depth(track, _)) => Some(track),
            _ => None,
        };
        let within = |parent: Parent| match (kind, parent) {
            (Some(NodeKind::Thread(thread)), Parent::Thread(other)) => thread == other,
            (Some(NodeKind::Track(track)), Parent::Thread(_)) => {
                trace.tracks.get(track.0 as usize).is_some_and(|t| t.parent == parent)
            }
            (Some(NodeKind::Track(track)), Parent::Process(process)) => self.scene.process_of(track) == Some(process),
            (Some(NodeKind::Process(process) | NodeKind::Idle(process)), _) => {
                self.process_is(parent, process.0 as usize)
            }
            (Some(NodeKind::Rank(rank)), _) => {
                let process = match parent {
                    Parent::Global => None,
                    Parent::Process(process) => Some(process),
                    Parent::Thread(thread) => trace.threads.get(thread.0 as usize).map(|t| t.process),
                };
                process.and_then(|p| trace.processes.get(p.0 as usize)).is_some_and(|p| p.rank == Some(rank))
            }
            (None, _) => true,
            _ => false,
        };
        let of_layer = |layer: Layer| -> Vec<TrackId> {
            let tracks = trace.tracks.iter().enumerate();
            let mut here: Vec<(usize, &crate::trace::Track)> =
                tracks.filter(|(_, t)| t.layer == layer && !t.slices.is_empty() && within(t.parent)).collect();
            here.sort_by_key(|(i, t)| (std::cmp::Reverse(t.slices.len()), *i));
            here.into_iter().map(|(i, _)| TrackId(i as u32)).collect()
        };
        let (layer, tracks) = match [Layer::Python, Layer::Torch].map(|layer| (layer, of_layer(layer))) {
            [(layer, python), _] if !python.is_empty() => (layer, python),
            [_, (layer, torch)] if !torch.is_empty() => (layer, torch),
            _ => match own.and_then(|track| Some((trace.tracks.get(track.0 as usize)?.layer, track))) {
                Some((layer, track)) => (layer, vec![track]),
                None => (Layer::Python, Vec::new()),
            },
        };
        let of = self.scope_words(line.map(|l| l.node), kind, tracks.len());
        Scope { layer, tracks, of }
    }

    fn process_is(&self, parent: Parent, process: usize) -> bool {
        match parent {
            Parent::Global => false,
            Parent::Process(p) => p.0 as usize == process,
            Parent::Thread(t) => {
                self.scene.trace.threads.get(t.0 as usize).is_some_and(|t| t.process.0 as usize == process)
            }
        }
    }

    fn scope_words(&self, node: Option<NodeId>, kind: Option<NodeKind>, tracks: usize) -> String {
        let label = |id: Option<NodeId>| id.and_then(|id| self.scene.tree.get(id)).map_or("", |n| n.label.as_str());
        match kind {
            Some(NodeKind::Track(_)) => {
                let above = node.and_then(|id| self.scene.tree.get(id)).and_then(|n| n.parent);
                let owner = label(above);
                if owner.is_empty() { label(node).to_owned() } else { owner.to_owned() }
            }
            Some(NodeKind::Thread(_)) => label(node).to_owned(),
            Some(_) if tracks != 1 => format!("{tracks} threads of {}", label(node)),
            Some(_) => label(node).to_owned(),
            None => "all".to_owned(),
        }
    }
}
