//! TCP or UDP: what an address has a port of.

/// The protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "no other protocol with ports crosses NATs"
)]
pub enum PortProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}
