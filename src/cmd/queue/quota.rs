//! `aictl queue quota`.

use futures::future::join_all;

use super::QuotaArgs;
use crate::cmd::Done;
use crate::cmd::error::{BLIND, DONE, Error};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::cmd::targets::{self, Targets};
use crate::queue::{QueueError, QuotaRow};
use crate::view::bar::bar;
use crate::view::style::{self, paint};
use crate::view::{Align, Table};

/// Cells of a bar, at least and at most.
const BARS: (usize, usize) = (8, 16);
/// Columns that go first where there is no room.
const DROPPABLE: [&str; 2] = ["TARGET", "BORROWED"];
/// Cells of what stands around a bar: three spaces and its edges, then a space and a percentage.
const AROUND: usize = 3 + 2 + 1 + 4;

/// Shows quota.
pub fn run(args: &QuotaArgs, settings: &Settings) -> Done {
    block_on(async {
        let targets = match &args.target {
            Some(name) => Targets { engines: vec![Targets::one(name, settings).await?], unreached: Vec::new() },
            None => Targets::all(settings).await,
        };
        let asked = join_all(targets.engines.iter().map(|engine| engine.quota(args.queue.as_deref()))).await;
        let (mut rows, mut unknown, mut blind) = (Vec::new(), None, false);
        for (engine, answered) in targets.engines.iter().zip(asked) {
            match answered {
                Ok(more) => rows.extend(more),
                // Another target may have it.
                Err(error @ QueueError::NoSuchQueue { .. }) => unknown = Some(error),
                Err(error) => {
                    blind = true;
                    settings.ui.error(&format!("{} could not be asked: {error}", engine.target().name));
                }
            }
        }
        for (name, error) in &targets.unreached {
            blind = true;
            settings.ui.error(&format!("{name} could not be asked: {error}"));
        }
        if let (true, Some(error), false) = (rows.is_empty(), unknown, blind) {
            return Err(error.into());
        }
        let nothing = targets.engines.is_empty() && targets.unreached.is_empty();
        let printed = match settings.output {
            OutputFormat::Json => settings.ui.json(&rows),
            OutputFormat::Yaml => settings.ui.yaml(&rows),
            OutputFormat::Name => {
                let mut names: Vec<String> = rows.iter().map(|row| format!("{}:{}", row.target, row.queue)).collect();
                names.dedup();
                settings.ui.print(&names.join("\n"))
            }
            // Who saw nothing does not know that there is none.
            OutputFormat::Table | OutputFormat::Wide if rows.is_empty() && (blind || nothing) => Ok(()),
            OutputFormat::Table | OutputFormat::Wide if rows.is_empty() => {
                settings.ui.note("no quota: no target has queues with limits");
                Ok(())
            }
            OutputFormat::Table | OutputFormat::Wide => settings.ui.print(&table(&rows, settings)),
        };
        printed.map_err(Error::output)?;
        if nothing {
            return Err(targets::nothing().into());
        }
        Ok(if blind { BLIND } else { DONE })
    })
}

/// A table of quota, with a bar of what is used.
pub fn table(rows: &[QuotaRow], settings: &Settings) -> String {
    let (width, unicode) = (settings.ui.width(), settings.ui.unicode());
    let mut table = Table::new(&[
        ("TARGET", Align::Left),
        ("QUEUE", Align::Flexible),
        ("FLAVOR", Align::Flexible),
        ("RESOURCE", Align::Left),
        ("NOMINAL", Align::Right),
        ("USED", Align::Right),
        ("BORROWED", Align::Right),
        ("PENDING", Align::Right),
    ]);
    for row in rows {
        let shown = |amount: f64| amount_of(&row.resource, amount);
        let flavor = if row.flavor.is_empty() { "-".to_owned() } else { row.flavor.clone() };
        let borrowed = if row.borrowed == 0.0 { "-".to_owned() } else { shown(row.borrowed) };
        table.row([
            row.target.clone(),
            row.queue.clone(),
            flavor,
            row.resource.clone(),
            row.nominal.map_or_else(|| "-".to_owned(), shown),
            shown(row.used),
            borrowed,
            shown(row.pending),
        ]);
    }
    for name in ["FLAVOR", "BORROWED"] {
        table.drop_if_silent(name);
    }
    if rows.iter().all(|row| Some(&row.target) == rows.first().map(|first| &first.target)) {
        table.drop_column("TARGET");
    }
    let least = BARS.0 + AROUND;
    let longest_of = |lines: &[String]| lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    let mut lines = table.clone().fit(width.saturating_sub(least), unicode, &DROPPABLE);
    let bars = longest_of(&lines) + least <= width;
    if !bars {
        // Then all room is the columns'.
        lines = table.fit(width, unicode, &DROPPABLE);
    }
    let longest = longest_of(&lines);
    let cells = width.saturating_sub(longest + AROUND).clamp(BARS.0, BARS.1);
    let mut shown = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(row) = index.checked_sub(1).and_then(|index| rows.get(index)) else {
            shown.push(paint(style::HEADER, line));
            continue;
        };
        let Some(share) = row.nominal.filter(|nominal| bars && *nominal > 0.0).map(|nominal| row.used / nominal) else {
            shown.push(line.clone());
            continue;
        };
        let colour = match share {
            share if share >= 1.0 => style::BAD,
            share if share >= 0.8 => style::WARN,
            _ => style::GOOD,
        };
        let drawn = paint(colour, &bar(share, cells, unicode));
        let gap = longest - line.chars().count() + 3;
        shown.push(format!("{line}{}|{drawn}| {:>3.0}%", " ".repeat(gap), share * 100.0));
    }
    shown.join("\n")
}

/// An amount of a resource, for people.
fn amount_of(resource: &str, amount: f64) -> String {
    match resource {
        "memory" | "ephemeral-storage" => format!("{:.0}Gi", amount / f64::from(1u32 << 30)),
        _ if amount.fract() == 0.0 => format!("{amount}"),
        _ => format!("{amount:.1}"),
    }
}
