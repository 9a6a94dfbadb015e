//! Services that a node lives on.

use super::super::facts::Service;
use super::super::history::History;
use super::{Catalogue, Finding, Severity, Verdict, found, rate_as};

const SOURCE: &str = "services";
/// A service may take this long to start.
const START_S: u64 = 120;
/// Started again by itself so often, it does not stay up.
const RESTARTS: u64 = 5;
/// Fault of the fabric manager.
const FABRIC: &str = "fabric-manager-down";

/// Units that are looked at, and the fault it is when one that is enabled does not run.
pub const UNITS: [(&str, &str); 12] = [
    ("kubelet.service", "kubelet-down"),
    ("k3s.service", "kubelet-down"),
    ("k3s-agent.service", "kubelet-down"),
    ("rke2-server.service", "kubelet-down"),
    ("rke2-agent.service", "kubelet-down"),
    ("containerd.service", "runtime-down"),
    ("docker.service", "runtime-down"),
    ("crio.service", "runtime-down"),
    ("nvidia-fabricmanager.service", FABRIC),
    ("nvidia-imex.service", "imex-unhealthy"),
    ("nvidia-persistenced.service", "persistence-off"),
    ("slurmd.service", "kubelet-down"),
];

/// Judges the services. `switches` says whether the machine has NVSwitches: without them a fabric
/// manager that is enabled ends at once, and nothing is wrong.
pub fn services(services: &[Service], switches: bool, catalogue: &Catalogue, history: &mut History) -> Verdict {
    let mut running = Vec::new();
    let mut verdict = Verdict::default();
    let mut beside = Vec::new();
    for service in services.iter().filter(|service| service.load == "loaded") {
        let Some((unit, fault)) = UNITS.iter().find(|(unit, _)| *unit == service.unit) else { continue };
        let name = unit.trim_end_matches(".service");
        let key = format!("service/{name}/ran");
        if service.active == "active" && service.restarts < RESTARTS {
            history.note(key, "active");
            running.push(name);
            continue;
        }
        let Some(why) = trouble(service) else {
            if service.active == "active" {
                running.push(name);
            }
            continue;
        };
        if *fault == FABRIC && !switches && history.recall(&key).is_none() {
            beside.push(format!("{name} does not run, and there are no NVSwitches for it"));
            continue;
        }
        let mut finding = of(service, fault, catalogue, history);
        if name == "slurmd" {
            "Slurm's daemon is not running".clone_into(&mut finding.title);
        }
        if service.active == "active" {
            let action = finding.action.clone();
            rate_as(catalogue, &mut finding, Severity::Warning, &action);
        }
        finding.because = Some(why);
        verdict.add(finding);
    }
    running.sort_unstable();
    let words =
        if running.is_empty() { "none of ours runs".to_owned() } else { format!("running: {}", running.join(", ")) };
    verdict.detail = std::iter::once(words).chain(beside).collect::<Vec<_>>().join("; ");
    verdict
}

/// Why a service is not well; `None` where it need not run.
fn trouble(service: &Service) -> Option<String> {
    let wanted = matches!(service.enabled.as_str(), "enabled" | "enabled-runtime" | "alias" | "linked");
    // Its own unit file says that it is of no use here.
    if !wanted || (!service.conditions_met && service.active == "inactive") {
        return None;
    }
    let for_s = service.for_s.unwrap_or(u64::MAX);
    match service.active.as_str() {
        "active" if service.restarts >= RESTARTS && for_s < 600 => {
            Some(format!("it runs, and was started again {} times", service.restarts))
        }
        "active" | "reloading" | "maintenance" => None,
        "activating" if service.restarts >= RESTARTS => {
            Some(format!("it does not stay up: started again {} times, {}", service.restarts, service.result))
        }
        "activating" | "deactivating" if for_s < START_S => None,
        state => Some(format!("{state} ({}), {}", service.sub, service.result)),
    }
}

fn of(service: &Service, fault: &str, catalogue: &Catalogue, history: &History) -> Finding {
    let mut finding = found(catalogue, fault, SOURCE, history.now());
    finding.device.name = Some(service.unit.trim_end_matches(".service").to_owned());
    finding.evidence.push(format!(
        "{}: ActiveState={} SubState={} Result={} NRestarts={}",
        service.unit, service.active, service.sub, service.result, service.restarts
    ));
    finding
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catalogue, fresh, later, names};
    use super::*;

    fn service(unit: &str, active: &str) -> Service {
        Service {
            unit: unit.to_owned(),
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: "dead".to_owned(),
            enabled: "enabled".to_owned(),
            result: "exit-code".to_owned(),
            restarts: 0,
            conditions_met: true,
            for_s: Some(3600),
        }
    }

    fn judged(service: Service, switches: bool) -> Vec<Finding> {
        services(&[service], switches, &catalogue(), &mut fresh()).findings
    }

    #[test]
    fn what_is_enabled_must_run() {
        for (unit, fault) in UNITS {
            assert_eq!(names(&judged(service(unit, "failed"), true)), [fault], "{unit}");
            assert!(judged(service(unit, "active"), true).is_empty(), "{unit}");
            let off = Service { enabled: "disabled".to_owned(), ..service(unit, "inactive") };
            assert!(judged(off, true).is_empty(), "{unit}");
            let absent = Service { load: "not-found".to_owned(), ..service(unit, "inactive") };
            assert!(judged(absent, true).is_empty(), "{unit}");
            assert!(catalogue().get(fault).is_some(), "{fault}");
        }
    }

    #[test]
    fn a_start_takes_its_time_and_a_loop_is_none() {
        let unit = "kubelet.service";
        let starting = Service { for_s: Some(10), ..service(unit, "activating") };
        assert!(judged(starting.clone(), false).is_empty());
        assert_eq!(names(&judged(Service { restarts: 40, ..starting }, false)), ["kubelet-down"]);
        assert_eq!(names(&judged(service(unit, "activating"), false)), ["kubelet-down"]);
    }

    #[test]
    fn what_is_of_no_use_here_need_not_run() {
        let unmet = Service { conditions_met: false, ..service("nvidia-imex.service", "inactive") };
        assert!(judged(unmet, true).is_empty());
        let fabric = || service("nvidia-fabricmanager.service", "failed");
        assert!(judged(fabric(), false).is_empty(), "no NVSwitch");
        // Newer systems hide their switches; there it ran before.
        let mut history = fresh();
        services(&[service("nvidia-fabricmanager.service", "active")], false, &catalogue(), &mut history);
        let mut history = later(history, 60);
        assert_eq!(names(&services(&[fabric()], false, &catalogue(), &mut history).findings), [FABRIC]);
    }
}
