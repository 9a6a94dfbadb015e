#![no_main]
//! Headers of safetensors files and indices of models: any bytes.

use aictl::preload::tensors::{Header, Index};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = Index::parse(data);
    let Some((prefix, rest)) = data.split_first_chunk::<8>() else { return };
    // The first bytes say how long the file is, too: most lengths are near the header's.
    let length = 8 + rest.len() as u64 + u64::from(prefix[0]);
    let _ = Header::json_length(*prefix, length);
    if let Ok(header) = Header::parse(rest, length) {
        let mut end = header.data_start;
        for tensor in &header.tensors {
            assert_eq!(tensor.range.start, end);
            end = tensor.range.end;
        }
        assert_eq!(end, length);
    }
});
