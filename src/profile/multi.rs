//! Loads uprobes.bpf.c and attaches it through `uprobe_multi` links, by bpf(2) itself.
//!
//! aya 0.14 has no such links (0.15 does and needs a newer Rust). One link carries thousands
//! of probes and is gone in 0.2 s; perf-event uprobes take a tenth of a second *each* to detach.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use aya_obj::btf::Btf;
use aya_obj::{Map, Object};
use rustc_hash::FxHashMap;

use super::CaptureError;

// Numbers of <linux/bpf.h>.
const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_LOOKUP_ELEM: i32 = 1;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_PROG_LOAD: i32 = 5;
const BPF_BTF_LOAD: i32 = 18;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
const BPF_F_UPROBE_MULTI_RETURN: u32 = 1;
const BPF_MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const BPF_MAP_TYPE_TASK_STORAGE: u32 = 29;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    count: u32,
    multi_flags: u32,
    pid: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapElem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    pad: u32,
}

fn bpf<T>(command: i32, attr: &T) -> io::Result<i64> {
    // SAFETY: attr is a plain structure of the layout the command reads, its pointers are
    // alive for the call, and the size given is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *const T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn bpf_fd<T>(command: i32, attr: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn pointer<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

fn short_name(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    let kept = name.bytes().filter(|b| b.is_ascii_alphanumeric() || *b == b'_');
    short[..15].iter_mut().zip(kept).for_each(|(to, from)| *to = from);
    short
}

/// A file to probe, and in whom.
pub(crate) struct Place {
    path: CString,
    /// Keeps `path`, a link to our own descriptor, alive.
    _file: Option<File>,
    /// One process, or 0 for every process that maps the file.
    pid: u32,
}

impl Place {
    /// An open file, in one process or in all.
    pub fn new(file: File, pid: Option<u32>) -> io::Result<Place> {
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(Place { path, _file: Some(file), pid: pid.unwrap_or(0) })
    }

    /// Our own program.
    pub fn ourselves() -> Place {
        Place { path: c"/proc/self/exe".to_owned(), _file: None, pid: std::process::id() }
    }

    /// The one process it is about, if it is not about all.
    pub fn pid(&self) -> Option<u32> {
        (self.pid != 0).then_some(self.pid)
    }
}

/// The probe programs, loaded, and the maps they use.
pub(crate) struct Multi {
    programs: FxHashMap<String, OwnedFd>,
    maps: FxHashMap<String, OwnedFd>,
}

impl Multi {
    /// Loads `object`; maps that `shared` knows by name are used, the others made.
    pub fn load(object: &[u8], shared: &dyn Fn(&str) -> Option<OwnedFd>) -> Result<Multi, CaptureError> {
        let mut object = Object::parse(object).map_err(|e| refused("the object of the uprobe programs", e))?;
        if object.has_btf_relocations() {
            let kernel = Btf::from_sys_fs().map_err(|e| refused("its own BTF", e))?;
            object.relocate_btf(&kernel).map_err(|e| refused("relocating the uprobe programs", e))?;
        }
        let mut maps = FxHashMap::default();
        for (name, map) in &object.maps {
            let fd = match shared(name) {
                Some(fd) => fd,
                None => create_map(name, map).map_err(|e| denied_or(&format!("map {name}"), e))?,
            };
            maps.insert(name.clone(), fd);
        }
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let definitions = object.maps.clone();
        let fds = definitions.iter().map(|(name, map)| (name.as_str(), maps[name.as_str()].as_raw_fd(), map));
        object.relocate_maps(fds, &text).map_err(|e| refused("relocating the uprobe programs", e))?;
        object.relocate_calls(&text).map_err(|e| refused("relocating the uprobe programs", e))?;
        let mut programs = FxHashMap::default();
        for (name, program) in &object.programs {
            let Some(function) = object.functions.get(&program.function_key()) else { continue };
            let fd = load_program(name, &program.license, &function.instructions)?;
            programs.insert(name.clone(), fd);
        }
        Ok(Multi { programs, maps })
    }

    /// A map by name.
    pub fn map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.maps.get(name).map(AsFd::as_fd)
    }

    /// Attaches `program` at file offsets of a place; dropping the result detaches it. `on_return` probes the return of the functions that
    /// start there: never for C++.
    pub fn attach(&self, program: &str, place: &Place, points: &[(u64, u64)], on_return: bool) -> io::Result<OwnedFd> {
        let fd = self.programs.get(program).ok_or(io::ErrorKind::NotFound)?;
        let (offsets, cookies): (Vec<u64>, Vec<u64>) = points.iter().copied().unzip();
        let attr = LinkCreate {
            prog_fd: fd.as_raw_fd() as u32,
            attach_type: BPF_TRACE_UPROBE_MULTI,
            path: place.path.as_ptr() as u64,
            offsets: offsets.as_ptr() as u64,
            cookies: cookies.as_ptr() as u64,
            count: offsets.len() as u32,
            pid: place.pid,
            multi_flags: if on_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 },
            ..LinkCreate::default()
        };
        bpf_fd(BPF_LINK_CREATE, &attr)
    }
}

/// Reads one element; false if there is none.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: u32, value: &mut [u8]) -> io::Result<bool> {
    let attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        key: pointer(&key),
        value: value.as_mut_ptr() as u64,
        ..MapElem::default()
    };
    match bpf(BPF_MAP_LOOKUP_ELEM, &attr) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes one element.
pub(crate) fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let attr = MapElem {
        map_fd: map.as_raw_fd() as u32,
        key: pointer(&key),
        value: value.as_ptr() as u64,
        ..MapElem::default()
    };
    bpf(BPF_MAP_UPDATE_ELEM, &attr).map(drop)
}

/// How many copies of a per-CPU value the kernel keeps ("0-3,8" has nine).
pub(crate) fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
    last.map(|n| n + 1).ok_or_else(|| io::Error::other("no CPUs in /sys/devices/system/cpu/possible"))
}

/// Reads the elements of a per-CPU array of `N` numbers each, summed over the CPUs, into `sums`.
pub(crate) fn sum_per_cpu<const N: usize>(map: BorrowedFd<'_>, cpus: usize, sums: &mut [[u64; N]]) -> io::Result<()> {
    let mut value = vec![0u8; cpus * N * 8];
    for (key, sum) in sums.iter_mut().enumerate() {
        *sum = [0; N];
        if !lookup(map, key as u32, &mut value)? {
            continue;
        }
        for (at, word) in value.chunks_exact(8).enumerate() {
            sum[at % N] += u64::from_ne_bytes(word.try_into().unwrap_or_default());
        }
    }
    Ok(())
}

/// Takes probes off all at once: the kernel waits a grace period for each link, and they are
/// shared by those that wait together (one after the other, thirty links take two seconds).
pub(crate) fn detach(links: Vec<OwnedFd>) {
    std::thread::scope(|scope| {
        for link in links {
            scope.spawn(move || drop(link));
        }
    });
}

fn create_map(name: &str, map: &Map) -> io::Result<OwnedFd> {
    let mut attr = MapCreate {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        map_flags: map.map_flags(),
        name: short_name(name),
        ..MapCreate::default()
    };
    // The kernel wants to know the types of a task storage's key and value, if only by size.
    let types = (attr.map_type == BPF_MAP_TYPE_TASK_STORAGE).then(|| storage_types(attr.value_size)).transpose()?;
    if let Some(types) = &types {
        attr.btf_fd = types.as_raw_fd() as u32;
        attr.btf_key_type_id = 1;
        attr.btf_value_type_id = 2;
        attr.max_entries = 0;
    }
    debug_assert!(attr.map_type != BPF_MAP_TYPE_PERCPU_ARRAY || attr.value_size.is_multiple_of(8));
    bpf_fd(BPF_MAP_CREATE, &attr)
}

/// BTF of two types: `int` (1) and `int[size / 4]` (2).
fn storage_types(size: u32) -> io::Result<OwnedFd> {
    const KIND_INT: u32 = 1 << 24;
    const KIND_ARRAY: u32 = 3 << 24;
    const SIGNED_32: u32 = (1 << 24) | 32;
    let types = [[1, KIND_INT, 4, SIGNED_32].as_slice(), &[0, KIND_ARRAY, 0, 1, 1, size / 4]].concat();
    let strings = b"\0int\0";
    let type_bytes = types.len() as u32 * 4;
    let mut blob: Vec<u8> = Vec::new();
    blob.extend(0xeb9f_u16.to_ne_bytes());
    blob.extend([1, 0]); // version, flags
    for word in [24, 0, type_bytes, type_bytes, strings.len() as u32].iter().chain(&types) {
        blob.extend(word.to_ne_bytes());
    }
    blob.extend(strings);
    let attr = BtfLoad { btf: blob.as_ptr() as u64, btf_size: blob.len() as u32, ..BtfLoad::default() };
    bpf_fd(BPF_BTF_LOAD, &attr)
}

fn load_program(
    name: &str,
    license: &CString,
    instructions: &[aya_obj::generated::bpf_insn],
) -> Result<OwnedFd, CaptureError> {
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        name: short_name(name),
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..ProgLoad::default()
    };
    let first = match bpf_fd(BPF_PROG_LOAD, &attr) {
        Ok(fd) => return Ok(fd),
        Err(error) => error,
    };
    if first.raw_os_error() == Some(libc::EPERM) {
        return Err(CaptureError::NotPermitted { what: "load eBPF programs".to_owned(), source: first });
    }
    // Again, for the verifier's words.
    let mut log = vec![0u8; 1 << 20];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    if let Ok(fd) = bpf_fd(BPF_PROG_LOAD, &attr) {
        return Ok(fd);
    }
    let log = log.split(|b| *b == 0).next().unwrap_or_default();
    let log = String::from_utf8_lossy(log);
    let tail: Vec<&str> = log.lines().rev().take(12).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    Err(refused(&format!("program {name}"), format!("{first}: {}", tail.join("\n"))))
}

fn refused(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CaptureError {
    CaptureError::Refused { what: what.to_owned(), source: source.into() }
}

fn denied_or(what: &str, source: io::Error) -> CaptureError {
    if source.raw_os_error() == Some(libc::EPERM) {
        CaptureError::NotPermitted { what: format!("make eBPF {what}"), source }
    } else {
        refused(what, source)
    }
}
