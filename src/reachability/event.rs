//! What the core asks for and what it tells: probes, confirmations, events and reports.

use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::reachability::{
    candidates::Sources, contacts::Vantage, observations::NatMapping, servers::ProbeId,
    verdict::Verdict,
};

/// What the core wants done.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Output {
    /// Send a request; its end must be told by [`Reachability::on_probe_end`](super::Reachability::on_probe_end).
    Probe(ProbeRequest),
    /// Tell the swarm that this external address is confirmed.
    Confirm(Multiaddr),
    /// Tell the swarm that this external address is so no longer.
    Expire(Multiaddr),
    /// Tell the user.
    Event(Event),
}

/// A request to send to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProbeRequest {
    /// Comes back in all that is told about it.
    pub id: ProbeId,
    /// Whom to ask.
    pub server: PeerId,
    /// On which connection.
    pub connection: ConnectionId,
    /// From one to ten addresses; the one to be decided comes first.
    pub addrs: Vec<Multiaddr>,
    /// The nonce that the dial-back has to bring.
    pub nonce: u64,
    /// How long the request may take in all.
    pub timeout: Duration,
}

/// How an exchange with a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeEnd {
    /// The server closed the stream, or answered for every address, if only with a status that is not known.
    Completed,
    /// The stream broke off or could not be read or written.
    Reset,
    /// The connection closed.
    ConnectionClosed,
    /// The time for it ran out.
    Timeout,
    /// The server does not speak the protocol on that connection.
    Unsupported,
    /// The server asked for more dial data than the budget has left.
    DialDataRefused,
    /// The server broke the protocol.
    ProtocolViolation(Violation),
}

impl ProbeEnd {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Reset => "reset",
            Self::ConnectionClosed => "connection-closed",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::DialDataRefused => "dial-data-refused",
            Self::ProtocolViolation(_) => "protocol-violation",
        }
    }
}

/// What a server did against the protocol. A nonce that it delivered counts all the same: it is the proof, not the server's
/// word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Violation {
    /// A message that can't be decoded. A response with a status that is not known is none: it is discarded.
    Undecodable,
    /// A message longer than the protocol has any.
    TooLong,
    /// A message that a client sends.
    UnexpectedMessage,
    /// A request for dial data for an address that was not in the request, or a second one for the same.
    DialDataIndex,
    /// A request for more than 100,000 bytes of dial data.
    DialDataSize,
    /// A response for an address that was not in the request or was answered already, or without a dial status.
    Response,
    /// More responses than addresses.
    TooManyResponses,
}

/// What came of asking one server about one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeOutcome {
    /// The nonce came back over the address: proof.
    Reachable(Vantage),
    /// `E_DIAL_ERROR`: the server could not connect. Weak evidence: that may be the server's own fault.
    DialError,
    /// `E_DIAL_ERROR`, but so late that it may not have been dialed. No evidence.
    LateDialError,
    /// `E_DIAL_BACK_ERROR` and no nonce: it connected, but not to us or not for long. No evidence.
    DialBackError,
    /// The server claims a dial-back, but the nonce did not come in. No evidence.
    NonceMissing,
    /// `E_DIAL_REFUSED`. No evidence.
    Refused,
    /// A connection that may have been the dial-back was denied at this node, by a connection limit for example. No
    /// evidence, and no fault of the server's.
    DeniedHere,
    /// `E_REQUEST_REJECTED`. No evidence.
    Rejected,
    /// `E_INTERNAL_ERROR`. No evidence.
    InternalError,
    /// The exchange ended without an answer for the address. No evidence.
    NoAnswer(ProbeEnd),
}

impl ProbeOutcome {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reachable(_) => "reachable",
            Self::DialError => "dial-error",
            Self::LateDialError => "late-dial-error",
            Self::DialBackError => "dial-back-error",
            Self::NonceMissing => "nonce-missing",
            Self::DeniedHere => "denied-here",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::InternalError => "internal-error",
            Self::NoAnswer(end) => end.as_str(),
        }
    }

    /// Whether it says that the server dialed the address.
    pub(crate) const fn is_of_a_dial(self) -> bool {
        matches!(
            self,
            Self::Reachable(_)
                | Self::DialError
                | Self::LateDialError
                | Self::DialBackError
                | Self::DeniedHere
                | Self::NonceMissing
        )
    }

    /// Which of the outcomes of one request is reported for it, highest first: a proof, a failed dial, what is no evidence, a
    /// refusal.
    pub(crate) const fn weight(self) -> u8 {
        match self {
            Self::Reachable(_) => 3,
            Self::DialError => 2,
            Self::LateDialError
            | Self::DialBackError
            | Self::DeniedHere
            | Self::NonceMissing
            | Self::Rejected
            | Self::InternalError
            | Self::NoAnswer(_) => 1,
            Self::Refused => 0,
        }
    }
}

/// Why an address has no verdict, and gets none by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// All servers in reach refuse to dial it, or its kind: names and `/wss` mostly, or QUIC by servers that have just started.
    Refused,
    /// Dial-backs come in, but over another protocol stack or from the address's own network: a proxy in front of this node
    /// takes the connection and makes one of its own.
    Proxied,
    /// This node itself denied the dial-backs, by a connection limit for example.
    DeniedHere,
}

impl Obstacle {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Proxied => "proxied",
            Self::DeniedHere => "denied-here",
        }
    }
}

/// The canonical reduction of all verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Summary {
    /// Not known yet.
    #[default]
    Unknown,
    /// At least one address is reachable.
    Public,
    /// No tracked address is reachable.
    Private,
}

impl Summary {
    /// A fixed word for logs and metrics; the words of go-libp2p's `network.Reachability`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Public => "public",
            Self::Private => "private",
        }
    }
}

/// What the service tells the application.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A request leaves for a server.
    RequestStarted(RequestStarted),
    /// A server was asked about an address, and this came of it.
    Probed(Probed),
    /// A request is over: no answer and no nonce of it can count any more. One per request, after its
    /// [`Event::Probed`].
    RequestCompleted(RequestCompleted),
    /// The verdict on an address changed.
    #[non_exhaustive]
    VerdictChanged {
        /// The address, without this node's own `/p2p`.
        address: Multiaddr,
        /// The verdict before.
        old: Verdict,
        /// The verdict now.
        new: Verdict,
        /// From where it was proven, if it was.
        vantage: Option<Vantage>,
        /// The probability that the verdict is right, from 0 to 1.
        confidence: f64,
        /// The time from hearing of the address to its first verdict, in the event of that verdict; `None` in others.
        time_to_verdict: Option<Duration>,
    },
    /// The node has become public, private or unknown.
    #[non_exhaustive]
    SummaryChanged {
        /// The summary before.
        old: Summary,
        /// The summary now.
        new: Summary,
    },
    /// An address can't be tested, for a reason that waiting does not remove. Once for each reason, until there is an answer.
    #[non_exhaustive]
    Obstructed {
        /// The address, without this node's own `/p2p`.
        address: Multiaddr,
        /// What stands in the way.
        obstacle: Obstacle,
    },
    /// An address has become unstable, or is so no longer: servers that are able to dial it get in at times and at times do
    /// not, or the verdict has changed eight times within three hours. Then each verdict stands for a while, whatever is heard.
    #[non_exhaustive]
    StabilityChanged {
        /// The address, without this node's own `/p2p`.
        address: Multiaddr,
        /// Whether it is unstable now.
        unstable: bool,
    },
    /// There are too few servers to decide about an address. Connecting to more peers that speak the protocol helps.
    /// At most once a minute, and the less often the longer none comes.
    #[non_exhaustive]
    ServersWanted {
        /// How many can be asked about the address that waits. Servers on its own network can't, unless private addresses
        /// are allowed.
        known: usize,
        /// How many would do.
        wanted: usize,
    },
    /// How the NAT maps ports is known, or is another.
    #[non_exhaustive]
    NatMappingChanged {
        /// The mapping before.
        old: NatMapping,
        /// The mapping now.
        new: NatMapping,
    },
}

/// One request that leaves. Its [`RequestCompleted`] follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestStarted {
    /// Which request.
    pub probe: ProbeId,
    /// Who is asked.
    pub server: PeerId,
    /// About which addresses, from 1 to 10: the one to be decided first.
    pub addresses: Vec<Multiaddr>,
}

/// One answer, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probed {
    /// Which request.
    pub probe: ProbeId,
    /// Who was asked.
    pub server: PeerId,
    /// About which address; the first of the request where no answer named one.
    pub address: Multiaddr,
    /// What came of it.
    pub outcome: ProbeOutcome,
    /// Bytes of dial data paid in this request so far.
    pub dial_data: u64,
    /// Time since the request left.
    pub took: Duration,
    /// How many addresses the request named.
    pub addresses: usize,
}

/// One request, from its first byte to the last thing that could come of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestCompleted {
    /// Which request.
    pub probe: ProbeId,
    /// Who was asked.
    pub server: PeerId,
    /// How many addresses the request named, from 1 to 10.
    pub addresses: usize,
    /// The address that the server dialed, or says that it dialed. `None` if it dialed none or did not say.
    pub dialed: Option<Multiaddr>,
    /// The weightiest outcome. A request has several where a server answers for each address or passes over some.
    pub outcome: ProbeOutcome,
    /// Bytes of dial data paid.
    pub dial_data: u64,
    /// Time from the request's departure to that outcome.
    pub took: Duration,
}

/// All that is known about one address.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AddressReport {
    /// The address, without this node's own `/p2p`.
    pub address: Multiaddr,
    /// The verdict that stands.
    pub verdict: Verdict,
    /// Since when.
    pub since: Instant,
    /// The posterior probability that the verdict is right, by the evidence that has not expired, from 0 to 1. With
    /// [`Verdict::Unknown`] that of the likeliest verdict.
    pub confidence: f64,
    /// The best vantage that it was proven from, if it was.
    pub vantage: Option<Vantage>,
    /// Where it was heard of.
    pub sources: Sources,
    /// How many servers have outcomes that have not expired.
    pub servers: usize,
    /// The time from hearing of it to the first verdict.
    pub time_to_verdict: Option<Duration>,
    /// When a server last answered about it.
    pub last_probe: Option<Instant>,
    /// When it is to be checked again; `None` while it is being decided, or while there is no server.
    pub next_probe: Option<Instant>,
    /// Bytes of dial data paid for it.
    pub dial_data: u64,
    /// Whether this service confirmed it to the swarm.
    pub announced: bool,
    /// Whether the verdict is that of the plain address on the same socket.
    pub inherited: bool,
    /// Why it can't be tested, if it can't.
    pub obstacle: Option<Obstacle>,
    /// Whether able servers keep contradicting themselves and each other, or the verdict keeps changing. See
    /// [`Event::StabilityChanged`].
    pub unstable: bool,
    /// How many IP groups (IPv4 /16, IPv6 /32) have servers that have proven it.
    pub proven_by: usize,
}

/// A connected peer that serves dial requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// Who.
    pub peer: PeerId,
    /// Until when it is left alone, since it did not answer, rejected a request or broke the protocol.
    pub backed_off_until: Option<Instant>,
    /// When a request last left for it.
    pub last_asked: Option<Instant>,
}

/// Why an address can't be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// It is not global unicast; see [`Config::with_private_addresses`](super::Config::with_private_addresses).
    #[error("the address is not public")]
    NotPublic,
    /// It leads through a relay: a relay's address says nothing about this node.
    #[error("the address leads through a relay")]
    Relayed,
    /// It has no transport that servers dial, or port 0.
    #[error(
        "the address has no transport and port that a server could dial, or more than its transport takes"
    )]
    NotDialable,
    /// It is longer than 960 bytes, so that a request with it would be refused by some servers for its length.
    #[error("the address is too long for a request")]
    TooLong,
    /// It names another peer.
    #[error("the address is another peer's")]
    OtherPeer,
    /// As many addresses are tracked as are allowed, and all of them have as much to speak for them.
    #[error("too many addresses are tracked")]
    TooMany,
}

/// The address is not tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the address is not tracked")]
#[non_exhaustive]
pub struct NotTracked;
