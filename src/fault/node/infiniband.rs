//! Ports of RDMA adapters: down, flapping, losing packets.
//!
//! Limits: [`Rdma`].

use jiff::SignedDuration;

use super::super::facts::RdmaPort;
use super::super::history::{Growth, History};
use super::super::limits::Rdma;
use super::{Catalogue, Finding, Severity, Verdict, counted, found, rate_as};

const SOURCE: &str = "infiniband";
/// A link that went down may come back; gpud waits for as long.
const RECOVERY: SignedDuration = SignedDuration::from_mins(4);
/// Over this time losses of the link are a flap.
const FLAP_WITHIN: SignedDuration = SignedDuration::from_mins(5);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// A rate a second wants some seconds of watching.
const SHORTEST: SignedDuration = SignedDuration::from_secs(5);

/// Counters whose rate makes a fault: counter, fault, most a second.
fn rates(limits: &Rdma) -> [(&'static str, &'static str, f64); 4] {
    [
        ("symbol_error", "ib-symbol-err", limits.symbols_per_second),
        ("port_rcv_errors", "ib-rcv-err", limits.receive_errors_per_second),
        ("port_xmit_discards", "ib-xmit-discard", limits.discards_per_second),
        ("local_ack_timeout_err", "roce-ack-timeout", limits.ack_timeouts_per_second),
    ]
}

/// Judges all ports.
pub fn rdma_ports(ports: &[RdmaPort], catalogue: &Catalogue, history: &mut History) -> Verdict {
    let up = ports.iter().filter(|port| is_up(port)).count();
    let mut verdict = Verdict::of(format!("{}, {up} up", counted(ports.len(), "port", "ports")));
    let mut unused = 0;
    for port in ports.iter().filter(|port| !port.is_virtual) {
        match state(port, catalogue, history) {
            State::Up => {}
            State::Unused => unused += 1,
            State::Down(finding) => verdict.add(*finding),
        }
        counters(port, catalogue, history, &mut verdict);
    }
    let unreadable = ports.iter().filter(|port| port.state.is_empty()).count();
    if unreadable > 0 {
        verdict.blind = Some(format!("{} can't be read", counted(unreadable, "port", "ports")));
    }
    if unused > unreadable {
        let unused = unused - unreadable;
        verdict.detail.push_str(&format!("; {unused} never seen up, or switched off: no fault"));
    }
    verdict
}

enum State {
    Up,
    Unused,
    Down(Box<Finding>),
}

fn is_up(port: &RdmaPort) -> bool {
    port.state == "ACTIVE"
}

fn key(port: &RdmaPort, what: &str) -> String {
    format!("ib/{}/{}/{what}", port.adapter, port.port)
}

fn state(port: &RdmaPort, catalogue: &Catalogue, history: &mut History) -> State {
    let (was_up, is_now) = (key(port, "was"), key(port, "now"));
    if port.state.is_empty() {
        // Unreadable: neither up nor down.
        return State::Unused;
    }
    history.note(&is_now, if is_up(port) { "up" } else { "down" });
    if is_up(port) {
        history.note(was_up, "up");
        return State::Up;
    }
    // Somebody has switched it off: `ip link set down`, or in the firmware.
    if port.physical == "Disabled" || port.physical == "Sleep" {
        return State::Unused;
    }
    // A light on the cable and still not active: it has a cable, and no working fabric behind it.
    let cabled = matches!(port.physical.as_str(), "LinkUp" | "LinkErrorRecovery");
    let before = history.recall(&was_up).map(|known| known.last);
    if !cabled && before.is_none() {
        return State::Unused;
    }
    let mut finding = of_port(found(catalogue, "ib-port-down", SOURCE, history.now()), port);
    let since = history.recall(&is_now).map_or(history.now(), |known| known.since);
    finding.first_seen = Some(since);
    finding.evidence.push(format!("state {}, phys_state {}, rate {}", port.state, port.physical, port.rate));
    finding.because = Some(match before {
        Some(last) => format!("it was up at {last:.0}"),
        None => "it has a cable, and the fabric does not let it in: is a subnet manager running?".to_owned(),
    });
    let down_for = history.now().duration_since(since);
    if before.is_some_and(|last| history.now().duration_since(last) < RECOVERY) && down_for < RECOVERY {
        rate_as(catalogue, &mut finding, Severity::Warning, "RECORD");
        finding.then = Some("DRAIN".to_owned());
        finding.because = Some("down for less than 4 min: links do come back".to_owned());
    }
    State::Down(Box::new(finding))
}

fn counters(port: &RdmaPort, catalogue: &Catalogue, history: &mut History, verdict: &mut Verdict) {
    let limits = catalogue.limits().rdma;
    for (name, value) in &port.counters {
        history.count(key(port, name), *value);
    }
    let now = history.now();
    let mut add = |fault: &str, name: &str, growth: Growth, because: String| {
        let mut finding = of_port(found(catalogue, fault, SOURCE, now), port);
        finding.count = growth.by;
        finding.because = Some(because);
        let total = port.counters.get(name).copied().unwrap_or(0);
        finding.evidence.push(format!("{name} {total}, {} more in {} s", growth.by, growth.over.as_secs()));
        verdict.add(finding);
    };
    let downed = key(port, "link_downed");
    if let Some(growth) = history.grown(&downed, FLAP_WITHIN).filter(|g| g.by >= limits.flaps && g.over <= FLAP_WITHIN)
    {
        add("ib-port-flap", "link_downed", growth, format!("lost {} times within 5 min", growth.by));
    } else if let Some(growth) = history.grown(&downed, HOUR).filter(|growth| growth.by > 0) {
        add("ib-link-downed", "link_downed", growth, format!("lost {} times since an earlier look", growth.by));
    }
    let symbols = history.grown(&key(port, "symbol_error"), HOUR);
    let fatal = symbols.filter(|growth| growth.per_hour() > limits.symbols_per_hour);
    if let Some(growth) = fatal {
        add(
            "ib-symbol-err-fatal",
            "symbol_error",
            growth,
            format!("{:.0} an hour, {} are allowed", growth.per_hour(), limits.symbols_per_hour),
        );
    }
    for (name, fault, most) in rates(&limits) {
        // The graver one says it all.
        if fault == "ib-symbol-err" && fatal.is_some() {
            continue;
        }
        let growth = history.grown_lately(&key(port, name)).filter(|growth| growth.over >= SHORTEST);
        if let Some(growth) = growth.filter(|growth| growth.per_second() > most) {
            add(fault, name, growth, format!("{:.0} a second, more than {most}", growth.per_second()));
        }
    }
}

fn of_port(mut finding: Finding, port: &RdmaPort) -> Finding {
    finding.device.pci.clone_from(&port.pci);
    finding.device.name = Some(format!("{}/{}", port.adapter, port.port));
    finding
}

#[cfg(test)]
mod tests {
    use super::super::testing::{catalogue, fresh, later, names};
    use super::*;

    fn port(state: &str, physical: &str) -> RdmaPort {
        RdmaPort {
            adapter: "mlx5_0".to_owned(),
            port: "1".to_owned(),
            pci: Some("0000:17:00.0".to_owned()),
            link_layer: "InfiniBand".to_owned(),
            state: state.to_owned(),
            physical: physical.to_owned(),
            rate: "400 Gb/sec (4X NDR)".to_owned(),
            ..RdmaPort::default()
        }
    }

    fn counting(values: &[(&str, u64)]) -> RdmaPort {
        let counters = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        RdmaPort { counters, ..port("ACTIVE", "LinkUp") }
    }

    fn judged(port: RdmaPort, history: &mut History) -> Vec<Finding> {
        rdma_ports(&[port], &catalogue(), history).findings
    }

    #[test]
    fn a_port_nobody_uses_is_no_fault() {
        for (state, physical) in [("DOWN", "Polling"), ("DOWN", "Disabled"), ("", "")] {
            assert!(judged(port(state, physical), &mut fresh()).is_empty(), "{state} {physical}");
        }
        let virtual_one = RdmaPort { is_virtual: true, ..port("INIT", "LinkUp") };
        assert!(judged(virtual_one, &mut fresh()).is_empty());
    }

    #[test]
    fn a_port_that_was_up_is_and_first_it_may_come_back() {
        let mut history = fresh();
        assert!(judged(port("ACTIVE", "LinkUp"), &mut history).is_empty());
        let mut history = later(history, 60);
        let down = judged(port("DOWN", "Polling"), &mut history);
        assert_eq!((names(&down), down[0].severity), (vec!["ib-port-down"], Severity::Warning));
        let mut history = later(history, 300);
        let down = judged(port("DOWN", "Polling"), &mut history);
        assert_eq!((down[0].severity, down[0].action.as_str()), (Severity::Error, "DRAIN"));
        let mut history = later(history, 60);
        assert!(judged(port("DOWN", "Disabled"), &mut history).is_empty(), "switched off on purpose");
        let mut history = later(history, 60).resume(Some("another boot"), super::super::testing::at(1000));
        assert_eq!(names(&judged(port("DOWN", "Polling"), &mut history)), ["ib-port-down"], "over a reboot");
    }

    #[test]
    fn a_cable_without_a_fabric_is_a_fault() {
        assert_eq!(names(&judged(port("INIT", "LinkUp"), &mut fresh())), ["ib-port-down"]);
    }

    #[test]
    fn lost_links_count_and_often_is_a_flap() {
        let mut history = fresh();
        assert!(judged(counting(&[("link_downed", 7)]), &mut history).is_empty(), "long ago, for all we know");
        let mut history = later(history, 120);
        assert_eq!(names(&judged(counting(&[("link_downed", 8)]), &mut history)), ["ib-link-downed"]);
        let mut history = later(history, 120);
        assert_eq!(names(&judged(counting(&[("link_downed", 9)]), &mut history)), ["ib-port-flap"]);
        let mut history = later(history, 4000);
        assert!(judged(counting(&[("link_downed", 9)]), &mut history).is_empty());
    }

    #[test]
    fn rates_are_over_time() {
        for (name, few, many, fault) in [
            ("port_rcv_errors", 600, 601, "ib-rcv-err"),
            ("port_xmit_discards", 6000, 6001, "ib-xmit-discard"),
            ("local_ack_timeout_err", 60, 61, "roce-ack-timeout"),
        ] {
            for (grown, faults) in [(few, vec![]), (many, vec![fault])] {
                let mut history = fresh();
                judged(counting(&[(name, 1000)]), &mut history);
                let mut history = later(history, 60);
                assert_eq!(names(&judged(counting(&[(name, 1000 + grown)]), &mut history)), faults, "{name} {grown}");
            }
        }
    }

    #[test]
    fn symbol_errors_have_two_limits() {
        let mut history = fresh();
        judged(counting(&[("symbol_error", 0)]), &mut history);
        let mut history = later(history, 10);
        assert_eq!(names(&judged(counting(&[("symbol_error", 110)]), &mut history)), ["ib-symbol-err"]);
        let mut history = later(history, 1000);
        assert_eq!(names(&judged(counting(&[("symbol_error", 130)]), &mut history)), ["ib-symbol-err-fatal"]);
    }
}
