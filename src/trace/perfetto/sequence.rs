//! What a packet sequence has said so far: interned names, defaults, clocks.

use rustc_hash::FxHashMap;

use super::ClockSnapshot;
use super::wire::{CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, Fields, Malformed, field};
use crate::trace::build::Builder;
use crate::trace::model::StrId;

/// Texts by interning id. Ids mostly count up from 1; those that do go into a plain list.
#[derive(Default)]
pub(super) struct Table {
    dense: Vec<StrId>,
    sparse: FxHashMap<u64, StrId>,
}

impl Table {
    #[inline]
    pub fn get(&self, id: u64) -> Option<StrId> {
        match self.dense.get(id.wrapping_sub(1) as usize) {
            Some(text) => Some(*text),
            None => self.sparse.get(&id).copied(),
        }
    }

    fn insert(&mut self, id: u64, text: StrId) {
        let index = id.wrapping_sub(1) as usize;
        if index == self.dense.len() {
            self.dense.push(text);
        } else if let Some(known) = self.dense.get_mut(index) {
            *known = text;
        } else {
            self.sparse.insert(id, text);
        }
    }
}

/// Incremental state of one sequence.
#[derive(Default)]
pub(super) struct Sequence {
    pub names: Table,
    pub categories: Table,
    pub keys: Table,
    pub texts: Table,
    /// Clock of packets that name none.
    pub clock: Option<u32>,
    /// Track of events that name none.
    pub track: Option<u64>,
    clocks: FxHashMap<u32, SequenceClock>,
}

/// A clock that only one sequence knows (ids 64–127).
struct SequenceClock {
    /// Its value last seen, in its own ticks.
    ticks: u64,
    /// What the snapshot said, in ticks and in ns of the recording's clock.
    base: (u64, u64),
    incremental: bool,
    unit_ns: u64,
}

impl Sequence {
    /// Forgets all incremental state.
    pub fn clear(&mut self) {
        *self = Sequence { clocks: std::mem::take(&mut self.clocks), ..Sequence::default() };
    }

    /// Takes `TracePacketDefaults`.
    pub fn defaults(&mut self, body: &[u8]) -> Result<(), Malformed> {
        self.clock = None;
        self.track = None;
        for item in Fields::of(body) {
            match item? {
                (field::PACKET_CLOCK, value) => self.clock = u32::try_from(value.uint()).ok(),
                (field::DEFAULTS_EVENT, value) => {
                    for item in Fields::of(value.bytes()) {
                        if let (field::EVENT_TRACK, value) = item? {
                            self.track = Some(value.uint());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes `InternedData`.
    pub fn interned(&mut self, body: &[u8], builder: &mut Builder) -> Result<(), Malformed> {
        for item in Fields::of(body) {
            let (number, value) = item?;
            let table = match number {
                field::INTERNED_CATEGORY => &mut self.categories,
                field::INTERNED_EVENT_NAME => &mut self.names,
                field::INTERNED_ANNOTATION_NAME => &mut self.keys,
                field::INTERNED_ANNOTATION_STRING => &mut self.texts,
                _ => continue,
            };
            let (mut id, mut text) = (0, &[][..]);
            for item in Fields::of(value.bytes()) {
                match item? {
                    (field::INTERNED_IID, value) => id = value.uint(),
                    (field::INTERNED_TEXT, value) => text = value.bytes(),
                    _ => {}
                }
            }
            table.insert(id, builder.text(&String::from_utf8_lossy(text)));
        }
        Ok(())
    }
}

/// How the built-in clocks relate, from the first snapshot.
#[derive(Default)]
pub(super) struct Clocks {
    /// What to add to a clock's time to get CLOCK_MONOTONIC's.
    offsets: FxHashMap<u32, i128>,
    /// The first snapshot that places the recording's clock in wall-clock time.
    pub wall: Option<ClockSnapshot>,
}

impl Clocks {
    /// Takes a `ClockSnapshot` of a sequence.
    pub fn snapshot(&mut self, body: &[u8], sequence: &mut Sequence) -> Result<(), Malformed> {
        let mut builtin = Vec::new();
        let mut own = Vec::new();
        for item in Fields::of(body) {
            let (field::SNAPSHOT_CLOCK, value) = item? else { continue };
            let (mut id, mut time, mut incremental, mut unit_ns) = (0, 0, false, 1);
            for item in Fields::of(value.bytes()) {
                match item? {
                    (field::CLOCK_ID, value) => id = u32::try_from(value.uint()).unwrap_or(0),
                    (field::CLOCK_TIMESTAMP, value) => time = value.uint(),
                    (field::CLOCK_INCREMENTAL, value) => incremental = value.uint() != 0,
                    (field::CLOCK_MULTIPLIER, value) => unit_ns = value.uint().max(1),
                    _ => {}
                }
            }
            if (64..128).contains(&id) {
                own.push((id, time, incremental, unit_ns));
            } else if builtin.len() < 64 {
                builtin.push((id, time.saturating_mul(unit_ns)));
            }
        }
        let of = |clock: u32| builtin.iter().find(|(id, _)| *id == clock).map(|(_, time)| *time);
        // Without CLOCK_MONOTONIC, times stay on CLOCK_BOOTTIME.
        if let (None, Some(monotonic_ns), Some(realtime_ns)) =
            (self.wall, of(CLOCK_MONOTONIC).or(of(CLOCK_BOOTTIME)), of(CLOCK_REALTIME))
        {
            let boottime_ns = of(CLOCK_BOOTTIME).unwrap_or(monotonic_ns);
            self.wall = Some(ClockSnapshot { monotonic_ns, boottime_ns, realtime_ns });
        }
        if let Some(&(_, monotonic)) = builtin.iter().find(|(id, _)| *id == CLOCK_MONOTONIC) {
            for &(id, time) in &builtin {
                self.offsets.entry(id).or_insert(i128::from(monotonic) - i128::from(time));
            }
        }
        if let Some(&(id, time)) = builtin.first() {
            let now = self.to_monotonic(id, time);
            for (id, ticks, incremental, unit_ns) in own {
                sequence.clocks.insert(id, SequenceClock { ticks, base: (ticks, now), incremental, unit_ns });
            }
        }
        Ok(())
    }

    fn to_monotonic(&self, clock: u32, time: u64) -> u64 {
        let shifted = i128::from(time) + self.offsets.get(&clock).copied().unwrap_or(0);
        u64::try_from(shifted.max(0)).unwrap_or(u64::MAX)
    }

    /// A packet's time in ns of the recording's clock.
    #[inline]
    pub fn time(&self, sequence: &mut Sequence, clock: Option<u32>, time: u64) -> u64 {
        let clock = clock.or(sequence.clock).unwrap_or(CLOCK_BOOTTIME);
        if clock == CLOCK_MONOTONIC {
            return time;
        }
        if (64..128).contains(&clock)
            && let Some(own) = sequence.clocks.get_mut(&clock)
        {
            own.ticks = if own.incremental { own.ticks.saturating_add(time) } else { time };
            let since = own.ticks.saturating_sub(own.base.0).saturating_mul(own.unit_ns);
            return own.base.1.saturating_add(since);
        }
        self.to_monotonic(clock, time)
    }
}
