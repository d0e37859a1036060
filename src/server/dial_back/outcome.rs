//! What became of a dial-back, and whose fault it was. Only what the network did to a dial that
//! went out is `E_DIAL_ERROR`; whatever this node did to it is a refusal, a rejection or an internal
//! error, none of which says anything about the client (DESIGN, "Honest failures").

use std::{error::Error, io};

use libp2p_core::transport::TransportError;
use libp2p_identity::PeerId;
use libp2p_swarm::DialError;

use crate::protocol::{DialStatus, ResponseStatus};

/// What became of a dial-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialBackOutcome {
    /// The client acknowledged the nonce: the address is reachable. Answered `OK`.
    Delivered,
    /// A connection to the client was established, but the nonce was not acknowledged. Answered
    /// `E_DIAL_BACK_ERROR`.
    NotDelivered(NotDelivered),
    /// The network failed the dial, in the way that this kind of error tells. Answered
    /// `E_DIAL_ERROR`.
    DialFailed(io::ErrorKind),
    /// The dial was not established in time. Answered `E_DIAL_ERROR`.
    DialTimedOut,
    /// Another peer than the client lives at the address. Answered `E_DIAL_ERROR`.
    WrongPeer(PeerId),
    /// This node did not dial. Says nothing about the address.
    NotDialed(NotDialed),
}

/// Why the nonce was not acknowledged. Whether it arrived is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotDelivered {
    /// The client does not speak `/libp2p/autonat/2/dial-back`.
    ProtocolNotSupported,
    /// The client reset or closed the stream without an answer.
    StreamClosed,
    /// The client answered with something other than a `DialBackResponse`.
    WrongAnswer,
    /// The client did not answer in time.
    TimedOut,
    /// The connection was closed.
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
    /// This host has no route to the address. Answered `E_DIAL_REFUSED`.
    NoRoute,
    /// This host lacked the means, such as a free socket or the permission. Answered
    /// `E_INTERNAL_ERROR`.
    LocalFailure,
    /// The node's owner cut off all connections to the client. Answered `E_INTERNAL_ERROR`.
    Aborted,
}

impl DialBackOutcome {
    /// The statuses that the client reads.
    pub const fn statuses(&self) -> (ResponseStatus, DialStatus) {
        match self {
            Self::Delivered => (ResponseStatus::Ok, DialStatus::Ok),
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
            Self::NotDialed(NotDialed::LocalFailure | NotDialed::Aborted) => {
                (ResponseStatus::InternalError, DialStatus::Unused)
            }
        }
    }

    pub(super) fn of(error: &DialError) -> Self {
        match error {
            DialError::Denied { .. } => Self::NotDialed(NotDialed::Denied),
            DialError::NoAddresses => Self::NotDialed(NotDialed::OwnAddress),
            DialError::Aborted => Self::NotDialed(NotDialed::Aborted),
            DialError::DialPeerConditionFalse(_) => Self::NotDialed(NotDialed::LocalFailure),
            DialError::WrongPeerId { obtained, .. } => Self::WrongPeer(*obtained),
            // It is this node that lives there, so it is not the client.
            DialError::LocalPeerId { .. } => Self::DialFailed(io::ErrorKind::ConnectionRefused),
            DialError::Transport(errors) => match errors.first() {
                None => Self::NotDialed(NotDialed::LocalFailure),
                Some((_, TransportError::MultiaddrNotSupported(_))) => {
                    Self::NotDialed(NotDialed::NotSupported)
                }
                Some((_, TransportError::Other(error))) => Self::of_io(error),
            },
        }
    }

    fn of_io(error: &io::Error) -> Self {
        let error = innermost(error);
        match error.kind() {
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => {
                Self::NotDialed(NotDialed::NoRoute)
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::AddrInUse
            | io::ErrorKind::OutOfMemory
            | io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput => Self::NotDialed(NotDialed::LocalFailure),
            _ if out_of_sockets(error) => Self::NotDialed(NotDialed::LocalFailure),
            kind => Self::DialFailed(kind),
        }
    }
}

/// Transports wrap the socket's error into errors of their own; the last one in the chain that is an
/// I/O error is the socket's.
fn innermost(error: &io::Error) -> &io::Error {
    let mut found = error;
    let mut next: Option<&(dyn Error + 'static)> =
        error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    // A chain that is longer than this is not worth following.
    for _ in 0..16 {
        let Some(inner) = next else { break };
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            found = io;
            next = io.get_ref().map(|inner| inner as &(dyn Error + 'static));
        } else {
            next = inner.source();
        }
    }
    found
}

/// `EMFILE`, `ENFILE` and `ENOBUFS` have no kind of their own. Numbers of Linux, BSD and macOS.
fn out_of_sockets(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: [i32; 2] = [105, 55];
    cfg!(unix)
        && error
            .raw_os_error()
            .is_some_and(|code| code == ENFILE || code == EMFILE || ENOBUFS.contains(&code))
}

#[cfg(test)]
mod tests {
    use libp2p_core::Multiaddr;

    use super::*;

    fn transport(error: io::Error) -> DialError {
        DialError::Transport(vec![(Multiaddr::empty(), TransportError::Other(error))])
    }

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn only_what_the_network_did_is_a_dial_error() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let outcome = DialBackOutcome::of(&transport(refused));
        assert_eq!(
            outcome,
            DialBackOutcome::DialFailed(io::ErrorKind::ConnectionRefused)
        );
        assert_eq!(
            outcome.statuses(),
            (ResponseStatus::Ok, DialStatus::DialError)
        );
    }

    #[test]
    fn a_missing_transport_is_a_refusal() {
        let error = DialError::Transport(vec![(
            Multiaddr::empty(),
            TransportError::MultiaddrNotSupported(Multiaddr::empty()),
        )]);
        let (status, _) = DialBackOutcome::of(&error).statuses();
        assert_eq!(status, ResponseStatus::DialRefused);
    }

    #[test]
    fn a_host_without_a_route_or_a_socket_does_not_blame_the_client() {
        let unreachable = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let (status, _) = DialBackOutcome::of(&transport(unreachable)).statuses();
        assert_eq!(status, ResponseStatus::DialRefused);
        #[cfg(unix)]
        {
            let (status, _) =
                DialBackOutcome::of(&transport(io::Error::from_raw_os_error(24))).statuses();
            assert_eq!(status, ResponseStatus::InternalError);
        }
    }

    #[test]
    fn the_sockets_error_is_found_under_those_of_the_transports() {
        let socket = io::Error::from(io::ErrorKind::NetworkUnreachable);
        let error = io::Error::other(Wrapped(io::Error::other(Wrapped(socket))));
        assert_eq!(
            DialBackOutcome::of(&transport(error)),
            DialBackOutcome::NotDialed(NotDialed::NoRoute)
        );
    }

    #[test]
    fn a_limit_of_our_own_is_a_rejection() {
        #[derive(Debug, thiserror::Error)]
        #[error("full")]
        struct Full;
        let error = DialError::Denied {
            cause: libp2p_swarm::ConnectionDenied::new(Full),
        };
        let (status, _) = DialBackOutcome::of(&error).statuses();
        assert_eq!(status, ResponseStatus::RequestRejected);
    }
}
