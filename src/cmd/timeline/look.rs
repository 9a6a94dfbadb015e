//! How the viewer looks: from flags, configuration, environment and what the terminal can do.

use clap::ValueEnum;
use serde::Deserialize;

use super::super::settings::Settings;
use crate::tui::{Background, Colors, Look, Marks};

/// Colours for which background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// By COLORFGBG where the terminal sets it, else dark
    #[default]
    Auto,
    /// For a dark background
    Dark,
    /// For a light background
    Light,
    /// No colours: brightness and signs alone
    Mono,
}

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A terminal, or text that goes to one.
    Terminal,
    /// A picture, which has all colours.
    Picture,
}

/// What the terminal says of itself.
#[derive(Debug, Clone, Default)]
struct Told {
    term: String,
    colorterm: String,
    colorfgbg: String,
}

/// Settles the look.
pub fn look(theme: Theme, target: Target, settings: &Settings) -> Look {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let told = Told { term: variable("TERM"), colorterm: variable("COLORTERM"), colorfgbg: variable("COLORFGBG") };
    let ui = &settings.ui;
    let colours = match target {
        _ if theme == Theme::Mono => false,
        Target::Terminal => ui.colours_stdout(),
        Target::Picture => !ui.never_colours(),
    };
    let marks = match target {
        Target::Picture if !ui.wants_ascii() => Marks::Unicode,
        _ if ui.unicode() => Marks::Unicode,
        _ => Marks::Ascii,
    };
    Look { colors: colors(colours, target, &told), background: background(theme, target, &told), marks }
}

fn colors(wanted: bool, target: Target, told: &Told) -> Colors {
    match (wanted, target) {
        (false, _) => Colors::None,
        (true, Target::Picture) => Colors::True,
        (true, Target::Terminal) => {
            if matches!(told.colorterm.as_str(), "truecolor" | "24bit") || told.term.ends_with("-direct") {
                Colors::True
            } else if told.term.contains("256color") {
                Colors::Indexed
            } else {
                Colors::Sixteen
            }
        }
    }
}

fn background(theme: Theme, target: Target, told: &Told) -> Background {
    match theme {
        Theme::Light => Background::Light,
        Theme::Dark => Background::Dark,
        Theme::Auto | Theme::Mono if target == Target::Picture => Background::Dark,
        // "foreground;background", in numbers of the 16 colours: 7 and 15 are white.
        Theme::Auto | Theme::Mono => match told.colorfgbg.rsplit(';').next().and_then(|n| n.parse::<u8>().ok()) {
            Some(7 | 9..=15) => Background::Light,
            _ => Background::Dark,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(term: &str, colorterm: &str, colorfgbg: &str) -> Told {
        Told { term: term.to_owned(), colorterm: colorterm.to_owned(), colorfgbg: colorfgbg.to_owned() }
    }

    #[test]
    fn as_many_colours_as_the_terminal_has() {
        let of = |term, colorterm| colors(true, Target::Terminal, &told(term, colorterm, ""));
        assert_eq!(of("xterm-256color", "truecolor"), Colors::True);
        assert_eq!(of("screen-256color", ""), Colors::Indexed);
        assert_eq!(of("linux", ""), Colors::Sixteen);
        assert_eq!(colors(false, Target::Picture, &told("xterm-256color", "truecolor", "")), Colors::None);
    }

    #[test]
    fn the_background_is_dark_unless_told() {
        let of = |theme, fgbg| background(theme, Target::Terminal, &told("", "", fgbg));
        assert_eq!(of(Theme::Auto, ""), Background::Dark);
        assert_eq!(of(Theme::Auto, "15;0"), Background::Dark);
        assert_eq!(of(Theme::Auto, "0;default;15"), Background::Light);
        assert_eq!(of(Theme::Dark, "0;15"), Background::Dark);
        assert_eq!(of(Theme::Light, ""), Background::Light);
    }
}
