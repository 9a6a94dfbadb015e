//! Values as people write them, on the command line, in the environment and in the configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use crate::profile::Layers;
use crate::trace::Layer;

/// A length of time: `10s`, `1m30s`, `500ms`, `100us`; a plain number counts seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length(pub Duration);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        let text = text.trim();
        let wrong = || "not a duration; write 10s, 1m30s, 500ms or 100us".to_owned();
        let seconds = match text.parse::<f64>() {
            Ok(number) => number,
            Err(_) => text.parse::<jiff::SignedDuration>().map_err(|_| wrong())?.as_secs_f64(),
        };
        if seconds < 0.0 {
            return Err("a duration can't be negative".to_owned());
        }
        Duration::try_from_secs_f64(seconds).map(Length).map_err(|_| wrong())
    }
}

/// A share of the targets' time: `2%`, or `0.02`; more than all of it only in percent, since a
/// bare 2 is a slip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let text = text.trim();
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (text, 1.0),
        };
        let value: f64 = number.parse().map_err(|_| "not a share; write 2% or 0.02".to_owned())?;
        let share = value / scale;
        if !(share.is_finite() && share > 0.0) {
            return Err("not above 0".to_owned());
        }
        if scale == 1.0 && value > 1.0 {
            return Err(format!("more than all of the time; did you mean {text}%?"));
        }
        Ok(Share(share))
    }
}

/// An amount of data: `200MB`, `1GiB`, `1.5G`; a plain number counts bytes. `K`, `M`, `G`, `T` are
/// powers of ten, `Ki` and so on powers of 1024; a `/s` at the end is let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u64);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Amount, String> {
        let wrong = || "not an amount of data; write 200MB, 1GiB or 500000".to_owned();
        let text = text.trim();
        let text = text.strip_suffix("/s").unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim().to_ascii_lowercase();
        let factor: f64 = match unit.strip_suffix('b').unwrap_or(&unit) {
            "" => 1.0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            "t" => 1e12,
            "p" => 1e15,
            "ki" => 1024.0,
            "mi" => 1_048_576.0,
            "gi" => 1_073_741_824.0,
            "ti" => 1_099_511_627_776.0,
            _ => return Err(wrong()),
        };
        let bytes = number.parse::<f64>().map_err(|_| wrong())? * factor;
        if !(1.0..=1e18).contains(&bytes) {
            return Err("not between 1 byte and 10^18".to_owned());
        }
        Ok(Amount(bytes.round() as u64))
    }
}

/// A list of layers: `sched,python`, or `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerList(pub Layers);

impl FromStr for LayerList {
    type Err = String;

    fn from_str(text: &str) -> Result<LayerList, String> {
        let mut layers = Layers::none();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                layers = Layers::all();
                continue;
            }
            let layer = Layer::from_name(name);
            if !Layers::ALL_LAYERS.contains(&layer) {
                return Err(format!("no layer '{name}'; there are {} and all", layer_names().join(", ")));
            }
            layers = layers.with(layer);
        }
        if layers == Layers::none() {
            return Err(format!("no layer given; there are {} and all", layer_names().join(", ")));
        }
        Ok(LayerList(layers))
    }
}

/// Reads a process id.
pub fn pid(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err("not a process id".to_owned()),
        Ok(pid) => Ok(pid),
    }
}

/// The layers that can be captured.
fn layer_names() -> Vec<&'static str> {
    Layers::ALL_LAYERS.iter().map(|layer| layer.name()).collect()
}

/// Completes the last name of a list of layers.
pub fn complete_layers(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = current.to_str() else { return Vec::new() };
    let (given, last) = text.rsplit_once(',').map_or(("", text), |(given, last)| (&text[..=given.len()], last));
    let unused = |name: &&str| !given.split(',').any(|g| g == *name);
    layer_names()
        .into_iter()
        .chain(["all"])
        .filter(|name| name.starts_with(last))
        .filter(unused)
        .map(|name| CompletionCandidate::new(format!("{given}{name}")))
        .collect()
}

/// Reads a value of the configuration from a text, a number, or a list of texts, through `FromStr`.
struct Written<T>(std::marker::PhantomData<T>);

impl<'de, T: FromStr<Err = String>> Visitor<'de> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a list of texts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|error| E::custom(format!("{text}: {error}")))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<T, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element::<String>()? {
            texts.push(text);
        }
        self.visit_str(&texts.join(","))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for LayerList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [("10s", 10_000), ("10", 10_000), ("0.5", 500), ("1m30s", 90_000), ("500ms", 500), ("0", 0)] {
            assert_eq!(text.parse(), Ok(Length(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!("100us".parse(), Ok(Length(Duration::from_micros(100))));
        for text in ["", "ten", "10 parsecs", "nan", "inf", "-1", "-5s", "1e300"] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, share) in [("2%", 0.02), ("0.02", 0.02), ("100 %", 1.0), ("0.5%", 0.005), ("1000%", 10.0)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        assert!("2".parse::<Share>().unwrap_err().contains("did you mean 2%?"));
        for text in ["", "0", "-1%", "inf", "nan", "two"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn amounts() {
        for (text, bytes) in [
            ("200MB", 200_000_000),
            ("1GiB", 1 << 30),
            ("1.5g", 1_500_000_000),
            ("64 MiB", 64 << 20),
            ("100MB/s", 100_000_000),
            ("12", 12),
            ("7B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Amount(bytes)), "{text}");
        }
        for text in ["", "0", "-1", "GB", "1XB", "1e400", "1.2.3", "nan"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    #[test]
    fn layers() {
        assert_eq!("all".parse(), Ok(LayerList(Layers::all())));
        assert_eq!("sched, torch".parse(), Ok(LayerList(Layers::none().with(Layer::Sched).with(Layer::Torch))));
        for text in ["", ",", "foo", "sched,foo", "gpu", "aictl"] {
            assert!(text.parse::<LayerList>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_layer_is_completed() {
        let names: Vec<_> = complete_layers(std::ffi::OsStr::new("sched,s"))
            .iter()
            .map(|c| c.get_value().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["sched,syscall"]);
    }
}
