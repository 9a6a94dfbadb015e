//! The arguments of all slices, packed: a recording of a gigabyte holds tens of millions.

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

    /// Gives back what was kept for growth.
    pub fn shrink_to_fit(&mut self) {
        self.heads.shrink_to_fit();
        self.values.shrink_to_fit();
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
    fn ids_never_given_hold_nothing() {
        let mut pool = ArgPool::default();
        assert_eq!(pool.run(ArgsId(0)).count() + pool.run(ArgsId(7)).count(), 0);
        assert_eq!(pool.push([(StrId(KEYS), Arg::U64(1))]), ArgsId(0));
        pool.push([(StrId(1), Arg::U64(1))]);
        assert_eq!(pool.run(ArgsId(0)).count() + pool.run(ArgsId(u32::MAX)).count(), 0);
    }
}
