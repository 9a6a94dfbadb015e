//! Which files of a source are wanted.

use globset::{GlobBuilder, GlobMatcher};

/// Patterns, as `--include` and `--exclude` have them.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    include: Vec<GlobMatcher>,
    exclude: Vec<GlobMatcher>,
    texts: (Vec<String>, Vec<String>),
}

impl Choice {
    /// Reads patterns. `*` matches slashes too, as in Hugging Face's tools; a pattern without a
    /// slash is looked for in all directories; one that ends with a slash means all below it.
    ///
    /// # Errors
    /// If one is not a pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Choice, String> {
        let read = |texts: &[String]| texts.iter().map(|text| pattern(text)).collect::<Result<Vec<_>, _>>();
        Ok(Choice { include: read(include)?, exclude: read(exclude)?, texts: (include.to_vec(), exclude.to_vec()) })
    }

    /// Whether a file is wanted.
    pub fn wants(&self, name: &str) -> bool {
        let last = name.rsplit('/').next().unwrap_or(name);
        let hit = |globs: &[GlobMatcher]| globs.iter().any(|glob| glob.is_match(name) || glob.is_match(last));
        (self.include.is_empty() || hit(&self.include)) && !hit(&self.exclude)
    }

    /// The patterns as they were written: include, exclude.
    pub fn texts(&self) -> &(Vec<String>, Vec<String>) {
        &self.texts
    }
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    let whole = if text.ends_with('/') { format!("{text}*") } else { text.to_owned() };
    let glob = GlobBuilder::new(&whole).literal_separator(false).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| format!("{text}: {}", error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(include: &[&str], exclude: &[&str], name: &str) -> bool {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Choice::new(&own(include), &own(exclude)).unwrap().wants(name)
    }

    #[test]
    fn patterns() {
        assert!(wants(&[], &[], "a/b"));
        assert!(wants(&["*.safetensors"], &[], "sub/model.safetensors"));
        assert!(!wants(&["*.safetensors"], &[], "model.bin"));
        assert!(!wants(&["*"], &["original/"], "original/a.pth"));
        assert!(!wants(&[], &["*.bin", "*.pth"], "x/model.bin"));
        assert!(wants(&["config.json"], &[], "config.json"));
        assert!(Choice::new(&["[".to_owned()], &[]).is_err());
    }
}
