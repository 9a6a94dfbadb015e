//! Asks peers for ranges: in which order, how patiently, and who is not asked any more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use reqwest::{Client, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::super::access::Secret;
use super::super::error::PreloadError;
use super::super::source::hex;
use super::find::Whereabouts;
use super::shelf::Shelf;
use super::{LONGEST_PART, MOVED, SUM};

/// Time between two looks at who the peers are.
const LOOK: Duration = Duration::from_secs(1);
/// A request waits at the peer for so long; then it is asked again, if it moves.
const WAIT: Duration = Duration::from_secs(5);
/// A peer that has received nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// A peer that refused a connection is left alone for so long.
const DOWN: Duration = Duration::from_secs(3);
/// A connection within a cluster is there by then.
const CONNECT: Duration = Duration::from_secs(3);
/// Peers behind us in the order that are asked whether they have a range by chance.
const BEHIND: usize = 2;
/// Ranges that are in memory at once on their way from peers: they are hashed before they are written.
const BODIES: usize = 6;
/// Time between two looks whether the others are done.
const DONE_LOOK: Duration = Duration::from_millis(300);

/// The other nodes, as one run knows them.
#[derive(Debug)]
pub struct Peers {
    /// What this node gives.
    pub shelf: Arc<Shelf>,
    me: String,
    whereabouts: Vec<Whereabouts>,
    token: Secret,
    client: Client,
    known: Mutex<BTreeMap<String, Peer>>,
    bodies: Semaphore,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    hash: u64,
    banned: bool,
    down_until: Option<Instant>,
    heard: bool,
}

/// What came of asking for a range.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// This peer gave it, and it is in its place.
    Given(String),
    /// Nobody has it: it is for us to read from the source.
    Nobody,
}

impl Peers {
    /// Peers that are found at `whereabouts`; `me` is our own address as others find it there.
    ///
    /// # Errors
    /// If there is no client for them.
    pub fn new(me: String, whereabouts: Vec<Whereabouts>, token: Secret) -> Result<Arc<Peers>, PreloadError> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            // Peers speak without TLS.
            .tls_certs_only([])
            // Inside a cluster, whatever the way out of it is.
            .no_proxy()
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| PreloadError::Source {
                what: "peers".to_owned(),
                why: error.to_string(),
                passing: false,
            })?;
        let known = BTreeMap::from([(me.clone(), Peer { hash: hash_of(&me), ..Peer::default() })]);
        let shelf = Arc::new(Shelf::default());
        Ok(Arc::new(Peers {
            shelf,
            me,
            whereabouts,
            token,
            client,
            known: Mutex::new(known),
            bodies: Semaphore::new(BODIES),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks who is there, now and then again until the runtime ends. Waits until `count` of them
    /// answer, this node counted, for at most `patience`: who asks before the others listen would read
    /// from the source what is theirs to read.
    pub async fn meet(self: &Arc<Peers>, count: usize, patience: Duration) {
        let until = Instant::now() + patience;
        self.look().await;
        while self.greet().await < count && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.look().await;
        }
        let peers = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                peers.look().await;
            }
        });
    }

    /// Asks those that have not been heard yet; how many have been, this node counted.
    async fn greet(&self) -> usize {
        let unheard: Vec<String> = {
            let known = self.known();
            let unheard = known.iter().filter(|(address, peer)| !peer.heard && **address != self.me);
            unheard.map(|(address, _)| address.clone()).collect()
        };
        let greet = |address: String| async move {
            if self.state(&address).await.is_some() {
                self.change(&address, |peer| peer.heard = true);
            }
        };
        stream::iter(unheard).for_each_concurrent(16, greet).await;
        1 + self.known().values().filter(|peer| peer.heard).count()
    }

    async fn look(&self) {
        for place in &self.whereabouts {
            for address in place.addresses().await {
                let hash = hash_of(&address);
                self.known().entry(address).or_insert_with(|| Peer { hash, ..Peer::default() });
            }
        }
    }

    /// The addresses in the order in which they are to have a range.
    fn order(&self, digest: &str, index: usize) -> Vec<String> {
        let seed = hash_of(&format!("{digest} {index}"));
        let known = self.known();
        let mut order: Vec<(u64, &String)> = known
            .iter()
            .filter(|(_, peer)| !peer.banned)
            .map(|(address, peer)| (mixed(seed ^ peer.hash), address))
            .collect();
        order.sort_unstable_by(|one, other| other.cmp(one));
        order.into_iter().map(|(_, address)| address.clone()).collect()
    }

    /// Whether a range is for us to read from the source.
    pub fn owns(&self, digest: &str, index: usize) -> bool {
        self.order(digest, index).first() == Some(&self.me)
    }

    /// Asks for a part of the range `index` of a file; `write` puts it in its place.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn ask(
        &self,
        digest: &str,
        index: usize,
        part: Range<u64>,
        write: &(dyn Fn(&[u8]) -> Result<(), PreloadError> + Send + Sync),
    ) -> Result<Asked, PreloadError> {
        if part.end - part.start > LONGEST_PART || part.is_empty() {
            return Ok(Asked::Nobody);
        }
        let order = self.order(digest, index);
        let place = order.iter().position(|address| *address == self.me).unwrap_or(order.len());
        let before = order.iter().take(place).map(|address| (address, WAIT));
        // They have it if they could not reach us earlier; they are not waited for.
        let behind = order.iter().skip(place + 1).take(BEHIND).map(|address| (address, Duration::ZERO));
        for (address, wait) in before.chain(behind) {
            if let Some(bytes) = self.ask_one(address, digest, &part, wait).await {
                write(&bytes)?;
                return Ok(Asked::Given(address.clone()));
            }
        }
        Ok(Asked::Nobody)
    }

    async fn ask_one(&self, address: &str, digest: &str, part: &Range<u64>, wait: Duration) -> Option<Vec<u8>> {
        let (mut moved, mut since) = (0, Instant::now());
        loop {
            // It may have been found out meanwhile.
            let usable = self
                .known()
                .get(address)
                .is_some_and(|peer| !peer.banned && peer.down_until.is_none_or(|until| until <= Instant::now()));
            if !usable {
                return None;
            }
            let url = format!("http://{address}/v1/blob/{digest}?wait_ms={}", wait.as_millis());
            let request = self
                .client
                .get(url)
                .bearer_auth(self.token.reveal())
                .header(header::RANGE, format!("bytes={}-{}", part.start, part.end - 1));
            let Ok(Ok(answer)) = tokio::time::timeout(wait + PATIENCE, request.send()).await else {
                self.is_down(address);
                return None;
            };
            match answer.status() {
                StatusCode::PARTIAL_CONTENT => {
                    self.change(address, |peer| peer.heard = true);
                    let sum = answer.headers().get(SUM).and_then(|sum| sum.to_str().ok()).map(str::to_owned);
                    let _room = self.bodies.acquire().await.ok()?;
                    let Some(bytes) = body(answer, part).await else {
                        self.is_down(address);
                        return None;
                    };
                    if sum.is_none_or(|sum| sum != hex(&Sha256::digest(&bytes))) {
                        // Broken on its way, or by whoever sent it.
                        self.ban(address);
                        return None;
                    }
                    return Some(bytes);
                }
                StatusCode::SERVICE_UNAVAILABLE if !wait.is_zero() => {
                    self.change(address, |peer| peer.heard = true);
                    let now = answer.headers().get(MOVED).and_then(|moved| moved.to_str().ok()?.parse::<u64>().ok());
                    match now {
                        Some(now) if now > moved => (moved, since) = (now, Instant::now()),
                        _ if since.elapsed() > PATIENCE => return None,
                        _ => {}
                    }
                }
                StatusCode::UNAUTHORIZED => {
                    self.ban(address);
                    return None;
                }
                _ => return None,
            }
        }
    }

    fn change(&self, address: &str, change: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.known().get_mut(address) {
            change(peer);
        }
    }

    fn is_down(&self, address: &str) {
        self.change(address, |peer| peer.down_until = Some(Instant::now() + DOWN));
    }

    /// A peer gave what is not right: it is not asked any more.
    pub fn ban(&self, address: &str) {
        self.change(address, |peer| peer.banned = true);
    }

    /// Goes on giving until the others are done or gone, or none of them has asked for `idle`.
    pub async fn linger(&self, idle: Duration) {
        self.shelf.close();
        let (mut given, mut since) = (self.shelf.given_bytes(), Instant::now());
        while since.elapsed() < idle {
            let others: Vec<String> = {
                let known = self.known();
                let asked = known.iter().filter(|(address, peer)| !peer.banned && **address != self.me);
                asked.map(|(address, _)| address.clone()).collect()
            };
            let busy = stream::iter(others).map(|address| self.is_busy(address)).buffer_unordered(16);
            if !busy.any(|busy| async move { busy }).await {
                return;
            }
            tokio::time::sleep(DONE_LOOK).await;
            if self.shelf.given_bytes() > given {
                (given, since) = (self.shelf.given_bytes(), Instant::now());
            }
        }
    }

    async fn is_busy(&self, address: String) -> bool {
        self.state(&address).await.is_some_and(|state| state == "busy")
    }

    /// What a peer says of itself; nothing if it is not there.
    async fn state(&self, address: &str) -> Option<String> {
        let request = self.client.get(format!("http://{address}/v1/state")).bearer_auth(self.token.reveal());
        let answer = request.timeout(CONNECT).send().await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        answer.text().await.ok()
    }
}

/// The body, if it has just the length that was asked for.
async fn body(answer: reqwest::Response, part: &Range<u64>) -> Option<Vec<u8>> {
    let length = usize::try_from(part.end - part.start).ok()?;
    let mut bytes = Vec::with_capacity(length);
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = tokio::time::timeout(PATIENCE, stream.next()).await.ok()? {
        bytes.extend_from_slice(&chunk.ok()?);
        if bytes.len() > length {
            return None;
        }
    }
    (bytes.len() == length).then_some(bytes)
}

fn hash_of(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the sum hangs on every bit.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(me: usize, of: usize) -> Arc<Peers> {
        let address = |number: usize| format!("10.0.0.{number}:7473");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let peers = Peers::new(address(me), Vec::new(), Secret::new("t")).unwrap();
        for number in 0..of {
            let hash = hash_of(&address(number));
            peers.known().entry(address(number)).or_insert_with(|| Peer { hash, ..Peer::default() });
        }
        peers
    }

    #[test]
    fn every_range_has_one_owner_and_owners_have_about_as_many() {
        let all: Vec<Arc<Peers>> = (0..8).map(|me| peers(me, 8)).collect();
        let mut owned = [0; 8];
        for index in 0..800 {
            let owners: Vec<usize> = (0..8).filter(|&me| all[me].owns("abc", index)).collect();
            assert_eq!(owners.len(), 1, "range {index}");
            owned[owners[0]] += 1;
        }
        assert!(owned.iter().all(|count| (60..=140).contains(count)), "{owned:?}");
    }

    #[test]
    fn who_is_banned_owns_nothing() {
        let all = peers(0, 3);
        all.ban("10.0.0.1:7473");
        all.ban("10.0.0.2:7473");
        assert!((0..50).all(|index| all.owns("abc", index)));
    }
}
