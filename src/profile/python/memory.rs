//! Reading a process's memory while it runs; nothing read is trusted.

/// Something whose memory can be read: a process, or a fixture in tests.
pub(crate) trait Memory {
    /// Fills `buffer` from `address`; false if not all of it could be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Reads a 64-bit word.
    fn u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Reads a 32-bit word.
    fn u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes).then(|| u32::from_le_bytes(bytes))
    }

    /// Reads `len` bytes, none if more than `limit` are asked for.
    fn bytes(&self, address: u64, len: u64, limit: usize) -> Option<Vec<u8>> {
        let len = usize::try_from(len).ok().filter(|len| *len <= limit)?;
        let mut bytes = vec![0; len];
        self.read(address, &mut bytes).then_some(bytes)
    }
}

/// A live process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessMemory(pub u32);

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        buffer.is_empty() || crate::host::memory::read(self.0, address, buffer) == buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_read_and_a_bad_address_is_refused() {
        let memory = ProcessMemory(std::process::id());
        let value = 0x1234_5678_9abc_def0_u64;
        assert_eq!(memory.u64(&raw const value as u64), Some(value));
        assert_eq!(memory.u64(8), None);
        assert_eq!(memory.bytes(&raw const value as u64, u64::MAX, 100), None);
    }
}
