//! PyTorch's operators, backward nodes and profiler scopes, and gloo's collectives: attaching,
//! naming, thinning.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::Group;
use super::torch::{COLLECTIVES, Mark, OperatorNames, Point, Role, TorchScan, collective_name};
use crate::profile::multi::{self, Multi, Place};
use crate::profile::options::Layers;
use crate::trace::Layer;

// Ids of uprobes.bpf.c.
const ID_RARE: u32 = OperatorNames::MOST as u32;
const ID_WORK: u32 = 8180;
const ID_WAIT: u32 = 8181;
const ID_BACKWARD: u32 = 8188;
const ID_NODE: u32 = 8189;
/// Ids of backward nodes start here.
pub(crate) const NODE_BASE: u32 = 0x10000;
const NO_DELTA: u64 = 1 << 56;

/// How often an operator ran and how long it took, since the capture began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct OperatorStat {
    /// Finished calls.
    pub count: u64,
    /// Their time, ns.
    pub total_ns: u64,
}

struct TorchFile {
    place: Place,
    scan: Rc<TorchScan>,
    operators: Vec<OwnedFd>,
    marks: Vec<(Group, OwnedFd)>,
}

/// Everything attached to PyTorch's libraries.
#[derive(Default)]
pub(crate) struct Torch {
    files: Vec<TorchFile>,
    /// Numbers of the operators' names.
    pub names: OperatorNames,
    detached: FxHashSet<u16>,
    generation: u8,
    cpus: usize,
}

fn cookie(id: u32, point: Point, generation: u8) -> u64 {
    let delta = point.delta.map_or(NO_DELTA, |d| u64::from(d) << 16);
    u64::from(id) | delta | u64::from(generation) << 48
}

impl Torch {
    /// Probes a library.
    pub fn attach(&mut self, multi: &Multi, layers: Layers, place: Place, scan: Rc<TorchScan>) -> io::Result<()> {
        let mut torch = TorchFile { place, scan, operators: Vec::new(), marks: Vec::new() };
        if layers.has(Layer::Torch) {
            torch.operators = self.attach_operators(multi, &torch)?;
        }
        torch.marks = attach_marks(multi, layers, &torch)?;
        self.files.push(torch);
        Ok(())
    }

    fn attach_operators(&mut self, multi: &Multi, torch: &TorchFile) -> io::Result<Vec<OwnedFd>> {
        let mut entries = Vec::with_capacity(torch.scan.operators.len());
        let mut exits = Vec::with_capacity(torch.scan.operators.len());
        for operator in &torch.scan.operators {
            let Some(id) = self.names.id(&operator.name).filter(|id| !self.detached.contains(id)) else { continue };
            entries.push((operator.entry.offset, cookie(id.into(), operator.entry, self.generation)));
            exits.push((operator.exit.offset, cookie(id.into(), operator.exit, self.generation)));
        }
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        // The exits first: an entry without its exit would be pushed and never popped.
        Ok(vec![
            multi.attach("op_exit", &torch.place, &exits, false)?,
            multi.attach("op_enter", &torch.place, &entries, false)?,
        ])
    }

    /// Gives the links to one process away, to be closed.
    pub fn forget(&mut self, pid: u32) -> Vec<OwnedFd> {
        let gone = self.files.extract_if(.., |f| f.place.pid() == Some(pid));
        gone.flat_map(|f| f.operators.into_iter().chain(f.marks.into_iter().map(|(_, link)| link))).collect()
    }

    /// Gives every link away, to be closed.
    pub fn take_links(&mut self) -> Vec<OwnedFd> {
        let of = |f: &mut TorchFile| {
            let marks = std::mem::take(&mut f.marks).into_iter().map(|(_, link)| link);
            std::mem::take(&mut f.operators).into_iter().chain(marks).collect::<Vec<_>>()
        };
        self.files.iter_mut().flat_map(of).collect()
    }

    /// Whether any library was found.
    pub fn found(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether a library with gloo was found.
    pub fn found_gloo(&self) -> bool {
        self.files.iter().any(|f| f.scan.marks.iter().any(|m| m.role == Role::WorkRun || m.role == Role::Wait))
    }

    /// Takes the probes off these operators, without a gap for the others: the rest is attached
    /// a second time under a new generation before the old links go.
    pub fn detach(&mut self, multi: &Multi, operators: &[u16]) -> io::Result<()> {
        self.detached.extend(operators);
        self.generation = self.generation.wrapping_add(1);
        let mut files = std::mem::take(&mut self.files);
        let attached: io::Result<Vec<Vec<OwnedFd>>> = files.iter().map(|f| self.attach_operators(multi, f)).collect();
        let result = attached.and_then(|links| {
            if let Some(bss) = multi.map(".bss") {
                let mut words = [0u8; 8];
                multi::lookup(bss, 0, &mut words)?;
                words[..4].copy_from_slice(&u32::from(self.generation).to_ne_bytes());
                multi::update(bss, 0, &words)?;
            }
            let old =
                files.iter_mut().zip(links).flat_map(|(file, links)| std::mem::replace(&mut file.operators, links));
            let old: Vec<OwnedFd> = old.collect();
            // The kernel waits for a grace period; the rings must be read meanwhile.
            std::thread::spawn(move || multi::detach(old));
            Ok(())
        });
        self.files = files;
        result
    }

    /// Takes the probes of a group of marks off.
    pub fn drop_group(&mut self, group: Group) {
        let links = self.files.iter_mut().flat_map(|f| f.marks.extract_if(.., |(g, _)| *g == group));
        let links = links.map(|(_, link)| link).collect();
        std::thread::spawn(move || multi::detach(links));
    }

    /// Whether a group of marks is probed.
    pub fn has_group(&self, group: Group) -> bool {
        self.files.iter().any(|f| f.marks.iter().any(|(g, _)| *g == group))
    }

    /// What each operator cost so far, by id.
    pub fn stats(&mut self, multi: &Multi) -> io::Result<Vec<OperatorStat>> {
        if self.cpus == 0 {
            self.cpus = multi::possible_cpus()?;
        }
        let Some(map) = multi.map("op_stats") else { return Ok(Vec::new()) };
        let mut sums = vec![[0u64; 2]; self.names.len()];
        multi::sum_per_cpu(map, self.cpus, &mut sums)?;
        Ok(sums.into_iter().map(|[count, total_ns]| OperatorStat { count, total_ns }).collect())
    }

    /// Whether an operator is no longer probed.
    pub fn is_detached(&self, id: u16) -> bool {
        self.detached.contains(&id)
    }
}

/// Name and layer of one of the few ids that are no operators.
pub(crate) fn rare_name(id: u32) -> Option<(Layer, String)> {
    match id {
        ID_BACKWARD => Some((Layer::Torch, "backward".to_owned())),
        ID_WAIT => Some((Layer::Nccl, "c10d::wait".to_owned())),
        ID_WORK => Some((Layer::Nccl, "gloo::work".to_owned())),
        _ => {
            let name = COLLECTIVES.get(id.checked_sub(ID_RARE)? as usize)?;
            Some((Layer::Nccl, collective_name(name)))
        }
    }
}

/// Program, group and id of a mark's entry, and the program of its exit if it has one.
fn programs(role: &Role) -> (&'static str, Group, u32, Option<&'static str>) {
    match role {
        Role::Backward => ("rare_enter", Group::Node, ID_BACKWARD, Some("rare_exit")),
        Role::Node => ("node_enter", Group::Node, ID_NODE, Some("rare_exit")),
        Role::ScopeName => ("scope_name", Group::Scope, 0, None),
        Role::ScopeEnter => ("scope_enter", Group::Scope, 0, None),
        Role::ScopeExit => ("scope_exit", Group::Scope, 0, None),
        Role::Collective(name) => {
            let at = COLLECTIVES.iter().position(|c| c == name).unwrap_or(0) as u32;
            ("collective_enter", Group::Gloo, ID_RARE + at, None)
        }
        Role::WorkNew => ("work_new", Group::Gloo, 0, None),
        Role::WorkRun => ("work_enter", Group::Gloo, ID_WORK, Some("work_exit")),
        Role::Wait => ("rare_enter", Group::Gloo, ID_WAIT, Some("rare_exit")),
    }
}

/// Group, whether it is the entry, and name of a program to attach.
type Program<'a> = (Group, bool, &'a str);

fn attach_marks(multi: &Multi, layers: Layers, torch: &TorchFile) -> io::Result<Vec<(Group, OwnedFd)>> {
    let mut points: BTreeMap<Program<'_>, Vec<(u64, u64)>> = BTreeMap::new();
    let wanted = |mark: &&Mark| {
        let layer = if programs(&mark.role).1 == Group::Gloo { Layer::Nccl } else { Layer::Torch };
        layers.has(layer) && (programs(&mark.role).3.is_none() || !mark.exits.is_empty())
    };
    for mark in torch.scan.marks.iter().filter(wanted) {
        let (enter, group, id, exit) = programs(&mark.role);
        points.entry((group, true, enter)).or_default().push((mark.entry.offset, cookie(id, mark.entry, 0)));
        for point in exit.iter().flat_map(|_| &mark.exits) {
            let exit = exit.unwrap_or_default();
            points.entry((group, false, exit)).or_default().push((point.offset, cookie(id, *point, 0)));
        }
    }
    // Exits sort before entries (false < true) within a group.
    points
        .into_iter()
        .map(|((group, _, program), points)| Ok((group, multi.attach(program, &torch.place, &points, false)?)))
        .collect()
}
