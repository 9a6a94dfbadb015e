//! How a GPU is connected: PCIe, NVLink, the fabric.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::facts::{Gpu, Reading};
use super::memory::needs_another_look;
use super::pass::Pass;
use crate::fault::history::History;

/// Replays are counted over this time, and at least over [`SHORTEST`].
const REPLAY_WINDOW: SignedDuration = SignedDuration::from_mins(10);
const SHORTEST: SignedDuration = SignedDuration::from_secs(60);

/// Lanes, generation, packets sent again.
pub fn pcie(pass: &mut Pass<'_>, history: &mut History) {
    for gpu in pass.gpus() {
        let pcie = &gpu.pcie;
        let width = pass.read(gpu, "PCIe width", &pcie.width).copied();
        let best = pass.read(gpu, "PCIe width", &pcie.max_width).copied();
        if let (Some(width @ 1..), Some(best)) = (width, best)
            && width < best
        {
            pass.found(gpu, "pcie-link-width", format!("PCIe width x{width}, card and slot can x{best}"));
        }
        let generation = pass.read(gpu, "PCIe generation", &pcie.generation).copied();
        let best = pass.read(gpu, "PCIe generation", &pcie.max_generation).copied();
        // An idle link slows down on purpose.
        if let (Some(generation @ 1..), Some(best)) = (generation, best)
            && generation < best
            && let Some(load) = load(pass, gpu)
        {
            let words = format!("PCIe generation {generation} at {load} % load, card and slot can {best}");
            pass.found(gpu, "pcie-link-gen", words);
        }
        if let Some(replays) = pass.read(gpu, "PCIe replays", &pcie.replays).copied() {
            let key = gpu.key("pcie-replays");
            history.count(&key, u64::from(replays));
            if let Some(grown) = history.grown(&key, REPLAY_WINDOW)
                && grown.over >= SHORTEST
                && grown.per_second() * 60.0 > pass.machine.limits.replays_per_minute
            {
                let words = format!("{} packets sent again in {} s", grown.by, grown.over.as_secs());
                pass.found(gpu, "pcie-replay-rate", words);
            }
        }
    }
    needs_another_look(pass, history);
}

/// The load of a GPU that works at its full clocks; `None` if it does not.
pub fn load(pass: &Pass<'_>, gpu: &Gpu) -> Option<u32> {
    let load = *gpu.clocks.utilisation_percent.value()?;
    let full = gpu.clocks.performance_state == Reading::Value(0);
    (full && load >= pass.machine.limits.busy_percent).then_some(load)
}

/// Links that are down although they should be up, and links that fail their checksums.
pub fn nvlink(pass: &mut Pass<'_>, history: &mut History) {
    let gpus: Vec<&Gpu> = pass.gpus().collect();
    for gpu in &gpus {
        let mut down = Vec::new();
        let mut up = 0_u32;
        for (number, link) in gpu.links.iter().enumerate() {
            match pass.read(gpu, "NVLink", &link.active) {
                Some(true) => up |= 1 << number,
                Some(false) => down.push(number),
                None => {}
            }
        }
        checksums(pass, gpu, history);
        // MIG switches links off.
        if gpu.links.is_empty() || gpu.is_divided() {
            continue;
        }
        let before = once_up(pass, gpu, up, history);
        let mut reasons = BTreeMap::<String, Vec<String>>::new();
        for number in &down {
            let why = match (peers(&gpus, gpu, *number), before & (1 << number) != 0) {
                (Some((with, of)), _) => format!("up on {with} of {of} like GPUs"),
                (None, true) => "up earlier since this boot".to_owned(),
                (None, false) => continue,
            };
            reasons.entry(why).or_default().push(number.to_string());
        }
        for (why, numbers) in reasons {
            let words = format!("of {} NVLinks down: {}; {why}", gpu.links.len(), numbers.join(", "));
            pass.found(gpu, "nvlink-down", words);
        }
        if up == 0 && !down.is_empty() {
            pass.note(format!("GPU {}: none of {} links is in use", gpu.index, down.len()));
        }
    }
    needs_another_look(pass, history);
}

/// On how many of the like GPUs a link is up, if on most.
fn peers(gpus: &[&Gpu], gpu: &Gpu, number: usize) -> Option<(usize, usize)> {
    let like = |other: &&&Gpu| other.index != gpu.index && other.name == gpu.name && !other.is_divided();
    let states: Vec<bool> =
        gpus.iter().filter(like).filter_map(|other| other.links.get(number)?.active.value().copied()).collect();
    let up = states.iter().filter(|up| **up).count();
    (up * 2 > states.len()).then_some((up, states.len()))
}

/// The links that were up once since this boot, as bits; those of now are added.
fn once_up(pass: &Pass<'_>, gpu: &Gpu, up: u32, history: &mut History) -> u32 {
    let (Some(boot), true) = (pass.machine.boot_id, gpu.uuid.is_some()) else { return 0 };
    let key = gpu.key("links");
    let known = history.recall(&key).and_then(|known| known.value.strip_prefix(boot)?.trim().parse::<u32>().ok());
    let before = known.unwrap_or(0);
    history.note(key, &format!("{boot} {}", before | up));
    before
}

fn checksums(pass: &mut Pass<'_>, gpu: &Gpu, history: &mut History) {
    for (number, link) in gpu.links.iter().enumerate() {
        let Some(errors) = pass.read(gpu, "NVLink errors", &link.crc_errors).copied() else { continue };
        let key = gpu.key(&format!("link{number}-crc"));
        history.count(&key, errors);
        if let Some(grown) = history.grown_lately(&key)
            && grown.per_second() > pass.machine.limits.crc_per_second
        {
            let words =
                format!("link {number}: {} packets with a wrong checksum in {} s", grown.by, grown.over.as_secs());
            pass.found(gpu, "nvlink-crc-rate", words);
        }
    }
}

/// Whether the GPUs have joined the fabric of their switches.
pub fn fabric(pass: &mut Pass<'_>, _history: &mut History) {
    let grace = pass.machine.bus.uptime_s < pass.machine.limits.fabric_grace_s;
    for gpu in pass.gpus() {
        if matches!(gpu.fabric.value(), Some(fabric) if fabric.state == 0) {
            continue;
        }
        let Some(fabric) = pass.read(gpu, "fabric", &gpu.fabric).copied() else { continue };
        // Without a link in use there is no fabric to join; MIG leaves it.
        let linked = gpu.links.iter().any(|link| link.active.value() == Some(&true)) && !gpu.is_divided();
        match (fabric.state, fabric.status) {
            (1 | 2, _) if grace => pass.note(format!("GPU {}: still joining after the boot", gpu.index)),
            (1, _) if linked => pass.found(gpu, "fabric-state", "registration with the fabric has not started"),
            (2, _) if linked => pass.found(gpu, "fabric-state", "registration with the fabric does not end"),
            (3, 0) => {}
            (3, status) => pass.found(gpu, "fabric-state", format!("registration ended with NVML's code {status}")),
            _ => {}
        }
        let bit = |shift: u32| fabric.health.is_some_and(|health| (health >> shift) & 3 == 1);
        if bit(4) {
            pass.found(gpu, "fabric-state", "NVML says that routes of the fabric are unhealthy");
        }
        if bit(0) {
            pass.note(format!("GPU {}: the fabric has less bandwidth than it should", gpu.index));
        }
    }
}
