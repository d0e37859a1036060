//! What is believed of an address before any server was asked: P(open), P(filtered), P(closed), by where it was heard of.

use crate::reachability::candidates::Sources;

/// An observed or guessed address, mostly behind a NAT, or one that the application asks about. Of home NATs, one in two to
/// three maps and filters so that a listener is reachable or has been forwarded, and address-dependent filtering alone is
/// the rarest kind (Guha and Francis 2005, "Characterization and Measurement of TCP Traversal through NATs and Firewalls";
/// Halkes and Pouwelse 2011, "UDP NAT and Firewall Puncturing in the Wild").
const OBSERVED: [f64; 3] = [0.50, 0.12, 0.38];
/// A public IP on this host: no NAT. A firewall keeps state for each endpoint and seldom for each address, so that a
/// dial-back from a new port is let in or not whoever sends it. Chosen; insensitive between 0.5 and 0.8 for open.
const PUBLIC_LISTENER: [f64; 3] = [0.66, 0.04, 0.30];
/// The operator or a port mapping protocol says that it works. They are wrong mostly where there is a second NAT behind the
/// first. Chosen; insensitive between 0.5 and 0.8 for open.
const CONFIRMED: [f64; 3] = [0.66, 0.06, 0.28];

/// The prior of an address with these sources.
pub(crate) fn prior(sources: Sources) -> [f64; 3] {
    if sources.confirmed {
        CONFIRMED
    } else if sources.listening {
        PUBLIC_LISTENER
    } else {
        OBSERVED
    }
}
