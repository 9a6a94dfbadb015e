//! The machine's clock, limits, memory, and how the last boot ended.

use jiff::{SignedDuration, Timestamp};

use super::super::facts::{ClockSync, CrashRecord, Limits, MemoryController, Share};
use super::super::history::History;
use super::{Catalogue, Verdict, counted, escalate, found};

/// Time that a time service has after boot.
const CLOCK_GRACE_S: u64 = 600;
/// A limit used up to here is as good as reached: what runs into it comes in bursts.
const NEARLY: f64 = 0.95;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// A crash is told for so long after the boot that followed it.
const NEWS_S: i64 = 24 * 3600;
/// A crash dump and a slow firmware may lie between a panic and the next boot.
const BEFORE_BOOT_S: i64 = 3600;

/// Whether the clock is kept in step.
pub fn clock(clock: &ClockSync, catalogue: &Catalogue, now: Timestamp) -> Verdict {
    if clock.synchronised {
        let error_ms = clock.largest_error_us as f64 / 1000.0;
        return Verdict::of(format!("in step, to {error_ms:.1} ms at worst"));
    }
    if clock.uptime_s < CLOCK_GRACE_S {
        return Verdict::of("not in step yet; the machine has just booted");
    }
    let mut verdict = Verdict::of("nobody keeps the clock in step");
    let mut finding = found(catalogue, "clock-unsync", "clock", now);
    finding.because = Some("the kernel's clock has the state unsynchronised".to_owned());
    finding.evidence.push(format!("adjtimex: STA_UNSYNC, largest error {} us", clock.largest_error_us));
    verdict.add(finding);
    verdict
}

/// Limits that are as good as reached.
pub fn limits(limits: &Limits, catalogue: &Catalogue, now: Timestamp) -> Verdict {
    let all: [(&str, &str, Option<Share>); 3] = [
        ("conntrack-full", "tracked connections", limits.connections),
        ("pid-exhausted", "tasks", limits.tasks),
        ("fd-exhausted", "open files", limits.files),
    ];
    let mut verdict = Verdict::default();
    let mut words = Vec::new();
    for (fault, what, share) in all {
        let Some(Share { used, limit }) = share.filter(|share| share.limit > 0) else { continue };
        let part = used as f64 / limit as f64;
        words.push(format!("{what} {:.0} %", part * 100.0));
        if part >= NEARLY {
            let mut finding = found(catalogue, fault, "limits", now);
            finding.because = Some(format!("{used} of {limit} {what}"));
            finding.evidence.push(format!("{what}: {used} of {limit}"));
            verdict.add(finding);
        }
    }
    verdict.detail = format!("in use: {}", words.join(", "));
    verdict
}

/// Errors of the machine's memory.
pub fn memory(controllers: &[MemoryController], catalogue: &Catalogue, history: &mut History) -> Verdict {
    let mut verdict = Verdict::of(counted(controllers.len(), "memory controller", "memory controllers"));
    let now = history.now();
    for controller in controllers {
        let (name, corrected, uncorrected) = (&controller.name, controller.corrected, controller.uncorrected);
        let bad = |count: fn(&(String, u64, u64)) -> u64| {
            let worst = controller.modules.iter().max_by_key(|module| count(module));
            worst.filter(|module| count(module) > 0).map(|module| module.0.clone())
        };
        let device = |module: Option<String>| Some(module.map_or(name.clone(), |module| format!("{name}/{module}")));
        // Wrong data may be anywhere until the next boot, so it does not get old.
        if uncorrected > 0 {
            let mut finding = found(catalogue, "edac-ue", "edac", now);
            finding.count = uncorrected;
            finding.device.name = device(bad(|module| module.2));
            finding.evidence.push(format!("{name}: ue_count {uncorrected} since boot"));
            verdict.add(finding);
        }
        let key = format!("edac/{name}/corrected");
        history.count(&key, corrected);
        let enough = catalogue.limits().memory.corrected_per_hour as f64;
        if let Some(growth) = history.grown(&key, HOUR).filter(|growth| growth.per_hour() >= enough) {
            let mut finding = found(catalogue, "edac-ce-rate", "edac", now);
            finding.count = growth.by;
            finding.device.name = device(bad(|module| module.1));
            finding.because = Some(format!("{:.0} an hour", growth.per_hour()));
            finding.evidence.push(format!(
                "{name}: ce_count {corrected}, {} more in {} s",
                growth.by,
                growth.over.as_secs()
            ));
            // Saturates; a rate is no exact number.
            escalate(catalogue, &mut finding, growth.per_hour() as u64);
            verdict.add(finding);
        }
    }
    verdict
}

/// What a crash left behind: news only if it ended the boot before this one.
pub fn crash_records(
    records: &[CrashRecord],
    boot: Option<Timestamp>,
    catalogue: &Catalogue,
    now: Timestamp,
) -> Verdict {
    let mut verdict = Verdict::of(match records.len() {
        0 => "no crash on record".to_owned(),
        n => format!("{} of crashes", counted(n, "record", "records")),
    });
    let fresh = |record: &&CrashRecord| {
        let (Some(at), Some(boot)) = (record.at, boot) else { return false };
        let before = boot.duration_since(at).as_secs();
        (-60..=BEFORE_BOOT_S).contains(&before) && now.duration_since(boot).as_secs() <= NEWS_S
    };
    let panics: Vec<&CrashRecord> = records.iter().filter(|record| record.panic).filter(fresh).collect();
    // One panic leaves several parts.
    if let Some(first) = panics.first() {
        let mut finding = found(catalogue, "kernel-panic", "pstore", now);
        finding.first_seen = first.at;
        finding.last_seen = first.at;
        finding.evidence = panics.iter().flat_map(|record| record.lines.iter().cloned()).take(3).collect();
        finding.because = Some(format!("{} from just before this boot", first.name));
        verdict.add(finding);
    } else if !records.is_empty() {
        verdict.detail.push_str(", of no panic before this boot, or older than a day: history");
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::super::super::catalogue::Severity;
    use super::super::testing::{at, catalogue, fresh, later, names};
    use super::*;

    #[test]
    fn a_clock_that_nobody_keeps_is_a_fault_after_a_while() {
        let judged = |synchronised, uptime_s| {
            let facts = ClockSync { synchronised, largest_error_us: 16_000_000, uptime_s };
            clock(&facts, &catalogue(), at(0)).findings.len()
        };
        assert_eq!((judged(true, 9999), judged(false, 60), judged(false, 9999)), (0, 0, 1));
    }

    #[test]
    fn limits_count_when_nearly_reached() {
        let share = |used, limit| Some(Share { used, limit });
        let full = Limits { connections: share(95, 100), tasks: share(97, 100), files: share(100, 100) };
        let found = limits(&full, &catalogue(), at(0)).findings;
        assert_eq!(names(&found), ["conntrack-full", "pid-exhausted", "fd-exhausted"]);
        let free = Limits { connections: share(0, 0), tasks: share(94, 100), files: share(5000, u64::MAX) };
        assert!(limits(&free, &catalogue(), at(0)).findings.is_empty());
    }

    #[test]
    fn memory_errors() {
        let controller = |corrected, uncorrected| MemoryController {
            name: "mc0".to_owned(),
            corrected,
            uncorrected,
            modules: vec![("DIMM_A1".to_owned(), 0, 0), ("DIMM_B1".to_owned(), corrected, uncorrected)],
        };
        let catalogue = catalogue();
        let mut history = fresh();
        assert!(memory(&[controller(900, 0)], &catalogue, &mut history).findings.is_empty(), "over a year, maybe");
        let mut history = later(history, 600);
        assert!(memory(&[controller(905, 0)], &catalogue, &mut history).findings.is_empty());
        let mut history = later(history, 600);
        let found = memory(&[controller(950, 1)], &catalogue, &mut history).findings;
        assert_eq!(names(&found), ["edac-ue", "edac-ce-rate"]);
        assert_eq!(found[0].device.name.as_deref(), Some("mc0/DIMM_B1"));
        assert_eq!(found[1].severity, Severity::Warning);
        let mut history = later(history, 600);
        assert_eq!(memory(&[controller(1100, 0)], &catalogue, &mut history).findings[0].severity, Severity::Error);
    }

    #[test]
    fn a_panic_is_news_after_the_boot_that_followed() {
        let record = |panic, seconds| CrashRecord {
            name: "dmesg-efi-1".to_owned(),
            panic,
            at: Some(at(seconds)),
            lines: vec!["Kernel panic - not syncing: Fatal machine check".to_owned()],
        };
        let judged =
            |record: CrashRecord, now| crash_records(&[record], Some(at(0)), &catalogue(), at(now)).findings.len();
        assert_eq!(judged(record(true, -120), 600), 1);
        assert_eq!(judged(record(false, -120), 600), 0, "an oops is the log's to tell");
        assert_eq!(judged(record(true, -90_000), 600), 0, "a boot before the last");
        assert_eq!(judged(record(true, -120), 200_000), 0, "two days ago");
    }
}
