#![no_main]
//! JSON traces; what does not start like one is put into a list of events.

mod promises;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"[") || data.starts_with(b"{") {
        return promises::open_and_check(data);
    }
    let mut file = b"[{".to_vec();
    file.extend_from_slice(data);
    promises::open_and_check(&file);
});
