//! Where the servers are: `sluice://host:7400,host2:7400`.
//!
//! A URL is parsed once, before anything is connected; what comes out is a list of addresses that is never
//! empty. Deliberately not here: name lookup, which happens anew at every connection.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use sluice_protocol::DEFAULT_PORT;
use sluice_protocol::limits::ADDRESS_MAX;
use thiserror::Error;

/// Addresses in one URL. A cluster has a handful of nodes.
pub const ADDRESSES_MAX: usize = 16;

const SCHEME: &str = "sluice://";

/// Why a text is not a URL of Sluice servers.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// It does not start with `sluice://`.
    #[error("{got:?} does not start with \"sluice://\"; a URL looks like sluice://host:7400,host2:7400")]
    Scheme {
        /// The text.
        got: String,
    },
    /// There is no host between two commas, or none at all.
    #[error("address {position} is empty; a URL looks like sluice://host:7400,host2:7400")]
    NoHost {
        /// Which address, counted from 1.
        position: usize,
    },
    /// The host contains something that no host contains.
    #[error(
        "{got:?} is not a host: {found:?} cannot stand there; a URL looks like sluice://host:7400,host2:7400, \
         an IPv6 address like sluice://[::1]:7400"
    )]
    Host {
        /// The host.
        got: String,
        /// The first character that cannot stand there.
        found: char,
    },
    /// The port is not a number from 1 to 65535.
    #[error("{got:?} is not a port; allowed are 1 to 65535, and without one it is 7400")]
    Port {
        /// The port.
        got: String,
    },
    /// A bracket without its partner.
    #[error("{got:?} opens a bracket or closes one, not both; an IPv6 address looks like [::1]:7400")]
    Bracket {
        /// The address.
        got: String,
    },
    /// An address is too long for any server.
    #[error("an address of {got} bytes; allowed are {ADDRESS_MAX}")]
    TooLong {
        /// Its length, bytes.
        got: usize,
    },
    /// More addresses than [`ADDRESSES_MAX`].
    #[error("{got} addresses; allowed are {ADDRESSES_MAX}")]
    TooMany {
        /// How many.
        got: usize,
    },
}

/// Where one server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: NonZeroU16,
}

impl Address {
    /// Name or number of the host, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.get()
    }
}

/// `host:port`, with brackets around IPv6.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `host`, `host:port`, `[ipv6]` or `[ipv6]:port`.
impl FromStr for Address {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > ADDRESS_MAX {
            return Err(UrlError::TooLong { got: text.len() });
        }
        let (host, port) = split(text)?;
        Ok(Self { host: host.to_owned(), port: parse_port(port)? })
    }
}

/// Cuts an address into host and port, and checks the characters of the host.
fn split(text: &str) -> Result<(&str, Option<&str>), UrlError> {
    let bracket = || UrlError::Bracket { got: text.to_owned() };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or_else(bracket)?;
        check_host(host, |c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'))?;
        let port = match behind {
            "" => None,
            _ => Some(behind.strip_prefix(':').ok_or_else(bracket)?),
        };
        return Ok((host, port));
    }
    if text.contains(']') {
        return Err(bracket());
    }
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((host, port)) => (host, Some(port)),
    };
    check_host(host, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))?;
    Ok((host, port))
}

fn check_host(host: &str, allowed: impl Fn(char) -> bool) -> Result<(), UrlError> {
    if host.is_empty() {
        return Err(UrlError::NoHost { position: 1 });
    }
    match host.chars().find(|c| !allowed(*c)) {
        None => Ok(()),
        Some(found) => Err(UrlError::Host { got: host.to_owned(), found }),
    }
}

fn parse_port(text: Option<&str>) -> Result<NonZeroU16, UrlError> {
    let Some(text) = text else {
        return Ok(const { NonZeroU16::new(DEFAULT_PORT).expect("the default port is not zero") });
    };
    // The number parser would accept a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| UrlError::Port { got: text.to_owned() })
}

/// The addresses of a URL, in its order.
///
/// # Errors
/// [`UrlError`] names the part that is wrong and says what a URL looks like.
pub(crate) fn parse(url: &str) -> Result<Vec<Address>, UrlError> {
    let rest = url.strip_prefix(SCHEME).ok_or_else(|| UrlError::Scheme { got: url.to_owned() })?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let count = rest.split(',').count();
    if count > ADDRESSES_MAX {
        return Err(UrlError::TooMany { got: count });
    }
    let mut addresses = Vec::with_capacity(count);
    for (at, text) in rest.split(',').enumerate() {
        let address = text.parse().map_err(|error| match error {
            UrlError::NoHost { .. } => UrlError::NoHost { position: at + 1 },
            other => other,
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Vec<String> {
        parse(url).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn urls_that_are_urls() {
        assert_eq!(shown("sluice://localhost"), ["localhost:7400"]);
        assert_eq!(shown("sluice://10.0.0.1:9/"), ["10.0.0.1:9"]);
        assert_eq!(shown("sluice://a:1,b_2,c-3.example:3"), ["a:1", "b_2:7400", "c-3.example:3"]);
        assert_eq!(shown("sluice://[::1],[fe80::1]:12"), ["[::1]:7400", "[fe80::1]:12"]);
        assert_eq!(shown("sluice://a,a:7400,b"), ["a:7400", "b:7400"]);
    }

    #[test]
    fn urls_that_are_not() {
        let rows: [(&str, UrlError); 17] = [
            ("", UrlError::Scheme { got: String::new() }),
            ("localhost:7400", UrlError::Scheme { got: "localhost:7400".into() }),
            ("http://a", UrlError::Scheme { got: "http://a".into() }),
            ("sluice://", UrlError::NoHost { position: 1 }),
            ("sluice:///", UrlError::NoHost { position: 1 }),
            ("sluice://a,,b", UrlError::NoHost { position: 2 }),
            ("sluice://a,", UrlError::NoHost { position: 2 }),
            ("sluice://a,:7400", UrlError::NoHost { position: 2 }),
            ("sluice://[]:1", UrlError::NoHost { position: 1 }),
            ("sluice://a:", UrlError::Port { got: String::new() }),
            ("sluice://a:0", UrlError::Port { got: "0".into() }),
            ("sluice://a:+1", UrlError::Port { got: "+1".into() }),
            ("sluice://a:65536", UrlError::Port { got: "65536".into() }),
            ("sluice://::1", UrlError::NoHost { position: 1 }),
            ("sluice://[::1", UrlError::Bracket { got: "[::1".into() }),
            ("sluice://me@a", UrlError::Host { got: "me@a".into(), found: '@' }),
            ("sluice://a/b", UrlError::Host { got: "a/b".into(), found: '/' }),
        ];
        for (url, expected) in rows {
            assert_eq!(parse(url), Err(expected), "{url}");
        }
    }

    #[test]
    fn bounds() {
        let many = format!("sluice://{}", vec!["a"; ADDRESSES_MAX + 1].join(","));
        assert_eq!(parse(&many), Err(UrlError::TooMany { got: ADDRESSES_MAX + 1 }));
        let long = format!("sluice://{}", "a".repeat(ADDRESS_MAX + 1));
        assert_eq!(parse(&long), Err(UrlError::TooLong { got: ADDRESS_MAX + 1 }));
    }
}
