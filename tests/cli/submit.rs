//! `aictl submit`: what is sent, what is refused, and that nothing is made twice.

use insta::assert_snapshot;
use serde_json::Value;

use crate::environment::{Ran, TestEnvironment};
use crate::support::kube::Kube;
use crate::support::queues;

fn manifest(ran: &Ran) -> Value {
    assert_eq!(ran.status, Some(0), "{ran}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}\n{ran}"))
}

/// A place with a kubeconfig for a namespace of its own, and a queue "research" of 64 GPUs in it.
fn place(kube: &Kube) -> (TestEnvironment, String) {
    nodes(kube);
    let namespace = kube.namespace("submit");
    queues::kueue_queue(kube, &namespace, "research", 64);
    let place = TestEnvironment::new();
    let file = place.write("kubeconfig", kube.kubeconfig(&namespace));
    (place.set("KUBECONFIG", &file.display().to_string()), namespace)
}

/// Nodes that a gang fits on: once other tests have made nodes, what fits on none is refused.
fn nodes(kube: &Kube) {
    use k8s_openapi::api::core::v1::Node;
    use kube::api::{Patch, PatchParams};
    let status = serde_json::json!({"status": {"allocatable": {"nvidia.com/gpu": "8", "cpu": "64", "memory": "512Gi", "pods": "110"}}});
    kube.block_on(async {
        let nodes: kube::Api<Node> = kube::Api::all(kube.client());
        for name in ["submit-gpu-1", "submit-gpu-2", "submit-gpu-3"] {
            let node: Node = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
            // Another test may have made it.
            let _ = nodes.create(&Default::default(), &node).await;
            nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    });
}

const GANG: [&str; 10] =
    ["--queue", "research", "--nodes", "2", "--gpus-per-node", "8", "--image", "img:1", "--name", "train"];

#[test]
fn a_dry_run_away_from_any_cluster_prints_what_would_be_sent() {
    let place = TestEnvironment::new();
    let ran = place.run(
        [&["submit", "--to", "kueue", "--dry-run", "-o", "json"], &GANG[..], &["--", "python", "train.py"]].concat(),
    );
    let job = manifest(&ran);
    assert_eq!(job["kind"], "JobSet");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "research");
    assert_eq!(job["spec"]["suspend"], true);
    let inner = &job["spec"]["replicatedJobs"][0]["template"]["spec"];
    assert_eq!((&inner["parallelism"], &inner["completions"]), (&2.into(), &2.into()));
    let container = &inner["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["limits"]["nvidia.com/gpu"], "8");
    assert_eq!(container["command"], serde_json::json!(["python", "train.py"]));
    assert!(ran.stderr.contains("could not be asked"), "{ran}");
}

#[test]
fn flags_win_over_variables_these_over_directives_and_sbatch_is_understood() {
    let script =
        "#!/bin/bash\n#SBATCH -p slow --nodes=4 --gres=gpu:4 --mail-type=END\n#AICTL --image from-script:1\n./run\n";
    let place = TestEnvironment::new().set("AICTL_QUEUE", "from-env");
    place.write("train.sh", script);
    let ran = place.run(["submit", "--to", "kueue", "--dry-run", "-o", "json", "--nodes", "1", "train.sh"]);
    let job = manifest(&ran);
    assert_eq!(job["kind"], "Job");
    assert_eq!(job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "from-env");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["resources"]["limits"]["nvidia.com/gpu"]),
        (&"from-script:1".into(), &"4".into())
    );
    assert!(ran.stderr.contains("train.sh:2: #SBATCH --mail-type=END is not understood"), "{ran}");
}

#[test]
fn a_script_takes_arguments_and_its_sbatch_lines_count_together() {
    let place = TestEnvironment::new();
    place.write("plain.sh", "#!/bin/sh\necho \"$@\"\n");
    let submit = |more: &[&str]| {
        place.run(
            [&["submit", "--to", "kueue", "--queue", "q", "--image", "i", "--dry-run", "-o", "json"], more].concat(),
        )
    };
    let job = manifest(&submit(&["plain.sh", "x", "--", "--lr", "3"]));
    let words = job["spec"]["template"]["spec"]["containers"][0]["command"].as_array().unwrap();
    assert_eq!(words[words.len() - 3..], ["x", "--lr", "3"], "{job:#}");
    place.write("job.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n");
    let ran = submit(&["job.yaml", "x"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("takes no arguments"), "{ran}");

    place.write(
        "tasks.sh",
        "#!/bin/sh\n#SBATCH --nodes=2-4\n#SBATCH --ntasks-per-node=4\n#SBATCH --cpus-per-task=8\n./run\n",
    );
    let ran = submit(&["--shape", "job", "tasks.sh"]);
    assert!(
        ran.stderr.contains("tasks.sh:2: #SBATCH --nodes=2-4 is a range of nodes: the least, 2, is taken"),
        "{ran}"
    );
    assert!(!ran.stderr.contains("not understood"), "{ran}");
    let list = manifest(&ran);
    let objects = list["items"].as_array().unwrap();
    let job = objects.iter().find(|object| object["kind"] == "Job").unwrap();
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!((&job["spec"]["completions"], &container["resources"]["requests"]["cpu"]), (&2.into(), &"32".into()));

    // What only Slurm can do is refused elsewhere, and is no matter for words on Slurm.
    place.write(
        "any.sh",
        "#!/bin/sh\n#SBATCH --dependency=afterok:1?afterany:2 --mail-type=END --priority=TOP\n./run\n",
    );
    let ran = submit(&["any.sh"]);
    assert!(
        ran.status == Some(2) && ran.stderr.contains("any.sh:2") && ran.stderr.contains("only Slurm knows"),
        "{ran}"
    );
    let ran = place.run(["submit", "--to", "slurm", "--dry-run", "any.sh"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(!ran.stderr.contains("any.sh") && !ran.stdout.contains("#SBATCH --dependency=afterok:1\n"), "{ran}");
}

#[test]
fn every_engine_has_a_dry_run_away_from_it_and_takes_only_what_is_its_own() {
    let place = TestEnvironment::new();
    let ran = place.run(["submit", "--to", "ray", "--dry-run", "-o", "json", "--", "true"]);
    let request = manifest(&ran);
    assert!(request["url"].as_str().unwrap().starts_with("http://127.0.0.1:8265/"), "{ran}");
    assert!(ran.stderr.contains("no RAY_ADDRESS"), "{ran}");
    let ran = place.run(["submit", "--to", "ray", "--", "true"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("no address of Ray's job server"), "{ran}");
    place.write("job.yaml", "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\n");
    for to in ["slurm", "ray"] {
        let ran = place.run(["submit", "--to", to, "--dry-run", "job.yaml"]);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran}");
        assert!(ran.stderr.contains(&format!("{to} takes no Kubernetes object (Job)")), "{ran}");
    }
    let ran = place.run(["submit", "--to", "slurm", "--dry-run", "--nodes", "2", "--time", "1h", "--", "true"]);
    for line in ["#SBATCH --nodes=2", "#SBATCH --time=01:00:00"] {
        assert!(ran.stdout.lines().any(|own| own == line), "{ran}");
    }
}

#[test]
fn bad_input_is_refused_before_anything_is_asked() {
    let place = TestEnvironment::new();
    place.write("bad.sh", "#SBATCH --time=yesterday\n");
    place.write("bad.yaml", "apiVersion: aictl.dev/v1alpha1\nkind: Job\nspec:\n  noodles: 4\n");
    place.write("broken.yaml", "a: [1\n");
    let cases: [(&[&str], &str); 9] = [
        (&["--nodes", "0", "--", "x"], "0 nodes"),
        (&["--memory", "lots", "--", "x"], "no amount of memory"),
        (&["--array", "9-0", "--", "x"], "no array"),
        (&["--name", "Not A Name", "--", "x"], "no name"),
        (&["--name", "a-very-long-name-that-no-kubernetes-controller-could-still-lengthen", "--", "x"], "at most 40"),
        (&[], "nothing to run"),
        (&["bad.sh"], "bad.sh:1"),
        (&["bad.yaml"], "noodles"),
        (&["broken.yaml"], "broken.yaml"),
    ];
    for (arguments, word) in cases {
        let ran = place.run([&["submit", "--to", "kueue", "--dry-run"], arguments].concat());
        assert_eq!(ran.status, Some(2), "{arguments:?}: {ran}");
        assert!(ran.stderr.contains(word), "{arguments:?}: {ran}");
    }
}

#[test]
fn a_job_of_every_shape_passes_the_servers_validation() {
    let Some(kube) = queues::shared() else { return };
    let (place, _) = place(kube);
    for shape in ["job", "jobset", "pytorchjob", "trainjob", "mpijob"] {
        let arguments =
            [&["submit", "--to", "kueue", "--dry-run=server", "-o", "json", "--shape", shape], &GANG[..]].concat();
        let ran = place.run([&arguments[..], &["--time", "2h", "--retries", "2", "--", "python", "train.py"]].concat());
        assert_eq!(ran.status, Some(0), "{shape}: {ran}");
    }
    let one = ["--image", "img:1", "--gpus-per-node", "1", "--queue", "research"];
    for more in
        [&["--to", "kueue", "--shape", "rayjob", "--nodes", "3"][..], &["--to", "kueue", "--array", "1,3,5-7%2"]]
    {
        let ran = place.run([&["submit", "--dry-run=server"], &one[..], more, &["--", "true"]].concat());
        assert_eq!(ran.status, Some(0), "{more:?}: {ran}");
    }
    for (to, queue) in [("volcano", None), ("kube-queue", Some("q")), ("kubernetes", None)] {
        let mut arguments = vec!["submit", "--to", to, "--dry-run=server", "--image", "img:1", "--nodes", "2"];
        arguments.extend(queue.iter().flat_map(|queue| ["--queue", queue]));
        let ran = place.run([&arguments[..], &["--time", "2h", "--", "true"]].concat());
        assert_eq!(ran.status, Some(0), "{to}: {ran}");
    }
}

#[test]
fn the_same_submission_makes_one_job() {
    let Some(kube) = queues::shared() else { return };
    let (place, namespace) = place(kube);
    let arguments = [&["submit", "--to", "kueue"], &GANG[..], &["--shape", "job", "--", "true"]].concat();
    let first = place.run(&arguments);
    assert_eq!(first.status, Some(0), "{first}");
    let second = place.run(&arguments);
    assert!(second.status == Some(0) && second.stdout.contains("is there already"), "{second}");
    kube.block_on(async {
        let jobs = queues::api(kube, Some(&namespace), "batch", "v1", "Job", "jobs");
        let listed = jobs.list(&Default::default()).await.unwrap();
        assert_eq!(listed.items.len(), 1);
        let owner = listed.items[0].metadata.annotations.as_ref().unwrap()["aictl.dev/owner"].clone();
        assert_eq!(owner, "admin");
        let services = queues::api(kube, Some(&namespace), "", "v1", "Service", "services");
        let listed = services.list(&Default::default()).await.unwrap();
        assert_eq!(listed.items.len(), 1, "the ranks' names");
        assert_eq!(listed.items[0].metadata.owner_references.as_ref().unwrap()[0].kind, "Job");
    });
    let other = place
        .run([&["submit", "--to", "kueue", "--id", "again"], &GANG[..], &["--shape", "job", "--", "true"]].concat());
    assert!(other.status == Some(0) && !other.stdout.contains("already"), "{other}");
}

#[test]
fn what_could_never_run_is_refused_and_says_what_would() {
    let Some(kube) = queues::shared() else { return };
    let (place, namespace) = place(kube);
    let submit = |more: &[&str]| {
        place
            .run([&["submit", "--to", "kueue", "--image", "i", "--gpus-per-node", "8"], more, &["--", "true"]].concat())
    };
    let ran = submit(&["--queue", "research", "--nodes", "16"]);
    assert_eq!(ran.status, Some(2), "{ran}");
    assert!(ran.stderr.contains("can never give more than 64") && ran.stderr.contains("--nodes 8 would fit"), "{ran}");
    let ran = submit(&["--queue", "reserch"]);
    let error = ran.stderr.replace(&namespace, "NAMESPACE");
    assert_eq!(ran.status, Some(2));
    assert_snapshot!(error, @r#"
    error: namespace NAMESPACE of kueue has no queue "reserch"
    hint: did you mean research? `aictl queue quota` lists the queues
    "#);
}

#[test]
fn a_manifest_is_passed_on_with_the_queue_added() {
    let place = TestEnvironment::new();
    place.write(
        "job.yaml",
        "apiVersion: sparkoperator.k8s.io/v1beta2\nkind: SparkApplication\nmetadata: {name: pi}\nspec: {type: Scala}\n",
    );
    let ran = place.run(["submit", "--to", "kueue", "--queue", "etl", "--dry-run", "-o", "json", "job.yaml"]);
    let object = manifest(&ran);
    assert_eq!(object["metadata"]["labels"]["kueue.x-k8s.io/queue-name"], "etl");
    assert_eq!((&object["spec"]["type"], &object["spec"]["suspend"]), (&"Scala".into(), &true.into()));
    let ran = place.run(["submit", "--to", "kueue", "--nodes", "2", "--dry-run", "job.yaml"]);
    assert!(ran.status == Some(2) && ran.stderr.contains("passed on as it is"), "{ran}");
}

/// Sends what a dry run prints, with the server's strictest validation: no field that the kind lacks.
fn strictly(kube: &Kube, namespace: &str, objects: &[Value]) -> Vec<String> {
    use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
    let mut wrong = Vec::new();
    for object in objects {
        let (group, version) = object["apiVersion"]
            .as_str()
            .unwrap()
            .split_once('/')
            .unwrap_or(("", object["apiVersion"].as_str().unwrap()));
        let kind = object["kind"].as_str().unwrap();
        let plural = format!("{}s", kind.to_lowercase());
        let parameters = PatchParams {
            dry_run: true,
            force: true,
            field_manager: Some("strict".to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let name = object["metadata"]["name"].as_str().unwrap();
        let answered = kube.block_on(async {
            let api: kube::Api<DynamicObject> = queues::api(kube, Some(namespace), group, version, kind, &plural);
            api.patch(name, &parameters, &Patch::Apply(object)).await
        });
        wrong.extend(answered.err().map(|error| format!("{group}/{kind}: {error}")));
    }
    wrong
}

#[test]
fn objects_have_no_field_that_their_kinds_lack() {
    let Some(kube) = queues::shared() else { return };
    let (place, namespace) = place(kube);
    kube.block_on(async {
        let queues = queues::api(kube, None, "scheduling.volcano.sh", "v1beta1", "Queue", "queues");
        let queue = serde_json::json!({"apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue",
            "metadata": {"name": "research"}, "spec": {"weight": 1}});
        queues::make(&queues, queue).await
    });
    let mut wrong = Vec::new();
    let cases: [&[&str]; 11] = [
        &["--to", "kueue", "--shape", "job", "--array", "1,3,5-7%2"],
        &["--to", "kueue", "--shape", "job", "--nodes", "2"],
        &["--to", "kueue", "--shape", "jobset", "--nodes", "2", "--hold"],
        &["--to", "kueue", "--shape", "pytorchjob", "--nodes", "2"],
        &["--to", "kueue", "--shape", "trainjob", "--nodes", "2"],
        &["--to", "kueue", "--shape", "mpijob", "--nodes", "2"],
        &["--to", "kueue", "--shape", "rayjob", "--nodes", "3"],
        &["--to", "kueue", "--shape", "rayjob"],
        &["--to", "volcano", "--nodes", "2", "--priority", "high"],
        &["--to", "kube-queue", "--shape", "pytorchjob", "--nodes", "2"],
        &["--to", "kubernetes", "--nodes", "2", "--after", "prepare", "--needs-model", "hf://a/b"],
    ];
    for more in cases {
        let fixed = [
            "submit",
            "--dry-run",
            "-o",
            "json",
            "--image",
            "i:1",
            "--gpus-per-node",
            "8",
            "--time",
            "2h",
            "--retries",
            "1",
        ];
        let wanted = [
            "--cpus", "4", "--memory", "8Gi", "--env", "A=b", "--label", "team=a", "--queue", "research", "--",
            "python", "train.py",
        ];
        let ran = place.run([&fixed[..], more, &wanted].concat());
        let manifest = manifest(&ran);
        let objects = match manifest["kind"].as_str() {
            Some("List") => manifest["items"].as_array().unwrap().clone(),
            _ => vec![manifest],
        };
        wrong.extend(strictly(kube, &namespace, &objects).into_iter().map(|error| format!("{more:?}: {error}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
