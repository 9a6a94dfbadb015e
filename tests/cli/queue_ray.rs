//! Ray's engine against a real Ray of two nodes.

use aictl::queue::{EngineKind, JobSpec, LogOptions, QueueError, Ranks, ReasonKind, State, Target};

use crate::environment::TestEnvironment;
use crate::queue_slurm::{Asked, GANG, check_gang, gang, shell, spec};
use crate::support::ray::{ADDRESS, Ray};

fn target() -> Target {
    let mut target = Target::found(EngineKind::Ray, "test");
    target.address = Some(ADDRESS.to_owned());
    target
}

/// Runs a test in Ray's network.
fn with_ray(test: impl FnOnce(&Asked) + Send) {
    let Some(ray) = Ray::shared() else { return };
    ray.in_its_network(|| test(&Asked::open(&target())));
}

fn sleeper(name: &str, nodes: u32, gpus: u32, text: &str) -> JobSpec {
    spec(name, |draft| {
        draft.nodes = Some(nodes);
        draft.gpus_per_node = Some(gpus);
        draft.command = shell(text);
    })
}

#[test]
fn the_script_of_slurm_runs_on_ray() {
    with_ray(|asked| {
        let gang = gang("gang");
        let id = asked.submit(&gang);
        let lines = asked.lines(&id, LogOptions { follow: true, ..LogOptions::default() }).unwrap();
        check_gang(&lines);
        let job = asked.over(&id);
        assert_eq!((job.state, job.exit_code, job.nodes, job.gpus), (State::Succeeded, Some(0), 2, 4.0), "{job:#?}");
        assert_eq!((job.name.as_str(), job.submission_id.as_deref()), ("gang", Some(gang.id.as_str())));
        assert_eq!(asked.lines(&id, LogOptions { ranks: Ranks::One(1), ..LogOptions::default() }).unwrap().len(), 2);
        let again = asked.try_submit(&gang).unwrap();
        assert_eq!((again.id.as_str(), again.existed), (id.as_str(), true));
        assert!(asked.list().iter().any(|job| job.id == id));

        let failing = sleeper("failing", 2, 0, "echo from $RANK; sleep $((RANK * 60)); exit 7");
        let job = asked.over(&asked.submit(&failing));
        let reason = job.reason.unwrap();
        assert_eq!((job.state, job.exit_code, reason.kind), (State::Failed, Some(7), ReasonKind::ExitCode));

        let late = JobSpec { time: Some(aictl::queue::TimeLimit(2)), ..sleeper("late", 1, 0, "sleep 60") };
        let job = asked.over(&asked.submit(&late));
        assert_eq!((job.state, job.reason.unwrap().kind), (State::Failed, ReasonKind::TimeLimit));

        let place = tempfile::tempdir().unwrap();
        let marker = place.path().join("was-there");
        let text = format!("test -e {0} && rm {0} && exit 0; touch {0}; exit 5", marker.display());
        let flaky = JobSpec { retries: 1, ..sleeper("flaky", 1, 0, &text) };
        assert_eq!(asked.over(&asked.submit(&flaky)).state, State::Succeeded);
    });
}

#[test]
fn what_waits_can_be_stopped() {
    with_ray(|asked| {
        // More nodes than there are: refused before it is sent.
        let error = asked.try_submit(&sleeper("large", 3, 1, "true")).unwrap_err();
        assert!(matches!(error, QueueError::Impossible { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with("3 nodes with 1 CPU, 1 GPU each asked for; the Ray cluster has 2 of 2 nodes"),
            "{error}"
        );
        let error = asked.try_submit(&sleeper("large", 1, 9, "true")).unwrap_err();
        assert_eq!(error.hint().as_deref(), Some("the largest node has 2 of GPU"));

        // A process of this test alone.
        let sleep = format!("sleep 4321.{}", std::process::id());
        let holder =
            asked.submit(&JobSpec { time: Some(aictl::queue::TimeLimit(300)), ..sleeper("holder", 1, 2, &sleep) });
        asked.wait(&holder, |job| job.state == State::Running);
        let waits = asked.submit(&sleeper("waits", 2, 2, "sleep 1"));
        asked.wait(&waits, |job| job.state == State::Pending);
        let why = asked.explain(&waits);
        let reason = why.job.reason.clone().unwrap();
        assert_eq!(reason.kind, ReasonKind::WaitingForResources, "{why:#?}");
        assert!(reason.text.starts_with("it needs 2 nodes with 1 CPU, 2 GPU each; "), "{}", reason.text);
        assert!(why.holders.iter().any(|job| job.id == holder && job.gpus == 2.0), "{why:#?}");
        // Ray counts what is used every few seconds.
        let counted = (0..60).any(|_| {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let rows = asked.explain(&waits).quota;
            rows.iter().any(|row| row.resource == "nvidia.com/gpu" && row.nominal == Some(4.0) && row.used >= 2.0)
        });
        assert!(counted, "{why:#?}");
        assert_eq!(why.eta, None);
        for id in [&waits, &holder] {
            asked.cancel(id);
            let job = asked.over(id);
            assert_eq!((job.state, job.reason.unwrap().kind), (State::Cancelled, ReasonKind::Cancelled));
        }
        // What it ran does not outlive it.
        let gone = (0..60).any(|_| {
            let left = std::process::Command::new("pgrep").args(["-fc", &format!("^{sleep}$")]).output().unwrap();
            let gone = left.stdout == b"0\n";
            std::thread::sleep(std::time::Duration::from_millis(if gone { 0 } else { 500 }));
            gone
        });
        assert!(gone, "{sleep} goes on");
        for error in [asked.hold(&waits), asked.hold("nothing")] {
            assert!(matches!(error, Err(QueueError::Unsupported { .. })), "{error:?}");
        }
    });
}

#[test]
fn a_token_is_asked_for() {
    let Some(ray) = Ray::with_token("a-long-secret-of-this-test") else { return };
    ray.in_its_network(|| {
        let error = Asked::open(&target()).try_list().unwrap_err();
        assert!(matches!(error, QueueError::Unreachable { passing: false, .. }), "{error:?}");
        assert!(error.to_string().contains("it wants a token"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a-long-secret-of-this-test\n").unwrap();
        let mut with = target();
        with.token_file = Some(file.path().to_owned());
        let asked = Asked::open(&with);
        let id = asked.submit(&sleeper("gang", 2, 1, "echo $RANK"));
        assert_eq!(asked.over(&id).state, State::Succeeded);
    });
}

/// A RayJob's object, its entrypoint and the environment of its head as KubeRay would have them: the
/// file of the driver lies where a test may write.
fn ray_job(place: &TestEnvironment, more: &[&str]) -> (String, serde_json::Value) {
    let fixed = ["submit", "--to", "kubernetes", "--shape", "rayjob", "--dry-run", "-o", "json", "--image", "i"];
    let ran = place.run([&fixed[..], more].concat());
    assert_eq!(ran.status, Some(0), "{ran}");
    let job: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let head = &job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"];
    let (container, volume) = (&head["spec"]["containers"][0], &head["spec"]["volumes"]);
    let volume = volume.as_array().unwrap().iter().find(|volume| volume["name"] == "aictl").unwrap();
    let item = &volume["downwardAPI"]["items"][0];
    let field = item["fieldRef"]["fieldPath"].as_str().unwrap();
    let annotation = field.strip_prefix("metadata.annotations['").unwrap().strip_suffix("']").unwrap();
    let driver = head["metadata"]["annotations"][annotation].as_str().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    let at = mounts.iter().find(|mount| mount["name"] == "aictl").unwrap()["mountPath"].as_str().unwrap();
    let file = place.write("driver.py", driver);
    let entrypoint = job["spec"]["entrypoint"].as_str().unwrap();
    let entrypoint = entrypoint.replace(&format!("{at}/{}", item["path"].as_str().unwrap()), file.to_str().unwrap());
    let mut values = serde_json::Map::new();
    for item in container["env"].as_array().unwrap() {
        // What stands before is filled in, as a kubelet does.
        let mut value = item["value"].as_str().unwrap().to_owned();
        for (name, known) in &values {
            let known: &serde_json::Value = known;
            value = value.replace(&format!("$({name})"), known.as_str().unwrap());
        }
        values.insert(item["name"].as_str().unwrap().to_owned(), value.into());
    }
    (entrypoint, serde_json::json!({ "env_vars": values }))
}

#[test]
fn a_ray_job_tells_its_ranks_the_same() {
    let Some(ray) = Ray::shared() else { return };
    let place = TestEnvironment::new();
    // As KubeRay's submitter does it: a line of shell around the entrypoint.
    let run = |more: &[&str]| {
        let (entrypoint, environment) = ray_job(&place, more);
        let file = place.write("environment.json", environment.to_string());
        ray.shell(&format!(
            "ray job submit --address {ADDRESS} --runtime-env-json \"$(cat {})\" -- {entrypoint}",
            file.display()
        ))
    };
    let gang = ["--nodes", "2", "--gpus-per-node", "2", "--env", "GREETING=it's ${HOME} \"here\""];
    let (well, printed) = run(&[&gang[..], &["--", "bash", "-c", GANG]].concat());
    assert!(well, "{printed}");
    let lines = printed.lines().filter_map(|line| {
        let (rank, text) = line.trim().strip_prefix('[')?.split_once("] ")?;
        Some((rank.parse().ok()?, text.to_owned()))
    });
    check_gang(&lines.collect::<Vec<(u32, String)>>());
    // One node: the command itself, word for word.
    let words = r#"printf '<%s>' "$RANK/$WORLD_SIZE" "$1" "$2""#;
    let (well, printed) = run(&["--", "bash", "-c", words, "x", "a 'b' \"c\" $HOME \\", ""]);
    assert!(well && printed.contains(r#"<0/1><a 'b' "c" $HOME \><>"#), "{printed}");
    let (well, printed) = run(&["--nodes", "2", "--", "bash", "-c", "exit $((RANK * 7))"]);
    assert!(!well && printed.contains("exit code 7"), "{printed}");
}
