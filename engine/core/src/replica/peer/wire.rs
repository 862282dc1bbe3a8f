//! Messages as bytes.

use bytes::Bytes;
use thiserror::Error;

use super::Envelope;

/// Bytes of one message.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Not what was sent.
    #[error("the message is damaged: {0}")]
    Damaged(&'static str),
}

impl Envelope {
    /// The message as bytes.
    pub fn encode(&self) -> Bytes {
        Bytes::new()
    }

    /// # Errors
    /// [`WireError`] if these are not the bytes of a message.
    pub fn decode(_bytes: Bytes) -> Result<Self, WireError> {
        Err(WireError::Damaged("nothing"))
    }
}
