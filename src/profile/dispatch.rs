//! Hands the kernel's records to those who turn them into slices.

use std::io;

use aya::maps::{MapData, RingBuf};

use super::CaptureError;
use super::meter::Class;
use super::records::{self, Block, Fault, Frame, Head, OffCpu, PathEvent, StackHead, Syscall, Task, kind};
use super::rings::Rings;
use super::session::Session;

impl Session<'_> {
    /// Hands everything in the rings on to the recording.
    pub fn drain(&mut self, rings: &mut Rings) -> Result<(), CaptureError> {
        let ended = std::mem::take(&mut self.ended);
        self.drain_rare(&mut rings.rare)?;
        self.drain_slices(rings)?;
        self.drain_samples(rings)?;
        for (pid, tid, whole, ended_ns) in ended {
            self.sched.forget(tid);
            self.pythons.thread_exit(tid, ended_ns, &mut self.out).map_err(CaptureError::Write)?;
            self.out.forget_thread(tid);
            if whole {
                self.io.forget_process(pid);
                if let Some(probes) = &mut self.probes {
                    probes.forget_process(pid);
                }
                self.pythons.remove(pid);
                self.out.forget_process(pid);
            }
        }
        Ok(())
    }

    fn drain_slices(&mut self, rings: &mut Rings) -> Result<(), CaptureError> {
        while let Some(item) = rings.slices.next() {
            let Some(head) = records::read::<Head>(&item) else { continue };
            let done = match head.kind {
                kind::ON_CPU => {
                    self.budget.meter.hit(head.tgid, head.tid, Class::Sched);
                    self.sched.on_cpu(&head, &mut self.out)
                }
                kind::OFF_CPU => match records::read::<OffCpu>(&item) {
                    Some(record) => {
                        self.budget.meter.hit(head.tgid, head.tid, Class::Sched);
                        self.sched.off_cpu(&record, &mut self.out)
                    }
                    None => Ok(()),
                },
                kind::SYSCALL => match records::read::<Syscall>(&item) {
                    Some(record) => {
                        // Its path may have been told after the rare ring was last read.
                        if record.file != 0 && self.io.paths.get(record.file).is_none() {
                            self.drain_rare(&mut rings.rare)?;
                        }
                        self.io.syscall(&record, &mut self.out)
                    }
                    None => Ok(()),
                },
                kind::OP => self.probed(Class::Torch, &head, &item),
                kind::CUDA => self.probed(Class::Cuda, &head, &item),
                _ => Ok(()),
            };
            done.map_err(CaptureError::Write)?;
        }
        Ok(())
    }

    fn probed(&mut self, class: Class, head: &Head, record: &[u8]) -> io::Result<()> {
        self.budget.meter.hit(head.tgid, head.tid, class);
        match &mut self.probes {
            Some(probes) => probes.record(head.kind, record, &mut self.out),
            None => Ok(()),
        }
    }

    fn drain_samples(&mut self, rings: &mut Rings) -> Result<(), CaptureError> {
        let mut frames = Vec::with_capacity(128);
        while let Some(item) = rings.samples.next() {
            let Some(stack) = records::read::<StackHead>(&item) else { continue };
            frames.clear();
            let rest = item.get(size_of::<StackHead>()..).unwrap_or_default();
            let kept = rest.chunks_exact(size_of::<Frame>()).take(stack.head.aux.into());
            frames.extend(kept.filter_map(records::read::<Frame>));
            self.budget.meter.hit(stack.head.tgid, stack.head.tid, Class::Python);
            self.pythons.stack(&stack, &frames, &mut self.out).map_err(CaptureError::Write)?;
        }
        Ok(())
    }

    fn drain_rare(&mut self, rare: &mut RingBuf<MapData>) -> Result<(), CaptureError> {
        while let Some(item) = rare.next() {
            let Some(head) = records::read::<Head>(&item) else { continue };
            match head.kind {
                kind::PATH => {
                    if let Some(event) = records::read::<PathEvent>(&item) {
                        self.io.paths.tell(&event);
                    }
                }
                kind::BLOCK => {
                    if let Some(record) = records::read::<Block>(&item) {
                        self.io.block(&record, &mut self.out).map_err(CaptureError::Write)?;
                    }
                }
                kind::FAULT => {
                    if let Some(record) = records::read::<Fault>(&item) {
                        self.io.fault(&record, &mut self.out).map_err(CaptureError::Write)?;
                    }
                }
                // Backward passes and gloo's collectives are operators too rare to lose.
                kind::OP | kind::TORCH => self.probed(Class::Torch, &head, &item).map_err(CaptureError::Write)?,
                kind::NCCL => self.probed(Class::Nccl, &head, &item).map_err(CaptureError::Write)?,
                kind::MAPPED => {
                    if let Some(followed) = self.followed.get_mut(&head.tgid) {
                        followed.dirty = true;
                    }
                }
                kind::FORK | kind::EXEC | kind::EXIT => {
                    if let Some(task) = records::read::<Task>(&item) {
                        self.task(&task)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &Task) -> Result<(), CaptureError> {
        let head = &task.head;
        match head.kind {
            kind::FORK => {
                let root = self.kernel.target(head.id).map_or(head.tgid, |t| t.root);
                self.follow(head.id, root)?;
            }
            kind::EXEC => {
                if let Some(followed) = self.followed.get_mut(&head.tgid) {
                    followed.dirty = true;
                }
                self.out.describe(head.tgid).map_err(CaptureError::Write)?;
            }
            _ => {
                let whole = head.aux != 0;
                self.ended.push((head.tgid, head.tid, whole, head.start));
                if whole && let Some(followed) = self.followed.remove(&head.tgid) {
                    self.gone_cpu_ns += followed.cpu_ns.saturating_sub(followed.cpu_first_ns);
                }
            }
        }
        Ok(())
    }
}
