//! The client over real TCP and QUIC swarms on loopback, with servers of this crate and with servers that are driven by
//! hand: what a node learns when its listeners, its forwarded ports, its servers and the behaviours beside it come and go.

mod support;

#[path = "client/addresses.rs"]
mod addresses;
#[path = "client/forwarded.rs"]
mod forwarded;
#[path = "client/limits.rs"]
mod limits;
#[path = "client/neighbours.rs"]
mod neighbours;
#[path = "client/scene.rs"]
mod scene;
#[path = "client/servers.rs"]
mod servers;
