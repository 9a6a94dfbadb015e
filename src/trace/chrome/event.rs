//! One event of the Trace Event Format, borrowed from its text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A scalar as it stands in the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Scalar<'a> {
    /// null, or nothing at all.
    #[default]
    Missing,
    Bool(bool),
    U64(u64),
    I64(i64),
    F64(f64),
    Text(Cow<'a, str>),
    /// An object or a list, which no scalar is.
    Nested,
}

impl Scalar<'_> {
    /// The text; empty for anything else.
    pub fn text(&self) -> &str {
        if let Scalar::Text(text) = self { text } else { "" }
    }

    /// The number, also where it stands in quotes.
    pub fn u64(&self) -> Option<u64> {
        match self {
            Scalar::U64(n) => Some(*n),
            Scalar::I64(n) => u64::try_from(*n).ok(),
            Scalar::F64(n) if *n >= 0.0 && n.fract() == 0.0 => Some(*n as u64),
            Scalar::Text(text) => text.parse().ok(),
            _ => None,
        }
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Missing)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::U64(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::I64(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::F64(value))
    }
    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }
    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Nested)
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A key of an object.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(ScalarVisitor)? {
            Scalar::Text(text) => Ok(Key(text)),
            _ => Err(serde::de::Error::custom("a key is no text")),
        }
    }
}

/// Members of an object in their order; keys may come twice.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// A scalar member.
    pub fn get(&self, key: &str) -> Scalar<'a> {
        self.0.iter().find(|(k, _)| k == key).map_or(Scalar::Missing, |(_, value)| scalar(value))
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Key(key), value)) = map.next_entry()? {
            members.push((key, value));
        }
        Ok(Members(members))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The value behind a member's text.
pub(super) fn scalar(raw: &RawValue) -> Scalar<'_> {
    let text = raw.get();
    if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        // The standard library reads a fraction to its last bit; serde_json, as built here, does not.
        return (text.parse().map(Scalar::U64))
            .or_else(|_| text.parse().map(Scalar::I64))
            .or_else(|_| text.parse().map(Scalar::F64))
            .unwrap_or_default();
    }
    serde_json::from_str(text).unwrap_or_default()
}

/// One event; what it lacks is missing.
#[derive(Debug, Default)]
pub(super) struct JsonEvent<'a> {
    pub ph: Scalar<'a>,
    pub cat: Scalar<'a>,
    pub name: Scalar<'a>,
    pub pid: Scalar<'a>,
    pub tid: Scalar<'a>,
    pub id: Scalar<'a>,
    pub ts: Option<&'a RawValue>,
    pub dur: Option<&'a RawValue>,
    pub args: Option<&'a RawValue>,
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = JsonEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut event = JsonEvent::default();
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "ph" => event.ph = map.next_value()?,
                "cat" => event.cat = map.next_value()?,
                "name" => event.name = map.next_value()?,
                "pid" => event.pid = map.next_value()?,
                "tid" => event.tid = map.next_value()?,
                "id" | "id2" | "bind_id" => event.id = map.next_value()?,
                "ts" => event.ts = Some(map.next_value()?),
                "dur" => event.dur = Some(map.next_value()?),
                "args" => event.args = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(event)
    }
}

impl<'de> Deserialize<'de> for JsonEvent<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

/// Microseconds in decimal, exactly, as ns. A fraction of a double has too few digits for an
/// absolute time of today, so the text itself is read.
pub(super) fn micros(raw: Option<&RawValue>) -> Option<i128> {
    let text = raw?.get().trim_matches('"').trim();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 30 || !all_digits(whole) || !all_digits(fraction) {
        // An exponent, most likely.
        let value: f64 = digits.parse().ok().filter(|v: &f64| v.is_finite())?;
        let ns = (value * 1000.0).round() as i128;
        return Some(if negative { -ns } else { ns });
    }
    let mut ns = whole.bytes().fold(0i128, |n, b| n * 10 + i128::from(b - b'0')) * 1000;
    let mut place = 100;
    for byte in fraction.bytes().take(3) {
        ns += i128::from(byte - b'0') * place;
        place /= 10;
    }
    if fraction.as_bytes().get(3).is_some_and(|b| *b >= b'5') {
        ns += 1;
    }
    Some(if negative { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(text: &str) -> Option<i128> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        micros(Some(&raw))
    }

    #[test]
    fn microseconds_are_exact() {
        assert_eq!(ns("1790857026123456.789"), Some(1_790_857_026_123_456_789));
        assert_eq!(ns("0"), Some(0));
        assert_eq!(ns("12.5"), Some(12_500));
        assert_eq!(ns("\"7.001\""), Some(7_001));
        assert_eq!(ns("1.0005"), Some(1_001));
        assert_eq!(ns("-3"), Some(-3000));
        assert_eq!(ns("1.5e3"), Some(1_500_000));
        assert_eq!(ns("1e400"), None);
        assert_eq!(ns("\"soon\""), None);
    }

    #[test]
    fn an_event_borrows_from_its_text() {
        let text =
            r#"{"ph":"X","name":"a\"b","cat":null,"pid":"Spans","tid":7,"ts":1.25,"dur":2,"args":{"k":[1,2],"s":"v"}}"#;
        let event: JsonEvent<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(event.name.text(), "a\"b");
        assert_eq!(event.cat, Scalar::Missing);
        assert_eq!(event.tid.u64(), Some(7));
        let args: Members<'_> = serde_json::from_str(event.args.unwrap().get()).unwrap();
        assert_eq!(args.get("s").text(), "v");
        assert_eq!(args.get("k"), Scalar::Nested);
    }
}
