//! A plan for people.

use super::Settings;
use crate::fault::playbook::{DeviceKey, Incident, Plan, Standing, StepState};
use crate::view::style::{self, paint};
use crate::view::{Align, Table, text};

/// The page.
pub fn plan(plan: &Plan, apply: bool, settings: &Settings) -> String {
    let (width, unicode) = (settings.ui.width(), settings.ui.unicode());
    let mut parts: Vec<String> = plan.incidents.iter().map(|shown| incident(shown, width, unicode)).collect();
    if !plan.refused.is_empty() {
        let mut table = Table::new(&[
            ("REFUSED BY", Align::Left),
            ("FAULT", Align::Left),
            ("DEVICE", Align::Flexible),
            ("WHY", Align::Flexible),
        ]);
        for refused in &plan.refused {
            table.row([
                refused.rule.to_owned(),
                refused.fault.clone().unwrap_or_default(),
                refused.device.clone().map_or(String::new(), |DeviceKey(device)| device),
                refused.why.clone(),
            ]);
        }
        parts.push(lines(&table, width, unicode, |_| anstyle::Style::new()));
    }
    if parts.is_empty() {
        parts.push("nothing to do".to_owned());
    } else if !apply && !plan.incidents.is_empty() {
        parts.push("Nothing was changed; --apply does it.".to_owned());
    }
    let page = parts.join("\n\n");
    if unicode { page } else { text::to_ascii(&page) }
}

fn incident(incident: &Incident, width: usize, unicode: bool) -> String {
    let DeviceKey(device) = DeviceKey::of(&incident.finding);
    let title = format!(
        "{} {} on {device}: {} (rule {}, attempt {})",
        incident.id,
        incident.finding.fault,
        incident.state.name(),
        incident.rule,
        incident.attempt
    );
    let mut table = Table::new(&[
        ("STEP", Align::Left),
        ("TARGET", Align::Flexible),
        ("STATE", Align::Left),
        ("WHY", Align::Flexible),
    ]);
    for step in &incident.steps {
        let cells = [step.step.name(), &step.target, step.state.name(), &step.why];
        table.row(cells.map(str::to_owned));
    }
    let colour = |row: usize| match incident.steps.get(row).map(|step| step.state) {
        Some(StepState::Failed) => style::BAD,
        Some(StepState::Refused) => style::WARN,
        Some(StepState::Done) if incident.state == Standing::Restored => style::GOOD,
        _ => anstyle::Style::new(),
    };
    format!("{}\n{}", paint(style::STRONG, &text::plain(&title)), lines(&table, width, unicode, colour))
}

fn lines(table: &Table, width: usize, unicode: bool, colour: impl Fn(usize) -> anstyle::Style) -> String {
    let lines = table.render(width, unicode);
    let colours = std::iter::once(style::HEADER).chain((0..).map(colour));
    lines.iter().zip(colours).map(|(line, colour)| paint(colour, line)).collect::<Vec<_>>().join("\n")
}
