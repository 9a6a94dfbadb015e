//! The line of a rank or process: what the judge says that its driving thread does, all along.

use ratatui::buffer::Buffer;
use ratatui::style::Style;

use super::Row;
use super::slices::bar;
use crate::analyze::{Category, StepTimes};
use crate::trace::Class;
use crate::tui::palette::Colors;
use crate::tui::scene::{COLLECTIVE, COMPUTE, DATA, DISK, IDLE, NodeId, OTHER, PYTHON, SYNCHRONIZE};
use crate::tui::view::pen;

/// The class whose colour a category of the judge has.
pub fn class_of_category(category: Category) -> Class {
    match category {
        Category::Input => DATA,
        Category::ComputeCpu => COMPUTE,
        Category::GpuWait => SYNCHRONIZE,
        Category::Communication => COLLECTIVE,
        Category::Io => DISK,
        Category::Python => PYTHON,
        Category::Idle => IDLE,
        Category::Other => OTHER,
    }
}

/// Draws the summary, or a rule where there is nothing to sum up.
pub fn draw(row: &Row<'_>, node: NodeId, buffer: &mut Buffer) {
    let scene = &row.state.scene;
    let Some(steps) = scene.tree.get(node).and_then(|node| scene.driver(node)) else {
        let rule = row.look.sign('─', '-');
        for x in row.area.left()..row.area.right() {
            if buffer.cell((x, row.area.y)).is_some_and(|cell| cell.symbol() == " ") {
                pen::sign(buffer, (x, row.area.y), rule, row.look.guide());
            }
        }
        return;
    };
    for column in 0..row.area.width {
        let (from, to) = row.stretch(column);
        let Some((category, share)) = most(steps, from, to) else { continue };
        draw_category(row, column, category, share, buffer);
    }
}

/// The category that has most of a stretch, and its share of it.
pub fn most(steps: &StepTimes, from_ns: u64, to_ns: u64) -> Option<(Category, f64)> {
    let shares = steps.phases.shares(from_ns, to_ns);
    let most = Category::ALL.into_iter().max_by_key(|category| shares[*category as usize])?;
    let share = shares[most as usize];
    (share > 0).then(|| (most, share as f64 / to_ns.saturating_sub(from_ns).max(1) as f64))
}

fn draw_category(row: &Row<'_>, column: u16, category: Category, share: f64, buffer: &mut Buffer) {
    let look = row.look;
    let at = (row.area.x + column, row.area.y);
    let style = Style::new().fg(look.class(class_of_category(category)));
    let sign = match (category, look.colors) {
        (Category::Idle, _) => look.sign('─', '-'),
        // Without colours, the first letter says which.
        (_, Colors::None) => letter(category),
        _ => bar(look.marks, share),
    };
    pen::sign(buffer, at, sign, style);
}

/// A letter for each category, where there are no colours.
pub fn letter(category: Category) -> char {
    match category {
        Category::Input => 'i',
        Category::ComputeCpu => 'c',
        Category::GpuWait => 'g',
        Category::Communication => 'r',
        Category::Io => 'd',
        Category::Python => 'p',
        Category::Idle => '-',
        Category::Other => 'o',
    }
}
