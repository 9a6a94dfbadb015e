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

/// A quantity as Kubernetes writes it ("8", "1500m", "64Gi", "1e3") as a number; `None` for what is
/// none.
pub fn quantity(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    Some(match suffix {
        "" => number,
        // Divided, since the reciprocals are no binary fractions: 6145m is 6.145.
        "n" => number / 1e9,
        "u" => number / 1e6,
        "m" => number / 1e3,
        "k" => number * 1e3,
        "M" => number * 1e6,
        "G" => number * 1e9,
        "T" => number * 1e12,
        "P" => number * 1e15,
        "E" => number * 1e18,
        "Ki" => number * 1024.0,
        "Mi" => number * 1024f64.powi(2),
        "Gi" => number * 1024f64.powi(3),
        "Ti" => number * 1024f64.powi(4),
        "Pi" => number * 1024f64.powi(5),
        "Ei" => number * 1024f64.powi(6),
        exponent => number * 10f64.powi(exponent.trim_start_matches(['e', 'E']).parse().ok()?),
    })
}

/// A quantity of a resource that is counted in whole things ("8", "1k"); fractions are cut.
pub(super) fn whole(text: &str) -> Option<u64> {
    let value = quantity(text)?;
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
