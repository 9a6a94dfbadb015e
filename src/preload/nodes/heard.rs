//! What a node says of itself: the JSON lines of its pod's output. Lines of a pod are hostile: numbers
//! are taken from them, and texts are cleaned before anyone sees them.

use std::collections::HashMap;

use serde::Deserialize;

/// Lines kept for whoever asks why.
const TAIL: usize = 8;
/// Characters kept of a line.
const LONGEST: usize = 300;
/// Files that are told apart; of a model with more, progress comes from the rest of the events.
const MOST_FILES: usize = 100_000;

/// How far a node is, by its own words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heard {
    /// Bytes of sources that were planned.
    pub bytes: u64,
    /// Bytes that are there.
    pub have_bytes: u64,
    /// Bytes that came from the source.
    pub fetched_bytes: u64,
    /// Bytes that came from other nodes.
    pub peer_bytes: u64,
    /// The models, once all is said.
    pub models: Option<serde_json::Value>,
    /// Files on their way.
    files: HashMap<String, u64>,
    /// Lines that are no events.
    tail: Vec<String>,
    document: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    schema: String,
    event: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    have_bytes: u64,
    #[serde(default)]
    fetched_bytes: u64,
    #[serde(default)]
    peer_bytes: u64,
    #[serde(default)]
    why: String,
}

impl Heard {
    /// Takes a line.
    pub fn line(&mut self, line: &str) {
        if let Some(document) = &mut self.document {
            document.push_str(line);
            if line == "]" {
                self.models = self.document.take().and_then(|text| serde_json::from_str(&text).ok());
            } else if document.len() > 16 << 20 {
                self.document = None;
            }
            return;
        }
        if line == "[" {
            self.document = Some("[".to_owned());
            return;
        }
        let read = serde_json::from_str::<Line>(line).ok().filter(|line| line.schema == "aictl.preload-event/v1");
        let Some(said) = read else {
            self.keep(line);
            return;
        };
        match said.event.as_str() {
            "planned" => {
                self.bytes = self.bytes.saturating_add(said.bytes);
                self.have_bytes = self.have_bytes.saturating_add(said.have_bytes).min(self.bytes);
            }
            "file_started" | "progress" | "part_done" => self.file(said.name, said.have_bytes),
            "file_done" => self.file(said.name, said.bytes),
            "changed" => self.file(said.name, 0),
            "retry" => self.keep(&said.why),
            "finished" => {
                self.fetched_bytes = self.fetched_bytes.saturating_add(said.fetched_bytes);
                self.peer_bytes = self.peer_bytes.saturating_add(said.peer_bytes);
                self.files.clear();
            }
            _ => {}
        }
    }

    fn file(&mut self, name: String, bytes: u64) {
        if self.files.len() >= MOST_FILES {
            return;
        }
        let before = self.files.insert(name, bytes).unwrap_or(0);
        self.have_bytes = self.have_bytes.saturating_add(bytes).saturating_sub(before).min(self.bytes);
    }

    fn keep(&mut self, line: &str) {
        let clean: String = line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        if clean.trim().is_empty() {
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.remove(0);
        }
        self.tail.push(clean);
    }

    /// Why it failed, as far as it said: its error and what it adds to it.
    pub fn why(&self) -> Option<String> {
        let error = self.tail.iter().rposition(|line| line.starts_with("error: "));
        let lines = match error {
            Some(at) => &self.tail[at..],
            None => self.tail.get(self.tail.len().checked_sub(1)?..)?,
        };
        let text = lines.iter().map(|line| line.trim_start_matches("error: ").trim()).collect::<Vec<_>>().join("; ");
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Heard {
        let mut heard = Heard::default();
        lines.iter().for_each(|line| heard.line(line));
        heard
    }

    fn event(rest: &str) -> String {
        format!(r#"{{"schema":"aictl.preload-event/v1","at":"2026-01-01T00:00:00Z",{rest}}}"#)
    }

    #[test]
    fn progress_and_the_models_are_heard() {
        let lines = [
            event(r#""event":"planned","source":"hf://a/b","revision":"r","files":2,"bytes":100,"have_bytes":10"#),
            event(r#""event":"file_started","name":"x","bytes":60,"have_bytes":0"#),
            event(r#""event":"progress","name":"x","bytes":60,"have_bytes":30"#),
            event(r#""event":"progress","name":"x","bytes":60,"have_bytes":40"#),
        ];
        let mut heard = heard(&lines.each_ref().map(String::as_str));
        assert_eq!((heard.bytes, heard.have_bytes), (100, 50));
        heard.line(&event(r#""event":"finished","fetched_bytes":70,"peer_bytes":20,"seconds":1.0"#));
        for line in ["[", "  {\"schema\": \"aictl.model/v1\"}", "]"] {
            heard.line(line);
        }
        assert_eq!((heard.fetched_bytes, heard.peer_bytes), (70, 20));
        assert_eq!(heard.models.unwrap()[0]["schema"], "aictl.model/v1");
    }

    #[test]
    fn why_it_failed_is_its_last_error() {
        let heard = heard(&["warn", "error: cannot read a: HTTP 500", "hint: run \u{1b}[31mthe same again", ""]);
        assert_eq!(heard.why().unwrap(), "cannot read a: HTTP 500; hint: run [31mthe same again");
        assert_eq!(Heard::default().why(), None);
    }

    #[test]
    fn numbers_that_lie_do_no_harm() {
        let huge = event(&format!(r#""event":"planned","bytes":{0},"have_bytes":{0}"#, u64::MAX));
        let heard =
            heard(&[&huge, &huge, &event(&format!(r#""event":"progress","name":"x","have_bytes":{}"#, u64::MAX))]);
        assert_eq!(heard.have_bytes, u64::MAX);
    }
}
