//! `aictl preload evict`: out of memory again.

use serde::Serialize;

use super::super::Done;
use super::super::error::{BLIND, DONE, Error, FOUND};
use super::super::settings::{OutputFormat, Settings};
use super::{Place, memory, place};
use crate::preload::Source;
use crate::preload::evict::{self, Evicted};
use crate::view::{Align, Table, human, text};

/// Drop models from the page cache; they stay on disk
///
/// Ends the processes that hold them first (--pin, --gpu --keep). Looks afterwards: pages that a
/// server has mapped, or that are being written, stay, and that is said.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aictl preload evict org/model              out of memory; it stays on disk
  aictl preload evict                        all of the store")]
pub struct Args {
    /// Which: sources of the store, directories or files; all of the store if none is given
    #[arg(value_name = "SOURCE", value_parser = super::source)]
    sources: Vec<Source>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    pins: memory::PinsPlace,
}

/// What came of it, for one model.
#[derive(Debug, Serialize)]
struct Row {
    /// Always "aictl.evicted/v1".
    schema: &'static str,
    source: String,
    #[serde(flatten)]
    evicted: Evicted,
}

/// Drops.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let pins = args.pins.pins()?;
    let mut rows = Vec::new();
    for snapshot in place::snapshots(&args.sources, &args.place)? {
        let evicted = evict::evict(&memory::whole(&snapshot), &pins)?;
        rows.push(Row { schema: "aictl.evicted/v1", source: snapshot.source, evicted });
    }
    let ui = &settings.ui;
    let printed = match settings.output {
        OutputFormat::Json => ui.json(&rows),
        OutputFormat::Yaml => ui.yaml(&rows),
        OutputFormat::Table | OutputFormat::Wide | OutputFormat::Name if rows.is_empty() => Ok(()),
        OutputFormat::Name => ui.print(&rows.iter().map(|row| row.source.as_str()).collect::<Vec<_>>().join("\n")),
        OutputFormat::Table | OutputFormat::Wide => ui.print(&table(&rows, settings)),
    };
    printed.map_err(Error::output)?;
    for left in rows.iter().flat_map(|row| &row.evicted.left) {
        ui.warn(&format!("{} stays: {}", left.path.display(), left.why));
    }
    let blind = rows.iter().any(|row| row.evicted.resident_bytes.is_none());
    let left = rows.iter().any(|row| row.evicted.resident_bytes.is_some_and(|bytes| bytes > 0));
    Ok(match (left, blind) {
        (true, _) => FOUND,
        (false, true) => BLIND,
        (false, false) => DONE,
    })
}

fn table(rows: &[Row], settings: &Settings) -> String {
    let columns =
        [("SOURCE", Align::Flexible), ("BEFORE", Align::Right), ("AFTER", Align::Right), ("ENDED", Align::Left)];
    let mut table = Table::new(&columns);
    let bytes = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |bytes| human::cell(&human::bytes(bytes)));
    for Row { source, evicted, .. } in rows {
        let ended: Vec<String> = evicted.unpinned.iter().map(u32::to_string).collect();
        table.row([source.clone(), bytes(evicted.before_bytes), bytes(evicted.resident_bytes), ended.join(",")]);
    }
    let unicode = settings.ui.unicode();
    let page = table.render(settings.ui.width(), unicode).join("\n");
    if unicode { page } else { text::to_ascii(&page) }
}
