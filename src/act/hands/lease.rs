//! Leases of the cluster: one central run at a time, and one isolation at a time over all agents.
//!
//! A lease has a time to live. Times are written and read by the API server's clock, since those of
//! the runs need not agree.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use thiserror::Error;

use super::{Hands, MANAGER, post};
use crate::cluster::ClusterError;

/// Why a lease is not had.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Another has it.
    #[error("lease {name} is held by {holder} for another {left_s:.0} s")]
    Held {
        /// Which lease.
        name: String,
        /// By whom.
        holder: String,
        /// Time to its end, in seconds.
        left_s: f64,
    },
    /// It could not be asked for.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// A lease that is held.
#[derive(Debug)]
pub struct Lease {
    name: String,
    holder: String,
    lasts: Duration,
    /// When it was last written, by a clock that nobody sets.
    renewed: RefCell<Instant>,
}

/// How a lease stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is ours.
    Ours,
    /// It is not, and why.
    Lost(String),
}

impl Hands {
    fn leases(&self) -> Api<LeaseObject> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Takes a lease, and waits for another's end up to `wait`.
    ///
    /// # Errors
    /// If another still has it then, or the server can't be asked.
    pub fn lease(&self, name: &str, holder: &str, lasts: Duration, wait: Duration) -> Result<Lease, LeaseError> {
        let since = Instant::now();
        loop {
            let left = match self.try_lease(name, holder, lasts)? {
                Ok(lease) => return Ok(lease),
                Err(left) => left,
            };
            if since.elapsed() >= wait || !self.sleep(Duration::from_millis(100)) {
                return Err(LeaseError::Held { name: name.to_owned(), holder: left.0, left_s: left.1 });
            }
        }
    }

    fn try_lease(
        &self,
        name: &str,
        holder: &str,
        lasts: Duration,
    ) -> Result<Result<Lease, (String, f64)>, ClusterError> {
        let api = self.leases();
        let now = self.server_time(ANSWERED)?;
        let asked = Instant::now();
        let what = format!("cannot take lease {}/{name}", self.namespace);
        let taken = self.ask(&what, ANSWERED, || async {
            let spec = json!({
                "holderIdentity": holder,
                "leaseDurationSeconds": lasts.as_secs().max(1),
                "acquireTime": micro(now),
                "renewTime": micro(now),
            });
            let Some(there) = api.get_opt(name).await? else {
                let object = json!({"metadata": {"name": name}, "spec": spec});
                let object: LeaseObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
                return match api.create(&post(), &object).await {
                    Ok(_) => Ok(Ok(())),
                    // Another was faster: asked again.
                    Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {
                        Ok(Err(("another".to_owned(), 0.0)))
                    }
                    Err(error) => Err(error),
                };
            };
            if let Some(other) = held_by_another(&there, holder, now) {
                return Ok(Err(other));
            }
            let patch = json!({"metadata": {"resourceVersion": there.metadata.resource_version}, "spec": spec});
            api.patch(name, &parameters(), &Patch::Merge(&patch)).await.map(|_| Ok(()))
        })?;
        Ok(taken.map(|()| Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            lasts,
            renewed: RefCell::new(asked),
        }))
    }

    /// Sees that a lease is still ours, and makes it last longer when a third of it is over.
    pub fn keep(&self, lease: &Lease) -> Held {
        let age = lease.renewed.borrow().elapsed();
        if age < lease.lasts / 3 {
            return Held::Ours;
        }
        let asked = Instant::now();
        let renewed = self.server_time(ANSWERED).and_then(|now| {
            let api = self.leases();
            self.ask(&format!("cannot renew lease {}", lease.name), ANSWERED.min(lease.lasts / 3), || async {
                let there = api.get(&lease.name).await?;
                let holder = there.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
                if holder.as_deref() != Some(&lease.holder) {
                    return Ok(Err(holder.unwrap_or_else(|| "nobody".to_owned())));
                }
                let patch = json!({
                    "metadata": {"resourceVersion": there.metadata.resource_version},
                    "spec": {"renewTime": micro(now)},
                });
                api.patch(&lease.name, &parameters(), &Patch::Merge(&patch)).await.map(|_| Ok(()))
            })
        });
        match renewed {
            Ok(Ok(())) => {
                lease.renewed.replace(asked);
                Held::Ours
            }
            Ok(Err(holder)) => Held::Lost(format!("lease {} was taken over by {holder}", lease.name)),
            // Not renewed, but not over either; a margin for what is on its way.
            Err(_) if lease.renewed.borrow().elapsed() < lease.lasts * 2 / 3 => Held::Ours,
            Err(error) => Held::Lost(format!("lease {} ran out: {error}", lease.name)),
        }
    }

    /// Gives a lease back; if that can't be done, it ends by itself.
    pub fn give_back(&self, lease: &Lease) {
        let api = self.leases();
        let _ = self.ask("cannot give a lease back", Duration::from_secs(2), || async {
            let Some(there) = api.get_opt(&lease.name).await? else { return Ok(()) };
            let holder = there.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
            if holder != Some(&lease.holder) {
                return Ok(());
            }
            let patch = json!({
                "metadata": {"resourceVersion": there.metadata.resource_version},
                "spec": {"holderIdentity": null, "renewTime": null, "acquireTime": null},
            });
            api.patch(&lease.name, &parameters(), &Patch::Merge(&patch)).await.map(|_| ())
        });
    }
}

/// Longest time for a lease's own requests.
const ANSWERED: Duration = Duration::from_secs(10);

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Who holds a lease, if not we, and for how many seconds more.
fn held_by_another(lease: &LeaseObject, holder: &str, now: Timestamp) -> Option<(String, f64)> {
    let spec = lease.spec.as_ref()?;
    let other = spec.holder_identity.as_deref().filter(|other| !other.is_empty() && *other != holder)?;
    let MicroTime(renewed) = spec.renew_time.as_ref()?;
    let lasts = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or(0).into());
    let left = renewed.checked_add(lasts).ok()?.duration_since(now).as_secs_f64();
    (left > 0.0).then(|| (other.to_owned(), left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_when_its_time_is_over() {
        let lease: LeaseObject = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {
            "holderIdentity": "a", "leaseDurationSeconds": 60, "renewTime": "2026-11-24T12:00:00.000000Z"}}))
        .unwrap();
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(held_by_another(&lease, "b", at("2026-11-24T12:00:20Z")), Some(("a".to_owned(), 40.0)));
        assert_eq!(held_by_another(&lease, "a", at("2026-11-24T12:00:20Z")), None);
        assert_eq!(held_by_another(&lease, "b", at("2026-11-24T12:01:00Z")), None);
        // Given back, or never had.
        let free: LeaseObject = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {}})).unwrap();
        assert_eq!(held_by_another(&free, "b", at("2026-11-24T12:00:20Z")), None);
        assert_eq!(micro(at("2026-11-24T12:00:20Z")), "2026-11-24T12:00:20.000000Z");
    }
}
