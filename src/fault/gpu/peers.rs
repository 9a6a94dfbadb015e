//! Which GPUs must be reset together.
//!
//! From Ampere on GPUs are reset one by one, whatever NVLink joins. Before, all that are joined go
//! together, and the driver refuses less (nvidia-smi's manual, --gpu-reset).

use super::super::playbook::GpuFacts;
use super::facts::{Gpu, LinkEnd, Reading};

/// Architectures whose GPUs go together with those that NVLink joins to them.
const BOUND: [&str; 3] = ["Pascal", "Volta", "Turing"];

/// Each GPU with an address, and its companions; without them where that can't be told.
pub fn reset_groups(gpus: &[Gpu]) -> Vec<GpuFacts> {
    let placed: Vec<(&str, &Gpu)> = gpus.iter().filter_map(|gpu| Some((gpu.pci.as_deref()?, gpu))).collect();
    let group = |(pci, gpu): &(&str, &Gpu)| GpuFacts { pci: (*pci).to_owned(), peers: companions(pci, gpu, &placed) };
    placed.iter().map(group).collect()
}

fn companions(pci: &str, gpu: &Gpu, all: &[(&str, &Gpu)]) -> Option<Vec<String>> {
    // One that is lost or hangs says nothing of what it is.
    gpu.opened.value()?;
    match gpu.architecture.as_deref() {
        Some(name) if BOUND.contains(&name) => {}
        Some("Unknown") | None => return None,
        Some(_) => return Some(Vec::new()),
    }
    let mut joined = vec![pci];
    let mut next = 0;
    while let Some(place) = joined.get(next).copied() {
        next += 1;
        let (_, gpu) = all.iter().find(|(known, _)| *known == place)?;
        for link in gpu.links.iter().filter(|link| link.active != Reading::Value(false)) {
            match link.end.value()? {
                LinkEnd::Gpu(other) => {
                    let (other, _) = all.iter().find(|(known, _)| known == other)?;
                    if !joined.contains(other) {
                        joined.push(other);
                    }
                }
                // Behind a switch are all that have a link to one.
                LinkEnd::Switch => {
                    for (other, _) in all.iter().filter(|(_, gpu)| has_switch(gpu)) {
                        if !joined.contains(other) {
                            joined.push(other);
                        }
                    }
                }
                LinkEnd::Other => {}
            }
        }
    }
    joined.remove(0);
    joined.sort_unstable();
    Some(joined.into_iter().map(str::to_owned).collect())
}

fn has_switch(gpu: &Gpu) -> bool {
    gpu.links.iter().any(|link| link.end.value() == Some(&LinkEnd::Switch))
}

#[cfg(test)]
mod tests {
    use super::super::facts::Link;
    use super::*;

    fn gpu(pci: &str, architecture: &str, ends: &[LinkEnd]) -> Gpu {
        let link =
            |end: &LinkEnd| Link { active: Reading::Value(true), end: Reading::Value(end.clone()), ..Link::default() };
        Gpu {
            opened: Reading::Value(()),
            pci: Some(pci.to_owned()),
            architecture: Some(architecture.to_owned()),
            links: ends.iter().map(link).collect(),
            ..Gpu::default()
        }
    }

    fn to(pci: &str) -> LinkEnd {
        LinkEnd::Gpu(pci.to_owned())
    }

    fn peers(gpus: &[Gpu]) -> Vec<Option<Vec<String>>> {
        reset_groups(gpus).into_iter().map(|group| group.peers).collect()
    }

    #[test]
    fn what_is_joined_goes_together_before_ampere() {
        let pair = |architecture| {
            [
                gpu("a", architecture, &[to("b")]),
                gpu("b", architecture, &[to("a"), to("c")]),
                gpu("c", architecture, &[to("b")]),
                gpu("d", architecture, &[]),
            ]
        };
        let some = |peers: &[&str]| Some(peers.iter().map(|pci| (*pci).to_owned()).collect::<Vec<_>>());
        assert_eq!(peers(&pair("Volta")), [some(&["b", "c"]), some(&["a", "c"]), some(&["a", "b"]), some(&[])]);
        assert_eq!(peers(&pair("Hopper")), vec![some(&[]); 4]);
        let switched = [gpu("a", "Volta", &[LinkEnd::Switch]), gpu("b", "Volta", &[LinkEnd::Switch])];
        assert_eq!(peers(&switched), [some(&["b"]), some(&["a"])]);
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(peers(&[gpu("a", "Unknown", &[])]), [None]);
        let mut silent = gpu("a", "Volta", &[to("b")]);
        silent.links[0].end = Reading::NotSupported;
        assert_eq!(peers(&[silent]), [None]);
        assert_eq!(peers(&[gpu("a", "Volta", &[to("elsewhere")])]), [None]);
        let lost = Gpu { opened: Reading::default(), ..gpu("a", "Hopper", &[]) };
        assert_eq!(peers(&[lost]), [None]);
    }
}
