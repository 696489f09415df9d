//! HTTP/1 requests: whom a head is for, and where the request ends. Strict, because the
//! server must not see another request than the one that was judged.

use std::net::Ipv6Addr;

use super::inspect::{Spoken, normal};

/// Header lines that a request may have; npm sends about ten.
const MOST_HEADERS: usize = 96;

/// What follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) spoken: Spoken,
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) body: Body,
}

/// What there is at the beginning of some bytes.
#[derive(Debug)]
pub(super) enum Read {
    /// Not enough yet.
    Partial,
    /// No request, or none that is clear.
    Broken,
    /// A whole head.
    Head(Head),
}

/// Reads the head of a request.
pub(super) fn read_head(bytes: &[u8]) -> Read {
    // httparse skips empty lines and takes bare line feeds; servers differ about both.
    if bytes.first().is_some_and(|b| !b.is_ascii_alphabetic()) {
        return Read::Broken;
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let (parsed, seen) = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => (Some(length), length),
        Ok(httparse::Status::Partial) => (None, bytes.len()),
        Err(_) => return Read::Broken,
    };
    let bare = |at: usize| bytes[at] == b'\n' && (at == 0 || bytes[at - 1] != b'\r');
    if (0..seen).any(bare) {
        return Read::Broken;
    }
    let Some(length) = parsed else { return Read::Partial };
    match meaning(&request) {
        Some((spoken, body)) => Read::Head(Head { spoken, length, body }),
        None => Read::Broken,
    }
}

fn meaning(request: &httparse::Request) -> Option<(Spoken, Body)> {
    let (method, target) = (request.method?, request.path?);
    let body = body(request)?;
    let said = match only(request, "host")? {
        Some("") => None,
        Some(value) => Some(authority(value)?),
        None => None,
    };
    let agrees = |host: &str| said.as_ref().is_none_or(|(said, _)| said == host);
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        // A body would be the first bytes of the tunnel, or not.
        return (agrees(&host) && body == Body::Length(0))
            .then_some((Spoken::Connect { host, port: port? }, body));
    }
    let place = if target.starts_with('/') || target == "*" {
        said
    } else {
        let (scheme, rest) = target.split_once("://")?;
        if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        let (host, port) = authority(rest.split(['/', '?', '#']).next()?)?;
        let usual =
            if ["https", "wss"].iter().any(|tls| scheme.eq_ignore_ascii_case(tls)) { 443 } else { 80 };
        agrees(&host).then_some(Some((host, port.or(Some(usual)))))?
    };
    let (host, port) = place.map_or((None, None), |(host, port)| (Some(host), port));
    Some((Spoken::Http { host, port, method: method.to_owned() }, body))
}

/// The value of a header that must not stand there twice; `None` if it does.
fn only<'a>(request: &'a httparse::Request, name: &str) -> Option<Option<&'a str>> {
    let mut values = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
    let first = values.next();
    if values.next().is_some() {
        return None;
    }
    first.map(|h| std::str::from_utf8(h.value).ok().map(str::trim)).map_or(Some(None), |v| v.map(Some))
}

fn body(request: &httparse::Request) -> Option<Body> {
    match (only(request, "content-length")?, only(request, "transfer-encoding")?) {
        (None, None) => Some(Body::Length(0)),
        (Some(length), None) => {
            let plain =
                !length.is_empty() && length.len() <= 15 && length.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| length.parse().ok().map(Body::Length))?
        }
        (None, Some(coding)) => {
            (coding.eq_ignore_ascii_case("chunked") && request.version == Some(1)).then_some(Body::Chunked)
        }
        (Some(_), Some(_)) => None,
    }
}

/// `host` or `host:port`, nothing else.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let number = |port: &str| port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(number(port)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((address.to_string(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(number(port)?)),
        None => (text, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let host = normal(host);
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(plain)).then_some((host, port))
}

/// What a proxy says to a `CONNECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Not enough yet.
    Partial,
    /// The tunnel stands.
    Tunnel,
    /// It does not.
    Refused,
}

/// Reads the answer to a `CONNECT`.
pub(super) fn read_answer(mut bytes: &[u8]) -> Answer {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match (response.parse(bytes), response.code) {
            (Ok(httparse::Status::Partial), _) => return Answer::Partial,
            (Ok(httparse::Status::Complete(_)), Some(200..=299)) => return Answer::Tunnel,
            (Ok(httparse::Status::Complete(end)), Some(100 | 102..=199)) => bytes = &bytes[end..],
            _ => return Answer::Refused,
        }
    }
}
