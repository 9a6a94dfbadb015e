//! The one door to `serde_yaml`, with strict options.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is wrong with a YAML text; says the line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Reads a document. Duplicate keys and values of the wrong type are errors that name the line;
/// octal numbers read as kubectl reads them (`0644` is 420).
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        legacy_octal_numbers: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let text = error.render_with_formatter(&serde_yaml::UserMessageFormatter);
        // The place comes first, as people look for it.
        YamlError(match text.trim_end().rsplit_once(" at line ") {
            Some((what, place)) => format!("line {place}: {what}"),
            None => text,
        })
    })
}

/// Writes a document; what other readers could take for a boolean or a number is quoted.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|error| YamlError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_looks_like_a_boolean_is_quoted() {
        let text = to_string(&BTreeMap::from([("answer", "no"), ("time", "12:30")])).unwrap();
        assert_eq!(text, "answer: \"no\"\ntime: \"12:30\"\n");
    }

    #[test]
    fn duplicate_keys_are_errors_with_a_line() {
        let error = from_str::<BTreeMap<String, u32>>("a: 1\nb: 2\na: 3\n").unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
