//! What a job waits for: other jobs.

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};

use super::quantity::Written;

/// How the other job must have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// With success.
    #[default]
    Ok,
    /// With failure.
    NotOk,
    /// In any way.
    Any,
}

/// A job to wait for: `JOB` or `JOB:ok`, `JOB:any`, `JOB:notok`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The other job, as people name it.
    pub job: String,
    /// How it must have ended.
    pub outcome: Outcome,
}

impl FromStr for After {
    type Err = String;

    fn from_str(text: &str) -> Result<After, String> {
        let text = text.trim();
        let (job, outcome) = match text.rsplit_once(':') {
            Some((job, "ok")) => (job, Outcome::Ok),
            Some((job, "notok")) => (job, Outcome::NotOk),
            Some((job, "any")) => (job, Outcome::Any),
            _ => (text, Outcome::Ok),
        };
        if job.is_empty() || job.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(format!("{text:?} names no job; write JOB, JOB:ok, JOB:any or JOB:notok"));
        }
        Ok(After { job: job.to_owned(), outcome })
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Ok => "ok",
            Outcome::NotOk => "notok",
            Outcome::Any => "any",
        };
        write!(f, "{}:{outcome}", self.job)
    }
}

impl Serialize for After {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<After, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_to_wait_for() {
        let read = |text: &str| text.parse::<After>().unwrap();
        assert_eq!(read("12"), After { job: "12".to_owned(), outcome: Outcome::Ok });
        assert_eq!(read("slurm:12:any"), After { job: "slurm:12".to_owned(), outcome: Outcome::Any });
        assert_eq!(read("slurm:12").to_string(), "slurm:12:ok");
        for text in ["", ":ok", "a b", "a\n"] {
            assert!(text.parse::<After>().is_err() || text == "a\n", "{text:?}");
        }
    }
}
