//! Colours and signs, for every kind of terminal.
//!
//! The hues are those of Okabe and Ito's palette for colour-blind readers ("Color Universal
//! Design", 2008), teal is from Paul Tol's "muted" scheme (2021); lighter and darker shades of a
//! hue stand for classes of one family that seldom share a row. Names, signs and brightness say
//! the same as the colours, which therefore may be absent.

mod paint;
mod theme;

#[cfg(test)]
use paint::luminance;
pub(super) use paint::{mix, rgb_of};

use ratatui::style::{Color, Modifier, Style};

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
        self.shade(class, 0)
    }

    /// Colour of a class, `step` steps (of some 5 %) lighter or darker, to tell neighbours apart.
    pub fn shade(self, class: Class, step: i8) -> Color {
        match self.colors {
            Colors::None => Color::Reset,
            Colors::Sixteen => theme::sixteen(class, self.background),
            _ => self.rgb(paint::lighten(theme::rgb(class, self.background), step)),
        }
    }

    /// A slice's own ground with text on it that can be read.
    pub fn filled(self, class: Class, step: i8) -> Style {
        if self.colors == Colors::None {
            return Style::new();
        }
        let ground = self.shade(class, step);
        Style::new().bg(ground).fg(self.on(ground))
    }

    /// Black or white, whichever is read better on a ground.
    pub fn on(self, ground: Color) -> Color {
        let dark = paint::dark_text_reads_better(rgb_of(ground));
        match (self.colors, dark) {
            (Colors::None, _) => Color::Reset,
            (Colors::Sixteen, true) => Color::Black,
            (Colors::Sixteen, false) => Color::White,
            (_, true) => self.rgb([0x10, 0x12, 0x16]),
            (_, false) => self.rgb([0xff, 0xff, 0xff]),
        }
    }

    /// Text that may be skipped.
    pub fn faint(self) -> Style {
        match (self.colors, self.background) {
            (Colors::None, _) => Style::new().add_modifier(Modifier::DIM),
            (Colors::Sixteen, _) => Style::new().fg(Color::DarkGray),
            (_, Background::Dark) => Style::new().fg(self.rgb([0x84, 0x8c, 0x98])),
            (_, Background::Light) => Style::new().fg(self.rgb([0x68, 0x6e, 0x78])),
        }
    }

    /// Lines that only guide the eye.
    pub fn guide(self) -> Style {
        match (self.colors, self.background) {
            (Colors::None, _) => Style::new().add_modifier(Modifier::DIM),
            (Colors::Sixteen, _) => Style::new().fg(Color::DarkGray),
            (_, Background::Dark) => Style::new().fg(self.rgb([0x3a, 0x40, 0x4a])),
            (_, Background::Light) => Style::new().fg(self.rgb([0xd0, 0xd4, 0xda])),
        }
    }

    /// The one thing to read first.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Something is wrong.
    pub fn bad(self) -> Style {
        self.loud(Color::Red, [0xff, 0x7a, 0x52], [0xb0, 0x3a, 0x00])
    }

    /// Something deserves a look.
    pub fn warn(self) -> Style {
        self.loud(Color::Yellow, [0xf0, 0xc8, 0x42], [0x8a, 0x5a, 0x00])
    }

    /// All is well.
    pub fn good(self) -> Style {
        self.loud(Color::Green, [0x2f, 0xc4, 0x98], [0x00, 0x70, 0x52])
    }

    /// Keys, numbers of the cursor, and what can be acted on.
    pub fn accent(self) -> Style {
        self.loud(Color::Cyan, [0x7c, 0xc8, 0xf4], [0x00, 0x5e, 0x94])
    }

    fn loud(self, sixteen: Color, dark: [u8; 3], light: [u8; 3]) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        match (self.colors, self.background) {
            (Colors::None, _) => style,
            (Colors::Sixteen, _) => style.fg(sixteen),
            (_, Background::Dark) => style.fg(self.rgb(dark)),
            (_, Background::Light) => style.fg(self.rgb(light)),
        }
    }

    /// The title's line, and what separates the parts of the screen.
    pub fn bar(self) -> Style {
        match (self.colors, self.background) {
            (Colors::None, _) => Style::new().add_modifier(Modifier::REVERSED),
            (Colors::Sixteen, _) => Style::new().bg(Color::Blue).fg(Color::White),
            (_, Background::Dark) => Style::new().bg(self.rgb([0x26, 0x2c, 0x36])).fg(self.rgb([0xe6, 0xea, 0xf0])),
            (_, Background::Light) => Style::new().bg(self.rgb([0xe2, 0xe6, 0xec])).fg(self.rgb([0x1c, 0x20, 0x26])),
        }
    }

    /// The chosen line, or row of a panel.
    pub fn chosen(self) -> Style {
        match (self.colors, self.background) {
            (Colors::None, _) => Style::new().add_modifier(Modifier::REVERSED),
            (Colors::Sixteen, Background::Dark) => Style::new().bg(Color::DarkGray).fg(Color::White),
            (Colors::Sixteen, Background::Light) => Style::new().bg(Color::Gray).fg(Color::Black),
            (_, Background::Dark) => Style::new().bg(self.rgb([0x30, 0x3a, 0x4a])),
            (_, Background::Light) => Style::new().bg(self.rgb([0xd4, 0xe2, 0xf2])),
        }
    }

    /// The selected slice.
    pub fn selected(self) -> Style {
        match (self.colors, self.background) {
            (Colors::None, _) => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            (Colors::Sixteen, Background::Dark) => Style::new().bg(Color::White).fg(Color::Black),
            (Colors::Sixteen, Background::Light) => Style::new().bg(Color::Black).fg(Color::White),
            (_, Background::Dark) => Style::new().bg(self.rgb([0xff, 0xff, 0xff])).fg(self.rgb([0x10, 0x12, 0x16])),
            (_, Background::Light) => Style::new().bg(self.rgb([0x10, 0x12, 0x16])).fg(self.rgb([0xff, 0xff, 0xff])),
        }
        .add_modifier(Modifier::BOLD)
    }

    /// Ground of the selected range; `None` where only marks show it.
    pub fn range(self) -> Option<Color> {
        match (self.colors, self.background) {
            (Colors::None | Colors::Sixteen, _) => None,
            (_, Background::Dark) => Some(self.rgb([0x22, 0x2a, 0x38])),
            (_, Background::Light) => Some(self.rgb([0xe6, 0xee, 0xf8])),
        }
    }

    /// Colour of a rank's mark; ranks go round.
    pub fn rank(self, rank: u32) -> Color {
        const ORDER: [u8; 6] = [7, 12, 1, 4, 5, 2];
        self.class(Class(ORDER[rank as usize % ORDER.len()]))
    }

    /// One of two signs, by what the terminal can draw.
    pub fn sign(self, unicode: char, ascii: char) -> char {
        if self.marks == Marks::Unicode { unicode } else { ascii }
    }

    /// Text as it may be drawn: in ASCII where the terminal knows no more.
    pub fn text(self, text: &str) -> String {
        if self.marks == Marks::Unicode { text.to_owned() } else { crate::view::text::to_ascii(text) }
    }

    /// A colour, as near as the terminal has it.
    pub fn rgb(self, rgb: [u8; 3]) -> Color {
        match self.colors {
            Colors::None => Color::Reset,
            Colors::Sixteen => paint::nearest_sixteen(rgb),
            Colors::Indexed => Color::Indexed(paint::nearest_indexed(rgb)),
            Colors::True => Color::Rgb(rgb[0], rgb[1], rgb[2]),
        }
    }

    /// What the terminal's own background is taken to be.
    pub fn ground(self) -> [u8; 3] {
        if self.background == Background::Dark { [0x12, 0x15, 0x1b] } else { [0xff, 0xff, 0xff] }
    }

    /// A colour moved by a share towards another, where the terminal has colours between.
    pub fn blend(self, from: Color, to: [u8; 3], share: f32) -> Color {
        match self.colors {
            Colors::None | Colors::Sixteen => from,
            _ => self.rgb(mix(rgb_of(from), to, share)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Colors; 4] = [Colors::None, Colors::Sixteen, Colors::Indexed, Colors::True];

    #[test]
    fn text_can_be_read_on_every_class() {
        for colors in ALL {
            for background in [Background::Dark, Background::Light] {
                let look = Look { colors, background, marks: Marks::Unicode };
                for (class, step) in (0..16).flat_map(|c| (-3..=3).map(move |s| (Class(c), s))) {
                    let style = look.filled(class, step);
                    let (Some(bg), Some(fg)) = (style.bg, style.fg) else { continue };
                    let (a, b) = (luminance(rgb_of(bg)), luminance(rgb_of(fg)));
                    let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                    assert!(contrast >= 4.0, "{look:?} {class:?} {step}: {contrast}");
                }
            }
        }
    }

    #[test]
    fn classes_stand_out_from_the_ground() {
        for background in [Background::Dark, Background::Light] {
            let look = Look { colors: Colors::True, background, marks: Marks::Unicode };
            let ground = if background == Background::Dark { 0.0065 } else { 1.0 };
            for class in (0..16).map(Class) {
                let a = luminance(rgb_of(look.class(class)));
                let contrast = (a.max(ground) + 0.05) / (a.min(ground) + 0.05);
                assert!(contrast >= 1.9, "{background:?} {class:?}: {contrast}");
            }
        }
    }
}
