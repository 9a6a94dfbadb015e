//! A Prometheus: a server that answers instant queries as Prometheus' HTTP API does.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

use crate::environment::TestEnvironment;

/// Serves `answer(query)` with a status, until the test ends; gives its address.
pub fn serve(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut piece = [0; 4096];
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece) {
                    Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            let head = String::from_utf8_lossy(&bytes).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let query = url::Url::parse(&format!("http://x{target}")).ok().and_then(|url| {
                assert!(url.path() == "/prefix/api/v1/query", "{url}");
                url.query_pairs().find(|(name, _)| name == "query").map(|(_, value)| value.into_owned())
            });
            let (status, body) = answer(&query.unwrap_or_default());
            let _ = write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    format!("{url}/prefix")
}

fn answer(query: &str) -> (u16, String) {
    let series = |node: u32, gpu: u32, value: &str| {
        let mut metric = json!({"gpu": gpu.to_string(), "UUID": format!("GPU-{node}-{gpu}"), "device": format!("nvidia{gpu}"),
            "modelName": "NVIDIA H100 80GB HBM3", "Hostname": format!("gpu-{node}"), "job": "dcgm"});
        if node == 1 {
            metric["exported_namespace"] = "team-a".into();
            metric["exported_pod"] = format!("train-{gpu}").into();
        }
        json!({"metric": metric, "value": [1.0, value]})
    };
    let all: Vec<Value> = match query {
        "DCGM_FI_DEV_GPU_UTIL" => vec![series(1, 0, "93"), series(1, 1, "0"), series(2, 0, "0")],
        "DCGM_FI_DEV_FB_USED" | "DCGM_FI_DEV_FB_FREE" => {
            vec![series(1, 0, "40960"), series(1, 1, "10"), series(2, 0, "0")]
        }
        query if query.starts_with("max_over_time(DCGM_FI_DEV_GPU_UTIL[600s])") => {
            vec![series(1, 1, "0"), series(2, 0, "0")]
        }
        _ => Vec::new(),
    };
    (200, json!({"status": "success", "data": {"resultType": "vector", "result": all}}).to_string())
}

#[test]
fn a_fleet_and_its_idle_gpus_from_prometheus() {
    let url = serve(answer);
    let environment = TestEnvironment::new();
    let ran = environment.run(["top", "--once", "--prometheus", &url, "-o", "json"]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["nodes"].as_array().unwrap().len(), 2);
    let gpu = &json["nodes"][0]["gpus"][0];
    assert_eq!((&gpu["metrics"]["utilisation_percent"], &gpu["pods"][0]["pod"]), (&93.into(), &"train-0".into()));
    assert_eq!(gpu["metrics"]["memory_total_bytes"], 85_899_345_920_u64);
    let ran = environment.run(["top", "--once", "--prometheus", &url, "--idle", "10m"]);
    insta::assert_snapshot!(ran, @r"
    status: 0
    ----- stdout
    NODE    GPU   OWNER            UUID      IDLE
    gpu-1     1   team-a/train-1   GPU-1-1    10m
    gpu-2     0   <none>           GPU-2-0    10m
    ");
}

#[test]
fn what_is_no_prometheus_is_said() {
    let environment = TestEnvironment::new();
    let ask = |url: &str| environment.run(["top", "--once", "--prometheus", url]);
    for (status, body, words) in [
        (200, "<html>hello</html>".to_owned(), "does not answer as a Prometheus"),
        (502, "bad gateway".to_owned(), "answers 502"),
        (400, r#"{"status":"error","errorType":"bad_data","error":"unknown function"}"#.to_owned(), "unknown function"),
        (200, r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#.to_owned(), "knows no GPU"),
    ] {
        let url = serve(move |_| (status, body.clone()));
        let ran = ask(&url);
        assert!(ran.status == Some(4) && ran.stderr.contains(words), "{words}: {ran}");
    }
    // Nobody has that port.
    let ran = ask("http://127.0.0.1:1");
    assert!(ran.status == Some(4) && ran.stderr.contains("cannot ask http://127.0.0.1"), "{ran}");
}
