//! A Prometheus that reads dcgm-exporter, or aictl's own exporters.

use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use url::Url;

use super::super::error::{Error, Kind};
use super::source::Shot;
use super::{Args, DEADLINE};
use crate::host::trust::trusting;
use crate::metrics::Metric;
use crate::metrics::prometheus::{ASKED, Gathered, idle_query};

/// Queries at a time: each answer has a line a GPU.
const AT_ONCE: usize = 4;

/// Asks one.
pub struct Prometheus {
    base: Url,
    client: reqwest::Client,
    idle_s: Option<u64>,
    deadline: Duration,
}

impl Prometheus {
    /// Of an address.
    pub fn new(url: &str, args: &Args) -> Result<Prometheus, Error> {
        let wrong = || {
            Error::usage(format!("--prometheus {url}: not the address of a Prometheus"))
                .hint("write http://prometheus:9090, with the prefix that it is served below, if any")
        };
        let mut base = Url::parse(url).map_err(|_| wrong())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(wrong());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let base = base.join("api/v1/query").map_err(|_| wrong())?;
        let deadline = args.deadline.map_or(DEADLINE, |length| length.0);
        let client = trusting(reqwest::Client::builder()).timeout(deadline).build();
        let client = client.map_err(|error| Error::failed("cannot make an HTTP client", error))?;
        Ok(Prometheus { base, client, idle_s: args.idle.map(|length| length.0.as_secs().max(1)), deadline })
    }

    /// Asks for all metrics.
    pub async fn look(&mut self) -> Result<Shot, Error> {
        let queries: Vec<(Option<Metric>, String)> = ASKED
            .iter()
            .map(|metric| (Some(*metric), metric.name().to_owned()))
            .chain(self.idle_s.map(|seconds| (None, idle_query(seconds))))
            .collect();
        let mut answers = stream::iter(queries)
            .map(|(metric, query)| {
                let asked = self.ask(query);
                async move { (metric, asked.await) }
            })
            .buffered(AT_ONCE);
        let mut gathered = Gathered::default();
        let mut series = 0;
        while let Some((metric, answer)) = answers.next().await {
            let text = answer?;
            let taken = match metric {
                Some(metric) => gathered.add(metric, &text).map(|count| series += count),
                // Last of all: it is about GPUs that are known by then.
                None => gathered.idle(self.idle_s.unwrap_or_default() as f64, &text),
            };
            taken.map_err(|why| {
                Error::new(Kind::Blind, format!("{} does not answer as a Prometheus", self.shown())).because(why)
            })?;
        }
        if series == 0 {
            return Err(Error::new(Kind::Blind, format!("{} knows no GPU", self.shown())).hint(format!(
                "it must read dcgm-exporter, or aictl top --listen: is {} there?",
                Metric::Utilisation.name()
            )));
        }
        Ok(Shot { nodes: gathered.finish(Timestamp::now()), ..Shot::default() })
    }

    fn shown(&self) -> String {
        format!("{}://{}", self.base.scheme(), self.base.host_str().unwrap_or_default())
    }

    fn ask(&self, query: String) -> impl Future<Output = Result<String, Error>> + use<> {
        let shown = self.shown();
        let request = self.client.get(self.base.clone()).query(&[("query", query)]);
        let deadline = self.deadline;
        async move {
            let cannot = |error: reqwest::Error| {
                let what = if error.is_timeout() {
                    format!("{shown} did not answer within {} s", deadline.as_secs())
                } else {
                    format!("cannot ask {shown}")
                };
                Error::new(Kind::Blind, what).because(error.without_url()).hint("is it reached from here? --deadline")
            };
            let response = request.send().await.map_err(cannot)?;
            let status = response.status();
            let text = response.text().await.map_err(cannot)?;
            // A refusal has a body that says why.
            if !status.is_success() && !text.starts_with('{') {
                return Err(Error::new(Kind::Blind, format!("{shown} answers {status}")));
            }
            Ok(text)
        }
    }
}
