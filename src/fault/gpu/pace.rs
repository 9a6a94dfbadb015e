//! How fast a GPU runs, and what holds it back.

use super::facts::{Gpu, Reading, reason};
use super::links::load;
use super::pass::Pass;
use crate::fault::history::History;

/// Clocks and power.
pub fn clocks(pass: &mut Pass<'_>, _history: &mut History) {
    let gpus: Vec<&Gpu> = pass.gpus().collect();
    for gpu in &gpus {
        let reasons = pass.read(gpu, "clock reasons", &gpu.clocks.reasons).copied().unwrap_or(0);
        let power = power(gpu);
        if reasons & reason::POWER_BRAKE != 0 {
            pass.found(gpu, "power-brake", format!("the server holds the GPU back{power}"));
        }
        if reasons & reason::POWER_CAP != 0 {
            pass.found(gpu, "power-throttle", format!("at its power limit{power}"));
        }
        slow(pass, gpu, &gpus);
        if pass.read(gpu, "persistence mode", &gpu.persistence) == Some(&false) {
            pass.found(gpu, "persistence-off", "persistence mode is off");
        }
    }
}

fn power(gpu: &Gpu) -> String {
    let watts = |milliwatts: &u32| milliwatts.div_ceil(1000);
    match (gpu.power_mw.value().map(watts), gpu.power_limit_mw.value().map(watts)) {
        (Some(drawn), Some(limit)) => format!(": {drawn} W of {limit} W"),
        (Some(drawn), None) => format!(": {drawn} W"),
        _ => String::new(),
    }
}

/// Clocks that are low under load for no reason given. A setting for all GPUs would look the same,
/// so a like GPU must be busy at full speed beside it.
fn slow(pass: &mut Pass<'_>, gpu: &Gpu, gpus: &[&Gpu]) {
    let limit = pass.machine.limits.slow_clock;
    let (Some(load), Some(share)) = (load(pass, gpu), share(gpu)) else { return };
    if share >= limit || gpu.clocks.reasons != Reading::Value(0) {
        return;
    }
    let fast = gpus.iter().filter(|other| other.index != gpu.index && other.name == gpu.name);
    let fast = fast.filter(|other| self::load(pass, other).is_some()).find(|other| self::share(other) > Some(0.8));
    if let (Some(other), Some(clock), Some(best)) = (fast, gpu.clocks.sm_mhz.value(), gpu.clocks.max_sm_mhz.value()) {
        let words = format!(
            "{clock} MHz of {best} MHz at {load} % load, no reason given; GPU {} beside it runs at {} MHz",
            other.index,
            other.clocks.sm_mhz.value().unwrap_or(&0)
        );
        pass.found(gpu, "clock-low", words);
    }
}

/// Share of its highest clock at which a GPU runs.
fn share(gpu: &Gpu) -> Option<f64> {
    let best = gpu.clocks.max_sm_mhz.value().filter(|best| **best > 0)?;
    Some(f64::from(*gpu.clocks.sm_mhz.value()?) / f64::from(*best))
}

/// Heat.
pub fn temperature(pass: &mut Pass<'_>, _history: &mut History) {
    let mut hottest: Option<(u32, u32)> = None;
    for gpu in pass.gpus() {
        let now = pass.read(gpu, "temperature", &gpu.thermal.gpu_c).copied();
        let slowdown = gpu.thermal.slowdown_c.value().copied().filter(|slowdown| *slowdown > 0);
        let reasons = gpu.clocks.reasons.value().copied().unwrap_or(0);
        let hot = now.zip(slowdown).is_some_and(|(now, slowdown)| now >= slowdown);
        if reasons & reason::HARDWARE_THERMAL != 0 || hot {
            let at = now.map_or(String::new(), |now| format!("{now} °C"));
            let from = slowdown.map_or(String::new(), |slowdown| format!(", slows down from {slowdown} °C on"));
            let says =
                if reasons & reason::HARDWARE_THERMAL != 0 { "; NVML says: hardware thermal slowdown" } else { "" };
            pass.found(gpu, "thermal-slowdown", format!("{at}{from}{says}"));
        } else if let (Some(now), Some(most)) = (now, pass.machine.limits.hottest_c)
            && now >= most
        {
            pass.found(gpu, "gpu-hot", format!("{now} °C, from {most} °C on the site calls it too hot"));
        }
        hottest = hottest.max(now.map(|now| (now, gpu.index)));
    }
    if let Some((degrees, index)) = hottest {
        pass.note(format!("hottest is GPU {index} at {degrees} °C"));
    }
}
