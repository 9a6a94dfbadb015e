//! Values of slurmrestd's JSON that look different in each version of its data format.

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A number as any version writes it; `None` if it is not set or has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Number(pub Option<f64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number as f64)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(Some(number as f64)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.trim().parse().ok()))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Number, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Number(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Number, A::Error> {
                let (mut set, mut infinite, mut number) = (true, false, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "set" => set = map.next_value()?,
                        "infinite" => infinite = map.next_value()?,
                        "number" => number = map.next_value::<Option<f64>>()?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Number(number.filter(|_| set && !infinite)))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Number {
    /// As a count; `NO_VAL` and `INFINITE`, which early versions write as they are, are none.
    pub fn count(self) -> Option<u64> {
        self.0.filter(|number| (0.0..4_294_967_294.0).contains(number)).map(|number| number as u64)
    }

    pub fn or_zero(self) -> u32 {
        self.count().unwrap_or_default() as u32
    }

    pub fn time(self) -> Option<Timestamp> {
        self.count().filter(|seconds| *seconds > 0).and_then(|seconds| Timestamp::from_second(seconds as i64).ok())
    }
}

/// Words as any version writes them: one, a list, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Words, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Words;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("words")
            }

            fn visit_str<E>(self, text: &str) -> Result<Words, E> {
                Ok(Words(text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()))
            }

            fn visit_unit<E>(self) -> Result<Words, E> {
                Ok(Words::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Words, E> {
                Ok(Words::default())
            }

            fn visit_u64<E>(self, number: u64) -> Result<Words, E> {
                Ok(Words(vec![number.to_string()]))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Words, E> {
                Ok(Words(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(Words(more)) = list.next_element()? {
                    words.extend(more);
                }
                Ok(Words(words))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Words::default())
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl Words {
    pub fn capitals(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|word| word.to_ascii_uppercase())
    }
}

/// Exit status and signal: a wait status, or an object of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Exit(pub Option<(i32, i32)>);

impl<'de> Deserialize<'de> for Exit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Exit, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Form {
            Status(i64),
            Parts {
                #[serde(default)]
                return_code: Number,
                #[serde(default)]
                signal: Option<Signal>,
            },
            Nothing(IgnoredAny),
        }
        #[derive(serde::Deserialize)]
        struct Signal {
            #[serde(default, alias = "signal_id")]
            id: Number,
        }
        Ok(Exit(match Form::deserialize(deserializer)? {
            // <sys/wait.h>: the status in the second byte, the signal in the low seven bits.
            Form::Status(status) => Some(((status >> 8) as i32 & 0xff, status as i32 & 0x7f)),
            Form::Parts { return_code, signal } => {
                Some((return_code.or_zero() as i32, signal.map_or(0, |signal| signal.id.or_zero() as i32)))
            }
            Form::Nothing(_) => None,
        }))
    }
}

/// Text or nothing.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}
