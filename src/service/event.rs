//! What the server tells its owner.
//!
//! Nodes act on these events (they promote peers that are dialable, they block ones that misbehave),
//! so a served request says what became of the dial-back and never just that an answer was written.
//! What strangers can cause without limit (rejections, violations) is counted and reported at most
//! once a second per cause.

use std::{net::IpAddr, time::Duration};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use super::{DialBackOutcome, Limit, PassedOver};
use crate::protocol::{DialStatus, ResponseStatus};

/// An event of the [`Behaviour`](crate::server::Behaviour).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A request that was admitted has ended, whichever way. One per request.
    Served(Box<Served>),
    /// Requests were answered with `E_REQUEST_REJECTED` before they were read.
    Rejected(Rejected),
    /// Clients broke the protocol, and their stream was reset or dropped. Nothing was dialed for it, but for
    /// [`Misbehaviour::Unasked`].
    Misbehaved(Misbehaved),
    /// The server was put into a swarm that ran already. Once for a behaviour, with the first connection that shows it.
    JoinedLate(JoinedLate),
}

/// One request, from the stream's opening to its end.
///
/// The `tracing` span `autonat_v2_dial_request` (level `DEBUG`) around each request has the same fields by the same
/// names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Who asked.
    pub client: PeerId,
    /// On which connection it asked.
    pub connection_id: ConnectionId,
    /// The client's IP as seen on that connection; `None` if it is relayed.
    pub observed_ip: Option<IpAddr>,
    /// The addresses that it asked about, those that parsed, up to the number that may be inspected.
    pub asked: Vec<Multiaddr>,
    /// How many addresses the request had in all.
    pub asked_in_all: usize,
    /// The address that was chosen, with its position in the request.
    pub tested: Option<(u32, Multiaddr)>,
    /// The addresses before it, by position, and why each was passed over.
    pub passed_over: Vec<(u32, PassedOver)>,
    /// Dial data asked for, in bytes. Zero if the client's IP was the dialed one.
    pub dial_data_requested: u64,
    /// Dial data received, in bytes.
    pub dial_data_received: u64,
    /// What became of the dial-back; `None` if none was made.
    pub dial_back: Option<DialBackOutcome>,
    /// The limit that stopped the request after it was read, if one did.
    pub limit: Option<Limit>,
    /// The status sent, or `None` if the request ended without an answer.
    pub status: Option<ResponseStatus>,
    /// The dial status sent. Only means something if `status` is [`ResponseStatus::Ok`].
    pub dial_status: Option<DialStatus>,
    /// How it ended.
    pub end: End,
    /// From the opening of the stream to its end.
    pub duration: Duration,
}

impl Served {
    pub(crate) const fn new(
        client: PeerId,
        connection_id: ConnectionId,
        observed_ip: Option<IpAddr>,
    ) -> Self {
        Self {
            client,
            connection_id,
            observed_ip,
            asked: Vec::new(),
            asked_in_all: 0,
            tested: None,
            passed_over: Vec::new(),
            dial_data_requested: 0,
            dial_data_received: 0,
            dial_back: None,
            limit: None,
            status: None,
            dial_status: None,
            end: End::ClientLeft,
            duration: Duration::ZERO,
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// The answer was written in full. Whether the client has read it is unknown.
    Answered,
    /// The client closed or reset the stream, or its connection is gone, before the answer was
    /// written. Also how a client declines to send dial data. Nobody's fault.
    ClientLeft,
    /// The answer was ready, but could not be written within the deadline.
    NotAnswered,
    /// The client broke the protocol; the stream was reset.
    Misbehaved(Misbehaviour),
}

/// Requests that were turned away unread, summed up. At most one event per second and limit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The limit that they were over.
    pub limit: Limit,
    /// How many there were since the last such event.
    pub count: u64,
    /// The client of the last one.
    pub client: PeerId,
    /// The connection of the last one.
    pub connection_id: ConnectionId,
}

/// Violations of the protocol, summed up. At most one event per second and cause.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Misbehaved {
    /// What the clients did.
    pub cause: Misbehaviour,
    /// How many times since the last such event.
    pub count: u64,
    /// The client of the last one.
    pub client: PeerId,
    /// The connection of the last one.
    pub connection_id: ConnectionId,
}

/// A behaviour does not hear of what its swarm did before it joined. From the connection that showed it this server has learned
/// of one listener; it serves, but
///
/// * connections that were open before have no part in it, and their peers are not served on them;
/// * it dials what it has evidence for, as ever, which grows with each connection: the listeners that it does not know are
///   none;
/// * external addresses that were confirmed before are not known, so that it does not know a NAT's public IP for its own. What
///   the operating system knows of this host it does know.
///
/// [`Behaviour::catch_up`](crate::server::Behaviour::catch_up) spares all but the first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinedLate {
    /// The listener that a connection came in on.
    pub listen_addr: Multiaddr,
}

impl JoinedLate {
    pub(crate) const fn new(listen_addr: Multiaddr) -> Self {
        Self { listen_addr }
    }
}

/// What a client did that the protocol does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// More streams on one connection than the server keeps open
    /// ([`Config::with_max_streams_per_connection`](super::Config::with_max_streams_per_connection)). They were dropped
    /// unread.
    TooManyStreams,
    /// The request was not complete in time.
    SlowRequest,
    /// The first message was something other than a `DialRequest`.
    NotARequest,
    /// The request had addresses but no nonce that can be read.
    NoNonce,
    /// Bytes that are not a message.
    Garbage,
    /// A message longer than allowed. It was not read.
    TooLong,
    /// The dial data was not complete in time.
    SlowDialData,
    /// Another message where dial data was due.
    NotDialData,
    /// Dial data in messages under 100 bytes.
    SmallDialData,
    /// Messages of dial data that are made of other things, such as unknown fields, which pay nothing.
    PaddedDialData,
    /// A message that nobody asked for, such as a second request on the stream. The dial that the first one asked for may
    /// have gone out by then; it was aborted, or its connection closed.
    Unasked,
}

impl Misbehaviour {
    /// The cause in a few words, as written to the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooManyStreams => "too many streams",
            Self::SlowRequest => "slow request",
            Self::NotARequest => "not a request",
            Self::NoNonce => "no nonce",
            Self::Garbage => "garbage",
            Self::TooLong => "message too long",
            Self::SlowDialData => "slow dial data",
            Self::NotDialData => "not dial data",
            Self::SmallDialData => "small dial data",
            Self::PaddedDialData => "padded dial data",
            Self::Unasked => "unasked message",
        }
    }
}
