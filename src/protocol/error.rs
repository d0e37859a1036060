//! Why a message could not be read or written, one variant per cause.

use std::io;

/// Why a message could not be read.
///
/// All but [`Io`](Self::Io) and [`Truncated`](Self::Truncated) are the remote's fault: it sent
/// something that the specification has no meaning for. Those two may be the network's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The length prefix announces more than is allowed. Found out before the message arrived.
    #[error("message of {len} bytes, at most {max} are allowed")]
    LengthOverLimit {
        /// The announced length in bytes.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// The length prefix has more than ten bytes, or more than it needs.
    #[error("the length prefix is not a minimal unsigned varint")]
    MalformedLength,
    /// The stream ended inside a message.
    #[error("the stream ended inside a message")]
    Truncated,
    /// The bytes of the message are not protobuf.
    #[error("not a protobuf message")]
    Malformed(#[from] Malformed),
    /// A [`Message`](super::Message) with no variant that the specification knows.
    #[error("a message without content")]
    EmptyMessage,
    /// A [`DialResponse`](super::DialResponse) whose `status` the specification does not know. It
    /// says to discard the response.
    #[error("unknown response status {0}")]
    UnknownResponseStatus(i32),
    /// A [`DialResponse`](super::DialResponse) whose `dialStatus` the specification does not know.
    /// It says to discard the response.
    #[error("unknown dial status {0}")]
    UnknownDialStatus(i32),
    /// A [`DialBackResponse`](super::DialBackResponse) whose `status` the specification does not
    /// know.
    #[error("unknown dial-back status {0}")]
    UnknownDialBackStatus(i32),
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

impl DecodeError {
    /// Whether the stream can be read on: the bad message was taken off it whole, and the next
    /// read starts behind it. A server may send several responses on one stream, so that one bad
    /// one need not cost the others.
    ///
    /// Otherwise the start of the next message is lost, and reading again gives an error again.
    pub const fn is_resumable(&self) -> bool {
        match self {
            Self::Malformed(_)
            | Self::EmptyMessage
            | Self::UnknownResponseStatus(_)
            | Self::UnknownDialStatus(_)
            | Self::UnknownDialBackStatus(_) => true,
            Self::LengthOverLimit { .. }
            | Self::MalformedLength
            | Self::Truncated
            | Self::Io(_) => false,
        }
    }
}

impl From<DecodeError> for io::Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Io(error) => error,
            DecodeError::Truncated => Self::new(io::ErrorKind::UnexpectedEof, error),
            _ => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// In what way bytes are not protobuf (Protocol Buffers, "Encoding").
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A varint with more than 64 bits.
    #[error("a varint with more than 64 bits")]
    Varint,
    /// A field that reaches beyond the end of its message.
    #[error("a field reaches beyond the end of its message")]
    Overrun,
    /// A field number of 0, or one over 2^29 - 1.
    #[error("an impossible field number")]
    FieldNumber,
    /// A wire type that does not exist, 6 or 7, or that of a group, 3 or 4. proto3 has no groups.
    #[error("the impossible wire type {0}")]
    WireType(u8),
}

/// Why a message could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The message is longer than allowed, so that a remote would refuse it.
    #[error("message of {len} bytes, at most {max} are allowed")]
    LengthOverLimit {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More dial data than the specification allows in one message.
    #[error("{len} bytes of dial data, at most {max} are allowed")]
    DialDataOverLimit {
        /// How many bytes.
        len: usize,
        /// The limit in bytes, [`MAX_DIAL_DATA_CHUNK`](super::MAX_DIAL_DATA_CHUNK).
        max: usize,
    },
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

impl From<EncodeError> for io::Error {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Io(error) => error,
            _ => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}
