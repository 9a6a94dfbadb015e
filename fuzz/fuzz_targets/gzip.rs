#![no_main]
//! Gzip: the input as it stands behind the magic number, and the input packed soundly.

mod promises;

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut broken = vec![0x1f, 0x8b];
    broken.extend_from_slice(data);
    promises::open_and_check(&broken);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(data).expect("a Vec takes all");
    promises::open_and_check(&packed.finish().expect("a Vec takes all"));
});
