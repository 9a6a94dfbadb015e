//! "Did you mean": known names that are like one that is unknown.

/// Up to three names, the likest first. `likeness` is what they must have at least: Jaro-Winkler's,
/// where 0 is nothing in common and 1 the same.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, likeness: f64) -> Vec<String> {
    let scored = known.into_iter().map(|other| (strsim::jaro_winkler(name, other), other));
    let mut scored: Vec<(f64, &str)> = scored.filter(|(score, _)| *score > likeness).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// [`nearest`]'s `likeness` for queues, whose names are few and short.
pub const LIKE_A_QUEUE: f64 = 0.7;
/// [`nearest`]'s `likeness` for jobs, of which there are many with like names.
pub const LIKE_A_JOB: f64 = 0.75;
