//! What became of a dial-back, and what the client is told. Only what the network did to a dial that went out is
//! `E_DIAL_ERROR`; whatever this node did to it is a refusal, a rejection or an internal error, none of which says anything
//! about the client.

use std::io;

use libp2p_identity::PeerId;

use crate::protocol::{DialStatus, ResponseStatus};

/// What became of a dial-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialBackOutcome {
    /// The client acknowledged the nonce: the address is reachable. Answered `OK`.
    Delivered,
    /// A connection to the client was established, but the nonce was not acknowledged. Answered
    /// `E_DIAL_BACK_ERROR`, but for [`NotDelivered::Reset`].
    NotDelivered(NotDelivered),
    /// The network failed the dial, in the way that this kind of error tells. Answered
    /// `E_DIAL_ERROR`.
    DialFailed(io::ErrorKind),
    /// The dial was not established in time. Answered `E_DIAL_ERROR`.
    DialTimedOut,
    /// The dial was not established, but it had no fair chance: it went out when the request had little time left, or
    /// this node was too busy to follow it. Says nothing about the address. Answered `E_INTERNAL_ERROR`.
    DialGivenUp,
    /// Another peer than the client lives at the address. Answered `E_DIAL_ERROR`.
    WrongPeer(PeerId),
    /// This node did not dial, or undid it. Says nothing about the address.
    NotDialed(NotDialed),
}

/// Why the nonce was not acknowledged. Whether it arrived is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotDelivered {
    /// The client does not speak `/libp2p/autonat/2/dial-back`.
    ProtocolNotSupported,
    /// The client reset the stream after the nonce was written. Answered `OK`, for go-libp2p's clients reset it right
    /// after the acknowledgement, and over QUIC the reset overtakes what was written before it. A client that did
    /// not want the nonce is not deceived: it knows what it has. Over yamux a reset looks like
    /// [`StreamClosed`](Self::StreamClosed), but overtakes nothing.
    Reset,
    /// The client closed the stream without an answer.
    StreamClosed,
    /// The client answered with something other than a `DialBackResponse`.
    WrongAnswer,
    /// The client did not answer in time.
    TimedOut,
    /// The connection was lost, or closed by the client.
    ConnectionLost,
}

/// Why this node did not dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotDialed {
    /// One of the node's own behaviours forbade it: a connection limit, a block list. Answered
    /// `E_REQUEST_REJECTED`.
    Denied,
    /// No transport of this node can dial the address. Answered `E_DIAL_REFUSED`.
    NotSupported,
    /// The node listens on this very address. Answered `E_DIAL_REFUSED`.
    OwnAddress,
    /// This host has no route to the address. Answered `E_DIAL_REFUSED`. Where it has one, and had a connection of that
    /// family and transport within the hour, and a router on the way says that the network can't be reached, that is
    /// [`DialBackOutcome::DialFailed`].
    NoRoute,
    /// This host lacked the means, such as a free socket or the permission. Answered
    /// `E_INTERNAL_ERROR`.
    LocalFailure,
    /// The node's owner cut off all connections to the client, or this node closed the dial-back before the client had
    /// time to acknowledge the nonce. Answered `E_INTERNAL_ERROR`.
    Aborted,
}

impl DialBackOutcome {
    /// The outcome in a few fixed words, for logs and metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NotDelivered(NotDelivered::ProtocolNotSupported) => "protocol not supported",
            Self::NotDelivered(NotDelivered::Reset) => "reset",
            Self::NotDelivered(NotDelivered::StreamClosed) => "stream closed",
            Self::NotDelivered(NotDelivered::WrongAnswer) => "wrong answer",
            Self::NotDelivered(NotDelivered::TimedOut) => "nonce timed out",
            Self::NotDelivered(NotDelivered::ConnectionLost) => "connection lost",
            Self::DialFailed(_) => "dial failed",
            Self::DialTimedOut => "dial timed out",
            Self::DialGivenUp => "dial given up",
            Self::WrongPeer(_) => "wrong peer",
            Self::NotDialed(NotDialed::Denied) => "denied",
            Self::NotDialed(NotDialed::NotSupported) => "not supported",
            Self::NotDialed(NotDialed::OwnAddress) => "own address",
            Self::NotDialed(NotDialed::NoRoute) => "no route",
            Self::NotDialed(NotDialed::LocalFailure) => "local failure",
            Self::NotDialed(NotDialed::Aborted) => "aborted",
        }
    }

    /// The statuses that the client reads.
    pub const fn statuses(&self) -> (ResponseStatus, DialStatus) {
        match self {
            Self::Delivered | Self::NotDelivered(NotDelivered::Reset) => {
                (ResponseStatus::Ok, DialStatus::Ok)
            }
            Self::NotDelivered(_) => (ResponseStatus::Ok, DialStatus::DialBackError),
            Self::DialFailed(_) | Self::DialTimedOut | Self::WrongPeer(_) => {
                (ResponseStatus::Ok, DialStatus::DialError)
            }
            Self::NotDialed(NotDialed::Denied) => {
                (ResponseStatus::RequestRejected, DialStatus::Unused)
            }
            Self::NotDialed(
                NotDialed::NotSupported | NotDialed::OwnAddress | NotDialed::NoRoute,
            ) => (ResponseStatus::DialRefused, DialStatus::Unused),
            Self::DialGivenUp | Self::NotDialed(NotDialed::LocalFailure | NotDialed::Aborted) => {
                (ResponseStatus::InternalError, DialStatus::Unused)
            }
        }
    }
}
