//! `model.safetensors.index.json`: which file of a model has which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The index of a model in several files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Index {
    /// Names of files by names of tensors.
    pub weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Usual name of the file.
    pub const NAME: &'static str = "model.safetensors.index.json";

    /// Whether a file name is that of an index: variants put their name into it.
    pub fn is_one(name: &str) -> bool {
        name.ends_with(".safetensors.index.json")
    }

    /// Reads an index.
    ///
    /// # Errors
    /// A fragment, if it is no index, or names files that lie somewhere else.
    pub fn parse(json: &[u8]) -> Result<Index, String> {
        let index: Index = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        for (tensor, file) in &index.weight_map {
            let parts = || file.split('/');
            if file.contains(['\\', '\0']) || parts().any(|part| matches!(part, "" | "." | "..")) {
                return Err(format!("tensor {tensor} is in {file:?}, which is no file beside the index"));
            }
        }
        Ok(index)
    }

    /// The files it names, in the order in which loaders take them.
    pub fn files(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_names_its_files() {
        let json = br#"{"metadata":{"total_size":7},"weight_map":{"b":"m-00001-of-00002.safetensors","a":"m-00002-of-00002.safetensors","c":"m-00001-of-00002.safetensors"}}"#;
        let index = Index::parse(json).unwrap();
        let files: Vec<&str> = index.files().into_iter().collect();
        assert_eq!(files, ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"]);
        assert!(Index::is_one(Index::NAME) && Index::is_one("model.fp16.safetensors.index.json"));
    }

    #[test]
    fn an_index_names_no_file_elsewhere() {
        for file in ["../x", "/etc/passwd", "a//b", "", "a\\b"] {
            let json = serde_json::json!({ "weight_map": { "t": file } }).to_string();
            assert!(Index::parse(json.as_bytes()).is_err(), "{file}");
        }
        for json in ["", "{}", "[]", r#"{"weight_map":{"a":1}}"#, r#"{"weight_map":[]}"#] {
            assert!(Index::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_do_no_harm(json in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Index::parse(&json);
        }
    }
}
