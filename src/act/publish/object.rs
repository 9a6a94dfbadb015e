//! The findings object: what is in it, and how far two differ.

use jiff::SignedDuration;

use super::Sighting;
use crate::cluster::{NodeFindingsSpec, PublishedFindings};
use crate::fault::{Check, FINDINGS_SCHEMA, Finding, Severity, State};

/// Longest time between two publications of the object.
pub const REFRESH: SignedDuration = SignedDuration::from_mins(2);
/// Findings in an object, the worst first; etcd takes objects of 1.5 MB.
const MOST: usize = 200;
/// Characters of a line of evidence.
const LINE: usize = 1000;

/// How far two objects differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Somebody should know at once.
    News,
    /// The same more often.
    Counts,
    /// In nothing but when it was looked, and in words about it.
    None,
}

/// What a sighting is as an object.
pub(super) fn spec(sighting: &Sighting, node: &str) -> NodeFindingsSpec {
    let look = &sighting.look;
    let mut findings: Vec<Finding> = look.findings.iter().take(MOST).cloned().collect();
    for line in findings.iter_mut().flat_map(|finding| &mut finding.evidence) {
        if let Some((end, _)) = line.char_indices().nth(LINE) {
            line.truncate(end);
        }
    }
    let worst =
        findings.first().filter(|finding| finding.severity > Severity::Info).map(|finding| finding.fault.clone());
    let blind = look.checks.iter().any(|check| check.state == State::Blind);
    let state = match (&worst, blind) {
        (Some(_), _) => "fault",
        (None, true) => "blind",
        (None, false) => "ok",
    };
    NodeFindingsSpec {
        looked_at: sighting.at,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        refresh_seconds: REFRESH.as_secs().unsigned_abs(),
        gpus: sighting.gpus,
        state: state.to_owned(),
        worst,
        report: PublishedFindings {
            schema: FINDINGS_SCHEMA.to_owned(),
            node: Some(node.to_owned()),
            boot_id: look.boot_id.clone(),
            checks: look.checks.clone(),
            findings,
        },
    }
}

/// How far an object differs from one that was published.
pub(super) fn change(sent: &NodeFindingsSpec, next: &NodeFindingsSpec) -> Change {
    let checks = |spec: &NodeFindingsSpec| -> Vec<(String, State)> {
        spec.report.checks.iter().map(|Check { name, state, .. }| (name.clone(), *state)).collect()
    };
    let findings = |spec: &NodeFindingsSpec| -> Vec<_> {
        let all = spec.report.findings.iter();
        all.map(|finding| (key(finding), finding.severity, finding.action.clone())).collect()
    };
    let counts = |spec: &NodeFindingsSpec| -> Vec<_> {
        spec.report.findings.iter().map(|finding| (finding.count, finding.because.clone())).collect()
    };
    let head =
        |spec: &NodeFindingsSpec| (spec.state.clone(), spec.gpus, spec.agent.clone(), spec.report.boot_id.clone());
    if head(sent) != head(next) || checks(sent) != checks(next) || findings(sent) != findings(next) {
        Change::News
    } else if counts(sent) != counts(next) {
        Change::Counts
    } else {
        Change::None
    }
}

/// What makes two findings of a node the same.
pub(super) fn key(finding: &Finding) -> String {
    let device = &finding.device;
    let parts = [&device.pci, &device.name, &device.instance].map(|part| part.as_deref().unwrap_or_default());
    format!("{} {}", finding.fault, parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::Look;
    use crate::fault::{Catalogue, Device};
    use jiff::Timestamp;

    fn sighting(faults: &[&str]) -> Sighting {
        let catalogue = Catalogue::embedded().unwrap();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let finding = |fault: &&str| {
            Finding::read(&catalogue, fault, Device::default(), vec!["é".repeat(5000)], "kernel-log", at)
        };
        let checks = vec![Check { name: "kernel-log".into(), state: State::Ok, detail: "9 lines".into() }];
        let findings = faults.iter().map(finding).collect();
        Sighting { at, gpus: Some(8), look: Look { checks, findings, ..Look::default() } }
    }

    #[test]
    fn an_object_has_bounds() {
        let many = spec(&sighting(&["xid-79"; 500]), "gpu-1");
        assert_eq!((many.report.findings.len(), many.report.findings[0].evidence[0].chars().count()), (MOST, LINE));
        assert_eq!((many.state.as_str(), many.worst.as_deref()), ("fault", Some("xid-79")));
        let json = serde_json::to_value(&many).unwrap();
        assert_eq!((&json["report"]["schema"], &json["refreshSeconds"]), (&"aictl.findings/v1".into(), &120.into()));
        assert_eq!(spec(&sighting(&["oom-memcg"]), "gpu-1").state, "ok", "a note is no fault");
    }

    #[test]
    fn news_counts_and_words_are_told_apart() {
        let first = spec(&sighting(&["xid-79"]), "gpu-1");
        assert_eq!(change(&first, &first), Change::None);
        let mut later = first.clone();
        later.looked_at = Timestamp::from_second(1_800_000_030).unwrap();
        later.report.checks[0].detail = "10 lines".to_owned();
        assert_eq!(change(&first, &later), Change::None);
        later.report.findings[0].count = 7;
        assert_eq!(change(&first, &later), Change::Counts);
        later.report.findings[0].severity = Severity::Warning;
        assert_eq!(change(&first, &later), Change::News);
        assert_eq!(change(&first, &spec(&sighting(&[]), "gpu-1")), Change::News);
    }
}
