#![no_main]
//! Archives of strangers: any bytes, also packed. Names are harmless, and no file is shorter than it says.

use std::io::Read;
use std::sync::atomic::AtomicBool;

use aictl::preload::name;
use aictl::preload::unpack::{Unsound, each_file};
use libfuzzer_sys::fuzz_target;

/// More than is worth reading of what unpacks to more.
const MOST: u64 = 1 << 22;

fuzz_target!(|data: &[u8]| {
    let mut read = 0;
    let _ = each_file::<Unsound>(data, &AtomicBool::new(false), 8 << 20, |name, bytes, content| {
        name::check(&name).expect("a harmless name");
        read += bytes;
        if read > MOST {
            return Err(Unsound::of("enough"));
        }
        let mut there = Vec::new();
        content.read_to_end(&mut there).map_err(Unsound::of)?;
        // Cut off, it is shorter, and the walk ends with an error behind it.
        assert!(there.len() as u64 <= bytes);
        Ok(())
    });
});
