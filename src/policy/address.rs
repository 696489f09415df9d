//! Patterns over the far ends of connections: addresses, networks, host names and
//! Unix sockets. A name never matches an address and an address never matches a
//! name: which name an address belongs to is for a resolver to know, not for us.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pattern::PathPattern;
use super::special;

/// One parsed entry of a `connect` list.
#[derive(Debug, Clone)]
pub(super) enum ConnectPattern {
    /// `*` or `*:443`: every address and every name.
    Any(Option<u16>),
    /// An address or a network.
    Network { address: IpAddr, prefix: u8, port: Option<u16> },
    /// A host name.
    Host { name: HostName, port: Option<u16> },
    /// `unix:/path`, with the path pattern language.
    Unix(Box<PathPattern>),
    /// `{registry}` and its like: names that the launcher knows.
    Group(Box<str>),
}

/// A host name in a policy: lower case, without the dot at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName {
    pub(super) name: Box<str>,
    /// Written `*.name`: every name below this one, and not the name itself.
    pub(super) below: bool,
}

impl HostName {
    /// `None` for what cannot be a host name; a wildcard is none.
    pub(super) fn exact(text: &str) -> Option<Self> {
        let name = lower(text);
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        // What ends in a number is read as an address by libc (inet_aton) and by URLs.
        let number = |label: &str| {
            let digits = label.strip_prefix("0x").unwrap_or(label);
            let all = |of: fn(&u8) -> bool| digits.bytes().all(|b| of(&b));
            if digits.len() < label.len() { all(u8::is_ascii_hexdigit) } else { all(u8::is_ascii_digit) }
        };
        let good =
            name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(number);
        good.then(|| Self { name: name.into(), below: false })
    }

    /// `host` must be lower case and without the dot at its end.
    pub(super) fn matches(&self, host: &str) -> bool {
        match host.strip_suffix(&*self.name) {
            Some(rest) if self.below => rest.len() > 1 && rest.ends_with('.'),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }
}

/// The form in which names are compared.
pub(super) fn lower(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

const HINT: &str = "write `host`, `*.host`, `host:port`, an address, a network such as `10.0.0.0/8`, \
                    `[2001:db8::1]:443`, `unix:/path`, or `{registry}`, `{proxy}`, `{git-hosts}`";

impl ConnectPattern {
    /// Reads a pattern; the error is the sentence and the hint.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let broken = |why: &str| (format!("`{}` {why}", text.escape_debug()), HINT.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            if path.starts_with('@') {
                return Err((
                    format!("`{text}` names an abstract socket"),
                    "abstract sockets are never reachable; `unix:/path` grants a path".into(),
                ));
            }
            let pattern = PathPattern::parse(path)?;
            if pattern.negated {
                return Err(broken("is negated"));
            }
            return Ok(Self::Unix(Box::new(pattern)));
        }
        if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Self::Group(name.into()));
        }
        if text.contains("://") {
            return Err((format!("`{text}` is a URL"), format!("leave out the scheme and the path: {HINT}")));
        }
        if let Some(network) = parse_network(text) {
            let (address, prefix, port) = network.map_err(broken)?;
            return Ok(Self::Network { address, prefix, port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, "*")) => (host, None),
            Some((host, port)) => {
                let port = port.parse().ok().filter(|port| *port > 0);
                (host, Some(port.ok_or_else(|| broken("has no valid port after the `:`"))?))
            }
            None => (text, None),
        };
        if host == "*" {
            return Ok(Self::Any(port));
        }
        let (below, plain) = host.strip_prefix("*.").map_or((false, host), |plain| (true, plain));
        match HostName::exact(plain) {
            Some(name) => Ok(Self::Host { name: HostName { below, ..name }, port }),
            None if plain.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !plain.is_empty() => {
                Err(broken("is not a complete address"))
            }
            None => Err(broken("is not a host, an address or a network")),
        }
    }

    /// Whether it holds this address, which must be canonical, at some port.
    pub(super) fn holds(&self, ip: IpAddr) -> bool {
        match self {
            Self::Any(_) => true,
            Self::Network { address, prefix, .. } => in_network(ip, *address, *prefix),
            _ => false,
        }
    }

    /// Whether it covers this name, at some port.
    pub(super) fn names(&self, host: &str) -> bool {
        match self {
            Self::Any(_) => true,
            Self::Host { name, .. } => name.matches(host),
            _ => false,
        }
    }

    /// The only port that it speaks of.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Any(port) | Self::Network { port, .. } | Self::Host { port, .. } => *port,
            Self::Unix(_) | Self::Group(_) => None,
        }
    }

    /// Whether it is this one address, written out.
    pub(super) fn spells_out(&self, ip: IpAddr) -> bool {
        matches!(self, Self::Network { address, prefix, .. } if *address == ip && *prefix == width(ip))
    }
}

/// The bits of an address.
fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

type Network = (IpAddr, u8, Option<u16>);

/// `None` when it does not look like an address at all.
fn parse_network(text: &str) -> Option<Result<Network, &'static str>> {
    let (body, port) = if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        match after.strip_prefix(':') {
            None if after.is_empty() => (inside, None),
            Some(port) => (inside, Some(port)),
            None => return Some(Err("has text after the `]`")),
        }
    } else {
        match text.rsplit_once(':') {
            Some((body, port)) if !body.contains(':') => (body, Some(port)),
            _ => (text, None),
        }
    };
    let (address, prefix) = match body.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (body, None),
    };
    let Ok(written) = address.parse::<IpAddr>() else {
        return prefix.map(|_| Err("is not a network"));
    };
    let port = match port {
        None | Some("*") => None,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => Some(port),
            _ => return Some(Err("has no valid port after the `:`")),
        },
    };
    let mut length: u8 = match prefix.map(str::parse) {
        None => width(written),
        Some(Ok(length)) if length <= width(written) => length,
        Some(_) => return Some(Err("has no valid prefix length after the `/`")),
    };
    let address = written.to_canonical();
    if address.is_ipv4() && written.is_ipv6() {
        let Some(shorter) = length.checked_sub(96) else {
            return Some(Err("mixes IPv4 and IPv6: a network of mapped addresses has at least `/96`"));
        };
        length = shorter;
    }
    if mask(address, length) != address {
        return Some(Err("has bits set after its prefix"));
    }
    // `0.0.0.0` alone is this machine; `0.0.0.0/0` is every address.
    let address = if length == width(address) { special::canonical(address) } else { address };
    Some(Ok((address, length, port)))
}

fn mask(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, length: u8) -> bool {
    address.is_ipv4() == network.is_ipv4() && mask(address, length) == network
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn matches(pattern: &str, addr: &str) -> bool {
        let (pattern, to) =
            (ConnectPattern::parse(pattern).unwrap(), addr.parse::<std::net::SocketAddr>().unwrap());
        pattern.holds(special::canonical(to.ip())) && pattern.port().is_none_or(|port| port == to.port())
    }

    #[test]
    fn addresses_and_networks() {
        assert!(matches("10.0.0.0/8", "10.9.8.7:80"));
        assert!(matches("10.0.0.0/8", "[::ffff:10.1.1.1]:80"));
        assert!(matches("::ffff:10.0.0.0/104", "10.1.1.1:80"));
        assert!(!matches("10.0.0.0/8:443", "10.1.1.1:80"));
        assert!(matches("10.0.0.0/8:443", "10.1.1.1:443"));
        assert!(matches("2001:db8::/32", "[2001:db8::1]:1"));
        assert!(matches("[2001:db8::1]:443", "[2001:db8::1]:443"));
        assert!(!matches("[2001:db8::1]:443", "[2001:db8::1]:80"));
        assert!(matches("0.0.0.0/0", "1.2.3.4:5"));
        assert!(!matches("0.0.0.0/0", "[2001:db8::1]:5"));
        assert!(!matches("example.test", "1.2.3.4:5"));
        assert!(matches("*", "1.2.3.4:5"));
        assert!(matches("0.0.0.0:80", "127.0.0.1:80"));
        assert!(matches("127.0.0.0/8", "0.0.0.0:80") && matches("[::]:80", "[::1]:80"));
    }

    #[test]
    fn hosts() {
        let host = |pattern: &str, host: &str, port| {
            let pattern = ConnectPattern::parse(pattern).unwrap();
            pattern.names(&lower(host)) && pattern.port().is_none_or(|only| only == port)
        };
        assert!(host("Example.test.", "EXAMPLE.test.", 1));
        assert!(!host("example.test", "evilexample.test", 1));
        assert!(!host("example.test", "example.test.evil.test", 1));
        assert!(!host("example.test", "a.example.test", 1));
        assert!(!host("*.example.test", ".example.test", 1));
        assert!(host("Example.test", "example.test", 1));
        assert!(host("*.example.test", "a.b.example.test", 1));
        assert!(!host("*.example.test", "example.test", 1));
        assert!(!host("*.example.test", "badexample.test", 1));
        assert!(!host("example.test:443", "example.test", 80));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "http://x.test/",
            "x..test",
            "x.test:0",
            "x.test:http",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0",
            "unix:@x",
            "unix:relative",
            "a b",
            "-/-",
            "::ffff:0.0.0.0/8",
            "[::1",
            "a*b.test",
            "*.*.test",
            "0x7f000001",
            "x.0x7f",
            "1.2.3",
        ] {
            assert!(ConnectPattern::parse(text).is_err(), "{text:?}");
        }
    }
}
