//! Every code of the catalogue in every form that drivers write it, behind every envelope that log
//! writers put around it: all are read, with code and device. And look-alikes: none is.

use jiff::tz::TimeZone;

use super::{Clock, Event, EventKind, LogReader};
use crate::fault::Catalogue;

/// Envelopes of the kernel's messages; `@` is the message.
const ENVELOPES: [&str; 27] = [
    "@",
    "[12345.678901] @",
    "[    9.012345] @",
    "[12345.678901] [ T4711] @",
    "<3>[12345.678901] @",
    "3,1234,12345678901,-;@",
    "4,1234,12345678901,c,caller=C7;@",
    "kern  :err   : [12345.678901] @",
    "kern  :warn  : 2026-11-24T10:00:01,123456+00:00 @",
    "[Tue Nov  3 10:00:01 2026] @",
    "2026-11-24T10:00:01,123456+00:00 @",
    "Nov  3 10:00:01 gpu-17 kernel: @",
    "Okt 03 10:00:01 gpu-17.rack-3 kernel: [12345.678901] @",
    "2026-11-24T10:00:01.123456+01:00 gpu-17 kernel: @",
    "2026-11-24T10:00:01+0100 gpu-17 kernel: [12345.678901] @",
    "[12345.678901] gpu-17 kernel: @",
    "<3>1 2026-11-24T10:00:01Z gpu-17 kernel - - - @",
    "[12345.678901 <    0.000012>] @",
    "kern  :err   : [Mon Nov  3 10:00:01 2026] @",
    "[Nov24 10:00] @",
    "[  +0.000012] @",
    "Tue 2026-11-24 10:00:01 UTC gpu-17 kernel: @",
    "Tue 2026-11-24 10:00:01 CET gpu-17 kernel: @",
    "2026-11-24 10:00:01.123 gpu-17 kernel: [12345.678901] @",
    "2026-11-24 10:00:01 +0100 gpu-17 kernel: @",
    "1795514401.123456 gpu-17 kernel: @",
    "[Tue Nov 24 10:00:01 2026 <    0.000000>] @",
];

/// Envelopes of what programs write.
const PROGRAMS: [&str; 8] = [
    "<11>[12345.678901] @",
    "12,1234,12345678901,-;@",
    "user  :err   : [12345.678901] @",
    "Nov  3 10:00:01 gpu-17 train[4711]: @",
    "2026-11-24T10:00:01.123456+01:00 gpu-17 python3: @",
    "Tue 2026-11-24 10:00:01 UTC gpu-17 train[4711]: @",
    "2026-11-24 10:00:01 gpu-17 python3: @",
    "1795514401.123456 gpu-17 train[4711]: @",
];

/// Forms of an Xid's line; `#` is the code.
const XIDS: [&str; 9] = [
    "NVRM: Xid (PCI:0000:3b:00): #, pid=2315, name=python3, Ch 00000008, intr 00000000. MMU Fault",
    "NVRM: Xid (PCI:0000:3b:00): #, pid='<unknown>', name=<unknown>, Ch 00000008",
    "NVRM: Xid (PCI:0000:3b:00): #, pid=<unknown>, name=<unknown>, text",
    "NVRM: Xid (PCI:0000:3b:00): #, text without a process.",
    "NVRM: Xid (PCI:0000:3b:00): #",
    "NVRM: Xid (0000:3b:00): #, 0001 00000000 0000a0c0 00000000",
    "NVRM: Xid (PCI:0000:3b:00 GPU-I:05): #, pid=2315, name=python3, Ch 00000008",
    "NVRM: Xid (PCI:0000:3b:00 GPU-I:05 GPU-CI:01): #, pid=2315, name=python3, Ch 00000008",
    "NVRM: Xid (PCI:0000:3b:00): #, pid=2315, name=pt_main_thread, Ch 00000008 caused by previous Xid 31",
];

/// Forms of an SXid's line.
const SXIDS: [&str; 4] = [
    "nvidia-nvswitch3: SXid (PCI:0000:3b:00.0): #, Non-fatal, Link 32 egress non-posted PRIV error (First)",
    "nvidia-nvswitch0: SXid (PCI:0000:3b:00.0): #, Fatal, Link 30 LTSSM Fault Up",
    "nvidia-nvswitch1: SXid (PCI:0000:3b:00.0): #, Severity 1 Engine instance 30 Sub-engine instance 00",
    "nvidia-nvswitch2: SXid (PCI:0000:3b:00.0): #, Data {0x50610002, 0x10100030, 0x00000000}",
];

/// Lines that look like one.
const OTHERS: [&str; 14] = [
    "r8169 0000:02:00.0 eth0: RTL8125B, 00:00:00:00:00:00, XID 641, IRQ 128",
    "NVRM: GPU at PCI:0000:3b:00: GPU-c4a80165-86e4-bfbb-ecfa-1d81a70b138a",
    "NVRM: A GPU crash dump has been created. If possible, please run nvidia-bug-report.sh as root",
    "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.158.01  Release Build",
    "NVRM: NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus",
    "NVRM: Xid PCI:0000:3b:00: 79, GPU has fallen off the bus",
    "NVRM: Xid (somewhere): 79, GPU has fallen off the bus",
    "test: NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus",
    "nvidia-nvswitch: Probing device 0000:08:00.0, Vendor Id = 0x10de, Device Id = 0x22a3",
    "nvidia-nvswitch2: removing device 0000:05:00.0",
    "nvidia-modeset: Unloading",
    "pcieport 0000:00:1c.0: AER: enabled with IRQ 122",
    "EXT4-fs (nvme0n1p1): mounted filesystem with ordered data mode. Quota mode: none.",
    "mlx5_core 0000:ab:00.0 mlx5_5: Port: 1 Link ACTIVE",
];

fn read(line: &str) -> Option<Event> {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    LogReader::new(Clock { now, zone: TimeZone::UTC }, false).line(line.as_bytes())
}

#[test]
fn every_code_is_read_in_every_form() {
    let mut reader = {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        LogReader::new(Clock { now, zone: TimeZone::UTC }, false)
    };
    let mut lines = 0;
    for entry in Catalogue::embedded().unwrap().iter() {
        let Some(code) = entry.code else { continue };
        let forms: &[&str] = if entry.fault.starts_with("sxid") { &SXIDS } else { &XIDS };
        for form in forms {
            let message = form.replace('#', &code.to_string());
            for envelope in ENVELOPES {
                let line = envelope.replace('@', &message);
                let event = reader.line(line.as_bytes()).unwrap_or_else(|| panic!("not read: {line}"));
                assert_eq!(event.fault, entry.fault, "{line}");
                assert_eq!(event.pci.as_ref().map(|pci| pci.as_str()), Some("0000:3b:00.0"), "{line}");
                assert_eq!(event.text, message, "{line}");
                let told = match event.kind {
                    EventKind::Xid { code, .. } | EventKind::Sxid { code, .. } => code,
                    EventKind::Sign => 0,
                };
                assert_eq!(told, code, "{line}");
                lines += 1;
            }
        }
    }
    assert!(lines > 50_000, "{lines}");
}

#[test]
fn times_are_those_that_were_written() {
    let xid = "NVRM: Xid (PCI:0000:3b:00): 79";
    for (time, wanted) in [
        ("[Mon Nov  3 10:00:01 2026] ", "2026-11-03T10:00:01Z"),
        ("[Nov24 10:00] ", "2026-11-24T10:00:00Z"),
        ("Tue 2026-11-24 10:00:01 UTC gpu-17 kernel: ", "2026-11-24T10:00:01Z"),
        ("2026-11-24 10:00:01 +0100 gpu-17 kernel: ", "2026-11-24T09:00:01Z"),
        ("2026-11-24 10:00:01,5 gpu-17 kernel: ", "2026-11-24T10:00:01.5Z"),
        ("1795514401.123456 gpu-17 kernel: ", "2026-11-24T10:00:01.123456Z"),
    ] {
        let event = read(&format!("{time}{xid}")).unwrap_or_else(|| panic!("not read: {time}"));
        assert_eq!(event.stamp, super::Stamp::Wall(wanted.parse().unwrap()), "{time}");
    }
}

#[test]
fn no_look_alike_is_read() {
    for envelope in ENVELOPES {
        for message in OTHERS {
            let line = envelope.replace('@', message);
            assert_eq!(read(&line), None, "{line}");
        }
    }
    for envelope in PROGRAMS {
        for form in XIDS.iter().chain(&SXIDS) {
            let line = envelope.replace('@', &form.replace('#', "79"));
            assert_eq!(read(&line), None, "{line}");
        }
    }
}
