//! `aictl queue sync --elastic`.

use std::path::Path;

use super::apply::{Doing, RESUME, SUSPEND};
use super::{Args, Journals, show};
use crate::cmd::Done;
use crate::cmd::error::{DONE, Error, FOUND};
use crate::cmd::interrupt::Interrupt;
use crate::cmd::runtime::block_on;
use crate::cmd::settings::Settings;
use crate::fault::playbook::{History, Policy, Standing};
use crate::queue::Target;
use crate::queue::engines::slurm_machines;
use crate::queue::sync::SlurmNode;
use crate::queue::sync::elastic::{Limits, decide};

/// How long Slurm may take to show that a node is being switched on or off.
const SHOWN_AFTER_S: f64 = 60.0;

/// What was ordered a moment ago is on its way, whether Slurm shows it already or not.
fn remember(node: &mut SlurmNode, history: &History) {
    let ago =
        |id: &str| history.incident(id).filter(|past| past.standing == Standing::Restored).map(|past| past.last_ago_s);
    let (on, off) = (ago(RESUME), ago(SUSPEND));
    let latest = |one: Option<f64>, other: Option<f64>| {
        one.is_some_and(|one| one < SHOWN_AFTER_S && other.is_none_or(|other| one < other))
    };
    if latest(on, off) && node.asleep && !node.stopping {
        (node.asleep, node.starting) = (false, true);
    } else if latest(off, on) && !node.asleep {
        (node.asleep, node.stopping) = (true, true);
    }
}

/// Decides, prints why, and in earnest starts and stops nodes.
pub fn run(args: &Args, slurm: &Target, policy: &Policy, directory: &Path, settings: &Settings) -> Done {
    let max = args.max.unwrap_or(u32::MAX);
    if args.min > max {
        return Err(Error::usage(format!("--min {} is above --max {max}", args.min)));
    }
    if args.step == 0 {
        return Err(Error::usage("--step 0 would never start or stop anything"));
    }
    let mut machines = block_on(async { Ok(slurm_machines(slurm).await?) })?;
    let journals = Journals { directory };
    for node in &mut machines.nodes {
        remember(node, &journals.history(&node.name)?);
    }
    let limits = Limits { min: args.min, max, step: args.step, idle_s: args.idle.0.as_secs_f64() };
    let mut decision = decide(&machines, &limits, jiff::Timestamp::now());
    decision.slurm.clone_from(&slurm.name);
    decision.apply = args.apply;
    if args.apply && !(decision.resume.is_empty() && decision.suspend.is_empty()) {
        let interrupt = Interrupt::catch().map_err(|error| Error::failed("cannot catch signals", error))?;
        let doing = Doing::without_cluster(slurm, policy, directory, &interrupt)?;
        for (chosen, on) in [(&mut decision.resume, true), (&mut decision.suspend, false)] {
            for one in chosen.iter_mut() {
                let (state, said) = doing.power(&one.node, on, &one.why)?;
                one.state = state;
                if !said.is_empty() {
                    one.why = format!("{}; {said}", one.why);
                }
            }
        }
    }
    show::decision(&decision, settings)?;
    let all_done = decision.resume.iter().chain(&decision.suspend).all(|one| one.state == "done");
    Ok(if args.apply && !all_done { FOUND } else { DONE })
}
