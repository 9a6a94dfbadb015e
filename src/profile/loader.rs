//! Loads the main object and attaches its programs, group by group.

use std::collections::HashMap as StdHashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{BtfTracePoint, PerfEvent, Program, ProgramError};
use aya::{Btf, Ebpf, EbpfError, EbpfLoader, Pod};

use super::CaptureError;

static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/main.bpf.o");

/// `struct settings` of common.bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Settings {
    /// Shorter system calls are only counted, ns.
    pub syscall_threshold: u64,
    /// A blocking call at least this long gets a Python stack, ns.
    pub wait_stack_threshold: u64,
    /// What began earlier is taken to begin here, CLOCK_MONOTONIC ns.
    pub start: u64,
    /// `LAYER_*`.
    pub layers: u32,
    /// Unused.
    pub pad: u32,
}

// SAFETY: plain numbers without padding.
unsafe impl Pod for Settings {}

/// `struct target` of common.bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Target {
    /// Unused.
    pub flags: u32,
    /// Process named by the user that it descends from.
    pub root: u32,
    /// First address of the GIL's lock and condition.
    pub gil_start: u64,
    /// First address after them.
    pub gil_end: u64,
}

// SAFETY: plain numbers without padding.
unsafe impl Pod for Target {}

/// Programs that are attached and detached together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// Forks, execs, exits: always needed.
    Process,
    /// Context switches and wake-ups.
    Sched,
    /// System calls.
    Syscall,
    /// Block requests.
    Block,
    /// Major page faults.
    Fault,
}

impl Group {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Group::Process => &["on_fork", "on_exec", "on_exit"],
            Group::Sched => &["on_waking", "on_switch"],
            Group::Syscall => &["on_sys_exit", "on_sys_enter"],
            Group::Block => &["on_block_complete", "on_block_start"],
            Group::Fault => &["on_major_fault"],
        }
    }
}

/// The loaded object.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    btf: Btf,
    maps: StdHashMap<String, OwnedFd>,
}

impl Kernel {
    /// Loads the object and makes its maps; attaches nothing yet.
    pub fn load() -> Result<Kernel, CaptureError> {
        // A loader reads the kernel's types itself, and attaching needs them as well: it can't be asked for
        // its own. At the same time they cost one's time.
        let (btf, mut loader) = std::thread::scope(|scope| {
            let reading = scope.spawn(Btf::from_sys_fs);
            let loader = EbpfLoader::new();
            (reading.join().unwrap_or_else(|_| Btf::from_sys_fs()), loader)
        });
        let btf = btf.map_err(|error| match std::fs::metadata("/sys/kernel/btf/vmlinux") {
            Ok(_) => CaptureError::Refused { what: "its own BTF".to_owned(), source: Box::new(error) },
            Err(_) => CaptureError::KernelLacks { what: "BTF (/sys/kernel/btf/vmlinux)".to_owned() },
        })?;
        let ebpf = loader
            .btf(Some(&btf))
            // Task storage is no map type that aya wraps; only the programs use it.
            .allow_unsupported_maps()
            .load(OBJECT)
            .map_err(load_error)?;
        let mut maps = StdHashMap::new();
        for (name, map) in ebpf.maps() {
            if let Some(data) = map_data(map) {
                let fd = data
                    .fd()
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|source| CaptureError::Read { what: format!("the eBPF map {name}"), source })?;
                maps.insert(name.to_owned(), fd);
            }
        }
        Ok(Kernel { ebpf, btf, maps })
    }

    /// Descriptor of a map, for objects that share it.
    pub fn map_fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.maps.get(name).map(OwnedFd::as_fd)
    }

    /// Attaches a group; does nothing where it already is.
    pub fn attach(&mut self, group: Group) -> Result<(), CaptureError> {
        for &name in group.programs() {
            let attached = match (group, self.attach_program(name)) {
                (Group::Block, Err(_)) if name == "on_block_start" => self.attach_program("on_block_issue"),
                (_, other) => other,
            };
            attached.map_err(|error| program_error(&format!("program {name}"), error))?;
        }
        Ok(())
    }

    /// Detaches a group by unloading its programs.
    pub fn detach(&mut self, group: Group) {
        // It may not have been loaded: then there is nothing to take back.
        let unload = |program: Option<&mut Program>| match program {
            Some(Program::BtfTracePoint(program)) => drop(program.unload()),
            Some(Program::PerfEvent(program)) => drop(program.unload()),
            _ => {}
        };
        for &name in group.programs() {
            unload(self.ebpf.program_mut(name));
        }
        if group == Group::Block {
            unload(self.ebpf.program_mut("on_block_issue"));
        }
    }

    fn attach_program(&mut self, name: &str) -> Result<(), ProgramError> {
        let btf = &self.btf;
        match self.ebpf.program_mut(name) {
            Some(Program::BtfTracePoint(program)) => {
                let point = tracepoint_of(name);
                load_once(program, |p: &mut BtfTracePoint| p.load(point, btf))?;
                match program.attach() {
                    Ok(_) | Err(ProgramError::AlreadyAttached) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Some(Program::PerfEvent(program)) => {
                load_once(program, PerfEvent::load)?;
                for cpu in aya::util::online_cpus().map_err(|(_, error)| ProgramError::IOError(error))? {
                    program.attach(
                        PerfEventConfig::Software(SoftwareEvent::PageFaultsMaj),
                        PerfEventScope::AllProcessesOneCpu { cpu },
                        SamplePolicy::Period(1),
                        false,
                    )?;
                }
                Ok(())
            }
            _ => Err(ProgramError::UnexpectedProgramType),
        }
    }

    /// Writes the settings; programs see them at their next event.
    pub fn set(&mut self, settings: Settings) -> Result<(), CaptureError> {
        let map = self.ebpf.map_mut("settings").ok_or_else(|| missing("settings"))?;
        let mut array = Array::<_, Settings>::try_from(map).map_err(|e| map_error("settings", e))?;
        array.set(0, settings, 0).map_err(|e| map_error("settings", e))
    }

    /// Makes a process a target, or changes one.
    pub fn add_target(&mut self, pid: u32, target: Target) -> Result<(), CaptureError> {
        let map = self.ebpf.map_mut("targets").ok_or_else(|| missing("targets"))?;
        let mut targets = HashMap::<_, u32, Target>::try_from(map).map_err(|e| map_error("targets", e))?;
        targets.insert(pid, target, 0).map_err(|e| map_error("targets", e))
    }

    /// Makes no process a target any more: nothing is recorded from here on.
    pub fn clear_targets(&mut self) {
        let Some(map) = self.ebpf.map_mut("targets") else { return };
        let Ok(mut targets) = HashMap::<_, u32, Target>::try_from(map) else { return };
        for pid in targets.keys().flatten().collect::<Vec<_>>() {
            // It may have ended and left meanwhile.
            let _ = targets.remove(&pid);
        }
    }

    /// What the kernel knows of a target; `None` once it is gone.
    pub fn target(&self, pid: u32) -> Option<Target> {
        let map = self.ebpf.map("targets")?;
        HashMap::<_, u32, Target>::try_from(map).ok()?.get(&pid, 0).ok()
    }

    /// Takes a ring out of the object.
    pub fn ring(&mut self, name: &str) -> Result<RingBuf<MapData>, CaptureError> {
        let map = self.ebpf.take_map(name).ok_or_else(|| missing(name))?;
        RingBuf::try_from(map).map_err(|e| map_error(name, e))
    }

    /// Takes any other map out of the object.
    pub fn take(&mut self, name: &str) -> Result<Map, CaptureError> {
        self.ebpf.take_map(name).ok_or_else(|| missing(name))
    }

    /// A program, for those who attach it themselves.
    pub fn program_mut(&mut self, name: &str) -> Option<&mut Program> {
        self.ebpf.program_mut(name)
    }

    /// Sum over all CPUs of a per-CPU array of counters.
    pub fn counters(&self, name: &str, length: u32) -> Vec<u64> {
        let array = self.ebpf.map(name).and_then(|map| PerCpuArray::<_, u64>::try_from(map).ok());
        (0..length)
            .map(|i| {
                let values = array.as_ref().and_then(|a| a.get(&i, 0).ok());
                values.map_or(0, |v| v.iter().sum())
            })
            .collect()
    }

    /// Runs and total time of a program, as counted while BPF statistics were on.
    pub fn program_cost(&self, name: &str) -> Option<(u64, Duration)> {
        let info = match self.ebpf.program(name)? {
            Program::BtfTracePoint(p) => p.info(),
            Program::PerfEvent(p) => p.info(),
            _ => return None,
        };
        info.ok().map(|i| (i.run_count(), i.run_time()))
    }
}

/// Loads a program, or leaves one that is loaded as it is.
pub(crate) fn load_once<P>(
    program: &mut P,
    load: impl FnOnce(&mut P) -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    match load(program) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The kernel's tracepoint a program is for.
fn tracepoint_of(program: &str) -> &'static str {
    match program {
        "on_fork" => "sched_process_fork",
        "on_exec" => "sched_process_exec",
        "on_exit" => "sched_process_exit",
        "on_switch" => "sched_switch",
        "on_waking" => "sched_waking",
        "on_sys_enter" => "sys_enter",
        "on_sys_exit" => "sys_exit",
        "on_block_start" => "block_io_start",
        "on_block_issue" => "block_rq_issue",
        _ => "block_rq_complete",
    }
}

/// The data behind any kind of map.
fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(d) | Map::HashMap(d) | Map::LruHashMap(d) | Map::PerCpuArray(d) | Map::PerCpuHashMap(d) => Some(d),
        Map::RingBuf(d) | Map::Unsupported(d) => Some(d),
        _ => None,
    }
}

fn missing(name: &str) -> CaptureError {
    CaptureError::Read { what: format!("the eBPF map {name}"), source: io::ErrorKind::NotFound.into() }
}

fn map_error(name: &str, error: MapError) -> CaptureError {
    CaptureError::Refused { what: format!("the eBPF map {name}"), source: Box::new(error) }
}

/// Turns a loader's error into ours: missing rights are told apart from a refusal.
fn load_error(error: EbpfError) -> CaptureError {
    match error {
        EbpfError::MapError(error) => match io_of_map(error) {
            Ok(source) => not_permitted(source),
            Err(error) => map_error("of the main object", error),
        },
        other => CaptureError::Refused { what: "the main eBPF object".to_owned(), source: Box::new(other) },
    }
}

fn io_of_map(error: MapError) -> Result<io::Error, MapError> {
    match error {
        MapError::CreateError { io_error, .. } if lacks_rights(&io_error) => Ok(io_error),
        MapError::SyscallError(e) if lacks_rights(&e.io_error) => Ok(e.io_error),
        other => Err(other),
    }
}

/// Whether an error is about rights. The verifier's refusal is EACCES, so only EPERM counts.
fn lacks_rights(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

fn not_permitted(source: io::Error) -> CaptureError {
    CaptureError::NotPermitted { what: "load eBPF programs".to_owned(), source }
}

/// Turns an error about one program into ours.
pub(crate) fn program_error(what: &str, error: ProgramError) -> CaptureError {
    match error {
        ProgramError::LoadError { io_error, .. } if lacks_rights(&io_error) => not_permitted(io_error),
        ProgramError::SyscallError(e) if lacks_rights(&e.io_error) => not_permitted(e.io_error),
        other => CaptureError::Refused { what: what.to_owned(), source: Box::new(other) },
    }
}
