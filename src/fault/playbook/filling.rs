//! What the placeholders of a command stand for. What fills them comes from logs, so nothing but
//! plain words may, and no shell ever reads them.

use super::super::Finding;
use super::DeviceKey;

/// What is wrong with a command.
pub(super) fn check_command(command: &[String]) -> Result<(), String> {
    if command.first().is_some_and(|program| program.trim().is_empty() || program.contains('{')) {
        return Err("its program is empty or a placeholder".to_owned());
    }
    for word in command {
        for rest in word.split('{').skip(1) {
            let name = rest.split('}').next().unwrap_or_default();
            if !Filling::NAMES.contains(&name) || !rest.contains('}') {
                return Err(format!("unknown placeholder in {word:?}; there are {}", Filling::NAMES.join(", ")));
            }
        }
    }
    Ok(())
}

/// The words for the placeholders of an incident's commands.
#[derive(Debug, Clone, Default)]
pub struct Filling {
    values: Vec<(&'static str, String)>,
}

impl Filling {
    const NAMES: [&'static str; 8] = ["node", "pci", "gpus", "uuid", "index", "device", "fault", "incident"];

    /// What is known of an incident.
    pub fn of(node: &str, incident: &str, finding: &Finding) -> Filling {
        let device = &finding.device;
        let mut values = vec![
            ("node", node.to_owned()),
            ("device", DeviceKey::of(finding).0),
            ("fault", finding.fault.clone()),
            ("incident", incident.to_owned()),
        ];
        values.extend(device.pci.clone().map(|pci| ("pci", pci)));
        values.extend(device.pci.clone().map(|pci| ("gpus", pci)));
        values.extend(device.uuid.clone().map(|uuid| ("uuid", uuid)));
        values.extend(device.index.map(|index| ("index", index.to_string())));
        Filling { values }
    }

    /// The same, with all GPUs that must be reset together, where it is more than one.
    pub fn together(mut self, gpus: &[String]) -> Filling {
        for (_, value) in self.values.iter_mut().filter(|(name, _)| *name == "gpus" && !gpus.is_empty()) {
            *value = gpus.join(",");
        }
        self
    }

    /// A command with its placeholders filled.
    ///
    /// # Errors
    /// If a value is not known, or is not a plain word: it comes from logs and could hold anything.
    pub fn fill(&self, command: &[String]) -> Result<Vec<String>, String> {
        command.iter().map(|word| self.word(word)).collect()
    }

    fn word(&self, word: &str) -> Result<String, String> {
        let mut parts = word.split('{');
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').ok_or_else(|| format!("{word:?} has an open placeholder"))?;
            let value = self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
            let value = value.ok_or_else(|| format!("the finding names no {name}"))?;
            // A list of addresses is the one word that may have commas.
            if name == "gpus" {
                if !value.split(',').all(is_pci) {
                    return Err("a PCI address of the GPUs is none".to_owned());
                }
                filled.push_str(value);
                filled.push_str(rest);
                continue;
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
            if value.is_empty() || value.starts_with('-') || !value.chars().all(plain) {
                return Err(format!("the {name} is not a plain word"));
            }
            if name == "pci" && !is_pci(value) {
                return Err("the finding's PCI address is none".to_owned());
            }
            filled.push_str(value);
            filled.push_str(rest);
        }
        Ok(filled)
    }
}

/// "0000:3b:00.0".
fn is_pci(text: &str) -> bool {
    let Some((place, function)) = text.split_once('.') else { return false };
    let parts: Vec<&str> = place.split(':').collect();
    let [domain, bus, slot] = parts[..] else { return false };
    let hex = |part: &str, sizes: std::ops::RangeInclusive<usize>| {
        sizes.contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    hex(domain, 4..=8) && hex(bus, 2..=2) && hex(slot, 2..=2) && hex(function, 1..=1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::finding;
    use super::*;

    fn filled(pci: &str, word: &str) -> Result<Vec<String>, String> {
        let mut finding = finding("xid-79");
        finding.device.pci = Some(pci.to_owned());
        Filling::of("gpu-17", "i-1", &finding).fill(&[word.to_owned()])
    }

    #[test]
    fn words_take_the_place_of_their_names() {
        assert_eq!(filled("0000:3b:00.0", "-i={pci}@{node}/{fault}").unwrap(), ["-i=0000:3b:00.0@gpu-17/xid-79"]);
        assert_eq!(filled("0000:3b:00.0", "{gpus}").unwrap(), ["0000:3b:00.0"]);
        let both = ["0000:3b:00.0", "0000:5e:00.0"].map(str::to_owned);
        let filling = Filling::of("gpu-17", "i-1", &finding("xid-79")).together(&both);
        assert_eq!(filling.fill(&["{gpus}".to_owned()]).unwrap(), ["0000:3b:00.0,0000:5e:00.0"]);
        assert!(filled("0000:3b:00.0", "{uuid}").unwrap_err().contains("names no uuid"));
    }

    #[test]
    fn what_a_log_says_is_never_more_than_a_word() {
        for pci in ["", "-r", "0000:3b:00.0; reboot", "$(reboot)", "0000:3b:00.0 --all", "3b:00.0", "all", "0000:3b:00"]
        {
            assert!(filled(pci, "{pci}").is_err(), "{pci}");
            assert!(filled(pci, "{gpus}").is_err(), "{pci}");
        }
    }

    #[test]
    fn a_wrong_placeholder_is_found_early() {
        let command = |text: &str| check_command(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(command("nvidia-smi -i {pci}").is_ok());
        for wrong in ["nvidia-smi -i {bus}", "x {pci", "{pci} x", "x {}"] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }
}
