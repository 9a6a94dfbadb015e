//! A site's rule for objects of Kubernetes: what a condition or a field must be.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::path::{Path, text};

/// What must be true of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// A condition has this status.
    Condition {
        /// Its type: "Ready".
        kind: String,
        /// "True".
        status: String,
        /// It may be otherwise for so long.
        grace: SignedDuration,
    },
    /// A field is so.
    Field {
        /// Which.
        path: Path,
        /// What it must be.
        is: Comparison,
        /// What it counts as where it is not there.
        default: Option<Value>,
    },
}

/// What a field must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// One of these.
    OneOf(Vec<Value>),
    /// None of these.
    NoneOf(Vec<Value>),
    /// A number, at least this.
    AtLeast(f64),
    /// A number, at most this.
    AtMost(f64),
    /// The same as another field of the object.
    SameAs(Path),
}

/// What a test says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it must be.
    Fine,
    /// Not so, and what it is.
    Wrong(String),
    /// It can't be told, and why.
    Unknown(String),
}

/// Tests an object.
pub fn judge(test: &Test, object: &Value, now: Timestamp) -> Outcome {
    match test {
        Test::Condition { kind, status, grace } => condition(kind, status, *grace, object, now),
        Test::Field { path, is, default } => {
            let mut found = path.find(object);
            found.retain(|value| !value.is_null());
            if found.is_empty() {
                match default {
                    Some(default) => found.push(default),
                    None => return Outcome::Unknown(format!("it has no {path}")),
                }
            }
            let judged = found.into_iter().map(|value| is.judge(path, value, object));
            // The worst of them: wrong before unknown before fine.
            judged.fold(Outcome::Fine, |worst, next| match (&worst, &next) {
                (Outcome::Wrong(_), _) | (Outcome::Unknown(_), Outcome::Fine) => worst,
                _ => next,
            })
        }
    }
}

fn condition(kind: &str, status: &str, grace: SignedDuration, object: &Value, now: Timestamp) -> Outcome {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let is = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some(kind);
    let Some(found) = conditions.and_then(|conditions| conditions.iter().find(is)) else {
        return Outcome::Unknown(format!("it has no condition {kind}"));
    };
    let word = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    if word("status") == status {
        return Outcome::Fine;
    }
    let since = word("lastTransitionTime").parse::<Timestamp>().ok();
    if since.is_some_and(|since| now.duration_since(since) < grace) {
        return Outcome::Fine;
    }
    let words: Vec<&str> = [word("reason"), word("message")].into_iter().filter(|word| !word.is_empty()).collect();
    let more = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    Outcome::Wrong(format!("{kind} is {}{more}", word("status")))
}

impl Comparison {
    fn judge(&self, path: &Path, value: &Value, object: &Value) -> Outcome {
        let shown = text(value);
        let list = |wanted: &[Value]| wanted.iter().map(text).collect::<Vec<_>>().join(" or ");
        let (fine, wanted) = match self {
            Comparison::OneOf(wanted) => (wanted.iter().any(|wanted| same(wanted, value)), list(wanted)),
            Comparison::NoneOf(others) => {
                (!others.iter().any(|other| same(other, value)), format!("anything but {}", list(others)))
            }
            Comparison::AtLeast(least) => match number(value) {
                Some(number) => (number >= *least, format!("at least {least}")),
                None => return Outcome::Unknown(format!("{path} is {shown}, not a number")),
            },
            Comparison::AtMost(most) => match number(value) {
                Some(number) => (number <= *most, format!("at most {most}")),
                None => return Outcome::Unknown(format!("{path} is {shown}, not a number")),
            },
            Comparison::SameAs(other) => match other.find(object).first() {
                Some(wanted) => (same(wanted, value), format!("{} as {other}", text(wanted))),
                None => return Outcome::Unknown(format!("it has no {other}")),
            },
        };
        if fine { Outcome::Fine } else { Outcome::Wrong(format!("{path} is {shown}, not {wanted}")) }
    }
}

/// The same to people: `"3"` and `3`, `"True"` and `true`.
fn same(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => text(a) == text(b) || (a.is_boolean() || b.is_boolean()) && text(a).eq_ignore_ascii_case(&text(b)),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::at;
    use super::*;
    use serde_json::json;

    fn field(path: &str, is: Comparison) -> Test {
        Test::Field { path: path.parse().unwrap(), is, default: None }
    }

    #[test]
    fn a_condition_must_be_as_it_should() {
        let test = |grace| Test::Condition { kind: "Ready".into(), status: "True".into(), grace };
        let object = |status: &str| {
            json!({"status": {"conditions": [{"type": "Ready", "status": status, "reason": "Quota",
                "lastTransitionTime": at(-60).to_string()}]}})
        };
        let none = SignedDuration::ZERO;
        assert_eq!(judge(&test(none), &object("True"), at(0)), Outcome::Fine);
        assert_eq!(judge(&test(none), &object("False"), at(0)), Outcome::Wrong("Ready is False: Quota".into()));
        assert_eq!(judge(&test(SignedDuration::from_secs(90)), &object("False"), at(0)), Outcome::Fine);
        assert!(matches!(judge(&test(none), &json!({}), at(0)), Outcome::Unknown(_)));
    }

    #[test]
    fn a_field_must_be_as_it_should() {
        let object =
            json!({"spec": {"replicas": 3, "name": "a"}, "status": {"ready": 2, "up": true, "all": ["x", "y"]}});
        let fine = |test: &Test| judge(test, &object, at(0)) == Outcome::Fine;
        assert!(fine(&field("spec.replicas", Comparison::OneOf(vec![json!("3")]))));
        assert!(fine(&field("status.up", Comparison::OneOf(vec![json!("True")]))));
        assert!(fine(&field("status.ready", Comparison::AtLeast(2.0))));
        assert!(!fine(&field("status.ready", Comparison::AtMost(1.0))));
        assert!(fine(&field("status.all[*]", Comparison::NoneOf(vec![json!("z")]))));
        assert!(!fine(&field("status.all[*]", Comparison::NoneOf(vec![json!("y")]))));
        let same = field("status.ready", Comparison::SameAs("spec.replicas".parse().unwrap()));
        assert_eq!(judge(&same, &object, at(0)), Outcome::Wrong("status.ready is 2, not 3 as spec.replicas".into()));
        assert!(matches!(judge(&field("spec.name", Comparison::AtLeast(1.0)), &object, at(0)), Outcome::Unknown(_)));
        assert!(matches!(judge(&field("spec.no", Comparison::AtLeast(1.0)), &object, at(0)), Outcome::Unknown(_)));
        let absent =
            Test::Field { path: "spec.no".parse().unwrap(), is: Comparison::AtMost(0.0), default: Some(json!(0)) };
        assert_eq!(judge(&absent, &object, at(0)), Outcome::Fine);
    }
}
