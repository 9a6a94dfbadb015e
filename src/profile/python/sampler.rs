//! The clock that takes the samples: one cpu-clock event on every processor.

use aya::programs::perf_event::{PerfEventConfig, PerfEventLinkId, PerfEventScope, SamplePolicy, SoftwareEvent};
use aya::programs::{PerfEvent, ProgramError};

/// The attached events; gone with [`Sampler::detach`] or with the program itself.
#[derive(Debug)]
pub(crate) struct Sampler {
    links: Vec<PerfEventLinkId>,
}

impl Sampler {
    /// Attaches a loaded program to every processor at `hz` samples a second.
    pub fn attach(program: &mut PerfEvent, hz: u32) -> Result<Sampler, ProgramError> {
        let cpus = aya::util::online_cpus().map_err(|(_, error)| ProgramError::IOError(error))?;
        let mut sampler = Sampler { links: Vec::with_capacity(cpus.len()) };
        for cpu in cpus {
            let link = program.attach(
                PerfEventConfig::Software(SoftwareEvent::CpuClock),
                PerfEventScope::AllProcessesOneCpu { cpu },
                SamplePolicy::Frequency(hz.max(1).into()),
                false,
            );
            match link {
                Ok(link) => sampler.links.push(link),
                Err(error) => {
                    sampler.detach(program)?;
                    return Err(error);
                }
            }
        }
        Ok(sampler)
    }

    /// Ends the sampling.
    pub fn detach(self, program: &mut PerfEvent) -> Result<(), ProgramError> {
        self.links.into_iter().try_for_each(|link| program.detach(link))
    }
}
