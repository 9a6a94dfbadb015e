//! Flags for nodes that give a model to each other, and the part of a run that does.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::env;
use super::super::error::Error;
use super::super::values::Length;
use crate::preload::PreloadError;
use crate::preload::access::{Secret, text};
use crate::preload::peer::{self, Peers, Whereabouts};

/// Flags of a node among others.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Peers")]
pub struct PeerArgs {
    /// Ask other nodes before the source, and give to them: HOST:PORT (all addresses that the name
    /// has) or @FILE (one a line); again for more. AICTL_PEER_TOKEN is the secret that they share
    #[arg(long, value_name = "WHERE")]
    peers: Vec<Whereabouts>,
    /// Own address, as the others find it [default: the one listened on]
    #[arg(long, value_name = "ADDRESS", requires = "peers")]
    peer_address: Option<String>,
    /// Address to listen on for the others
    #[arg(long, value_name = "ADDRESS:PORT", requires = "peers", default_value = "0.0.0.0:7473")]
    peer_listen: SocketAddr,
    /// Wait at first until there are so many, this one counted, up to a minute
    #[arg(long, value_name = "N", requires = "peers", default_value = "1")]
    peer_count: usize,
    /// How long to wait for them
    #[arg(long, value_name = "DURATION", requires = "peers", default_value = "60s", hide = true)]
    peer_wait: Length,
    /// In the end, go on giving while others are at work, until none has asked for this long
    #[arg(long, value_name = "DURATION", requires = "peers", default_value = "30s")]
    peer_linger: Length,
}

impl PeerArgs {
    /// Whether there are others.
    pub fn wanted(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Begins to listen; `None` where there are no others.
    pub async fn start(&self) -> Result<Option<Arc<Peers>>, Error> {
        if !self.wanted() {
            return Ok(None);
        }
        let token = text(env::PEER_TOKEN).ok_or_else(|| {
            Error::usage("peers share a secret, and AICTL_PEER_TOKEN is not set")
                .hint("give all of them the same: AICTL_PEER_TOKEN=$(openssl rand -hex 16)")
        })?;
        let me = match &self.peer_address {
            Some(given) => match given.parse::<IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, self.peer_listen.port()).to_string(),
                Err(_) => given.clone(),
            },
            None if self.peer_listen.ip().is_unspecified() => {
                return Err(Error::usage("peers need to know this node's address").hint("name it: --peer-address IP"));
            }
            None => self.peer_listen.to_string(),
        };
        let token = Secret::new(token);
        let peers = Peers::new(me, self.peers.clone(), token.clone())?;
        peer::serve(self.peer_listen, token, Arc::clone(&peers.shelf))
            .await
            .map_err(|source| PreloadError::Listen { address: self.peer_listen.to_string(), source })?;
        Ok(Some(peers))
    }

    /// Meets the others.
    pub async fn meet(&self, peers: Option<&Arc<Peers>>) {
        if let Some(peers) = peers {
            peers.meet(self.peer_count, self.peer_wait.0).await;
        }
    }

    /// Goes on giving while others need it.
    pub async fn end(&self, peers: Option<&Arc<Peers>>) {
        if let Some(peers) = peers {
            peers.linger(self.peer_linger.0).await;
        }
    }
}
