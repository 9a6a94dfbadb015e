//! Paths into an object of Kubernetes, as people write them for kubectl: `status.readyReplicas`,
//! `{.status.conditions[?(@.type=="Ready")].status}`, `metadata.labels['a.b/c']`, `spec.x[0]`,
//! `spec.x[*].y`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Longest path, in steps.
const LONGEST: usize = 32;

/// A path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
    written: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    Every,
    /// Those whose key has this value.
    Where(String, String),
}

impl Path {
    /// What is there; more than one thing where the path says `[*]` or `[?…]`.
    pub fn find<'v>(&self, object: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![object];
        for step in &self.steps {
            found = found.into_iter().flat_map(|value| step.from(value)).collect();
        }
        found
    }
}

impl Step {
    fn from<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::Key(key), Value::Object(fields)) => fields.get(key).into_iter().collect(),
            (Step::Index(index), Value::Array(items)) => items.get(*index).into_iter().collect(),
            (Step::Every, Value::Array(items)) => items.iter().collect(),
            (Step::Every, Value::Object(fields)) => fields.values().collect(),
            (Step::Where(key, wanted), Value::Array(items)) => {
                let is = |item: &&Value| item.get(key).is_some_and(|value| text(value) == *wanted);
                items.iter().filter(is).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A value in a word: strings without their quotes.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(written: &str) -> Result<Path, String> {
        let wrong = |why: &str| format!("{written}: {why}");
        let text = written.trim();
        let text = match (text.strip_prefix('{'), text.ends_with('}')) {
            (Some(inner), true) => inner.strip_suffix('}').unwrap_or(inner),
            (None, false) => text,
            _ => return Err(wrong("its braces do not match")),
        };
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() == LONGEST {
                return Err(wrong("it has more than 32 steps"));
            }
            if let Some(inner) = rest.strip_prefix('[') {
                let (step, after) = bracket(inner).map_err(|why| wrong(&why))?;
                steps.push(step);
                rest = after;
            } else {
                let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
                let key = &rest[..end];
                if key.is_empty() {
                    return Err(wrong("a name is missing"));
                }
                steps.push(if key == "*" { Step::Every } else { Step::Key(key.to_owned()) });
                rest = &rest[end..];
            }
            if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() {
                    return Err(wrong("it ends with a dot"));
                }
                rest = after;
            } else if !rest.is_empty() && !rest.starts_with('[') {
                return Err(wrong("a dot or bracket is missing"));
            }
        }
        if steps.is_empty() {
            return Err(wrong("it names nothing"));
        }
        Ok(Path { steps, written: written.trim().to_owned() })
    }
}

/// What is in brackets, and what follows them.
fn bracket(inner: &str) -> Result<(Step, &str), String> {
    if let Some(rest) = inner.strip_prefix("?(@.") {
        let (condition, after) = rest.split_once(")]").ok_or("[?( has no )]")?;
        let (key, value) = condition.split_once("==").ok_or("a filter is [?(@.key==\"value\")]")?;
        let value = value.trim().trim_matches(['"', '\'']);
        return Ok((Step::Where(key.trim().to_owned(), value.to_owned()), after));
    }
    for quote in ['\'', '"'] {
        if let Some(rest) = inner.strip_prefix(quote) {
            let (key, after) = rest.split_once(quote).ok_or("a quote has no end")?;
            let after = after.strip_prefix(']').ok_or("[ has no ]")?;
            return Ok((Step::Key(key.to_owned()), after));
        }
    }
    let (index, after) = inner.split_once(']').ok_or("[ has no ]")?;
    let step = match index {
        "*" => Step::Every,
        index => Step::Index(index.parse().map_err(|_| "in brackets stands a number, * or a quoted name")?),
    };
    Ok((step, after))
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn found(path: &str, object: &Value) -> Vec<String> {
        path.parse::<Path>().unwrap().find(object).into_iter().map(text).collect()
    }

    #[test]
    fn paths_of_kubectl_are_read() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "status": {"ready": 3, "conditions": [{"type": "Ready", "status": "True"}, {"type": "Old", "status": "False"}]}
        });
        for (path, wanted) in [
            ("status.ready", &["3"][..]),
            ("{.status.ready}", &["3"]),
            ("$.status.ready", &["3"]),
            ("metadata.labels['a.b/c']", &["x"]),
            ("metadata.labels[\"a.b/c\"]", &["x"]),
            ("status.conditions[1].type", &["Old"]),
            ("status.conditions[*].status", &["True", "False"]),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", &["True"]),
            ("status.conditions[?(@.type=='Gone')].status", &[]),
            ("status.nothing", &[]),
            ("status.ready.deeper", &[]),
        ] {
            assert_eq!(found(path, &object), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_said() {
        for path in ["", "{", "{.a", "a..b", "a.", "a[", "a[x]", "a['b]", "a[?(@.b)]", ".", "a]b", "a[0]b", "{}"] {
            assert!(path.parse::<Path>().is_err(), "{path}");
        }
        let long = "a.".repeat(40) + "b";
        assert!(long.parse::<Path>().unwrap_err().contains("32"));
    }

    proptest! {
        #[test]
        fn nothing_written_breaks_it(text in "[a-c.\\[\\]{}?@='\"*0-9$ ()]{0,30}") {
            if let Ok(path) = text.parse::<Path>() {
                path.find(&json!({"a": [{"b": 1}], "b": {"c": null}}));
            }
        }

        #[test]
        fn keys_in_quotes_are_found(key in "[a-z./-]{1,12}") {
            let object = json!({"x": {key.clone(): 1}});
            prop_assert_eq!(found(&format!("x['{key}']"), &object), ["1"]);
        }
    }
}
