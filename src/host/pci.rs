//! Devices on PCI: links, errors, drivers, from /sys/bus/pci/devices.

use std::path::PathBuf;

use super::tree::Tree;
use crate::fault::facts::{Aer, Link, PciDevice};

const DEVICES: &str = "/sys/bus/pci/devices";

/// All devices; empty on a machine without PCI.
///
/// # Errors
/// A sentence, if the list can't be read.
pub fn devices(tree: &Tree) -> Result<Vec<PciDevice>, String> {
    let names = tree.names(DEVICES)?;
    Ok(names.into_iter().map(|address| device(tree, address)).collect())
}

fn device(tree: &Tree, address: String) -> PciDevice {
    let file = |name: &str| PathBuf::from(DEVICES).join(&address).join(name);
    PciDevice {
        vendor: hex(tree, file("vendor")),
        device: hex(tree, file("device")),
        class: hex(tree, file("class")),
        driver: tree.link_name(file("driver")),
        power_state: tree.word(file("power_state")),
        numa: tree.number(file("numa_node")),
        is_virtual: tree.exists(file("physfn")),
        link: link(tree, &file("current")),
        best: link(tree, &file("max")),
        port_best: port_above(tree, &address),
        aer: aer(tree, &address),
        address,
    }
}

fn hex(tree: &Tree, path: PathBuf) -> u32 {
    let word = tree.word(path).unwrap_or_default();
    u32::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0)
}

/// Reads PREFIX_link_speed ("16.0 GT/s PCIe", "Unknown") and PREFIX_link_width ("16"; 0, 63 and
/// 255 where there is no link to speak of).
fn link(tree: &Tree, prefix: &std::path::Path) -> Option<Link> {
    let file = |end: &str| PathBuf::from(format!("{}_link_{end}", prefix.display()));
    let speed = tree.word(file("speed"))?;
    let gigatransfers: f64 = speed.split_whitespace().next()?.parse().ok()?;
    let width: u32 = tree.number(file("width"))?;
    let sound = (1..=32).contains(&width) && (2.0..=1000.0).contains(&gigatransfers);
    // Whole numbers and halves only, so nothing is lost.
    sound.then_some(Link { megatransfers: (gigatransfers * 1000.0) as u32, width })
}

/// The best link of the port that a device hangs on: the directory above its real one.
fn port_above(tree: &Tree, address: &str) -> Option<Link> {
    let real = std::fs::canonicalize(tree.path(PathBuf::from(DEVICES).join(address))).ok()?;
    let above = real.parent()?;
    // A device on the root complex itself has a host bridge above, which is none.
    if !above.join("vendor").exists() {
        return None;
    }
    link(&Tree::new("/"), &above.join("max"))
}

fn aer(tree: &Tree, address: &str) -> Option<Aer> {
    let total = |kind: &str| {
        let text = tree.read(PathBuf::from(DEVICES).join(address).join(format!("aer_dev_{kind}"))).ok()?;
        let total = text.lines().find(|line| line.starts_with("TOTAL"))?;
        total.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(Aer { corrected: total("correctable")?, nonfatal: total("nonfatal")?, fatal: total("fatal")? })
}
