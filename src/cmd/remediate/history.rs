//! `aictl remediate history`: who did what, when and why.

use std::path::PathBuf;

use clap::ValueHint;
use serde::Serialize;

use super::once::journal_trouble;
use super::sight::{Pretend, Sight};
use super::{DONE, Done, Error, OutputFormat, Settings, state_directory};
use crate::act::{self, Event, Eyes, Journal, Record};
use crate::fault::playbook::{DeviceKey, History, Standing};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, text};

/// Show who did what, when and why
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Of one incident only
    #[arg(value_name = "INCIDENT")]
    incident: Option<String>,
    /// Of central runs, whose journals are in the cluster
    #[arg(long, conflicts_with = "state_dir")]
    cluster: bool,
    /// Where the journal is [default: /var/lib/aictl as root, else $XDG_STATE_HOME/aictl]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Shown<'h> {
    schema: &'static str,
    incidents: Vec<ShownIncident<'h>>,
    records: Vec<&'h Record>,
}

#[derive(Debug, Serialize)]
struct ShownIncident<'h> {
    id: &'h str,
    node: &'h str,
    fault: &'h str,
    device: DeviceKey,
    state: Standing,
    why: &'h str,
    attempt: u32,
    isolated: bool,
}

const EXAMPLES: &str = "\
Examples:
  sudo aictl remediate history                        of this machine
  sudo aictl remediate history i-4f2a09c1b7de         of one incident
  aictl remediate history --cluster                   of central runs
  sudo aictl remediate history -o json | jq '.incidents[] | select(.state == \"open\")'";

/// Prints the journal.
pub fn run(args: &Args, settings: &Settings) -> Done {
    let directory = state_directory(args.state_dir.as_deref());
    let records = match args.cluster {
        true => super::central::records(&*super::hands(settings, std::sync::Arc::default())?)?,
        false => Journal::read(&directory).map_err(journal_trouble)?,
    };
    let sight = Sight::new(None, Vec::new(), Pretend::default())?;
    let history = act::history(&records, &sight.clock(), sight.boot_id());
    let wanted = |id: &str| args.incident.as_deref().is_none_or(|wanted| wanted == id);
    let records: Vec<&Record> =
        records.iter().filter(|r| r.event.incident().map_or(args.incident.is_none(), wanted)).collect();
    let shown = Shown { schema: "aictl.history/v1", incidents: incidents(&history, wanted), records };
    let ui = &settings.ui;
    match settings.output {
        OutputFormat::Json => ui.json(&shown),
        OutputFormat::Yaml => ui.yaml(&shown),
        OutputFormat::Name if shown.incidents.is_empty() => Ok(()),
        OutputFormat::Name => ui.print(&shown.incidents.iter().map(|i| i.id).collect::<Vec<_>>().join("\n")),
        OutputFormat::Table | OutputFormat::Wide if shown.records.is_empty() => ui.print("nothing was done yet"),
        OutputFormat::Table | OutputFormat::Wide => ui.print(&table(&shown, settings)),
    }
    .map_err(Error::output)?;
    Ok(DONE)
}

fn incidents<'h>(history: &'h History, wanted: impl Fn(&str) -> bool) -> Vec<ShownIncident<'h>> {
    let shown = history.incidents.iter().filter(|past| wanted(&past.id)).map(|past| ShownIncident {
        id: &past.id,
        node: &past.node,
        fault: &past.finding.fault,
        device: past.device(),
        state: past.standing,
        why: &past.why,
        attempt: past.attempt,
        isolated: past.isolation.is_some(),
    });
    shown.collect()
}

fn table(shown: &Shown<'_>, settings: &Settings) -> String {
    let mut table = Table::new(&[
        ("TIME", Align::Left),
        ("INCIDENT", Align::Left),
        ("EVENT", Align::Left),
        ("WHY", Align::Flexible),
        ("WHO", Align::Flexible),
    ]);
    for record in &shown.records {
        let (what, why) = words(&record.event);
        let at = record.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        table.row([at, record.event.incident().unwrap_or_default().to_owned(), what, why, record.who.clone()]);
    }
    let lines = table.render(settings.ui.width(), settings.ui.unicode());
    let colours = std::iter::once(style::HEADER).chain(std::iter::repeat(anstyle::Style::new()));
    let page = lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n");
    if settings.ui.unicode() { page } else { text::to_ascii(&page) }
}

fn words(event: &Event) -> (String, String) {
    match event {
        Event::Opened { attempt, rule, finding, .. } => {
            let DeviceKey(device) = DeviceKey::of(finding);
            (format!("opened (attempt {attempt})"), format!("{} on {device}, rule {rule}", finding.fault))
        }
        Event::Added { task, .. } => (format!("{} added", task.step.step.name()), task.why.clone()),
        Event::Began { kind, .. } => (format!("{} begun", kind.name()), String::new()),
        Event::Ended { kind, state, why, .. } => (format!("{} {}", kind.name(), state.name()), why.clone()),
        Event::Closed { standing, why, .. } => (standing.name().to_owned(), why.clone()),
        Event::Seen { fault, device } => ("seen once".to_owned(), format!("{fault} on {}", device.0)),
    }
}
