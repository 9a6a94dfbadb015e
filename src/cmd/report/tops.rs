//! The heaviest of each layer, as tables.

use super::Page;
use super::words::titled;
use crate::analyze::{Report, TopRow};
use crate::view::{Align, Table, human};

/// Rows of each table without `-o wide`.
const FEW: usize = 5;

/// All top tables that have rows.
pub fn tops(report: &Report, page: Page) -> String {
    let top = &report.top;
    let lists = [
        ("PYTHON", &top.python),
        ("TORCH", &top.torch),
        ("CUDA", &top.cuda),
        ("NCCL", &top.nccl),
        ("SYSCALL", &top.syscall),
        ("FILE", &top.file),
    ];
    lists
        .into_iter()
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(title, rows)| one(title, rows, page))
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// One layer's table. Columns that no row fills are left out.
fn one(title: &'static str, rows: &[TopRow], page: Page) -> String {
    let shown = &rows[..if page.wide { rows.len() } else { rows.len().min(FEW) }];
    let (bytes, bandwidth) = (shown.iter().any(|r| r.bytes.is_some()), shown.iter().any(|r| r.bus_gb_s.is_some()));
    let place = shown.iter().any(|r| r.file.is_some()) && title != "FILE";
    let mut columns =
        vec![(title, Align::Flexible), ("TIME", Align::Right), ("SHARE", Align::Right), ("COUNT", Align::Right)];
    if bytes {
        columns.push(("BYTES", Align::Right));
    }
    if bandwidth {
        columns.push(("BUS", Align::Right));
    }
    if place {
        columns.push(("WHERE", Align::Flexible));
    }
    let mut table = Table::new(&columns);
    for row in shown {
        let about = if row.estimate { "~" } else { "" };
        let mut cells = vec![
            row.name.clone(),
            format!("{about}{}", human::cell(&human::seconds(row.seconds))),
            human::cell(&human::percent(row.share)),
            human::count(row.count),
        ];
        if bytes {
            cells.push(row.bytes.map_or(String::new(), |n| human::cell(&human::bytes(n))));
        }
        if bandwidth {
            cells.push(row.bus_gb_s.map_or(String::new(), |speed| format!("{about}{speed:.1}GB/s")));
        }
        if place {
            cells.push(place_of(row, page.wide));
        }
        table.row(cells);
    }
    titled(&table, page)
}

/// "train.py:31"; the whole path if more is wanted.
fn place_of(row: &TopRow, wide: bool) -> String {
    let Some(file) = &row.file else { return String::new() };
    let shown = if wide { file.as_str() } else { file.rsplit('/').next().unwrap_or(file) };
    row.line.map_or_else(|| shown.to_owned(), |line| format!("{shown}:{line}"))
}
