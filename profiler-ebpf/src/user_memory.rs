//! The memory of the thread that runs on this CPU, from any context: page faults are off, so a
//! page that is not resident is a [`Fault`].

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use profiler_common::mem::{Fault, Memory};

pub struct UserMemory;

impl Memory for UserMemory {
    #[inline(always)]
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: `dst` is valid for its length; the helper checks the address itself.
        let failed = unsafe {
            bpf_probe_read_user(
                dst.as_mut_ptr().cast(),
                dst.len() as u32,
                addr as *const core::ffi::c_void,
            )
        };
        if failed == 0 { Ok(()) } else { Err(Fault) }
    }

    #[inline(always)]
    fn read_block<'block, const N: usize>(
        &self,
        addr: u64,
        block: &'block mut MaybeUninit<[u8; N]>,
    ) -> Result<&'block [u8; N], Fault> {
        // SAFETY: `block` is valid for N bytes; the helper writes all of them, zeros when it
        // fails.
        let failed = unsafe {
            bpf_probe_read_user(
                block.as_mut_ptr().cast(),
                N as u32,
                addr as *const core::ffi::c_void,
            )
        };
        // SAFETY: just written.
        if failed == 0 {
            Ok(unsafe { block.assume_init_ref() })
        } else {
            Err(Fault)
        }
    }
}
