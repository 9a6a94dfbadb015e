//! What follows from two looks: rates of counters, and how long a GPU has been idle.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{GpuSample, Metric, NodeSample, Values};

/// Counters and the gauges that are their rates.
const RATES: [(Metric, Metric); 6] = [
    (Metric::NvlinkTx, Metric::NvlinkTxRate),
    (Metric::NvlinkRx, Metric::NvlinkRxRate),
    (Metric::DiskRead, Metric::DiskReadRate),
    (Metric::DiskWritten, Metric::DiskWriteRate),
    (Metric::RdmaTx, Metric::RdmaTxRate),
    (Metric::RdmaRx, Metric::RdmaRxRate),
];

/// Remembers the last look at a node.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    machine: Option<(Timestamp, Values)>,
    gpus: HashMap<String, (Timestamp, Values)>,
    /// When each GPU was last at work, or first seen.
    busy: HashMap<String, Timestamp>,
}

impl Rates {
    /// Adds to a look what follows from it and the one before.
    pub fn add(&mut self, sample: &mut NodeSample) {
        let Some(now) = sample.at else { return };
        if let Some((then, old)) = &self.machine {
            rate(old, &mut sample.machine, seconds(*then, now));
            let cpus = sample.machine.get(Metric::Cpus);
            let busy = growth(old, &sample.machine, Metric::CpuBusy);
            if let (Some(busy), Some(cpus)) = (busy, cpus)
                && seconds(*then, now) > 0.0
            {
                let share = 100.0 * busy / (seconds(*then, now) * cpus);
                sample.machine.set(Metric::CpuUsed, share.clamp(0.0, 100.0));
            }
        }
        self.machine = Some((now, sample.machine.clone()));
        for gpu in sample.gpus.iter_mut().filter(|gpu| !gpu.uuid.is_empty()) {
            if let Some((then, old)) = self.gpus.get(&gpu.uuid) {
                rate(old, &mut gpu.metrics, seconds(*then, now));
            }
            self.idle(gpu, now);
            self.gpus.insert(gpu.uuid.clone(), (now, gpu.metrics.clone()));
        }
        // A GPU that is gone and comes back begins anew.
        let there = |uuid: &String| sample.gpus.iter().any(|gpu| gpu.uuid == *uuid);
        self.gpus.retain(|uuid, _| there(uuid));
        self.busy.retain(|uuid, _| there(uuid));
    }

    fn idle(&mut self, gpu: &mut GpuSample, now: Timestamp) {
        // A value that is missing is no idleness.
        let Some(load) = gpu.metrics.get(Metric::Utilisation) else { return };
        let since = self.busy.entry(gpu.uuid.clone()).or_insert(now);
        if load > 0.0 {
            *since = now;
        }
        gpu.metrics.set(Metric::Idle, seconds(*since, now).max(0.0));
    }
}

fn seconds(then: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(then).as_secs_f64()
}

/// How much a counter grew; nothing if it was set back.
fn growth(old: &Values, new: &Values, counter: Metric) -> Option<f64> {
    Some(new.get(counter)? - old.get(counter)?).filter(|growth| *growth >= 0.0)
}

fn rate(old: &Values, new: &mut Values, seconds: f64) {
    // Two looks in one moment tell nothing.
    if seconds < 0.05 {
        return;
    }
    for (counter, rate) in RATES {
        let growth = growth(old, new, counter);
        new.set(rate, growth.map(|growth| growth / seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: i64, load: Option<f64>, sent: f64, busy: f64) -> NodeSample {
        let mut gpu = GpuSample { uuid: "GPU-1".to_owned(), ..GpuSample::default() };
        gpu.metrics.set(Metric::Utilisation, load);
        gpu.metrics.set(Metric::NvlinkTx, sent);
        let mut sample = NodeSample { at: Timestamp::from_second(at).ok(), gpus: vec![gpu], ..NodeSample::default() };
        sample.machine.set(Metric::Cpus, 4.0);
        sample.machine.set(Metric::CpuBusy, busy);
        sample
    }

    #[test]
    fn rates_and_idle_times_follow_from_two_looks() {
        let mut rates = Rates::default();
        let mut go = |mut sample: NodeSample| {
            rates.add(&mut sample);
            let of = |metric| sample.gpus[0].metrics.get(metric);
            (of(Metric::NvlinkTxRate), of(Metric::Idle), sample.machine.get(Metric::CpuUsed))
        };
        assert_eq!(go(look(100, Some(50.0), 1000.0, 10.0)), (None, Some(0.0), None));
        assert_eq!(go(look(110, Some(0.0), 3000.0, 30.0)), (Some(200.0), Some(10.0), Some(50.0)));
        // The driver was loaded anew: its counter began at zero, which is no negative rate.
        assert_eq!(go(look(120, Some(0.0), 5.0, 30.0)), (None, Some(20.0), Some(0.0)));
        assert_eq!(go(look(130, None, 5.0, 30.0)).1, None);
        assert_eq!(go(look(140, Some(1.0), 5.0, 30.0)).1, Some(0.0));
    }
}
