//! What resolv.conf(5) says.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::name;

/// The port of every server in resolv.conf(5).
pub(super) const DNS_PORT: u16 = 53;
/// `MAXNS` of resolv.h.
const MOST_SERVERS: usize = 3;
// The ceilings of resolv.h (RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY).
const MOST_DOTS: u32 = 15;
const LONGEST_TIMEOUT: u32 = 30;
const MOST_ATTEMPTS: u32 = 5;
/// Search domains and options beyond this are more than anybody writes.
const MOST_WORDS: usize = 64;

/// Name servers and options of resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The servers, in order; empty stands for the loopback addresses.
    pub nameservers: Vec<SocketAddr>,
    /// Domains that clients append, lower case, without dots at the ends.
    pub search: Vec<String>,
    /// From how many dots on a name is tried as it is first.
    pub ndots: u32,
    /// How long one server may take to answer.
    pub timeout: Duration,
    /// How often the whole list is tried.
    pub attempts: u32,
    /// TCP only.
    pub use_vc: bool,
    /// Start with another server every time.
    pub rotate: bool,
    /// Every option as it is written, also those that mean nothing here.
    pub options: Vec<String>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            nameservers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            use_vc: false,
            rotate: false,
            options: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the text of the file. What it does not understand it skips, as libc does. Without
    /// a `search` or `domain` line the domain is what follows the first dot of `host_name`.
    pub fn parse(text: &[u8], host_name: &str) -> Config {
        let mut config = Config::default();
        let mut search: Option<Vec<String>> = None;
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if config.nameservers.len() < MOST_SERVERS => {
                    config.nameservers.extend(words.next().and_then(server));
                }
                // The last line of the two wins.
                Some("domain") => search = Some(words.take(1).filter_map(name::from_text).collect()),
                Some("search") => {
                    search = Some(words.take(MOST_WORDS).filter_map(name::from_text).collect());
                }
                Some("options") => words.for_each(|word| config.option(word)),
                _ => {}
            }
        }
        config.search = search.unwrap_or_else(|| {
            host_name.split_once('.').and_then(|(_, domain)| name::from_text(domain)).into_iter().collect()
        });
        config
    }

    fn option(&mut self, word: &str) {
        if self.options.len() < MOST_WORDS && word.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.options.push(word.to_owned());
        }
        let number = |text: &str, most: u32| {
            let digits = text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            match digits.parse::<u64>() {
                Ok(number) => u32::try_from(number).unwrap_or(most).min(most),
                Err(_) if digits.is_empty() => 0,
                Err(_) => most,
            }
        };
        match word.split_once(':') {
            Some(("ndots", n)) => self.ndots = number(n, MOST_DOTS),
            Some(("timeout", n)) => {
                self.timeout = Duration::from_secs(number(n, LONGEST_TIMEOUT).max(1).into());
            }
            Some(("attempts", n)) => self.attempts = number(n, MOST_ATTEMPTS).max(1),
            None if word == "use-vc" || word == "usevc" => self.use_vc = true,
            None if word == "rotate" => self.rotate = true,
            _ => {}
        }
    }

    /// The servers to ask.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        if self.nameservers.is_empty() {
            return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))];
        }
        self.nameservers.clone()
    }

    /// Whether a client that connects to this address wants a name server.
    pub(super) fn is_name_server(&self, to: SocketAddr) -> bool {
        let ip = reached(to.ip());
        if self.nameservers.is_empty() {
            return to.port() == DNS_PORT && ip.is_loopback();
        }
        self.nameservers
            .iter()
            .any(|server| (to.port() == DNS_PORT || to.port() == server.port()) && reached(server.ip()) == ip)
    }

    /// The file that says the same and asks for TCP.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for server in &self.nameservers {
            let _ = match server {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                    writeln!(text, "nameserver {}%{}", v6.ip(), v6.scope_id())
                }
                _ => writeln!(text, "nameserver {}", server.ip()),
            };
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        // glibc knows this spelling only.
        if !self.options.iter().any(|option| option == "use-vc") {
            text.push_str("options use-vc\n");
        }
        text
    }
}

/// One `nameserver`: an address, an IPv6 one perhaps with an interface. A server on an
/// interface that does not exist is left out.
fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address.to_canonical(), DNS_PORT));
    }
    let (address, scope) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = match scope.parse::<u32>() {
        Ok(index) => index,
        Err(_) => nix::net::if_::if_nametoindex(scope).ok()?,
    };
    Some(SocketAddr::V6(SocketAddrV6::new(address, DNS_PORT, 0, scope)))
}

/// The address that a connection ends at: Linux sends the unspecified address to loopback.
fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_file_is_read_as_libc_reads_it() {
        let config = Config::parse(
            b"# comment\n; comment\nnameserver 10.0.0.1 # first\nnameserver 2001:db8::1\n\
              nameserver fe80::1%lo\nnameserver fe80::1%no-such-interface\nnameserver 10.0.0.4\nnameserver x\n\
              domain ignored.example\nsearch Corp.Example. b.example\n\
              options ndots:99 timeout:2 attempts:9 rotate single-request\noptions no-tld-query\n",
            "host.other.example",
        );
        assert_eq!(config.nameservers.len(), 3);
        assert_eq!(config.nameservers[0], at("10.0.0.1:53"));
        assert!(matches!(config.nameservers[2], SocketAddr::V6(v6) if v6.scope_id() != 0));
        assert_eq!(config.search, ["corp.example", "b.example"]);
        assert_eq!((config.ndots, config.timeout.as_secs(), config.attempts), (15, 2, 5));
        assert!(config.rotate && !config.use_vc);
        assert_eq!(config.options.len(), 6);
        let shown = config.text();
        assert!(shown.contains("options ndots:99 timeout:2 attempts:9 rotate single-request no-tld-query\n"));
        assert!(shown.ends_with("options use-vc\n"));
        let again = Config::parse(shown.as_bytes(), "");
        assert_eq!((again.nameservers, again.search), (config.nameservers, config.search));
        assert!(again.use_vc);
    }

    #[test]
    fn an_empty_file_means_loopback_and_the_hosts_own_domain() {
        let config = Config::parse(b"", "host.corp.example");
        assert_eq!(config.search, ["corp.example"]);
        assert_eq!(config.servers(), [at("127.0.0.1:53")]);
        for address in ["127.0.0.1:53", "[::1]:53", "0.0.0.0:53", "[::]:53", "[::ffff:127.0.0.1]:53"] {
            assert!(config.is_name_server(at(address)), "{address}");
        }
        assert!(!config.is_name_server(at("127.0.0.1:80")));
        assert!(!config.is_name_server(at("10.0.0.1:53")));
    }

    #[test]
    fn a_name_server_is_known_in_every_dress() {
        let config = Config::parse(b"nameserver 10.0.0.1\nnameserver 0.0.0.0\nnameserver fe80::1%1", "");
        for address in ["10.0.0.1:53", "[::ffff:10.0.0.1]:53", "127.0.0.1:53", "[fe80::1]:53"] {
            assert!(config.is_name_server(at(address)), "{address}");
        }
        for address in ["10.0.0.1:54", "10.0.0.2:53", "127.0.0.2:53", "[::1]:53"] {
            assert!(!config.is_name_server(at(address)), "{address}");
        }
    }

    #[test]
    fn the_shown_file_asks_for_tcp_whatever_stands_before() {
        for options in ["usevc", "use-vc", &"x ".repeat(MOST_WORDS), &("x ".repeat(MOST_WORDS) + "use-vc")] {
            let config = Config::parse(format!("options {options}").as_bytes(), "");
            let shown = config.text();
            assert_eq!(shown.split_whitespace().filter(|word| *word == "use-vc").count(), 1, "{shown}");
            assert!(Config::parse(shown.as_bytes(), "").use_vc);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..512)) {
            let config = Config::parse(&text, "");
            prop_assert!(config.nameservers.len() <= 3 && !config.timeout.is_zero());
        }
    }
}
