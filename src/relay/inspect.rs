//! What the first bytes of a connection say about whom it is for.

use rustls::server::Acceptor;

use super::http::{self, Read};

/// What a client said first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spoken {
    /// A TLS `ClientHello`.
    Tls {
        /// The name of the server, in lower case; `None` when the client names none or an
        /// address.
        server_name: Option<String>,
    },
    /// An HTTP/1 request.
    Http {
        /// The host that it is for, in lower case and without port: of the target where it
        /// is an address (and `Host` agrees), else of `Host`.
        host: Option<String>,
        /// The port that is named with it; where the target is an address, never `None`.
        port: Option<u16>,
        /// The method.
        method: String,
    },
    /// An HTTP request to a proxy for a tunnel.
    Connect {
        /// The far end, in lower case.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Something else, or something that two readers could read differently.
    Unknown,
}

/// What `TLSPlaintext.type` is for a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// Looks at the first bytes of a connection. `None`: not enough yet. What is said for
/// some bytes is also said for every longer beginning of the same connection.
pub fn inspect(first: &[u8]) -> Option<Spoken> {
    match first.first()? {
        &TLS_HANDSHAKE => client_hello(first),
        _ => match http::read_head(first) {
            Read::Partial => None,
            Read::Broken => Some(Spoken::Unknown),
            Read::Head(head) => Some(head.spoken),
        },
    }
}

fn client_hello(first: &[u8]) -> Option<Spoken> {
    let mut acceptor = Acceptor::default();
    // Record by record, so that what follows the message cannot change what is found.
    let mut rest = first;
    while let Some(header) = rest.first_chunk::<5>() {
        let end = 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        // Lengths beyond the protocol's and foreign types need not be waited for, and count
        // for nothing once they are there.
        if header[0] != TLS_HANDSHAKE || header[1] != 3 || end > 5 + 16384 {
            return Some(Spoken::Unknown);
        }
        let (mut record, after) = rest.split_at_checked(end)?;
        rest = after;
        while !record.is_empty() {
            match acceptor.read_tls(&mut record) {
                Ok(read) if read > 0 => {}
                _ => return Some(Spoken::Unknown),
            }
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().map(normal);
                return Some(Spoken::Tls { server_name });
            }
            Err(_) => return Some(Spoken::Unknown),
        }
    }
    None
}

/// A host name as policies have it.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal TLS 1.2 `ClientHello`, in records of at most `most` bytes.
    fn hello(name: Option<&str>, most: usize) -> Vec<u8> {
        fn sized(width: usize, body: &[u8]) -> Vec<u8> {
            let length = body.len().to_be_bytes();
            [&length[length.len() - width..], body].concat()
        }
        let mut extensions = vec![0, 13];
        extensions.extend(sized(2, &sized(2, &[4, 3, 8, 4])));
        if let Some(name) = name {
            extensions.extend([0, 0]);
            let entry = [vec![0], sized(2, name.as_bytes())].concat();
            extensions.extend(sized(2, &sized(2, &entry)));
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0]);
        body.extend(sized(2, &[0xc0, 0x2f]));
        body.extend([1, 0]);
        body.extend(sized(2, &extensions));
        let message = [vec![1], sized(3, &body)].concat();
        message.chunks(most).flat_map(|part| [vec![22, 3, 1], sized(2, part)].concat()).collect()
    }

    fn every_beginning_agrees(bytes: &[u8]) {
        let whole = inspect(bytes);
        let mut first = None;
        for end in 0..=bytes.len() {
            let said = inspect(&bytes[..end]);
            if first.is_none() {
                first = said;
            } else {
                assert_eq!(said, first, "after {end} of {bytes:02x?}");
            }
        }
        assert_eq!(first, whole);
    }

    #[test]
    fn a_client_hello_is_read_however_it_is_cut() {
        for most in [1, 3, 50, 16384] {
            let mut bytes = hello(Some("Good.Test"), most);
            let expected = Some(Spoken::Tls { server_name: Some("good.test".into()) });
            assert_eq!(inspect(&bytes), expected);
            bytes.extend(b"\x17\x03\x03\x00\x05early and more");
            assert_eq!(inspect(&bytes), expected);
            every_beginning_agrees(&bytes);
        }
        assert_eq!(inspect(&hello(None, 16384)), Some(Spoken::Tls { server_name: None }));
        assert_eq!(inspect(&hello(Some("127.0.0.1"), 16384)), Some(Spoken::Tls { server_name: None }));
        assert_eq!(inspect(b"\x16\x03\x01\xff\xff"), Some(Spoken::Unknown));
        assert_eq!(inspect(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"), Some(Spoken::Unknown));
    }

    fn http(host: Option<&str>, method: &str) -> Option<Spoken> {
        at(host, None, method)
    }

    fn at(host: Option<&str>, port: Option<u16>, method: &str) -> Option<Spoken> {
        Some(Spoken::Http { host: host.map(str::to_owned), port, method: method.into() })
    }

    #[test]
    fn a_request_says_its_host_once_and_clearly() {
        let unknown = Some(Spoken::Unknown);
        for (bytes, expected) in [
            ("GET / HTTP/1.1\r\nHost: Good.Test.:8080\r\n\r\n", at(Some("good.test"), Some(8080), "GET")),
            ("GET / HTTP/1.1\r\nhost:good.test\r\n\r\nGET ", http(Some("good.test"), "GET")),
            ("GET / HTTP/1.0\r\n\r\n", http(None, "GET")),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", http(None, "GET")),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", at(Some("::1"), Some(80), "GET")),
            ("GET http://a.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n", at(Some("a.test"), Some(80), "GET")),
            ("GET http://a.test:80 HTTP/1.1\r\n\r\n", at(Some("a.test"), Some(80), "GET")),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", http(Some("a"), "OPTIONS")),
            ("GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", unknown.clone()),
            ("GET http://a@b.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\nHost: a\n\n", unknown.clone()),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                unknown.clone(),
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", unknown.clone()),
            (
                "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
                Some(Spoken::Connect { host: "a.test".into(), port: 443 }),
            ),
            ("CONNECT [::1]:1 HTTP/1.1\r\n\r\n", Some(Spoken::Connect { host: "::1".into(), port: 1 })),
            ("CONNECT a.test HTTP/1.1\r\n\r\n", unknown.clone()),
            ("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n", unknown.clone()),
            ("CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n", unknown.clone()),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", unknown.clone()),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", unknown.clone()),
            ("SSH-2.0-x\r\n", unknown.clone()),
            ("\0", unknown.clone()),
            ("GET / HTTP/1.1\r\nHost: a\r\n", None),
            ("", None),
        ] {
            assert_eq!(inspect(bytes.as_bytes()), expected, "{bytes:?}");
            every_beginning_agrees(bytes.as_bytes());
        }
    }

    #[test]
    fn a_foreign_record_stays_foreign_when_it_is_complete() {
        // Found by the fuzzer: the version was looked at in an unfinished record only.
        every_beginning_agrees(&[0x16, 0, 2, 0, 7, 0x0c, 0, 0, 0x80, 0, 0x2b, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            every_beginning_agrees(&bytes);
        }

        #[test]
        fn a_changed_client_hello_neither_panics_nor_changes_its_mind(
            most in 1_usize..200, at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = hello(Some("good.test"), most);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            every_beginning_agrees(&bytes);
        }

        #[test]
        fn an_odd_request_neither_panics_nor_changes_its_mind(
            target in "[ -~]{0,20}", lines in "([ -~]{0,12}[:\r\n \t]{0,3}){0,6}",
        ) {
            every_beginning_agrees(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes());
        }
    }
}
