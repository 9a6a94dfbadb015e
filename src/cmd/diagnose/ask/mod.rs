//! `--ask`: a model's word about the root cause, beside the findings. What is sent has no names and
//! no secrets; what comes back is shown as the model's, and nothing follows from it.

mod endpoint;

use std::io;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::super::env;
use super::super::error::Error;
use super::super::settings::{OutputFormat, Settings};
use super::super::values::Length;
use crate::fault::ask::{Case, Hidden, Question};
use crate::fault::cluster::Fleet;
use crate::fault::{Catalogue, Findings, Severity};
use crate::host::machine;
use crate::view::style::{self, paint};
use crate::view::{Ui, text};
use endpoint::Endpoint;

/// Longest time for an answer, unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Whether anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// Ask
    Send,
    /// Say what would be sent, and to whom; send nothing
    Show,
}

/// Who is asked.
#[derive(Debug)]
pub struct Asker {
    how: How,
    endpoint: Option<Endpoint>,
    model: Option<String>,
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Asked<'q> {
    /// Whether anything was sent.
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'q str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'q str>,
    /// Pages of the knowledge base that went with it.
    pages: &'q [String],
    /// The model's words: no finding of aictl's, and nothing to act on unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What would be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Value>,
    /// What stands for what in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hidden: Vec<StandIn<'q>>,
}

/// A stand-in for a name.
#[derive(Debug, Serialize)]
struct StandIn<'q> {
    #[serde(rename = "as")]
    word: String,
    is: &'q str,
}

/// A report, and what was asked about it.
#[derive(Serialize)]
struct WithAnswer<'r, T: Serialize> {
    #[serde(flatten)]
    report: &'r T,
    /// Null if there was nothing to ask about.
    asked: Option<Asked<'r>>,
}

impl Asker {
    /// Who is meant, by the environment and the configuration.
    ///
    /// # Errors
    /// If that is nobody, and something is to be sent.
    pub fn of(how: How, settings: &Settings) -> Result<Asker, Error> {
        if settings.output == OutputFormat::Name {
            return Err(Error::usage("--ask has no place for an answer with -o name"));
        }
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let config = &settings.config.ask;
        let url = set(env::ASK_URL).or_else(|| config.url.clone());
        let model = set(env::ASK_MODEL).or_else(|| config.model.clone());
        let lacks = |what: &str, name: &str| {
            let hint = format!("set {name}, or `ask` in the configuration; --ask=show shows what would be sent");
            Error::usage(format!("--ask: {what}")).hint(hint)
        };
        if how == How::Send && url.is_none() {
            return Err(lacks("nobody to ask", env::ASK_URL));
        }
        if how == How::Send && model.is_none() {
            return Err(lacks("no model", env::ASK_MODEL));
        }
        let timeout = match set(env::ASK_TIMEOUT) {
            Some(text) => text
                .parse::<Length>()
                .map_err(|why| Error::usage(format!("{}={}: {why}", env::ASK_TIMEOUT, text::plain(&text))))?,
            None => config.timeout.unwrap_or(Length(TIMEOUT)),
        };
        let file = set(env::ASK_KEY_FILE).map(Into::into).or_else(|| config.key_file.clone());
        let key = match (set(env::ASK_KEY), file) {
            (Some(key), _) => Some(key),
            (None, Some(path)) if how == How::Send => Some(std::fs::read_to_string(&path).map_err(|error| {
                Error::usage(format!("--ask: cannot read the key in {}", path.display())).because(error)
            })?),
            (None, _) => None,
        };
        let endpoint = url.map(|url| Endpoint::new(&url, key.as_deref(), timeout.0)).transpose();
        let endpoint = endpoint.map_err(|why| Error::usage(format!("--ask: {why}")))?;
        Ok(Asker { how, endpoint, model })
    }

    /// Asks, or says what would be asked.
    fn ask<'q>(&'q self, question: &'q Question, ui: &Ui) -> Asked<'q> {
        let model = self.model.as_deref();
        let request = endpoint::request(model.unwrap_or("MODEL"), &question.text);
        let mut asked = Asked {
            sent: self.how == How::Send,
            url: self.endpoint.as_ref().map(Endpoint::url),
            model,
            pages: &question.pages,
            answer: None,
            error: None,
            request: None,
            hidden: Vec::new(),
        };
        match (self.how, &self.endpoint) {
            (How::Send, Some(endpoint)) => {
                let progress = ui.progress();
                progress.set(&format!("asking {}", model.unwrap_or_default()));
                match endpoint.ask(&request) {
                    Ok(answer) => asked.answer = Some(lines(&question.reveal(&answer))),
                    Err(error) => asked.error = Some(text::plain(&error)),
                }
            }
            _ => {
                asked.request = Some(request);
                asked.hidden = question.hidden().map(|(word, is)| StandIn { word, is }).collect();
            }
        }
        asked
    }
}

/// Prints a report by `print`, or for programs as it is; with what a model says about it, if one is
/// asked.
pub fn say<T: Serialize>(
    report: &T,
    asker: Option<&Asker>,
    question: impl FnOnce() -> Option<Question>,
    settings: &Settings,
    print: impl FnOnce(&Ui) -> io::Result<()>,
) -> Result<(), Error> {
    let ui = &settings.ui;
    let Some(asker) = asker else {
        return match settings.output {
            OutputFormat::Json => ui.json(report),
            OutputFormat::Yaml => ui.yaml(report),
            _ => print(ui),
        }
        .map_err(Error::output);
    };
    if !matches!(settings.output, OutputFormat::Json | OutputFormat::Yaml) {
        // The findings do not wait for a model.
        print(ui).map_err(Error::output)?;
        let Some(question) = question() else { return Ok(()) };
        let asked = asker.ask(&question, ui);
        if let Some(error) = &asked.error {
            ui.warn(&format!("nobody answered: {error}"));
            return Ok(());
        }
        let page = format!("\n{}", page(&asked, &question, ui.width()));
        return ui.print(&if ui.unicode() { page } else { text::to_ascii(&page) }).map_err(Error::output);
    }
    let question = question();
    let asked = question.as_ref().map(|question| asker.ask(question, ui));
    if let Some(error) = asked.as_ref().and_then(|asked| asked.error.as_ref()) {
        ui.warn(&format!("nobody answered: {error}"));
    }
    let report = WithAnswer { report, asked };
    match settings.output {
        OutputFormat::Json => ui.json(&report),
        _ => ui.yaml(&report),
    }
    .map_err(Error::output)
}

/// The answer for people, or what would be sent.
fn page(asked: &Asked<'_>, question: &Question, width: usize) -> String {
    let wrapped = |words: &str| {
        let lines: Vec<String> = words.lines().map(|line| wrap(line, width)).collect();
        lines.join("\n")
    };
    let model = text::plain(asked.model.unwrap_or("a model"));
    if let Some(answer) = &asked.answer {
        let head = paint(style::HEADER, &format!("{model} says"));
        let note = "A model's words, not aictl's: they may be wrong, and nothing follows from them.";
        return format!("{head}\n{}\n{}", paint(style::FAINT, &text::wrap("", note, width)), wrapped(answer));
    }
    let head = match asked.url {
        Some(url) => format!("would be sent to {}, for {model}", text::plain(url)),
        None => "would be sent, once AICTL_ASK_URL and AICTL_ASK_MODEL say to whom".to_owned(),
    };
    let mut parts = vec![paint(style::HEADER, &head)];
    let system = lines(crate::fault::ask::SYSTEM);
    parts.extend([wrapped(&system), String::new(), wrapped(&lines(&question.text))]);
    let stand_ins: Vec<String> =
        asked.hidden.iter().map(|hidden| format!("{} is {}", hidden.word, text::plain(hidden.is))).collect();
    if !stand_ins.is_empty() {
        parts.push(format!("\n{}", paint(style::HEADER, "would not be sent")));
        parts.push(stand_ins.join("\n"));
    }
    parts.join("\n")
}

/// A line of somebody's text, wrapped below its own beginning.
fn wrap(line: &str, width: usize) -> String {
    let words = line.trim_start();
    let indent = (line.len() - words.len()).min(width / 2);
    text::wrap(&" ".repeat(indent), words, width)
}

/// Several lines with nothing in them that a terminal would act on.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.trim().lines().map(|line| text::plain(&line.replace('\t', "    "))).collect();
    lines.join("\n")
}

/// A question about one machine; `None` if there is nothing to ask about.
pub fn of_node(findings: &Findings, catalogue: &Catalogue) -> Option<Question> {
    let node = findings.node.as_deref();
    let serious = findings.findings.iter().filter(|finding| finding.severity > Severity::Info);
    let cases: Vec<Case<'_>> = serious.map(|finding| (node, finding)).collect();
    let checks: Vec<_> = findings.checks.iter().map(|check| (None, check)).collect();
    let names = [node.map(str::to_owned), Some(machine::node_name())].into_iter().flatten();
    Question::about(&cases, &checks, names.map(|name| (Hidden::Node, name)).collect(), catalogue)
}

/// A question about a cluster.
pub fn of_fleet(fleet: &Fleet, catalogue: &Catalogue) -> Option<Question> {
    let mut cases: Vec<Case<'_>> = fleet.findings.iter().map(|finding| (None, finding)).collect();
    let mut checks: Vec<_> = fleet.checks.iter().map(|check| (None, check)).collect();
    for node in &fleet.nodes {
        cases.extend(node.findings.findings.iter().map(|finding| (Some(node.name()), finding)));
        checks.extend(node.findings.checks.iter().map(|check| (Some(node.name()), check)));
    }
    cases.retain(|(_, finding)| finding.severity > Severity::Info);
    cases.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.severity));
    let mut names: Vec<(Hidden, String)> =
        fleet.nodes.iter().map(|node| (Hidden::Node, node.name().to_owned())).collect();
    names.push((Hidden::Name, fleet.cluster.clone()));
    names.push((Hidden::Host, machine::node_name()));
    Question::about(&cases, &checks, names, catalogue)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_text_and_nothing_else() {
        assert_eq!(lines("a\u{1b}[2Jb\r\n\tc\u{7}\u{202e}\n"), "a?[2Jb\n    c??");
        assert_eq!(wrap("  - one two three", 12), "  - one two\n  three");
    }
}
