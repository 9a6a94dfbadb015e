//! What events mean together: correlation, repetition, rates, decoded words.

use std::collections::BTreeMap;

use super::catalogue::{Entry, Variant};
use super::collect::{Group, Key, micros};
use super::finding::Finding;
use super::nvlink::Decoded;

/// Events of one cause lie within this, in microseconds.
const TOGETHER_US: i128 = 600_000_000;

/// Changes a finding by what else was seen.
pub(super) fn judge(finding: &mut Finding, entry: &Entry, key: &Key, group: &Group, all: &BTreeMap<Key, Group>) {
    let entry_decides = entry.decided;
    match (key.fault.as_str(), group.code) {
        _ if entry_decides => {}
        ("xid-154", _) => recovery_action(finding, entry, &group.detail),
        ("xid-48", _) => {
            let remap = beside(key, group, all, |code| matches!(code, 63 | 64));
            match remap {
                Some(code) => vary(finding, entry, "with_63_64", &format!("xid-48 and xid-{code} on one GPU")),
                None => vary(finding, entry, "solo", "no row remap event beside it"),
            }
        }
        ("xid-45", _) => match group.caused_by.or_else(|| beside(key, group, all, |code| code != 45)) {
            Some(code) => vary(finding, entry, "not_solo", &format!("follows from xid-{code}")),
            None => vary(finding, entry, "solo", "no other Xid beside it"),
        },
        ("xid-13" | "xid-31", _) if group.incidents > 1 => {
            vary(finding, entry, "repeat", &format!("{} separate incidents on one GPU", group.incidents));
        }
        ("xid-13" | "xid-31", _) => vary(finding, entry, "solo", "one incident"),
        _ => {}
    }
    if let Some(decoded) = group.decoded.as_ref().filter(|_| !entry_decides) {
        decode(finding, decoded);
    }
    if let Some(rate) = entry.escalate.as_ref().filter(|_| group.too_often) {
        finding.severity = finding.severity.max(rate.severity.of(group.fatal));
        finding.action.clone_from(&rate.action);
        finding.because = Some(format!("{} times within {} s", rate.count, rate.within_s));
    }
}

/// Puts lines without a number under the Xid 79 of the same GPU: drivers print both.
pub(super) fn merge_lost(all: &mut BTreeMap<Key, Group>) {
    let lost: Vec<Key> = all.keys().filter(|key| key.fault == "gpu-lost-no-xid").cloned().collect();
    for key in lost {
        let twins: Vec<Key> = all.keys().filter(|k| k.fault == "xid-79" && same_gpu(k, &key)).cloned().collect();
        // Without an address, only one candidate will do.
        let [twin] = &twins[..] else { continue };
        let together = match (all.get(&key), all.get(twin)) {
            (Some(lost), Some(xid)) => near(lost, xid),
            _ => false,
        };
        if together && let (Some(lost), Some(xid)) = (all.remove(&key), all.get_mut(twin)) {
            xid.lines.extend(lost.lines.into_iter().take(1));
        }
    }
}

/// Another Xid on the same GPU about the same time.
fn beside(key: &Key, group: &Group, all: &BTreeMap<Key, Group>, wanted: impl Fn(u32) -> bool) -> Option<u32> {
    all.iter()
        .filter(|(other, _)| *other != key && other.fault.starts_with("xid-") && same_gpu(other, key))
        .filter(|(_, other)| near(other, group))
        .find_map(|(_, other)| other.code.filter(|code| wanted(*code)))
}

fn same_gpu(a: &Key, b: &Key) -> bool {
    a.pci == b.pci || a.pci.is_none() || b.pci.is_none()
}

/// Whether two groups overlap in time, or nearly; without times they may.
fn near(a: &Group, b: &Group) -> bool {
    let (Some(a0), Some(a1), Some(b0), Some(b1)) = (micros(a.first), micros(a.last), micros(b.first), micros(b.last))
    else {
        return true;
    };
    a0 - TOGETHER_US <= b1 && b0 - TOGETHER_US <= a1
}

/// `GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)`: the GPU's own word,
/// which is worth more than any table.
fn recovery_action(finding: &mut Finding, entry: &Entry, detail: &str) {
    let Some((_, to)) = detail.rsplit_once(" to ") else { return };
    let number = to.split([' ', '(', '.', ',']).next().unwrap_or_default().to_ascii_lowercase();
    vary(finding, entry, &number, &format!("the GPU asks for: {}", to.trim()));
}

fn vary(finding: &mut Finding, entry: &Entry, when: &str, because: &str) {
    let Some(variant) = entry.variant(when) else { return };
    let Variant { title, severity, scope, action, then, .. } = variant;
    finding.title.clone_from(title);
    finding.severity = severity.of(None);
    finding.scope.clone_from(scope);
    finding.action.clone_from(action);
    finding.then = then.clone().or(finding.then.take());
    finding.because = Some(because.to_owned());
}

fn decode(finding: &mut Finding, decoded: &Decoded) {
    let link = decoded.link.map_or(String::new(), |link| format!(" on link {link}"));
    finding.because = Some(format!("{}{link}", decoded.unit));
    finding.severity = decoded.severity;
    // "See 154" is no action of its own: the catalogue's stands until the GPU has spoken.
    if decoded.action != "XID_154" {
        finding.action.clone_from(&decoded.action);
    }
    if decoded.then.is_some() {
        finding.then.clone_from(&decoded.then);
    }
}
