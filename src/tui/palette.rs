//! Colours and signs, for every kind of terminal.

use ratatui::style::Color;

use crate::trace::Class;

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// None: brightness and signs alone.
    None,
    /// The 16 of every terminal.
    Sixteen,
    /// 256.
    Indexed,
    /// 24 bits.
    True,
}

/// What the terminal's background is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Dark.
    Dark,
    /// Light.
    Light,
}

/// Which signs can be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// Blocks and lines of Unicode.
    Unicode,
    /// ASCII alone.
    Ascii,
}

/// How everything looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours.
    pub colors: Colors,
    /// Background.
    pub background: Background,
    /// Signs.
    pub marks: Marks,
}

impl Look {
    /// Colour of a class.
    pub fn class(self, class: Class) -> Color {
        if self.colors == Colors::None { Color::Reset } else { Color::Indexed(class.0) }
    }
}
