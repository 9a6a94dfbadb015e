//! Records of a log that is written as data: JSON of journalctl (a line, pretty, SSE, a sequence)
//! and of dmesg, and the journal's fields as `-o export` and `-o verbose` have them.

use jiff::Timestamp;
use serde_json::Value;

use super::envelope::{Clock, Origin, Stamp, bracketed, iso, origin_of};

/// A record: one message and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub message: String,
    pub origin: Origin,
    /// When it was written.
    pub stamp: Stamp,
    /// When it was received, in the order of the journal.
    pub received: Stamp,
    pub boot: Option<String>,
    /// Machine or host, where the record names one.
    pub host: Option<String>,
}

/// Longest record that is kept; a journal's entry with a stack trace has tens of kilobytes.
pub(super) const LONGEST: usize = 1 << 20;

impl Entry {
    /// A JSON object of journalctl or dmesg; `None` if it is neither.
    pub fn of_json(text: &str, clock: &Clock) -> Option<Entry> {
        let object: Value = serde_json::from_str(text).ok()?;
        if object.get("MESSAGE").is_none() {
            return of_dmesg(&object, clock);
        }
        let field = |name: &str| object.get(name).and_then(Value::as_str).map(str::to_owned);
        let message = match object.get("MESSAGE")? {
            Value::String(text) => text.clone(),
            // Not UTF-8: the journal writes bytes.
            Value::Array(bytes) => {
                let bytes: Vec<u8> = bytes.iter().filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            _ => String::new(),
        };
        let mut fields = Fields { message: Some(message), ..Fields::default() };
        for name in Fields::NAMES {
            if let Some(value) = field(name) {
                fields.set(name, value);
            }
        }
        fields.entry()
    }
}

/// `{"pri": 3, "time": 12.345678, "msg": "text"}`; with -x `fac` and names instead of numbers.
fn of_dmesg(object: &Value, clock: &Clock) -> Option<Entry> {
    let message = object.get("msg")?.as_str()?.to_owned();
    let origin = match (object.get("fac").and_then(Value::as_str), object.get("pri").and_then(Value::as_u64)) {
        (Some("kern"), _) => Origin::Kernel,
        (Some(_), _) => Origin::Program,
        (None, Some(priority)) => u32::try_from(priority).map_or(Origin::Program, origin_of),
        (None, None) => Origin::Unknown,
    };
    let stamp = match object.get("time") {
        // The number as it is written: a float would lose the last digits.
        Some(Value::Number(number)) => bracketed(&number.to_string(), clock),
        Some(Value::String(text)) => {
            let text = text.trim().trim_matches(['[', ']']).trim();
            bracketed(text, clock).or_else(|| iso(text, clock).map(Stamp::Wall))
        }
        _ => None,
    };
    let stamp = stamp.unwrap_or_default();
    Some(Entry { message, origin, stamp, received: stamp, boot: None, host: None })
}

/// Fields of a record of the journal, as far as they matter here.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: Option<String>,
    transport: Option<String>,
    facility: Option<String>,
    written: Option<String>,
    received: Option<String>,
    boot: Option<String>,
    machine: Option<String>,
    host: Option<String>,
    /// The record shows where it begins and ends.
    framed: bool,
}

impl Fields {
    /// Those that matter beside MESSAGE.
    const NAMES: [&str; 7] = [
        "_TRANSPORT",
        "SYSLOG_FACILITY",
        "_SOURCE_REALTIME_TIMESTAMP",
        "__REALTIME_TIMESTAMP",
        "_BOOT_ID",
        "_MACHINE_ID",
        "_HOSTNAME",
    ];

    /// Takes a field; others are left alone.
    pub fn set(&mut self, name: &str, value: String) {
        self.framed |= name == "__CURSOR";
        let field = match name {
            "MESSAGE" => &mut self.message,
            "_TRANSPORT" => &mut self.transport,
            "SYSLOG_FACILITY" => &mut self.facility,
            "_SOURCE_REALTIME_TIMESTAMP" => &mut self.written,
            "__REALTIME_TIMESTAMP" => &mut self.received,
            "_BOOT_ID" => &mut self.boot,
            "_MACHINE_ID" => &mut self.machine,
            "_HOSTNAME" => &mut self.host,
            _ => return,
        };
        *field = Some(value);
    }

    /// The header of a record of `-o verbose`: its time.
    pub fn received(stamp: Stamp) -> Fields {
        let micros = match stamp {
            Stamp::Wall(wall) => Some(wall.as_microsecond().to_string()),
            _ => None,
        };
        Fields { received: micros, framed: true, ..Fields::default() }
    }

    /// Whether the record shows where it begins and ends.
    pub fn is_framed(&self) -> bool {
        self.framed
    }

    /// Whether another message is another record's. In a record that shows its end it is not: a
    /// program may write several, and what the journal knows of it stands behind them.
    pub fn ends_before_a_message(&self) -> bool {
        !self.framed && self.message.is_some()
    }

    /// The record; `None` if it has no message.
    pub fn entry(self) -> Option<Entry> {
        let origin = match (self.transport.as_deref(), self.facility.as_deref()) {
            (Some("kernel"), None | Some("0")) => Origin::Kernel,
            (Some(_), _) | (None, Some(_)) => Origin::Program,
            (None, None) => Origin::Unknown,
        };
        let wall = |micros: &String| Timestamp::from_microsecond(micros.parse().ok()?).ok().map(Stamp::Wall);
        let received = self.received.as_ref().and_then(wall).unwrap_or_default();
        let stamp = self.written.as_ref().and_then(wall).unwrap_or(received);
        let message = self.message?.trim_end().to_owned();
        Some(Entry { message, origin, stamp, received, boot: self.boot, host: self.machine.or(self.host) })
    }
}

/// Cuts a stream of JSON into its innermost objects, however they are laid out. Each is a record:
/// no writer of logs nests another in one.
#[derive(Debug, Default)]
pub(super) struct Objects {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The object that is open, from its brace on.
    open: Option<Vec<u8>>,
}

impl Objects {
    /// Whether more of a document is to come.
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }

    /// Whether a line can be part of the document that is open: what no JSON has, ends it.
    pub fn goes_on(&self, line: &[u8]) -> bool {
        let line = line.trim_ascii();
        let number = || line.iter().all(|byte| byte.is_ascii_digit() || b", -]".contains(byte));
        matches!(line, [] | [b'"' | b'{' | b'}' | b']' | b',', ..]) || number()
    }

    /// Takes the next bytes, and gives the objects that end in them.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for &byte in bytes {
            if let Some(open) = self.open.as_mut().filter(|_| byte != b'{' || self.in_string) {
                open.push(byte);
                if open.len() > LONGEST {
                    self.open = None;
                }
            }
            if self.in_string {
                match byte {
                    // No string goes on in the next line: this one was cut.
                    b'\n' => self.reset(),
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' => {
                    self.depth += 1;
                    self.open = Some(vec![b'{']);
                }
                b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if let Some(object) = self.open.take() {
                        take(&object);
                    }
                }
                _ => {}
            }
        }
    }

    /// Forgets a document that was cut.
    pub fn reset(&mut self) {
        *self = Objects::default();
    }
}
