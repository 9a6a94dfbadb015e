//! Names of files, as sources say them: a source must not write outside its own directory.

use std::collections::BTreeMap;

/// Bytes a component of a path may have on Linux.
const LONGEST_COMPONENT: usize = 255;
/// Bytes a name may have; PATH_MAX less the store's own path.
const LONGEST_NAME: usize = 2048;

/// Says what is wrong with a name.
///
/// # Errors
/// In a few words, if it is not a plain relative path.
pub fn check(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > LONGEST_NAME {
        return Err("it is too long");
    }
    if name.starts_with('/') {
        return Err("it is absolute");
    }
    if name.chars().any(char::is_control) {
        return Err("it has control characters");
    }
    if name.contains('\\') {
        return Err("it has a backslash");
    }
    for component in name.split('/') {
        match component {
            "" => return Err("it has an empty component"),
            "." | ".." => return Err("it leaves its directory"),
            component if component.len() > LONGEST_COMPONENT => return Err("a component is too long"),
            _ => {}
        }
    }
    Ok(())
}

/// Says which of many names, each of them [`check`]ed, can't be beside the others: twice the same,
/// one that differs in case alone (it would vanish on some file systems), or a file that another
/// has for a directory.
pub fn check_together<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<(), (String, &'static str)> {
    // What the folded path is: a file or a directory, and how it was spelt.
    let mut seen: BTreeMap<String, (bool, &str)> = BTreeMap::new();
    for name in names {
        check(name).map_err(|why| (name.to_owned(), why))?;
        let mut end = 0;
        while end < name.len() {
            end = name[end..].find('/').map_or(name.len(), |at| end + at);
            let (path, is_file) = (&name[..end], end == name.len());
            end += 1;
            match seen.get(&path.to_lowercase()) {
                None => {
                    seen.insert(path.to_lowercase(), (is_file, path));
                }
                Some((_, spelt)) if *spelt != path => {
                    return Err((name.to_owned(), "another differs from it in case alone"));
                }
                Some((true, _)) if is_file => return Err((name.to_owned(), "it is there twice")),
                Some((was_file, _)) if *was_file != is_file => {
                    return Err((name.to_owned(), "it is a file and a directory"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tricks_are_refused() {
        let long = "a".repeat(256);
        for name in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".", "./a", "a\0b", "a\nb", "..\\x", &long] {
            assert!(check(name).is_err(), "{name:?}");
        }
        for name in ["config.json", "a/b/c.safetensors", "..a", "a..b", ".gitattributes", "模型.bin"] {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn names_must_fit_together() {
        assert_eq!(check_together(["a", "b/c", "b/d"]), Ok(()));
        assert!(check_together(["a", "a"]).is_err());
        assert!(check_together(["Config.json", "config.json"]).is_err());
        assert!(check_together(["a", "a/b"]).is_err());
        assert!(check_together(["a/b", "a"]).is_err());
        assert!(check_together(["A/b", "a/c"]).is_err());
    }

    proptest! {
        #[test]
        fn what_passes_stays_below_its_directory(name in "[a-c./\\\\\0é]{0,12}") {
            if check(&name).is_ok() {
                let path = std::path::Path::new("/store").join(&name);
                prop_assert!(path.starts_with("/store") && path != std::path::Path::new("/store"));
                prop_assert!(path.components().all(|c| c != std::path::Component::ParentDir));
            }
        }
    }
}
