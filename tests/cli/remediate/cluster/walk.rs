//! The crash walk with a cluster: aictl is killed at every mark of the journal and run again.

use super::super::every_mark;
use super::town::{ALL, Town};

/// Dies at one mark, is run again as cron would, and everything must be well. Whether it got through.
fn walk(mark: u64, isolate: &str) -> Option<bool> {
    let town = Town::new(ALL)?;
    town.playbook(isolate, ALL);
    town.job(1);
    town.keepers(1);
    let bystander = town.get_node(&town.bystander).metadata.resource_version;
    let through = town.site.start(Some(mark)).wait().unwrap().code().is_some();
    let code = town.site.settle();
    let history = town.site.history();
    let tell = || format!("mark {mark}: exit code {code}\n{:?}\n{history:#}", town.marks());
    let incidents = history["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{}", tell());
    assert_eq!((code, incidents[0]["state"].as_str()), (0, Some("restored")), "{}", tell());
    assert!(town.is_clean() && !town.marks().0, "left isolated: {}", tell());
    assert_eq!(town.site.count("reset"), 1, "{}", tell());
    assert_eq!(town.where_pods_are(), [("again-1".to_owned(), town.bystander.clone())], "{}", tell());
    assert_eq!(town.get_node(&town.bystander).metadata.resource_version, bystander, "{}", tell());
    // And nothing is left to do.
    let before = town.versions();
    town.site.apply();
    assert_eq!(town.versions(), before, "{}", tell());
    Some(through)
}

/// Walks all marks, or each `stride`th.
fn walk_all(isolate: &str, stride: u64) {
    let Some(mark) = every_mark(stride, |mark| walk(mark, isolate)) else { return };
    assert!(mark > 50, "only {mark} marks");
}

#[test]
fn a_run_killed_at_any_mark_leaves_no_taint() {
    walk_all("{by: taint}", 1);
}

// The marks are the same as with a taint; only two of them differ in what they write.
#[test]
fn a_run_killed_at_any_third_mark_leaves_no_cordon() {
    walk_all("{by: cordon}", 3);
}
