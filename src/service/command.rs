//! What the core asks of whoever drives it.

use std::fmt;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::protocol::{DialDataRequest, DialResponse, Nonce};

/// A stream on which a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the caller builds it, and it is only a name"
)]
pub struct RequestId {
    /// The client's connection.
    pub connection: ConnectionId,
    /// Which stream of it: a number that the caller gives, and gives again only when the stream is gone.
    pub stream: u32,
}

/// Names a dial of a [`Service`](super::Service). Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(crate) u64);

impl fmt::Debug for DialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DialId({})", self.0)
    }
}

/// What the caller is to do.
#[derive(Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever drives the core must carry out all of it"
)]
pub enum Command {
    /// Do this on the stream of a request of this client. Of no interest if the stream is gone.
    Stream(PeerId, RequestId, StreamCommand),
    /// Dial.
    Dial(Dial),
    /// Nobody waits for this dial any more. Call it back, or close its connection; if it is established later, close it then.
    /// [`Service::on_dial_gone`](super::Service::on_dial_gone) must follow.
    EndDial(DialId),
}

/// What the caller is to do with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever drives the core must carry out all of it"
)]
pub enum StreamCommand {
    /// Read the request.
    Serve,
    /// Answer `E_REQUEST_REJECTED` without reading anything, and forget the stream.
    Reject,
    /// Ask for dial data, and read it.
    AskForData(DialDataRequest),
    /// Write the answer, and close the stream.
    Answer(DialResponse),
    /// Reset the stream.
    Reset,
}

/// A dial-back that is to be made: a new connection, from a new port if possible, on which the nonce is delivered.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dial {
    /// Names it.
    pub id: DialId,
    /// Who must be there.
    pub peer: PeerId,
    /// Where.
    pub addr: Multiaddr,
    /// What to deliver, as the client wrote it.
    pub(crate) nonce: Nonce,
}

impl Dial {
    /// What to deliver.
    pub const fn nonce(&self) -> u64 {
        self.nonce.number
    }
}
