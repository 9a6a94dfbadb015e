//! What a spec asks for can be read off the object that is made of it, whatever the shape.

use std::collections::BTreeMap;

use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;

use super::object::{self, Frame};
use super::read::{AnyJob, quantity};
use super::served::Served;
use super::share;
use crate::queue::{Bytes, Cpus, Draft, EngineKind, JobSpec, Shape, TimeLimit};

/// What an object means, in the words of a spec.
#[derive(Debug, PartialEq)]
struct Meaning {
    nodes: u32,
    gpus: f64,
    cpus: Option<f64>,
    memory: Option<f64>,
    image: String,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    time: Option<u64>,
    queue: Option<String>,
}

/// The container in which the command runs, in any kind of object.
fn container(spec: &Value) -> Value {
    let places = [
        "/template/spec/containers/0",
        "/replicatedJobs/0/template/spec/template/spec/containers/0",
        "/pytorchReplicaSpecs/Master/template/spec/containers/0",
        "/tasks/0/template/spec/containers/0",
        "/mpiReplicaSpecs/Launcher/template/spec/containers/0",
        "/rayClusterSpec/headGroupSpec/template/spec/containers/0",
        "/trainer",
    ];
    places.iter().find_map(|place| spec.pointer(place)).cloned().unwrap_or_default()
}

fn read_back(object: &Value) -> Meaning {
    let spec = &object["spec"];
    let container = container(spec);
    let job: AnyJob = serde_json::from_value(object.clone()).unwrap();
    let (nodes, gpus) = job.size();
    // MPI's launcher only starts the others, which have the resources.
    let worker = spec.pointer("/mpiReplicaSpecs/Worker/template/spec/containers/0").cloned();
    let holder = worker.unwrap_or_else(|| container.clone());
    let resources =
        if container["resourcesPerNode"].is_object() { &container["resourcesPerNode"] } else { &holder["resources"] };
    let amount = |name: &str| resources["requests"][name].as_str().map(quantity);
    let plain = |text: &str| text.replace("$$(", "$(");
    let named = |name: &str| container["env"].as_array()?.iter().find(|item| item["name"] == name)?["value"].as_str();
    // A RayJob's driver is told the command in a variable.
    let mut command: Vec<String> = match named("AICTL_RAY_SPEC") {
        Some(told) => {
            let told = base64::engine::general_purpose::STANDARD.decode(told).unwrap();
            let told: Value = serde_json::from_slice(&told).unwrap();
            assert_eq!((&told["nodes"], told["gpus"].as_f64()), (&nodes.into(), Some(gpus / f64::from(nodes))));
            serde_json::from_value(told["words"].clone()).unwrap()
        }
        None => container["command"].as_array().unwrap().iter().map(|word| plain(word.as_str().unwrap())).collect(),
    };
    // Before the command stands the shell that sets the variables, where an operator has its own.
    if let Some(end) = command.iter().position(|word| word == "aictl") {
        command.drain(..=end);
    }
    let env =
        container["env"].as_array().unwrap().iter().filter(|item| item["name"].as_str().unwrap().starts_with("USER_"));
    let env =
        env.map(|item| (item["name"].as_str().unwrap().to_owned(), plain(item["value"].as_str().unwrap()))).collect();
    let times = [
        "/activeDeadlineSeconds",
        "/runPolicy/activeDeadlineSeconds",
        "/replicatedJobs/0/template/spec/activeDeadlineSeconds",
        "/tasks/0/template/spec/activeDeadlineSeconds",
    ];
    let labels = &object["metadata"]["labels"];
    let annotations = &object["metadata"]["annotations"];
    let queue = [&labels[object::KUEUE_QUEUE], &annotations[object::KUBE_QUEUE_QUEUE], &spec["queue"]];
    Meaning {
        nodes,
        gpus,
        cpus: amount("cpu"),
        memory: amount("memory"),
        image: container["image"].as_str().unwrap().to_owned(),
        command,
        env,
        time: times.iter().find_map(|place| spec.pointer(place)?.as_u64()),
        queue: queue.into_iter().find_map(|queue| queue.as_str().map(str::to_owned)),
    }
}

fn meant(spec: &JobSpec) -> Meaning {
    Meaning {
        nodes: spec.nodes,
        gpus: spec.gpus(),
        cpus: spec.cpus.map(|cpus| cpus.0 as f64 / 1000.0),
        memory: spec.memory.map(|memory| memory.0 as f64),
        image: spec.image.clone().unwrap(),
        command: spec.words(),
        env: spec.env.clone(),
        time: spec.time.map(|time| time.0),
        queue: spec.queue.clone(),
    }
}

/// An engine and a shape that it takes.
fn places() -> impl Strategy<Value = (EngineKind, Shape)> {
    prop_oneof![
        prop_oneof![
            Just(Shape::Auto),
            Just(Shape::Job),
            Just(Shape::JobSet),
            Just(Shape::PyTorchJob),
            Just(Shape::TrainJob),
            Just(Shape::MpiJob),
            Just(Shape::RayJob)
        ]
        .prop_map(|shape| (EngineKind::Kueue, shape)),
        Just((EngineKind::Volcano, Shape::Auto)),
        prop_oneof![Just(Shape::Job), Just(Shape::PyTorchJob)].prop_map(|shape| (EngineKind::KubeQueue, shape)),
        prop_oneof![Just(Shape::Auto), Just(Shape::JobSet), Just(Shape::RayJob)]
            .prop_map(|shape| (EngineKind::Kubernetes, shape)),
    ]
}

prop_compose! {
    fn specs()(
        nodes in 1u32..64, gpus in 0u32..9, cpus in proptest::option::of(1u64..400_000), memory in proptest::option::of(1u64..(1 << 40)),
        time in proptest::option::of(1u64..10_000_000), command in proptest::collection::vec("[ -~]{1,12}", 1..5),
        env in proptest::collection::btree_map("USER_[A-Z]{1,6}", "[ -~]{0,12}", 0..4), image in "[a-z]{1,8}:[0-9]", retries in 0u32..4,
    ) -> Draft {
        Draft {
            nodes: Some(nodes), gpus_per_node: Some(gpus), cpus: cpus.map(Cpus), memory: memory.map(Bytes), time: time.map(TimeLimit),
            command, env, image: Some(image), retries: Some(retries), queue: Some("q".to_owned()), ..Draft::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn an_object_keeps_what_the_spec_means(draft in specs(), (engine, shape) in places()) {
        // The word after which read_back looks for the command.
        prop_assume!(!draft.command.iter().any(|word| word == "aictl"));
        // Plain Kubernetes has no queues.
        let queue = draft.queue.clone().filter(|_| engine != EngineKind::Kubernetes);
        let spec = Draft { shape: Some(shape), queue, ..draft }.settle("job").unwrap();
        let served = Served::published();
        let gpu = share::request(&spec, None).unwrap();
        let frame = Frame { engine, served: &served, namespace: "ns", gpu, node_labels: Vec::new() };
        let objects = object::build(&spec, &frame).unwrap();
        prop_assert_eq!(read_back(&objects[0]), meant(&spec));
        let name = objects[0]["metadata"]["name"].as_str().unwrap();
        prop_assert!(name.len() <= 49, "{}", name);
    }
}
