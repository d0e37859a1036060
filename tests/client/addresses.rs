//! Addresses come and go.

use libp2p::Multiaddr;
use libp2p_autonat_v2::client::{
    CandidateError, Config, NotTracked, ProbeOutcome, Summary, Verdict,
};

use crate::{
    scene::{brisk, external, honest, listen, over_both, probed_by, summary_becomes},
    support::serving::{Client, QUIC, TCP},
};

#[tokio::test]
async fn a_listener_that_closes_is_expired() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let (listener, address) = listen(&mut client, transport).await;
        let _server = honest(&mut client, transport).await;
        client.confirmed(&address).await;
        summary_becomes(&mut client, Summary::Public).await;

        client
            .node
            .with(move |swarm| swarm.remove_listener(listener))
            .await;
        client.expired(&address).await;
        assert!(external(&client).await.is_empty());
        // Where identify's observations speak for it, it stays under test: it could be forwarded to another port.
        let report = client.report(&address).await;
        assert!(report.is_none_or(|report| {
            report.verdict == Verdict::Unreachable && !report.announced && !report.sources.listening
        }));
        let summary = client.with(|autonat| autonat.summary()).await;
        assert_ne!(summary, Summary::Public);
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_opens_later_is_confirmed() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let _server = honest(&mut client, transport).await;
        for _ in 0..2 {
            let (_, address) = listen(&mut client, transport).await;
            client.confirmed(&address).await;
            assert!(external(&client).await.contains(&address));
        }
    })
    .await;
}

/// The verdict, the evidence and the announcement are gone at once, and come back by a new probe.
#[tokio::test]
async fn an_address_that_the_application_takes_back_stays_away_until_it_brings_it() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let (_, address) = listen(&mut client, transport).await;
        let _server = honest(&mut client, transport).await;
        client.confirmed(&address).await;
        let since = client.report(&address).await.expect("tracked").since;

        let gone = address.clone();
        let report = client
            .node
            .with(move |swarm| {
                swarm.remove_external_address(&gone);
                swarm.behaviour().autonat.address(&gone)
            })
            .await
            .expect("it is listened on");
        assert_eq!(report.verdict, Verdict::Unknown);
        assert_eq!((report.servers, report.announced), (0, false));

        let brought = address.clone();
        client
            .with(move |autonat| autonat.add_candidate(&brought))
            .await
            .expect("it can be tested");
        client.confirmed(&address).await;
        let report = client.report(&address).await.expect("tracked");
        assert_eq!(report.verdict, Verdict::Reachable);
        assert!(report.since > since);
    })
    .await;
}

#[tokio::test]
async fn several_addresses_of_both_transports_are_all_confirmed() {
    let mut client = Client::new(brisk());
    let mut addresses = Vec::new();
    for transport in [TCP, QUIC, TCP, QUIC] {
        addresses.push(listen(&mut client, transport).await.1);
    }
    let mut server = honest(&mut client, TCP).await;
    // It dials only what it listens on.
    server.listen(QUIC).await;
    for address in &addresses {
        client.confirmed(address).await;
    }
    let reports: Vec<_> = client.with(|autonat| autonat.addresses().collect()).await;
    let tracked: Vec<_> = reports
        .iter()
        .map(|report| report.address.clone())
        .collect();
    assert_eq!(tracked, addresses);
    for report in reports {
        assert_eq!(report.verdict, Verdict::Reachable);
        assert!(report.announced && report.sources.listening);
        assert!(report.confidence > 0.9 && report.servers == 1);
        assert!(report.time_to_verdict.is_some() && report.last_probe.is_some());
    }
    let summary = client.with(|autonat| autonat.summary()).await;
    assert_eq!(summary, Summary::Public);
}

#[tokio::test]
async fn a_confirmed_address_is_checked_on_demand() {
    over_both(async |transport| {
        // Not by itself within the time of this test.
        let hour = std::time::Duration::from_secs(3600);
        let mut client = Client::new(brisk().with_recheck(hour, hour));
        let (_, address) = listen(&mut client, transport).await;
        let server = honest(&mut client, transport).await;
        client.confirmed(&address).await;
        let first = probed_by(&mut client, server.peer_id).await;
        client.is_idle().await;

        let checked = address.clone();
        client
            .with(move |autonat| autonat.check_now(&checked))
            .await
            .expect("it is tracked");
        let second = probed_by(&mut client, server.peer_id).await;
        assert!(second.probe > first.probe);
        assert!(matches!(second.outcome, ProbeOutcome::Reachable(_)));
        assert_eq!(second.address, address);
        assert_eq!(external(&client).await, [address]);

        let unknown: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().expect("a multiaddr");
        let checked = client
            .with(move |autonat| autonat.check_now(&unknown))
            .await;
        assert!(matches!(checked, Err(NotTracked { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_candidate_that_cannot_be_tested_is_turned_down() {
    let client = Client::new(Config::default());
    let me = client.node.peer_id;
    let other = libp2p::PeerId::random();
    for (addr, error) in [
        (
            format!("/ip4/127.0.0.1/tcp/1/p2p/{other}"),
            CandidateError::OtherPeer,
        ),
        (
            format!("/ip4/127.0.0.1/tcp/1/p2p/{other}/p2p-circuit/p2p/{me}"),
            CandidateError::Relayed,
        ),
        (
            "/ip4/127.0.0.1/tcp/0".to_owned(),
            CandidateError::NotDialable,
        ),
        ("/memory/1".to_owned(), CandidateError::NotDialable),
    ] {
        let parsed: Multiaddr = addr.parse().expect("a multiaddr");
        let added = client
            .with(move |autonat| autonat.add_candidate(&parsed))
            .await;
        assert_eq!(added, Err(error), "{addr}");
    }
    assert_eq!(client.sizes().await.addresses, 0);
}

/// By default nothing private leaves the node, and so none of what it listens on here.
#[tokio::test]
async fn a_private_address_is_not_asked_about_unless_configured() {
    let mut client = Client::with_private_addresses_kept(brisk());
    let (_, address) = listen(&mut client, TCP).await;
    assert_eq!(client.report(&address).await, None);
    let added = address.clone();
    let added = client
        .with(move |autonat| autonat.add_candidate(&added))
        .await;
    assert_eq!(added, Err(CandidateError::NotPublic));
    assert_eq!(client.sizes().await.addresses, 0);
}

#[tokio::test]
async fn a_pinned_summary_stays_whatever_is_found() {
    let mut client = Client::new(brisk());
    client
        .with(|autonat| autonat.pin_summary(Some(Summary::Private)))
        .await;
    let (_, address) = listen(&mut client, TCP).await;
    let _server = honest(&mut client, TCP).await;
    client.confirmed(&address).await;
    assert_eq!(
        client.with(|autonat| autonat.summary()).await,
        Summary::Private
    );
    client.with(|autonat| autonat.pin_summary(None)).await;
    summary_becomes(&mut client, Summary::Public).await;
}
