//! AutoNAT v2 for rust-libp2p: on which of its addresses can strangers reach this node, since when, and how sure is
//! that?
//!
//! A node cannot know by itself. It learns of an external address from what a peer observes or a router promises, but
//! whether a stranger's packet gets in shows only when a stranger sends one. With AutoNAT v2 a node asks for that: a
//! *server* dials one of the addresses that the *client* names and delivers a nonce, and the nonce is the proof.
//!
//! ```text
//! client                                            server
//!   |-- DialRequest{addresses, nonce} ----------------->|   picks the first address that it may and can dial
//!   |<- DialDataRequest{30,000 to 100,000 bytes} -------|   only if its IP is not the client's
//!   |-- DialDataResponse ... -------------------------->|
//!   |<====== a new connection to that address ==========|
//!   |<- DialBack{nonce} --------------------------------|   on the new connection
//!   |-- DialBackResponse{OK} -------------------------->|
//!   |<- DialResponse{index, status} --------------------|   on the first stream
//! ```
//!
//! Two behaviours, to be used alone or together, and to be composed by `#[derive(NetworkBehaviour)]`:
//!
//! * [`client::Behaviour`] asks connected servers, weighs what they say and keeps the verdicts up to date. It tells the
//!   swarm which external addresses are confirmed and which have expired, so that identify announces the dialable ones
//!   and kad serves or doesn't. It needs `libp2p-identify` beside it, which finds out who serves and what peers observe.
//! * [`server::Behaviour`] serves dial requests, within limits that make it safe on the open Internet.
//!
//! ```
//! use libp2p::{SwarmBuilder, identify, noise, swarm::NetworkBehaviour, tcp, yamux};
//! use libp2p_autonat_v2::{
//!     client,
//!     server::{self, BoundedClose},
//! };
//!
//! #[derive(NetworkBehaviour)]
//! struct Behaviour {
//!     identify: identify::Behaviour,
//!     autonat_client: client::Behaviour,
//!     autonat_server: server::Behaviour,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut swarm = SwarmBuilder::with_new_identity()
//!     .with_tokio()
//!     // With a server: lets no peer hold a socket by not reading.
//!     .with_tcp(tcp::Config::default(), noise::Config::new, || {
//!         BoundedClose::new(yamux::Config::default())
//!     })?
//!     .with_quic()
//!     .with_behaviour(|key| Behaviour {
//!         // Announces what is confirmed, and not what is merely listened on.
//!         identify: identify::Behaviour::new(
//!             identify::Config::new("/my-node/1.0.0".into(), key.public()).with_hide_listen_addrs(true),
//!         ),
//!         autonat_client: client::Behaviour::new(key.public().to_peer_id(), client::Config::default()),
//!         autonat_server: server::Behaviour::new(server::Config::default()),
//!     })?
//!     .build();
//! # let _ = &mut swarm;
//! # Ok(())
//! # }
//! ```
//!
//! Without `with_hide_listen_addrs(true)` identify announces listen addresses too, and peers keep dialing those that are known
//! to be dead. Peers on the same LAN then find each other by mDNS. Identify does not tell connected peers by itself when a
//! confirmed address comes or goes: call `identify::Behaviour::push` on `SwarmEvent::ExternalAddrConfirmed` and
//! `ExternalAddrExpired`.
//!
//! # How the data flows
//! ```text
//! swarm events -> client::Behaviour -> reachability (pure: evidence, verdicts, schedule) -> probes -> handlers -> servers
//!                                            |
//!                                            +-> ExternalAddrConfirmed / ExternalAddrExpired, client::Event
//!
//! clients -> handlers -> server::Behaviour -> service (pure: limits, policy, the life of a request) -> handlers, dial-backs
//!                                            |
//!                                            +-> DialResponse to the client, server::Event
//! ```
//!
//! # Modules
//! * [`client`] and [`server`]: the behaviours, with their options and events.
//! * [`reachability`] and [`service`]: the cores of the client and the server, without I/O and without a clock.
//! * [`protocol`]: the messages and their codecs.
//! * [`address`]: what a multiaddr is: public or not, of which transport and family.
//! * `metrics`, with the feature of that name: Prometheus metrics of both roles, under go-libp2p's names.
//! * `test_util`, with the feature `test-util`: events and reports for the tests of applications.
//!
//! The feature `serde` writes verdicts and their like as the words that `Display` shows, and reads them; it writes
//! [`client::AddressReport`].
//!
//! Follows the AutoNAT v2 specification (`libp2p/specs`, `autonat/autonat-v2.md`, r2).

pub mod address;
pub mod client;
mod display;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod protocol;
pub mod reachability;
pub mod server;
pub mod service;
#[cfg(feature = "test-util")]
pub mod test_util;

/// Compiles the blocks of the README and the guides.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[doc = include_str!("../docs/migration.md")]
#[doc = include_str!("../docs/server.md")]
pub struct Guides;

/// Compiles the blocks of the guide that needs the metrics.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../docs/monitoring.md")]
pub struct MonitoringGuide;

#[cfg(test)]
mod tests {
    use super::{client, reachability::Reachability, server};

    /// Swarms and their events are moved between threads.
    #[test]
    fn what_an_application_holds_is_send() {
        const fn send<T: Send>() {}
        send::<client::Behaviour>();
        send::<client::Event>();
        send::<Reachability>();
        send::<server::Behaviour>();
        send::<server::Event>();
        #[cfg(feature = "metrics")]
        send::<crate::metrics::Metrics>();
    }
}
