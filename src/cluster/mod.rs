//! One Kubernetes cluster, to be read: the connection, and what is asked over it.
//!
//! Used by rooms that act on clusters or show them. Uses no other room. Never changes anything:
//! whoever does takes the [`Cluster::client`] and does so in `act` (nodes, pods), `queue` or
//! `preload` (their own objects).

mod connect;
mod error;

pub use connect::{Cluster, Options, answer};
pub use error::ClusterError;
