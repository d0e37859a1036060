//! Prometheus metrics of both roles, in the way of `libp2p-metrics`; with the feature `metrics`.
//!
//! What go-libp2p counts is counted here under its names, with its labels and their values
//! (`p2p/protocol/autonatv2/metrics.go`), so that its Grafana dashboard for AutoNAT v2
//! (`dashboards/autonatv2`) shows a Rust node too. Beside that stands what go lacks.
//!
//! It must never take a label value from a remote: all of them are fixed words, or small numbers with a bound. No
//! address and no peer ID is a label.
//!
//! Counters and histograms are there at 0 before their first event, so that Prometheus' `increase()` sees it. Two exceptions:
//! the series of go's counters `…requests_completed_total` for addresses other than TCP and QUIC on an IP.
//!
//! ```
//! use libp2p::metrics::{Recorder, Registry};
//! use libp2p::{Swarm, swarm::{NetworkBehaviour, SwarmEvent}};
//! use libp2p_autonat_v2::{client, metrics::Metrics, server};
//!
//! #[derive(NetworkBehaviour)]
//! struct Behaviour {
//!     autonat_client: client::Behaviour,
//!     autonat_server: server::Behaviour,
//! }
//!
//! // Once, with the registry that libp2p's own metrics are in, if there are any.
//! fn register(registry: &mut Registry) -> Metrics {
//!     Metrics::new(registry)
//! }
//!
//! // For each event of the swarm.
//! fn on_event(metrics: &Metrics, event: &SwarmEvent<BehaviourEvent>) {
//!     match event {
//!         SwarmEvent::Behaviour(BehaviourEvent::AutonatClient(event)) => metrics.record(event),
//!         SwarmEvent::Behaviour(BehaviourEvent::AutonatServer(event)) => metrics.record(event),
//!         _ => {}
//!     }
//! }
//!
//! // Before each scrape, or every few seconds: the gauges.
//! fn before_scrape(metrics: &Metrics, swarm: &Swarm<Behaviour>) {
//!     metrics.record(&swarm.behaviour().autonat_client);
//!     metrics.record(&swarm.behaviour().autonat_server);
//! }
//! ```
//!
//! # Of the client
//!
//! | name | labels | what |
//! |---|---|---|
//! | `libp2p_autonatv2_client_requests_total` | `outcome` | requests: `success` if the server said whether it could dial, or refused; else `failure` (go) |
//! | `libp2p_autonatv2_client_requests_completed_total` | `ip_or_dns_version`, `transport`, `addr_count`, `dial_refused`, `reachability` | the successful ones (go) |
//! | `libp2p_autonatv2_client_probes_total` | `outcome` | answers by the word of [`ProbeOutcome::as_str`](crate::client::ProbeOutcome::as_str): refusals, rejections and failures by reason |
//! | `libp2p_autonatv2_client_probe_duration_seconds` | `reachability` | from request to the outcome that counts |
//! | `libp2p_autonatv2_client_time_to_first_verdict_seconds` | `verdict` | from hearing of an address to the first verdict on it |
//! | `libp2p_autonatv2_client_verdict_changes_total` | `verdict` | verdicts reached |
//! | `libp2p_autonatv2_client_servers_wanted_total` | | times that there were too few servers to decide |
//! | `libp2p_autonatv2_client_dial_data_sent_bytes_total` | | dial data paid |
//! | `libp2p_autonatv2_client_addresses` | `verdict`, `vantage` | gauge: tracked addresses |
//! | `libp2p_autonatv2_client_confirmed_addresses` | | gauge: those that this client has confirmed to the swarm |
//! | `libp2p_autonatv2_client_lowest_confidence_ratio` | `verdict` | gauge: the confidence in the least sure of them, from 0 to 1; absent without any |
//! | `libp2p_autonatv2_client_summary` | `reachability` | gauge: 1 for the [`Summary`](crate::client::Summary) that stands, 0 for the others |
//! | `libp2p_autonatv2_client_servers` | `state` | gauge: `known` (connected), and `usable` of them (not backed off) |
//! | `libp2p_autonatv2_client_state_entries` | `collection` | gauge: sizes of the bounded collections, see [`Sizes`](crate::client::Sizes) |
//!
//! # Of the server
//!
//! | name | labels | what |
//! |---|---|---|
//! | `libp2p_autonatv2_requests_completed_total` | `server_error`, `response_status`, `dial_status`, `dial_data_required`, `ip_or_dns_version`, `transport` | requests, rejected ones too (go) |
//! | `libp2p_autonatv2_server_rejections_total` | `limit` | rejections by the limit: [`Limit::as_str`](crate::server::Limit::as_str), or `denied` by the node's own behaviours |
//! | `libp2p_autonatv2_server_passed_over_total` | `reason` | addresses of requests that were not dialed: [`PassedOver::as_str`](crate::server::PassedOver::as_str) |
//! | `libp2p_autonatv2_server_dial_backs_total` | `outcome` | dial-backs by [`DialBackOutcome::as_str`](crate::server::DialBackOutcome::as_str) |
//! | `libp2p_autonatv2_server_misbehaviours_total` | `cause` | broken rules by [`Misbehaviour::as_str`](crate::server::Misbehaviour::as_str) |
//! | `libp2p_autonatv2_server_request_duration_seconds` | | from the opening of the stream to its end, of admitted requests |
//! | `libp2p_autonatv2_server_dial_data_requested_bytes_total`, `…_received_bytes_total` | | dial data asked for and received |
//! | `libp2p_autonatv2_server_requests_in_flight`, `…_dials_in_flight`, `…_lingering_dials`, `…_rate_entries`, `…_queued` | | gauges: [`Load`](crate::server::Load) |
//!
//! # Where the counts differ from go-libp2p's
//! * A stream beyond those of one connection counts as `server_error="resource limit exceeded"`.
//! * A request whose dial this node's own limits stopped is a rejection or a refusal, and not `E_DIAL_ERROR`.
//! * An `E_DIAL_ERROR` that came after 25 s is a failed request: go-libp2p's clients have left by then.
//! * js-libp2p answers for each address of a request: the request is counted once, by the weightiest answer.

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

mod client;
mod server;
mod values;

pub use libp2p_metrics::Recorder;
pub use prometheus_client::registry::Registry;

/// The metrics of both roles, or of one.
///
/// Clones share their numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    client: Option<client::Metrics>,
    server: Option<server::Metrics>,
}

impl Metrics {
    /// Registers the metrics of both roles as `libp2p_autonatv2_…`. Call one of these functions once for a registry; a second call
    /// gives metrics twice, which scrapers reject.
    ///
    /// `registry` is the one that `libp2p_metrics::Metrics::new` takes: without a prefix of its own.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let registry = prefixed(registry);
        Self {
            client: Some(client::Metrics::new(registry)),
            server: Some(server::Metrics::new(registry)),
        }
    }

    /// As [`Self::new`], for a node without a server: what is recorded of a server counts nowhere.
    #[must_use]
    pub fn of_client(registry: &mut Registry) -> Self {
        Self {
            client: Some(client::Metrics::new(prefixed(registry))),
            server: None,
        }
    }

    /// As [`Self::new`], for a node without a client: what is recorded of a client counts nowhere.
    #[must_use]
    pub fn of_server(registry: &mut Registry) -> Self {
        Self {
            client: None,
            server: Some(server::Metrics::new(prefixed(registry))),
        }
    }
}

fn prefixed(registry: &mut Registry) -> &mut Registry {
    registry
        .sub_registry_with_prefix("libp2p")
        .sub_registry_with_prefix("autonatv2")
}

impl Recorder<crate::client::Event> for Metrics {
    fn record(&self, event: &crate::client::Event) {
        if let Some(client) = &self.client {
            client.on_event(event);
        }
    }
}

/// Sets the gauges of the client.
impl Recorder<crate::client::Behaviour> for Metrics {
    fn record(&self, behaviour: &crate::client::Behaviour) {
        if let Some(client) = &self.client {
            client.on_state(behaviour);
        }
    }
}

impl Recorder<crate::server::Event> for Metrics {
    fn record(&self, event: &crate::server::Event) {
        if let Some(server) = &self.server {
            server.on_event(event);
        }
    }
}

/// Sets the gauges of the server.
impl Recorder<crate::server::Behaviour> for Metrics {
    fn record(&self, behaviour: &crate::server::Behaviour) {
        if let Some(server) = &self.server {
            server.on_state(behaviour);
        }
    }
}

/// From a millisecond to half a minute, which is the longest that a request may take.
fn of_an_exchange() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 16))
}

/// Go's `getIPOrDNSVersion`.
fn ip_or_dns_version(addr: &Multiaddr) -> &'static str {
    match addr.iter().next() {
        None => "",
        Some(Protocol::Dns(_) | Protocol::Dnsaddr(_)) => "dns",
        Some(Protocol::Dns4(_)) => "dns4",
        Some(Protocol::Dns6(_)) => "dns6",
        Some(Protocol::Ip4(_)) => "ip4",
        Some(Protocol::Ip6(_)) => "ip6",
        Some(_) => "unknown",
    }
}

/// Go's `metricshelper.GetTransport`: the name of the last protocol that is a transport.
fn transport(addr: &Multiaddr) -> &'static str {
    let transports = addr.iter().filter_map(|protocol| match protocol {
        Protocol::P2pCircuit => Some("p2p-circuit"),
        Protocol::WebRTC => Some("webrtc"),
        Protocol::WebRTCDirect => Some("webrtc-direct"),
        Protocol::WebTransport => Some("webtransport"),
        Protocol::Quic => Some("quic"),
        Protocol::QuicV1 => Some("quic-v1"),
        Protocol::Wss(_) => Some("wss"),
        Protocol::Ws(_) => Some("ws"),
        Protocol::Tcp(_) => Some("tcp"),
        _ => None,
    });
    transports.last().unwrap_or("other")
}

/// Go writes booleans as words.
const fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_labelled_as_go_labels_them() {
        let cases = [
            ("/ip4/192.0.2.1/tcp/1", "ip4", "tcp"),
            ("/ip6/2001:db8::1/udp/1/quic-v1", "ip6", "quic-v1"),
            ("/ip4/192.0.2.1/udp/1/quic", "ip4", "quic"),
            ("/dns/a.example/tcp/1/ws", "dns", "ws"),
            ("/dnsaddr/a.example", "dns", "other"),
            ("/dns4/a.example/tcp/1/tls/ws", "dns4", "ws"),
            ("/dns6/a.example/tcp/1/wss", "dns6", "wss"),
            ("/ip4/192.0.2.1/udp/1/webrtc-direct", "ip4", "webrtc-direct"),
            (
                "/ip4/192.0.2.1/udp/1/quic-v1/webtransport",
                "ip4",
                "webtransport",
            ),
            ("/memory/1", "unknown", "other"),
        ];
        for (addr, version, name) in cases {
            let parsed: Multiaddr = addr.parse().expect("a valid multiaddr");
            assert_eq!(ip_or_dns_version(&parsed), version, "{addr}");
            assert_eq!(transport(&parsed), name, "{addr}");
        }
        assert_eq!(ip_or_dns_version(&Multiaddr::empty()), "");
    }
}
