//! Arithmetic of colours: luminance, mixing, the nearest that a terminal has.

use ratatui::style::Color;

/// Relative luminance as in WCAG 2: 0 for black, 1 for white.
pub fn luminance(rgb: [u8; 3]) -> f32 {
    let part = |byte: u8| {
        let value = f32::from(byte) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * part(rgb[0]) + 0.7152 * part(rgb[1]) + 0.0722 * part(rgb[2])
}

/// Whether black on a ground has more contrast than white has.
pub fn dark_text_reads_better(ground: [u8; 3]) -> bool {
    let ground = luminance(ground) + 0.05;
    ground / 0.05 >= 1.05 / ground
}

/// A colour moved by a share (0–1) towards another.
pub fn mix(from: [u8; 3], to: [u8; 3], share: f32) -> [u8; 3] {
    let part = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * share.clamp(0.0, 1.0)).round() as u8;
    [part(from[0], to[0]), part(from[1], to[1]), part(from[2], to[2])]
}

/// A colour some steps lighter (towards white) or darker (towards black).
pub fn lighten(rgb: [u8; 3], step: i8) -> [u8; 3] {
    let share = f32::from(step.unsigned_abs()) * 0.055;
    mix(rgb, if step > 0 { [255; 3] } else { [0; 3] }, share)
}

/// Levels of the colour cube of 256-colour terminals.
const CUBE: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// The nearest of the 256 colours that are the same everywhere (the first 16 are not).
pub fn nearest_indexed(rgb: [u8; 3]) -> u8 {
    let level = |byte: u8| (0..6).min_by_key(|&i| CUBE[i].abs_diff(byte)).unwrap_or(0);
    let [r, g, b] = rgb.map(level);
    let cube = (16 + 36 * r + 6 * g + b) as u8;
    let mean = rgb.iter().map(|&byte| u16::from(byte)).sum::<u16>() / 3;
    let gray = 232 + (mean.saturating_sub(3) / 10).min(23) as u8;
    if distance(indexed(gray), rgb) < distance(indexed(cube), rgb) { gray } else { cube }
}

/// The nearest of the 16 colours.
pub fn nearest_sixteen(rgb: [u8; 3]) -> Color {
    let nearest = SIXTEEN.iter().min_by_key(|(_, other)| distance(*other, rgb));
    nearest.map_or(Color::Reset, |(color, _)| *color)
}

fn distance(a: [u8; 3], b: [u8; 3]) -> u32 {
    // Green counts most, as the eye sees it.
    let part = |i: usize, weight: u32| weight * u32::from(a[i].abs_diff(b[i])).pow(2);
    part(0, 3) + part(1, 6) + part(2, 1)
}

fn indexed(index: u8) -> [u8; 3] {
    match index {
        0..=15 => SIXTEEN[usize::from(index)].1,
        16..=231 => {
            let i = usize::from(index - 16);
            [CUBE[i / 36], CUBE[i / 6 % 6], CUBE[i % 6]]
        }
        232..=255 => [8 + 10 * (index - 232); 3],
    }
}

/// The 16 colours, as most terminals of today show them.
const SIXTEEN: [(Color, [u8; 3]); 16] = [
    (Color::Black, [0x00, 0x00, 0x00]),
    (Color::Red, [0xcd, 0x31, 0x31]),
    (Color::Green, [0x0d, 0xbc, 0x79]),
    (Color::Yellow, [0xc5, 0xa3, 0x00]),
    (Color::Blue, [0x24, 0x72, 0xc8]),
    (Color::Magenta, [0xbc, 0x3f, 0xbc]),
    (Color::Cyan, [0x11, 0xa8, 0xcd]),
    (Color::Gray, [0xc5, 0xc8, 0xce]),
    (Color::DarkGray, [0x66, 0x66, 0x66]),
    (Color::LightRed, [0xf1, 0x6c, 0x4c]),
    (Color::LightGreen, [0x23, 0xd1, 0x8b]),
    (Color::LightYellow, [0xf5, 0xf5, 0x43]),
    (Color::LightBlue, [0x5b, 0xa4, 0xf0]),
    (Color::LightMagenta, [0xd6, 0x86, 0xd6]),
    (Color::LightCyan, [0x5f, 0xd7, 0xee]),
    (Color::White, [0xff, 0xff, 0xff]),
];

/// What a colour looks like; black for the terminal's own.
pub fn rgb_of(color: Color) -> [u8; 3] {
    match color {
        Color::Rgb(r, g, b) => [r, g, b],
        Color::Indexed(index) => indexed(index),
        named => SIXTEEN.iter().find(|(color, _)| *color == named).map_or([0; 3], |(_, rgb)| *rgb),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_the_cube_are_their_own_nearest() {
        for index in 16..=255u8 {
            assert_eq!(indexed(nearest_indexed(indexed(index))), indexed(index));
        }
    }

    #[test]
    fn black_and_white_have_the_ends_of_luminance() {
        assert_eq!(luminance([0; 3]), 0.0);
        assert!((luminance([255; 3]) - 1.0).abs() < 1e-4);
        assert!(dark_text_reads_better([0xf0, 0xe4, 0x42]));
        assert!(!dark_text_reads_better([0x00, 0x30, 0x80]));
        assert_eq!(mix([0, 100, 200], [100, 100, 0], 0.5), [50, 100, 100]);
    }
}
