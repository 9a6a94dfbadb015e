//! What a condition and an event say, in the form that Kubernetes wants it.

use crate::cluster::NodeFindingsSpec;
use crate::fault::{Finding, Severity, State};

/// Longest note of an event, and of a condition's message here: bytes that the server takes.
const LONGEST: usize = 1024;

/// Status, reason and message of the condition. Nothing in it changes while the same faults stay.
pub(super) fn condition(spec: &NodeFindingsSpec) -> (&'static str, String, String) {
    let faults = || spec.report.findings.iter().filter(|finding| finding.severity > Severity::Info);
    let blind: Vec<&str> = spec
        .report
        .checks
        .iter()
        .filter(|check| check.state == State::Blind)
        .map(|check| check.name.as_str())
        .collect();
    match (faults().next(), blind.is_empty()) {
        (Some(worst), _) => {
            let more = faults().count() - 1;
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            ("True", reason(&worst.fault), bounded(&format!("{}{more}", sentence(worst))))
        }
        (None, false) => ("Unknown", "CannotSee".to_owned(), bounded(&format!("could not look: {}", blind.join(", ")))),
        (None, true) => ("False", "NoFault".to_owned(), "looked, and nothing is wrong".to_owned()),
    }
}

/// "xid-79 on 0000:3b:00.0: GPU has fallen off the bus; RESTART_BM".
pub(super) fn sentence(finding: &Finding) -> String {
    let device = finding.device.pci.as_ref().or(finding.device.name.as_ref());
    let device = device.map_or(String::new(), |device| format!(" on {device}"));
    bounded(&format!("{}{device}: {}; {}", finding.fault, finding.title, finding.action))
}

/// "xid-79" as the reason of a condition or event: "Xid79".
pub(super) fn reason(fault: &str) -> String {
    let words = fault.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let reason: String = words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .take(16)
        .collect();
    if reason.starts_with(|c: char| c.is_ascii_alphabetic()) { reason } else { format!("Fault{reason}") }
}

/// In one line, of at most so many bytes, without what a terminal would obey.
pub(super) fn bounded(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        let end = (0..=LONGEST - 3).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_words_that_kubernetes_takes() {
        let made = ["xid-79", "gpu-lost-no-xid", "sxid-20034", "7-up", "é", ""].map(reason);
        assert_eq!(made, ["Xid79", "GpuLostNoXid", "Sxid20034", "Fault7Up", "Fault", "Fault"]);
    }

    #[test]
    fn messages_are_bounded_and_tame() {
        assert_eq!(bounded("a\u{1b}[31m\nb"), "a [31m b");
        let long = bounded(&"é".repeat(2000));
        assert!(long.len() <= LONGEST && long.ends_with("..."));
    }
}
