#![no_main]
//! Perfetto's packets: the input is a list of packet bodies, each with its length, so that
//! mutations reach what is inside them; every fourth input is taken as a file as it stands.

mod promises;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if data.len() % 4 == 0 {
        return promises::open_and_check(data);
    }
    let mut file = vec![0x0a, 2, 0x50, 1];
    let mut rest = data;
    while let Some((len, tail)) = rest.split_first() {
        let (body, tail) = tail.split_at(tail.len().min(usize::from(*len & 0x7f)));
        file.push(0x0a);
        file.push(body.len() as u8);
        file.extend_from_slice(body);
        rest = tail;
    }
    promises::open_and_check(&file);
});
