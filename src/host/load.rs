//! How busy the machine is: CPUs, memory, disks, adapters of InfiniBand and RoCE.

use super::tree::Tree;
use crate::metrics::{Metric, Values};

/// USER_HZ is 100 on every Linux of our kind; /proc counts in it.
const TICKS_PER_S: f64 = 100.0;
/// /proc/diskstats counts in sectors of this size, whatever the disk's own are
/// (Documentation/admin-guide/iostats.rst).
const SECTOR: f64 = 512.0;
/// Counters of ports count in words of four bytes (InfiniBand, PortXmitData).
const WORD: f64 = 4.0;

/// Reads what there is; what can't be read is absent.
pub fn read(tree: &Tree) -> Values {
    let mut values = Values::default();
    let text = |path: &str| tree.read(path).unwrap_or_default();
    cpus(&text("/proc/stat"), &mut values);
    let loads = text("/proc/loadavg");
    let mut loads = loads.split_whitespace().map(|word| word.parse::<f64>().ok());
    values.set(Metric::Load1, loads.next().flatten());
    values.set(Metric::Load5, loads.next().flatten());
    memory(&text("/proc/meminfo"), &mut values);
    for (file, metric) in [("cpu", Metric::CpuPressure), ("memory", Metric::MemoryPressure), ("io", Metric::IoPressure)]
    {
        values.set(metric, pressure(&text(&format!("/proc/pressure/{file}"))));
    }
    disks(tree, &text("/proc/diskstats"), &mut values);
    ports(tree, &mut values);
    values
}

fn cpus(stat: &str, values: &mut Values) {
    let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count();
    values.set(Metric::Cpus, Some(cpus as f64).filter(|cpus| *cpus > 0.0));
    let Some(all) = stat.lines().find_map(|line| line.strip_prefix("cpu ")) else { return };
    // user nice system idle iowait irq softirq steal; guests are counted in user.
    let ticks: Vec<f64> = all.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6, 7].iter().map(|at| ticks.get(*at).copied()).sum::<Option<f64>>();
    values.set(Metric::CpuBusy, busy.map(|ticks| ticks / TICKS_PER_S));
}

fn memory(meminfo: &str, values: &mut Values) {
    let of = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
    };
    values.set(Metric::RamTotal, of("MemTotal:"));
    values.set(Metric::RamAvailable, of("MemAvailable:"));
}

/// "some avg10=1.53 avg60=…".
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// Whole disks alone: what is made of others (partitions, device mapper, RAID, loops) counts twice.
fn disks(tree: &Tree, diskstats: &str, values: &mut Values) {
    let Ok(names) = tree.names("/sys/block") else { return };
    let made = ["loop", "ram", "zram", "dm-", "md", "sr", "nbd"];
    let whole: Vec<&String> = names.iter().filter(|name| !made.iter().any(|kind| name.starts_with(kind))).collect();
    let (mut read, mut written, mut any) = (0.0, 0.0, false);
    for line in diskstats.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|word| word.parse::<f64>().ok());
        let is_whole = fields.get(2).is_some_and(|name| whole.iter().any(|whole| whole == name));
        if let (true, Some(sectors_read), Some(sectors_written)) = (is_whole, number(5), number(9)) {
            (read, written, any) = (read + sectors_read * SECTOR, written + sectors_written * SECTOR, true);
        }
    }
    if any {
        values.set(Metric::DiskRead, read);
        values.set(Metric::DiskWritten, written);
    }
}

fn ports(tree: &Tree, values: &mut Values) {
    const ADAPTERS: &str = "/sys/class/infiniband";
    let Ok(adapters) = tree.names(ADAPTERS) else { return };
    let (mut active, mut sent, mut received, mut any) = (0.0, 0.0, 0.0, false);
    for adapter in adapters {
        for port in tree.names(format!("{ADAPTERS}/{adapter}/ports")).unwrap_or_default() {
            let at = format!("{ADAPTERS}/{adapter}/ports/{port}");
            any = true;
            let up = tree.word(format!("{at}/state")).is_some_and(|state| state.ends_with("ACTIVE"));
            active += f64::from(u8::from(up));
            let words = |name: &str| tree.number::<f64>(format!("{at}/counters/{name}")).unwrap_or(0.0);
            sent += words("port_xmit_data") * WORD;
            received += words("port_rcv_data") * WORD;
        }
    }
    if any {
        values.set(Metric::RdmaPorts, active);
        values.set(Metric::RdmaTx, sent);
        values.set(Metric::RdmaRx, received);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_machine_is_read() {
        let values = read(&Tree::new("/"));
        assert!(values.get(Metric::Cpus).unwrap() >= 1.0 && values.get(Metric::CpuBusy).unwrap() > 0.0);
        assert!(values.get(Metric::RamTotal).unwrap() > values.get(Metric::RamAvailable).unwrap());
        assert!(values.get(Metric::Load1).is_some());
    }

    #[test]
    fn disks_and_ports_count_once_and_in_bytes() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for disk in ["nvme0n1", "dm-0", "loop0"] {
            fs::create_dir_all(root.path().join("sys/block").join(disk)).unwrap();
        }
        let line = |name: &str| format!(" 259 0 {name} 10 0 100 5 20 0 200 5 0 5 5\n");
        write("proc/diskstats", &["nvme0n1", "nvme0n1p1", "dm-0", "loop0"].map(line).concat());
        write(
            "proc/pressure/io",
            "some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=9.00 avg60=0 avg300=0 total=1\n",
        );
        let port = "sys/class/infiniband/mlx5_0/ports/1";
        write(&format!("{port}/state"), "4: ACTIVE\n");
        write(&format!("{port}/counters/port_xmit_data"), "1000\n");
        write(&format!("{port}/counters/port_rcv_data"), "2000\n");
        let values = read(&Tree::new(root.path()));
        let of = |metric| values.get(metric);
        assert_eq!((of(Metric::DiskRead), of(Metric::DiskWritten)), (Some(51_200.0), Some(102_400.0)));
        assert_eq!(of(Metric::IoPressure), Some(12.5));
        assert_eq!(
            (of(Metric::RdmaPorts), of(Metric::RdmaTx), of(Metric::RdmaRx)),
            (Some(1.0), Some(4000.0), Some(8000.0))
        );
        assert_eq!((of(Metric::Cpus), of(Metric::RamTotal), of(Metric::CpuPressure)), (None, None, None));
    }
}
