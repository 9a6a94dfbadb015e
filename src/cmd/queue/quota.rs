//! `aictl queue quota`.

use futures::future::join_all;

use super::QuotaArgs;
use crate::cmd::Done;
use crate::cmd::error::{BLIND, DONE, Error};
use crate::cmd::runtime::block_on;
use crate::cmd::settings::{OutputFormat, Settings};
use crate::cmd::targets::Targets;
use crate::queue::{QueueError, QuotaRow};
use crate::view::bar::bar;
use crate::view::style::{self, paint};
use crate::view::{Align, Table};

/// Cells of a bar.
const BAR: usize = 16;

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
        let printed = match settings.output {
            OutputFormat::Json => settings.ui.json(&rows),
            OutputFormat::Yaml => settings.ui.yaml(&rows),
            OutputFormat::Name => {
                let mut names: Vec<String> = rows.iter().map(|row| format!("{}:{}", row.target, row.queue)).collect();
                names.dedup();
                settings.ui.print(&names.join("\n"))
            }
            OutputFormat::Table | OutputFormat::Wide if rows.is_empty() => {
                settings.ui.note("no quota: no target has queues with limits");
                Ok(())
            }
            OutputFormat::Table | OutputFormat::Wide => settings.ui.print(&table(&rows, settings)),
        };
        printed.map_err(Error::output)?;
        Ok(if blind { BLIND } else { DONE })
    })
}

/// A table of quota, with a bar of what is used.
pub fn table(rows: &[QuotaRow], settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("QUEUE", Align::Flexible),
        ("FLAVOR", Align::Left),
        ("RESOURCE", Align::Left),
        ("NOMINAL", Align::Right),
        ("USED", Align::Right),
        ("BORROWED", Align::Right),
        ("PENDING", Align::Right),
        ("", Align::Left),
    ]);
    for row in rows {
        let shown = |amount: f64| amount_of(&row.resource, amount);
        let share = row.nominal.filter(|nominal| *nominal > 0.0).map_or(0.0, |nominal| row.used / nominal);
        let flavor = if row.flavor.is_empty() { "-".to_owned() } else { row.flavor.clone() };
        table.row([
            row.queue.clone(),
            flavor,
            row.resource.clone(),
            row.nominal.map_or_else(|| "-".to_owned(), shown),
            shown(row.used),
            shown(row.borrowed),
            shown(row.pending),
            format!("|{}|", bar(share, BAR, settings.ui.unicode())),
        ]);
    }
    let lines = table.render(settings.ui.width(), settings.ui.unicode());
    let head = |index: usize| if index == 0 { style::HEADER } else { anstyle::Style::new() };
    lines.iter().enumerate().map(|(index, line)| paint(head(index), line)).collect::<Vec<_>>().join("\n")
}

/// An amount of a resource, for people.
fn amount_of(resource: &str, amount: f64) -> String {
    match resource {
        "memory" | "ephemeral-storage" => format!("{:.0}Gi", amount / f64::from(1u32 << 30)),
        _ if amount.fract() == 0.0 => format!("{amount}"),
        _ => format!("{amount:.1}"),
    }
}
