//! Playbooks as text: what is read, what is refused.

use super::super::{Component, Device, Finding, Severity};
use super::*;

/// A finding of the kernel's log.
pub(super) fn finding(fault: &str) -> Finding {
    Finding {
        fault: fault.to_owned(),
        code: None,
        title: String::new(),
        component: Component::Gpu,
        device: Device { pci: Some("0000:3b:00.0".to_owned()), ..Device::default() },
        severity: Severity::Critical,
        scope: "gpu".to_owned(),
        action: "RESET_GPU".to_owned(),
        then: None,
        count: 1,
        first_seen: None,
        last_seen: None,
        evidence: Vec::new(),
        pid: None,
        process: None,
        source: "kernel-log".to_owned(),
        because: None,
    }
}

fn error(text: &str) -> String {
    let error = Playbook::parse("site.yaml", text).unwrap_err();
    std::error::Error::source(&error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[test]
fn the_built_in_playbook_is_sound() {
    let playbook = Playbook::embedded().unwrap();
    assert_eq!(playbook.policy, Policy::default());
    let mut rules: Vec<&str> = playbook.rules.iter().map(|rule| rule.name.as_str()).collect();
    rules.dedup();
    assert_eq!(rules.len(), playbook.rules.len());
    let matched = |fault: &str| playbook.rule(&finding(fault)).map(|rule| rule.name.as_str());
    assert_eq!(matched("xid-95"), Some("gpu-reset"));
    let mut ignored = finding("xid-45");
    ignored.action = "IGNORE".to_owned();
    assert!(playbook.rule(&ignored).is_none());
    // A rule for soft faults would act on warnings.
    for rule in &playbook.rules {
        assert!(!rule.when.severities.contains(&Severity::Warning), "{}", rule.name);
        assert!(!rule.when.faults.is_empty() || !rule.when.severities.is_empty(), "{}", rule.name);
    }
}

#[test]
fn every_fault_that_it_names_is_in_the_catalogue() {
    let catalogue = super::super::Catalogue::embedded().unwrap();
    for rule in Playbook::embedded().unwrap().rules {
        for fault in rule.when.faults {
            assert!(catalogue.get(&fault).is_some(), "{fault}");
        }
    }
}

#[test]
fn a_site_comes_first_and_brings_its_commands() {
    let text = "extends: default\ncommands: {isolate: [cordon, '{node}'], restore: [uncordon, '{node}']}\n\
                policy: {cool_down: 10m}\nrules:\n- name: ours\n  match: {faults: [xid-95]}\n  steps: []\n";
    let playbook = Playbook::parse("site.yaml", text).unwrap();
    assert!(playbook.rule(&finding("xid-95")).unwrap().steps.is_empty());
    let rule = playbook.rule(&finding("xid-64")).unwrap();
    let isolate = rule.steps[0].settled(&playbook, Reach::Machine);
    assert_eq!((isolate.command[0].as_str(), isolate.undo[0].as_str()), ("cordon", "uncordon"));
    assert_eq!(playbook.policy.cool_down, Span::seconds(600));
    assert_eq!(playbook.policy.max_age, Policy::default().max_age);
}

#[test]
fn a_playbook_that_could_do_harm_is_refused() {
    let rule = |steps: &str| format!("rules:\n- name: r\n  match: {{faults: [xid-95]}}\n  steps: [{steps}]\n");
    for (text, says) in [
        ("rules:\n- name: r\n  match: {}\n  steps: []\n".to_owned(), "matches every fault"),
        (rule("{step: restore}"), "without a verify"),
        (rule("{step: verify}, {step: restore}, {step: reset-gpu}"), "a repair after restore"),
        (rule("{step: isolate}, {step: reset-gpu}"), "stay isolated"),
        (rule("{step: hand-over}, {step: notify}"), "the last step"),
        (rule("{step: isolate, command: [x]}, {step: hand-over}"), "needs `undo`"),
        (rule("{step: reset-gpu, command: [nvidia-smi, -r]}"), "names no device"),
        (rule("{step: reset-gpu, attempts: 3}"), "takes no `attempts`"),
        (rule("{step: reboot, attempts: 2}"), "takes no `attempts`"),
        (rule("{step: evict}"), "needs `namespaces`"),
        (rule("{step: evict, namespaces: ['']}"), "needs `namespaces`"),
        (rule("{step: evict, namespaces: [jobs], selector: ' '}"), "select everything"),
        (rule("{step: stop-holders, names: ['']}"), "an empty name"),
        (rule("{step: script}"), "needs `command`"),
        (rule("{step: restart-service}"), "needs `service`"),
        (rule("{step: restart-service, service: --all}"), "no name of a unit"),
        (rule("{step: notify, url: 'ftp://x'}"), "not an address"),
        (rule("{step: explode}"), "explode"),
        (rule("{step: reset-gpu, comand: [x]}"), "comand"),
        ("commands: {isolate: [cordon]}".to_owned(), "must be put back"),
        ("commands: {reset_gpu: [nvidia-smi, '{gpu}']}".to_owned(), "unknown placeholder"),
        ("policy: {kill_switch: ''}".to_owned(), "way to be stopped"),
        ("policy: {attempts_per_node: 0}".to_owned(), "nothing would ever be done"),
        ("policy: {breaker: {share: 20}}".to_owned(), "between 0 and 1"),
        ("policy: {cooldown: 3m}".to_owned(), "cooldown"),
        ("extends: theirs".to_owned(), "only \"default\""),
    ] {
        let said = error(&text);
        assert!(said.contains(says) && said.contains("site.yaml"), "{text}\nsaid: {said}");
    }
}

#[test]
fn the_example_is_sound() {
    let playbook = Playbook::parse("playbook.yaml", include_str!("../../../examples/playbook.yaml")).unwrap();
    assert!(playbook.rules.len() > 5 && playbook.policy.quiet_hours.len() == 1);
}

#[test]
fn isolation_goes_by_what_a_site_says_and_by_what_there_is() {
    let by = |yaml: &str, reach: Reach| {
        let text = format!(
            "{yaml}\nrules:\n- name: x\n  match: {{faults: [a]}}\n  steps: [{{step: isolate}}, {{step: hand-over}}]"
        );
        let playbook = Playbook::parse("p", &text).unwrap();
        let step = playbook.rules[0].steps[0].settled(&playbook, reach);
        (step.by, step.standing(reach).is_ok())
    };
    let command = "commands: {isolate: [a], restore: [b]}";
    assert_eq!(by("", Reach::Machine), (None, true), "the marker file alone");
    assert_eq!(by("", Reach::Node), (Some(Means::Auto), true));
    assert_eq!(by("isolate: {by: cordon}", Reach::Central), (Some(Means::Cordon), true));
    assert_eq!(by("isolate: {by: cordon}", Reach::Machine), (Some(Means::Cordon), false), "needs a cluster");
    assert_eq!(by(command, Reach::Node), (Some(Means::Command), true));
    assert_eq!(by(command, Reach::Central), (Some(Means::Command), false), "not from afar");
    assert_eq!(by(&format!("{command}\nisolate: {{by: taint}}"), Reach::Node), (Some(Means::Taint), true));
    assert!(error("isolate: {by: command}").contains("no commands.isolate"));
}

#[test]
fn what_could_move_anything_is_refused() {
    let rule = |steps: &str| error(&format!("rules:\n- name: x\n  match: {{faults: [a]}}\n  steps: [{steps}]"));
    let isolated = |step: &str| rule(&format!("{{step: isolate}}, {step}, {{step: hand-over}}"));
    for step in ["{step: evict}", "{step: evict, namespaces: ['']}", "{step: evict, namespaces: ['*']}"] {
        assert!(isolated(step).contains("namespace"), "{step}");
    }
    assert!(isolated("{step: evict, namespaces: [a], selector: ' '}").contains("selector"));
    assert!(isolated("{step: restart-pod, namespaces: [a]}").contains("selector"));
    assert!(rule("{step: evict, namespaces: [a]}, {step: hand-over}").contains("without isolate"));
    assert!(isolated("{step: resume}").contains("nothing was moved"));
    assert!(isolated("{step: checkpoint, save: {annotate: true}}").contains("namespaces"));
}
