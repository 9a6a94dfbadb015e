//! What is kept of every object's metadata.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// Annotations of our own begin so.
const OURS: &str = "aictl.dev/";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub owner_references: Vec<Owner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Owner {
    pub kind: String,
    pub name: String,
    pub controller: Option<bool>,
}

impl Metadata {
    /// Annotations of our own.
    pub fn own_annotations(&mut self) -> BTreeMap<String, String> {
        let mut annotations = std::mem::take(&mut self.annotations);
        annotations.retain(|key, _| key.starts_with(OURS));
        annotations
    }

    /// The controller that made it: kind and name.
    pub fn owner(&self) -> Option<(String, String)> {
        let owners = &self.owner_references;
        let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first())?;
        Some((owner.kind.clone(), owner.name.clone()))
    }
}

/// A quantity of a resource that is counted in whole things ("8", "1k"); fractions are cut.
pub(super) fn whole(quantity: &str) -> Option<u64> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().ok()?;
    let scale = match &quantity[digits.len()..] {
        "" => 1.0,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        _ => return None,
    };
    let value = number * scale;
    // Whole numbers beyond 2^53 are no counts of devices.
    (0.0..9e15).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_of_devices_are_whole() {
        let read: Vec<Option<u64>> = ["8", "0", "1k", "2500m", "1Ki", "x", "", "-1", "8Ei"].map(whole).into();
        assert_eq!(read, [Some(8), Some(0), Some(1000), Some(2), Some(1024), None, None, None, None]);
    }
}
