//! Units of systemd, through `systemctl show`.

use std::time::Duration;

use super::command::{End, Order, run};
use super::machine;
use super::tree::Tree;
use crate::fault::facts::Service;

/// Asks for units; those that are not installed come back as "not-found". `None` where systemd
/// does not run the machine.
///
/// # Errors
/// A sentence, if systemd does not answer.
pub fn services(tree: &Tree, units: &[&str], deadline: Duration) -> Result<Option<Vec<Service>>, String> {
    // As sd_booted(3) does it.
    if !tree.exists("/run/systemd/system") {
        return Ok(None);
    }
    let properties = "-p=Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ConditionResult,StateChangeTimestampMonotonic";
    let order = Order {
        program: "systemctl".into(),
        arguments: ["show", properties].iter().chain(units).map(Into::into).collect(),
        environment: Vec::new(),
        directory: None,
        timeout: deadline,
        most_output: 1 << 18,
        stop: None,
    };
    let ran = run(&order).map_err(|error| format!("cannot run systemctl: {error}"))?;
    match ran.end {
        End::Exited(0) => Ok(Some(parse(&ran.stdout, machine::uptime()))),
        End::Late => Err("systemd did not answer in time".to_owned()),
        _ => Err(format!("systemctl failed: {}", ran.stderr.lines().next().unwrap_or("no word from it"))),
    }
}

/// Blocks of `Name=value` lines, an empty line between units.
fn parse(text: &str, uptime: Duration) -> Vec<Service> {
    let blocks = text.split("\n\n").filter(|block| block.contains("Id="));
    blocks
        .map(|block| {
            let value = |name: &str| {
                let mut pairs = block.lines().filter_map(|line| line.split_once('='));
                pairs.find(|(key, _)| *key == name).map_or("", |(_, value)| value.trim())
            };
            let changed_us = value("StateChangeTimestampMonotonic").parse::<u64>().ok().filter(|us| *us > 0);
            Service {
                unit: value("Id").to_owned(),
                load: value("LoadState").to_owned(),
                active: value("ActiveState").to_owned(),
                sub: value("SubState").to_owned(),
                enabled: value("UnitFileState").to_owned(),
                result: value("Result").to_owned(),
                restarts: value("NRestarts").parse().unwrap_or(0),
                conditions_met: value("ConditionResult") != "no",
                for_s: changed_us.map(|us| uptime.as_secs().saturating_sub(us / 1_000_000)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_services() {
        let text = "Id=kubelet.service\nLoadState=loaded\nActiveState=activating\nSubState=auto-restart\n\
                    UnitFileState=enabled\nResult=exit-code\nNRestarts=17\nConditionResult=yes\n\
                    StateChangeTimestampMonotonic=5000000\n\nId=crio.service\nLoadState=not-found\nActiveState=inactive\n\
                    UnitFileState=\nConditionResult=no\nStateChangeTimestampMonotonic=0\n";
        let services = parse(text, Duration::from_secs(65));
        assert_eq!(services.len(), 2);
        let kubelet = &services[0];
        assert_eq!((kubelet.sub.as_str(), kubelet.restarts, kubelet.for_s), ("auto-restart", 17, Some(60)));
        assert!(kubelet.conditions_met && !services[1].conditions_met);
        assert_eq!((services[1].load.as_str(), services[1].for_s), ("not-found", None));
        assert!(parse("", Duration::ZERO).is_empty());
    }

    #[test]
    fn no_systemd_is_no_answer_and_no_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(services(&Tree::new(directory.path()), &["a"], Duration::from_secs(1)), Ok(None));
    }
}
