//! Blocks, shades and lines of a terminal as shapes of an SVG document.

use std::fmt::Write as _;

use super::{HEIGHT, WIDTH, hex};

/// What a sign looks like, in shares of its cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// Left, top, width, height.
    Block([f32; 4]),
    /// All of the cell, this opaque.
    Shade(f32),
    /// A line through the middle, from left to right: thickness in px, and whether it is dashed.
    Across(f32, bool),
    /// A line through the middle, from top to foot: thickness in px, and whether it is dashed.
    Down(f32, bool),
    /// From the lower left to the upper right.
    Slash,
    /// A line down and one from it to the right (true) or to the left.
    Tee(bool),
}

/// The shape of a sign; `None` for text.
pub fn of(sign: char) -> Option<Shape> {
    let eighths = |n: u32| n as f32 / 8.0;
    Some(match sign {
        '▁'..='█' => {
            let height = eighths(sign as u32 - '▁' as u32 + 1);
            Shape::Block([0.0, 1.0 - height, 1.0, height])
        }
        '▉'..='▏' => Shape::Block([0.0, 0.0, eighths(8 - (sign as u32 - '█' as u32)), 1.0]),
        '▐' => Shape::Block([0.5, 0.0, 0.5, 1.0]),
        '▕' => Shape::Block([0.875, 0.0, 0.125, 1.0]),
        '▀' => Shape::Block([0.0, 0.0, 1.0, 0.5]),
        '░' => Shape::Shade(0.25),
        '▒' => Shape::Shade(0.5),
        '▓' => Shape::Shade(0.75),
        '─' => Shape::Across(1.0, false),
        '━' => Shape::Across(2.5, false),
        '┄' => Shape::Across(1.0, true),
        '╍' => Shape::Across(2.0, true),
        '│' => Shape::Down(1.0, false),
        '┃' => Shape::Down(2.5, false),
        '┊' => Shape::Down(1.0, true),
        '╱' => Shape::Slash,
        '┣' => Shape::Tee(true),
        '┫' => Shape::Tee(false),
        _ => return None,
    })
}

impl Shape {
    /// Neighbours make one shape.
    pub fn tiles(self) -> bool {
        match self {
            Shape::Block([left, _, width, _]) => left == 0.0 && width == 1.0,
            Shape::Shade(_) | Shape::Across(_, false) => true,
            Shape::Across(_, true) | Shape::Down(..) | Shape::Slash | Shape::Tee(_) => false,
        }
    }

    /// Draws it over `cells` = (first, count) of a row that begins at `y`.
    pub fn draw(self, out: &mut String, cells: (u32, u32), y: u32, color: [u8; 3]) {
        let (x, width) = ((cells.0 * WIDTH) as f32, (cells.1 * WIDTH) as f32);
        let (y, height) = (y as f32, HEIGHT as f32);
        let fill = hex(color);
        let mut rect = |x: f32, y: f32, width: f32, height: f32, more: &str| {
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"{more}/>"
            );
        };
        match self {
            Shape::Block([left, top, wide, high]) => {
                rect(x + left * width, y + top * height, wide * width, high * height, "");
            }
            Shape::Shade(share) => rect(x, y, width, height, &format!(" fill-opacity=\"{share}\"")),
            Shape::Across(thick, false) => rect(x, y + (height - thick) / 2.0, width, thick, ""),
            Shape::Across(thick, true) => {
                rect(x + 1.0, y + (height - thick) / 2.0, 3.0, thick, "");
                rect(x + 5.5, y + (height - thick) / 2.0, 3.0, thick, "");
            }
            Shape::Down(thick, false) => rect(x + (width - thick) / 2.0, y, thick, height, ""),
            Shape::Down(thick, true) => {
                for part in 0..4 {
                    rect(x + (width - thick) / 2.0, y + 1.0 + part as f32 * 5.0, thick, 2.5, "");
                }
            }
            Shape::Slash => {
                let points = format!("{x},{} {},{y}", y + height, x + width);
                let _ = writeln!(
                    out,
                    "<polyline points=\"{points}\" stroke=\"{fill}\" stroke-width=\"1.2\" fill=\"none\"/>"
                );
            }
            Shape::Tee(right) => {
                rect(x + (width - 2.5) / 2.0, y + 3.0, 2.5, height - 6.0, "");
                let from = if right { x + width / 2.0 } else { x };
                rect(from, y + (height - 2.5) / 2.0, width / 2.0, 2.5, "");
            }
        }
    }
}
