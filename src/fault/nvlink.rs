//! Decodes NVLink errors: the words of Xid 144 to 150 and the registers of Xid 74.

use serde::Deserialize;

use super::catalogue::Severity;

/// One row of the table for Xid 144 to 150.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    xid: u32,
    /// Names the unit may have in the line, divided by `/`.
    unit: String,
    /// Bits of the first word before driver R575: `0`, `1`, or `-` for any; highest first.
    v1: String,
    /// The same from R575 on.
    v2: String,
    /// The bit of the second word.
    status: String,
    action: String,
    #[serde(default)]
    then: Option<String>,
    severity: String,
    #[allow(dead_code, reason = "kept with the data: whether hardware or software is at fault")]
    kind: String,
    /// A circumstance, for people.
    #[serde(default)]
    #[allow(dead_code, reason = "kept with the data")]
    note: Option<String>,
}

/// What an NVLink error asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Unit, as the driver names it.
    pub unit: String,
    /// NVLink, where the line names one.
    pub link: Option<u32>,
    /// How bad.
    pub severity: Severity,
    /// Bucket of actions.
    pub action: String,
    /// What to do if it comes back.
    pub then: Option<String>,
}

/// The table for Xid 144 to 150.
#[derive(Debug, Clone)]
pub struct NvlinkTable {
    rows: Vec<Row>,
}

impl NvlinkTable {
    /// The project's own table.
    ///
    /// # Errors
    /// Never, in a build whose tests passed.
    pub fn embedded() -> Result<NvlinkTable, super::CatalogueError> {
        let rows = super::catalogue::yaml("nvlink5.yaml", include_str!("catalogue/nvlink5.yaml"))?;
        Ok(NvlinkTable { rows })
    }

    /// Decodes what follows the number in `145, RLW_REMAP Nonfatal XC1 i12 Link 12 (0x004c5083 0x00000004 …)`.
    /// Of several bits set, the gravest counts. `None` for a line without words, or of none in the table.
    pub fn decode(&self, xid: u32, detail: &str) -> Option<Decoded> {
        let unit = detail.split_whitespace().next()?;
        let words = words(detail);
        let (first, status) = (*words.first()?, *words.get(1)?);
        let of_unit = || {
            self.rows.iter().filter(move |row| {
                row.xid == xid
                    && row.unit.split('/').any(|name| name == unit)
                    && (fits(&row.v1, first) || fits(&row.v2, first))
            })
        };
        let bits = |row: &Row| row.status.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        // Some units number their errors, others set a bit for each.
        let exact = of_unit().filter(|row| bits(row) == Some(status)).max_by_key(|row| rank(&row.action));
        let some = || of_unit().filter(|row| bits(row).is_some_and(|bit| bit != 0 && status & bit == bit));
        let worst = exact.or_else(|| some().max_by_key(|row| rank(&row.action)))?;
        let fatal = worst.severity == "fatal" || detail.split_whitespace().any(|word| word == "Fatal");
        Some(Decoded {
            unit: unit.to_owned(),
            link: link(detail),
            severity: match (fatal, worst.action.as_str()) {
                (true, _) => Severity::Critical,
                (false, "IGNORE") => Severity::Warning,
                (false, _) => Severity::Error,
            },
            action: worst.action.clone(),
            then: worst.then.clone(),
        })
    }
}

/// Decodes the seven registers of Xid 74: `NVLink: fatal error detected on link 6(0x10000, 0x0, …)`.
///
/// The bits of the first register: 4 and 5 are ECC or parity errors; 8, 9, 12, 16, 17, 24 and 28
/// ask for a reseat and a diagnosis; 21 and 22 are marginal signals; 1 and 20 follow from another
/// error; 0, 23 and 30 can be ignored (NVIDIA's Xid catalogue, workflow for Xid 74).
pub fn registers(detail: &str) -> Option<Decoded> {
    const RESEAT: u32 = 1 << 8 | 1 << 9 | 1 << 12 | 1 << 16 | 1 << 17 | 1 << 24 | 1 << 28;
    const PARITY: u32 = 1 << 4 | 1 << 5;
    const MARGINAL: u32 = 1 << 21 | 1 << 22;
    const SECOND: u32 = 1 << 1 | 1 << 20;
    const IGNORED: u32 = 1 | 1 << 23 | 1 << 30;
    let words = words(detail);
    let first = *words.first()?;
    let others = words.iter().skip(1).any(|word| *word != 0);
    let (unit, severity, action, then) = match first {
        r if r & RESEAT != 0 => ("link hardware", Severity::Critical, "CHECK_MECHANICALS", Some("RUN_FIELDDIAG")),
        r if r & PARITY != 0 => ("ECC or parity", Severity::Error, "RESET_GPU", Some("CONTACT_SUPPORT")),
        r if r & MARGINAL != 0 => ("marginal signal", Severity::Error, "CHECK_MECHANICALS", Some("CONTACT_SUPPORT")),
        r if r & SECOND != 0 => ("follows from another error", Severity::Warning, "IGNORE", None),
        r if r & IGNORED != 0 && !others => ("no harm", Severity::Info, "IGNORE", None),
        _ => return None,
    };
    Some(Decoded {
        unit: unit.to_owned(),
        link: link(detail),
        severity,
        action: action.to_owned(),
        then: then.map(str::to_owned),
    })
}

/// The numbers in the first brackets that hold any.
fn words(detail: &str) -> Vec<u32> {
    let inside = detail.split('(').skip(1).filter_map(|rest| rest.split(')').next());
    inside
        .map(|list| {
            let numbers = list.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
            numbers
                .map_while(|word| word.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()))
                .collect::<Vec<_>>()
        })
        .find(|numbers| !numbers.is_empty())
        .unwrap_or_default()
}

fn link(detail: &str) -> Option<u32> {
    let (_, rest) = detail.split_once("Link ").or_else(|| detail.split_once("link "))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Whether a word has the bits of a pattern of 32 signs, highest first.
fn fits(pattern: &str, word: u32) -> bool {
    pattern.len() == 32
        && pattern.bytes().enumerate().all(|(i, sign)| match sign {
            b'0' => word >> (31 - i) & 1 == 0,
            b'1' => word >> (31 - i) & 1 == 1,
            _ => true,
        })
}

/// Gravity of a bucket, for the choice among several.
fn rank(action: &str) -> u8 {
    match action {
        "RESTART_BM" => 5,
        "RESET_GPU" => 4,
        "CONTACT_SUPPORT" => 3,
        "XID_154" => 2,
        "IGNORE" => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_select_the_row() {
        let table = NvlinkTable::embedded().unwrap();
        assert!(table.rows.len() >= 90);
        for row in &table.rows {
            assert!(row.v1.len() == 32 || row.v2.len() == 32, "{row:?}");
        }
        // 144 SAW_MVB, first word from its pattern, status bit 1: fatal, reset.
        let row = table.rows.iter().find(|row| row.xid == 144 && row.status == "0x00000002").unwrap();
        let pattern = row.v2.replace('-', "0");
        let word = u32::from_str_radix(&pattern, 2).unwrap();
        let detail = format!("SAW_MVB Fatal XC0 i0 Link 07 (0x{word:08x} 0x00000002 0x00000000)");
        let decoded = table.decode(144, &detail).unwrap();
        assert_eq!(
            (decoded.action.as_str(), decoded.severity, decoded.link),
            ("RESET_GPU", Severity::Critical, Some(7))
        );
        assert_eq!(table.decode(144, "SAW_MVB Fatal"), None);
        assert_eq!(table.decode(144, "NO_SUCH Fatal (0x1 0x2)"), None);
    }

    #[test]
    fn lines_of_real_drivers_are_decoded() {
        let table = NvlinkTable::embedded().unwrap();
        for (xid, detail, action) in [
            (149, "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x025001c6 0x00000000 0x00000000 0x00000000)", "RESET_GPU"),
            (149, "NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x026001c6 0x00000000 0x00000000 0x00000000)", "IGNORE"),
            (145, "RLW_RXPIPE Nonfatal XC0 i0 Link 13 (0x0409a0c2 0x00000008 0x00000001 0x00000000)", "IGNORE"),
        ] {
            assert_eq!(table.decode(xid, detail).map(|d| d.action), Some(action.to_owned()), "{detail}");
        }
    }

    #[test]
    fn registers_of_xid_74() {
        let decoded =
            registers("NVLink: fatal error detected on link 6(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)").unwrap();
        assert_eq!((decoded.link, decoded.action.as_str()), (Some(6), "CHECK_MECHANICALS"));
        assert_eq!(registers("link 2(0x1, 0x0, 0x0)").unwrap().severity, Severity::Info);
        assert_eq!(registers("NVLink: fatal error detected on link 6"), None);
    }
}
