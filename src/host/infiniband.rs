//! Ports of RDMA adapters, InfiniBand and RoCE alike, from /sys/class/infiniband.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::tree::Tree;
use crate::fault::facts::RdmaPort;

const ADAPTERS: &str = "/sys/class/infiniband";

/// Counters that some rule asks for; reading each may cost a question to the firmware.
const COUNTERS: [(&str, &str); 7] = [
    ("counters", "link_downed"),
    ("counters", "symbol_error"),
    ("counters", "port_rcv_errors"),
    ("counters", "port_xmit_discards"),
    ("counters", "link_error_recovery"),
    ("hw_counters", "local_ack_timeout_err"),
    ("hw_counters", "out_of_sequence"),
];

/// All ports; none on a machine without such adapters.
///
/// # Errors
/// A sentence, if the list can't be read.
pub fn ports(tree: &Tree) -> Result<Vec<RdmaPort>, String> {
    let mut ports = Vec::new();
    for adapter in tree.names(ADAPTERS)? {
        let at = Path::new(ADAPTERS).join(&adapter);
        for port in tree.names(at.join("ports"))? {
            ports.push(read(tree, &at, &adapter, port));
        }
    }
    Ok(ports)
}

fn read(tree: &Tree, at: &Path, adapter: &str, port: String) -> RdmaPort {
    let directory = at.join("ports").join(&port);
    let word = |name: &str| tree.word(directory.join(name)).unwrap_or_default();
    let counters: BTreeMap<String, u64> = COUNTERS
        .iter()
        .filter_map(|(group, name)| Some(((*name).to_owned(), tree.number(counter(&directory, group, name))?)))
        .collect();
    RdmaPort {
        adapter: adapter.to_owned(),
        pci: tree.link_name(at.join("device")),
        is_virtual: tree.exists(at.join("device/physfn")),
        link_layer: word("link_layer"),
        state: after_number(&word("state")),
        physical: after_number(&word("phys_state")),
        rate: word("rate"),
        counters,
        port,
    }
}

fn counter(directory: &Path, group: &str, name: &str) -> PathBuf {
    directory.join(group).join(name)
}

/// "4: ACTIVE" is "ACTIVE".
fn after_number(text: &str) -> String {
    text.split_once(':').map_or(text, |(_, name)| name).trim().to_owned()
}
