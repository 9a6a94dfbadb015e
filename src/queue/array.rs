//! Arrays of like jobs: `0-9`, `1,3,5-7`, `0-99:10`, each with `%4` for at most four at a time.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::quantity::Written;

/// The indices of an array of jobs, rising, and how many may run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    indices: Vec<u32>,
    at_once: Option<u32>,
}

/// Slurm's usual MaxArraySize, and more pods than one Job should have.
const LARGEST: usize = 100_000;

impl Array {
    /// The indices, rising.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// How many may run at a time.
    pub fn at_once(&self) -> Option<u32> {
        self.at_once
    }

    /// How many there are; never 0.
    pub fn count(&self) -> u32 {
        self.indices.len() as u32
    }

    /// Whether they are 0, 1, 2, …: as Kubernetes counts.
    pub fn counts_from_zero(&self) -> bool {
        self.indices.iter().zip(0..).all(|(&index, count)| index == count)
    }
}

impl FromStr for Array {
    type Err = String;

    fn from_str(text: &str) -> Result<Array, String> {
        let text = text.trim();
        let wrong = |why: &str| format!("{text:?} is no array: {why}; write 0-9, 1,3,5-7, 0-90:10 or 0-9%4");
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong(&format!("{text:?} is no index")));
        let (list, at_once) = match text.split_once('%') {
            Some((list, limit)) => {
                let limit = number(limit)?;
                if limit == 0 {
                    return Err(wrong("none at a time would never end"));
                }
                (list, Some(limit))
            }
            None => (text, None),
        };
        let mut indices = Vec::new();
        for item in list.split(',') {
            let (range, step) = match item.split_once(':') {
                Some((range, step)) => (range, number(step)?),
                None => (item, 1),
            };
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None if step == 1 => (number(range)?, number(range)?),
                None => return Err(wrong("a step needs a range")),
            };
            if first > last {
                return Err(wrong(&format!("{first} is above {last}")));
            }
            if step == 0 {
                return Err(wrong("a step of 0 stands still"));
            }
            if ((last - first) / step) as usize + indices.len() >= LARGEST {
                return Err(wrong(&format!("more than {LARGEST} jobs")));
            }
            indices.extend((first..=last).step_by(step as usize));
        }
        indices.sort_unstable();
        indices.dedup();
        Ok(Array { indices, at_once })
    }
}

impl fmt::Display for Array {
    /// As runs of neighbours: `0-3,7%2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.indices.chunk_by(|a, b| a + 1 == *b);
        for (place, run) in runs.enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match (run.first(), run.last()) {
                (Some(first), Some(last)) if first != last => write!(f, "{comma}{first}-{last}")?,
                (Some(first), _) => write!(f, "{comma}{first}")?,
                _ => {}
            }
        }
        match self.at_once {
            Some(limit) => write!(f, "%{limit}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Array {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Array, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arrays() {
        let array: Array = "0-9%4".parse().unwrap();
        assert_eq!((array.count(), array.at_once(), array.counts_from_zero()), (10, Some(4), true));
        let array: Array = "1,3,5-7,3,0-20:10".parse().unwrap();
        assert_eq!(array.indices(), [0, 1, 3, 5, 6, 7, 10, 20]);
        assert_eq!(array.to_string(), "0-1,3,5-7,10,20");
        for text in ["", "a", "9-0", "0-9%", "0-9%0", "0-9:0", "5:2", "1,,2", "-1", "0-4000000000", "0-9%4%4"] {
            assert!(text.parse::<Array>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(mut indices in proptest::collection::vec(0u32..500, 1..40), at_once in proptest::option::of(1u32..9)) {
            indices.sort_unstable();
            indices.dedup();
            let array = Array { indices, at_once };
            prop_assert_eq!(array.to_string().parse(), Ok(array));
        }

        #[test]
        fn no_text_makes_the_reader_fall_over(text in "[0-9,:%-]{0,14}") {
            let _ = text.parse::<Array>();
        }
    }
}
