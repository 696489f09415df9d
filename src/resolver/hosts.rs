//! The table of hosts(5).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::name;

/// Names and addresses of hosts(5).
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    addresses: HashMap<Arc<str>, Vec<IpAddr>>,
    names: HashMap<IpAddr, Vec<Arc<str>>>,
}

impl Hosts {
    /// Reads the text of the file. Lines that it does not understand it skips, as libc does:
    /// those with a scoped address (`fe80::1%lo`) are among them, for a DNS answer cannot
    /// say the scope.
    pub fn parse(text: &[u8]) -> Hosts {
        let mut hosts = Hosts::default();
        for line in text.split(|byte| *byte == b'\n') {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut words = line.split_ascii_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
            let address = address.to_canonical();
            for name in words.filter_map(name::from_text) {
                hosts.add(name, address);
            }
        }
        hosts
    }

    fn add(&mut self, name: String, address: IpAddr) {
        let name = match self.addresses.get_key_value(name.as_str()) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(name),
        };
        let addresses = self.addresses.entry(Arc::clone(&name)).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
            self.names.entry(address).or_default().push(name);
        }
    }

    /// The addresses of a name (lower case, no trailing dot), in the order of the file.
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of an address, lower case, in the order of the file.
    pub fn names(&self, address: IpAddr) -> &[Arc<str>] {
        self.names.get(&address.to_canonical()).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_both_ways() {
        let hosts = Hosts::parse(
            b"# comment\n127.0.0.1\tlocalhost Build.Example. # trailing\n::1 localhost\r\n\
              fe80::1%lo0 scoped\n::ffff:10.0.0.7 mapped mapped\nnonsense here\n\xff\xfe x\n10.0.0.8",
        );
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(hosts.addresses("localhost"), [ip("127.0.0.1"), ip("::1")]);
        assert_eq!(hosts.addresses("build.example"), [ip("127.0.0.1")]);
        assert_eq!(hosts.addresses("mapped"), [ip("10.0.0.7")]);
        assert!(hosts.addresses("scoped").is_empty() && hosts.addresses("here").is_empty());
        let names: Vec<&str> = hosts.names(ip("127.0.0.1")).iter().map(|name| &**name).collect();
        assert_eq!(names, ["localhost", "build.example"]);
        assert_eq!(hosts.names(ip("::ffff:10.0.0.7")).len(), 1);
    }
}
