//! Amounts as people write them for jobs: memory, cores, time limits.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// An amount of memory in bytes. Read as Kubernetes writes it (`64Gi`, `500M`, `1e9`) and as Slurm
/// does (`64G`, `500MB`, in powers of 1024 there): see [`Bytes::slurm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Suffixes of powers of 1024, from the smallest.
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Suffixes of powers of 1000, from the smallest.
const DECIMAL: [&str; 6] = ["k", "M", "G", "T", "P", "E"];

impl Bytes {
    /// Reads Slurm's form: a number with K, M, G, T (powers of 1024, `B` may follow), without one
    /// mebibytes, as `sbatch --mem` has it.
    ///
    /// # Errors
    /// If it is no such amount.
    pub fn slurm(text: &str) -> Result<Bytes, String> {
        let wrong = || format!("{text:?} is no amount of memory; write 64G, 500M or 1024 (MiB)");
        let upper = text.trim().to_ascii_uppercase();
        let upper = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let (digits, power) = match upper.chars().last() {
            Some('K') => (&upper[..upper.len() - 1], 1),
            Some('M') => (&upper[..upper.len() - 1], 2),
            Some('G') => (&upper[..upper.len() - 1], 3),
            Some('T') => (&upper[..upper.len() - 1], 4),
            _ => (upper, 2),
        };
        let number = decimal(digits).ok_or_else(wrong)?;
        whole(number * 1024f64.powi(power)).map(Bytes).ok_or_else(wrong)
    }

    /// In mebibytes, rounded up: the unit of Slurm's `--mem`.
    pub fn mebibytes(self) -> u64 {
        self.0.div_ceil(1 << 20)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let text = text.trim();
        let wrong = || format!("{text:?} is no amount of memory; write 64Gi, 500M or a number of bytes");
        let scaled = |names: &[&str], base: f64| {
            let (digits, power) =
                names.iter().zip(1..).find_map(|(name, power)| Some((text.strip_suffix(name)?, power)))?;
            Some(decimal(digits)? * base.powi(power))
        };
        let number = match scaled(&BINARY, 1024.0).or_else(|| scaled(&DECIMAL, 1000.0)) {
            Some(number) => number,
            None => text
                .strip_suffix("K")
                .and_then(decimal)
                .map(|n| n * 1000.0)
                .or_else(|| exponent(text))
                .ok_or_else(wrong)?,
        };
        whole(number).filter(|&bytes| bytes > 0).map(Bytes).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    /// As Kubernetes writes it, in the largest unit in which it is whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, power) in BINARY.into_iter().rev().zip([6u32, 5, 4, 3, 2, 1]) {
            let unit = 1u64 << (10 * power);
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// An amount of processor cores, in thousandths: `8`, `0.5`, `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpus(pub u64);

impl Cpus {
    /// Whole cores, rounded up: what Slurm and the like count.
    pub fn cores(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let text = text.trim();
        let wrong = || format!("{text:?} is no number of cores; write 8, 0.5 or 500m");
        let thousandths = match text.strip_suffix('m') {
            Some(digits) => decimal(digits).ok_or_else(wrong)?,
            None => decimal(text).ok_or_else(wrong)? * 1000.0,
        };
        whole(thousandths).filter(|&cpus| cpus > 0).map(Cpus).ok_or_else(wrong)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

/// How long a job may run, in seconds. Read as people write durations (`90m`, `1h30m`, `2d`) and as
/// Slurm does (`MINUTES`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeLimit(pub u64);

/// A century: beyond it a time limit is a slip.
const LONGEST_S: u64 = 100 * 365 * 86_400;

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeLimit, String> {
        let text = text.trim();
        let wrong = || format!("{text:?} is no time limit; write 90m, 1h30m, 2d, 12:00:00 or 1-12:00:00");
        let seconds = slurm_time(text).or_else(|| written_time(text)).ok_or_else(wrong)?;
        if seconds == 0 || seconds > LONGEST_S { Err(wrong()) } else { Ok(TimeLimit(seconds)) }
    }
}

/// `MINUTES`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS`.
fn slurm_time(text: &str) -> Option<u64> {
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u64>().ok())?
    };
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, &[minutes]) => (0, minutes, 0),
        (None, &[minutes, seconds]) => (0, minutes, seconds),
        (Some(_), &[hours]) => (hours, 0, 0),
        (Some(_), &[hours, minutes]) => (hours, minutes, 0),
        (_, &[hours, minutes, seconds]) => (hours, minutes, seconds),
        _ => return None,
    };
    let terms = [(days.unwrap_or(0), 86_400), (hours, 3600), (minutes, 60), (seconds, 1)];
    terms.iter().try_fold(0u64, |sum, &(count, unit)| sum.checked_add(count.checked_mul(unit)?))
}

/// `1h30m`, `2d`, `90s`: whole numbers with d, h, m, s.
fn written_time(text: &str) -> Option<u64> {
    let mut sum = 0u64;
    let mut rest = text;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..end].parse().ok()?;
        let unit = match rest[end..].chars().next()? {
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        if unit >= last {
            return None;
        }
        last = unit;
        sum = sum.checked_add(count.checked_mul(unit)?)?;
        rest = &rest[end + 1..];
    }
    Some(sum)
}

impl TimeLimit {
    /// As Slurm takes it everywhere: `D-HH:MM:SS`, without the days where there are none.
    pub fn slurm(self) -> String {
        let (days, rest) = (self.0 / 86_400, self.0 % 86_400);
        let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60);
        if days == 0 { clock } else { format!("{days}-{clock}") }
    }
}

impl fmt::Display for TimeLimit {
    /// As people write it: `1d2h`, `90s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (unit, name) in [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")] {
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

/// A plain decimal number: digits with at most one point, no sign, no exponent.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.bytes().any(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A number that may have an exponent, as Kubernetes allows.
fn exponent(text: &str) -> Option<f64> {
    match text.split_once(['e', 'E']) {
        Some((digits, power)) => {
            let power: i32 = power.parse().ok().filter(|power: &i32| power.abs() < 40)?;
            Some(decimal(digits)? * 10f64.powi(power))
        }
        None => decimal(text),
    }
}

/// The whole number next above, if it can be counted exactly.
fn whole(number: f64) -> Option<u64> {
    (number.is_finite() && (0.0..9e18).contains(&number)).then(|| number.ceil() as u64)
}

/// Text or number, through `FromStr`; written as text.
macro_rules! written {
    ($($type:ident),*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(Written(std::marker::PhantomData))
            }
        }
    )*};
}

written!(Bytes, Cpus, TimeLimit);

/// Reads a text or a number through `FromStr`.
pub(super) struct Written<T>(pub std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory() {
        for (text, bytes) in [
            ("64Gi", 64 << 30),
            ("500M", 500_000_000),
            ("1.5Gi", 3 << 29),
            ("1024", 1024),
            ("1e9", 1_000_000_000),
            ("2k", 2000),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for (text, bytes) in
            [("64G", 64u64 << 30), ("500MB", 500 << 20), ("16", 16 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30)]
        {
            assert_eq!(Bytes::slurm(text), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "Gi", "-1Gi", "1 Gi", "ten", "1XB", "nan", "inf", "1e999", "0", "99999999999Ei"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        assert!(Bytes::slurm("64X").is_err() && Bytes::slurm("").is_err());
    }

    #[test]
    fn cores() {
        for (text, cpus) in [("8", 8000), ("0.5", 500), ("500m", 500), ("1.0001", 1001)] {
            assert_eq!(text.parse(), Ok(Cpus(cpus)), "{text}");
        }
        for text in ["", "0", "-1", "m", "1e3", "eight"] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn time_limits() {
        for (text, seconds) in [
            ("90m", 5400),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("45s", 45),
            ("30", 1800),
            ("12:30", 750),
            ("12:00:00", 43_200),
            ("1-12", 129_600),
            ("1-12:30", 131_400),
            ("1-00:00:01", 86_401),
        ] {
            assert_eq!(text.parse(), Ok(TimeLimit(seconds)), "{text}");
        }
        for text in ["", "0", "-1", "1x", "1h1h", "1m1h", "1:2:3:4", "1-", "-12", "1.5h", "::", "99999999999999999999"]
        {
            assert!(text.parse::<TimeLimit>().is_err(), "{text}");
        }
        assert_eq!(TimeLimit(131_401).slurm(), "1-12:30:01");
        assert_eq!(TimeLimit(131_401).to_string(), "1d12h30m1s");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in 1u64..(1 << 53), cpus in 1u64..10_000_000, seconds in 1u64..LONGEST_S) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
            prop_assert_eq!(Cpus(cpus).to_string().parse(), Ok(Cpus(cpus)));
            prop_assert_eq!(TimeLimit(seconds).to_string().parse(), Ok(TimeLimit(seconds)));
            prop_assert_eq!(TimeLimit(seconds).slurm().parse(), Ok(TimeLimit(seconds)));
        }

        #[test]
        fn no_text_makes_a_reader_fall_over(text in "\\PC{0,12}") {
            let _ = (text.parse::<Bytes>(), text.parse::<Cpus>(), text.parse::<TimeLimit>(), Bytes::slurm(&text));
        }
    }
}
