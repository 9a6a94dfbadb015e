//! What to probe in libtorch_cpu: every operator's entry and exit, and the few functions that
//! mark backward passes, profiler scopes and gloo's collectives.

use std::io;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};

use super::elf::{Elf, Table};
use super::scan::{self, Shape, Site};
use super::scopes;

/// A probe's place: offset in the file and the bytes from the stack pointer there to the
/// return address, `None` where they vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes to the return address.
    pub delta: Option<u32>,
}

/// One overload of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operator {
    /// `aten::add`.
    pub name: String,
    /// Where it is entered.
    pub entry: Point,
    /// Where it is left.
    pub exit: Point,
}

/// What a marked function means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A whole backward pass.
    Backward,
    /// One node of it.
    Node,
    /// A profiler scope is about to begin; tells its name.
    ScopeName,
    /// A profiler scope begins.
    ScopeEnter,
    /// A profiler scope ends.
    ScopeExit,
    /// A gloo collective is about to be enqueued: `allreduce`.
    Collective(String),
    /// It is enqueued.
    WorkNew,
    /// It runs.
    WorkRun,
    /// A thread waits for a collective.
    Wait,
}

/// A function to probe besides the operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// What it means.
    pub role: Role,
    /// Where it is entered.
    pub entry: Point,
    /// Where it is left: one place, or every `ret`.
    pub exits: Vec<Point>,
}

/// What there is to probe in one library.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TorchScan {
    /// Operators with an entry and an exit the kernel emulates.
    pub operators: Vec<Operator>,
    /// Operators without.
    pub skipped: u32,
    /// The other functions.
    pub marks: Vec<Mark>,
}

/// Symbols that begin like this are operators: `at::_ops::NAME::call`.
const OPERATOR: &str = "_ZN2at4_ops";
const GLOO: &str = "_ZN4c10d16ProcessGroupGloo";
const MARKS: [(&str, Role); 10] = [
    ("_ZN5torch8autograd6Engine7executeE", Role::Backward),
    ("_ZN5torch8autograd6Engine17evaluate_functionE", Role::Node),
    ("_ZN5torch8autograd8profiler25record_function_enter_newE", Role::ScopeName),
    ("_ZN2at14RecordFunctionC1ENS_11RecordScopeE", Role::ScopeEnter),
    ("_ZN2at14RecordFunction3endEv", Role::ScopeExit),
    ("_ZN4c10d16ProcessGroupGloo7enqueueE", Role::WorkNew),
    ("_ZN4c10d16ProcessGroupGloo9AsyncWork7executeE", Role::WorkRun),
    ("_ZN4c10d4Work4waitE", Role::Wait),
    ("_ZN4c10d16ProcessGroupGloo8RecvWork4waitE", Role::Wait),
    ("_ZN4c10d16ProcessGroupGloo8SendWork4waitE", Role::Wait),
];
/// Collectives and point-to-point calls of c10d::ProcessGroup, across PyTorch's versions.
pub(crate) const COLLECTIVES: [&str; 21] = [
    "allreduce",
    "allreduce_sparse",
    "allreduce_coalesced",
    "broadcast",
    "reduce",
    "allgather",
    "_allgather_base",
    "allgather_coalesced",
    "all_gather_single",
    "gather",
    "scatter",
    "reduce_scatter",
    "_reduce_scatter_base",
    "reduce_scatter_single",
    "alltoall",
    "alltoall_base",
    "all_to_all_single",
    "send",
    "recv",
    "barrier",
    "monitoredBarrier",
];

/// Names of [`COLLECTIVES`] as the rest of the world spells them.
pub(crate) fn collective_name(name: &str) -> String {
    format!("gloo::{}", name.trim_start_matches('_'))
}

enum Wanted<'a> {
    Operator(&'a str),
    Mark(Role),
}

fn wanted(name: &str) -> Option<Wanted<'_>> {
    if let Some(rest) = name.strip_prefix(OPERATOR) {
        let (ident, rest) = identifier(rest)?;
        return rest.starts_with("4callE").then_some(Wanted::Operator(ident));
    }
    if let Some((_, role)) = MARKS.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(Wanted::Mark(role.clone()));
    }
    let (ident, rest) = identifier(name.strip_prefix(GLOO)?)?;
    let known = rest.starts_with('E') && COLLECTIVES.contains(&ident);
    known.then(|| Wanted::Mark(Role::Collective(ident.to_owned())))
}

/// Splits a length-prefixed identifier of a mangled name off.
pub(crate) fn identifier(mangled: &str) -> Option<(&str, &str)> {
    let digits = mangled.find(|c: char| !c.is_ascii_digit())?;
    let length: usize = mangled[..digits].parse().ok()?;
    let rest = &mangled[digits..];
    (rest.is_char_boundary(length) && length <= rest.len()).then(|| rest.split_at(length))
}

/// The class a vtable's symbol belongs to, without its namespaces.
pub(crate) fn class_name(vtable: &str) -> Option<String> {
    let mut rest = vtable.strip_prefix("_ZTV")?;
    rest = rest.strip_prefix('N').unwrap_or(rest);
    let mut last = None;
    while let Some((ident, after)) = identifier(rest) {
        last = Some(ident);
        rest = after;
    }
    last.map(str::to_owned)
}

/// Finds everything there is to probe; `None` if the library defines no operators.
pub(crate) fn scan(elf: &Elf) -> io::Result<Option<TorchScan>> {
    let Some(symbols) = elf.symbols(Table::Dynamic)? else { return Ok(None) };
    if !symbols.mention(OPERATOR) {
        return Ok(None);
    }
    let found: Vec<(Wanted<'_>, u64, u64)> = symbols
        .iter()
        .filter(|s| s.code && s.size > 0)
        .filter_map(|s| wanted(s.name).map(|w| (w, s.address, s.size)))
        .collect();
    if !found.iter().any(|(w, ..)| matches!(w, Wanted::Operator(_))) {
        return Ok(None);
    }
    let bases = base_names(&elf.section(".rodata")?);
    // Two cores are enough: the disassembly of three thousand functions is a few megabytes.
    let half = found.len().div_ceil(2);
    let shapes: Vec<Option<Shape>> = std::thread::scope(|scope| {
        let workers: Vec<_> = found
            .chunks(half)
            .map(|chunk| scope.spawn(move || chunk.iter().map(|(_, at, size)| shape_at(elf, *at, *size)).collect()))
            .collect();
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|_| Vec::new())).collect()
    });
    let mut result = TorchScan::default();
    for ((wanted, ..), shape) in found.into_iter().zip(shapes) {
        match wanted {
            Wanted::Operator(ident) => match shape.and_then(|s| operator(elf, ident, &bases, &s)) {
                Some(operator) => result.operators.push(operator),
                None => result.skipped += 1,
            },
            Wanted::Mark(role) => result.marks.extend(shape.and_then(|s| mark(elf, role, &s))),
        }
    }
    if let Some(calls) = scopes::find(elf, &symbols)? {
        result.marks.retain(|m| m.role != Role::ScopeEnter && m.role != Role::ScopeExit);
        for (role, addresses) in [(Role::ScopeEnter, calls.enter), (Role::ScopeExit, calls.exit)] {
            let points = addresses.into_iter().filter_map(|a| Some(Point { offset: elf.offset_of(a)?, delta: None }));
            result.marks.extend(points.map(|entry| Mark { role: role.clone(), entry, exits: Vec::new() }));
        }
    }
    // C1 and C2 constructors and the like share an address.
    let mut seen = FxHashSet::default();
    result.operators.retain(|o| seen.insert(o.entry.offset));
    result.marks.retain(|m| seen.insert(m.entry.offset));
    Ok(Some(result))
}

fn shape_at(elf: &Elf, address: u64, size: u64) -> Option<Shape> {
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(scan::MOST_CODE);
    scan::shape(&elf.read(address, size).ok()?, address)
}

fn point(elf: &Elf, site: Site) -> Option<Point> {
    Some(Point { offset: elf.offset_of(site.address)?, delta: site.delta })
}

fn operator(elf: &Elf, ident: &str, bases: &FxHashSet<String>, shape: &Shape) -> Option<Operator> {
    // Too hot for single-stepping, and without the exact stack pointer pairs could be mistaken.
    let exit = shape.exit.filter(|s| s.emulated && s.delta.is_some())?;
    let entry = Some(shape.entry).filter(|s| s.emulated && s.delta.is_some())?;
    Some(Operator {
        name: format!("aten::{}", base_name(ident, bases)),
        entry: point(elf, entry)?,
        exit: point(elf, exit)?,
    })
}

fn mark(elf: &Elf, role: Role, shape: &Shape) -> Option<Mark> {
    let sites: Vec<Site> = match shape.exit {
        Some(exit) => vec![exit],
        None => shape.ends.clone(),
    };
    let exits = sites.into_iter().filter_map(|s| point(elf, s)).collect();
    Some(Mark { role, entry: point(elf, shape.entry)?, exits })
}

/// Every `NAME` of an `aten::NAME` among a library's constants.
fn base_names(constants: &[u8]) -> FxHashSet<String> {
    const PREFIX: &[u8] = b"aten::";
    let mut names = FxHashSet::default();
    for at in memchr::memmem::find_iter(constants, PREFIX) {
        let after = constants.get(at + PREFIX.len()..).unwrap_or_default();
        let end = after.iter().position(|b| !(b.is_ascii_alphanumeric() || *b == b'_')).unwrap_or(after.len());
        let name = std::str::from_utf8(&after[..end]).unwrap_or_default();
        if !name.is_empty() && !names.contains(name) {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The operator's name without its overload's: `add__Tensor` is `add_` with overload `Tensor`.
fn base_name<'a>(ident: &'a str, bases: &FxHashSet<String>) -> &'a str {
    let whole = bases.contains(ident).then_some(ident);
    whole.unwrap_or_else(|| {
        let cuts = ident.char_indices().rev().filter(|(_, c)| *c == '_').map(|(i, _)| &ident[..i]);
        cuts.into_iter().find(|base| bases.contains(*base)).unwrap_or(ident)
    })
}

/// Short numbers for operator names, shared by all libraries and versions.
#[derive(Default)]
pub(crate) struct OperatorNames {
    names: Vec<String>,
    ids: FxHashMap<String, u16>,
}

impl OperatorNames {
    /// The kernel's ids end here (ID_RARE of uprobes.bpf.c).
    pub const MOST: usize = 8064;

    /// The number of a name; `None` when there are too many.
    pub fn id(&mut self, name: &str) -> Option<u16> {
        if let Some(&id) = self.ids.get(name) {
            return Some(id);
        }
        if self.names.len() >= Self::MOST {
            return None;
        }
        let id = self.names.len() as u16;
        self.names.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        Some(id)
    }

    /// The name of a number.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.names.get(id as usize).map(String::as_str)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overloads_are_told_from_names() {
        let bases = base_names(b"xx\0aten::add\0aten::add_.Tensor(T\0aten::max(x\0std::a aten::_foreach_add\0");
        let of = |ident| base_name(ident, &bases);
        assert_eq!(of("add_Tensor"), "add");
        assert_eq!(of("add__Tensor"), "add_");
        assert_eq!(of("max_dim_max"), "max");
        assert_eq!(of("_foreach_add_ScalarList"), "_foreach_add");
        assert_eq!(of("never_seen"), "never_seen");
    }

    #[test]
    fn a_node_is_named_by_its_class() {
        assert_eq!(class_name("_ZTVN5torch8autograd9generated14AddmmBackward0E").as_deref(), Some("AddmmBackward0"));
        assert_eq!(class_name("_ZTV4Node").as_deref(), Some("Node"));
        assert_eq!(class_name("_ZTSN1aE"), None);
    }

    #[test]
    fn symbols_are_sorted_into_operators_and_marks() {
        assert!(matches!(wanted("_ZN2at4_ops5addmm4callERKNS_6TensorE"), Some(Wanted::Operator("addmm"))));
        assert!(wanted("_ZN2at4_ops5addmm10redispatchEN3c10E").is_none());
        assert!(matches!(
            wanted("_ZN4c10d16ProcessGroupGloo9allreduceERSt6vectorE"),
            Some(Wanted::Mark(Role::Collective(name))) if name == "allreduce"
        ));
        assert!(wanted("_ZN2at4_ops99x").is_none() && wanted("_ZN2at4_ops").is_none() && wanted("main").is_none());
    }
}
