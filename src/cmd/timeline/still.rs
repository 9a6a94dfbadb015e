//! One frame without a terminal, for tests, tickets and documents.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use super::super::Done;
use super::super::error::{BLIND, DONE, Error};
use super::super::settings::Settings;
use super::look::{Target, Theme, look};
use crate::tui::state::{Size, State};
use crate::tui::{Effect, Msg, snapshot, update};

/// `COLUMNSxROWS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameSize(pub Size);

/// No screen is larger; the frame must fit in memory.
const LARGEST: u16 = 2000;

impl FromStr for FrameSize {
    type Err = String;

    fn from_str(text: &str) -> Result<FrameSize, String> {
        let wrong = || "not a size; write COLUMNSxROWS, such as 160x48".to_owned();
        let (columns, rows) = text.split_once(['x', 'X', '×']).ok_or_else(wrong)?;
        let side = |text: &str| match text.trim().parse::<u16>() {
            Ok(side @ 1..=LARGEST) => Ok(side),
            Ok(_) => Err(format!("a side has 1 to {LARGEST} cells")),
            Err(_) => Err(wrong()),
        };
        Ok(FrameSize(Size { columns: side(columns)?, rows: side(rows)? }))
    }
}

/// Lets everything that takes longer than a frame come to its end.
pub fn settle(state: &mut State) {
    while update(state, Msg::Tick).contains(&Effect::Again) {}
}

/// Prints the frame, or writes it as a picture.
pub fn print(state: &State, theme: Theme, svg: Option<&Path>, settings: &Settings) -> Done {
    match svg {
        None => {
            let frame = snapshot(state, look(theme, Target::Terminal, settings));
            let text = if settings.ui.colours_stdout() { frame.ansi() } else { frame.text() };
            settings.ui.print(&text).map_err(Error::output)?;
        }
        Some(path) => {
            let picture = snapshot(state, look(theme, Target::Picture, settings)).svg();
            if path == Path::new("-") {
                let mut out = io::stdout().lock();
                out.write_all(picture.as_bytes()).and_then(|()| out.flush()).map_err(Error::output)?;
            } else {
                fs::write(path, picture)
                    .map_err(|error| Error::failed(format!("cannot write {}", path.display()), error))?;
            }
        }
    }
    if state.scene.bounds.is_none() {
        settings.ui.warn("the recording holds nothing to show");
        return Ok(BLIND);
    }
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |columns, rows| Ok(FrameSize(Size { columns, rows }));
        assert_eq!("160x48".parse(), size(160, 48));
        assert_eq!("1X1".parse(), size(1, 1));
        for text in ["", "80", "x", "0x10", "10x0", "-1x5", "80x24x3", "99999x10", "2001x10"] {
            assert!(text.parse::<FrameSize>().is_err(), "{text}");
        }
    }
}
