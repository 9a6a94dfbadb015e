//! Every rule of safety: what it lets through and what it stops.

use super::super::tests::finding;
use super::super::{Isolation, Sighting};
use super::*;

pub fn clock() -> Clock {
    Clock {
        now: "2026-11-24T12:00:00Z".parse().unwrap(),
        local: "2026-11-24T12:00:00".parse().unwrap(),
        up_s: 90_000.0,
    }
}

pub fn past(fault: &str, standing: Standing, ago_s: f64) -> Past {
    Past {
        id: format!("i-{fault}"),
        node: "gpu-17".to_owned(),
        boot_id: "boot".to_owned(),
        finding: finding(fault),
        rule: "gpu-reset".to_owned(),
        attempt: 1,
        attempts_ago_s: vec![ago_s + 10.0],
        standing,
        why: String::new(),
        last_ago_s: ago_s,
        closed_ago_s: Some(ago_s),
        tasks: Vec::new(),
        began: Vec::new(),
        isolation: Some(Isolation::default()),
        moved: Vec::new(),
        before: None,
        after: None,
    }
}

fn history(incidents: Vec<Past>) -> History {
    History { incidents, ..History::default() }
}

fn rule(refusal: Option<Refusal>) -> Option<&'static str> {
    refusal.map(|refusal| refusal.rule)
}

fn seen_ago(seconds: i64) -> Finding {
    let mut found = finding("xid-95");
    found.last_seen = Some(clock().now - jiff::SignedDuration::from_secs(seconds));
    found
}

#[test]
fn the_kill_switch_stops_everything() {
    let policy = Policy::default();
    assert_eq!(rule(kill_switch(true, &policy)), Some("kill_switch"));
    assert_eq!(rule(kill_switch(false, &policy)), None);
}

#[test]
fn only_what_the_catalogue_lists_is_acted_on() {
    let catalogue = Catalogue::embedded().unwrap();
    assert_eq!(rule(listed(&finding("xid-95"), &catalogue)), None);
    assert_eq!(rule(listed(&finding("xid-9999"), &catalogue)), Some("unlisted"));
    assert_eq!(rule(listed(&finding("xid-1"), &catalogue)), Some("unlisted"), "no driver prints it");
}

#[test]
fn a_blind_check_finds_nothing() {
    let check = |state| [Check { name: "kernel-log".to_owned(), state, detail: String::new() }];
    assert_eq!(rule(seen(&finding("xid-95"), &check(State::Blind))), Some("blind"));
    assert_eq!(rule(seen(&finding("xid-95"), &check(State::Fault))), None);
}

#[test]
fn findings_of_elsewhere_or_before_the_boot_are_not_ours() {
    let here = ("gpu-17", "boot");
    assert_eq!(rule(this_boot((Some("gpu-17"), Some("boot")), here)), None);
    assert_eq!(rule(this_boot((Some("gpu-18"), Some("boot")), here)), Some("node"));
    assert_eq!(rule(this_boot((None, Some("boot")), here)), Some("node"));
    assert_eq!(rule(this_boot((Some("gpu-17"), Some("other")), here)), Some("boot_id"));
    assert_eq!(rule(this_boot((Some("gpu-17"), None), here)), Some("boot_id"));
}

#[test]
fn old_events_and_those_of_the_future_are_refused() {
    let policy = Policy::default();
    assert_eq!(rule(fresh(&seen_ago(3599), &policy, &clock(), true)), None);
    assert_eq!(rule(fresh(&seen_ago(3601), &policy, &clock(), true)), Some("max_age"));
    assert_eq!(rule(fresh(&seen_ago(9999), &policy, &clock(), false)), None, "a reading is of now");
    // A crash record of the boot before: nobody knows whether it is so still.
    assert_eq!(rule(fresh(&seen_ago(90_061), &policy, &clock(), false)), Some("boot_id"));
    assert_eq!(rule(fresh(&seen_ago(-299), &policy, &clock(), true)), None);
    assert_eq!(rule(fresh(&seen_ago(-301), &policy, &clock(), true)), Some("clock"));
    assert_eq!(rule(fresh(&finding("xid-95"), &policy, &clock(), true)), Some("max_age"));
    assert_eq!(rule(fresh(&finding("gpu-lost"), &policy, &clock(), false)), None);
}

#[test]
fn a_soft_fault_needs_a_second_signal() {
    let policy = Policy { soft: vec!["xid-95".to_owned()], ..Policy::default() };
    let nothing = History::default();
    let mut soft = finding("xid-94");
    soft.severity = Severity::Warning;
    assert_eq!(rule(second_signal(&soft, &[], &nothing, &policy)), Some("second_signal"));
    assert_eq!(rule(second_signal(&finding("xid-95"), &[], &nothing, &policy)), Some("second_signal"), "named soft");
    assert_eq!(rule(second_signal(&finding("xid-64"), &[], &nothing, &policy)), None);
    let twice = Finding { count: 2, ..soft.clone() };
    assert_eq!(rule(second_signal(&twice, &[], &nothing, &policy)), None);
    let other = Finding { source: "nvml".to_owned(), ..finding("ecc-dbe") };
    assert_eq!(rule(second_signal(&soft, std::slice::from_ref(&other), &nothing, &policy)), None);
    let elsewhere = Finding { device: Default::default(), ..other };
    assert_eq!(rule(second_signal(&soft, &[elsewhere], &nothing, &policy)), Some("second_signal"));
    for (ago_s, wanted) in [(30.0, Some("second_signal")), (61.0, None), (3601.0, Some("second_signal"))] {
        let device = DeviceKey::of(&soft);
        let sightings = vec![Sighting { fault: soft.fault.clone(), device, ago_s }];
        let history = History { sightings, ..History::default() };
        assert_eq!(rule(second_signal(&soft, &[], &history, &policy)), wanted, "{ago_s}");
    }
}

#[test]
fn attempts_are_capped_for_a_fault_and_for_a_node() {
    let policy = Policy::default();
    let cap = |incidents| rule(attempt_cap("gpu-17", &finding("xid-95"), &history(incidents), &policy));
    let twice = |fault: &str, ago_s| Past { attempts_ago_s: vec![ago_s, ago_s], ..past(fault, Standing::Failed, 0.0) };
    assert_eq!(cap(vec![past("xid-95", Standing::Failed, 10.0)]), None);
    assert_eq!(cap(vec![twice("xid-95", 50.0)]), Some("attempt_cap"));
    assert_eq!(cap(vec![twice("xid-95", 90_000.0)]), None, "longer ago than the window");
    // Over boots: another boot's incident on the same fault counts.
    let other_boot = Past { boot_id: "before".to_owned(), ..past("xid-95", Standing::Failed, 10.0) };
    assert_eq!(cap(vec![other_boot, past("xid-95", Standing::Restored, 10.0)]), Some("attempt_cap"));
    assert_eq!(cap(vec![twice("xid-48", 5.0), past("xid-64", Standing::Restored, 5.0)]), None);
    assert_eq!(cap(vec![twice("xid-48", 5.0), twice("xid-64", 5.0)]), Some("attempt_cap"), "four on the node");
    let elsewhere = Past { node: "gpu-18".to_owned(), ..twice("xid-64", 5.0) };
    assert_eq!(cap(vec![twice("xid-48", 5.0), elsewhere]), None);
}

#[test]
fn a_device_cools_down_between_attempts() {
    let policy = Policy::default();
    let cooled = |incident| rule(cool_down(&finding("xid-95"), &history(vec![incident]), &policy));
    assert_eq!(cooled(past("xid-95", Standing::Failed, 1799.0)), Some("cool_down"));
    assert_eq!(cooled(past("xid-48", Standing::Restored, 1799.0)), Some("cool_down"), "another fault, the same GPU");
    assert_eq!(cooled(past("xid-95", Standing::Failed, 1800.0)), None);
    let mut other = past("xid-95", Standing::Failed, 5.0);
    other.finding.device.pci = Some("0000:5e:00.0".to_owned());
    assert_eq!(cooled(other), None, "another GPU");
    // A clock that went back makes it negative: still cooling.
    assert_eq!(cooled(past("xid-95", Standing::Failed, -50.0)), Some("cool_down"));
}

#[test]
fn quiet_hours_and_windows_hold() {
    let noon = |text: &str| -> Vec<Hours> { serde_yaml::from_str(text).unwrap() };
    let around = "[{from: '11:00', to: '13:00'}]";
    let before = "[{days: [mon], from: '11:00', to: '13:00'}]";
    let with = |quiet: &str, windows: &str| {
        let policy = Policy { quiet_hours: noon(quiet), windows: noon(windows), ..Policy::default() };
        rule(hours(&policy, &clock()))
    };
    assert_eq!(with("[]", "[]"), None);
    assert_eq!(with(around, "[]"), Some("quiet_hours"));
    assert_eq!(with(before, "[]"), None);
    assert_eq!(with("[]", around), None);
    assert_eq!(with("[]", before), Some("windows"));
    assert_eq!(with(around, around), Some("quiet_hours"), "quiet hours win");
}

#[test]
fn so_many_at_once_and_no_more() {
    let policy = Policy { concurrent: 2, ..Policy::default() };
    assert_eq!(rule(concurrent(1, &policy)), None);
    assert_eq!(rule(concurrent(2, &policy)), Some("concurrent"));
}

#[test]
fn the_breaker_opens_when_many_nodes_are_hit() {
    let policy = Policy { breaker: Breaker { nodes: 3, share: 0.5, window: Span::seconds(600) }, ..Policy::default() };
    let on = |nodes: usize, ago_s: f64| -> Vec<Past> {
        let of = |i| Past { node: format!("n{i}"), attempts_ago_s: vec![ago_s], ..past("xid-95", Standing::Open, 1.0) };
        (0..nodes).map(of).collect()
    };
    let with =
        |incidents, nodes| rule(breaker("n0", &History { incidents, nodes, ..History::default() }, None, &policy));
    assert_eq!(with(on(3, 10.0), None), None);
    assert_eq!(with(on(4, 10.0), None), Some("breaker"));
    assert_eq!(with(on(4, 601.0), None), None, "outside of the window");
    assert_eq!(with(on(4, 10.0), Some(8)), None, "half of all nodes, not more");
    assert_eq!(with(on(4, 10.0), Some(7)), Some("breaker"));
}

#[test]
fn a_repair_stays_within_its_radius() {
    let policy = Policy { blast_radius: 2, ..Policy::default() };
    assert_eq!(rule(blast_radius(2, &policy)), None);
    assert_eq!(rule(blast_radius(3, &policy)), Some("blast_radius"));
}

#[test]
fn the_breaker_counts_the_nodes_of_the_cluster() {
    let policy = Policy { breaker: Breaker { nodes: 2, share: 0.1, ..Breaker::default() }, ..Policy::default() };
    let fleet = |nodes, ago: &[f64]| {
        let isolated = ago.iter().enumerate().map(|(i, ago)| (format!("n{i}"), *ago)).collect();
        Fleet { nodes, isolated, unhealthy: Vec::new() }
    };
    let none = History::default();
    let with = |nodes, ago: &[f64]| rule(breaker("us", &none, Some(&fleet(nodes, ago)), &policy));
    assert_eq!(with(20, &[10.0, 10.0]), Some("breaker"));
    assert_eq!(with(20, &[10.0, 700.0]), None, "long ago");
    assert_eq!(with(200, &[10.0, 10.0]), None, "a small share");
}

#[test]
fn a_cluster_keeps_nodes_to_work_with() {
    let limit = OutOfService { nodes: 2, share: 0.1 };
    let policy = Policy { out_of_service: limit, ..Policy::default() };
    let fleet = |nodes, isolated: &[&str], unhealthy: &[&str]| Fleet {
        nodes,
        isolated: isolated.iter().map(|name| ((*name).to_owned(), 1e6)).collect(),
        unhealthy: unhealthy.iter().map(|name| (*name).to_owned()).collect(),
    };
    let with = |fleet: Fleet| rule(out_of_service("us", Some(&fleet), &policy));
    assert_eq!(with(fleet(20, &["a"], &["b"])), Some("out_of_service"));
    assert_eq!(with(fleet(20, &["a", "us"], &[])), None, "it is out already");
    assert_eq!(with(fleet(30, &["a"], &["b"])), None, "a small share");
    assert_eq!(rule(out_of_service("us", None, &policy)), None, "no cluster");
}
