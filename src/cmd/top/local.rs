//! This machine: NVML, /proc and /sys, put together.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::super::env;
use super::super::error::Error;
use super::super::settings::Settings;
use super::xids::Xids;
use super::{Args, DEADLINE};
use crate::gpu::bus;
use crate::gpu::sampler::Sampler;
use crate::host::owners::Owners;
use crate::host::tree::Tree;
use crate::host::{load, machine};
use crate::metrics::rates::Rates;
use crate::metrics::{Accelerators, GpuSample, Metric, NodeSample};

/// This program, even if its file was replaced while it runs.
const PROGRAM: &str = "/proc/self/exe";

/// Looks at this machine again and again.
pub struct Local {
    node: String,
    tree: Tree,
    readers: Vec<Box<dyn Accelerators + Send>>,
    rates: Rates,
    xids: Xids,
    deadline: Duration,
}

impl Local {
    /// As the arguments say.
    pub fn new(args: &Args, _settings: &Settings) -> Result<Local, Error> {
        let named = args.node.clone().or_else(|| std::env::var(env::NODE_NAME).ok().filter(|name| !name.is_empty()));
        Ok(Local {
            node: named.unwrap_or_else(machine::node_name),
            tree: Tree::new(&args.root),
            // Other makers' readers would stand beside this one.
            readers: vec![Box::new(Sampler::new(Path::new(PROGRAM)))],
            rates: Rates::default(),
            xids: Xids::new(Path::new(PROGRAM), &args.root),
            deadline: args.deadline.map_or(DEADLINE, |length| length.0),
        })
    }

    /// One look; ends by the deadline.
    pub fn look(&mut self) -> NodeSample {
        let mut sample = NodeSample { node: self.node.clone(), ..NodeSample::default() };
        let mut reasons = Vec::new();
        for reader in &mut self.readers {
            match reader.read(self.deadline) {
                Ok(gpus) => {
                    sample.gpus.extend(gpus);
                    sample.driver = sample.driver.take().or_else(|| reader.driver());
                }
                Err(why) => reasons.push(why),
            }
        }
        if sample.gpus.is_empty() {
            let bus = bus::look(&self.tree.path("/"), 0);
            let none = bus.seen && bus.gpus.is_empty();
            sample.blind = Some(match (none, reasons.first()) {
                (true, Some(why)) => format!("no NVIDIA GPU is on PCI, and {why}"),
                (false, Some(why)) => why.clone(),
                (_, None) => "NVML counts no GPU".to_owned(),
            });
        }
        self.xids.add(&mut sample.gpus);
        let owners = Owners::read(&self.tree);
        for gpu in &mut sample.gpus {
            join(gpu, &owners, &self.tree);
        }
        sample.machine = load::read(&self.tree);
        sample.at = Some(Timestamp::now());
        self.rates.add(&mut sample);
        sample
    }
}

/// Says whose a GPU and its processes are.
fn join(gpu: &mut GpuSample, owners: &Owners, tree: &Tree) {
    let mut given = owners.given(&[gpu.uuid.as_str()]);
    let instances: Vec<&str> = gpu.instances.iter().filter_map(|instance| instance.uuid.as_deref()).collect();
    given.extend(owners.given(&instances));
    for process in &mut gpu.processes {
        owners.describe(tree, process);
        given.extend(process.pod.clone());
    }
    for pod in given {
        gpu.give_to(pod);
    }
    debug_assert!(gpu.metrics.get(Metric::Utilisation).is_none_or(|load| load >= 0.0));
}
