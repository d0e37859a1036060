//! Why a server could not be asked, in a person's words.

use libp2p::swarm::{ConnectionError, DialError};

use crate::transport::why;

/// Why a connection ended, in a person's words.
pub(super) fn closed(cause: Option<&ConnectionError>) -> String {
    match cause {
        Some(ConnectionError::IO(error)) => format!("the connection ended: {error}"),
        Some(ConnectionError::KeepAliveTimeout) | None => "the connection ended".to_owned(),
    }
}

/// Why a dial failed, in a person's words.
pub(super) fn dial_error(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let text = match errors.first() {
                Some((_, error)) => why(error),
                None => "there is no address to dial".to_owned(),
            };
            // The kind of the operating system's error is lost on the way up.
            if text.contains("refused") {
                "nobody listens there (connection refused)".to_owned()
            } else if text.to_lowercase().contains("time") && text.contains("out") {
                "nobody answers there (timed out)".to_owned()
            } else if text.contains("No route to host") {
                "no machine answers at that IP (no route to host)".to_owned()
            } else if text.contains("etwork is unreachable") {
                "this machine has no way to that network, perhaps no IPv6 (network is unreachable)"
                    .to_owned()
            } else {
                text
            }
        }
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer is there: {obtained}. Was the server's key changed?")
        }
        DialError::LocalPeerId { .. } => "that is this machine itself".to_owned(),
        other => other.to_string(),
    }
}
