//! What the user sees: plain data.

use std::collections::{HashMap, VecDeque};

use crate::metrics::jobs::Owners;
use crate::metrics::{GpuSample, Metric, NodeSample, ProcessSample};
use crate::tui::state::Size;

/// Looks that are remembered for sparklines.
pub(super) const REMEMBERED: usize = 120;

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By name and index.
    #[default]
    Name,
    /// By load.
    Utilisation,
    /// By memory in use.
    Memory,
    /// By power.
    Power,
    /// By temperature.
    Temperature,
    /// By time idle.
    Idle,
    /// By whose it is.
    Owner,
}

impl Sort {
    const ALL: [Sort; 7] =
        [Sort::Name, Sort::Utilisation, Sort::Memory, Sort::Power, Sort::Temperature, Sort::Idle, Sort::Owner];

    /// The next in turn.
    pub fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Utilisation => "load",
            Sort::Memory => "memory",
            Sort::Power => "power",
            Sort::Temperature => "temperature",
            Sort::Idle => "idle",
            Sort::Owner => "owner",
        }
    }

    /// What it orders GPUs by, largest first; `None` where words are ordered.
    pub(super) fn metric(self) -> Option<Metric> {
        Some(match self {
            Sort::Name | Sort::Owner => return None,
            Sort::Utilisation => Metric::Utilisation,
            Sort::Memory => Metric::MemoryUsed,
            Sort::Power => Metric::Power,
            Sort::Temperature => Metric::Temperature,
            Sort::Idle => Metric::Idle,
        })
    }
}

/// Where the user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    /// All nodes.
    Fleet,
    /// All GPUs of all nodes.
    Gpus,
    /// GPUs of a node.
    Node(String),
    /// A GPU, and the processes on it.
    Gpu(String, u32),
}

/// What a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Node(String),
    Gpu(String, u32),
    Process(u32),
}

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Browse,
    /// Typing a filter.
    Filter(String),
    /// The page of keys, scrolled down by so many lines.
    Help(u16),
}

/// Load, memory and power of a GPU over time, as shares of 1; absent where a look had none.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    pub load: VecDeque<Option<f32>>,
    pub memory: VecDeque<Option<f32>>,
    pub power: VecDeque<Option<f32>>,
}

/// Everything.
#[derive(Debug)]
pub struct TopState {
    /// Where it comes from, for the title: "gpu-17", "prod".
    pub source: String,
    /// Whether GPUs are this machine's, so that its processes can be profiled by number.
    pub local: bool,
    /// Seconds between two looks.
    pub interval_s: f64,
    /// The terminal.
    pub size: Size,
    /// Order of rows.
    pub sort: Sort,
    /// Lower-case words that rows must have.
    pub filter: Vec<String>,
    /// Only GPUs idle for longer, s.
    pub idle_s: Option<f64>,
    pub(super) nodes: Vec<NodeSample>,
    pub(super) owners: Owners,
    pub(super) past: HashMap<(String, u32), Past>,
    /// Mean load of all GPUs.
    pub(super) mean: VecDeque<Option<f32>>,
    pub(super) level: Level,
    pub(super) chosen: Option<Key>,
    /// Places on the way here.
    pub(super) way: Vec<(Level, Option<Key>)>,
    pub(super) top: usize,
    pub(super) mode: Mode,
    pub(super) message: Option<(String, bool)>,
    pub(super) paused: bool,
    pub(super) looks: u64,
    /// "12:01:02", of the last look.
    pub(super) at: String,
}

impl TopState {
    /// An empty screen.
    pub fn new(source: String, local: bool, size: Size) -> TopState {
        TopState {
            source,
            local,
            interval_s: 2.0,
            size,
            sort: Sort::default(),
            filter: Vec::new(),
            idle_s: None,
            nodes: Vec::new(),
            owners: Owners::new(),
            past: HashMap::new(),
            mean: VecDeque::new(),
            level: Level::Fleet,
            chosen: None,
            way: Vec::new(),
            top: 0,
            mode: Mode::Browse,
            message: None,
            paused: false,
            looks: 0,
            at: String::new(),
        }
    }

    pub(super) fn node(&self, name: &str) -> Option<&NodeSample> {
        self.nodes.iter().find(|node| node.node == name)
    }

    pub(super) fn gpu(&self, node: &str, index: u32) -> Option<&GpuSample> {
        self.node(node)?.gpus.iter().find(|gpu| gpu.index == index)
    }

    /// The chosen row's GPU, or the one that is looked into.
    pub(super) fn chosen_gpu(&self) -> Option<(&NodeSample, &GpuSample)> {
        let (node, index) = match (&self.chosen, &self.level) {
            (Some(Key::Gpu(node, index)), _) | (_, Level::Gpu(node, index)) => (node, *index),
            _ => return None,
        };
        Some((self.node(node)?, self.gpu(node, index)?))
    }

    /// The chosen process, else the one that holds most memory of the chosen GPU.
    pub(super) fn chosen_process(&self) -> Option<&ProcessSample> {
        let (_, gpu) = self.chosen_gpu()?;
        if let Some(Key::Process(pid)) = &self.chosen {
            return gpu.processes.iter().find(|process| process.pid == *pid);
        }
        let held = |process: &&ProcessSample| process.metrics.get(Metric::ProcessMemory).unwrap_or(0.0);
        gpu.processes.iter().max_by(|a, b| held(a).total_cmp(&held(b)))
    }

    /// The chosen row's node, or the one that is looked into.
    pub(super) fn chosen_node(&self) -> Option<&str> {
        match (&self.chosen, &self.level) {
            (Some(Key::Node(node) | Key::Gpu(node, _)), _) | (_, Level::Node(node) | Level::Gpu(node, _)) => Some(node),
            _ => None,
        }
    }
}
