//! What applications do about their reachability, each in the shape that it has in real ones. They were written for
//! `libp2p-autonat`, whose v2 client tests an address once and tells of that test; the rest was their own work: maps of
//! results, timers, addresses to take back.

mod support;

#[path = "examples/host.rs"]
mod host;
#[path = "ports/proofs.rs"]
mod proofs;
#[path = "ports/retests.rs"]
mod retests;
#[path = "ports/run_time_server.rs"]
mod run_time_server;
#[path = "ports/stage.rs"]
mod stage;
#[path = "ports/summary.rs"]
mod summary;
#[path = "ports/toggle.rs"]
mod toggle;
