//! Probes on functions of the target: PyTorch's operators, backward and scopes, CUDA, NCCL,
//! gloo. Uses `host`, `trace` and the room's `multi`, `records`, `output`. Three rules, each
//! learnt the hard way: no return probe on C++ (an exception would kill the target), only
//! uprobe_multi links (detaching others takes minutes), and only instructions the kernel
//! emulates where it is hot. Never stops, writes to or traces the target.

mod cache;
mod calibrate;
mod calls;
mod cuda;
mod early;
mod elf;
mod gpu;
mod kernel_name;
mod nccl;
mod ops;
mod scan;
mod scope;
mod scopes;
mod spaces;
mod torch;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::CaptureError;
use super::multi::{self, Multi, Place};
use super::options::Layers;
use super::output::Output;
use super::records::{self, Head, kind};
use crate::host::maps::{self, Mapping};
use crate::trace::{Layer, LayerState, LayerStatus};
use scope::Scopes;
use spaces::Spaces;

pub(crate) use calibrate::HitCost;
pub(crate) use early::Early;

impl Drop for Probes {
    fn drop(&mut self) {
        self.release();
    }
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let text = parts.collect::<Vec<_>>().join(", ");
    (!text.is_empty()).then_some(text)
}

/// The compiled uprobes.bpf.c.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/uprobes.bpf.o");

/// Probes that are counted, and given up, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Group {
    /// Backward passes and their nodes.
    Node,
    /// PyTorch's profiler scopes.
    Scope,
    /// Kernel launches.
    Launch,
    /// Their return.
    LaunchReturn,
    /// Other CUDA calls.
    Cuda,
    /// NCCL.
    Nccl,
    /// torch.distributed without NCCL.
    Gloo,
}

/// The probes of a capture; dropping it takes them all off.
pub(crate) struct Probes {
    multi: Multi,
    layers: Layers,
    cache_dir: Option<PathBuf>,
    /// What was looked for beforehand, until it is asked for.
    early: Option<Early>,
    found: early::Found,
    /// Files probed, each for one process or for all.
    seen: FxHashSet<((u64, u64), Option<u32>)>,
    /// Files with nothing to probe.
    barren: FxHashSet<(u64, u64)>,
    /// What there is to probe in a file: a forked child has the same ones as its parent.
    scans: FxHashMap<(u64, u64), Rc<torch::TorchScan>>,
    scopes: Scopes,
    torch: ops::Torch,
    calls: Vec<calls::CallFile>,
    cuda: cuda::Cuda,
    nccl: nccl::Nccl,
    node_names: Vec<Option<Box<str>>>,
    spaces: Spaces,
    /// Why a library could not be probed, by layer.
    failures: Vec<(Layer, String)>,
    torch_detail: Option<String>,
    cuda_detail: Vec<String>,
    nccl_detail: Vec<String>,
    stats: Vec<ops::OperatorStat>,
}

impl Probes {
    /// Loads the programs; maps known to `shared` (those of common.bpf.h) are used, not made.
    pub fn load<'m>(
        shared: &dyn Fn(&str) -> Option<BorrowedFd<'m>>,
        layers: Layers,
        cache_dir: Option<PathBuf>,
        early: Option<Early>,
    ) -> Result<Probes, CaptureError> {
        let own = |name: &str| -> Option<OwnedFd> { shared(name).and_then(|fd| fd.try_clone_to_owned().ok()) };
        Ok(Probes {
            multi: Multi::load(OBJECT, &own)?,
            layers,
            cache_dir,
            early,
            found: early::Found::default(),
            seen: FxHashSet::default(),
            barren: FxHashSet::default(),
            scans: FxHashMap::default(),
            scopes: Scopes::default(),
            torch: ops::Torch::default(),
            calls: Vec::new(),
            cuda: cuda::Cuda::default(),
            nccl: nccl::Nccl::default(),
            node_names: Vec::new(),
            spaces: Spaces::default(),
            failures: Vec::new(),
            torch_detail: None,
            cuda_detail: Vec::new(),
            nccl_detail: Vec::new(),
            stats: Vec::new(),
        })
    }

    /// Measures what a hit costs on this machine; assumes it where that fails.
    pub fn calibrate(&self) -> HitCost {
        calibrate::calibrate(&self.multi).unwrap_or_default()
    }

    /// A process is followed, or about to be: probes in it hurt no bystander.
    pub fn ours(&mut self, pid: u32) {
        self.scopes.ours(pid);
    }

    /// Probes the libraries a process has mapped that were not probed yet. To be called again
    /// after an exec, a fork or a dlopen.
    pub fn attach(&mut self, pid: u32, maps: &[Mapping]) -> Result<(), CaptureError> {
        self.spaces.learn(pid, maps);
        for mapping in maps.iter().filter(|m| m.executable) {
            let scope = self.scopes.of(pid, mapping);
            if !self.seen.insert((mapping.file, scope)) {
                continue;
            }
            if self.barren.contains(&mapping.file) {
                continue;
            }
            // A file that can't be opened or isn't ELF has nothing for us.
            let Ok(file) = maps::open(pid, mapping) else { continue };
            let Ok(elf) = elf::Elf::open(file) else { continue };
            let name = mapping.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut barren = match self.attach_torch(&elf, &name, mapping.file, scope) {
                Ok(found) => !found,
                Err(error) => {
                    self.failures.push((Layer::Torch, format!("{name}: {error}")));
                    false
                }
            };
            if self.layers.has(Layer::Cuda) || self.layers.has(Layer::Nccl) {
                match calls::attach(&self.multi, self.layers, &elf, scope) {
                    Ok(Some(file)) => {
                        let (cuda, nccl) = file.found;
                        let about = [(cuda, &mut self.cuda_detail), (nccl, &mut self.nccl_detail)];
                        for (count, detail) in about.into_iter().filter(|(count, _)| *count > 0) {
                            let text = format!("{count} functions of {name}");
                            if !detail.contains(&text) {
                                detail.push(text);
                            }
                        }
                        self.calls.push(file);
                        barren = false;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        self.failures.push((Layer::Cuda, format!("{name}: {error}")));
                        barren = false;
                    }
                }
            }
            if barren {
                self.barren.insert(mapping.file);
            }
        }
        Ok(())
    }

    /// Probes PyTorch, if it is in this file; says whether it is.
    fn attach_torch(&mut self, elf: &elf::Elf, name: &str, file: (u64, u64), scope: Option<u32>) -> io::Result<bool> {
        if !early::is_wanted(self.layers) {
            return Ok(false);
        }
        if let Some(early) = self.early.take() {
            self.found = early.join();
        }
        let scan = match self.scans.get(&file) {
            Some(scan) => scan.clone(),
            None => {
                let scan = match self.found.remove(&file) {
                    Some(found) => found,
                    None => early::scan(self.cache_dir.as_deref(), elf)?,
                };
                let Some(scan) = scan else { return Ok(false) };
                self.scans.entry(file).or_insert(Rc::new(scan)).clone()
            }
        };
        self.torch_detail = Some(format!(
            "{} of {} operators of {name}",
            scan.operators.len(),
            scan.operators.len() + scan.skipped as usize
        ));
        self.torch.attach(&self.multi, self.layers, Place::new(elf.file().try_clone()?, scope)?, scan)?;
        Ok(true)
    }

    /// The state of the layers probed here, of those asked for.
    pub fn statuses(&self) -> Vec<LayerStatus> {
        let mut statuses = Vec::new();
        for layer in [Layer::Torch, Layer::Cuda, Layer::Nccl].into_iter().filter(|l| self.layers.has(*l)) {
            let failure = self.failures.iter().find(|(l, _)| *l == layer).map(|(_, why)| why.clone());
            let found = match layer {
                Layer::Torch => self.torch_detail.clone().filter(|_| self.torch.found()),
                Layer::Nccl => {
                    let gloo = self.torch.found_gloo().then(|| "torch.distributed's gloo".to_owned());
                    joined(self.nccl_detail.iter().cloned().chain(gloo))
                }
                _ => joined(self.cuda_detail.iter().cloned()),
            };
            let absent = match layer {
                Layer::Torch => "no libtorch_cpu mapped",
                Layer::Cuda => "no CUDA runtime or driver mapped",
                _ => "no NCCL mapped",
            };
            let (state, detail) = match (found, failure) {
                (Some(detail), _) => (LayerState::On, detail),
                (None, Some(why)) => (LayerState::Failed, why),
                (None, None) => (LayerState::Absent, absent.to_owned()),
            };
            statuses.push(LayerStatus { layer: layer.name().to_owned(), state, detail });
        }
        statuses
    }

    /// Turns one of our records into slices.
    pub fn record(&mut self, record: u16, bytes: &[u8], out: &mut Output<'_>) -> io::Result<()> {
        match record {
            kind::OP => {
                let Some(head) = records::read::<Head>(bytes) else { return Ok(()) };
                self.operator(&head, out)
            }
            kind::TORCH => {
                let Some(call) = records::read::<records::Call>(bytes) else { return Ok(()) };
                let head = call.head;
                let track = out.thread_track(head.tgid, head.tid, Layer::Torch)?;
                out.plain(track, head.start, head.dur, &records::text(&call.text), &[])
            }
            kind::CUDA | kind::NCCL => {
                let Some(call) = records::read::<records::Call>(bytes) else { return Ok(()) };
                let Some(function) = calls::FUNCTIONS.get(call.head.id as usize) else { return Ok(()) };
                match function.layer() {
                    Layer::Nccl => self.nccl.call(function, &call, &mut self.cuda, out),
                    _ => self.cuda.call(function, &call, &mut self.spaces, out),
                }
            }
            _ => Ok(()),
        }
    }

    /// Ends the estimates nobody waited for; to be called when the probes are off.
    pub fn finish(&mut self, end_ns: u64, out: &mut Output<'_>) -> io::Result<()> {
        self.cuda.finish(end_ns, out)
    }

    fn operator(&mut self, head: &Head, out: &mut Output<'_>) -> io::Result<()> {
        if head.id >= ops::NODE_BASE {
            let node = (head.id - ops::NODE_BASE) as usize;
            if self.node_names.get(node).is_none_or(Option::is_none) {
                self.name_node(node, head.tgid);
            }
            let name = self.node_names.get(node).and_then(Option::as_deref).unwrap_or("autograd::Node");
            let track = out.thread_track(head.tgid, head.tid, Layer::Torch)?;
            return out.plain(track, head.start, head.dur, name, &[]);
        }
        if let Some(name) = self.torch.names.name(head.id) {
            let track = out.thread_track(head.tgid, head.tid, Layer::Torch)?;
            return out.plain(track, head.start, head.dur, name, &[]);
        }
        let Some((layer, name)) = ops::rare_name(head.id) else { return Ok(()) };
        let track = out.thread_track(head.tgid, head.tid, layer)?;
        out.plain(track, head.start, head.dur, &name, &[])
    }

    /// Names a backward node by its class: the vtable's symbol is `_ZTVN…14AddmmBackward0E`.
    fn name_node(&mut self, node: usize, tgid: u32) {
        let mut definition = [0u8; 16];
        let known = self.multi.map("node_defs").map(|map| multi::lookup(map, node as u32, &mut definition));
        if !matches!(known, Some(Ok(true))) {
            return;
        }
        let vtable = u64::from_ne_bytes(definition[..8].try_into().unwrap_or_default());
        let class = self.spaces.symbol(tgid, vtable).and_then(|(symbol, _)| torch::class_name(&symbol));
        let name = class.map_or_else(|| "autograd::Node".to_owned(), |class| format!("autograd::{class}"));
        if self.node_names.len() <= node {
            self.node_names.resize(node + 1, None);
        }
        self.node_names[node] = Some(name.into());
    }

    /// Takes every probe off; records still on their way can be named afterwards.
    pub fn release(&mut self) {
        let mut links = self.torch.take_links();
        links.extend(self.calls.iter_mut().flat_map(calls::CallFile::take_links));
        multi::detach(links);
    }

    /// Forgets a process that ended.
    pub fn forget_process(&mut self, pid: u32) {
        self.spaces.forget(pid);
        self.scopes.forget(pid);
        let mut links = self.torch.forget(pid);
        links.extend(self.calls.extract_if(.., |f| f.pid() == Some(pid)).flat_map(|mut f| f.take_links()));
        if !links.is_empty() {
            std::thread::spawn(move || multi::detach(links));
            self.seen.retain(|(_, scope)| *scope != Some(pid));
        }
        self.cuda.forget(pid);
        self.nccl.forget(pid);
    }

    /// Gives up probes of `layer` until about `keep` (0–1) of its records remain, the least
    /// telling first: operators in order of their mean duration since the last call. Says what
    /// was done, or `None` when nothing is left to give.
    pub fn thin(&mut self, layer: Layer, keep: f64) -> io::Result<Option<(String, String)>> {
        match layer {
            Layer::Torch => self.thin_operators(keep),
            Layer::Cuda => self.thin_launches(keep),
            _ => Ok(None),
        }
    }

    /// First the returns of launches, then the launches: the calls that wait stay.
    fn thin_launches(&mut self, keep: f64) -> io::Result<Option<(String, String)>> {
        let has = |calls: &[calls::CallFile], group| calls.iter().any(|f| f.has_group(group));
        if keep < 1.0 && has(&self.calls, Group::LaunchReturn) {
            for file in &mut self.calls {
                file.drop_launch_returns(&self.multi)?;
            }
            return Ok(Some(("cuda: returns of kernel launches".to_owned(), "detached".to_owned())));
        }
        if keep < 1.0 && has(&self.calls, Group::Launch) {
            self.calls.iter_mut().for_each(|f| f.drop_group(Group::Launch));
            return Ok(Some(("cuda: kernel launches".to_owned(), "detached".to_owned())));
        }
        Ok(None)
    }

    fn thin_operators(&mut self, keep: f64) -> io::Result<Option<(String, String)>> {
        let stats = self.torch.stats(&self.multi)?;
        let before = std::mem::replace(&mut self.stats, stats);
        let mut running: Vec<(u16, u64, f64)> = Vec::new();
        for (id, now) in self.stats.iter().enumerate() {
            let then = before.get(id).copied().unwrap_or_default();
            let (count, total) = (now.count - then.count, now.total_ns - then.total_ns);
            if count > 0 && !self.torch.is_detached(id as u16) {
                running.push((id as u16, count, total as f64 / count as f64));
            }
        }
        running.sort_by(|a, b| a.2.total_cmp(&b.2));
        let mut left: f64 = running.iter().map(|r| r.1 as f64).sum();
        let allowed = left * keep;
        let (mut longest, mut chosen) = (0.0f64, Vec::new());
        for (id, count, mean) in running {
            if left <= allowed {
                break;
            }
            left -= count as f64;
            longest = longest.max(mean);
            chosen.push(id);
        }
        if !chosen.is_empty() {
            self.torch.detach(&self.multi, &chosen)?;
            let what = format!("torch: {} operators averaging up to {:.0} us", chosen.len(), longest / 1000.0);
            return Ok(Some((what, "detached".to_owned())));
        }
        if self.torch.has_group(Group::Node) && keep < 1.0 {
            self.torch.drop_group(Group::Node);
            return Ok(Some(("torch: backward passes and their nodes".to_owned(), "detached".to_owned())));
        }
        Ok(None)
    }
}
