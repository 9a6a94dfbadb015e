//! Lengths of time and other words as people type them.

/// Units of time, in ns.
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a length of time to the nanosecond: "250ms", "1.5s", "1m30s", "12.5" (seconds).
pub(super) fn parse_length(text: &str) -> Result<u64, String> {
    let wrong = || format!("not a time: {text:?}; write it as 250ms, 1.5s or 1m30s");
    let mut rest = text.trim();
    let mut total: u128 = 0;
    if rest.is_empty() {
        return Err("a time is missing; write it as 250ms, 1.5s or 1m30s".to_owned());
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(number_end);
        let behind = behind.trim_start();
        let unit_end = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let factor = match unit {
            "" => 1_000_000_000,
            _ => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns).ok_or_else(wrong)?,
        };
        total = total.saturating_add(decimal(number, factor).ok_or_else(wrong)?);
        rest = behind.trim_start();
    }
    u64::try_from(total).map_err(|_| format!("too long a time: {text}"))
}

/// `number * factor`, rounded down; exact where a float would not be.
fn decimal(number: &str, factor: u64) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) || whole.len() > 19 {
        return None;
    }
    let factor = u128::from(factor);
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // No unit has more places than an hour in ns.
    let part = part.get(..part.len().min(15))?;
    let numerator: u128 = if part.is_empty() { 0 } else { part.parse().ok()? };
    Some(whole * factor + numerator * factor / 10u128.pow(part.len() as u32))
}

/// A length of time as [`parse_length`] reads it, to the nanosecond: "1.5s", "250ms".
pub fn length(ns: u64) -> String {
    let (name, unit) = match ns {
        0..1_000 => ("ns", 1),
        1_000..1_000_000 => ("us", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let places = unit.to_string().len() - 1;
    let part = format!("{:0places$}", ns % unit);
    match part.trim_end_matches('0') {
        "" => format!("{}{name}", ns / unit),
        part => format!("{}.{part}{name}", ns / unit),
    }
}

/// The word of a list that is nearest to what was typed, if any is near.
pub(super) fn nearest<'a>(typed: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = words.map(|word| (distance(typed, word), word)).min()?;
    (near.0 <= typed.chars().count().div_ceil(3).max(1)).then_some(near.1)
}

/// Characters to insert, delete, replace or swap with their neighbour to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (one.chars().take(40).collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i];
        for j in 1..=b.len() {
            let replaced = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_to_the_nanosecond() {
        let read = |text: &str| parse_length(text).unwrap();
        assert_eq!(read("250ms"), 250_000_000);
        assert_eq!(read("1.5s"), 1_500_000_000);
        assert_eq!(read("1m30s"), 90_000_000_000);
        assert_eq!(read("2 h 1 ns"), 7_200_000_000_001);
        assert_eq!(read("3µs"), 3_000);
        assert_eq!(read(".5us"), 500);
        assert_eq!(read("12"), 12_000_000_000);
        assert_eq!(read("9007199254740993ns"), 9_007_199_254_740_993, "more than a float tells apart");
        for wrong in ["", "ms", "5 parsecs", "1..5s", "-1s", "1e9", ".", "99999999999999999999s", "9999999999h"] {
            assert!(parse_length(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_are_written_as_they_are_read() {
        for ns in [0, 1, 999, 1_000, 1_500, 250_000_000, 1_500_000_001, u64::MAX] {
            assert_eq!(parse_length(&length(ns)), Ok(ns), "{}", length(ns));
        }
        assert_eq!([length(1_500_000), length(2_000_000_000)], ["1.5ms", "2s"]);
    }

    #[test]
    fn the_nearest_word_is_named() {
        let words = || ["step", "rank", "time", "zoom", "filter", "quit"].into_iter();
        assert_eq!(nearest("stpe", words()), Some("step"));
        assert_eq!(nearest("filtre", words()), Some("filter"));
        assert_eq!(nearest("ranks", words()), Some("rank"));
        assert_eq!(nearest("kubernetes", words()), None);
    }
}
