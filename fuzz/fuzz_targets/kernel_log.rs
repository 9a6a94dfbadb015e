#![no_main]
//! Kernel logs: any bytes, line by line, through the reader and the rules.

use aictl::fault::log::{Clock, LogReader, SavedLog, Told};
use aictl::fault::{Catalogue, Collector, Horizon, NvlinkTable};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TABLES: LazyLock<(Catalogue, NvlinkTable)> = LazyLock::new(|| {
    (Catalogue::embedded().expect("built in"), NvlinkTable::embedded().expect("built in"))
});

fuzz_target!(|data: &[u8]| {
    let clock = Clock { now: jiff::Timestamp::UNIX_EPOCH, zone: jiff::tz::TimeZone::UTC };
    let mut log = SavedLog::new(LogReader::new(clock, true));
    let mut collector = Collector::new(&TABLES.0, &TABLES.1, Horizon::default());
    let mut take = |told| match told {
        Told::Event(event) => collector.add(event),
        Told::Booted => collector.booted(),
    };
    data.split_inclusive(|byte| *byte == b'\n').for_each(|line| log.line(line, &mut take));
    log.finish(&mut take);
    let found = collector.finish("fuzz").len() as u64;
    let counts = log.reader().counts();
    assert!(found <= counts.events && counts.events <= counts.lines);
});
