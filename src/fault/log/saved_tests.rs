//! Saved logs in every form that is written as data or takes several lines, and with boots in them.

use jiff::tz::TimeZone;

use super::{Clock, LogReader, SavedLog, Told};
use crate::fault::Catalogue;

const XID: &str = "NVRM: Xid (PCI:0000:3b:00): 79, pid=2315, name=python3, GPU has fallen off the bus.";
const HARMLESS: &str = "usb 1-1: new high-speed USB device number 2 using xhci_hcd";

/// A log that writes messages of one origin.
type Writer = fn(messages: &[&str], kernel: bool) -> String;

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Fields of a record in the order of the journal's exporter.
fn fields(message: &str, kernel: bool) -> Vec<(&'static str, String)> {
    let transport = if kernel { "kernel" } else { "syslog" };
    vec![
        ("__CURSOR", "s=5a;i=1;b=6f;m=2;t=3;x=4".to_owned()),
        ("__REALTIME_TIMESTAMP", "1795514401000000".to_owned()),
        ("_BOOT_ID", "6f3b".to_owned()),
        ("PRIORITY", "3".to_owned()),
        ("SYSLOG_FACILITY", if kernel { "0" } else { "1" }.to_owned()),
        ("MESSAGE", message.to_owned()),
        ("_HOSTNAME", "gpu-17".to_owned()),
        ("_TRANSPORT", transport.to_owned()),
    ]
}

fn object(message: &str, kernel: bool, between: &str) -> String {
    let fields: Vec<String> =
        fields(message, kernel).iter().map(|(name, value)| format!("\"{name}\" : {}", quoted(value))).collect();
    format!("{{{between}{}{between}}}", fields.join(&format!(",{between}")))
}

fn each(messages: &[&str], write: impl Fn(&str) -> String) -> String {
    messages.iter().map(|message| write(message)).collect()
}

fn dmesg_json(messages: &[&str], kernel: bool, between: &str) -> String {
    let priority = if kernel { 3 } else { 11 };
    let objects: Vec<String> = messages
        .iter()
        .map(|message| {
            let message = quoted(message);
            format!(
                "{{{between}\"pri\": {priority},{between}\"time\":  12345.678901,{between}\"msg\": {message}{between}}}"
            )
        })
        .collect();
    format!("{{{between}\"dmesg\": [{between}{}{between}]{between}}}\n", objects.join(","))
}

const WRITERS: [(&str, Writer); 12] = [
    ("dmesg --json", |all, kernel| dmesg_json(all, kernel, "\n   ")),
    ("dmesg --json in a line", |all, kernel| dmesg_json(all, kernel, "")),
    ("dmesg --json -x", |all, kernel| {
        let facility = if kernel { "kern" } else { "user" };
        let record = |m: &str| {
            format!("{{\n\"fac\": \"{facility}\",\n\"pri\": \"err\",\n\"time\": 1.5,\n\"msg\": {}\n}},", quoted(m))
        };
        format!("{{\n\"dmesg\": [\n{}]\n}}\n", each(all, record))
    }),
    ("dmesg --color=always", |all, kernel| {
        let priority = if kernel { 3 } else { 11 };
        each(all, |m| format!("<{priority}>\u{1b}[32m[12345.678901] \u{1b}[0m\u{1b}[1m\u{1b}[31m{m}\u{1b}[0m\n"))
    }),
    ("json", |all, kernel| each(all, |m| format!("{}\n", object(m, kernel, "")))),
    ("json-pretty", |all, kernel| each(all, |m| format!("{}\n", object(m, kernel, "\n\t")))),
    ("json-sse", |all, kernel| each(all, |m| format!("data: {}\n\n", object(m, kernel, "")))),
    ("json-seq", |all, kernel| each(all, |m| format!("\u{1e}{}\n", object(m, kernel, "")))),
    ("a list of json", |all, kernel| {
        format!("[{}]\n", all.iter().map(|m| object(m, kernel, "\n  ")).collect::<Vec<_>>().join(","))
    }),
    ("export", |all, kernel| {
        let line = |(name, value): (&str, String)| format!("{name}={value}\n");
        each(all, |m| format!("{}\n", fields(m, kernel).into_iter().map(line).collect::<String>()))
    }),
    ("export, as bytes", |all, kernel| {
        let line = |(name, value): (&str, String)| match name {
            "MESSAGE" => {
                let size = String::from_utf8((value.len() as u64).to_le_bytes().to_vec()).unwrap();
                format!("MESSAGE\n{size}{value}\n")
            }
            _ => format!("{name}={value}\n"),
        };
        each(all, |m| format!("{}\n", fields(m, kernel).into_iter().map(line).collect::<String>()))
    }),
    ("verbose", |all, kernel| {
        let line = |(name, value): &(&str, String)| format!("    {name}={value}\n");
        each(all, |m| {
            let fields = fields(m, kernel);
            let shown: String = fields.iter().filter(|(name, _)| !name.starts_with("__")).map(line).collect();
            format!("Tue 2026-11-24 10:00:01.123456 UTC [s=5a;i=1;b=6f;m=2;t=3;x=4]\n{shown}")
        })
    }),
];

fn saved() -> SavedLog {
    let now = "2026-11-25T12:00:00Z".parse().unwrap();
    SavedLog::new(LogReader::new(Clock { now, zone: TimeZone::UTC }, false))
}

/// Faults that are left when the log has been read, and the log.
fn read(log: &[u8]) -> (Vec<String>, SavedLog) {
    let (mut saved, mut faults) = (saved(), Vec::new());
    let mut take = |told| match told {
        Told::Event(event) => faults.push(event.fault.into_owned()),
        Told::Booted => faults.clear(),
    };
    log.split_inclusive(|byte| *byte == b'\n').for_each(|line| saved.line(line, &mut take));
    saved.finish(&mut take);
    (faults, saved)
}

#[test]
fn every_code_is_read_in_every_form_of_records() {
    let catalogue = Catalogue::embedded().unwrap();
    let codes = catalogue.iter().filter_map(|entry| Some((entry.fault.clone(), entry.code?)));
    let (faults, messages): (Vec<String>, Vec<String>) = codes
        .map(|(fault, code)| {
            let message = if fault.starts_with("sxid") {
                format!("nvidia-nvswitch3: SXid (PCI:0000:3b:00.0): {code}, Non-fatal, Link 32 error \"(First)\"")
            } else {
                format!("NVRM: Xid (PCI:0000:3b:00): {code}, pid=2315, name={{py\\thon}}, Ch 00000008")
            };
            (fault, message)
        })
        .unzip();
    assert!(faults.len() > 200, "{}", faults.len());
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    for (form, write) in WRITERS {
        let (found, log) = read(write(&messages, true).as_bytes());
        assert_eq!(found, faults, "{form}");
        assert!(log.is_known(), "{form}");
        let (found, log) = read(write(&messages, false).as_bytes());
        assert!(found.is_empty(), "{form}: {found:?}");
        assert_eq!(log.reader().counts().refused, faults.len() as u64, "{form}");
    }
}

#[test]
fn a_harmless_record_is_known_and_what_is_no_log_is_not() {
    for (form, write) in WRITERS {
        let (found, log) = read(write(&[HARMLESS], true).as_bytes());
        assert!(found.is_empty() && log.is_known(), "{form}");
    }
    for log in [HARMLESS, "[ 1.5] a", "Nov 24 10:00:01 n sshd[1]: a", "kernel: a", "<6>a", "6,1,2,-;a"] {
        assert!(read(format!("{log}\n").as_bytes()).1.is_known(), "{log}");
    }
    let wide: Vec<u8> = format!("\u{feff}[ 1.5] {XID}\n").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let noise: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    for log in [&b"\n\n"[..], b"hello\nworld\n", b"{\"a\": 1}\n", b"(\x1f\x8b\x08", &wide, &noise] {
        let (found, log) = read(log);
        assert!(found.is_empty() && !log.is_known());
    }
}

#[test]
fn a_program_cannot_write_a_record_of_the_kernel() {
    for log in [
        // Two messages of one record; what the journal knows of it comes last.
        format!("__CURSOR=a\nMESSAGE={XID}\nMESSAGE=b\n_TRANSPORT=syslog\n\n"),
        // Lines of a message.
        format!(
            "Tue 2026-11-24 10:00:01 UTC [s=5a;i=1]\n    MESSAGE=a\n            _TRANSPORT=kernel\n            MESSAGE={XID}\n    _TRANSPORT=syslog\n"
        ),
        format!("{{\"MESSAGE\":{},\"_TRANSPORT\":\"syslog\"}}\n", quoted(&format!("{{\"msg\":\"{XID}\"}}"))),
    ] {
        assert!(read(log.as_bytes()).0.is_empty(), "{log}");
    }
    // A record that was cut hides none behind it.
    let log = format!(
        "{{\"MESSAGE\":\"cut\n[ 2.5] {XID}\n{{\"MESSAGE\" : {}}}\n{{\n\"a\": 1,\nNov 24 10:00:01 n kernel: {XID}\n",
        quoted(XID)
    );
    assert_eq!(read(log.as_bytes()).0.len(), 3);
}

#[test]
fn what_was_before_a_boot_is_history() {
    let json = |boot: &str, second: u32, message: &str| {
        format!(
            r#"{{"MESSAGE":"{message}","_TRANSPORT":"kernel","_BOOT_ID":"{boot}","__REALTIME_TIMESTAMP":"17955144{second:02}000000"}}"#
        )
    };
    let syslog = |second: u32, text: &str| format!("Nov 24 10:00:{second:02} gpu-17 kernel: {text}");
    let marked = |mark: &str| vec![syslog(1, XID), mark.to_owned(), syslog(9, HARMLESS)];
    let logs = [
        marked("-- Boot 5ad5c3a0a2c44ea2a9a3f0f1d2c3b4a5 --"),
        marked("-- Reboot --"),
        vec![
            format!("[12345.678901] {XID}"),
            "[    0.000000] Linux version 6.8.0".into(),
            format!("[ 1.5] {HARMLESS}"),
        ],
        vec![XID.into(), "[    0.000000] Linux version 6.8.0".into(), format!("[ 1.5] {HARMLESS}")],
        vec![XID.into(), "Linux version 6.8.0".into(), HARMLESS.into()],
        vec![syslog(1, XID), syslog(8, "Linux version 6.8.0"), syslog(9, HARMLESS)],
        vec![json("a", 1, XID), json("b", 9, HARMLESS)],
    ];
    for log in logs {
        let text = log.join("\n") + "\n";
        let (found, saved) = read(text.as_bytes());
        assert!(found.is_empty() && saved.is_known(), "{text}");
        // What comes after it counts.
        let after = format!("{text}{}\n", log[0]);
        assert_eq!(read(after.as_bytes()).0, ["xid-79"], "{after}");
    }
}

#[test]
fn a_log_that_runs_backwards_has_its_history_at_the_end() {
    let json = |boot: &str, second: u32, message: &str| {
        format!(
            r#"{{"MESSAGE":"{message}","_TRANSPORT":"kernel","_BOOT_ID":"{boot}","__REALTIME_TIMESTAMP":"17955144{second:02}000000"}}"#
        )
    };
    let syslog = |second: u32, text: &str| format!("Nov 24 10:00:{second:02} gpu-17 kernel: {text}");
    for log in [
        vec![syslog(9, XID), syslog(8, HARMLESS), "-- Boot 5ad5 --".into(), syslog(2, XID), syslog(1, HARMLESS)],
        vec![json("b", 9, XID), json("b", 8, HARMLESS), json("a", 2, XID), json("a", 1, HARMLESS)],
        vec![
            format!("[ 9.5] {XID}"),
            format!("[ 8.5] {HARMLESS}"),
            "[ 0.000000] Linux version 6.8.0".into(),
            format!("[ 99.5] {XID}"),
        ],
    ] {
        let (found, saved) = read((log.join("\n") + "\n").as_bytes());
        assert_eq!((found.len(), saved.older()), (1, 1), "{log:?}");
    }
}

#[test]
fn another_machines_boot_is_nobodys_history() {
    let of = |host: &str, text: &str| format!("Nov 24 10:00:01 {host} kernel: {text}\n");
    let log = of("gpu-17", XID) + &of("gpu-18", "Linux version 6.8.0") + &of("gpu-18", HARMLESS);
    assert_eq!(read(log.as_bytes()).0, ["xid-79"]);
    let json = |host: &str, text: &str| {
        format!(
            "{{\"MESSAGE\":\"{text}\",\"_TRANSPORT\":\"kernel\",\"_BOOT_ID\":\"of {host}\",\"_HOSTNAME\":\"{host}\"}}\n"
        )
    };
    let log = json("gpu-17", XID) + &json("gpu-18", HARMLESS) + &json("gpu-17", HARMLESS);
    assert_eq!(read(log.as_bytes()).0, ["xid-79"]);
    // A program's words, and the same boot's first line read late.
    let log = format!("[ 5.5] {XID}\n[ 6.5] Linux version 6.8.0\n<14>[ 7.5] Linux version 6.8.0\n");
    assert_eq!(read(log.as_bytes()).0, ["xid-79"]);
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(lines in proptest::collection::vec("(\\{|\\}|\"|\\[|MESSAGE|=|MESSAGE\n|__CURSOR=a\n|-- Boot a --|Linux version |data: |\u{1b}\\[31m|\u{1e}|NVRM: Xid \\(PCI:0000:3b:00\\): 79|\n|    |\u{0}|:|,){0,30}", 0..8)) {
        read(lines.concat().as_bytes());
    }
}
