//! The byte formats between supervisor, reaper and stub.
//!
//! All three are this binary, so there is no version to negotiate; but the stub's
//! request comes from below, so decoding checks every length and never allocates
//! more than it received.

use nix::errno::Errno;

/// Upper bound of a request: far above the kernel's limit for arguments and
/// environment together (6 MiB by default, execve(2)).
pub const LARGEST_REQUEST: usize = 16 << 20;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message at byte {at}")]
pub struct Malformed {
    /// Offset of the first byte that made no sense.
    pub at: usize,
}

/// Appends values to a message.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty message.
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends a number.
    pub fn number(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
    /// Appends a byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.number(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
    /// Appends a list of byte strings.
    pub fn list<T: AsRef<[u8]>>(&mut self, values: &[T]) -> &mut Self {
        self.number(values.len() as u64);
        for value in values {
            self.bytes(value.as_ref());
        }
        self
    }
    /// Appends a list of numbers.
    pub fn numbers(&mut self, values: &[u64]) -> &mut Self {
        self.number(values.len() as u64);
        for value in values {
            self.number(*value);
        }
        self
    }
    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values from a message, in the order in which they were written.
#[derive(Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `data` from its beginning.
    pub fn new(data: &'a [u8]) -> Self {
        Reader { data, at: 0 }
    }
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self
            .at
            .checked_add(len)
            .filter(|end| *end <= self.data.len())
            .ok_or(Malformed { at: self.at })?;
        let taken = &self.data[self.at..end];
        self.at = end;
        Ok(taken)
    }
    /// A number.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut raw = [0; 8];
        raw.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(raw))
    }
    fn length(&mut self) -> Result<usize, Malformed> {
        let at = self.at;
        let len = self.number()?;
        usize::try_from(len).ok().filter(|len| *len <= self.data.len()).ok_or(Malformed { at })
    }
    /// A byte string.
    pub fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let len = self.length()?;
        Ok(self.take(len)?.to_vec())
    }
    /// A list of byte strings.
    pub fn list(&mut self) -> Result<Vec<Vec<u8>>, Malformed> {
        (0..self.length()?).map(|_| self.bytes()).collect()
    }
    /// A list of numbers.
    pub fn numbers(&mut self) -> Result<Vec<u64>, Malformed> {
        (0..self.length()?).map(|_| self.number()).collect()
    }
    /// Nothing must be left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.at == self.data.len() { Ok(()) } else { Err(Malformed { at: self.at }) }
    }
}

impl From<Malformed> for Errno {
    fn from(_: Malformed) -> Self {
        Errno::EBADMSG
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_back(list: Vec<Vec<u8>>, number: u64, numbers: Vec<u64>) {
            let mut w = Writer::new();
            w.list(&list).number(number).numbers(&numbers);
            let data = w.finish();
            let mut r = Reader::new(&data);
            prop_assert_eq!(r.list().unwrap(), list);
            prop_assert_eq!(r.number().unwrap(), number);
            prop_assert_eq!(r.numbers().unwrap(), numbers);
            prop_assert!(r.end().is_ok());
        }

        #[test]
        fn any_bytes_are_read_or_refused(data: Vec<u8>) {
            let mut r = Reader::new(&data);
            let _ = r.list().and_then(|_| r.numbers());
        }
    }
}
