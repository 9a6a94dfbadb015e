//! The connection to a cluster: which one is meant, and what is said if it can't be had.

use std::path::PathBuf;

use aictl::cluster::{Cluster, ClusterError, Options, answer};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::Api;
use kube::api::ListParams;

use crate::environment::TestEnvironment;
use crate::support::kube::{Kube, NOBODY};

fn options(kubeconfig: PathBuf) -> Options {
    Options { kubeconfig: Some(kubeconfig), ..Options::default() }
}

#[test]
fn a_kubeconfig_names_the_server_and_the_namespace() {
    let Some(kube) = Kube::shared() else { return };
    let place = TestEnvironment::new();
    let file = place.write("kubeconfig", kube.kubeconfig("training"));
    kube.block_on(async {
        let cluster = Cluster::connect(&options(file)).await.unwrap();
        assert_eq!((cluster.name(), cluster.namespace()), ("test", "training"));
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let listed = answer("cannot list namespaces", namespaces.list(&ListParams::default())).await.unwrap();
        assert!(listed.items.iter().any(|namespace| namespace.metadata.name.as_deref() == Some("default")));
    });
}

#[test]
fn what_is_not_permitted_names_the_verb_and_the_resource() {
    let Some(kube) = Kube::shared() else { return };
    let place = TestEnvironment::new();
    let file = place.write("kubeconfig", kube.kubeconfig_at(&kube.url(), NOBODY, "default"));
    kube.block_on(async {
        let cluster = Cluster::connect(&options(file)).await.unwrap();
        let nodes: Api<Node> = Api::all(cluster.client());
        let error = answer("cannot list nodes", nodes.list(&ListParams::default())).await.unwrap_err();
        assert!(matches!(error, ClusterError::Forbidden { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("list") && text.contains("nodes"), "{text}");
    });
}

#[test]
fn a_wrong_token_a_wrong_context_and_a_dead_server_are_told_apart() {
    let Some(kube) = Kube::shared() else { return };
    let place = TestEnvironment::new();
    let ask = |options: Options| {
        kube.block_on(async move {
            let cluster = Cluster::connect(&options).await?;
            let nodes: Api<Node> = Api::all(cluster.client());
            answer("cannot list nodes", nodes.list(&ListParams::default())).await
        })
    };
    let wrong = place.write("wrong", kube.kubeconfig_at(&kube.url(), "no-such-token", "default"));
    assert!(matches!(ask(options(wrong)), Err(ClusterError::Unknown { .. })));
    let fine = place.write("fine", kube.kubeconfig("default"));
    let elsewhere = Options { context: Some("prod".to_owned()), ..options(fine) };
    assert!(matches!(ask(elsewhere), Err(ClusterError::Context { context }) if context == "prod"));
    let dead = place.write("dead", kube.kubeconfig_at("https://127.0.0.1:1", "t", "default"));
    let error = ask(options(dead)).unwrap_err();
    assert!(matches!(error, ClusterError::Unreachable { .. }) && error.is_passing(), "{error:?}");
}
