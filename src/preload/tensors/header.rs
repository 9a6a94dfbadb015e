//! The header of a safetensors file: eight bytes of length, JSON, then the data. Read strictly: a
//! file that says one thing and has another must not reach a GPU.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest header that is taken, as in the format's reference (`MAX_HEADER_SIZE` in
/// safetensors/src/tensor.rs).
pub const LONGEST_HEADER: u64 = 100_000_000;
/// Bytes before the JSON: its length, little endian.
const PREFIX: u64 = 8;

/// What is wrong with a header.
#[derive(Debug, Error)]
pub enum HeaderError {
    /// The file can't be read.
    #[error("cannot read it")]
    Read(#[from] io::Error),
    /// There is no room for a header.
    #[error("{0} bytes are no safetensors file")]
    Short(u64),
    /// The length is more than any header has.
    #[error("its header claims {0} bytes, more than the {LONGEST_HEADER} that are allowed")]
    Huge(u64),
    /// The length is more than the file has.
    #[error("its header claims {claimed} bytes, and {there} are there")]
    Truncated {
        /// The claim.
        claimed: u64,
        /// What follows the length.
        there: u64,
    },
    /// No JSON, or not of the right form.
    #[error("its header is no header: {0}")]
    Form(String),
    /// Shape and type need other bytes than are given.
    #[error("tensor {name} has {bytes} bytes, and {dtype} of its shape needs {needs}")]
    Size {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: String,
        /// Bytes between its offsets.
        bytes: u64,
        /// What it needs, or that no number is large enough.
        needs: String,
    },
    /// A type that the format does not have.
    #[error("tensor {name} is of type {dtype}, which the format does not have")]
    Type {
        /// The tensor.
        name: String,
        /// What it says.
        dtype: String,
    },
    /// Tensors overlap, or bytes belong to none.
    #[error("tensor {name} begins at {begins} of the data, and the one before ends at {expected}")]
    Layout {
        /// The tensor.
        name: String,
        /// Where it begins.
        begins: u64,
        /// Where it should.
        expected: u64,
    },
    /// The data do not end where the tensors do.
    #[error("its tensors end at {tensors} of the data, and the data have {data} bytes")]
    Length {
        /// End of the last tensor.
        tensors: u64,
        /// Bytes behind the header.
        data: u64,
    },
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its type, as the format writes it: "BF16".
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Where its bytes are in the file.
    pub range: Range<u64>,
}

/// What a file has, in the order in which it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Where the data begin: length and JSON lie before.
    pub data_start: u64,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// What its writer said about it.
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of an open file.
    ///
    /// # Errors
    /// If the file can't be read, or its header is not what it should be.
    pub fn read(file: &File) -> Result<Header, HeaderError> {
        let length = file.metadata()?.len();
        let mut prefix = [0; PREFIX as usize];
        if length < PREFIX {
            return Err(HeaderError::Short(length));
        }
        file.read_exact_at(&mut prefix, 0)?;
        let json_length = Header::json_length(prefix, length)?;
        let mut json = vec![0; usize::try_from(json_length).map_err(|_| HeaderError::Huge(json_length))?];
        file.read_exact_at(&mut json, PREFIX)?;
        Header::parse(&json, length)
    }

    /// Reads the length of the JSON from a file's first eight bytes.
    ///
    /// # Errors
    /// If a file of `file_length` bytes can't have such a header.
    pub fn json_length(prefix: [u8; 8], file_length: u64) -> Result<u64, HeaderError> {
        let claimed = u64::from_le_bytes(prefix);
        let there = file_length.checked_sub(PREFIX).ok_or(HeaderError::Short(file_length))?;
        match claimed {
            0 | 1 => Err(HeaderError::Form(format!("{claimed} bytes of JSON"))),
            _ if claimed > LONGEST_HEADER => Err(HeaderError::Huge(claimed)),
            _ if claimed > there => Err(HeaderError::Truncated { claimed, there }),
            _ => Ok(claimed),
        }
    }

    /// Reads the JSON of a file of `file_length` bytes.
    ///
    /// # Errors
    /// If it is not what it should be, or contradicts itself or the file's length.
    pub fn parse(json: &[u8], file_length: u64) -> Result<Header, HeaderError> {
        let data_start = PREFIX.saturating_add(json.len() as u64);
        let data = file_length
            .checked_sub(data_start)
            .ok_or(HeaderError::Truncated { claimed: json.len() as u64, there: file_length.saturating_sub(PREFIX) })?;
        let form = |error: serde_json::Error| HeaderError::Form(error.to_string());
        if json.first() != Some(&b'{') {
            return Err(HeaderError::Form("it does not begin with {".to_owned()));
        }
        let Raw { mut tensors, metadata } = serde_json::from_slice(json).map_err(form)?;
        tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
        let mut end = 0;
        let mut made = Vec::with_capacity(tensors.len());
        for (name, raw) in tensors {
            let [from, to] = raw.data_offsets;
            if from != end || to < from {
                return Err(HeaderError::Layout { name, begins: from, expected: end });
            }
            let Some(bits) = bits(&raw.dtype) else {
                return Err(HeaderError::Type { name, dtype: raw.dtype });
            };
            let count = raw.shape.iter().try_fold(1u64, |count, side| count.checked_mul(*side));
            let needs =
                count.and_then(|count| count.checked_mul(bits)).filter(|bits| bits % 8 == 0).map(|bits| bits / 8);
            if needs != Some(to - from) {
                let needs = needs.map_or("no whole number".to_owned(), |bytes| bytes.to_string());
                return Err(HeaderError::Size { name, dtype: raw.dtype, bytes: to - from, needs });
            }
            end = to;
            if end > data {
                return Err(HeaderError::Length { tensors: end, data });
            }
            made.push(Tensor { name, dtype: raw.dtype, shape: raw.shape, range: data_start + from..data_start + to });
        }
        if end != data {
            return Err(HeaderError::Length { tensors: end, data });
        }
        Ok(Header { data_start, tensors: made, metadata })
    }
}

/// Bits of one element; `None` for a type that the format does not have (`Dtype` in
/// safetensors/src/tensor.rs).
fn bits(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

struct Raw {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

/// A map that has each key once: of two tensors of one name another reader may take the other.
impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut raw = Raw { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut seen = rustc_hash::FxHashSet::default();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{name} is there twice")));
                    }
                    if name == "__metadata__" {
                        raw.metadata = map.next_value_seed(Texts)?;
                    } else {
                        raw.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(raw)
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// The metadata: texts by texts; some writers say null for none.
struct Texts;

impl<'de> DeserializeSeed<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok(Option::<BTreeMap<String, String>>::deserialize(deserializer)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str, data: u64) -> Result<Header, HeaderError> {
        Header::parse(json.as_bytes(), 8 + json.len() as u64 + data)
    }

    #[test]
    fn tensors_come_in_the_order_of_the_file() {
        let json = r#"{"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},"__metadata__":{"format":"pt"},
            "a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"c":{"dtype":"U8","shape":[0,7],"data_offsets":[16,16]}}   "#;
        let header = parse(json, 16).unwrap();
        let names: Vec<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(header.data_start, 8 + json.len() as u64);
        assert_eq!(header.tensors[1].range, header.data_start + 4..header.data_start + 16);
        assert_eq!(header.metadata["format"], "pt");
        assert!(parse("{}", 0).unwrap().tensors.is_empty());
        assert_eq!(parse(r#"{"a":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}}"#, 3).unwrap().tensors.len(), 1);
    }

    #[test]
    fn lies_are_told_apart() {
        let one = |dtype: &str, shape: &str, from: u64, to: u64| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
        };
        let said = |json: &str, data: u64| parse(json, data).unwrap_err().to_string();
        assert!(said(&one("F32", "[2]", 0, 4), 4).contains("needs 8"));
        assert!(said(&one("F32", "[18446744073709551615,2]", 0, 4), 4).contains("no whole number"));
        assert!(said(&one("F4", "[3]", 0, 1), 1).contains("no whole number"));
        assert!(said(&one("F33", "[1]", 0, 4), 4).contains("F33"));
        assert!(said(&one("U8", "[4]", 4, 8), 8).contains("begins at 4"), "a hole at the start");
        assert!(said(&one("U8", "[4]", 0, 4), 5).contains("the data have 5"), "bytes behind the end");
        assert!(said(&one("U8", "[4]", 0, 4), 3).contains("the data have 3"), "a file cut short");
        assert!(said(&one("U8", "[4]", 4, 0), 4).contains("begins at 4"));
        assert!(said(&one("U8", "[-1]", 0, 4), 4).contains("no header"));
        let overlap = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
        assert!(said(overlap, 6).contains("tensor b begins at 2"));
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(said(twice, 1).contains("twice"));
        for json in ["", "[]", " {}", "{", "{\"a\":1}", "nul", "\u{feff}{}", "{} x"] {
            assert!(parse(json, 0).is_err(), "{json:?}");
        }
    }

    #[test]
    fn lengths_are_believed_only_if_they_can_be() {
        let length = |claimed: u64, file: u64| Header::json_length(claimed.to_le_bytes(), file);
        assert_eq!(length(2, 10).unwrap(), 2);
        assert!(matches!(length(3, 10), Err(HeaderError::Truncated { claimed: 3, there: 2 })));
        assert!(matches!(length(u64::MAX, 10), Err(HeaderError::Huge(_))));
        assert!(matches!(length(LONGEST_HEADER + 1, u64::MAX), Err(HeaderError::Huge(_))));
        assert!(length(0, 100).is_err() && length(2, 7).is_err());
    }

    #[test]
    fn files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let json = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.extend_from_slice(b"1234");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(Header::read(&File::open(&path).unwrap()).unwrap().tensors[0].name, "a");
        for cut in 0..bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(Header::read(&File::open(&path).unwrap()).is_err(), "cut at {cut}");
        }
    }

    proptest! {
        /// Whatever is taken covers the data without hole or overlap.
        #[test]
        fn what_is_taken_is_whole(sizes in prop::collection::vec(0u64..50, 0..8), shift in 0u64..3, extra in 0u64..3) {
            let mut at = 0;
            let entries: Vec<String> = sizes.iter().enumerate().map(|(i, size)| {
                let from = at + if i == 1 { shift } else { 0 };
                at = from + size;
                format!(r#""t{i}":{{"dtype":"I8","shape":[{size}],"data_offsets":[{from},{at}]}}"#)
            }).collect();
            let json = format!("{{{}}}", entries.join(","));
            let taken = parse(&json, at + extra);
            let right = extra == 0 && (shift == 0 || sizes.len() < 2);
            prop_assert_eq!(taken.is_ok(), right, "{:?}", taken);
            if let Ok(header) = taken {
                let mut end = header.data_start;
                for tensor in &header.tensors {
                    prop_assert_eq!(tensor.range.start, end);
                    end = tensor.range.end;
                }
                prop_assert_eq!(end, header.data_start + at);
            }
        }

        #[test]
        fn any_bytes_do_no_harm(json in prop::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
            let _ = Header::parse(&json, length);
        }

        #[test]
        fn json_like_texts_do_no_harm(json in r#"\{("[ab]":\{"dtype":"(U8|F4|X)","shape":\[[0-9]{0,20}\],"data_offsets":\[[0-9]{1,20},[0-9]{1,20}\]\},?){0,3}\}"#, length in any::<u64>()) {
            if let Ok(header) = Header::parse(json.as_bytes(), length) {
                prop_assert!(header.tensors.iter().all(|tensor| tensor.range.end <= length));
            }
        }
    }
}
