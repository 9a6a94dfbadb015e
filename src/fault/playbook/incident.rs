//! What makes two findings the same incident.

use serde::{Deserialize, Serialize};

use super::super::Finding;

/// The device of a finding, by the most lasting of its names; the node itself if it names none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceKey(pub String);

impl DeviceKey {
    /// The device that a finding is about. A MIG instance counts as its GPU: that is what is repaired.
    pub fn of(finding: &Finding) -> DeviceKey {
        let device = &finding.device;
        let index = device.index.map(|index| format!("gpu{index}"));
        let name = device.pci.as_deref().or(device.uuid.as_deref()).or(index.as_deref()).or(device.name.as_deref());
        DeviceKey(name.unwrap_or("node").to_ascii_lowercase())
    }
}

/// The incident's name: the same for the same fault of the same device in the same boot.
pub fn incident_id(node: &str, boot_id: &str, finding: &Finding) -> String {
    let DeviceKey(device) = DeviceKey::of(finding);
    // FNV-1a: names must stay the same over versions and machines, and nobody attacks them.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in [node, boot_id, &finding.fault, &device] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("i-{:012x}", hash >> 16)
}
