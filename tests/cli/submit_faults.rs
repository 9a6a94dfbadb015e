//! An API server that is busy, in conflict, silent or does not know us: a submission makes one job or
//! none, and what is left behind is named.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use rustix::process::{Pid, Signal, kill_process};

use crate::environment::{Ran, TestEnvironment};
use crate::remediate::cluster::proxy::{Fate, Proxy};
use crate::support::kube::{ADMIN, Kube};

struct Place {
    environment: TestEnvironment,
    kube: &'static Kube,
    namespace: String,
    proxy: Proxy,
}

impl Place {
    fn new() -> Option<Place> {
        let kube = Kube::apart()?;
        let (namespace, environment) = (kube.namespace("faults"), TestEnvironment::new());
        // Where there are nodes at all, there are two for a gang of two.
        kube.block_on(async {
            let nodes: Api<Node> = Api::all(kube.client());
            for name in ["plain-1", "plain-2"] {
                let node: Node = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
                let _ = nodes.create(&Default::default(), &node).await;
            }
        });
        let proxy = Proxy::new(&kube.url());
        let file = environment.write("kubeconfig", kube.kubeconfig_at(&proxy.url, ADMIN, &namespace));
        let environment = environment.set("KUBECONFIG", &file.display().to_string());
        Some(Place { environment, kube, namespace, proxy })
    }

    /// A gang of two: a Job and the Service by which its ranks find each other.
    fn submit(&self) -> Ran {
        self.environment.run(SUBMIT)
    }

    /// What there is of it: Jobs, and Services that one of them owns.
    fn made(&self) -> (usize, usize) {
        self.kube.block_on(async {
            let jobs: Api<Job> = Api::namespaced(self.kube.client(), &self.namespace);
            let services: Api<Service> = Api::namespaced(self.kube.client(), &self.namespace);
            let (jobs, services) = (
                jobs.list(&Default::default()).await.unwrap().items,
                services.list(&Default::default()).await.unwrap().items,
            );
            // No garbage collector runs here: what is owned by a Job that is gone would be collected.
            let alive = |service: &&Service| {
                let owners = service.metadata.owner_references.iter().flatten();
                owners.into_iter().any(|owner| jobs.iter().any(|job| job.metadata.uid.as_ref() == Some(&owner.uid)))
            };
            let jobs_left = jobs.iter().filter(|job| job.metadata.deletion_timestamp.is_none()).count();
            (jobs_left, services.iter().filter(alive).count())
        })
    }
}

const SUBMIT: [&str; 13] =
    ["submit", "--to", "kubernetes", "--shape", "job", "--nodes", "2", "--image", "i", "--name", "train", "--", "true"];

#[test]
fn a_busy_server_is_waited_out_and_makes_one_job() {
    for status in [409, 429, 500, 503] {
        let Some(place) = Place::new() else { return };
        let asked = AtomicUsize::new(0);
        place.proxy.judge(move |method, _| {
            let may = status != 409 || method != "GET";
            let refused = may && asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            if refused { Fate::Answer(status) } else { Fate::Pass }
        });
        let ran = place.submit();
        assert_eq!(ran.status, Some(0), "{status}: {ran}");
        assert!(place.proxy.met() > 1 && place.made() == (1, 1), "{status}: {:?}", place.made());
        let again = place.submit();
        assert!(again.status == Some(0) && again.stdout.contains("is there already"), "{status}: {again}");
        assert_eq!(place.made(), (1, 1), "{status}");
    }
}

#[test]
fn no_lost_answer_makes_two_jobs() {
    let mut nth = 0;
    loop {
        let Some(place) = Place::new() else { return };
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&writes);
        place.proxy.judge(move |method, _| {
            let lost = method != "GET" && counted.fetch_add(1, Ordering::SeqCst) == nth;
            if lost { Fate::Lose } else { Fate::Pass }
        });
        let ran = place.submit();
        assert_eq!(ran.status, Some(0), "write {nth}: {ran}");
        assert_eq!(place.made(), (1, 1), "write {nth}");
        if place.proxy.met() == 0 {
            break;
        }
        nth += 1;
    }
    assert!(nth >= 2, "only {nth} writes");
}

#[test]
fn what_cannot_be_made_whole_is_taken_back_or_named() {
    let Some(place) = Place::new() else { return };
    place.proxy.judge(|method, path| match method == "POST" && path.contains("/services") {
        true => Fate::Answer(403),
        false => Fate::Pass,
    });
    let ran = place.submit();
    assert_eq!(ran.status, Some(4), "{ran}");
    assert!(ran.stderr.contains("cannot make Service"), "{ran}");
    assert_eq!(place.made(), (0, 0));
    // Nor can it be taken back: then its name is said.
    place.proxy.judge(|method, path| match (method, path.contains("/services")) {
        ("POST", true) | ("DELETE", _) => Fate::Answer(403),
        _ => Fate::Pass,
    });
    let ran = place.submit();
    assert_eq!(ran.status, Some(1), "{ran}");
    assert!(ran.stderr.contains(&format!("left behind: -n {} job/train-", place.namespace)), "{ran}");
    // The same submission goes on with it.
    place.proxy.judge(|_, _| Fate::Pass);
    let ran = place.submit();
    assert!(ran.status == Some(0) && place.made() == (1, 1), "{ran}");
}

#[test]
fn a_token_that_expired_is_said_to_be_that() {
    let Some(place) = Place::new() else { return };
    let config = place.kube.kubeconfig_at(&place.kube.url(), "expired", &place.namespace);
    place.environment.write("kubeconfig", config);
    for arguments in [&SUBMIT[..], &["queue", "list", "--on", "kubernetes"], &["queue", "wait", "kubernetes:train"]] {
        let ran = place.environment.run(arguments);
        assert_eq!(ran.status, Some(4), "{ran}");
        assert!(ran.stderr.contains("(401)") && ran.stderr.contains("may have expired"), "{ran}");
    }
}

/// Starts aictl, and interrupts it once something is so.
pub fn interrupted(environment: &TestEnvironment, arguments: &[&str], once: impl Fn() -> bool) -> Ran {
    let mut command = environment.command();
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !once() {
        if child.try_wait().unwrap().is_some() {
            panic!("it ended: {}", environment.ran(child.wait_with_output().unwrap()));
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing was asked");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    environment.ran(child.wait_with_output().unwrap())
}

#[test]
fn an_interrupted_submission_names_what_may_have_been_made() {
    let Some(place) = Place::new() else { return };
    place.proxy.judge(|method, path| match method == "POST" && path.contains("/jobs") {
        true => Fate::Hang,
        false => Fate::Pass,
    });
    let ran = interrupted(&place.environment, &SUBMIT, || place.made().0 == 1);
    assert_eq!(ran.status, Some(130), "{ran}");
    assert!(ran.stderr.contains("train-") && ran.stderr.contains("may have been made"), "{ran}");
    place.proxy.judge(|_, _| Fate::Pass);
    let ran = place.submit();
    assert!(ran.status == Some(0) && ran.stdout.contains("is there already"), "{ran}");
    assert_eq!(place.made(), (1, 1), "the rest was made");
}

#[test]
fn waiting_outlives_a_busy_server_and_ends_at_an_interrupt() {
    let Some(place) = Place::new() else { return };
    let ran = place.submit();
    assert_eq!(ran.status, Some(0), "{ran}");
    // Looking at the job fails from now on.
    place.proxy.judge(|_, path| match path.contains("/jobs/train-") {
        true => Fate::Answer(500),
        false => Fate::Pass,
    });
    let met = || place.proxy.met() >= 2;
    // Other tests have a job of that name in other namespaces.
    let job = format!("kubernetes:{}/train", place.namespace);
    let ran = interrupted(&place.environment, &["queue", "wait", &job], met);
    assert_eq!(ran.status, Some(130), "{ran}");
    assert!(!ran.stderr.contains("panicked") && ran.stderr.contains("interrupted"), "{ran}");
}
