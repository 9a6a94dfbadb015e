//! Line tables and texts as the real interpreters made them (fixtures/make.py).

use proptest::prelude::*;

use super::linetable::Lines;
use super::memory::Memory;
use super::offsets::{LineFormat, of_version};
use super::strings;

const TABLES: &str = include_str!("fixtures/tables.txt");

/// Memory with one object in it.
struct Object(Vec<u8>);

const AT: u64 = 0x7f00_0000_1000;

impl Memory for Object {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let from = address.checked_sub(AT).and_then(|from| usize::try_from(from).ok());
        let range = from.and_then(|from| self.0.get(from..from.checked_add(buffer.len())?));
        range.is_some_and(|bytes| {
            buffer.copy_from_slice(bytes);
            true
        })
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

#[test]
fn every_versions_tables_give_its_own_lines() {
    let (mut versions, mut positions) = (std::collections::BTreeSet::new(), 0);
    for entry in TABLES.lines().filter(|line| line.starts_with("lines ")) {
        let fields: Vec<&str> = entry.split(' ').collect();
        let layout = of_version(fields[1].parse().unwrap()).unwrap();
        let lines = Lines::decode(layout.lines, &unhex(fields[3]), fields[2].parse().unwrap());
        for pair in fields[4].split(',') {
            let (at, line) = pair.split_once(':').unwrap();
            let (at, line): (u32, u32) = (at.parse().unwrap(), line.parse().unwrap());
            assert_eq!(lines.at(at).unwrap_or(0), line, "3.{} at {at} of {entry}", layout.minor);
            positions += 1;
        }
        versions.insert(layout.minor);
    }
    assert_eq!(versions.into_iter().collect::<Vec<_>>(), [9, 10, 11, 12, 13, 14]);
    assert!(positions > 500, "{positions}");
}

#[test]
fn texts_of_every_width_are_read() {
    let mut count = 0;
    for entry in TABLES.lines().filter(|line| line.starts_with("text ")) {
        let fields: Vec<&str> = entry.split(' ').collect();
        let layout = of_version(fields[1].parse().unwrap()).unwrap();
        let text = strings::text(&Object(unhex(fields[2])), AT, layout.text_headers).unwrap();
        let codes = fields[3].split(',').filter(|code| *code != "-");
        let expected: String =
            codes.map(|code| char::from_u32(code.parse().unwrap()).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        if expected.len() > 1024 {
            assert_eq!(text.chars().count(), 1025);
            assert!(text.ends_with('…') && expected.starts_with(text.trim_end_matches('…')));
        } else {
            assert_eq!(text, expected, "3.{}", layout.minor);
        }
        count += 1;
    }
    assert_eq!(count, 6 * 7);
}

#[test]
fn a_code_unit_before_the_first_line_has_none() {
    let lines = Lines::decode(LineFormat::Ranges, &[4, 0x80, 4, 1], 10);
    assert_eq!((lines.at(0), lines.at(4), lines.at(100)), (None, Some(11), Some(11)));
    assert_eq!(Lines::decode(LineFormat::Locations, &[], 10).at(0), None);
}

proptest! {
    #[test]
    fn rubbish_never_panics(table: Vec<u8>, first: u32, at: u32, minor in 9_u8..=14, object: Vec<u8>) {
        let layout = of_version(minor).unwrap();
        let _ = Lines::decode(layout.lines, &table, first).at(at);
        let _ = super::loops::Loops::find(minor, &table).reach(at, first);
        let _ = strings::text(&Object(object.clone()), AT, layout.text_headers);
        let _ = strings::bytes(&Object(object.clone()), AT, 100);
        let mut codes = super::code::Codes::new(None);
        codes.get(&Object(object), &layout, AT, 0);
    }
}
