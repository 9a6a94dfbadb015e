//! The part `kubernetes` of a check: which objects of a cluster, and what must be true of them.

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;

use super::super::super::values::Length;
use super::Meaning;
use crate::cluster::Kind;
use crate::fault::cluster::object::{Comparison, Test};
use crate::fault::cluster::path::Path;

/// A check of objects.
#[derive(Debug)]
pub struct ObjectCheck {
    /// Its name.
    pub name: String,
    /// Which objects.
    pub kind: Kind,
    /// Of this namespace only.
    pub namespace: Option<String>,
    /// With these labels only.
    pub selector: Option<String>,
    /// What must be true of each.
    pub test: Test,
    /// Where an object names the node that it is about.
    pub node: Option<Path>,
    /// What it means if there is none.
    pub none: Meaning,
    /// The fault that it is.
    pub fault: String,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    selector: Option<String>,
    #[serde(default)]
    condition: Option<WrittenCondition>,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    equals: Option<Value>,
    #[serde(default)]
    not: Option<Value>,
    #[serde(default)]
    one_of: Option<Vec<Value>>,
    #[serde(default)]
    none_of: Option<Vec<Value>>,
    #[serde(default)]
    at_least: Option<f64>,
    #[serde(default)]
    at_most: Option<f64>,
    #[serde(default)]
    same_as: Option<String>,
    #[serde(default)]
    default: Option<Value>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    none: Option<Meaning>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    #[serde(rename = "type")]
    kind: String,
    status: Value,
    #[serde(default, rename = "for")]
    grace: Option<Length>,
}

impl Written {
    pub fn check(self, name: String, fault: String) -> Result<ObjectCheck, String> {
        if self.api_version.is_empty() || self.kind.is_empty() {
            return Err("kubernetes needs apiVersion and kind".to_owned());
        }
        let node = self.node.as_deref().map(str::parse::<Path>).transpose()?;
        let comparison = self.comparison()?;
        let test = match (self.condition, self.field, comparison) {
            (Some(condition), None, None) => {
                if self.default.is_some() {
                    return Err("default is of a field, not of a condition".to_owned());
                }
                let grace = condition.grace.map_or(Ok(SignedDuration::ZERO), |length| {
                    SignedDuration::try_from(length.0).map_err(|_| "for is too long".to_owned())
                })?;
                Test::Condition { kind: condition.kind, status: status(&condition.status)?, grace }
            }
            (None, Some(field), Some(is)) => Test::Field { path: field.parse()?, is, default: self.default },
            (None, Some(field), None) => {
                return Err(format!(
                    "what must {field} be? equals, not, one_of, none_of, at_least, at_most or same_as says it"
                ));
            }
            (Some(_), Some(_), _) => return Err("it has a condition and a field; one will do".to_owned()),
            (Some(_), None, Some(_)) => return Err("a condition has its status, and needs no comparison".to_owned()),
            (None, None, _) => return Err("kubernetes has neither a condition nor a field".to_owned()),
        };
        Ok(ObjectCheck {
            name,
            kind: Kind { api_version: self.api_version, kind: self.kind },
            namespace: self.namespace,
            selector: self.selector,
            test,
            node,
            none: self.none.unwrap_or(Meaning::Skipped),
            fault,
        })
    }

    fn comparison(&self) -> Result<Option<Comparison>, String> {
        let mut said = Vec::new();
        said.extend(self.equals.clone().map(|value| Comparison::OneOf(vec![value])));
        said.extend(self.not.clone().map(|value| Comparison::NoneOf(vec![value])));
        said.extend(self.one_of.clone().map(Comparison::OneOf));
        said.extend(self.none_of.clone().map(Comparison::NoneOf));
        said.extend(self.at_least.map(Comparison::AtLeast));
        said.extend(self.at_most.map(Comparison::AtMost));
        if let Some(other) = &self.same_as {
            said.push(Comparison::SameAs(other.parse()?));
        }
        match said.len() {
            0 | 1 => Ok(said.pop()),
            _ => Err("it compares in two ways; write two checks".to_owned()),
        }
    }
}

/// YAML takes `True` without quotes for a truth value.
fn status(value: &Value) -> Result<String, String> {
    match value {
        Value::Bool(true) => Ok("True".to_owned()),
        Value::Bool(false) => Ok("False".to_owned()),
        Value::String(text) if matches!(text.as_str(), "True" | "False" | "Unknown") => Ok(text.clone()),
        _ => Err("the status of a condition is True, False or Unknown".to_owned()),
    }
}
