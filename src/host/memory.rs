//! Another process's memory.

/// Reads from a process by process_vm_readv: it is not stopped and does not notice. Returns
/// the bytes read; fewer than asked for where a mapping ends or nothing may be read.
pub fn read(pid: u32, address: u64, buffer: &mut [u8]) -> usize {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return 0 };
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: `local` describes `buffer`, which lives and is borrowed mutably over the call;
    // `remote` is only an address in another process, checked by the kernel.
    let read = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    usize::try_from(read).unwrap_or(0)
}
