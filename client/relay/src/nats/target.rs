//! Where the servers of NATS are, and as whom they are spoken to.
//!
//! Deliberately not here: printing a password. What is shown of a target is its hosts.

use std::fmt;
use std::path::PathBuf;

use async_nats::ServerAddr;
use thiserror::Error;

/// See the module.
#[derive(Clone)]
pub struct Target {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) credentials: Option<PathBuf>,
}

/// It is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// There is no such destination.
    #[error("cannot relay to {scheme}: supported are nats:// and tls:// (NATS JetStream)")]
    Scheme {
        /// What stands before `://`, or that there is nothing.
        scheme: String,
    },
    /// It cannot be read. What it is is not repeated here: there may be a password in it.
    #[error("the address of NATS is not one: write nats://[user:password@]host[:4222][,host2…] ({0})")]
    Address(String),
}

impl Target {
    /// Reads `nats://[user:password@]host[:4222][,host2…]`, or the same with `tls://`. Each address after the first may
    /// have a scheme and a user of its own.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| TargetError::Scheme { scheme: "something without a scheme".to_owned() })?;
        if !matches!(scheme, "nats" | "tls") {
            return Err(TargetError::Scheme { scheme: format!("{scheme}://") });
        }
        let mut servers = Vec::new();
        for part in rest.split(',') {
            let address = if part.contains("://") { part.to_owned() } else { format!("{scheme}://{part}") };
            let server: ServerAddr =
                address.parse().map_err(|error: std::io::Error| TargetError::Address(error.to_string()))?;
            if server.host().is_empty() {
                return Err(TargetError::Address("a host is missing".to_owned()));
            }
            if !matches!(server.scheme(), "nats" | "tls") {
                return Err(TargetError::Scheme { scheme: format!("{}://", server.scheme()) });
            }
            servers.push(server);
        }
        Ok(Self { servers, credentials: None })
    }

    /// The file with the credentials of a user, as `nsc` makes it.
    #[must_use]
    pub fn credentials(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Some(path.into());
        self
    }

    /// User and password of the first address that has any: servers that are learnt of later want the same.
    pub(super) fn user(&self) -> Option<(String, String)> {
        let known = self.servers.iter().find(|server| server.has_user_pass())?;
        Some((known.username()?.to_owned(), known.password().unwrap_or_default().to_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> =
            self.servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        write!(f, "{}", hosts.join(","))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_servers_share_a_scheme() {
        let target = Target::parse("tls://a,b:4333,nats://c").unwrap();
        assert_eq!(target.to_string(), "a:4222,b:4333,c:4222");
        assert!(target.servers[0].tls_required() && target.servers[1].tls_required());
        assert!(!target.servers[2].tls_required());
    }

    #[test]
    fn a_password_is_never_shown() {
        let target = Target::parse("nats://me:s3cret@host").unwrap();
        assert_eq!(target.user(), Some(("me".to_owned(), "s3cret".to_owned())));
        assert_eq!(format!("{target} {target:?}"), "host:4222 Target(host:4222)");
        for bad in ["nats://me:s3cret@", "nats://me:s3cret@host:port", "nats://me:s3cret@a,,b"] {
            let error = Target::parse(bad).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_named_with_what_is() {
        for (text, named) in
            [("kafka://host", "kafka://"), ("localhost", "without a scheme"), ("ws://h", "ws://")]
        {
            let said = Target::parse(text).unwrap_err().to_string();
            assert!(said.contains(named) && said.contains("nats://"), "{said}");
        }
    }
}
