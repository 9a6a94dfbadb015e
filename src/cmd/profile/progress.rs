//! Tells how a capture goes, on stderr.

use crate::profile::CaptureProgress;
use crate::trace::{LayerState, LayerStatus};
use crate::view::style::{self, paint};
use crate::view::{Progress, Ui, human, text};

/// Listens to a capture.
pub struct Teller<'u> {
    ui: &'u Ui,
    line: Progress,
    whole: Option<std::time::Duration>,
    /// A command is recorded: it writes to the same terminal, and has no libraries yet.
    command: bool,
}

impl<'u> Teller<'u> {
    /// Starts to tell of a capture of `what`, as long as `whole`.
    pub fn new(ui: &'u Ui, what: &str, whole: Option<std::time::Duration>, command: bool) -> Teller<'u> {
        let line = if command { Progress::hidden() } else { ui.progress() };
        line.set(&format!("attaching to {what}"));
        Teller { ui, line, whole, command }
    }

    /// Passes one piece of news on.
    pub fn tell(&mut self, news: &CaptureProgress<'_>) {
        match news {
            CaptureProgress::Attached { took, layers } => {
                let told = attached(self.ui, took.as_secs_f64(), layers, self.command);
                self.line.suspend(|| told.iter().for_each(|line| self.ui.note(line)));
            }
            CaptureProgress::Note { text, warns } => {
                let text = text::plain(text);
                self.line.suspend(|| match warns {
                    true => self.ui.warn(&text),
                    false if self.ui.verbose() > 0 => self.ui.note(&text),
                    false => {}
                });
            }
            CaptureProgress::Recording { elapsed, events, lost, overhead, processes } => {
                let of =
                    self.whole.map_or(String::new(), |whole| format!(" of {}", human::seconds(whole.as_secs_f64())));
                let lost = if *lost > 0 { format!(", {} lost", human::count(*lost)) } else { String::new() };
                let end = if self.whole.is_none() { " · Ctrl-C ends" } else { "" };
                self.line.set(&format!(
                    "recording {}{of} · {} events{lost} · overhead {} · {}{end}",
                    human::seconds((elapsed.as_secs_f64() * 10.0).round() / 10.0),
                    human::count(*events),
                    human::percent(*overhead),
                    human::plural(*processes as u64, "process", "processes"),
                ));
            }
        }
    }

    /// The capture is over.
    pub fn end(&self) {
        self.line.clear();
    }
}

/// One line for what is recorded, one for what is not and why.
fn attached(ui: &Ui, seconds: f64, layers: &[LayerStatus], command: bool) -> Vec<String> {
    let on: Vec<&str> = layers.iter().filter(|l| l.state == LayerState::On).map(|l| l.layer.as_str()).collect();
    let took = human::seconds(seconds);
    if command {
        return vec![format!("attached in {took}; libraries get their probes as they are loaded")];
    }
    let mut lines = vec![format!("attached in {took}: {}", on.join(", "))];
    for layer in layers.iter().filter(|l| l.state != LayerState::On) {
        let (word, style) = match layer.state {
            LayerState::Failed => ("failed", style::WARN),
            LayerState::Dropped => ("dropped", style::WARN),
            LayerState::On | LayerState::Absent => ("absent", style::FAINT),
        };
        let line = format!("  {} {word}: {}", layer.layer, text::plain(&layer.detail));
        lines.push(paint(style, &line));
    }
    if ui.verbose() > 0 {
        for layer in layers.iter().filter(|l| l.state == LayerState::On && !l.detail.is_empty()) {
            lines.push(paint(style::FAINT, &format!("  {}: {}", layer.layer, text::plain(&layer.detail))));
        }
    }
    lines
}

/// "process 7", "processes 7, 8 and 9".
pub fn pids(pids: &[u32]) -> String {
    let texts: Vec<String> = pids.iter().map(u32::to_string).collect();
    match texts.as_slice() {
        [] => "nothing".to_owned(),
        [one] => format!("process {one}"),
        [first @ .., last] => format!("processes {} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pids_read_as_a_sentence() {
        assert_eq!(super::pids(&[7]), "process 7");
        assert_eq!(super::pids(&[7, 8, 9]), "processes 7, 8 and 9");
    }
}
