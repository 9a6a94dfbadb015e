use proptest::prelude::*;

use super::*;
use crate::queue::{Bytes, Cpus, Shape};

fn spec() -> JobSpec {
    JobSpec {
        name: "train".to_owned(),
        id: "abc".to_owned(),
        queue: Some("main".to_owned()),
        namespace: None,
        nodes: 2,
        gpus_per_node: 4,
        gpu_type: Some("a100".to_owned()),
        gpu_share: None,
        cpus: Some(Cpus(8000)),
        memory: Some(Bytes(4 << 30)),
        time: Some(TimeLimit(5400)),
        image: None,
        priority: None,
        env: BTreeMap::from([("A".to_owned(), "b c".to_owned())]),
        array: None,
        after: Vec::new(),
        workdir: None,
        output: None,
        command: ["python", "train.py", "a b"].map(str::to_owned).to_vec(),
        script: None,
        shape: Shape::Auto,
        processes_per_node: None,
        needs_model: None,
        hold: false,
        retries: 0,
        labels: BTreeMap::new(),
        account: None,
        qos: None,
        constraint: None,
        exclusive: false,
        script_asks: None,
    }
}

/// Property types as a document of v0.0.38 has them, and as one of v0.0.43.
fn properties(new: bool) -> Map<String, Value> {
    let text = [
        "name",
        "comment",
        "partition",
        "array",
        "dependency",
        "current_working_directory",
        "standard_output",
        "account",
        "qos",
        "constraints",
    ];
    let mut properties: Map<String, Value> =
        text.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
    let number = if new {
        json!({"$ref": "#/components/schemas/v0.0.43_uint32_no_val_struct"})
    } else {
        json!({"type": "integer"})
    };
    for name in ["memory_per_node", "time_limit"] {
        properties.insert(name.to_owned(), number.clone());
    }
    for name in ["cpus_per_task", "tasks_per_node"] {
        properties.insert(name.to_owned(), json!({"type": "integer"}));
    }
    let (gres, nodes, environment) =
        if new { ("tres_per_node", "string", "array") } else { ("gres", "array", "object") };
    properties.insert(gres.to_owned(), json!({"type": "string"}));
    properties.insert("nodes".to_owned(), json!({"type": nodes}));
    let environment =
        if new { json!({"$ref": "#/components/schemas/string_array"}) } else { json!({"type": environment}) };
    properties.insert("environment".to_owned(), environment);
    for name in ["hold", "requeue"] {
        properties.insert(name.to_owned(), json!({"type": "boolean"}));
    }
    properties
}

#[test]
fn a_command_becomes_a_script_and_options() {
    let made = request(&spec(), &Looked::default()).unwrap();
    let words = made.command().join("\n");
    insta::assert_snapshot!(words, @r"
    sbatch
    --parsable
    --comment=aictl:abc +ranks
    --cpus-per-task=8
    --gres=gpu:a100:4
    --job-name=train
    --mem=4096M
    --nodes=2
    --ntasks-per-node=1
    --partition=main
    --time=01:30:00
    ");
    assert!(made.script.starts_with("#!/bin/bash\n"));
    assert!(made.script.contains("export A=\"b c\"\n") || made.script.contains("export A='b c'\n"), "{}", made.script);
    assert!(made.script.contains("--kill-on-bad-exit=1 --label /bin/bash -c "), "{}", made.script);
    assert!(
        made.script.contains("export WORLD_SIZE=") || made.script.contains("WORLD_SIZE=$NNODES"),
        "{}",
        made.script
    );
}

#[test]
fn a_script_for_slurm_stays_as_it_is() {
    let script =
        "#!/bin/bash\n#SBATCH --nodes=2 --gpus-per-node=a100:4\n#SBATCH --comment=mine\nsrun python train.py\n";
    let mut native = JobSpec { script: Some(script.to_owned()), command: Vec::new(), ..spec() };
    native.queue = None;
    let made = request(&native, &Looked::default()).unwrap();
    assert_eq!(made.script, script);
    assert!(
        !made.options.contains_key("nodes")
            && !made.options.contains_key("gres")
            && !made.options.contains_key("ntasks-per-node")
    );
    assert_eq!(made.options["comment"], "aictl:abc mine");
    assert_eq!(made.command()[..2], ["env", "A=b c"]);
    assert!(made.notes.iter().any(|note| note.contains("#SBATCH")), "{:?}", made.notes);
    // What a flag says otherwise goes before the script's own words.
    native.nodes = 3;
    assert_eq!(request(&native, &Looked::default()).unwrap().options["nodes"], "3");
}

#[test]
fn sbatch_is_told_only_what_differs_from_the_scripts_own_lines() {
    let script = "#!/bin/bash\n#SBATCH --nodes=2-4 --ntasks-per-node=4 -c 2\n#SBATCH --time=10\nsrun hostname\n";
    let base = JobSpec {
        script: Some(script.to_owned()),
        command: vec!["one".to_owned(), "two three".to_owned()],
        queue: None,
        gpus_per_node: 0,
        gpu_type: None,
        memory: None,
        env: BTreeMap::new(),
        time: Some(TimeLimit(600)),
        processes_per_node: Some(4),
        ..spec()
    };
    let mut asked = JobSpec { script_asks: Some(Box::new(base.clone())), ..base };
    let made = request(&asked, &Looked::default()).unwrap();
    assert_eq!(made.options.keys().copied().collect::<Vec<_>>(), ["comment", "job-name"], "{made:?}");
    assert_eq!(made.command()[4..], ["/dev/stdin", "one", "two three"]);
    // Flags are for a node.
    (asked.cpus, asked.nodes) = (Some(Cpus(16_000)), 1);
    let made = request(&asked, &Looked::default()).unwrap();
    assert_eq!((made.options["cpus-per-task"].as_str(), made.options["nodes"].as_str()), ("4", "1"));
    let mut properties = properties(false);
    assert!(made.body(&properties, "/w").unwrap_err().to_string().contains("argv"));
    properties.insert("argv".to_owned(), json!({"type": "array", "items": {"type": "string"}}));
    assert_eq!(made.body(&properties, "/w").unwrap()["job"]["argv"], json!(["script", "one", "two three"]));
}

#[test]
fn a_body_has_the_form_that_the_document_gives_it() {
    let made = request(&JobSpec { hold: true, ..spec() }, &Looked::default()).unwrap();
    let old = made.body(&properties(false), "/w").unwrap();
    assert_eq!(old["job"]["gres"], "gpu:a100:4");
    assert_eq!(old["job"]["time_limit"], 90);
    assert_eq!((&old["job"]["nodes"], &old["job"]["hold"]), (&json!("2"), &json!(true)));
    assert!(old["job"]["environment"]["PATH"].is_string());
    assert_eq!(old["job"]["current_working_directory"], "/w");
    let new = made.body(&properties(true), "/w").unwrap();
    assert_eq!(new["job"]["tres_per_node"], "gres/gpu:a100:4");
    assert_eq!(new["job"]["time_limit"], json!({"set": true, "infinite": false, "number": 90}));
    assert_eq!(new["job"]["cpus_per_task"], 8);
    assert!(new["job"]["environment"][0].as_str().unwrap().starts_with("PATH="));
    let mut few = properties(true);
    few.remove("tres_per_node");
    assert!(made.body(&few, "/w").unwrap_err().to_string().contains("tres_per_node"));
}

#[test]
fn comments_are_read_back() {
    let comment = |labelled: bool| super::comment(&spec(), labelled).unwrap();
    assert_eq!(submission(&comment(true)), Some("abc"));
    assert_eq!(submission("words of somebody"), None);
    assert!(is_labelled(&comment(true)) && !is_labelled(&comment(false)) && !is_labelled("+ranks"));
    assert_eq!(waits(&comment(true)), None);
    let held = JobSpec { needs_model: Some("hf://org/model@main".to_owned()), hold: true, ..spec() };
    let said = super::comment(&held, true).unwrap();
    let waiting = waits(&said).unwrap();
    assert_eq!((waiting.needs_model.as_deref(), waiting.hold), (Some("hf://org/model@main"), true));
    assert!(is_labelled(&said) && submission(&said) == Some("abc"));
    let spaced = JobSpec { needs_model: Some("/a b".to_owned()), ..spec() };
    assert!(super::comment(&spaced, false).is_err());
    assert!(request(&held, &Looked::default()).unwrap().options.contains_key("hold"));
}

#[test]
fn a_priority_is_a_number() {
    let of = |text: &str| request(&JobSpec { priority: Some(text.to_owned()), ..spec() }, &Looked::default());
    assert_eq!(of("70").unwrap().options["priority"], "70");
    for text in ["high", "-1", "4294967295"] {
        assert!(matches!(of(text), Err(QueueError::Invalid { .. })), "{text}");
    }
}

proptest! {
    /// What a spec asks for is what sbatch is asked for: read back from the command line.
    #[test]
    fn a_request_keeps_what_a_spec_means(
        nodes in 1u32..2000,
        gpus in 0u32..16,
        kind in proptest::option::of("[a-z][a-z0-9]{0,6}"),
        cores in proptest::option::of(1u64..256),
        mebibytes in proptest::option::of(1u64..1 << 22),
        minutes in proptest::option::of(1u64..100_000),
        exclusive in any::<bool>(),
        word in "[ -~]{1,30}",
    ) {
        let asked = JobSpec {
            nodes,
            gpus_per_node: gpus,
            gpu_type: kind.clone().filter(|_| gpus > 0),
            cpus: cores.map(|cores| Cpus(cores * 1000)),
            memory: mebibytes.map(|mebibytes| Bytes(mebibytes << 20)),
            time: minutes.map(|minutes| TimeLimit(minutes * 60)),
            exclusive,
            command: vec!["echo".to_owned(), word.clone()],
            ..spec()
        };
        let made = request(&asked, &Looked::default()).unwrap();
        let option = |name: &str| {
            let start = format!("--{name}");
            made.command().iter().find_map(|word| {
                let rest = word.strip_prefix(&start)?;
                if rest.is_empty() { Some(String::new()) } else { rest.strip_prefix('=').map(str::to_owned) }
            })
        };
        prop_assert_eq!(option("nodes").unwrap().parse::<u32>().unwrap(), nodes);
        let items = super::super::record::gres_items(&option("gres").unwrap_or_default());
        let gpu = items.first();
        prop_assert_eq!(gpu.map_or(0.0, |item| item.count), f64::from(gpus));
        prop_assert_eq!(gpu.and_then(|item| item.kind.clone()), asked.gpu_type.clone());
        prop_assert_eq!(option("cpus-per-task").map(|text| text.parse::<u64>().unwrap()), cores);
        prop_assert_eq!(option("mem").map(|text| Bytes::slurm(&text).unwrap().0), asked.memory.map(|memory| memory.0));
        prop_assert_eq!(option("time").map(|text| text.parse::<TimeLimit>().unwrap()), asked.time);
        prop_assert_eq!(option("exclusive").is_some(), exclusive);
        // The command's words come through the shell as they were.
        // Where a shell sets the variables first, the words stand behind its own text's closing quote.
        let text = made.script.as_str();
        let start = text.rfind("aictl echo ").or_else(|| text.rfind("exec echo ")).unwrap();
        let words = shlex::split(&text[start..]).unwrap();
        prop_assert_eq!(words.last(), Some(&word));
    }
}
