//! From what is wanted of a model's tensors to byte ranges of its files.

use std::ops::Range;

use globset::GlobSet;

use super::header::Header;
use super::rank::{self, Rank};

/// Which tensors are wanted; all of them by default.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Only those whose names match.
    pub names: Option<GlobSet>,
    /// Only those that a rank needs.
    pub rank: Option<Rank>,
}

impl Choice {
    /// Whether it leaves nothing out.
    pub fn is_all(&self) -> bool {
        self.names.is_none() && self.rank.is_none()
    }
}

/// What is needed of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// All of it.
    Whole,
    /// These ranges, in order, none touching another; the header's is the first.
    Ranges(Vec<Range<u64>>),
    /// Nothing.
    Nothing,
}

impl Need {
    /// Bytes of a file of a length.
    pub fn bytes(&self, length: u64) -> u64 {
        match self {
            Need::Whole => length,
            Need::Ranges(ranges) => ranges.iter().map(|range| range.end - range.start).sum(),
            Need::Nothing => 0,
        }
    }

    /// As ranges of a file of a length.
    pub fn ranges(&self, length: u64) -> Vec<Range<u64>> {
        match self {
            Need::Whole if length > 0 => std::iter::once(0..length).collect(),
            Need::Ranges(ranges) => ranges.clone(),
            Need::Whole | Need::Nothing => Vec::new(),
        }
    }
}

/// Says what is needed of each file of a model, given by their headers in the order of the files.
/// Files without tensors (`None`) are needed whole: configuration, tokenizer.
pub fn select(choice: &Choice, headers: &[Option<Header>]) -> Vec<Need> {
    if choice.is_all() {
        return vec![Need::Whole; headers.len()];
    }
    let all: Vec<(&str, u64)> = headers
        .iter()
        .flatten()
        .flat_map(|header| &header.tensors)
        .map(|tensor| (tensor.name.as_str(), tensor.range.end - tensor.range.start))
        .collect();
    let by_rank = choice.rank.map_or_else(|| vec![true; all.len()], |rank| rank::needed(rank, &all));
    let by_name = |name: &str| choice.names.as_ref().is_none_or(|names| names.is_match(name));
    let mut wanted = all.iter().zip(by_rank).map(|((name, _), needed)| needed && by_name(name));
    let need = |header: &Option<Header>| {
        let Some(header) = header else { return Need::Whole };
        let own = header.tensors.iter().filter(|_| wanted.next().unwrap_or(false));
        let tensors: Vec<Range<u64>> = own.map(|tensor| tensor.range.clone()).collect();
        match tensors.len() {
            0 => Need::Nothing,
            all if all == header.tensors.len() => Need::Whole,
            _ => Need::Ranges(joined(std::iter::once(0..header.data_start).chain(tensors))),
        }
    };
    headers.iter().map(need).collect()
}

/// Ranges in order, those that touch made one, empty ones left out.
fn joined(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().filter(|range| range.start < range.end) {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use globset::{Glob, GlobSetBuilder};

    use super::super::header::Tensor;
    use super::*;

    fn header(tensors: &[(&str, u64)]) -> Option<Header> {
        let mut at = 100;
        let tensors = tensors.iter().map(|(name, bytes)| {
            at += bytes;
            let (name, dtype) = ((*name).to_owned(), "U8".to_owned());
            Tensor { name, dtype, shape: vec![*bytes], range: at - bytes..at }
        });
        Some(Header { data_start: 100, tensors: tensors.collect(), metadata: BTreeMap::new() })
    }

    fn globs(patterns: &[&str]) -> Option<GlobSet> {
        let mut builder = GlobSetBuilder::new();
        for pattern in patterns {
            builder.add(Glob::new(pattern).unwrap());
        }
        Some(builder.build().unwrap())
    }

    #[test]
    fn ranges_follow_what_is_wanted() {
        let files = [
            None,
            header(&[("layers.0.a", 10), ("layers.0.b", 20), ("layers.1.a", 5), ("layers.1.b", 7)]),
            header(&[("layers.2.a", 10), ("lm_head.w", 2)]),
        ];
        let names = |patterns: &[&str]| select(&Choice { names: globs(patterns), rank: None }, &files);
        assert_eq!(select(&Choice::default(), &files), vec![Need::Whole; 3]);
        assert_eq!(names(&["*"]), vec![Need::Whole; 3]);
        assert_eq!(names(&["none"]), [Need::Whole, Need::Nothing, Need::Nothing]);
        assert_eq!(
            names(&["layers.0.b", "layers.1.a", "lm_head.*"]),
            [Need::Whole, Need::Ranges(vec![0..100, 110..135]), Need::Ranges(vec![0..100, 110..112])]
        );
        let rank = |text: &str| select(&Choice { names: None, rank: text.parse().ok() }, &files);
        assert_eq!(rank("0/3"), [Need::Whole, Need::Ranges(std::iter::once(0..130).collect()), Need::Nothing]);
        assert_eq!(rank("2/3"), [Need::Whole, Need::Nothing, Need::Whole]);
        let both = Choice { names: globs(&["*.b"]), rank: "1/3".parse().ok() };
        assert_eq!(select(&both, &files)[1], Need::Ranges(vec![0..100, 135..142]));
        assert_eq!(select(&both, &files)[1].bytes(142), 107);
    }
}
