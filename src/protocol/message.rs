//! The messages of the specification as Rust types. Nothing here knows how they are encoded.

use std::fmt;

use libp2p_core::Multiaddr;

/// A message on a stream of [`DIAL_REQUEST_PROTOCOL`](super::DIAL_REQUEST_PROTOCOL).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message {
    /// Client to server, the first message of a stream: dial one of these addresses.
    DialRequest(DialRequest),
    /// Server to client: what became of it.
    DialResponse(DialResponse),
    /// Server to client: pay for the dial first.
    DialDataRequest(DialDataRequest),
    /// Client to server: a part of the payment.
    ///
    /// The bytes themselves mean nothing, so a decoder counts and drops them, and an encoder
    /// writes zeros. To send a whole payment, see [`DialData`](super::DialData).
    DialDataResponse {
        /// Number of bytes in `data`, the only ones that count. An encoder takes at most
        /// [`MAX_DIAL_DATA_CHUNK`](super::MAX_DIAL_DATA_CHUNK), a decoder as many as fit into a
        /// message.
        len: usize,
    },
}

/// Asks a server to dial one of the client's addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialRequest {
    /// The addresses in falling priority. `None` stands for one that does not parse, so that an
    /// index means the same on both sides.
    ///
    /// A decoder reads as many as its [`Limits`](super::Limits) say.
    pub addrs: Vec<Option<Multiaddr>>,
    /// What the server must hand over when it dials back. 0 if the message has none, see
    /// [`has_nonce`](Self::has_nonce).
    pub nonce: u64,
    /// How the nonce is written. The dial-back has it likewise.
    pub nonce_encoding: NonceEncoding,
    /// How many addresses the message had behind those in `addrs`. They were not looked at, and an
    /// encoder does not write them.
    pub unread: usize,
    /// The message had no nonce that can be read, and an encoder writes none.
    pub(super) without_nonce: bool,
    /// What stood on the wire for each `None` in `addrs`, in order.
    pub(super) unparsed: Vec<Box<[u8]>>,
}

impl DialRequest {
    /// A request for these addresses, in falling priority.
    pub fn new(addrs: impl IntoIterator<Item = Multiaddr>, nonce: u64) -> Self {
        Self {
            addrs: addrs.into_iter().map(Some).collect(),
            nonce,
            ..Self::default()
        }
    }

    /// Whether there is a nonce. A decoder finds none where the message has no such field, or one of a kind that a nonce can't
    /// be of. A nonce of zero is one, and is written out.
    #[must_use]
    pub const fn has_nonce(&self) -> bool {
        !self.without_nonce
    }

    /// Has the nonce written like this. Default: as the specification has it.
    #[must_use]
    pub const fn with_nonce_encoding(mut self, encoding: NonceEncoding) -> Self {
        self.nonce_encoding = encoding;
        self
    }
}

/// How a nonce is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum NonceEncoding {
    /// As the specification has it: eight bytes, the lowest first.
    #[default]
    Fixed64,
    /// As nim-libp2p reads and writes it until 2.0.0, and nobody else.
    Varint,
}

/// A nonce, and how it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nonce {
    pub(crate) number: u64,
    pub(crate) encoding: NonceEncoding,
}

impl From<&DialRequest> for Nonce {
    fn from(request: &DialRequest) -> Self {
        Self {
            number: request.nonce,
            encoding: request.nonce_encoding,
        }
    }
}

/// Says what became of a [`DialRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a message of the specification")]
pub struct DialResponse {
    /// What became of the request as a whole.
    pub status: ResponseStatus,
    /// Which address was dialed. Means nothing unless `status` is `Ok`. The remote may send any
    /// number.
    pub addr_idx: u32,
    /// What became of the dial. Means nothing unless `status` is `Ok`.
    pub dial_status: DialStatus,
}

impl DialResponse {
    /// A response that says nothing about any address.
    pub const fn without_dial(status: ResponseStatus) -> Self {
        Self {
            status,
            addr_idx: 0,
            dial_status: DialStatus::Unused,
        }
    }
}

/// Asks the client for dial data, before an address is dialed that is not evidently its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a message of the specification")]
pub struct DialDataRequest {
    /// Which address is to be dialed. The remote may send any number.
    pub addr_idx: u32,
    /// How many bytes of dial data, [`MIN_DIAL_DATA`](super::MIN_DIAL_DATA) to
    /// [`MAX_DIAL_DATA`](super::MAX_DIAL_DATA) by the specification. The remote may send any
    /// number.
    pub num_bytes: u64,
}

/// Hands over the nonce of a [`DialRequest`] on the connection that was dialed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a message of the specification")]
pub struct DialBack {
    /// The nonce of the request.
    pub nonce: u64,
}

/// Says that a [`DialBack`] has arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a message of the specification")]
pub struct DialBackResponse {
    /// The only status that there is.
    pub status: DialBackStatus,
}

/// What became of a request as a whole (`DialResponse.ResponseStatus` in the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResponseStatus {
    /// `E_INTERNAL_ERROR`, 0: the server failed for reasons of its own.
    InternalError,
    /// `E_REQUEST_REJECTED`, 100: the server is over a limit.
    RequestRejected,
    /// `E_DIAL_REFUSED`, 101: the server will not or cannot dial any of the addresses.
    DialRefused,
    /// `OK`, 200: an address was dialed, see [`DialStatus`].
    Ok,
}

impl ResponseStatus {
    /// The name in the specification's protobuf.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InternalError => "E_INTERNAL_ERROR",
            Self::RequestRejected => "E_REQUEST_REJECTED",
            Self::DialRefused => "E_DIAL_REFUSED",
            Self::Ok => "OK",
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> i32 {
        match self {
            Self::InternalError => 0,
            Self::RequestRejected => 100,
            Self::DialRefused => 101,
            Self::Ok => 200,
        }
    }

    /// The status for a number on the wire, `None` if the specification has none.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::InternalError),
            100 => Some(Self::RequestRejected),
            101 => Some(Self::DialRefused),
            200 => Some(Self::Ok),
            _ => None,
        }
    }
}

/// The name in the specification.
impl fmt::Display for ResponseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of the dial (`DialStatus` in the specification).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DialStatus {
    /// `UNUSED`, 0: no address was dialed.
    Unused,
    /// `E_DIAL_ERROR`, 100: no connection to the address.
    DialError,
    /// `E_DIAL_BACK_ERROR`, 101: connected, but the nonce was not delivered.
    DialBackError,
    /// `OK`, 200: the nonce was delivered.
    Ok,
}

impl DialStatus {
    /// The name in the specification's protobuf.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unused => "UNUSED",
            Self::DialError => "E_DIAL_ERROR",
            Self::DialBackError => "E_DIAL_BACK_ERROR",
            Self::Ok => "OK",
        }
    }

    /// The number on the wire.
    pub const fn code(self) -> i32 {
        match self {
            Self::Unused => 0,
            Self::DialError => 100,
            Self::DialBackError => 101,
            Self::Ok => 200,
        }
    }

    /// The status for a number on the wire, `None` if the specification has none.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Unused),
            100 => Some(Self::DialError),
            101 => Some(Self::DialBackError),
            200 => Some(Self::Ok),
            _ => None,
        }
    }
}

/// The name in the specification.
impl fmt::Display for DialStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a [`DialBack`] (`DialBackResponse.DialBackStatus` in the specification).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DialBackStatus {
    /// `OK`, 0: it arrived.
    #[default]
    Ok,
}

impl DialBackStatus {
    /// The number on the wire.
    pub const fn code(self) -> i32 {
        match self {
            Self::Ok => 0,
        }
    }

    /// The status for a number on the wire, `None` if the specification has none.
    pub const fn from_code(code: i32) -> Option<Self> {
        match code {
            0 => Some(Self::Ok),
            _ => None,
        }
    }
}

/// The name in the specification.
impl fmt::Display for DialBackStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "OK",
        })
    }
}
