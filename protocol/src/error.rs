//! Everything that can be wrong with bytes. Exhaustive and `Copy`: a decoder never allocates to complain.

use thiserror::Error;

/// Why bytes were refused. The server answers with a fault frame of [`DecodeError::code`] and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The first four bytes of a frame are not `SLC1`: not this protocol, or the stream lost its place.
    #[error(
        "frame starts with {got:#010x} instead of the magic \"SLC1\": is this a Sluice client, and in step?"
    )]
    BadMagic {
        /// The four bytes, read as a little-endian number.
        got: u32,
    },
    /// The frame names a version that was not agreed on.
    #[error("frame has protocol version {got}, agreed was {agreed}")]
    BadVersion {
        /// The version in the frame.
        got: u8,
        /// The version of this connection.
        agreed: u8,
    },
    /// The body would exceed the limit for its kind. Nothing was allocated for it.
    #[error("body of {got} bytes exceeds the limit of {limit}")]
    BodyTooLong {
        /// The announced length, bytes.
        got: u32,
        /// The limit, bytes.
        limit: u32,
    },
    /// No such kind, or one that this side never accepts.
    #[error("frame kind {got:#04x} is unknown here")]
    BadKind {
        /// The kind's byte.
        got: u8,
    },
    /// A byte that must be zero in this version is not.
    #[error("reserved byte at offset {offset} is not zero")]
    ReservedNotZero {
        /// Its offset from the start of the header, or of the item when the header is sound.
        offset: u32,
    },
    /// Header and body do not match their checksum.
    #[error("checksum is {got:#010x}, the bytes give {computed:#010x}")]
    BadChecksum {
        /// The checksum in the header.
        got: u32,
        /// The checksum of what arrived.
        computed: u32,
    },
    /// The body's length is not what its item count demands.
    #[error("body of {got} bytes does not hold what it announces ({expected} bytes)")]
    BadLength {
        /// The body's length, bytes.
        got: u32,
        /// What count and kind demand, bytes.
        expected: u32,
    },
    /// More items than a frame of this kind may hold, or none where there must be some.
    #[error("a frame of this kind cannot hold {got} items (its limit is {limit})")]
    BadCount {
        /// The count in the header.
        got: u32,
        /// The limit.
        limit: u32,
    },
    /// A budget beyond [`crate::limits::BUDGET_MS_MAX`].
    #[error("budget of {got} ms exceeds the limit of {limit} ms")]
    BudgetTooLong {
        /// The budget in the header, milliseconds.
        got: u32,
        /// The limit, milliseconds.
        limit: u32,
    },
    /// Text that must be UTF-8 is not.
    #[error("text is not UTF-8")]
    BadText,
    /// A byte that must name one of a few things names none of them.
    #[error("byte {got} is not one of the values allowed here")]
    BadEnum {
        /// The byte.
        got: u8,
    },
}

impl DecodeError {
    /// The code under which a fault frame reports this error.
    pub fn code(self) -> FaultCode {
        match self {
            Self::BadMagic { .. } => FaultCode::BadMagic,
            Self::BadVersion { .. } => FaultCode::BadVersion,
            Self::BodyTooLong { .. } => FaultCode::BodyTooLong,
            Self::BadKind { .. } => FaultCode::BadKind,
            Self::ReservedNotZero { .. } => FaultCode::ReservedNotZero,
            Self::BadChecksum { .. } => FaultCode::BadChecksum,
            Self::BadLength { .. } => FaultCode::BadLength,
            Self::BadCount { .. } => FaultCode::BadCount,
            Self::BudgetTooLong { .. } => FaultCode::BudgetTooLong,
            Self::BadText => FaultCode::BadText,
            Self::BadEnum { .. } => FaultCode::BadEnum,
        }
    }
}

/// Why the server closes a connection. Sent in a fault frame, the last frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum FaultCode {
    /// See [`DecodeError::BadMagic`].
    BadMagic = 1,
    /// See [`DecodeError::BadVersion`].
    BadVersion = 2,
    /// See [`DecodeError::BodyTooLong`].
    BodyTooLong = 3,
    /// See [`DecodeError::BadKind`].
    BadKind = 4,
    /// See [`DecodeError::ReservedNotZero`].
    ReservedNotZero = 5,
    /// See [`DecodeError::BadChecksum`].
    BadChecksum = 6,
    /// See [`DecodeError::BadLength`].
    BadLength = 7,
    /// See [`DecodeError::BadCount`].
    BadCount = 8,
    /// See [`DecodeError::BudgetTooLong`].
    BudgetTooLong = 9,
    /// See [`DecodeError::BadText`].
    BadText = 10,
    /// See [`DecodeError::BadEnum`].
    BadEnum = 11,
    /// The client's version range does not contain one that the server speaks.
    NoCommonVersion = 32,
    /// A request came before the hello.
    HelloExpected = 33,
    /// A second hello came.
    HelloRepeated = 34,
    /// The hello did not arrive in time.
    HandshakeTimeout = 35,
    /// Nothing arrived for longer than the server keeps idle connections.
    IdleTimeout = 36,
    /// The server has as many connections as it may.
    TooManyConnections = 37,
    /// The server is going away; other nodes or a later attempt will serve.
    ShuttingDown = 38,
    /// The server was short of memory, and this client was slow to complete a frame or to take its replies.
    SlowClient = 39,
}

impl FaultCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::BadMagic,
        Self::BadVersion,
        Self::BodyTooLong,
        Self::BadKind,
        Self::ReservedNotZero,
        Self::BadChecksum,
        Self::BadLength,
        Self::BadCount,
        Self::BudgetTooLong,
        Self::BadText,
        Self::BadEnum,
        Self::NoCommonVersion,
        Self::HelloExpected,
        Self::HelloRepeated,
        Self::HandshakeTimeout,
        Self::IdleTimeout,
        Self::TooManyConnections,
        Self::ShuttingDown,
        Self::SlowClient,
    ];

    /// The code of a number, if there is one.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| *code as u16 == number)
    }

    /// Whether the same client may simply connect again, here or elsewhere.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::HandshakeTimeout
                | Self::IdleTimeout
                | Self::TooManyConnections
                | Self::ShuttingDown
                | Self::SlowClient
        )
    }
}
