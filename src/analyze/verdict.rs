//! From shares to a verdict. The thresholds and their reasons are in docs/verdicts.md.

use super::report::{Category, VerdictKind};

/// A wait that takes this share of the steps is the cause, whatever else there is: nearly
/// half of the time the job does not get on.
pub(super) const DECISIVE: f64 = 0.45;
/// A smaller wait is the cause only if it clearly leads.
const LEADING: f64 = 0.35;
/// What "clearly leads" means: half as much again as any other category.
const LEAD: f64 = 1.5;
/// Computing that takes this share is the limit: no other cause can win a third.
const COMPUTES: f64 = 0.70;
/// Computing that takes this share is the limit if nothing is waited for.
const COMPUTES_ALONE: f64 = 0.50;
/// Interpreter and launches that take this share keep the device (or the CPU's vector units) waiting.
const HOSTS: f64 = 0.50;
/// Doing nothing for this share is being idle.
const IDLES: f64 = 0.60;
/// A device that is busy for this share is the limit, whatever its host does meanwhile.
const DEVICE_BUSY: f64 = 0.85;

/// Shares of step time by category, in the order of [`Category::ALL`].
pub(super) type Parts = [f64; Category::ALL.len()];

/// A verdict without its words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Decision {
    pub kind: VerdictKind,
    pub share: f64,
    /// From the shares alone, 0–1.
    pub confidence: f64,
}

/// Decides from shares; `gpu_busy` is the device's own share, where it is known.
pub(super) fn decide(parts: &Parts, gpu_busy: Option<f64>) -> Decision {
    let of = |c: Category| parts[c as usize];
    let (compute, python, idle) = (of(Category::ComputeCpu), of(Category::Python), of(Category::Idle));
    let sure = |share: f64, from: f64| (0.55 + 0.45 * (share - from) / (1.0 - from)).clamp(0.4, 1.0);
    let make = |kind, share, confidence| Decision { kind, share, confidence };

    if let Some(busy) = gpu_busy.filter(|b| *b >= DEVICE_BUSY) {
        return make(VerdictKind::GpuBound, busy, sure(busy, DEVICE_BUSY - 0.2));
    }
    let waits = [
        (Category::Input, VerdictKind::InputBound),
        (Category::Communication, VerdictKind::CommunicationBound),
        (Category::Io, VerdictKind::IoBound),
        (Category::GpuWait, VerdictKind::GpuBound),
    ];
    let mut largest = waits[0];
    for wait in waits {
        if of(wait.0) > of(largest.0) {
            largest = wait;
        }
    }
    let share = of(largest.0);
    let others = Category::ALL.into_iter().filter(|c| *c != largest.0).map(of).fold(0.0, f64::max);
    if share >= DECISIVE || (share >= LEADING && share >= LEAD * others) {
        let margin = if share >= LEAD * others { 0.0 } else { 0.1 };
        return make(largest.1, share, sure(share, LEADING) - margin);
    }
    if idle >= IDLES {
        return make(VerdictKind::Idle, idle, sure(idle, IDLES - 0.1));
    }
    if of(Category::Other) >= 0.5 {
        return make(VerdictKind::Inconclusive, of(Category::Other), 0.3);
    }
    if python >= HOSTS || (python >= 0.4 && python > compute && share < 0.3) {
        return make(VerdictKind::HostBound, python, sure(python, HOSTS - 0.15));
    }
    if compute >= COMPUTES || (compute >= COMPUTES_ALONE && share < 0.2 && idle < 0.3 && python < 0.4) {
        return make(VerdictKind::CpuBound, compute, sure(compute, COMPUTES_ALONE - 0.1));
    }
    if compute + python >= 0.85 {
        let kind = if python >= compute { VerdictKind::HostBound } else { VerdictKind::CpuBound };
        return make(kind, compute.max(python), 0.5);
    }
    let top = parts.iter().copied().fold(0.0, f64::max);
    make(VerdictKind::Balanced, top, (1.2 - top).clamp(0.45, 0.85))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[(Category, f64)]) -> Parts {
        let mut parts = Parts::default();
        for (c, share) in of {
            parts[*c as usize] = *share;
        }
        parts
    }

    #[test]
    fn clear_pictures_get_clear_verdicts() {
        use Category::{Communication, ComputeCpu, GpuWait, Idle, Input, Io, Python};
        for (of, kind) in [
            (vec![(Input, 0.8), (ComputeCpu, 0.2)], VerdictKind::InputBound),
            (vec![(Input, 0.3), (ComputeCpu, 0.35), (Communication, 0.2), (Python, 0.15)], VerdictKind::Balanced),
            (vec![(ComputeCpu, 0.75), (Python, 0.15), (Input, 0.1)], VerdictKind::CpuBound),
            (vec![(ComputeCpu, 0.6), (Python, 0.3), (Input, 0.1)], VerdictKind::CpuBound),
            (vec![(ComputeCpu, 0.2), (Python, 0.75)], VerdictKind::HostBound),
            (vec![(Io, 0.5), (ComputeCpu, 0.5)], VerdictKind::IoBound),
            (vec![(GpuWait, 0.9), (Python, 0.1)], VerdictKind::GpuBound),
            (vec![(Communication, 0.6), (ComputeCpu, 0.4)], VerdictKind::CommunicationBound),
            (vec![(Idle, 0.99)], VerdictKind::Idle),
            (vec![(Input, 0.4), (ComputeCpu, 0.45), (Python, 0.15)], VerdictKind::Balanced),
        ] {
            assert_eq!(decide(&parts(&of), None).kind, kind, "{of:?}");
        }
    }

    #[test]
    fn a_busy_device_is_the_limit_even_if_the_host_only_launches() {
        let parts = parts(&[(Category::Python, 0.9), (Category::GpuWait, 0.1)]);
        assert_eq!(decide(&parts, Some(0.95)).kind, VerdictKind::GpuBound);
        assert_eq!(decide(&parts, Some(0.3)).kind, VerdictKind::HostBound);
    }
}
