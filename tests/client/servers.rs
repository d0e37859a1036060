//! Servers that leave, lie, stall, refuse and reject; and too few of them.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId, swarm::SwarmEvent};
use libp2p_autonat_v2::{
    client::{Config, Event, ProbeOutcome, Verdict},
    protocol::{DialStatus, ResponseStatus},
    reachability::ProbeEnd,
};

use crate::{
    scene::{brisk, event, external, honest, listen, over_both, probed_by},
    support::{
        autonat::{dialed, not_dialed},
        serving::{Asked, Client, HonestServer, RawServer, TestedEvent, honest_server},
    },
};

/// A client whose address an honest server has confirmed, and a server that is about to misbehave.
struct Scene {
    client: Client,
    honest: HonestServer,
    hostile: RawServer,
    address: Multiaddr,
    served_at: Multiaddr,
}

impl Scene {
    async fn new(transport: &str, config: Config) -> (Self, Asked) {
        let mut client = Client::new(config);
        let (_, address) = listen(&mut client, transport).await;
        let honest = honest(&mut client, transport).await;
        client.confirmed(&address).await;
        client.is_idle().await;
        let mut hostile = RawServer::new();
        let served_at = hostile.node.listen(transport).await;
        client.connect(&served_at).await;
        // The verdict wants its margin, and so the new one is asked.
        let asked = hostile.asked().await;
        let scene = Self {
            client,
            honest,
            hostile,
            address,
            served_at,
        };
        (scene, asked)
    }

    /// The verdict never moved, and the honest server is asked as before.
    async fn stands_firm(mut self) {
        let Self {
            client,
            address,
            honest,
            hostile,
            ..
        } = &mut self;
        // Outcomes of before are not what is waited for.
        let before = client.node.drain();
        let checked = address.clone();
        client
            .with(move |autonat| autonat.check_now(&checked))
            .await
            .expect("it is tracked");
        // The other one may be asked first, and has nothing more to say.
        let silence = async {
            loop {
                drop(hostile.asked().await);
            }
        };
        let probed = tokio::select! {
            probed = probed_by(client, honest.peer_id) => probed,
            () = silence => unreachable!("it never ends"),
        };
        assert!(matches!(probed.outcome, ProbeOutcome::Reachable(_)));
        let after = client.node.drain();
        for event in before.iter().chain(&after) {
            assert!(!matches!(event, SwarmEvent::ExternalAddrExpired { .. }));
            if let SwarmEvent::Behaviour(TestedEvent::Autonat(Event::VerdictChanged {
                new, ..
            })) = event
            {
                assert_eq!(*new, Verdict::Reachable);
            }
        }
        let report = client.report(address).await.expect("tracked");
        assert_eq!(report.verdict, Verdict::Reachable);
        assert!(report.announced);
        assert_eq!(external(client).await, std::slice::from_ref(address));
    }

    async fn comes_to(&mut self, outcome: ProbeOutcome) {
        let probed = probed_by(&mut self.client, self.hostile.peer_id()).await;
        assert_eq!(probed.outcome, outcome);
    }
}

#[tokio::test]
async fn a_server_that_leaves_in_the_middle_changes_nothing() {
    over_both(async |transport| {
        let (mut scene, asked) = Scene::new(transport, brisk()).await;
        scene.hostile.close(asked.connection).await;
        let probed = probed_by(&mut scene.client, scene.hostile.peer_id()).await;
        assert!(matches!(
            probed.outcome,
            ProbeOutcome::NoAnswer(ProbeEnd::ConnectionClosed | ProbeEnd::Reset)
        ));
        scene.stands_firm().await;
    })
    .await;
}

/// Over TCP a stream may break a moment before its connection, which is a failure that is backed off.
#[tokio::test]
async fn a_server_that_leaves_and_comes_back_is_asked_again() {
    over_both(async |transport| {
        let (mut scene, asked) = Scene::new(transport, brisk()).await;
        scene.hostile.close(asked.connection).await;
        probed_by(&mut scene.client, scene.hostile.peer_id()).await;
        scene.client.is_idle().await;
        scene.client.connect(&scene.served_at).await;
        let mut again = scene.hostile.asked().await;
        assert_ne!(again.connection, asked.connection);
        assert_ne!(again.request.nonce, asked.request.nonce);
        let address = again.address();
        assert!(scene.hostile.dial_back(&again, &address).await);
        again.respond(dialed(0, DialStatus::Ok)).await;
        drop(again);
        let probed = probed_by(&mut scene.client, scene.hostile.peer_id()).await;
        assert!(matches!(probed.outcome, ProbeOutcome::Reachable(_)));
        scene.stands_firm().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_denies_what_others_prove_changes_nothing() {
    over_both(async |transport| {
        let (mut scene, mut asked) = Scene::new(transport, brisk()).await;
        asked.respond(dialed(0, DialStatus::DialError)).await;
        asked.ended().await;
        scene.comes_to(ProbeOutcome::DialError).await;
        scene.stands_firm().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_claims_a_dial_that_never_was_changes_nothing() {
    over_both(async |transport| {
        let (mut scene, mut asked) = Scene::new(transport, brisk()).await;
        asked.respond(dialed(0, DialStatus::Ok)).await;
        drop(asked);
        scene.comes_to(ProbeOutcome::NonceMissing).await;
        scene.stands_firm().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stalls_changes_nothing() {
    over_both(async |transport| {
        let limit = Duration::from_secs(4);
        let config = brisk().with_request_timeouts(limit, limit);
        let (mut scene, asked) = Scene::new(transport, config).await;
        scene
            .comes_to(ProbeOutcome::NoAnswer(ProbeEnd::Timeout))
            .await;
        drop(asked);
        scene.stands_firm().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_or_rejects_changes_nothing() {
    for (status, outcome) in [
        (ResponseStatus::DialRefused, ProbeOutcome::Refused),
        (ResponseStatus::RequestRejected, ProbeOutcome::Rejected),
        (ResponseStatus::InternalError, ProbeOutcome::InternalError),
    ] {
        over_both(async |transport| {
            let (mut scene, mut asked) = Scene::new(transport, brisk()).await;
            asked.respond(not_dialed(status)).await;
            drop(asked);
            scene.comes_to(outcome).await;
            scene.stands_firm().await;
        })
        .await;
    }
}

/// Of several connections to one server, one closes in the middle: the server is asked on another.
#[tokio::test]
async fn a_server_with_two_connections_is_asked_on_the_one_that_is_left() {
    over_both(async |transport| {
        let (mut scene, asked) = Scene::new(transport, brisk()).await;
        scene.client.connect(&scene.served_at).await;
        scene.hostile.close(asked.connection).await;
        probed_by(&mut scene.client, scene.hostile.peer_id()).await;
        let again = scene.hostile.asked().await;
        assert_ne!(again.connection, asked.connection);
        scene.hostile.drops(again).await;
        probed_by(&mut scene.client, scene.hostile.peer_id()).await;
        scene.stands_firm().await;
    })
    .await;
}

async fn servers_wanted(client: &mut Client) -> (usize, usize) {
    event(client, "more servers are wanted", |event| match event {
        Event::ServersWanted { known, wanted, .. } => Some((*known, *wanted)),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn without_servers_the_application_is_asked_for_some() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let (_, address) = listen(&mut client, transport).await;
        let (known, wanted) = servers_wanted(&mut client).await;
        assert_eq!(known, 0);
        assert!(wanted > 0);
        assert_eq!(client.with(|autonat| autonat.servers()).await, (0, 0));

        let server = honest(&mut client, transport).await;
        client.confirmed(&address).await;
        assert_eq!(client.with(|autonat| autonat.servers()).await, (1, 1));
        drop(server);
    })
    .await;
}

#[tokio::test]
async fn with_one_server_that_refuses_the_application_is_asked_for_more() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        let mut server = RawServer::new();
        let at = server.node.listen(transport).await;
        client.connect(&at).await;
        listen(&mut client, transport).await;
        let mut asked = server.asked().await;
        asked.respond(not_dialed(ResponseStatus::DialRefused)).await;
        drop(asked);
        let (known, wanted) = servers_wanted(&mut client).await;
        assert!(known < wanted, "{known} of {wanted}");
    })
    .await;
}

async fn known(client: &Client) -> Vec<PeerId> {
    client
        .with(|autonat| autonat.known_servers().map(|it| it.peer).collect())
        .await
}

#[tokio::test]
async fn only_servers_that_the_application_lets_it_ask_are_asked() {
    over_both(async |transport| {
        let mut client = Client::new(brisk());
        listen(&mut client, transport).await;
        let mut servers = [honest_server(), honest_server()];
        let mine = servers[0].peer_id;
        client
            .with(move |autonat| autonat.set_server_filter(move |peer| *peer == mine))
            .await;
        for server in &mut servers {
            let at = server.listen(transport).await;
            client.connect(&at).await;
        }
        for _ in 0..5 {
            let started = event(&mut client, "a request", |event| match event {
                Event::RequestStarted(started) => Some(started.server),
                _ => None,
            });
            assert_eq!(started.await, mine);
        }
        assert_eq!(known(&client).await, [mine]);

        client
            .with(|autonat| autonat.set_server_filter(|_| true))
            .await;
        probed_by(&mut client, servers[1].peer_id).await;
        client
            .with(|autonat| autonat.set_server_filter(|_| false))
            .await;
        assert!(known(&client).await.is_empty());
    })
    .await;
}
