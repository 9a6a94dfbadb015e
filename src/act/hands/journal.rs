//! A journal's lines in a ConfigMap, for runs that have no disk of their own: one object a node.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{Hands, MANAGER, name_of, post};
use crate::cluster::ClusterError;

/// The key in the object.
const KEY: &str = "journal.jsonl";
/// Journals bear this label, with the value "journal".
const LABEL: &str = "aictl.dev/kind";
/// How long a line may take to be written: the server may be away for a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The lines of one node's journal. Only whole texts are ever written, each over the one that was
/// read, so that a second writer is noticed and nothing is ever torn.
pub struct Sheet {
    hands: Rc<Hands>,
    node: String,
    /// What the server has; `None`: no object yet.
    there: Option<String>,
}

impl std::fmt::Debug for Sheet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sheet").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Sheet {
    /// Reads the journal of a node.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(hands: Rc<Hands>, node: &str) -> Result<Sheet, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(hands.client.clone(), &hands.namespace);
        let what = format!("cannot read the journal of node {node}");
        let name = name(node);
        let found = hands.ask(&what, PATIENCE, || api.get_opt(&name))?;
        let there = found.map(|map| text(map.data));
        Ok(Sheet { hands, node: node.to_owned(), there })
    }

    /// All journals there are: node and text.
    ///
    /// # Errors
    /// If they can't be listed.
    pub fn all(hands: &Hands) -> Result<Vec<(String, String)>, ClusterError> {
        let api: Api<ConfigMap> = Api::namespaced(hands.client.clone(), &hands.namespace);
        let labelled = ListParams::default().labels(&format!("{LABEL}=journal"));
        let found = hands.ask("cannot list the journals", PATIENCE, || api.list(&labelled))?;
        let node = |map: &ConfigMap| {
            let annotations = map.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get("aictl.dev/node").cloned()).unwrap_or_else(|| name_of(map))
        };
        Ok(found.items.into_iter().map(|map| (node(&map), text(map.data))).collect())
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        format!("ConfigMap {}/{}", self.hands.namespace, name(&self.node))
    }

    /// The lines.
    pub fn text(&self) -> &str {
        self.there.as_deref().unwrap_or_default()
    }

    /// Writes these lines over those that were read.
    ///
    /// # Errors
    /// If they can't be written, or another wrote since.
    pub fn write(&mut self, lines: String) -> io::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.hands.client.clone(), &self.hands.namespace);
        let name = name(&self.node);
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let written = self.hands.ask(&format!("cannot write {}", self.place()), PATIENCE, || async {
            let found = api.get_opt(&name).await?;
            let version = found.as_ref().and_then(|map| map.metadata.resource_version.clone());
            let now = found.map(|map| text(map.data));
            if now.as_deref() == Some(&lines) {
                // An earlier try was heard, and its answer lost.
                return Ok(true);
            }
            if now != self.there {
                return Ok(false);
            }
            let data = BTreeMap::from([(KEY, &lines)]);
            match version {
                Some(version) => {
                    let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
                    api.patch(&name, &parameters, &Patch::Merge(&patch)).await.map(|_| true)
                }
                None => {
                    let map = json!({
                        "metadata": {"name": name, "labels": {LABEL: "journal"}, "annotations": {"aictl.dev/node": self.node}},
                        "data": data,
                    });
                    let map: ConfigMap = serde_json::from_value(map).map_err(kube::Error::SerdeError)?;
                    api.create(&post(), &map).await.map(|_| true)
                }
            }
        });
        match written {
            Ok(true) => {
                self.there = Some(lines);
                Ok(())
            }
            Ok(false) => Err(io::Error::other("another run wrote to it meanwhile")),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

fn name(node: &str) -> String {
    let name = format!("aictl-journal-{node}");
    if name.len() <= 253 {
        return name;
    }
    // The longest names of nodes leave no room for ours.
    format!("aictl-journal-{:08x}", crc32fast::hash(node.as_bytes()))
}

fn text(data: Option<BTreeMap<String, String>>) -> String {
    data.and_then(|mut data| data.remove(KEY)).unwrap_or_default()
}
