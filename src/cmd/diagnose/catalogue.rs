//! The catalogue with a site's changes.

use std::fs;
use std::path::PathBuf;

use super::Error;
use crate::fault::Catalogue;

/// Reads the built-in catalogue, then the files given, in order.
pub fn load(files: &[PathBuf]) -> Result<Catalogue, Error> {
    let mut catalogue =
        Catalogue::embedded().map_err(|error| Error::failed("the built-in catalogue is broken", error))?;
    for path in files {
        let shown = path.display().to_string();
        let text =
            fs::read_to_string(path).map_err(|error| Error::usage(format!("cannot read {shown}")).because(error))?;
        catalogue.extend(&shown, &text).map_err(|error| {
            Error::usage("wrong catalogue").because(error).hint("aictl diagnose --help says what an entry has")
        })?;
    }
    Ok(catalogue)
}
