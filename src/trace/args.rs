//! The arguments of all slices, packed: a recording of a gigabyte holds tens of millions.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

use super::model::{Arg, ArgsId, StrId};

/// Runs of (key, value), 12 bytes each, without gaps between them.
#[derive(Debug, Clone, Default)]
pub struct ArgPool {
    /// Key, kind of value and end of run: `key << 3 | kind << 1 | last`.
    heads: Vec<u32>,
    /// The value's bits.
    values: Vec<u64>,
}

/// Keys beyond this do not fit beside kind and end; no recording has as many distinct names.
const KEYS: u32 = 1 << 29;

impl ArgPool {
    /// Stores a run and returns its id; none for an empty run, or when 2^32 are stored.
    pub fn push(&mut self, run: impl IntoIterator<Item = (StrId, Arg)>) -> ArgsId {
        if self.heads.is_empty() {
            // Entry 0 is never used, so that id 0 can mean "none".
            self.put(StrId(0), Arg::U64(0));
        }
        let first = self.heads.len();
        let Ok(id) = u32::try_from(first) else { return ArgsId::default() };
        for (key, value) in run.into_iter().filter(|(key, _)| key.0 < KEYS) {
            self.put(key, value);
        }
        match self.heads.get_mut(first..).and_then(<[u32]>::last_mut) {
            Some(last) => {
                *last |= 1;
                ArgsId(id)
            }
            None => ArgsId::default(),
        }
    }

    fn put(&mut self, key: StrId, value: Arg) {
        let (kind, bits) = match value {
            Arg::U64(n) => (0, n),
            Arg::I64(n) => (1, n as u64),
            Arg::F64(n) => (2, n.to_bits()),
            Arg::Str(text) => (3, text.0.into()),
        };
        self.heads.push(key.0 << 3 | kind << 1);
        self.values.push(bits);
    }

    /// The arguments of an id, in the order they were stored.
    pub fn run(&self, id: ArgsId) -> impl Iterator<Item = (StrId, Arg)> + '_ {
        let from = if id.0 == 0 { self.heads.len() } else { self.heads.len().min(id.0 as usize) };
        let mut ended = false;
        self.heads[from..].iter().zip(&self.values[from..]).map_while(move |(head, bits)| {
            if std::mem::replace(&mut ended, head & 1 == 1) {
                return None;
            }
            let value = match (head >> 1) & 3 {
                0 => Arg::U64(*bits),
                1 => Arg::I64(*bits as i64),
                2 => Arg::F64(f64::from_bits(*bits)),
                _ => Arg::Str(StrId(*bits as u32)),
            };
            Some((StrId(head >> 3), value))
        })
    }

    /// Whether the run of an id is exactly this.
    pub fn holds(&self, id: ArgsId, run: &[(StrId, Arg)]) -> bool {
        id.0 != 0 && self.run(id).eq(run.iter().copied())
    }

    /// How many arguments are stored.
    pub fn len(&self) -> usize {
        self.heads.len().saturating_sub(1)
    }

    /// Whether none is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves all of another pool in, with other names and values, and returns what to add to its
    /// ids; none, and nothing moved, when the ids would not suffice.
    pub fn append(
        &mut self,
        other: ArgPool,
        text: impl Fn(StrId) -> StrId,
        number: impl Fn(StrId, u64) -> u64,
    ) -> Option<u32> {
        let base = u32::try_from(self.heads.len()).ok()?;
        u32::try_from(self.heads.len() + other.heads.len()).ok()?;
        self.heads.reserve_exact(other.heads.len());
        self.values.reserve_exact(other.values.len());
        for (head, bits) in other.heads.into_iter().zip(other.values) {
            let key = StrId(head >> 3);
            // A key beyond what fits is none we would have stored.
            self.heads.push(text(key).0.min(KEYS - 1) << 3 | head & 7);
            self.values.push(match (head >> 1) & 3 {
                0 => number(key, bits),
                3 => text(StrId(bits as u32)).0.into(),
                _ => bits,
            });
        }
        Some(base)
    }

    /// All entries as not used; see [`UsedArgs`].
    pub(super) fn unused(&self) -> UsedArgs {
        UsedArgs { bits: vec![0; self.heads.len().div_ceil(64)], before: Vec::new() }
    }

    /// Forgets what is not used.
    pub(super) fn compact(&mut self, used: &mut UsedArgs) {
        let mut kept = 0u32;
        used.before.clear();
        for (word, bits) in used.bits.iter_mut().enumerate() {
            // Entry 0 stays.
            *bits |= u64::from(word == 0);
            used.before.push(kept);
            kept += bits.count_ones();
        }
        let mut to = 0;
        for from in 0..self.heads.len() {
            if used.bits[from / 64] >> (from % 64) & 1 == 1 {
                self.heads[to] = self.heads[from];
                self.values[to] = self.values[from];
                to += 1;
            }
        }
        self.heads.truncate(to);
        self.values.truncate(to);
        self.shrink_to_fit();
    }

    /// Gives back what was kept for growth.
    pub fn shrink_to_fit(&mut self) {
        self.heads.shrink_to_fit();
        self.values.shrink_to_fit();
    }
}

/// Which entries of a pool are used, and where they are after [`ArgPool::compact`].
#[derive(Debug)]
pub(super) struct UsedArgs {
    bits: Vec<u64>,
    /// Entries kept before each word of `bits`.
    before: Vec<u32>,
}

impl UsedArgs {
    /// Keeps a run.
    pub fn keep(&mut self, pool: &ArgPool, id: ArgsId) {
        let first = id.0 as usize;
        if first == 0 || self.bits.get(first / 64).is_none_or(|bits| bits >> (first % 64) & 1 == 1) {
            return;
        }
        for at in first..first + pool.run(id).count() {
            self.bits[at / 64] |= 1 << (at % 64);
        }
    }

    /// The new id of a run that was kept.
    pub fn moved(&self, id: ArgsId) -> ArgsId {
        let at = id.0 as usize;
        match (self.bits.get(at / 64), self.before.get(at / 64)) {
            (Some(bits), Some(before)) if at != 0 => ArgsId(before + (bits & ((1 << (at % 64)) - 1)).count_ones()),
            _ => ArgsId(0),
        }
    }
}

/// Slots of the cache that finds equal runs of arguments; 512 KiB, however long the recording.
const CACHE: usize = 1 << 16;

/// Stores runs of arguments; those that were stored lately are shared.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedArgs {
    cache: Vec<(u32, ArgsId)>,
}

impl SharedArgs {
    /// Stores a run in a pool, always the same one, or finds it there.
    pub fn store(&mut self, pool: &mut ArgPool, run: &[(StrId, Arg)]) -> ArgsId {
        if run.is_empty() {
            return ArgsId(0);
        }
        let mut hasher = FxHasher::default();
        for (key, value) in run {
            key.hash(&mut hasher);
            let bits = match *value {
                Arg::U64(n) => n,
                Arg::I64(n) => n as u64,
                Arg::F64(n) => n.to_bits(),
                Arg::Str(id) => u64::from(id.0),
            };
            bits.hash(&mut hasher);
        }
        let hash = hasher.finish();
        if self.cache.is_empty() {
            self.cache.resize(CACHE, (0, ArgsId(0)));
        }
        let slot = (hash as usize) % CACHE;
        let check = (hash >> 32) as u32;
        let (known, id) = self.cache[slot];
        if known == check && id.0 != 0 && pool.holds(id, run) {
            return id;
        }
        let id = pool.push(run.iter().copied());
        self.cache[slot] = (check, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_stored() {
        let mut pool = ArgPool::default();
        assert_eq!(pool.push([]), ArgsId(0));
        let all = [
            (StrId(1), Arg::U64(u64::MAX)),
            (StrId(KEYS - 1), Arg::I64(-5)),
            (StrId(3), Arg::F64(0.25)),
            (StrId(4), Arg::Str(StrId(u32::MAX))),
        ];
        let (first, second) = (pool.push(all), pool.push([(StrId(9), Arg::U64(1))]));
        assert_eq!(pool.run(first).collect::<Vec<_>>(), all);
        assert_eq!(pool.run(second).collect::<Vec<_>>(), [(StrId(9), Arg::U64(1))]);
        assert!(pool.holds(first, &all) && !pool.holds(first, &all[..3]) && !pool.holds(ArgsId(0), &[]));
        assert_eq!(pool.len(), 5);
    }

    #[test]
    fn what_is_used_stays() {
        let mut pool = ArgPool::default();
        let run = |n: u64| [(StrId(1), Arg::U64(n)), (StrId(2), Arg::U64(n + 1))];
        let ids: Vec<_> = (0..200).map(|n| pool.push(run(n))).collect();
        let mut used = pool.unused();
        for id in ids.iter().skip(3).step_by(7) {
            used.keep(&pool, *id);
        }
        pool.compact(&mut used);
        assert_eq!(used.moved(ArgsId(0)), ArgsId(0));
        for (n, id) in (0..).zip(&ids).skip(3).step_by(7) {
            assert!(pool.holds(used.moved(*id), &run(n)), "run {n}");
        }
        assert_eq!(pool.len(), 2 * ids.len().saturating_sub(3).div_ceil(7));
    }

    #[test]
    fn ids_never_given_hold_nothing() {
        let mut pool = ArgPool::default();
        assert_eq!(pool.run(ArgsId(0)).count() + pool.run(ArgsId(7)).count(), 0);
        assert_eq!(pool.push([(StrId(KEYS), Arg::U64(1))]), ArgsId(0));
        pool.push([(StrId(1), Arg::U64(1))]);
        assert_eq!(pool.run(ArgsId(0)).count() + pool.run(ArgsId(u32::MAX)).count(), 0);
    }
}
