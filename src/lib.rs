//! AutoNAT v2 for rust-libp2p.

pub mod address;
pub mod client;
pub mod protocol;
pub mod reachability;
pub mod server;
