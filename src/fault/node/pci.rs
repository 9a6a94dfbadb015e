//! PCIe links and errors.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::super::facts::{Link, PciDevice};
use super::super::history::History;
use super::{Catalogue, Component, Finding, Severity, Verdict, counted, escalate, found, rate_as};

const SOURCE: &str = "pci";
const NVIDIA: u32 = 0x10de;
/// Errors of this time are news; older ones are history.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What a device is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gpu,
    Nic,
    Disk,
    Other,
}

fn kind(device: &PciDevice) -> Kind {
    match (device.class >> 16, device.class >> 8) {
        (0x03, _) if device.vendor == NVIDIA => Kind::Gpu,
        // Network controllers, and InfiniBand ones among them.
        (0x02, _) | (_, 0x0c06) => Kind::Nic,
        (_, 0x0108) => Kind::Disk,
        _ => Kind::Other,
    }
}

/// Links that are narrower or slower than both ends can do, and errors of the last hour.
pub fn pci_devices(devices: &[PciDevice], catalogue: &Catalogue, history: &mut History) -> Verdict {
    let real = || devices.iter().filter(|device| !device.is_virtual);
    let watched = real().filter(|device| kind(device) != Kind::Other).count();
    let mut verdict =
        Verdict::of(format!("{}, {watched} of them GPUs, NICs or NVMe", counted(devices.len(), "device", "devices")));
    let mut narrow: Vec<(&PciDevice, Link, Link)> = Vec::new();
    for device in real() {
        if let (Some(link), Some(expected)) = (device.link, expected(device, history)) {
            if kind(device) != Kind::Other && link.width < expected.width {
                narrow.push((device, link, expected));
            } else if slow(device, link, expected) {
                verdict.add(slow_link(device, link, expected, catalogue, history));
            }
        }
        errors(device, catalogue, history, &mut verdict);
    }
    // All of one model alike: the machine is built so.
    let mut models: BTreeMap<(u32, u32, u32), usize> = BTreeMap::new();
    for (device, link, _) in &narrow {
        *models.entry((device.vendor, device.device, link.width)).or_default() += 1;
    }
    for (device, link, expected) in narrow {
        let alike = models.get(&(device.vendor, device.device, link.width)).copied().unwrap_or(0);
        let all = real().filter(|other| (other.vendor, other.device) == (device.vendor, device.device)).count();
        let built_so = alike > 1 && alike == all && history.recall(&width_key(device)).is_none();
        if built_so {
            if !verdict.detail.contains("built so") {
                let lanes = link.width;
                verdict.detail.push_str(&format!("; all {all} of one model have x{lanes}: taken as built so"));
            }
            continue;
        }
        let mut finding = of_device(found(catalogue, "pcie-link-width", SOURCE, history.now()), device);
        finding.because = Some(format!("x{} where x{} is possible", link.width, expected.width));
        finding.evidence.push(format!("current_link_width {}, of {}", link.width, expected.width));
        verdict.add(finding);
    }
    verdict
}

fn width_key(device: &PciDevice) -> String {
    format!("pci/{}/{:04x}:{:04x}/width", device.address, device.vendor, device.device)
}

/// The best link that a device and its slot can have together. Where the slot is not to be seen,
/// as in a virtual machine, the best it ever had is what counts.
fn expected(device: &PciDevice, history: &mut History) -> Option<Link> {
    let best = device.best?;
    if let Some(port) = device.port_best {
        return Some(Link {
            megatransfers: best.megatransfers.min(port.megatransfers),
            width: best.width.min(port.width),
        });
    }
    let key = width_key(device);
    let now = device.link?.width;
    let widest = history.recall(&key).and_then(|known| known.value.parse::<u32>().ok()).unwrap_or(0).max(now);
    history.note(key, &widest.to_string());
    // Its speed without the port's is no measure.
    Some(Link { megatransfers: 0, width: widest.min(best.width) })
}

/// GPUs slow their links down when idle, so only their load tells; NICs and disks do not, unless
/// they sleep.
fn slow(device: &PciDevice, link: Link, expected: Link) -> bool {
    let awake = device.power_state.as_deref().is_none_or(|state| matches!(state, "D0" | "unknown"));
    matches!(kind(device), Kind::Nic | Kind::Disk) && awake && link.megatransfers < expected.megatransfers
}

fn slow_link(device: &PciDevice, link: Link, expected: Link, catalogue: &Catalogue, history: &History) -> Finding {
    let mut finding = of_device(found(catalogue, "pcie-link-gen", SOURCE, history.now()), device);
    let gigatransfers = |link: Link| f64::from(link.megatransfers) / 1000.0;
    let words = format!("{} GT/s where {} GT/s are possible", gigatransfers(link), gigatransfers(expected));
    finding.evidence.push(format!("current_link_speed {words}"));
    finding.because = Some(words);
    finding
}

fn errors(device: &PciDevice, catalogue: &Catalogue, history: &mut History, verdict: &mut Verdict) {
    let Some(aer) = device.aer else { return };
    let kinds = [
        ("pcie-aer-fatal", "fatal", aer.fatal, 1),
        ("pcie-aer-nonfatal", "nonfatal", aer.nonfatal, 1),
        ("pcie-aer-corr", "corrected", aer.corrected, catalogue.limits().pci.corrected_per_hour),
    ];
    for (fault, word, total, enough) in kinds {
        let key = format!("pci/{}/{word}", device.address);
        history.count(&key, total);
        let growth = history.grown(&key, HOUR);
        let recent = growth.map_or(0, |growth| growth.by);
        let mut finding = of_device(found(catalogue, fault, SOURCE, history.now()), device);
        finding.evidence.push(format!("{word} PCIe errors since boot: {total}"));
        if recent >= enough {
            finding.count = recent;
            finding.because = growth.map(|growth| format!("{recent} more in {}", time(growth.over)));
            escalate(catalogue, &mut finding, recent);
            verdict.add(finding);
        } else if total > 0 && enough == 1 && history.last_look().is_none() {
            // Nobody knows when: told, and not acted on.
            rate_as(catalogue, &mut finding, Severity::Info, "RECORD");
            finding.count = total;
            finding.because = Some("at some time since boot; this is the first look".to_owned());
            verdict.add(finding);
        }
    }
}

fn time(over: SignedDuration) -> String {
    match over.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

fn of_device(mut finding: Finding, device: &PciDevice) -> Finding {
    finding.device.pci = Some(device.address.clone());
    let (component, scope) = match kind(device) {
        Kind::Gpu => (Component::Gpu, "gpu"),
        Kind::Nic => (Component::Nic, "nic"),
        Kind::Disk | Kind::Other => (Component::Node, "device"),
    };
    finding.component = component;
    if finding.scope == "gpu" || finding.scope == "device" {
        scope.clone_into(&mut finding.scope);
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Aer;
    use super::super::testing::{catalogue, fresh, later, names};
    use super::*;

    const GEN4: Link = Link { megatransfers: 16_000, width: 16 };

    fn device(class: u32, link: Link) -> PciDevice {
        PciDevice {
            address: "0000:3b:00.0".to_owned(),
            vendor: if class >> 16 == 3 { NVIDIA } else { 0x15b3 },
            device: 0x2330,
            class,
            link: Some(link),
            best: Some(GEN4),
            port_best: Some(GEN4),
            power_state: Some("D0".to_owned()),
            ..PciDevice::default()
        }
    }

    fn judged(devices: &[PciDevice]) -> Vec<String> {
        let verdict = pci_devices(devices, &catalogue(), &mut fresh());
        names(&verdict.findings).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_link_narrower_than_both_ends_is_a_fault() {
        let narrow = Link { width: 8, ..GEN4 };
        assert_eq!(judged(&[device(0x030200, narrow)]), ["pcie-link-width"]);
        assert_eq!(judged(&[device(0x020700, narrow)]), ["pcie-link-width"]);
        assert!(judged(&[device(0x030200, GEN4)]).is_empty());
        // A card with more lanes than the slot has.
        let slot = PciDevice { port_best: Some(narrow), ..device(0x030200, narrow) };
        assert!(judged(&[slot]).is_empty());
        // Bridges train as what hangs on them.
        assert!(judged(&[device(0x060400, narrow)]).is_empty());
    }

    #[test]
    fn all_alike_are_built_so_and_one_alone_is_not() {
        let narrow = |address: &str, width| PciDevice {
            address: address.to_owned(),
            ..device(0x030200, Link { width, ..GEN4 })
        };
        assert!(judged(&[narrow("0000:01:00.0", 8), narrow("0000:02:00.0", 8)]).is_empty());
        assert_eq!(judged(&[narrow("0000:01:00.0", 8), narrow("0000:02:00.0", 16)]), ["pcie-link-width"]);
    }

    #[test]
    fn only_what_does_not_save_power_must_be_fast() {
        let slow = Link { megatransfers: 2_500, ..GEN4 };
        assert_eq!(judged(&[device(0x020700, slow)]), ["pcie-link-gen"]);
        assert!(judged(&[device(0x030200, slow)]).is_empty(), "an idle GPU");
        let asleep = PciDevice { power_state: Some("D3hot".to_owned()), ..device(0x010802, slow) };
        assert!(judged(&[asleep]).is_empty());
    }

    #[test]
    fn without_a_port_the_past_is_the_measure() {
        let lone = |width| PciDevice { port_best: None, ..device(0x030200, Link { width, ..GEN4 }) };
        let mut history = fresh();
        assert!(pci_devices(&[lone(8)], &catalogue(), &mut history).findings.is_empty());
        let mut history = later(history, 60);
        assert!(pci_devices(&[lone(16)], &catalogue(), &mut history).findings.is_empty());
        let mut history = later(history, 60);
        assert_eq!(names(&pci_devices(&[lone(8)], &catalogue(), &mut history).findings), ["pcie-link-width"]);
    }

    #[test]
    fn errors_count_from_one_look_to_the_next() {
        let with =
            |corrected, fatal| PciDevice { aer: Some(Aer { corrected, nonfatal: 0, fatal }), ..device(0x060400, GEN4) };
        let catalogue = catalogue();
        let mut history = fresh();
        let first = pci_devices(&[with(5000, 2)], &catalogue, &mut history);
        assert_eq!(names(&first.findings), ["pcie-aer-fatal"]);
        assert_eq!(first.findings[0].severity, Severity::Info, "nobody knows when");
        let mut history = later(history, 300);
        assert!(pci_devices(&[with(5005, 2)], &catalogue, &mut history).findings.is_empty());
        let mut history = later(history, 300);
        let third = pci_devices(&[with(5050, 3)], &catalogue, &mut history);
        assert_eq!(names(&third.findings), ["pcie-aer-fatal", "pcie-aer-corr"]);
        assert_eq!((third.findings[0].severity, third.findings[0].count), (Severity::Critical, 1));
        assert_eq!((third.findings[1].severity, third.findings[1].count), (Severity::Warning, 50));
        let mut history = later(history, 300);
        let fourth = pci_devices(&[with(5200, 3)], &catalogue, &mut history);
        assert_eq!(fourth.findings[1].severity, Severity::Error, "over the rate of the catalogue");
        let mut history = later(history, 7200);
        let quiet = pci_devices(&[with(5200, 3)], &catalogue, &mut history);
        assert!(quiet.findings.is_empty(), "an hour of quiet: {:?}", quiet.findings);
    }
}
