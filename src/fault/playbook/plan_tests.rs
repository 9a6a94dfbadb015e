//! Plans as a whole: the same facts give the same plan, and nothing healthy is in it.

use proptest::prelude::*;

use super::super::policy::tests::{clock, past};
use super::super::tests::finding;
use super::super::{Began, Mark};
use super::*;

/// Facts with their owners.
struct Scene {
    catalogue: Catalogue,
    playbook: Playbook,
    findings: Vec<Finding>,
    checks: Vec<Check>,
    history: History,
    clock: Clock,
    gpus: Vec<GpuFacts>,
    stopped: bool,
    reach: Reach,
    fleet: Option<Fleet>,
}

impl Scene {
    fn new(findings: Vec<Finding>) -> Scene {
        let check = |name: &str| Check { name: name.to_owned(), state: State::Fault, detail: String::new() };
        Scene {
            catalogue: Catalogue::embedded().unwrap(),
            playbook: Playbook::embedded().unwrap(),
            findings,
            checks: vec![check("kernel-log"), check("nvml")],
            history: History::default(),
            clock: clock(),
            gpus: Vec::new(),
            stopped: false,
            reach: Reach::Machine,
            fleet: None,
        }
    }

    fn plan(&self) -> Plan {
        plan(&Facts {
            catalogue: &self.catalogue,
            playbook: &self.playbook,
            node: "gpu-17",
            boot_id: "boot",
            found_on: (Some("gpu-17"), Some("boot")),
            findings: &self.findings,
            checks: &self.checks,
            history: &self.history,
            clock: &self.clock,
            stopped: self.stopped,
            gpus: &self.gpus,
            reach: self.reach,
            fleet: self.fleet.as_ref(),
        })
    }

    fn after(mut self, past: Past) -> Scene {
        self.history.incidents.push(past);
        self
    }

    fn refused(&self) -> Vec<&'static str> {
        self.plan().refused.iter().map(|refused| refused.rule).collect()
    }
}

/// Seen a minute ago, which was 89,940 s after boot.
fn fresh(fault: &str) -> Finding {
    Finding { last_seen: Some("2026-11-24T11:59:00Z".parse().unwrap()), ..finding(fault) }
}

fn shown(plan: &Plan) -> Vec<String> {
    let step = |step: &Planned| format!("{} {}", step.step.name(), step.state.name());
    plan.incidents.iter().flat_map(|incident| incident.steps.iter().map(step)).collect()
}

fn task(kind: StepKind, state: StepState) -> Task {
    Task { step: Step::of(kind), target: String::new(), state, why: String::new() }
}

fn open(began: &[StepKind]) -> Past {
    use StepKind::{Isolate, ResetGpu, Restore, Verify};
    let kinds = [Isolate, ResetGpu, Verify, Restore];
    let done = |kind| if began.contains(&kind) { StepState::Done } else { StepState::Planned };
    let begun = |kind| began.contains(&kind).then(|| Began { ago_s: 9.0, boot_id: "boot".to_owned(), ended: true });
    Past {
        tasks: kinds.iter().map(|kind| task(*kind, done(*kind))).collect(),
        began: kinds.iter().map(|kind| begun(*kind)).collect(),
        closed_ago_s: None,
        ..past("xid-95", Standing::Open, 5.0)
    }
}

#[test]
fn a_fault_gets_the_steps_of_its_rule() {
    let plan = Scene::new(vec![fresh("xid-95")]).plan();
    assert_eq!(
        shown(&plan),
        [
            "isolate planned",
            "notify skipped",
            "checkpoint skipped",
            "stop-holders planned",
            "reset-gpu planned",
            "restart-service planned",
            "verify planned",
            "restore planned"
        ]
    );
    let incident = &plan.incidents[0];
    assert_eq!((incident.attempt, incident.rule.as_str(), plan.refused.len()), (1, "gpu-reset", 0));
    assert_eq!(incident.id, incident_id("gpu-17", "boot", &fresh("xid-95")));
    assert_eq!(incident.id.len(), 14);
}

#[test]
fn where_a_step_lacks_its_command_nothing_is_disturbed() {
    let mut lost = fresh("xid-79");
    lost.action = "RESTART_BM".to_owned();
    let mut scene = Scene::new(vec![lost]);
    let plan = scene.plan();
    let shown = shown(&plan);
    assert_eq!(
        shown[3..],
        ["stop-holders skipped", "reboot refused", "verify skipped", "restore skipped", "hand-over planned"]
    );
    scene.playbook.commands.reboot = vec!["systemctl".to_owned(), "reboot".to_owned()];
    assert_eq!(scene.plan().incidents[0].steps.len(), 7);
}

#[test]
fn what_is_not_known_fresh_and_ours_has_no_steps() {
    for (change, rule) in [
        (Box::new(|f: &mut Finding| f.fault = "xid-9999".to_owned()) as Box<dyn Fn(&mut Finding)>, Some("unlisted")),
        (Box::new(|f| f.last_seen = Some("2026-11-24T10:00:00Z".parse().unwrap())), Some("max_age")),
        (Box::new(|f| f.last_seen = None), Some("max_age")),
        (Box::new(|f| f.severity = Severity::Info), None),
        (Box::new(|f| f.action = "IGNORE".to_owned()), Some("no_rule")),
    ] {
        let mut found = fresh("xid-95");
        change(&mut found);
        let scene = Scene::new(vec![found]);
        assert_eq!(scene.refused(), rule.into_iter().collect::<Vec<_>>());
        assert!(scene.plan().incidents.is_empty());
    }
    let mut scene = Scene::new(vec![fresh("xid-95")]);
    scene.checks[0].state = State::Blind;
    assert_eq!(scene.refused(), ["blind"]);
    scene.stopped = true;
    assert_eq!(scene.refused(), ["kill_switch"]);
}

#[test]
fn one_device_has_one_repair_and_one_node_one_at_a_time() {
    let mut other = fresh("xid-95");
    other.device.pci = Some("0000:5e:00.0".to_owned());
    let scene = Scene::new(vec![fresh("xid-64"), fresh("xid-95"), other]);
    assert_eq!(scene.plan().incidents.len(), 1);
    assert_eq!(scene.refused(), ["same_device", "concurrent"]);
}

#[test]
fn a_reset_that_would_reach_further_is_refused() {
    let mut linked = fresh("xid-95");
    linked.scope = "gpu+nvlink_peer".to_owned();
    assert_eq!(Scene::new(vec![linked]).refused(), ["blast_radius"]);
    let mut scene = Scene::new(vec![fresh("xid-95")]);
    scene.gpus = vec![GpuFacts { pci: "0000:3b:00.0".to_owned(), peers: Some(vec!["0000:5e:00.0".to_owned()]) }];
    assert_eq!(scene.refused(), ["blast_radius"]);
}

#[test]
fn gpus_that_nvlink_joins_are_reset_together_where_a_site_allows_it() {
    let pci = ["0000:3b:00.0", "0000:5e:00.0"].map(str::to_owned);
    let mut scene = Scene::new(vec![fresh("xid-95")]);
    scene.gpus = vec![GpuFacts { pci: pci[0].clone(), peers: Some(vec![pci[1].clone()]) }];
    scene.playbook.policy.blast_radius = 2;
    let plan = scene.plan();
    let steps = &plan.incidents[0].steps;
    let reset = steps.iter().find(|step| step.step == StepKind::ResetGpu).unwrap();
    assert_eq!((reset.target.as_str(), &reset.settings.gpus[..]), ("0000:3b:00.0, 0000:5e:00.0", &pci[..]));
    assert_eq!(reset.state, StepState::Planned);
    // A command of a site's that names one GPU can't do it: nothing is disturbed, a human is told.
    scene.playbook.commands.reset_gpu = ["reset", "{pci}"].map(str::to_owned).to_vec();
    let plan = scene.plan();
    let steps = &plan.incidents[0].steps;
    assert!(steps.iter().any(|step| step.step == StepKind::ResetGpu && step.state == StepState::Refused));
    assert_eq!(steps.last().unwrap().step, StepKind::HandOver);
}

#[test]
fn what_was_begun_goes_on_where_it_stopped() {
    let scene = Scene::new(vec![fresh("xid-95")]).after(open(&[StepKind::Isolate, StepKind::ResetGpu]));
    let plan = scene.plan();
    assert_eq!(shown(&plan), ["isolate done", "reset-gpu done", "verify planned", "restore planned"]);
    assert_eq!((plan.incidents[0].attempt, plan.refused.len()), (1, 0));
}

#[test]
fn a_device_that_is_well_again_is_not_repaired() {
    // The log of another boot no longer holds it; a log of this one always does.
    let mut before = open(&[StepKind::Isolate]);
    before.boot_id = "before".to_owned();
    let plan = Scene::new(Vec::new()).after(before).plan();
    assert_eq!(shown(&plan), ["isolate done", "reset-gpu skipped", "verify planned", "restore planned"]);
    let plan = Scene::new(Vec::new()).after(open(&[StepKind::Isolate])).plan();
    assert_eq!(shown(&plan)[1], "reset-gpu planned");
    // A blind check is no health.
    let mut reading = open(&[StepKind::Isolate]);
    reading.finding.source = "nvml".to_owned();
    let mut scene = Scene::new(Vec::new()).after(reading);
    assert_eq!(shown(&scene.plan())[1], "reset-gpu skipped");
    scene.checks[1].state = State::Blind;
    assert_eq!(shown(&scene.plan())[1], "reset-gpu planned");
}

#[test]
fn a_failed_attempt_is_followed_by_another_then_by_a_human() {
    let mut failed = Past { closed_ago_s: Some(2000.0), ..past("xid-95", Standing::Failed, 2000.0) };
    let plan = Scene::new(vec![fresh("xid-95")]).after(failed.clone()).plan();
    assert_eq!((plan.incidents[0].attempt, plan.incidents[0].id.as_str()), (2, "i-xid-95"));
    failed.last_ago_s = 100.0;
    assert_eq!(Scene::new(vec![fresh("xid-95")]).after(failed.clone()).refused(), ["cool_down"]);
    failed.attempts_ago_s = vec![4000.0, 110.0];
    let plan = Scene::new(vec![fresh("xid-95")]).after(failed).plan();
    assert_eq!(shown(&plan), ["hand-over planned"]);
}

#[test]
fn a_humans_case_is_left_alone() {
    for (standing, rule) in [(Standing::HandedOver, "handed_over"), (Standing::Undone, "undone")] {
        let scene = Scene::new(vec![fresh("xid-95")]).after(past("xid-95", standing, 30.0));
        assert_eq!(scene.refused(), [rule]);
        assert!(scene.plan().incidents.is_empty());
    }
    // Seen again a minute ago, after it had been undone two hours ago.
    let scene = Scene::new(vec![fresh("xid-95")]).after(past("xid-95", Standing::Undone, 7200.0));
    assert_eq!(scene.plan().incidents.len(), 1);
}

#[test]
fn an_event_from_before_the_repair_is_settled_whatever_the_clock_did() {
    let mark = |count| Mark {
        fault: "xid-95".to_owned(),
        device: DeviceKey("0000:3b:00.0".to_owned()),
        count,
        last_up_s: Some(89_940.0),
    };
    let restored = |count, boot: &str| Past {
        after: Some((boot.to_owned(), vec![mark(count)])),
        ..past("xid-95", Standing::Restored, 2000.0)
    };
    let settled = |scene: &Scene| scene.plan().incidents.is_empty() && scene.plan().refused.is_empty();
    let mut scene = Scene::new(vec![fresh("xid-95")]).after(restored(1, "boot"));
    assert!(settled(&scene));
    // The clock jumps, and with it the times that the log is read in.
    for hours in [-5, 5] {
        let jump = jiff::SignedDuration::from_hours(hours);
        scene.clock.now += jump;
        scene.findings[0].last_seen = scene.findings[0].last_seen.map(|seen| seen + jump);
        assert!(settled(&scene), "{hours}");
    }
    scene.findings[0].count = 2;
    assert_eq!(scene.plan().incidents.len(), 1, "it came again");
    let scene = Scene::new(vec![fresh("xid-95")]).after(restored(1, "before"));
    assert_eq!(scene.plan().incidents.len(), 1, "another boot's log");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is found: the plan is the same each time, acts on listed, fresh, grave faults
    /// alone, resets only the devices that were found, and stays within its limits.
    #[test]
    fn no_plan_touches_what_is_healthy(
        faults in prop::collection::vec((0usize..6, 0usize..4, 0usize..4, 0i64..7200, 1u64..3), 0..12),
    ) {
        let names = ["xid-95", "xid-64", "xid-79", "xid-13", "xid-9999", "made-up"];
        let severities = [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical];
        let findings: Vec<Finding> = faults.into_iter().map(|(name, device, severity, ago, count)| {
            let mut found = fresh(names[name]);
            found.device.pci = Some(format!("0000:{device}0:00.0"));
            found.severity = severities[severity];
            found.count = count;
            found.last_seen = Some(clock().now - jiff::SignedDuration::from_secs(ago));
            found
        }).collect();
        let scene = Scene::new(findings.clone());
        let plan = scene.plan();
        prop_assert_eq!(&plan, &scene.plan());
        prop_assert!(plan.incidents.len() <= 1);
        for incident in &plan.incidents {
            prop_assert!(findings.contains(&incident.finding));
            prop_assert!(incident.finding.severity > Severity::Warning);
            prop_assert!(scene.catalogue.get(&incident.finding.fault).is_some());
            prop_assert!(clock().ago_s(incident.finding.last_seen.unwrap()) <= 3600.0);
            for step in incident.steps.iter().filter(|step| step.step == StepKind::ResetGpu) {
                prop_assert_eq!(Some(&step.target), incident.finding.device.pci.as_ref());
            }
        }
        // What was done once and verified is not done again.
        let marks = Mark::all(&findings, &scene.clock);
        let restored = plan.incidents.iter().map(|incident| Past {
            id: incident.id.clone(),
            finding: incident.finding.clone(),
            after: Some(("boot".to_owned(), marks.clone())),
            ..past(&incident.finding.fault, Standing::Restored, 10.0)
        });
        let devices: Vec<DeviceKey> = restored.clone().map(|past| past.device()).collect();
        let again = Scene { history: History { incidents: restored.collect(), ..History::default() }, ..scene }.plan();
        prop_assert!(again.incidents.iter().all(|incident| !devices.contains(&DeviceKey::of(&incident.finding))));
    }
}
