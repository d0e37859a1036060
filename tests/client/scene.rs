//! What these tests share.

use std::time::Duration;

use futures::future;
use libp2p::{Multiaddr, core::transport::ListenerId, swarm::SwarmEvent};
use libp2p_autonat_v2::client::{Config, Event, Probed, Summary, Verdict};

use crate::support::serving::{Client, HonestServer, TestedEvent, honest_server};

/// Rechecks every second, and no request runs out of time however slow the machine is.
pub(crate) fn brisk() -> Config {
    let long = Duration::from_secs(600);
    Config::default()
        .with_recheck(Duration::from_secs(1), Duration::from_secs(1))
        .with_requests_per_minute(12)
        .with_request_timeouts(long, long)
}

/// Runs a test over both transports at once.
pub(crate) async fn over_both<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    use crate::support::serving::{QUIC, TCP};
    future::join(test(TCP), test(QUIC)).await;
}

/// An honest server that the client is connected to.
pub(crate) async fn honest(client: &mut Client, transport: &str) -> HonestServer {
    let mut server = honest_server();
    let at = server.listen(transport).await;
    client.connect(&at).await;
    server
}

/// Listens, with a handle to stop it.
pub(crate) async fn listen(client: &mut Client, addr: &str) -> (ListenerId, Multiaddr) {
    let addr: Multiaddr = addr.parse().expect("a multiaddr");
    let id = client
        .node
        .with(move |swarm| swarm.listen_on(addr).expect("the transport can listen"))
        .await;
    let addr = client
        .node
        .event("a listen address", |event| match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } if *listener_id == id => Some(address.clone()),
            _ => None,
        })
        .await;
    (id, addr)
}

/// The next event that `pick` takes.
pub(crate) async fn event<T>(
    client: &mut Client,
    what: &str,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> T {
    client
        .node
        .event(what, |event| match event {
            SwarmEvent::Behaviour(TestedEvent::Autonat(event)) => pick(event),
            _ => None,
        })
        .await
}

pub(crate) async fn becomes(client: &mut Client, addr: &Multiaddr, verdict: Verdict) {
    event(
        client,
        &format!("{addr} is {verdict:?}"),
        |event| match event {
            Event::VerdictChanged { address, new, .. } if address == addr && *new == verdict => {
                Some(())
            }
            _ => None,
        },
    )
    .await;
}

pub(crate) async fn summary_becomes(client: &mut Client, summary: Summary) {
    event(client, &format!("{summary:?}"), |event| match event {
        Event::SummaryChanged { new, .. } if *new == summary => Some(()),
        _ => None,
    })
    .await;
}

/// What comes of the next probe that this server is asked for.
pub(crate) async fn probed_by(client: &mut Client, server: libp2p::PeerId) -> Probed {
    event(client, "an outcome of this server", |event| match event {
        Event::Probed(probed) if probed.server == server => Some(probed.clone()),
        _ => None,
    })
    .await
}

pub(crate) async fn external(client: &Client) -> Vec<Multiaddr> {
    client
        .node
        .with(|swarm| swarm.external_addresses().cloned().collect())
        .await
}
