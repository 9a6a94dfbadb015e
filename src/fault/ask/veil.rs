//! Hides names and secrets from who is asked, and puts the names back into what is answered.
//!
//! What is hidden: names that are known to be names (nodes, jobs), and what looks like one: pods,
//! hosts, users, addresses, URLs, identifiers. Secrets are hidden as well and never put back. Words
//! of a driver, of the catalogue and of a file's path stay, for they are what there is to be judged.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;

/// What is hidden, as it shows in its stand-in: "NODE_1".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// A node of a cluster, or this machine.
    Node,
    /// A pod.
    Pod,
    /// Another machine.
    Host,
    /// A job, a namespace, a user, an add-on.
    Name,
    /// An address of the network.
    Address,
    /// A URL.
    Url,
    /// An identifier.
    Id,
    /// A password, a token: never put back.
    Secret,
}

impl Hidden {
    fn word(self) -> &'static str {
        match self {
            Hidden::Node => "NODE",
            Hidden::Pod => "POD",
            Hidden::Host => "HOST",
            Hidden::Name => "NAME",
            Hidden::Address => "ADDRESS",
            Hidden::Url => "URL",
            Hidden::Id => "ID",
            Hidden::Secret => "SECRET",
        }
    }
}

/// Stand-ins, and what they stand for.
#[derive(Debug)]
pub struct Veil {
    names: Vec<(String, Hidden)>,
    known: Option<AhoCorasick>,
    hidden: Vec<(String, Hidden)>,
}

/// Shorter names are words of the language as well.
const SHORTEST: usize = 3;

/// Names that every cluster has, and that tell nothing.
const COMMON: [&str; 5] = ["default", "kube-system", "kube-public", "localhost", "gpu-operator"];

/// Ends of names that are no host's: files, units, and the domains of well-known names of resources.
const NO_HOST: [&str; 24] = [
    "so", "py", "ko", "c", "cc", "cpp", "cu", "h", "hpp", "rs", "go", "sh", "log", "json", "yaml", "yml", "txt",
    "conf", "service", "socket", "slice", "scope", "mount", "timer",
];
const PUBLIC: [&str; 5] = ["nvidia.com", "kubernetes.io", "k8s.io", "aictl.dev", "amazonaws.com/neuron"];
/// Ends by which two words with one dot between them are a host's name.
const DOMAINS: [&str; 18] = [
    "com", "net", "org", "io", "ai", "dev", "cloud", "local", "internal", "lan", "corp", "svc", "cluster", "edu",
    "gov", "eu", "de", "cn",
];

/// A pattern: what it hides, and which of its groups.
type Rule = (Hidden, usize, Regex);

/// In this order: what one has hidden, those after it do not see.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rules = [
        // What looks like one of our own stand-ins is a name like any other.
        (Hidden::Name, 0, r"(?:NODE|POD|HOST|NAME|ADDRESS|URL|ID|SECRET)_[0-9]+"),
        (Hidden::Url, 0, r#"(?i)\b[a-z][a-z0-9+.-]*://[^\s"'<>`]+"#),
        (Hidden::Secret, 1, r#"(?i)\b(?:bearer|basic)\s+([A-Za-z0-9+/_.=~-]{6,})"#),
        (
            Hidden::Secret,
            1,
            r#"(?i)(?:token|secret|passw(?:or)?d|passphrase|pwd|credentials?|api[_-]?key|[a-z]+_key|authorization)["']?\s*[:=]\s*["']?([^\s"',;]+)"#,
        ),
        (Hidden::Secret, 0, r"\b(?:sk-|hf_|ghp_|gho_|github_pat_|glpat-|xox[abprs]-|AKIA|ASIA|eyJ)[A-Za-z0-9_.-]{8,}"),
        (Hidden::Id, 0, r"(?i)\b(?:(?:gpu|mig)-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
        (Hidden::Name, 0, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*"),
        (Hidden::Address, 0, r"(?i)\b(?:[0-9a-f]{2}:){5,7}[0-9a-f]{2}\b"),
        (Hidden::Address, 0, r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b"),
        (Hidden::Address, 0, r"[0-9A-Fa-f:]*:[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"),
        (Hidden::Secret, 0, r"\b[A-Za-z0-9_]{32,}\b"),
        (Hidden::Secret, 0, r"[A-Za-z0-9+/]{40,}={0,2}"),
        (
            Hidden::Host,
            0,
            r"\b[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+\b",
        ),
        // "gpu-17:1234:1240 [0] NCCL WARN …", "fs01:/export".
        (Hidden::Host, 1, r"(?m)^\s*(?:\[[^\]]*\]:?\s*)?([A-Za-z][\w.-]*):[0-9]+:[0-9]+ \["),
        (Hidden::Host, 1, r"\b([A-Za-z][\w.-]*):/[\w]"),
        // Kubernetes leaves vowels and what looks like them out of the ends that it makes up.
        (Hidden::Pod, 0, r"\b[a-z0-9](?:[a-z0-9-]*[a-z0-9])?-[bcdfghjklmnpqrstvwxz2456789]{5}\b"),
        (
            Hidden::Name,
            1,
            r#"(?i)\b(?:pod|job|namespace|node|host|hostname|server|claim|pvc|user)s?["']?[ =:]+["']?([A-Za-z0-9][\w.-]*(?:/[\w.-]+)?)"#,
        ),
        (Hidden::Name, 1, r"/(?:home|Users|users)/([^/\s:]+)"),
    ];
    let rule = |(hidden, group, pattern): (Hidden, usize, &str)| Some((hidden, group, Regex::new(pattern).ok()?));
    rules.into_iter().filter_map(rule).collect()
});

/// Whether a match of a rule is what it looks like.
fn is(hidden: Hidden, pattern: &str, text: &str, at: &Range<usize>) -> bool {
    let found = &text[at.clone()];
    let before = text[..at.start].chars().next_back();
    let after = text[at.end..].chars().next();
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    match hidden {
        Hidden::Address if found.contains('.') && !found.contains(':') => found.parse::<Ipv4Addr>().is_ok(),
        Hidden::Address if !pattern.contains('{') => {
            let groups = found.split(':').filter(|group| !group.is_empty()).count();
            !word(before) && !word(after) && groups >= 2 && found.parse::<Ipv6Addr>().is_ok()
        }
        // Random is what has letters and figures mixed; a long word, or a long number, is none.
        Hidden::Secret if pattern.contains("32,") || pattern.contains("40,") => {
            let figures = found.bytes().filter(u8::is_ascii_digit).count();
            let letters = found.bytes().filter(u8::is_ascii_alphabetic).count();
            let mixed = pattern.contains("32,")
                || (found.bytes().any(|b| b.is_ascii_uppercase()) && found.bytes().any(|b| b.is_ascii_lowercase()));
            figures >= 4 && letters >= 4 && mixed
        }
        Hidden::Host if pattern.contains("+\\b") => is_host(found),
        // "node says" is language, "node gpu-17" is a name.
        Hidden::Name if pattern.contains("namespace") => {
            let marked = found.contains(|c: char| "/-.".contains(c) || c.is_ascii_digit());
            marked && found.bytes().any(|b| b.is_ascii_alphabetic())
        }
        _ => true,
    }
}

fn is_host(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let last = lower.rsplit('.').next().unwrap_or_default();
    let dots = lower.matches('.').count();
    let public = PUBLIC.iter().any(|domain| lower == *domain || lower.ends_with(&format!(".{domain}")));
    let named = last.len() >= 2 && last.bytes().all(|b| b.is_ascii_alphabetic());
    named && !public && !NO_HOST.contains(&last) && (dots >= 2 || DOMAINS.contains(&last))
}

/// A part of a text: still to be looked at, or a stand-in.
enum Part {
    Open(String),
    Shut(String),
}

impl Veil {
    /// One that knows names.
    pub fn new(names: impl IntoIterator<Item = (Hidden, String)>) -> Veil {
        let mut all: Vec<(String, Hidden)> = Vec::new();
        for (hidden, name) in names {
            let short = name.split('.').next().unwrap_or_default().to_owned();
            let parts: Vec<String> = name.split('/').map(str::to_owned).collect();
            for name in [name.clone(), short].into_iter().chain(parts) {
                let common = COMMON.contains(&name.as_str()) || name.bytes().all(|b| b.is_ascii_digit());
                if name.len() >= SHORTEST && !common && !all.iter().any(|(known, _)| *known == name) {
                    all.push((name, hidden));
                }
            }
        }
        let words = all.iter().map(|(name, _)| name.as_str());
        let builder =
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).ascii_case_insensitive(true).build(words);
        Veil { names: all, known: builder.ok(), hidden: Vec::new() }
    }

    /// The text without what must not be known.
    pub fn hide(&mut self, text: &str) -> String {
        let mut parts = vec![Part::Open(text.to_owned())];
        let rules = &*RULES;
        for (i, (hidden, group, pattern)) in rules.iter().enumerate() {
            // Known names go before what only looks like one, and after what holds one: a URL.
            if i == FIRST_GUESS {
                parts = self.names(parts);
            }
            parts = self.apply(parts, *hidden, *group, pattern);
        }
        let text = |part: Part| match part {
            Part::Open(text) | Part::Shut(text) => text,
        };
        parts.into_iter().map(text).collect()
    }

    fn apply(&mut self, parts: Vec<Part>, hidden: Hidden, group: usize, pattern: &Regex) -> Vec<Part> {
        self.split(parts, |text| {
            let found = pattern.captures_iter(text).filter_map(|captures| captures.get(group));
            let found = found.map(|found| found.range()).filter(|at| is(hidden, pattern.as_str(), text, at));
            found.map(|at| (at, hidden)).collect()
        })
    }

    fn names(&mut self, parts: Vec<Part>) -> Vec<Part> {
        let Some(known) = self.known.take() else { return parts };
        let names = std::mem::take(&mut self.names);
        let parts = self.split(parts, |text| {
            let whole = |at: &Range<usize>| {
                let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                !word(text[..at.start].chars().next_back()) && !word(text[at.end..].chars().next())
            };
            let found = known.find_iter(text).map(|found| (found.range(), found.pattern().as_usize()));
            let found = found.filter(|(at, _)| whole(at));
            found.filter_map(|(at, name)| Some((at, names.get(name)?.1))).collect()
        });
        (self.known, self.names) = (Some(known), names);
        parts
    }

    /// Shuts what is found in the open parts.
    fn split(&mut self, parts: Vec<Part>, find: impl Fn(&str) -> Vec<(Range<usize>, Hidden)>) -> Vec<Part> {
        let mut out = Vec::new();
        for part in parts {
            let Part::Open(text) = part else {
                out.push(part);
                continue;
            };
            let mut from = 0;
            for (at, hidden) in find(&text) {
                if at.start < from {
                    continue;
                }
                out.push(Part::Open(text[from..at.start].to_owned()));
                out.push(Part::Shut(self.stand_in(hidden, &text[at.clone()])));
                from = at.end;
            }
            out.push(Part::Open(text[from..].to_owned()));
        }
        out
    }

    fn stand_in(&mut self, hidden: Hidden, what: &str) -> String {
        let known = self.hidden.iter().position(|(name, _)| name.eq_ignore_ascii_case(what));
        let number = known.unwrap_or_else(|| {
            self.hidden.push((what.to_owned(), hidden));
            self.hidden.len() - 1
        });
        let kind = self.hidden.get(number).map_or(hidden, |(_, kind)| *kind);
        format!("{}_{}", kind.word(), number + 1)
    }

    /// The text with the names again. Secrets stay hidden.
    pub fn reveal(&self, text: &str) -> String {
        static STAND_IN: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new(r"(NODE|POD|HOST|NAME|ADDRESS|URL|ID)_([0-9]{1,6})").ok());
        let Some(pattern) = STAND_IN.as_ref() else { return text.to_owned() };
        let back = |captures: &regex::Captures<'_>| {
            let number = captures.get(2).and_then(|number| number.as_str().parse::<usize>().ok()).unwrap_or(0);
            let known = number.checked_sub(1).and_then(|number| self.hidden.get(number));
            match known.filter(|(_, hidden)| *hidden != Hidden::Secret && hidden.word() == &captures[1]) {
                Some((name, _)) => name.clone(),
                None => captures[0].to_owned(),
            }
        };
        pattern.replace_all(text, back).into_owned()
    }

    /// What stands for what; of a secret only that it is one.
    pub fn hidden(&self) -> impl Iterator<Item = (String, &str)> {
        self.hidden.iter().enumerate().map(|(number, (name, hidden))| {
            let shown = if *hidden == Hidden::Secret { "a secret" } else { name.as_str() };
            (format!("{}_{}", hidden.word(), number + 1), shown)
        })
    }
}

/// The first rule that guesses: those before it find what can't be anything else.
const FIRST_GUESS: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn veil() -> Veil {
        Veil::new([(Hidden::Node, "gpu-17".to_owned()), (Hidden::Name, "research/llm-run".to_owned())])
    }

    fn hide(text: &str) -> String {
        veil().hide(text)
    }

    #[test]
    fn every_pattern_is_one() {
        assert_eq!(RULES.len(), 18, "a pattern that can't be compiled hides nothing");
        assert_eq!((RULES[FIRST_GUESS].0, RULES[FIRST_GUESS].1), (Hidden::Host, 1));
    }

    #[test]
    fn names_and_secrets_are_hidden() {
        for (text, gone) in [
            ("node gpu-17 is not ready", "gpu-17"),
            ("GPU-17: lost", "GPU-17"),
            ("gpu-17:1234:1240 [0] NCCL WARN Call to connect failed", "gpu-17"),
            ("worker9:1234:1240 [0] NCCL WARN x", "worker9"),
            ("pod research/llm-run-0-x7k2p was rejected", "llm-run-0-x7k2p"),
            ("trainer-6d4b9c7f5c-bk2zx", "trainer-6d4b9c7f5c-bk2zx"),
            ("of job llm-run in research", "research"),
            ("nfs: server fs01 not responding", "fs01"),
            ("mount fs7:/export/home failed", "fs7"),
            ("to 10.1.2.3:443", "10.1.2.3"),
            ("to fe80::1ff:fe23:4567:890a port", "fe80::1ff:fe23:4567:890a"),
            ("mac 52:54:00:12:34:56", "52:54:00:12:34:56"),
            ("https://user:pw@hub.example.com/x?token=abc", "example"),
            ("asked hub.corp.example.com for it", "hub.corp"),
            ("mail ops@example.com", "ops"),
            ("Authorization: Bearer abc.def-123", "abc.def-123"),
            ("password=hunter2", "hunter2"),
            ("HF_TOKEN=hf_abcdefghijklmnop", "abcdefghij"),
            ("key AKIAIOSFODNN7EXAMPLE", "IOSFODNN7"),
            ("0123456789abcdef0123456789abcdef", "0123456789abcdef"),
            ("/home/ada/train.py", "ada"),
            ("uuid GPU-3f1c0000-1111-2222-3333-444455556666", "3f1c0000"),
        ] {
            let hidden = hide(text);
            assert!(!hidden.contains(gone), "{text} -> {hidden}");
        }
    }

    #[test]
    fn what_is_to_be_judged_stays() {
        for text in [
            "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus.",
            "nvidia-smi 570.86.15, NVML 12.570.86.15",
            "nvidia.com/gpu: 7 of 8",
            "libnvidia-ml.so.1 in /usr/lib/x86_64-linux-gnu",
            "kubelet.service failed at 12:30:01",
            "std::string at c10::Error",
            "NVLink: fatal error detected on link 3(0x10000, 0x0, 0x0, 0x0, 0x0, 0x0, 0x0)",
            "a node says that it is Ready; token expired",
        ] {
            assert_eq!(hide(text), text);
        }
    }

    #[test]
    fn names_come_back_and_secrets_do_not() {
        let mut veil = veil();
        let said = veil.hide("gpu-17 at 10.1.2.3, password=hunter2, gpu-17 again");
        assert_eq!(said, "NODE_3 at ADDRESS_2, password=SECRET_1, NODE_3 again");
        assert_eq!(
            veil.reveal("Drain NODE_3 (ADDRESS_2); SECRET_1, NODE_9, HOST_3"),
            "Drain gpu-17 (10.1.2.3); SECRET_1, NODE_9, HOST_3"
        );
        assert!(veil.hidden().any(|(name, what)| name == "SECRET_1" && what == "a secret"));
    }

    #[test]
    fn a_text_that_plays_a_stand_in_gives_nothing_away() {
        let mut veil = veil();
        assert_eq!(veil.hide("NODE_1 and gpu-17"), "NAME_1 and NODE_2");
        assert_eq!(veil.reveal("NAME_1 NODE_1 NODE_2"), "NODE_1 NODE_1 gpu-17");
    }

    proptest! {
        #[test]
        fn any_text_is_hidden_without_a_known_name(before in ".{0,40}", after in ".{0,40}") {
            let text = format!("{before} gpu-17 {after}");
            let hidden = hide(&text);
            prop_assert!(!hidden.contains(" gpu-17 "));
        }

        #[test]
        fn what_was_hidden_comes_back(text in "[a-z0-9 .:/@-]{0,80}") {
            let mut veil = veil();
            let hidden = veil.hide(&text);
            let back = veil.reveal(&hidden);
            prop_assert!(hidden.contains("SECRET_") || back.eq_ignore_ascii_case(&text));
        }
    }
}
