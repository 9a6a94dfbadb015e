//! A colour for each class, on dark and light ground.

use ratatui::style::Color;

use super::Background;
use crate::trace::Class;

/// By class, on dark and on light ground.
const COLORS: [([u8; 3], [u8; 3]); 16] = [
    ([0x9a, 0xa2, 0xae], [0x8a, 0x92, 0x9e]), // other: grey
    ([0x00, 0x9e, 0x73], [0x00, 0x8a, 0x64]), // running: bluish green
    ([0xd5, 0x5e, 0x00], [0xc4, 0x52, 0x00]), // runnable: vermillion
    ([0x5c, 0x66, 0x74], [0xa0, 0xa8, 0xb4]), // idle: faint
    ([0xcc, 0x79, 0xa7], [0xb0, 0x56, 0x8a]), // lock: reddish purple
    ([0xe6, 0x9f, 0x00], [0xc4, 0x82, 0x00]), // disk: orange
    ([0x1f, 0x86, 0xc8], [0x00, 0x72, 0xb2]), // network: blue
    ([0x56, 0xb4, 0xe9], [0x3a, 0x9a, 0xd4]), // python: sky blue
    ([0x6f, 0x90, 0xa8], [0x86, 0xa6, 0xbc]), // library: greyish sky blue
    ([0x2f, 0xbf, 0x95], [0x0a, 0x9a, 0x74]), // compute: lighter green
    ([0xf0, 0xb8, 0x60], [0xd0, 0x92, 0x30]), // memory: lighter orange
    ([0xdc, 0x9c, 0xc2], [0xb8, 0x6a, 0x98]), // backward: lighter purple
    ([0xf0, 0xe4, 0x42], [0xc8, 0xb4, 0x00]), // data: yellow
    ([0x44, 0xaa, 0x99], [0x2e, 0x8c, 0x7c]), // launch: teal
    ([0xee, 0x80, 0x4a], [0xcc, 0x60, 0x2a]), // synchronize: lighter vermillion
    ([0x4a, 0x8f, 0xe0], [0x1e, 0x66, 0xc0]), // collective: lighter blue
];

const SIXTEEN: [Color; 16] = [
    Color::Gray,
    Color::Green,
    Color::Red,
    Color::DarkGray,
    Color::Magenta,
    Color::Yellow,
    Color::Blue,
    Color::Cyan,
    Color::Gray,
    Color::LightGreen,
    Color::Yellow,
    Color::LightMagenta,
    Color::LightYellow,
    Color::LightCyan,
    Color::LightRed,
    Color::LightBlue,
];

/// A class's colour in 24 bits.
pub fn rgb(class: Class, background: Background) -> [u8; 3] {
    let (dark, light) = COLORS[usize::from(class.0).min(15)];
    if background == Background::Dark { dark } else { light }
}

/// A class's colour among the 16.
pub fn sixteen(class: Class, background: Background) -> Color {
    match (SIXTEEN[usize::from(class.0).min(15)], background) {
        (Color::Gray, Background::Light) => Color::DarkGray,
        (Color::DarkGray, Background::Light) => Color::Gray,
        (Color::LightYellow, Background::Light) => Color::Yellow,
        (color, _) => color,
    }
}
