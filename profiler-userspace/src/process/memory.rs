//! A target's memory over `process_vm_readv`: no pause, no write.

use profiler_common::mem::{Fault, Memory};

/// Memory of which it is not known before how much can be read: for searches.
pub trait Searchable: Memory {
    /// Reads as much as there is of `len` bytes from `addr`.
    ///
    /// # Errors
    /// Where not even the first byte can be read, as the kernel says.
    fn read_some(&self, addr: u64, len: usize) -> std::io::Result<Vec<u8>>;
}

/// The memory of a process. Pages that are not resident are brought in by the kernel.
#[derive(Clone, Copy, Debug)]
pub struct RemoteMemory {
    pid: i32,
}

impl RemoteMemory {
    /// The memory of process `pid`; nothing is read yet.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid: pid as i32 }
    }

    /// Reads as much as there is of `len` bytes from `addr`, for searches.
    ///
    /// # Errors
    /// The kernel's, such as `EPERM` without the right to look, `ESRCH` when the target is gone.
    pub fn read_some(&self, addr: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0u8; len];
        let got = self.transfer(addr, &mut buffer)?;
        buffer.truncate(got);
        Ok(buffer)
    }

    fn transfer(&self, addr: u64, dst: &mut [u8]) -> std::io::Result<usize> {
        let local = libc::iovec {
            iov_base: dst.as_mut_ptr().cast(),
            iov_len: dst.len(),
        };
        let remote = libc::iovec {
            iov_base: addr as *mut libc::c_void,
            iov_len: dst.len(),
        };
        // SAFETY: `local` names a buffer of ours, `remote` is checked by the kernel.
        let got = unsafe { libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0) };
        usize::try_from(got).map_err(|_| std::io::Error::last_os_error())
    }
}

impl Searchable for RemoteMemory {
    fn read_some(&self, addr: u64, len: usize) -> std::io::Result<Vec<u8>> {
        Self::read_some(self, addr, len)
    }
}

impl Memory for RemoteMemory {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        match self.transfer(addr, dst) {
            Ok(got) if got == dst.len() => Ok(()),
            _ => Err(Fault),
        }
    }
}
