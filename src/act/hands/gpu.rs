//! Takes one GPU out of service, where GPUs are handed out by dynamic resource allocation: a
//! DeviceTaintRule keeps new claims off the device, and the node goes on with the others.
//!
//! A device plugin takes no word about a single GPU but from its own health check; there the
//! caller is told so, and the node as a whole is isolated.

use std::time::Duration;

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams};
use serde_json::json;

use super::node::TAINT;
use super::{Hands, MANAGER, made, post};
use crate::cluster::ClusterError;
use crate::fault::Device;

/// The API group of dynamic resource allocation.
const GROUP: &str = "resource.k8s.io";
/// The resource that taints devices, in whichever version is served.
const RULES: &str = "devicetaintrules";

/// A device of dynamic resource allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimable {
    /// Whose it is: "gpu.nvidia.com".
    pub driver: String,
    /// In which pool.
    pub pool: String,
    /// Its name there.
    pub device: String,
    /// The version in which rules are served.
    version: String,
}

impl Hands {
    /// The device of a finding as the cluster allocates it; else why a single GPU can't be isolated.
    ///
    /// # Errors
    /// If it can't be asked within the time.
    pub fn claimable(
        &self,
        node: &str,
        device: &Device,
        within: Duration,
    ) -> Result<Result<Claimable, String>, ClusterError> {
        let Some(version) = self.rules_version(within)? else {
            return Ok(Err("the cluster serves no DeviceTaintRule".to_owned()));
        };
        let api: Api<ResourceSlice> = Api::all(self.client.clone());
        let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let what = format!("cannot list the resource slices of node {node}");
        let slices = match self.ask(&what, within, || api.list(&of_node)) {
            Ok(slices) => slices.items,
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error),
        };
        for slice in &slices {
            for offered in slice.spec.devices.iter().flatten() {
                if is(offered, device) {
                    return Ok(Ok(Claimable {
                        driver: slice.spec.driver.clone(),
                        pool: slice.spec.pool.name.clone(),
                        device: offered.name.clone(),
                        version,
                    }));
                }
            }
        }
        Ok(Err(format!("no resource slice of node {node} has the device")))
    }

    /// Identifiers of the pods to which a device is handed out.
    ///
    /// # Errors
    /// If it can't be asked within the time.
    pub fn users(
        &self,
        device: &Claimable,
        namespaces: &[String],
        within: Duration,
    ) -> Result<Vec<String>, ClusterError> {
        let mut users = Vec::new();
        for namespace in namespaces {
            let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), namespace);
            let what = format!("cannot list the resource claims in {namespace}");
            let claims = self.ask(&what, within, || async { api.list(&ListParams::default()).await })?;
            for status in claims.items.into_iter().filter_map(|claim| claim.status) {
                let results = status.allocation.iter().filter_map(|allocation| allocation.devices.as_ref());
                let mut results = results.flat_map(|devices| devices.results.iter().flatten());
                let has = results.any(|result| {
                    result.driver == device.driver && result.pool == device.pool && result.device == device.device
                });
                if has {
                    users.extend(status.reserved_for.into_iter().flatten().map(|user| user.uid));
                }
            }
        }
        Ok(users)
    }

    fn rules_version(&self, within: Duration) -> Result<Option<String>, ClusterError> {
        let what = "cannot see which resources the cluster serves";
        let groups = self.ask(what, within, || self.client.list_api_groups())?;
        let group = groups.groups.into_iter().find(|group| group.name == GROUP);
        // In the server's order of preference: the most stable first.
        for version in group.map(|group| group.versions).unwrap_or_default() {
            let served = self.ask(what, within, || self.client.list_api_group_resources(&version.group_version))?;
            if served.resources.iter().any(|resource| resource.name == RULES) {
                return Ok(Some(version.version));
            }
        }
        Ok(None)
    }

    fn rules(&self, version: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, version, "DeviceTaintRule");
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, RULES))
    }

    /// Keeps new claims off a device.
    ///
    /// # Errors
    /// If it can't be done within the time.
    pub fn taint_device(
        &self,
        device: &Claimable,
        incident: &str,
        fault: &str,
        within: Duration,
    ) -> Result<(), ClusterError> {
        let rule = json!({
            "apiVersion": format!("{GROUP}/{}", device.version),
            "kind": "DeviceTaintRule",
            "metadata": {"name": name(incident), "labels": {"app.kubernetes.io/managed-by": MANAGER}},
            "spec": {
                "deviceSelector": {"driver": device.driver, "pool": device.pool, "device": device.device},
                "taint": {"key": TAINT, "value": fault, "effect": "NoSchedule"},
            },
        });
        let api = self.rules(&device.version);
        let what = format!("cannot taint device {}/{}", device.pool, device.device);
        self.ask(&what, within, || async {
            let rule: DynamicObject = serde_json::from_value(rule.clone()).map_err(kube::Error::SerdeError)?;
            made(api.create(&post(), &rule)).await
        })
    }

    /// Takes that back.
    ///
    /// # Errors
    /// If it can't be done within the time.
    pub fn untaint_device(&self, incident: &str, within: Duration) -> Result<(), ClusterError> {
        let Some(version) = self.rules_version(within)? else { return Ok(()) };
        let api = self.rules(&version);
        let name = name(incident);
        self.ask(&format!("cannot remove DeviceTaintRule {name}"), within, || async {
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => Ok(()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

fn name(incident: &str) -> String {
    format!("aictl-{incident}")
}

/// By its identifier or its place on the bus, whatever the driver calls the attributes.
fn is(offered: &k8s_openapi::api::resource::v1::Device, wanted: &Device) -> bool {
    let attributes = offered.attributes.iter().flatten();
    let mut texts = attributes.filter_map(|(key, value)| {
        let name = key.rsplit('/').next().unwrap_or(key).to_ascii_lowercase();
        Some((name, value.string.as_deref()?))
    });
    texts.any(|(name, text)| match name.as_str() {
        "uuid" => wanted.uuid.as_deref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(text)),
        "pcibusid" | "pciaddress" => wanted.pci.as_deref().is_some_and(|pci| pci.eq_ignore_ascii_case(text)),
        _ => false,
    })
}
