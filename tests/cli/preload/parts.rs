//! Parts of a model: the byte ranges that some tensors need, and headers that can't be.

use super::super::environment::TestEnvironment;
use super::super::support::http::{Hub, noise};
use super::{contents, repository, run, safetensors, snapshot, wanted};

/// Two shards of two layers each, 20 MB a layer, and their index.
fn files() -> Vec<(&'static str, Vec<u8>, bool)> {
    let layer = |number: usize| (format!("model.layers.{number}.w"), noise(20_000_000, number as u64 + 1));
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let map: serde_json::Map<String, serde_json::Value> =
        (0..4).map(|number| (layer(number).0, names[number / 2].into())).collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    vec![
        ("config.json", b"{}".to_vec(), false),
        (names[0], safetensors(&[layer(0), layer(1)]), true),
        (names[1], safetensors(&[layer(2), layer(3)]), true),
        ("model.safetensors.index.json", index.into_bytes(), false),
        ("pytorch_model.bin", noise(30_000_000, 9), true),
    ]
}

#[test]
fn a_rank_fetches_its_layers_alone() {
    let environment = TestEnvironment::new();
    let files = files();
    let hub = Hub::with("org/model", &files);
    let plan = run(&environment, &hub, &["org/model", "--rank", "0/4", "--dry-run", "-o", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let ran = run(&environment, &hub, &["org/model", "--tensors", "nosuch*"]);
    assert!(ran.status == Some(1) && ran.stderr.contains("no tensors that match"), "{ran}");
    hub.server.take_bytes();
    let ran = run(&environment, &hub, &["org/model", "--rank", "0/4", "-o", "json"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let came = hub.server.take_bytes();
    assert!((20_000_000..22_000_000).contains(&came), "{came} bytes for one layer of 20 MB");
    let models: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&models[0]["state"], &models[0]["verified"]), (&"partial".into(), &false.into()), "{ran}");
    let path = models[0]["path"].as_str().unwrap();
    assert!(path.ends_with("rank-0-of-4"), "{path}");
    assert_eq!((&plan[0]["path"], plan[0]["fetch_files"].as_u64()), (&models[0]["path"], Some(4)), "{plan}");
    let planned = plan[0]["fetch_bytes"].as_u64().unwrap();
    assert!((20_000_000..20_010_000).contains(&planned), "{planned} bytes planned for one layer of 20 MB");
    let there = contents(&environment.path("store").join(path.split_once("store/").unwrap().1));
    let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), 4, "no second copy of the weights: {names:?}");
    let (shard, whole) = (&there[1].1, &files[1].1);
    assert_eq!(shard.len(), whole.len());
    let head = whole.len() - 40_000_000;
    assert!(shard[..head + 20_000_000] == whole[..head + 20_000_000], "header and layer 0");
    // It does not pretend to be whole.
    assert!(!repository(&environment).join("refs/main").exists());
    let status = run(&environment, &hub, &["status", "-o", "json"]);
    assert!(status.stdout.contains("\"state\": \"partial\""), "{status}");

    // The same again fetches headers at most; another rank its own; all of it the rest.
    let ran = run(&environment, &hub, &["org/model", "--rank", "0/4", "--page-cache"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(hub.server.take_bytes() < 2_000_000);
    let ran = run(&environment, &hub, &["org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    let rest = hub.server.take_bytes();
    assert!(rest < 91_000_000, "{rest} of 110 MB, 20 of which were there");
    assert!(snapshot(&repository(&environment)) == wanted(&files));
    // What is whole is not a part any more.
    let ran = run(&environment, &hub, &["org/model", "--tensors", "model.layers.3.*", "-o", "json"]);
    assert!(ran.status == Some(0) && ran.stdout.contains("\"state\": \"ready\""), "{ran}");
    assert_eq!(hub.server.take_bytes(), 0);
}

#[test]
fn headers_that_lie_are_not_published() {
    let right = safetensors(&[("w".to_owned(), noise(1000, 1))]);
    let mut huge = right.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut beyond = right.clone();
    beyond.truncate(right.len() - 10);
    let overlap = {
        let json = br#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#;
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json);
        bytes.extend_from_slice(&[0; 12]);
        bytes
    };
    for (what, content) in [("huge", huge), ("beyond", beyond), ("overlap", overlap), ("short", b"abc".to_vec())] {
        let environment = TestEnvironment::new();
        let hub =
            Hub::with("org/model", &[("model.safetensors", content, true), ("config.json", b"{}".to_vec(), false)]);
        let ran = run(&environment, &hub, &["org/model"]);
        assert!(ran.status == Some(3) && ran.stderr.contains("safetensors header"), "{what}: {ran}");
        assert!(!repository(&environment).join("refs/main").exists(), "{what}");
        let ran = run(&environment, &hub, &["org/model", "--rank", "0/2"]);
        assert!(matches!(ran.status, Some(1 | 3)), "{what}: {ran}");
    }
    // An empty file lies about nothing.
    let environment = TestEnvironment::new();
    let files = [("empty.safetensors", Vec::new(), false), ("model.safetensors", right, true)];
    let hub = Hub::with("org/model", &files);
    let ran = run(&environment, &hub, &["org/model"]);
    assert_eq!(ran.status, Some(0), "{ran}");
    assert!(snapshot(&repository(&environment)) == wanted(&files));
}
