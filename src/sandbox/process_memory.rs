//! Reading the memory of a thread that waits for an answer.
//!
//! Every read is a bounded copy. A value is read once and only the copy is used
//! afterwards (invariant I2); what cannot be read is an error, never a default.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// `PATH_MAX`, with the terminating zero.
pub const PATH_MAX: usize = 4096;
const PAGE: usize = 4096;

/// The address space of one thread.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    pid: Pid,
}

impl Memory {
    /// The memory of the thread that a notification named.
    pub fn of(pid: i32) -> Self {
        Memory { pid: Pid::from_raw(pid) }
    }

    /// Copies up to `len` bytes; fewer when the mapping ends.
    fn read_some(&self, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let len = buffer.len();
        let base = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
        process_vm_readv(self.pid, &mut [IoSliceMut::new(buffer)], &[RemoteIoVec { base, len }])
    }

    /// Copies exactly `len` bytes.
    ///
    /// # Errors
    /// `EFAULT` if the mapping is shorter, `EPERM` if the process cannot be inspected.
    pub fn bytes(&self, address: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match self.read_some(address + filled as u64, &mut buffer[filled..])? {
                0 => return Err(Errno::EFAULT),
                n => filled += n,
            }
        }
        Ok(buffer)
    }

    /// A zero-terminated string of at most `max` bytes, without the zero.
    ///
    /// # Errors
    /// `ENAMETOOLONG` when no zero is found, as the kernel says for paths.
    pub fn c_string(&self, address: u64, max: usize) -> Result<Vec<u8>, Errno> {
        let mut out = Vec::new();
        let mut at = address;
        while out.len() < max {
            // To the end of the page, so that a string before an unmapped page is read whole.
            let step = (PAGE - (at as usize % PAGE)).min(max - out.len()).min(256.max(PAGE / 4));
            let mut chunk = [0u8; PAGE];
            let n = self.read_some(at, &mut chunk[..step])?;
            if n == 0 {
                return Err(Errno::EFAULT);
            }
            if let Some(end) = chunk[..n].iter().position(|b| *b == 0) {
                out.extend_from_slice(&chunk[..end]);
                return Ok(out);
            }
            out.extend_from_slice(&chunk[..n]);
            at += n as u64;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A path as the kernel would read it.
    pub fn path(&self, address: u64) -> Result<Vec<u8>, Errno> {
        self.c_string(address, PATH_MAX)
    }

    /// A plain C structure.
    pub fn value<T: Plain>(&self, address: u64) -> Result<T, Errno> {
        let bytes = self.bytes(address, size_of::<T>())?;
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `bytes` has exactly the size of `T`, and every bit pattern is a valid
        // `T` (the contract of `Plain`).
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast::<u8>(), bytes.len());
            Ok(value.assume_init())
        }
    }

    /// A zero-terminated array of strings such as argv: at most `max_items` strings
    /// and `max_bytes` bytes in all. The flag says whether something was left out.
    pub fn string_array(
        &self,
        address: u64,
        max_items: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), Errno> {
        let mut items = Vec::new();
        let mut room = max_bytes;
        if address == 0 {
            return Ok((items, false));
        }
        for index in 0..=max_items {
            let pointer: u64 = self.value(address + 8 * index as u64)?;
            if pointer == 0 {
                return Ok((items, false));
            }
            if index == max_items || room == 0 {
                break;
            }
            let item = match self.c_string(pointer, room.min(PATH_MAX)) {
                Ok(item) => item,
                Err(Errno::ENAMETOOLONG) => self.bytes(pointer, room.min(PATH_MAX)).unwrap_or_default(),
                Err(error) => return Err(error),
            };
            room = room.saturating_sub(item.len() + 1);
            items.push(item);
        }
        Ok((items, true))
    }
}

/// Types for which every bit pattern is a value.
///
/// # Safety
/// The type has no padding that matters, no references and no invalid bit patterns.
pub unsafe trait Plain: Copy {}

// SAFETY: plain integers.
unsafe impl Plain for u64 {}
// SAFETY: two integers.
unsafe impl Plain for libc::timespec {}
// SAFETY: two integers.
unsafe impl Plain for libc::timeval {}
// SAFETY: two integers.
unsafe impl Plain for libc::utimbuf {}
// SAFETY: three integers.
unsafe impl Plain for OpenHow {}
// SAFETY: integers and addresses that are never dereferenced here.
unsafe impl Plain for MsgHdr {}
// SAFETY: arrays of plain values are plain.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// `struct open_how` of `openat2(2)`, first version.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct OpenHow {
    /// Open flags.
    pub flags: u64,
    /// Mode of a created file.
    pub mode: u64,
    /// `RESOLVE_*` flags.
    pub resolve: u64,
}

/// `struct msghdr` with its pointers as numbers.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct MsgHdr {
    /// Address of the destination.
    pub name: u64,
    /// Its length in the low half.
    pub name_len: u64,
    /// Address of the parts.
    pub iov: u64,
    /// Number of parts.
    pub iov_len: u64,
    /// Address of control messages.
    pub control: u64,
    /// Their length.
    pub control_len: u64,
    /// Flags in the low half.
    pub flags: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own() -> Memory {
        Memory::of(std::process::id() as i32)
    }

    #[test]
    fn strings_are_read_up_to_the_zero_and_no_further_than_the_limit() {
        let text = b"/etc/hosts\0rest";
        assert_eq!(own().path(text.as_ptr() as u64).unwrap(), b"/etc/hosts");
        let long = vec![b'a'; 3 * PATH_MAX];
        assert_eq!(own().path(long.as_ptr() as u64), Err(Errno::ENAMETOOLONG));
        assert_eq!(own().path(8), Err(Errno::EFAULT));
    }

    #[test]
    fn argument_lists_are_cut_and_say_so() {
        let (a, b) = (b"one\0", b"two\0");
        let array = [a.as_ptr() as u64, b.as_ptr() as u64, 0];
        let at = array.as_ptr() as u64;
        assert_eq!(own().string_array(at, 8, 4096).unwrap(), (vec![b"one".to_vec(), b"two".to_vec()], false));
        assert_eq!(own().string_array(at, 1, 4096).unwrap(), (vec![b"one".to_vec()], true));
    }
}
