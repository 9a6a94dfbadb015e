//! Slurm's engine against a real Slurm: what is submitted runs, and what is said of it is so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aictl::queue::engines;
use aictl::queue::{
    Draft, DryRun, Engine, EngineKind, Explanation, Filter, Job, JobSpec, LogOptions, Plan, PlanForm, QueueError,
    Ranks, ReasonKind, State, Submitted, Target,
};
use futures::StreamExt;

use crate::support::slurm::{Nodes, Slurm};

/// The engine of a target, and something to wait for its answers with.
pub struct Asked {
    engine: Box<dyn Engine>,
    runtime: tokio::runtime::Runtime,
}

impl Asked {
    pub fn open(target: &Target) -> Asked {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let engine = runtime.block_on(engines::open(target)).unwrap();
        Asked { engine, runtime }
    }

    pub fn plan(&self, spec: &JobSpec) -> Result<Plan, QueueError> {
        self.runtime.block_on(self.engine.plan(spec, false))
    }

    pub fn try_submit(&self, spec: &JobSpec) -> Result<Submitted, QueueError> {
        let plan = self.plan(spec)?;
        self.runtime.block_on(self.engine.submit(&plan, DryRun::No))
    }

    pub fn submit(&self, spec: &JobSpec) -> String {
        let submitted = self.try_submit(spec).unwrap();
        assert!(!submitted.existed, "{submitted:?}");
        submitted.id
    }

    pub fn get(&self, id: &str) -> Job {
        self.runtime.block_on(self.engine.get(id)).unwrap()
    }

    pub fn list(&self) -> Vec<Job> {
        self.runtime.block_on(self.engine.list(&Filter::default())).unwrap()
    }

    pub fn try_list(&self) -> Result<Vec<Job>, QueueError> {
        self.runtime.block_on(self.engine.list(&Filter::default()))
    }

    pub fn cancel(&self, id: &str) {
        self.runtime.block_on(self.engine.cancel(id)).unwrap();
    }

    pub fn hold(&self, id: &str) -> Result<(), QueueError> {
        self.runtime.block_on(self.engine.hold(id))
    }

    pub fn explain(&self, id: &str) -> Explanation {
        self.runtime.block_on(self.engine.explain(id)).unwrap()
    }

    /// Waits until a job is as a test wants it.
    pub fn wait(&self, id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
        let begin = Instant::now();
        loop {
            let job = self.get(id);
            if wanted(&job) {
                return job;
            }
            assert!(begin.elapsed() < Duration::from_secs(240), "{job:#?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub fn over(&self, id: &str) -> Job {
        self.wait(id, |job| job.state.is_over())
    }

    /// Its output: each line with its rank.
    pub fn lines(&self, id: &str, options: LogOptions) -> Result<Vec<(u32, String)>, QueueError> {
        self.runtime.block_on(async {
            let mut lines = self.engine.logs(id, &options).await?;
            let mut read = Vec::new();
            while let Some(line) = lines.next().await {
                let line = line?;
                read.push((line.rank, line.text));
            }
            Ok(read)
        })
    }
}

/// A settled spec.
pub fn spec(name: &str, change: impl FnOnce(&mut Draft)) -> JobSpec {
    let mut draft = Draft { name: Some(name.to_owned()), ..Draft::default() };
    change(&mut draft);
    draft.settle(name).unwrap()
}

pub fn shell(text: &str) -> Vec<String> {
    ["bash", "-c", text].map(str::to_owned).to_vec()
}

fn programs(slurm: &Slurm) -> Asked {
    let mut target = Target::found(EngineKind::Slurm, "test");
    target.programs = Some(slurm.programs());
    Asked::open(&target)
}

fn rest(address: String, token: Option<(&Slurm, String)>) -> Asked {
    let mut target = Target::found(EngineKind::Slurm, "test");
    target.address = Some(address);
    if let Some((slurm, token)) = token {
        let path = slurm.shared().join("token");
        std::fs::write(&path, token).unwrap();
        target.token_file = Some(path);
    }
    Asked::open(&target)
}

/// Output goes where every user of the test may write.
fn below(slurm: &Slurm) -> Option<String> {
    Some(slurm.shared().display().to_string())
}

/// What every node of a gang prints; `queue_ray` runs the same.
pub const GANG: &str = r#"echo "rank $RANK of $WORLD_SIZE node $NODE_RANK of $NNODES local $LOCAL_RANK procs $NPROC_PER_NODE"
test -n "$MASTER_ADDR" && test "$MASTER_PORT" -gt 1023 && echo "greeting $GREETING pet $PET_NNODES/$PET_NODE_RANK gpus ${#CUDA_VISIBLE_DEVICES}""#;

pub fn gang(name: &str) -> JobSpec {
    spec(name, |draft| {
        draft.nodes = Some(2);
        draft.gpus_per_node = Some(2);
        draft.env = BTreeMap::from([("GREETING".to_owned(), "it's ${HOME} \"here\"".to_owned())]);
        draft.script = Some(format!("#!/bin/bash\n#AICTL --name gang\n{GANG}\n"));
    })
}

pub fn check_gang(lines: &[(u32, String)]) {
    let mut lines = lines.to_vec();
    lines.sort();
    let of = |rank: u32| {
        [
            (rank, format!("greeting it's ${{HOME}} \"here\" pet 2/{rank} gpus 3")),
            (rank, format!("rank {rank} of 2 node {rank} of 2 local 0 procs 2")),
        ]
    };
    assert_eq!(lines, [of(0), of(1)].concat());
}

#[test]
fn jobs_run_to_their_end() {
    let Some(slurm) = Slurm::start(Nodes::default()) else { return };
    let asked = programs(&slurm);
    let gang = JobSpec { workdir: below(&slurm), ..gang("gang") };
    let id = asked.submit(&gang);
    let job = asked.over(&id);
    assert_eq!((job.state, job.exit_code, job.nodes, job.gpus), (State::Succeeded, Some(0), 2, 4.0), "{job:#?}");
    assert_eq!((job.owner.as_str(), job.queue.as_str(), job.name.as_str()), ("root", "main", "gang"));
    assert_eq!(job.submission_id.as_deref(), Some(gang.id.as_str()));
    check_gang(&asked.lines(&id, LogOptions::default()).unwrap());
    let one = asked.lines(&id, LogOptions { ranks: Ranks::One(1), tail: Some(1), ..LogOptions::default() }).unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].0, 1);
    let none = asked.lines(&id, LogOptions { ranks: Ranks::One(7), ..LogOptions::default() }).unwrap_err();
    assert!(none.to_string().ends_with("has no rank 7: it has 2 nodes"), "{none}");
    // The same once more is the same job.
    let again = asked.try_submit(&gang).unwrap();
    assert_eq!((again.id, again.existed), (id, true));

    let failing = spec("failing", |draft| {
        draft.workdir = below(&slurm);
        draft.command = shell("echo one; sleep 2; echo two; printf three; exit 7");
    });
    let id = asked.submit(&failing);
    asked.wait(&id, |job| job.state != State::Pending);
    let lines = asked.lines(&id, LogOptions { follow: true, ..LogOptions::default() }).unwrap();
    assert_eq!(lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
    let job = asked.over(&id);
    let reason = job.reason.unwrap();
    assert_eq!((job.state, job.exit_code, reason.kind), (State::Failed, Some(7), ReasonKind::ExitCode));
    assert_eq!(reason.text, "its program ended with exit code 7");

    let array = spec("array", |draft| {
        draft.workdir = below(&slurm);
        draft.array = Some("0-3%2".parse().unwrap());
        draft.command = shell("echo $AICTL_ARRAY_INDEX of $AICTL_ARRAY_COUNT; exit $((AICTL_ARRAY_INDEX == 3))");
    });
    let id = asked.submit(&array);
    let after = spec("after", |draft| {
        draft.workdir = below(&slurm);
        draft.after = vec![format!("{id}:any").parse().unwrap()];
        draft.command = shell("true");
    });
    let later = asked.submit(&after);
    let job = asked.over(&id);
    assert_eq!((job.state, job.exit_code, job.id.as_str()), (State::Failed, Some(1), id.as_str()), "{job:#?}");
    let tasks = asked.list().into_iter().filter(|job| job.id.starts_with(&format!("{id}_"))).count();
    assert_eq!(tasks, 4);
    assert_eq!(asked.lines(&format!("{id}_2"), LogOptions::default()).unwrap(), [(0, "2 of 4".to_owned())]);
    assert!(matches!(asked.lines(&id, LogOptions::default()), Err(QueueError::Invalid { .. })));
    assert_eq!(asked.over(&later).state, State::Succeeded);

    let native = spec("native", |draft| {
        draft.workdir = below(&slurm);
        draft.script = Some("#!/bin/bash\n#SBATCH --nodes=2\n#SBATCH --gres=gpu:1\n#SBATCH --comment=words\nsrun --ntasks-per-node=1 sh -c 'echo node $SLURM_NODEID'\necho $WORD\n".to_owned());
        draft.env = BTreeMap::from([("WORD".to_owned(), "a b".to_owned())]);
    });
    let id = asked.submit(&native);
    let job = asked.over(&id);
    assert_eq!((job.state, job.nodes, job.gpus), (State::Succeeded, 2, 2.0), "{job:#?}");
    let mut lines = asked.lines(&id, LogOptions::default()).unwrap();
    lines.sort();
    assert_eq!(lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["a b", "node 0", "node 1"]);
    assert!(matches!(asked.runtime.block_on(asked.engine.get("99999")), Err(QueueError::NoSuchJob { .. })));

    // A job that needs a model is held until somebody who sees the model releases it.
    let needs = spec("needs", |draft| {
        draft.workdir = below(&slurm);
        draft.needs_model = Some("hf://org/model".to_owned());
        draft.command = shell("true");
    });
    let id = asked.submit(&needs);
    let job = asked.wait(&id, |job| job.state == State::Held);
    assert_eq!(job.reason.unwrap().kind, ReasonKind::WaitingForModel);
    assert_eq!(job.waits_for.unwrap().needs_model.as_deref(), Some("hf://org/model"));
    asked.runtime.block_on(asked.engine.release(&id)).unwrap();
    let job = asked.over(&id);
    assert_eq!((job.state, job.waits_for), (State::Succeeded, None));

    // A retry is the same job, started again.
    let flaky = spec("flaky", |draft| {
        draft.workdir = below(&slurm);
        draft.retries = Some(1);
        draft.command = shell("test -e once && exit 0; touch once; exit 5");
    });
    let id = asked.submit(&flaky);
    // Slurm keeps a job that was put back waiting for two minutes, unless somebody lets it begin: then,
    // not while it still ends.
    asked.wait(&id, |job| {
        if job.state == State::Pending {
            let _ = slurm.command("scontrol").args(["update", &format!("JobId={id}"), "StartTime=now"]).output();
        }
        job.state == State::Succeeded
    });
}

#[test]
fn what_waits_is_explained_and_managed() {
    let Some(slurm) = Slurm::start(Nodes::default()) else { return };
    let asked = programs(&slurm);
    let job = |name: &str, nodes: u32, minutes: u64, text: &str| {
        spec(name, |draft| {
            draft.workdir = below(&slurm);
            draft.nodes = Some(nodes);
            draft.gpus_per_node = Some(2);
            draft.time = Some(aictl::queue::TimeLimit(minutes * 60));
            draft.command = shell(text);
        })
    };
    let act = |work: aictl::queue::Answer<'_, ()>| asked.runtime.block_on(work);
    let holder = asked.submit(&job("holder", 2, 10, "sleep 600"));
    asked.wait(&holder, |job| job.state == State::Running);
    let first = asked.submit(&job("first", 1, 5, "true"));
    let second = asked.submit(&job("second", 2, 5, "true"));
    asked.wait(&second, |job| job.reason.as_ref().is_some_and(|reason| reason.kind != ReasonKind::NotLookedAt));
    let why = asked.explain(&second);
    let place = why.place.clone().unwrap();
    assert_eq!((place.position, place.of, place.ahead), (2, 2, 1), "{why:#?}");
    assert_eq!(why.ahead.iter().map(|job| job.id.as_str()).collect::<Vec<_>>(), [first.as_str()]);
    assert_eq!(why.holders.iter().map(|job| (job.id.as_str(), job.gpus)).collect::<Vec<_>>(), [(holder.as_str(), 4.0)]);
    let left = why.holders[0].ends_within_s.unwrap();
    assert!((500.0..=600.0).contains(&left), "{left}");
    assert!(
        matches!(why.job.reason.as_ref().unwrap().kind, ReasonKind::Priority | ReasonKind::WaitingForResources),
        "{why:#?}"
    );
    let eta = why.eta.clone().unwrap();
    assert!(eta.p90_s > 400.0 && eta.p50_s <= eta.p90_s, "{eta:?}");
    let gpus = why.quota.iter().find(|row| row.resource == "nvidia.com/gpu").unwrap();
    assert_eq!((gpus.flavor.as_str(), gpus.nominal, gpus.used, gpus.pending), ("a100", Some(4.0), 4.0, 6.0));
    let listed = asked.list();
    let of = |id: &str| listed.iter().find(|job| job.id == id).unwrap();
    assert_eq!((of(&first).position, of(&second).position, of(&holder).position), (Some(1), Some(2), None));

    act(asked.engine.hold(&first)).unwrap();
    let held = asked.wait(&first, |job| job.state == State::Held);
    assert_eq!(held.reason.unwrap().kind, ReasonKind::Held);
    assert!(asked.explain(&first).unblock.unwrap().ends_with(&format!("aictl queue release {first}")));
    act(asked.engine.release(&first)).unwrap();
    asked.wait(&first, |job| job.state == State::Pending);
    act(asked.engine.priority(&second, "4294900000")).unwrap();
    assert_eq!(asked.get(&second).priority, Some(4_294_900_000));
    assert!(matches!(act(asked.engine.priority(&second, "high")), Err(QueueError::Invalid { .. })));
    act(asked.engine.requeue(&holder)).unwrap();
    asked.wait(&holder, |job| job.state.is_waiting());
    act(asked.engine.cancel(&holder)).unwrap();
    let job_now = asked.over(&holder);
    assert_eq!((job_now.state, job_now.reason.unwrap().kind), (State::Cancelled, ReasonKind::Cancelled));
    assert_eq!(asked.over(&first).state, State::Succeeded);
    assert_eq!(asked.over(&second).state, State::Succeeded);

    // A dependency that can't come true.
    let bad = asked.submit(&job("bad", 1, 5, "false"));
    asked.over(&bad);
    let never =
        asked.submit(&JobSpec { after: vec![format!("{bad}:ok").parse().unwrap()], ..job("never", 1, 5, "true") });
    let job_now =
        asked.wait(&never, |job| job.reason.as_ref().is_some_and(|reason| reason.kind == ReasonKind::DependencyFailed));
    assert_eq!(job_now.state, State::Pending);
    assert!(asked.explain(&never).unblock.is_some());
}

#[test]
fn what_could_never_run_is_refused_before_it_is_sent() {
    let Some(slurm) = Slurm::start(Nodes::default()) else { return };
    let asked = programs(&slurm);
    let fails = |change: &dyn Fn(&mut Draft)| {
        let spec = spec("large", |draft| {
            draft.command = shell("true");
            change(draft);
        });
        let error = asked.try_submit(&spec).unwrap_err();
        format!("{error} | {}", error.hint().unwrap_or_default())
    };
    assert_eq!(fails(&|draft| draft.nodes = Some(3)), "3 nodes asked for; partition main has 2 nodes | --nodes 2 fits");
    assert_eq!(
        fails(&|draft| draft.gpus_per_node = Some(9)),
        "1 node with 9 GPUs asked for; partition main: its largest node has 2 | 1 node with 2 GPUs each would fit"
    );
    assert_eq!(
        fails(&|draft| {
            draft.gpus_per_node = Some(1);
            draft.gpu_type = Some("h100".to_owned());
        }),
        "GPUs of type h100 asked for; no node of partition main has them | there are a100"
    );
    assert_eq!(
        fails(&|draft| draft.time = Some(aictl::queue::TimeLimit(3 * 86_400))),
        "3-00:00:00 asked for; partition main lets a job run for 1-00:00:00 | --time 1-00:00:00 fits"
    );
    assert!(
        fails(&|draft| draft.queue = Some("mian".to_owned()))
            .starts_with("slurm has no queue \"mian\" | did you mean main?")
    );
    assert!(
        fails(&|draft| draft.gpu_memory = Some(aictl::queue::Bytes(1 << 30)))
            .contains("--gpu-fraction takes pieces of shard, of which a GPU has 4")
    );
    assert!(
        fails(&|draft| draft.constraint = Some("slow".to_owned())).contains("only 0 nodes of partition main have all")
    );
    assert_eq!(asked.list(), []);

    // What fits is only tried by the server, and a part of a GPU becomes shards.
    let fitting = spec("part", |draft| {
        draft.workdir = below(&slurm);
        draft.gpu_fraction = Some(0.5);
        draft.command = shell("test -n \"$CUDA_VISIBLE_DEVICES\"");
    });
    let plan = asked.plan(&fitting).unwrap();
    let PlanForm::Script { command, .. } = &plan.form else { panic!("{plan:?}") };
    assert!(command.contains(&"--gres=shard:2".to_owned()), "{command:?}");
    let tried = asked.runtime.block_on(asked.engine.submit(&plan, DryRun::Server)).unwrap();
    assert!(tried.warnings.iter().any(|line| line.contains("to start at")), "{tried:?}");
    assert_eq!(asked.list(), []);
    let id = asked.submit(&fitting);
    let job = asked.over(&id);
    assert_eq!(job.state, State::Succeeded, "{job:#?}");
    let listed = asked.list();
    assert_eq!(listed[0].gpus, 0.5);
}

#[test]
fn slurmrestd_says_and_does_the_same() {
    let Some(mut slurm) = Slurm::start(Nodes::default()) else { return };
    let Some(address) = slurm.rest_at_socket() else { return };
    let asked = rest(address, None);
    let gang = JobSpec { workdir: below(&slurm), ..gang("gang") };
    let id = asked.submit(&gang);
    let job = asked.over(&id);
    assert_eq!(
        (job.state, job.exit_code, job.gpus, job.owner.as_str()),
        (State::Succeeded, Some(0), 4.0, "nobody"),
        "{job:#?}"
    );
    check_gang(&asked.lines(&id, LogOptions::default()).unwrap());
    let other = programs(&slurm);
    // The same job, seen by the programs.
    assert_eq!(other.list(), asked.list());

    if let Some(address) = slurm.rest_at_port() {
        let asked = rest(address.clone(), Some((&slurm, slurm.token(600))));
        assert_eq!(asked.runtime.block_on(asked.engine.user()).unwrap(), "root");
        let long = spec("long", |draft| {
            draft.workdir = below(&slurm);
            draft.gpus_per_node = Some(1);
            draft.time = Some(aictl::queue::TimeLimit(600));
            draft.hold = Some(true);
            draft.command = shell("sleep 300");
        });
        let id = asked.submit(&long);
        assert_eq!(asked.get(&id).state, State::Held);
        let again = asked.try_submit(&long).unwrap();
        assert_eq!((again.id.as_str(), again.existed), (id.as_str(), true));
        let act = |work: aictl::queue::Answer<'_, ()>| asked.runtime.block_on(work).unwrap();
        act(asked.engine.release(&id));
        let job = asked.wait(&id, |job| job.state == State::Running);
        assert_eq!(job.time_limit_s, Some(600));
        assert_eq!(other.list(), asked.list());
        let (ours, theirs) =
            (asked.runtime.block_on(asked.engine.quota(None)), other.runtime.block_on(other.engine.quota(None)));
        assert_eq!(ours.unwrap(), theirs.unwrap());
        act(asked.engine.cancel(&id));
        assert_eq!(asked.over(&id).state, State::Cancelled);
        let failing = spec("failing", |draft| {
            draft.workdir = below(&slurm);
            draft.command = shell("exit 7");
        });
        assert_eq!(asked.over(&asked.submit(&failing)).exit_code, Some(7));

        // Faults: each is told as what it is.
        let fails = |asked: &Asked| asked.runtime.block_on(asked.engine.list(&Filter::default())).unwrap_err();
        let expired = fails(&rest(address.clone(), Some((&slurm, slurm.token(-1)))));
        assert!(matches!(expired, QueueError::Unreachable { passing: false, .. }), "{expired:?}");
        assert!(expired.to_string().contains("the token expired at 1970-01-12"), "{expired}");
        let wrong = fails(&rest(address.clone(), Some((&slurm, "a.b.c".to_owned()))));
        assert!(matches!(wrong, QueueError::Unreachable { .. }), "{wrong:?}");
        let nobody = fails(&rest(address, None));
        assert!(nobody.to_string().contains("it does not know us"), "{nobody}");
        slurm.stop_controller();
        let away = fails(&asked);
        assert!(matches!(away, QueueError::Unreachable { passing: true, .. }), "{away:?}");
        let away = fails(&other);
        assert!(matches!(away, QueueError::Unreachable { passing: true, .. }), "{away:?}");
    }
}
