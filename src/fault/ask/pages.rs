//! The pages of the knowledge base that fit what was found: entries of the catalogue, the project's
//! own and the site's, by name and by a search in their text.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{Catalogue, Entry, Rating};

/// Pages by search, beside those of the faults that were found.
const SEARCHED: usize = 4;
/// All pages.
const MOST: usize = 14;
/// A page that shares less than this with what was found, by the weight of its rarest words, is
/// about something else.
const LEAST: f64 = 8.0;
/// Words that more than this share of the pages have tell none of them from the others.
const COMMON: f64 = 0.05;

/// The pages for faults and for the words of the evidence, those of the faults first.
pub fn matching<'c>(catalogue: &'c Catalogue, faults: &[&str], words: &str) -> Vec<&'c Entry> {
    let mut pages: Vec<&Entry> = Vec::new();
    for entry in faults.iter().filter_map(|fault| catalogue.get(fault)) {
        if pages.len() < MOST - SEARCHED && !pages.iter().any(|known| known.fault == entry.fault) {
            pages.push(entry);
        }
    }
    let found: Vec<&Entry> =
        search(catalogue, words).into_iter().filter(|entry| !faults.contains(&entry.fault.as_str())).collect();
    pages.extend(found.into_iter().take(SEARCHED));
    pages
}

/// Entries whose words are those of a text, the closest first: each shared word counts by how rare
/// it is in the catalogue.
fn search<'c>(catalogue: &'c Catalogue, text: &str) -> Vec<&'c Entry> {
    let wanted = tokens(text);
    let pages: Vec<(&Entry, BTreeSet<String>)> = catalogue
        .iter()
        .filter(|entry| !entry.unused)
        .map(|entry| (entry, tokens(&own_words(entry, catalogue))))
        .collect();
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for word in pages.iter().flat_map(|(_, words)| words) {
        *holders.entry(word).or_default() += 1;
    }
    let all = pages.len().max(1) as f64;
    let weight = |word: &String| {
        let share = holders.get(word.as_str()).map_or(1.0, |n| *n as f64) / all;
        if share > COMMON { 0.0 } else { -share.ln() }
    };
    let mut scored: Vec<(f64, &Entry)> = pages
        .iter()
        .map(|(entry, words)| (wanted.intersection(words).map(weight).sum::<f64>(), *entry))
        .filter(|(score, _)| *score >= LEAST)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.fault.cmp(&b.1.fault)));
    scored.into_iter().map(|(_, entry)| entry).collect()
}

fn own_words(entry: &Entry, catalogue: &Catalogue) -> String {
    let variants: String =
        entry.variants.iter().map(|variant| format!(" {} {}", variant.title, variant.explain)).collect();
    format!("{} {} {} {}{variants}", entry.fault, entry.name, entry.title, catalogue.explain(entry))
}

fn tokens(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() >= 3);
    words.filter(|word| word.bytes().any(|b| b.is_ascii_alphabetic())).map(str::to_ascii_lowercase).collect()
}

/// A page as text.
pub fn text(entry: &Entry, catalogue: &Catalogue) -> String {
    let severity = match entry.severity {
        Rating::Info => "info",
        Rating::Warning => "warning",
        Rating::Error => "error",
        Rating::Critical => "critical",
        Rating::ByLine => "critical if the line says fatal",
    };
    let mut lines = vec![format!("## {}: {}", entry.fault, entry.title)];
    lines.push(format!("severity {severity}; reaches {}; action {}", entry.scope, entry.action));
    lines.extend(entry.then.as_ref().map(|then| format!("if it comes back: {then}")));
    lines.push(catalogue.explain(entry).to_owned());
    for variant in &entry.variants {
        lines.push(format!(
            "{}: {}; action {}. {}",
            variant.when.replace('_', " "),
            variant.title,
            variant.action,
            variant.explain
        ));
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faults_own_pages_come_first_and_related_ones_after() {
        let mut catalogue = Catalogue::embedded().unwrap();
        let site = "- {fault: riser-card, title: Riser card of our servers, component: node, severity: error, \
                    action: CHECK_MECHANICALS, explain: The Kestrel riser loosens; the GPU then falls off the bus. Reseat it.}\n";
        catalogue.extend("site.yaml", site).unwrap();
        let pages = matching(&catalogue, &["xid-79", "xid-79"], "GPU has fallen off the bus; Kestrel riser");
        let names: Vec<&str> = pages.iter().map(|page| page.fault.as_str()).collect();
        assert_eq!(names[0], "xid-79");
        assert!(names.contains(&"riser-card"), "{names:?}");
        assert!(names.len() <= 1 + SEARCHED);
        assert!(text(pages[0], &catalogue).contains("action"));
        assert!(matching(&catalogue, &[], "zzz qqq").is_empty());
    }
}
