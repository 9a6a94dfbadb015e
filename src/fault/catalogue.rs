//! The catalogue: what each fault is, how bad, how far it reaches and what is to be done.
//!
//! Data, not code: YAML files of the project, built in, and files of a site that override or
//! extend them, entry by entry and key by key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::limits::Limits;

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For the record.
    Info,
    /// Deserves a look.
    Warning,
    /// Something does not work.
    Error,
    /// Work is lost, or about to be.
    Critical,
}

impl Severity {
    /// Name as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// Severity in the catalogue: one of [`Severity`], or what the line itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rating {
    /// As [`Severity::Info`].
    Info,
    /// As [`Severity::Warning`].
    Warning,
    /// As [`Severity::Error`].
    Error,
    /// As [`Severity::Critical`].
    Critical,
    /// Fatal in the line is critical, anything else a warning.
    ByLine,
}

impl Rating {
    /// The severity of an event whose line says that it is fatal, is not, or does not say.
    pub fn of(self, fatal: Option<bool>) -> Severity {
        match self {
            Rating::Info => Severity::Info,
            Rating::Warning => Severity::Warning,
            Rating::Error => Severity::Error,
            Rating::Critical => Severity::Critical,
            Rating::ByLine if fatal == Some(true) => Severity::Critical,
            Rating::ByLine => Severity::Warning,
        }
    }
}

/// What kind of thing is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// A GPU or NVSwitch.
    Gpu,
    /// A network adapter.
    Nic,
    /// The machine.
    Node,
    /// Software that serves the GPUs: plugins, drivers in pods.
    Addon,
    /// A job.
    Job,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name: "xid-79".
    pub fault: String,
    /// Number of an Xid or SXid.
    #[serde(default)]
    pub code: Option<u32>,
    /// The driver's own name for it.
    #[serde(default)]
    pub name: String,
    /// A few words.
    pub title: String,
    /// What is hit.
    pub component: Component,
    /// How bad.
    pub severity: Rating,
    /// How far it reaches: "process", "gpu", "gpu+nvlink_peer", "node".
    pub scope: String,
    /// The bucket of actions: "RESET_GPU".
    pub action: String,
    /// What to do if it comes back.
    #[serde(default)]
    pub then: Option<String>,
    /// One or two sentences to act on.
    #[serde(default)]
    pub explain: String,
    /// A family that explains it, where it has no words of its own.
    #[serde(default)]
    pub family: Option<String>,
    /// Where authorities disagree.
    #[serde(default)]
    pub disputed: Option<String>,
    /// The driver never prints it.
    #[serde(default)]
    pub unused: bool,
    /// What it is under circumstances.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// What it becomes when it comes often.
    #[serde(default)]
    pub escalate: Option<Escalation>,
    /// A site decided on severity or action: no rule changes them.
    #[serde(skip)]
    pub decided: bool,
    /// Where this comes from.
    pub source: String,
}

/// A rate from which on a fault is graver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Escalation {
    /// So many times.
    pub count: u32,
    /// Within so many seconds.
    pub within_s: u32,
    /// How bad it is then.
    pub severity: Rating,
    /// The bucket of actions then.
    pub action: String,
}

/// What a fault is under circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Which: "solo", "repeat", "not_solo", "with_63_64", "0x1".
    pub when: String,
    /// A few words.
    pub title: String,
    /// How bad.
    pub severity: Rating,
    /// How far it reaches.
    pub scope: String,
    /// The bucket of actions.
    pub action: String,
    /// What to do if it comes back.
    #[serde(default)]
    pub then: Option<String>,
    /// One or two sentences to act on.
    #[serde(default)]
    pub explain: String,
}

/// A site's change to an entry; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Change {
    fault: String,
    code: Option<u32>,
    name: Option<String>,
    title: Option<String>,
    component: Option<Component>,
    severity: Option<Rating>,
    scope: Option<String>,
    action: Option<String>,
    then: Option<String>,
    explain: Option<String>,
    escalate: Option<Escalation>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Family {
    family: String,
    explain: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    fault: String,
    escalate: Escalation,
}

/// Why a catalogue can't be used.
#[derive(Debug, Error)]
pub enum CatalogueError {
    /// Not the YAML that is asked for.
    #[error("{file}: not a catalogue")]
    Yaml {
        /// Which file.
        file: String,
        /// What is wrong, with the line.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A new entry lacks what every entry must have.
    #[error("{file}: {fault} is not in the catalogue, and needs {missing} to be added")]
    Incomplete {
        /// Which file.
        file: String,
        /// Which entry.
        fault: String,
        /// Which key.
        missing: &'static str,
    },
}

/// All faults, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
    families: BTreeMap<String, String>,
    limits: Limits,
}

impl Catalogue {
    /// The project's own.
    ///
    /// # Errors
    /// Never, in a build whose tests passed.
    pub fn embedded() -> Result<Catalogue, CatalogueError> {
        let mut catalogue = Catalogue::default();
        for (file, text) in [
            ("xid.yaml", include_str!("catalogue/xid.yaml")),
            ("sxid.yaml", include_str!("catalogue/sxid.yaml")),
            ("other.yaml", include_str!("catalogue/other.yaml")),
        ] {
            let entries: Vec<Entry> = yaml(file, text)?;
            catalogue.entries.extend(entries.into_iter().map(|entry| (entry.fault.clone(), entry)));
        }
        for rate in yaml::<Rate>("rates.yaml", include_str!("catalogue/rates.yaml"))? {
            if let Some(entry) = catalogue.entries.get_mut(&rate.fault) {
                entry.escalate = Some(rate.escalate);
            }
        }
        let families: Vec<Family> = yaml("families.yaml", include_str!("catalogue/families.yaml"))?;
        catalogue.families = families.into_iter().map(|family| (family.family, family.explain)).collect();
        Ok(catalogue)
    }

    /// Applies a site's file: a list of entries, each with at least `fault`.
    ///
    /// # Errors
    /// If it is no such list, or a new entry is not whole. The catalogue is then unchanged.
    pub fn extend(&mut self, file: &str, text: &str) -> Result<(), CatalogueError> {
        let changes: Vec<Change> = yaml(file, text)?;
        let mut entries = self.entries.clone();
        for change in changes {
            let fault = change.fault.to_ascii_lowercase();
            let entry = match entries.remove(&fault) {
                Some(known) => known.changed(change, file),
                None => Entry::made(change, file)?,
            };
            entries.insert(fault, entry);
        }
        self.entries = entries;
        Ok(())
    }

    /// Adds an entry; gives it back if there is one of its name.
    ///
    /// # Errors
    /// The entry, if its name is taken.
    pub fn add(&mut self, entry: Entry) -> Result<(), Box<Entry>> {
        if self.entries.contains_key(&entry.fault) {
            return Err(Box::new(entry));
        }
        self.entries.insert(entry.fault.clone(), entry);
        Ok(())
    }

    /// Where soft faults begin.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A site's limits, in place of those there were.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// One entry.
    pub fn get(&self, fault: &str) -> Option<&Entry> {
        self.entries.get(fault)
    }

    /// All entries, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The words that explain an entry.
    pub fn explain<'c>(&'c self, entry: &'c Entry) -> &'c str {
        if !entry.explain.is_empty() {
            return &entry.explain;
        }
        entry.family.as_ref().and_then(|family| self.families.get(family)).map_or("", String::as_str)
    }
}

impl Entry {
    fn changed(self, change: Change, file: &str) -> Entry {
        Entry {
            code: change.code.or(self.code),
            name: change.name.unwrap_or(self.name),
            title: change.title.unwrap_or(self.title),
            component: change.component.unwrap_or(self.component),
            decided: self.decided || change.action.is_some() || change.severity.is_some(),
            severity: change.severity.unwrap_or(self.severity),
            scope: change.scope.unwrap_or(self.scope),
            action: change.action.unwrap_or(self.action),
            then: change.then.or(self.then),
            explain: change.explain.unwrap_or(self.explain),
            escalate: change.escalate.or(self.escalate),
            source: change.source.unwrap_or_else(|| format!("{}; changed by {file}", self.source)),
            ..self
        }
    }

    fn made(change: Change, file: &str) -> Result<Entry, CatalogueError> {
        let fault = change.fault.to_ascii_lowercase();
        let lacks = |missing| CatalogueError::Incomplete { file: file.to_owned(), fault: fault.clone(), missing };
        if fault.is_empty() {
            return Err(lacks("fault"));
        }
        let source = change.source.unwrap_or_else(|| file.to_owned());
        let title = change.title.ok_or_else(|| lacks("title"))?;
        let component = change.component.ok_or_else(|| lacks("component"))?;
        let severity = change.severity.ok_or_else(|| lacks("severity"))?;
        Ok(Entry {
            action: change.action.ok_or_else(|| lacks("action"))?,
            code: change.code,
            name: change.name.unwrap_or_default(),
            scope: change.scope.unwrap_or_else(|| "none".to_owned()),
            then: change.then,
            explain: change.explain.unwrap_or_default(),
            escalate: change.escalate,
            ..Entry::of_site(fault.clone(), title, component, severity, source)
        })
    }

    /// An entry of a site's own: what nobody has thought of is not acted on by itself, and no rule
    /// of ours changes it.
    pub fn of_site(fault: String, title: String, component: Component, severity: Rating, source: String) -> Entry {
        Entry {
            fault,
            code: None,
            name: String::new(),
            title,
            component,
            severity,
            scope: "node".to_owned(),
            action: "INVESTIGATE".to_owned(),
            then: None,
            explain: String::new(),
            family: None,
            disputed: None,
            unused: false,
            variants: Vec::new(),
            escalate: None,
            decided: true,
            source,
        }
    }

    /// What it is under circumstances.
    pub fn variant(&self, when: &str) -> Option<&Variant> {
        self.variants.iter().find(|variant| variant.when == when)
    }
}

pub(super) fn yaml<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<Vec<T>, CatalogueError> {
    // An empty file, or one of comments alone, changes nothing.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    serde_yaml::from_str(text).map_err(|error| CatalogueError::Yaml { file: file.to_owned(), source: Box::new(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The buckets that entries may name.
    const ACTIONS: [&str; 36] = [
        "NONE",
        "IGNORE",
        "RECORD",
        "CLEAR",
        "RESTART_APP",
        "RESTART_SERVICE",
        "RESTART_POD",
        "RESTART_DEVICE_PLUGIN",
        "RESTART_DCGM",
        "RESTART_FM",
        "RESET_GPU",
        "DRAIN_AND_RESET",
        "DRAIN_P2P",
        "DRAIN",
        "CORDON",
        "RESTART_VM",
        "RESTART_BM",
        "REPLACE_VM",
        "CONTACT_SUPPORT",
        "RUN_DIAG",
        "RUN_FIELDDIAG",
        "CHECK_MECHANICALS",
        "CHECK_APP",
        "CHECK_UVM",
        "UPDATE_SWFW",
        "ENABLE_ECC",
        "RECONFIGURE",
        "CLEAN",
        "TUNE",
        "INVESTIGATE",
        "DIAGNOSE",
        "BY_LINE",
        "WORKFLOW_XID_45",
        "WORKFLOW_XID_48",
        "WORKFLOW_NVLINK_ERR",
        "WORKFLOW_NVLINK5_ERR",
    ];

    #[test]
    fn the_catalogue_is_whole() {
        let catalogue = Catalogue::embedded().unwrap();
        assert!(catalogue.iter().count() > 650);
        for entry in catalogue.iter() {
            let words = catalogue.explain(entry);
            assert!(words.len() > 40, "{} is not explained: {words:?}", entry.fault);
            assert!(!entry.title.is_empty() && !entry.source.is_empty(), "{}", entry.fault);
            let actions = [Some(&entry.action), entry.then.as_ref()].into_iter().flatten();
            let actions = actions.chain(entry.variants.iter().map(|variant| &variant.action));
            for action in actions {
                assert!(ACTIONS.contains(&action.as_str()) || action == "XID_154", "{}: {action}", entry.fault);
            }
            if let Some(code) = entry.code {
                assert!(entry.fault.ends_with(&format!("xid-{code}")), "{}", entry.fault);
            }
        }
    }

    #[test]
    fn every_sign_is_in_the_catalogue() {
        let catalogue = Catalogue::embedded().unwrap();
        for fault in crate::fault::log::sign_names() {
            assert!(catalogue.get(fault).is_some(), "{fault}");
        }
    }

    #[test]
    fn a_site_overrides_and_extends() {
        let mut catalogue = Catalogue::embedded().unwrap();
        let site = "- fault: xid-63\n  action: RESET_GPU\n  severity: critical\n\
                    - {fault: rack-door, title: Door open, component: node, severity: info, action: RECORD}\n";
        catalogue.extend("site.yaml", site).unwrap();
        let changed = catalogue.get("xid-63").unwrap();
        assert_eq!((changed.action.as_str(), changed.severity), ("RESET_GPU", Rating::Critical));
        assert!(changed.source.ends_with("changed by site.yaml"));
        assert_eq!(catalogue.get("rack-door").unwrap().scope, "none");
        assert!(catalogue.extend("x.yaml", "- {fault: new-one}").unwrap_err().to_string().contains("needs title"));
        assert!(catalogue.extend("x.yaml", "- {fault: xid-79, acton: X}").is_err());
        catalogue.extend("empty.yaml", "# nothing\n").unwrap();
    }
}
