//! The NVIDIA driver's own error lines: Xid of a GPU, SXid of an NVSwitch.

/// Where a GPU or switch sits: "0000:3b:00.0".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress(String);

impl PciAddress {
    /// Reads what drivers write: with or without domain and function, in either case.
    pub fn parse(text: &str) -> Option<PciAddress> {
        let (text, function) = text.split_once('.').unwrap_or((text, "0"));
        let parts: Vec<&str> = text.split(':').collect();
        let (domain, bus, device) = match parts[..] {
            [domain, bus, device] => (domain, bus, device),
            [bus, device] => ("0", bus, device),
            _ => return None,
        };
        let hex = |text: &str, most: u32| {
            let short = !text.is_empty() && text.len() <= 8;
            short.then(|| u32::from_str_radix(text, 16).ok()).flatten().filter(|n| *n <= most)
        };
        let (domain, bus) = (hex(domain, u32::MAX)?, hex(bus, 0xff)?);
        let (device, function) = (hex(device, 0x1f)?, hex(function, 7)?);
        Some(PciAddress(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}")))
    }

    /// As sysfs and `lspci -D` write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A line `NVRM: Xid (PCI:0000:3b:00): 79, pid=…, name=…, text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xid<'a> {
    /// The GPU; none where the address can't be read.
    pub pci: Option<PciAddress>,
    /// MIG: GPU instance and compute instance.
    pub instance: Option<(u32, Option<u32>)>,
    /// The number.
    pub code: u32,
    /// Process that was running, where the driver knows it.
    pub pid: Option<u32>,
    /// Its name.
    pub process: Option<&'a str>,
    /// The rest of the line.
    pub text: &'a str,
    /// The Xid that the driver says it follows from.
    pub caused_by: Option<u32>,
}

/// Reads an Xid line; the message must start with it.
pub fn xid(message: &str) -> Option<Xid<'_>> {
    let rest = message.strip_prefix("NVRM: ")?;
    // Windows and some vGPU hosts have the GPU's number in front.
    let rest = rest.strip_prefix("Xid (")?;
    let (place, rest) = rest.split_once(')')?;
    let mut words = place.split(' ');
    let address = words.next()?;
    let pci = PciAddress::parse(address.strip_prefix("PCI:").unwrap_or(address));
    if pci.is_none() && !address.starts_with("PCI:") {
        return None;
    }
    let (mut gpu, mut compute) = (None, None);
    for word in words {
        if let Some(number) = word.strip_prefix("GPU-I:") {
            gpu = Some(number.parse().ok()?);
        } else if let Some(number) = word.strip_prefix("GPU-CI:") {
            compute = Some(number.parse().ok()?);
        }
    }
    let (code, mut text) = number(rest.strip_prefix(':')?.trim_start())?;
    let mut xid =
        Xid { pci, instance: gpu.map(|gpu| (gpu, compute)), code, pid: None, process: None, text: "", caused_by: None };
    if let Some(rest) = text.strip_prefix("pid=") {
        let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
        xid.pid = unquoted(value).parse().ok();
        text = rest.trim_start();
    }
    if let Some(rest) = text.strip_prefix("name=") {
        // A process's name may hold a comma; what follows one and a space is the driver's.
        let (value, rest) = rest.split_once(", ").unwrap_or((rest.trim_end_matches(','), ""));
        let value = unquoted(value);
        xid.process = (!value.is_empty() && value != "<unknown>").then_some(value);
        text = rest.trim_start();
    }
    xid.text = text;
    xid.caused_by = text.rsplit_once("caused by previous Xid ").and_then(|(_, n)| number(n)).map(|(code, _)| code);
    Some(xid)
}

/// A line `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Non-fatal, Link 44 text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sxid<'a> {
    /// The switch.
    pub pci: Option<PciAddress>,
    /// Number of the switch on its node.
    pub switch: u32,
    /// The number.
    pub code: u32,
    /// Whether the line says it is fatal; none for a line that only adds data.
    pub fatal: Option<bool>,
    /// NVLink port.
    pub link: Option<u32>,
    /// The line adds register values or an engine to the one before it.
    pub more: bool,
    /// The rest of the line.
    pub text: &'a str,
}

/// Reads an SXid line; the message must start with it.
pub fn sxid(message: &str) -> Option<Sxid<'_>> {
    let rest = message.strip_prefix("nvidia-nvswitch")?;
    let (switch, rest) = rest.split_once(": SXid (")?;
    let switch = switch.parse().ok()?;
    let (place, rest) = rest.split_once(')')?;
    let pci = PciAddress::parse(place.strip_prefix("PCI:").unwrap_or(place));
    let (code, text) = number(rest.strip_prefix(':')?.trim_start())?;
    let (fatal, rest) = if let Some(rest) = text.strip_prefix("Non-fatal") {
        (Some(false), rest)
    } else if let Some(rest) = text.strip_prefix("Fatal") {
        (Some(true), rest)
    } else if let Some(rest) = text.strip_prefix("Severity ") {
        // 0 non-fatal, 1 fatal; 2 and 3 are corrected and informational.
        (number(rest).map(|(level, _)| level == 1), rest)
    } else {
        (None, text)
    };
    let more = text.starts_with("Severity ") || text.starts_with("Data {");
    let link = rest.split_once("Link ").and_then(|(_, rest)| number(rest)).map(|(link, _)| link);
    Some(Sxid { pci, switch, code, fatal, link, more, text })
}

/// A number at the start, and what follows it and a comma or space.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let value = text.get(..end)?.parse().ok()?;
    let rest = &text[end..];
    // "79abc" is no number of theirs.
    let ends = rest.is_empty() || rest.starts_with([',', ' ', '.', ')', ';', ':', '\t']);
    ends.then(|| (value, rest.trim_start_matches([',', ' '])))
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['\'', '"'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pci(text: &str) -> Option<PciAddress> {
        PciAddress::parse(text)
    }

    #[test]
    fn addresses_are_written_as_sysfs_does() {
        assert_eq!(pci("0000:3B:00").unwrap().as_str(), "0000:3b:00.0");
        assert_eq!(pci("00000001:C1:00.0").unwrap().as_str(), "0001:c1:00.0");
        assert_eq!(pci("3:0").unwrap().as_str(), "0000:03:00.0");
        for wrong in ["", "3b", "0000:3b", "::", "x:3b:00", "0000:3b:00:00", "0000:3b:20", "0000:1ff:00"] {
            assert_eq!(pci(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn xid_lines_of_all_drivers() {
        let lost = xid("NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.")
            .unwrap();
        assert_eq!((lost.code, lost.pid, lost.process, lost.text), (79, None, None, "GPU has fallen off the bus."));
        let fault = xid(
            "NVRM: Xid (PCI:0000:9c:00 GPU-I:05): 31, pid=2315, name=python3, Ch 00000008, intr 00000000. MMU Fault",
        )
        .unwrap();
        assert_eq!((fault.instance, fault.pid, fault.process), (Some((5, None)), Some(2315), Some("python3")));
        let mig = xid("NVRM: Xid (PCI:0000:9c:00 GPU-I:05 GPU-CI:01): 43, pid=7, name=a, Ch 0").unwrap();
        assert_eq!(mig.instance, Some((5, Some(1))));
        let old = xid("NVRM: Xid (0000:03:00): 13, 0001 00000000 0000a0c0 00000000").unwrap();
        assert_eq!((old.code, old.text), (13, "0001 00000000 0000a0c0 00000000"));
        assert_eq!(xid("NVRM: Xid (PCI:0000:01:00): 45").unwrap().text, "");
        let after = xid("NVRM: Xid (PCI:0000:01:00): 45, pid=3, name=x, Ch 3 caused by previous Xid 31").unwrap();
        assert_eq!(after.caused_by, Some(31));
        let named = xid("NVRM: Xid (PCI:0000:01:00): 13, pid=12, name=a,b c, Graphics Exception").unwrap();
        assert_eq!((named.process, named.text), (Some("a,b c"), "Graphics Exception"));
    }

    #[test]
    fn look_alikes_are_no_xid() {
        for line in [
            "r8169 0000:02:00.0 eth0: RTL8125B, 00:00:00:00:00:00, XID 641, IRQ 128",
            "NVRM: Xid (PCI:0000:01:00): ",
            "NVRM: Xid (PCI:0000:01:00): abc",
            "NVRM: Xid (PCI:0000:01:00): 79abc",
            "NVRM: Xid (nonsense): 79, x",
            "NVRM: Xid PCI:0000:01:00: 79",
            "see NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus",
            "NVRM: xid (PCI:0000:01:00): 79",
            "xfs: xid 79",
        ] {
            assert_eq!(xid(line), None, "{line}");
        }
    }

    #[test]
    fn sxid_lines() {
        let fatal = sxid("nvidia-nvswitch1: SXid (PCI:0000:85:00.0): 20034, Fatal, Link 30 LTSSM Fault Up").unwrap();
        assert_eq!(
            (fatal.code, fatal.fatal, fatal.link, fatal.switch, fatal.more),
            (20034, Some(true), Some(30), 1, false)
        );
        let data = sxid("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Data {0x50610002, 0x00000000}").unwrap();
        assert_eq!((data.fatal, data.more), (None, true));
        let severity = sxid(
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 24007, Severity 1 Engine instance 40 Sub-engine instance 00",
        )
        .unwrap();
        assert_eq!((severity.fatal, severity.more), (Some(true), true));
        assert_eq!(sxid("nvidia-nvswitch: SXid (PCI:0000:c1:00.0): 24007, Fatal"), None);
    }
}
