//! One Kubernetes cluster, to be read: the connection, and what is asked over it.
//!
//! Used by rooms that act on clusters or show them. Of other rooms it uses only `fault`'s plain
//! data, which its readers fill in. Never changes anything: whoever does takes the
//! [`Cluster::client`] and does so in `act` (nodes, pods), `queue` or `preload` (their own objects).

mod access;
mod addons;
mod connect;
mod error;
mod findings;
mod list;
mod metadata;
mod nodes;
mod objects;
mod pods;
mod wire;

pub use access::{Access, may};
pub use addons::addons;
pub use connect::{Cluster, Options, answer, read};
pub use error::{ClusterError, in_a_line};
pub use findings::{NodeFindings, NodeFindingsSpec, PublishedFindings, definition, reports};
pub use list::{Choice, get, list};
pub use metadata::quantity;
pub use nodes::{NodeChoice, node, nodes};
pub use objects::{Kind, objects};
pub use pods::{log, page, pods, rejections};
