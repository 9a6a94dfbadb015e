#![no_main]
//! Kernel logs: any bytes, line by line, through the reader and the rules.

use aictl::fault::log::{Clock, LogReader};
use aictl::fault::{Catalogue, Collector, Horizon, NvlinkTable};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TABLES: LazyLock<(Catalogue, NvlinkTable)> = LazyLock::new(|| {
    (Catalogue::embedded().expect("built in"), NvlinkTable::embedded().expect("built in"))
});

fuzz_target!(|data: &[u8]| {
    let clock = Clock { now: jiff::Timestamp::UNIX_EPOCH, zone: jiff::tz::TimeZone::UTC };
    let mut reader = LogReader::new(clock, true);
    let mut collector = Collector::new(&TABLES.0, &TABLES.1, Horizon::default());
    data.split(|byte| *byte == b'\n').filter_map(|line| reader.line(line)).for_each(|event| collector.add(event));
    let found = collector.finish("fuzz").len() as u64;
    assert!(found <= reader.counts().events && reader.counts().events <= reader.counts().lines);
});
