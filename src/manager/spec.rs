//! What a dependency's spec makes npm fetch, as `npm-package-arg` and
//! `hosted-git-info` 9 read it. Specs are content of repositories and of packages:
//! they are bounded, and what is not plainly a host is none.

use std::net::Ipv6Addr;

use url::{Host, Url};

/// Longer specs are not looked at.
const LONGEST: usize = 4096;

/// A far end that an address names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Remote {
    /// In lower case, an IPv6 address without brackets.
    pub(super) host: String,
    /// Only where the address has one.
    pub(super) port: Option<u16>,
    /// The address without user, password, query and fragment.
    pub(super) shown: String,
}

/// Where a dependency comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// The registry, or something that npm would not fetch.
    Registry,
    /// A directory or a tarball of this machine.
    File(String),
    /// A tarball behind an address.
    Tarball(Remote),
    /// A git repository; `tarballs` is from where npm fetches a copy of it instead,
    /// when the service has such a place.
    Git {
        /// The repository.
        remote: Remote,
        /// The host of its tarballs.
        tarballs: Option<&'static str>,
    },
}

/// A code host that npm knows.
struct Service {
    shortcut: &'static str,
    domain: &'static str,
    tarballs: &'static str,
    /// Parts of the path of addresses that are files of the service and no repository.
    not_git: &'static [&'static str],
}

const SERVICES: &[Service] = &[
    Service {
        shortcut: "github",
        domain: "github.com",
        tarballs: "codeload.github.com",
        not_git: &["archive", "releases", "raw", "blob", "tarball", "zipball", "suites"],
    },
    Service {
        shortcut: "gitlab",
        domain: "gitlab.com",
        tarballs: "gitlab.com",
        not_git: &["-", "archive.tar.gz"],
    },
    Service {
        shortcut: "bitbucket",
        domain: "bitbucket.org",
        tarballs: "bitbucket.org",
        not_git: &["get", "downloads"],
    },
    Service {
        shortcut: "gist",
        domain: "gist.github.com",
        tarballs: "codeload.github.com",
        not_git: &["raw"],
    },
    Service { shortcut: "sourcehut", domain: "git.sr.ht", tarballs: "git.sr.ht", not_git: &["archive"] },
];

impl Source {
    /// Hosts that npm or git talks to for it, with ports where they are named.
    pub(super) fn hosts(&self) -> Vec<(String, Option<u16>)> {
        match self {
            Source::Registry | Source::File(_) => Vec::new(),
            Source::Tarball(remote) => vec![(remote.host.clone(), remote.port)],
            Source::Git { remote, tarballs } => {
                let mut hosts = vec![(remote.host.clone(), remote.port)];
                hosts.extend(tarballs.filter(|t| *t != remote.host).map(|t| (t.to_owned(), None)));
                hosts
            }
        }
    }

    /// The address, where it has one.
    pub(super) fn remote(&self) -> Option<&Remote> {
        match self {
            Source::Tarball(remote) | Source::Git { remote, .. } => Some(remote),
            Source::Registry | Source::File(_) => None,
        }
    }

    /// Whether fetching it reaches this host (in lower case).
    pub(super) fn reaches(&self, host: &str) -> bool {
        self.hosts().iter().any(|(known, _)| known == host)
    }
}

/// What the value of a dependency in a manifest means.
pub(super) fn parse(spec: &str) -> Source {
    let spec = spec.trim();
    if spec.is_empty() || spec.len() > LONGEST || spec.chars().any(char::is_control) {
        return Source::Registry;
    }
    let lower = spec.to_ascii_lowercase();
    for scheme in ["file:", "link:", "portal:"] {
        if lower.starts_with(scheme) {
            return Source::File(spec[scheme.len()..].to_owned());
        }
    }
    if spec.starts_with(['.', '/']) || spec.starts_with("~/") {
        return Source::File(spec.to_owned());
    }
    if is_shorthand(spec) {
        return shortcut(&SERVICES[0], spec);
    }
    if let Some((scheme, rest)) = spec.split_once(':') {
        if let Some(service) = SERVICES.iter().find(|s| s.shortcut.eq_ignore_ascii_case(scheme)) {
            return shortcut(service, rest);
        }
        let scheme = scheme.to_ascii_lowercase();
        return match scheme.as_str() {
            "http" | "https" => web(spec),
            "git" | "ssh" => repository(&scheme, rest),
            "npm" | "workspace" | "catalog" | "jsr" => Source::Registry,
            "git+ssh" | "git+https" | "git+http" | "git+ftp" | "git+rsync" => repository(&scheme, rest),
            // `user@host:path`, as scp takes it.
            _ if scheme.contains('@') => repository("git+ssh", &format!("//{spec}")),
            _ => Source::Registry,
        };
    }
    let is_tarball = [".tgz", ".tar.gz", ".tar"].iter().any(|end| lower.ends_with(end));
    if spec.contains('/') || is_tarball { Source::File(spec.to_owned()) } else { Source::Registry }
}

/// The same for a word of the command line: a spec, perhaps after `name@`.
pub(super) fn parse_argument(word: &str) -> Source {
    let is_address = word.split_once(':').is_some_and(|(scheme, _)| {
        let scheme = scheme.strip_prefix("git+").unwrap_or(scheme);
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphabetic())
    });
    let named = word.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    let is_name = |at: usize| word.starts_with('@') || !word[..at].contains('/');
    // `git@host.name:path` is for git; `name@github:path` is a name and its spec.
    let is_scp = |at: usize| {
        word[at + 1..]
            .split_once(':')
            .is_some_and(|(host, path)| host.contains('.') && !host.contains('/') && !path.is_empty())
    };
    match named {
        Some(at) if !is_address && is_name(at) && !is_scp(at) => parse(&word[at + 1..]),
        None if word.starts_with('@') => Source::Registry,
        _ => parse(word),
    }
}

/// `user/repo`, as hosted-git-info recognises it.
fn is_shorthand(spec: &str) -> bool {
    let before = spec.split('#').next().unwrap_or_default();
    let mut parts = before.split('/');
    let (user, repository, more) = (parts.next(), parts.next(), parts.next());
    more.is_none()
        && user.is_some_and(|user| !user.is_empty() && !user.starts_with('.'))
        && repository.is_some_and(|repository| !repository.is_empty())
        && !before.contains(['@', ':'])
        && !before.contains(char::is_whitespace)
}

fn shortcut(service: &Service, rest: &str) -> Source {
    let path = rest.split(['#', '?']).next().unwrap_or_default().trim_start_matches('/');
    let path = path.rsplit_once('@').map_or(path, |(_, path)| path);
    Source::Git {
        remote: Remote {
            host: service.domain.to_owned(),
            port: None,
            shown: format!("{}:{path}", service.shortcut),
        },
        tarballs: Some(service.tarballs),
    }
}

fn service_at(host: &str) -> Option<&'static Service> {
    let host = host.strip_prefix("www.").unwrap_or(host);
    SERVICES.iter().find(|service| service.domain == host)
}

/// `http:` and `https:`, which are read as any WHATWG URL is.
fn web(spec: &str) -> Source {
    let Some(remote) = remote_of_url(spec) else { return Source::Registry };
    let path = remote.shown.split_once("://").and_then(|(_, rest)| Some(rest.split_once('/')?.1.to_owned()));
    let path: Vec<&str> = path.iter().flat_map(|path| path.split('/')).filter(|p| !p.is_empty()).collect();
    match service_at(&remote.host) {
        Some(service) if !path.is_empty() && !path.iter().skip(1).any(|p| service.not_git.contains(p)) => {
            Source::Git { remote, tarballs: Some(service.tarballs) }
        }
        _ => Source::Tarball(remote),
    }
}

/// Host, port and harmless text of an address that npm itself fetches from.
pub(super) fn remote_of_url(address: &str) -> Option<Remote> {
    if address.len() > LONGEST {
        return None;
    }
    let mut url = Url::parse(address).ok()?;
    if !["http", "https"].contains(&url.scheme()) {
        return None;
    }
    let host = host_text(&url.host()?.to_owned())?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(Remote { host, port: url.port(), shown: url.to_string() })
}

/// Addresses for git: what stands between `//` and the path, an scp-like colon included.
fn repository(scheme: &str, rest: &str) -> Source {
    let body = rest.strip_prefix("//").unwrap_or(rest).split(['#', '?']).next().unwrap_or_default();
    let (authority, path) = body.split_once('/').unwrap_or((body, ""));
    // A password may hold a colon, so the user goes first.
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, rest) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((host, rest)) => (format!("[{host}]"), rest.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, rest)) => (host.to_owned(), Some(rest)),
            None => (place.to_owned(), None),
        },
    };
    let Some(host) = plain_host(&host) else { return Source::Registry };
    let port = rest.and_then(|rest| rest.parse().ok());
    let path = match rest {
        Some(first) if port.is_none() && !first.is_empty() => format!("{first}/{path}"),
        _ => path.to_owned(),
    };
    let place = match (host.contains(':'), port) {
        (true, Some(port)) => format!("[{host}]:{port}"),
        (true, None) => format!("[{host}]"),
        (false, Some(port)) => format!("{host}:{port}"),
        (false, None) => host.clone(),
    };
    let shown = format!("{scheme}://{place}/{}", path.trim_end_matches('/'));
    Source::Git { tarballs: service_at(&host).map(|s| s.tarballs), remote: Remote { host, port, shown } }
}

/// A host that every program reads alike: ASCII, nothing encoded, no odd separators.
pub(super) fn plain_host(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if !text.bytes().all(plain) {
        return None;
    }
    host_text(&Host::parse(text).ok()?)
}

/// The host of `host` or `host:port`, as the key of a credential has it.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let url = Url::parse(&format!("ws://{text}/")).ok()?;
    // The default port of the scheme would vanish, and which scheme it is nobody says.
    let port = match text.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => Some(port.parse().ok()?),
        _ => None,
    };
    Some((host_text(&url.host()?.to_owned())?, port))
}

/// Lower case, without the root's dot and without brackets.
pub(super) fn host_text(host: &Host<String>) -> Option<String> {
    let text = match host {
        Host::Domain(name) => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => ipv6_text(*address),
    };
    (!text.is_empty() && text.len() <= 253).then_some(text)
}

/// An IPv4 address in IPv6 clothes is that address.
fn ipv6_text(address: Ipv6Addr) -> String {
    address.to_ipv4_mapped().map_or_else(|| address.to_string(), |address| address.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hosts(source: &Source) -> String {
        let show = |(host, port): &(String, Option<u16>)| match port {
            Some(port) => format!("{host} {port}"),
            None => host.clone(),
        };
        source.hosts().iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_kind_of_spec_reaches_the_hosts_that_npm_asks() {
        for (spec, kind, expected) in [
            ("^1.0.0", "registry", ""),
            ("latest", "registry", ""),
            ("npm:left-pad@1", "registry", ""),
            ("file:../x", "file", ""),
            ("./vendor/a.tgz", "file", ""),
            ("vendor/deep/a.tgz", "file", ""),
            ("user/repo", "git", "github.com, codeload.github.com"),
            ("user/repo#semver:^1", "git", "github.com, codeload.github.com"),
            ("github:user/repo", "git", "github.com, codeload.github.com"),
            ("github:tok@user/repo", "git", "github.com, codeload.github.com"),
            ("gitlab:g/s/p", "git", "gitlab.com"),
            ("bitbucket:u/p", "git", "bitbucket.org"),
            ("gist:1234", "git", "gist.github.com, codeload.github.com"),
            ("https://github.com/u/p.git", "git", "github.com, codeload.github.com"),
            ("https://github.com/u/p/archive/x.tar.gz", "tarball", "github.com"),
            ("https://codeload.github.com/u/p/tar.gz/x", "tarball", "codeload.github.com"),
            ("git@github.com:u/p.git", "git", "github.com, codeload.github.com"),
            ("git@git.corp.test:u/p.git#v1", "git", "git.corp.test"),
            ("git+ssh://git@git.corp.test:u/p.git", "git", "git.corp.test"),
            ("git+ssh://git@git.corp.test:2222/u/p.git", "git", "git.corp.test 2222"),
            ("git+https://u:p:q@Git.Corp.Test./p.git", "git", "git.corp.test"),
            ("git://[::1]:9418/p.git", "git", "::1 9418"),
            ("ssh://git@host/p", "git", "host"),
            ("git+http://127.1/p", "git", "127.0.0.1"),
            ("http://good@evil.test/x.tgz?token=1#2", "tarball", "evil.test"),
            ("https://good.test\\@evil.test/x.tgz", "tarball", "good.test"),
            ("http://[::ffff:10.0.0.1]:81/x.tgz", "tarball", "10.0.0.1 81"),
            ("https://ex%61mple.test/x.tgz", "tarball", "example.test"),
            ("git+https://ex%61mple.test/x", "registry", ""),
            ("git+file:///srv/x", "registry", ""),
            ("git+https://good\\@evil.test/x", "git", "evil.test"),
            ("javascript:1", "registry", ""),
            ("https://", "registry", ""),
            ("git+ssh://", "registry", ""),
        ] {
            let source = parse(spec);
            let found = match &source {
                Source::Registry => "registry",
                Source::File(_) => "file",
                Source::Tarball(_) => "tarball",
                Source::Git { .. } => "git",
            };
            assert_eq!((found, hosts(&source).as_str()), (kind, expected), "{spec}");
        }
    }

    #[test]
    fn words_of_the_command_line_may_name_the_package_first() {
        for (word, expected) in [
            ("left-pad", ""),
            ("left-pad@1.2.3", ""),
            ("@scope/name", ""),
            ("@scope/name@^1", ""),
            ("user/repo", "github.com, codeload.github.com"),
            ("x@user/repo", "github.com, codeload.github.com"),
            ("x@github:user/repo", "github.com, codeload.github.com"),
            ("@s/x@git+ssh://git@host.test/x", "host.test"),
            ("git+ssh://git@host.test/x", "host.test"),
            ("git@host.test:x/y", "host.test"),
            ("x@https://host.test/x.tgz", "host.test"),
        ] {
            assert_eq!(hosts(&parse_argument(word)), expected, "{word}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        for (spec, shown) in [
            ("https://u:p@host.test/x.tgz?t=1#f", "https://host.test/x.tgz"),
            ("git+https://tok:x@host.test/p.git#main", "git+https://host.test/p.git"),
            ("git+ssh://git@host.test:u/p.git#main", "git+ssh://host.test/u/p.git"),
            ("git+ssh://git@host.test:22/p.git", "git+ssh://host.test:22/p.git"),
            ("github:tok@u/p#x", "github:u/p"),
        ] {
            assert_eq!(parse(spec).remote().unwrap().shown, shown);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_spec_is_too_odd(spec in ".*", tail in "[a-z@:/\\[\\]%.#?]{0,20}") {
            for text in [&spec, &tail, &format!("git+ssh://{tail}"), &format!("http://{tail}")] {
                let _ = (parse(text), parse_argument(text), host_and_port(text));
            }
        }
    }
}
