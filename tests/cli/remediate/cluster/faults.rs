//! The API server is away, busy, or answers what is never heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::super::every_mark;
use super::super::site::plan;
use super::proxy::{Fate, Proxy};
use super::town::{ALL, Town};
use crate::support::kube::ADMIN;

/// A town whose server is reached through a proxy.
fn behind_a_proxy(steps: &str) -> Option<(Town, Proxy)> {
    let town = Town::new(steps)?;
    let proxy = Proxy::new(&town.kube.url());
    let config = town.kube.kubeconfig_at(&proxy.url, ADMIN, &town.namespace);
    town.site.write("kubeconfig", &config);
    Some((town, proxy))
}

/// What must hold in the end, whatever went wrong on the way.
fn holds(town: &Town, what: &str) {
    assert_eq!(town.site.settle(), 0, "{what}: {:#}", town.site.history());
    assert_eq!(town.site.count("reset"), 1, "{what}: {:?}", town.site.log());
    assert!(town.is_clean(), "{what}: {:?}", town.marks());
    assert!(
        town.where_pods_are().iter().all(|(_, node)| *node == town.bystander),
        "{what}: {:?}",
        town.where_pods_are()
    );
}

#[test]
fn an_answer_that_is_lost_after_the_write_is_known_again() {
    // Every write of a run, one after the other: its answer is lost once.
    let lose = |nth| {
        let (town, proxy) = behind_a_proxy(ALL)?;
        town.job(1);
        town.keepers(1);
        let writes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&writes);
        proxy.judge(move |method, _| {
            let write = method != "GET";
            let lost = write && counted.fetch_add(1, Ordering::SeqCst) + 1 == nth;
            if lost { Fate::Lose } else { Fate::Pass }
        });
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(0), "write {nth}: {:#}", plan(&output));
        let isolated = town.events().iter().filter(|reason| *reason == "AictlIsolated").count();
        assert_eq!(isolated, 1, "write {nth}");
        holds(&town, &format!("write {nth}"));
        Some(proxy.met() == 0)
    };
    let Some(nth) = every_mark(1, lose) else { return };
    assert!(nth > 8, "only {nth} writes");
}

#[test]
fn conflicts_and_a_busy_server_are_waited_out() {
    for status in [409, 429, 500, 503] {
        let Some((town, proxy)) = behind_a_proxy(ALL) else { return };
        town.job(1);
        town.keepers(1);
        // Two of seven requests are refused; no order of a run's requests meets them for ever.
        let asked = AtomicUsize::new(0);
        proxy.judge(move |method, _| {
            // Only what writes can meet another's write.
            let may = status != 409 || method != "GET";
            let refused = may && matches!(asked.fetch_add(1, Ordering::SeqCst) % 7, 0 | 3);
            if refused { Fate::Answer(status) } else { Fate::Pass }
        });
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(0), "{status}: {:#}", plan(&output));
        assert!(proxy.met() > 3);
        holds(&town, &status.to_string());
    }
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_waited_for() {
    // Away for some seconds from the first write of each kind on.
    for (method, part) in [("PATCH", "/nodes/"), ("POST", "/eviction"), ("PATCH", "/pods/"), ("POST", "/events")] {
        let Some((town, proxy)) = behind_a_proxy(ALL) else { return };
        town.job(1);
        town.keepers(1);
        let since = std::sync::Mutex::new(None::<Instant>);
        proxy.judge(move |asked, path| {
            let mut since = since.lock().unwrap();
            if since.is_none() && asked == method && path.contains(part) {
                *since = Some(Instant::now());
            }
            let away = since.is_some_and(|since| since.elapsed() < Duration::from_secs(4));
            if away { Fate::Refuse } else { Fate::Pass }
        });
        let output = town.site.apply();
        assert_eq!(output.status.code(), Some(0), "{method} {part}: {:#}", plan(&output));
        assert!(proxy.met() > 0, "{method} {part}");
        holds(&town, &format!("{method} {part}"));
    }
}

#[test]
fn a_server_that_stays_away_leaves_the_rest_to_the_next_run() {
    let Some((town, proxy)) = behind_a_proxy(ALL) else { return };
    town.job(1);
    town.keepers(1);
    // Shorter than people would have it, and than the server is away.
    town.site.edit("playbook.yaml", "isolate, timeout: 20s", "isolate, timeout: 2s");
    let away = Arc::new(AtomicBool::new(true));
    let judged = Arc::clone(&away);
    let lost = AtomicBool::new(false);
    proxy.judge(move |method, path| {
        // The write is done, and nothing is heard from then on.
        let write = method == "PATCH" && path.contains("/nodes/");
        match (judged.load(Ordering::SeqCst), lost.load(Ordering::SeqCst)) {
            (true, true) => Fate::Refuse,
            (true, false) if write => {
                lost.store(true, Ordering::SeqCst);
                Fate::Lose
            }
            _ => Fate::Pass,
        }
    });
    let output = town.site.apply();
    assert_eq!(output.status.code(), Some(3), "{:#}", plan(&output));
    assert!(!town.is_clean(), "the write was done");
    assert_eq!(town.site.count("reset"), 0, "nothing is done on top of what is not known");
    away.store(false, Ordering::SeqCst);
    holds(&town, "after the server came back");
}

#[test]
fn clocks_that_jump_leave_no_node_isolated() {
    for jump in ["2020-01-01T00:00:00Z", "2035-01-01T00:00:00Z"] {
        let Some(town) = Town::new(ALL) else { return };
        town.job(1);
        town.keepers(1);
        // Killed when the node is isolated.
        let run = town.site.start(Some(14));
        let _ = run.wait_with_output();
        let jumped = town.site.run(&["--apply", "-o", "json", "--pretend", &format!("now={jump}")]);
        assert!(jumped.status.code().is_some());
        assert_eq!(town.site.settle(), 0, "{jump}: {:#}", town.site.history());
        assert!(town.site.count("reset") <= 1, "{jump}");
        assert!(town.is_clean(), "{jump}");
    }
}

/// As long as it may be away, in earnest.
#[test]
fn a_server_that_is_away_for_sixty_seconds_is_waited_for() {
    let Some((town, proxy)) = behind_a_proxy(ALL) else { return };
    town.job(1);
    town.keepers(1);
    for (step, short) in [("isolate", "20s"), ("evict", "30s"), ("checkpoint", "20s"), ("restore", "20s")] {
        let text = std::fs::read_to_string(town.site.path("playbook.yaml")).unwrap();
        let lines = text.lines().map(|line| match line.contains(&format!("step: {step},")) {
            true => line.replace(&format!("timeout: {short}"), "timeout: 3m"),
            false => line.to_owned(),
        });
        let text: Vec<String> = lines.collect();
        town.site.write("playbook.yaml", &text.join("\n"));
    }
    let since = std::sync::Mutex::new(None::<Instant>);
    proxy.judge(move |method, path| {
        let mut since = since.lock().unwrap();
        if since.is_none() && method == "PATCH" && path.contains("/nodes/") {
            *since = Some(Instant::now());
        }
        let away = since.is_some_and(|since| since.elapsed() < Duration::from_secs(60));
        if away { Fate::Refuse } else { Fate::Pass }
    });
    let begin = Instant::now();
    let output = town.site.apply();
    assert!(begin.elapsed() >= Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(0), "{:#}", plan(&output));
    holds(&town, "sixty seconds");
}
