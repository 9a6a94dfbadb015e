//! GPUs as the kernel has them: on PCI, in /dev and in /proc/driver, without any call into the
//! driver that could hang.

use std::fs;
use std::path::Path;

use crate::fault::gpu::facts::{Bus, BusGpu};

/// NVIDIA's number on PCI.
const NVIDIA: &str = "0x10de";

/// Looks below a root, which is "/" but in tests.
pub fn look(root: &Path, uptime_s: u64) -> Bus {
    let devices = fs::read_dir(root.join("sys/bus/pci/devices"));
    let seen = devices.is_ok();
    let mut gpus: Vec<BusGpu> = devices.into_iter().flatten().flatten().filter_map(|e| gpu(&e.path())).collect();
    gpus.sort_by(|a, b| a.pci.cmp(&b.pci));
    Bus {
        gpus,
        device_files: device_files(root),
        module: module(root),
        seen,
        contained: ["run/.containerenv", ".dockerenv", "run/secrets/kubernetes.io"]
            .iter()
            .any(|mark| root.join(mark).exists()),
        uptime_s,
    }
}

fn gpu(device: &Path) -> Option<BusGpu> {
    let word = |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim().to_owned());
    // Display controllers: VGA (0300) and 3D (0302); the same card has an audio function, too.
    let class = word("class")?;
    if word("vendor")? != NVIDIA || !(class.starts_with("0x0300") || class.starts_with("0x0302")) {
        return None;
    }
    let driver = fs::read_link(device.join("driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    Some(BusGpu { pci: device.file_name()?.to_str()?.to_ascii_lowercase(), driver })
}

fn device_files(root: &Path) -> Vec<u32> {
    let entries = fs::read_dir(root.join("dev")).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix("nvidia")?.parse().ok();
    let mut found: Vec<u32> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    found.sort_unstable();
    found
}

/// `NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 …`; open modules say
/// `NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build …`.
fn module(root: &Path) -> Option<String> {
    let text = fs::read_to_string(root.join("proc/driver/nvidia/version")).ok();
    let version = text.as_deref().and_then(|text| {
        let is_version = |word: &&str| word.contains('.') && word.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
    });
    let loaded = || root.join("sys/module/nvidia").is_dir().then(|| "of unknown version".to_owned());
    version.or_else(loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_told_from_their_audio_and_from_others() {
        let root = tempfile::tempdir().unwrap();
        let device = |address: &str, vendor: &str, class: &str, driver: Option<&str>| {
            let path = root.path().join("sys/bus/pci/devices").join(address);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(path.join("class"), format!("{class}\n")).unwrap();
            if let Some(driver) = driver {
                std::os::unix::fs::symlink(format!("../../drivers/{driver}"), path.join("driver")).unwrap();
            }
        };
        device("0000:3b:00.0", "0x10de", "0x030200", Some("nvidia"));
        device("0000:3b:00.1", "0x10de", "0x040300", None);
        device("0000:05:00.0", "0x10de", "0x068000", Some("nvidia-nvswitch"));
        device("0000:1a:00.0", "0x10de", "0x030000", Some("nouveau"));
        device("0000:00:02.0", "0x8086", "0x030000", Some("i915"));
        fs::create_dir_all(root.path().join("dev")).unwrap();
        for name in ["nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "null"] {
            fs::write(root.path().join("dev").join(name), "").unwrap();
        }
        fs::create_dir_all(root.path().join("proc/driver/nvidia")).unwrap();
        let version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC 12.2.0\n";
        fs::write(root.path().join("proc/driver/nvidia/version"), version).unwrap();
        let bus = look(root.path(), 5);
        let gpus: Vec<_> = bus.gpus.iter().map(|gpu| (gpu.pci.as_str(), gpu.driver.as_deref())).collect();
        assert_eq!(gpus, [("0000:1a:00.0", Some("nouveau")), ("0000:3b:00.0", Some("nvidia"))]);
        assert_eq!((&bus.device_files[..], bus.module.as_deref()), (&[0, 11][..], Some("570.86.15")));
        assert!(bus.seen && !bus.contained);
        assert_eq!(look(Path::new("/no/such/root"), 0), Bus::default());
    }
}
