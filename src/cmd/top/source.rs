//! Where values come from: this machine, exporters of a cluster, a Prometheus.

use std::time::Duration;

use super::super::error::Error;
use super::super::settings::Settings;
use super::Args;
use super::agents::Agents;
use super::local::Local;
use super::prometheus::Prometheus;
use crate::metrics::NodeSample;
use crate::metrics::jobs::Owners;

/// Rates of --once are over this time.
const APART: Duration = Duration::from_millis(300);

/// Everything that was seen at one time.
#[derive(Default)]
pub struct Shot {
    /// Nodes, by name.
    pub nodes: Vec<NodeSample>,
    /// Which pods asked for how many GPUs, where a cluster was asked.
    pub owners: Owners,
    /// What could not be had beside.
    pub notes: Vec<String>,
}

/// A source.
pub enum Source {
    /// This machine.
    Local(Box<Local>),
    /// Exporters of a cluster.
    Agents(Box<Agents>),
    /// A Prometheus.
    Prometheus(Box<Prometheus>),
}

impl Source {
    /// The one that is meant.
    pub fn of(args: &Args, settings: &Settings) -> Result<Source, Error> {
        if let Some(url) = &args.prometheus {
            return Ok(Source::Prometheus(Box::new(Prometheus::new(url, args)?)));
        }
        if args.fleet || !args.nodes.is_empty() || args.selector.is_some() {
            return Ok(Source::Agents(Box::new(Agents::new(args, settings))));
        }
        Ok(Source::Local(Box::new(Local::new(args, settings)?)))
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        matches!(self, Source::Local(_))
    }

    /// What is done while one waits.
    pub fn words(&self) -> &'static str {
        match self {
            Source::Local(_) => "asking NVML",
            Source::Agents(_) => "asking the nodes' exporters",
            Source::Prometheus(_) => "asking Prometheus",
        }
    }

    /// One look.
    pub async fn look(&mut self) -> Result<Shot, Error> {
        match self {
            Source::Local(local) => Ok(Shot { nodes: vec![local.look()], ..Shot::default() }),
            Source::Agents(agents) => agents.look().await,
            Source::Prometheus(prometheus) => prometheus.look().await,
        }
    }

    /// A look that has rates, too: of this machine, two looks.
    pub async fn settled_look(&mut self) -> Result<Shot, Error> {
        if let Source::Local(local) = self {
            local.look();
            tokio::time::sleep(APART).await;
        }
        self.look().await
    }
}
