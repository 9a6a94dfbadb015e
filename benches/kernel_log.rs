//! How fast kernel logs are read: `cargo bench --bench kernel_log -- [MILLION LINES]`, 2 by default.
//!
//! Three logs: of an ordinary machine, of one whose every thousandth line is a fault, and of a
//! burst in which every line is. One core; the best of three rounds.

#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::time::Instant;

use aictl::fault::log::{Clock, LogReader};
use aictl::fault::{Catalogue, Collector, Horizon, NvlinkTable};

const ORDINARY: [&str; 6] = [
    "[12345.678901] usb 1-1: new high-speed USB device number 4 using xhci_hcd",
    "Nov 24 10:00:01 gpu-17 systemd[1]: Started Session 4711 of User root.",
    "2026-11-24T10:00:01.123456+00:00 gpu-17 kernel: mlx5_core 0000:ab:00.0 mlx5_5: Port: 1 Link ACTIVE",
    "6,1234,12345678901,-;IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
    "[12345.678901] audit: type=1400 audit(1795514401.123:45): apparmor=\"STATUS\" operation=\"profile_load\"",
    "Nov 24 10:00:01 gpu-17 kubelet[2211]: I1124 10:00:01.123456 2211 kubelet.go:2349] SyncLoop UPDATE",
];
const FAULT: &str = "[12345.678901] NVRM: Xid (PCI:0000:3b:00): 31, pid=2315, name=python3, Ch 00000008, intr 00000000. \
                     MMU Fault: ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f12_00000000.";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let millions = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(2);
    let (catalogue, nvlink) = (Catalogue::embedded()?, NvlinkTable::embedded()?);
    for (what, each) in [("an ordinary log", usize::MAX), ("a fault in a thousand", 1000), ("nothing but faults", 1)] {
        let lines: Vec<&str> =
            (0..6000).map(|i| if i % each == each - 1 { FAULT } else { ORDINARY[i % ORDINARY.len()] }).collect();
        let rounds = millions * 1_000_000 / lines.len();
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum::<usize>() * rounds;
        let mut best = f64::INFINITY;
        let mut found = 0;
        for _ in 0..3 {
            let clock = Clock { now: jiff::Timestamp::now(), zone: jiff::tz::TimeZone::UTC };
            let mut reader = LogReader::new(clock, false);
            let mut collector = Collector::new(&catalogue, &nvlink, Horizon::default());
            let started = Instant::now();
            for line in (0..rounds).flat_map(|_| &lines) {
                if let Some(event) = reader.line(line.as_bytes()) {
                    collector.add(event);
                }
            }
            best = best.min(started.elapsed().as_secs_f64());
            found = reader.counts().events;
            assert!(collector.finish("bench").len() <= 1);
        }
        let count = rounds * lines.len();
        println!(
            "{what}: {:.1} million lines/s, {:.0} MB/s, {found} events in {count} lines",
            count as f64 / best / 1e6,
            bytes as f64 / best / 1e6
        );
    }
    Ok(())
}
