//! More clients than the server wants, over connections without cryptography.

use std::ops::ControlFlow;

use libp2p::swarm::dial_opts::DialOpts;
use libp2p_autonat_v2::server::Load;

use super::{
    support::{Face, Node, Raw, Scope, naked_swarm},
    *,
};

/// Clients that connect at the same time.
const AT_ONCE: usize = 100;

/// What a crowd got.
#[derive(Debug, Default)]
struct Crowd {
    served: usize,
    rejected: usize,
    /// The most that the server held at any time.
    most: Option<Load>,
}

/// So many clients, each of them new, connect, ask and leave.
async fn flood(server: &Server, at: &Multiaddr, clients: usize, networks: u32) -> Crowd {
    let (swarm, _) = naked_swarm(Raw::new(&[]), Scope::Loopback, Face::New { networks });
    let mut attacker = RawPeer::spawn(swarm);
    let mut crowd = Crowd::default();
    for _ in 0..clients.div_ceil(AT_ONCE) {
        let at = at.clone();
        attacker
            .with(move |swarm| {
                for _ in 0..AT_ONCE {
                    let opts = DialOpts::unknown_peer_id().address(at.clone()).build();
                    swarm.dial(opts).expect("the dial starts");
                }
            })
            .await;
        let mut connections = Vec::new();
        for _ in 0..AT_ONCE {
            connections.push(connected(&mut attacker).await);
        }
        let mut requests = Vec::new();
        for stream in streams(&mut attacker, connections.clone()).await {
            let mut request = Framed::new(stream, MessageCodec::default());
            // A rejected client may be told so before it has asked.
            let _ = request
                .send(Message::DialRequest(DialRequest::new([], 1)))
                .await;
            requests.push(request);
        }
        note(&mut crowd, server.load().await);
        for mut request in requests {
            match answer(&mut request).await.status {
                ResponseStatus::RequestRejected => crowd.rejected += 1,
                ResponseStatus::DialRefused => crowd.served += 1,
                other => panic!("{other}"),
            }
        }
        note(&mut crowd, server.load().await);
        attacker
            .with(move |swarm| {
                for connection in connections {
                    swarm.close_connection(connection);
                }
            })
            .await;
        attacker.drain();
    }
    crowd
}

async fn connected(attacker: &mut Node<Raw>) -> ConnectionId {
    attacker
        .event("a connection", |event| match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. } => Some(*connection_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => None,
        })
        .await
}

/// Opens a stream on each of the connections.
async fn streams(attacker: &mut RawPeer, connections: Vec<ConnectionId>) -> Vec<Stream> {
    let count = connections.len();
    attacker
        .with(move |swarm| {
            for connection in connections {
                swarm
                    .behaviour_mut()
                    .open(connection, DIAL_REQUEST_PROTOCOL);
            }
        })
        .await;
    let mut streams = Vec::new();
    for _ in 0..count {
        let result = attacker
            .take("an answer to a stream", |event| match event {
                SwarmEvent::Behaviour(RawEvent::Opened { result, .. }) => {
                    ControlFlow::Break(result)
                }
                other => ControlFlow::Continue(other),
            })
            .await;
        streams.push(result.expect("the server speaks the protocol"));
    }
    streams
}

fn note(crowd: &mut Crowd, load: Load) {
    let most = crowd.most.get_or_insert(load);
    most.requests = most.requests.max(load.requests);
    most.dials = most.dials.max(load.dials);
    most.rate_entries = most.rate_entries.max(load.rate_entries);
    most.queued = most.queued.max(load.queued);
}

/// An honest client of a server without cryptography.
fn honest() -> RawPeer {
    let (swarm, _) = naked_swarm(Raw::new(&[DIAL_BACK_PROTOCOL]), Scope::Loopback, Face::Own);
    RawPeer::spawn(swarm)
}

#[tokio::test]
async fn ten_thousand_peer_ids_from_one_ip() {
    const CLIENTS: usize = 10_000;

    let mut server = Server::naked(Config::default());
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let start = std::time::Instant::now();
    let crowd = flood(&server, &at, CLIENTS, 1).await;
    let minutes = usize::try_from(start.elapsed().as_secs() / 60 + 1).expect("small");

    assert_eq!(crowd.served + crowd.rejected, CLIENTS);
    assert!(crowd.served >= 20, "{crowd:?}");
    assert!(
        crowd.served <= 20 * minutes,
        "one neighbourhood has 20 a minute: {crowd:?}"
    );
    let most = crowd.most.expect("looked");
    assert!(most.requests <= 64, "{most:?}");
    assert!(
        most.rate_entries <= 20 * minutes + 2 + 64,
        "who is rejected is not remembered: {most:?}"
    );
    assert_eq!(server.dials.all(), []);
    server.serves(honest(), 12).await;

    // All rejections are counted, in few events.
    server.is_idle().await;
    let (mut events, mut counted) = (0, 0);
    while counted < crowd.rejected as u64 {
        counted += server.rejected().await.count;
        events += 1;
    }
    assert_eq!(counted, crowd.rejected as u64);
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("small");
    assert!(events <= 3 * (seconds + 2), "{events} in {seconds} s");
}

#[tokio::test]
async fn a_thousand_clients_from_two_networks() {
    const PER_MINUTE: u32 = 90;
    const PER_NEIGHBOURHOOD: u32 = 30;
    const AT_ONCE: u32 = 16;
    const DIALS_AT_ONCE: u32 = 8;

    let config = Config::default()
        .with_max_requests_per_minute(PER_MINUTE)
        .with_max_requests_per_minute_per_neighbourhood(PER_NEIGHBOURHOOD)
        .with_max_concurrent_requests(AT_ONCE)
        .with_max_concurrent_dials(DIALS_AT_ONCE);
    let mut server = Server::naked(config);
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let start = std::time::Instant::now();
    let crowd = flood(&server, &at, 1000, 2).await;
    let minutes = u32::try_from(start.elapsed().as_secs() / 60 + 1).expect("small");
    let served = u32::try_from(crowd.served).expect("small");
    let limits = AT_ONCE..=2 * PER_NEIGHBOURHOOD * minutes;
    assert!(limits.contains(&served), "{crowd:?}");

    // What `Load` promises for this configuration.
    let most = crowd.most.expect("looked");
    let holds = |load: usize, bound: u32| u32::try_from(load).is_ok_and(|load| load <= bound);
    assert!(holds(most.requests, AT_ONCE), "{most:?}");
    assert!(holds(most.dials, DIALS_AT_ONCE), "{most:?}");
    let rate_entries = 6 * PER_MINUTE + AT_ONCE;
    assert!(holds(most.rate_entries, rate_entries), "{most:?}");
    assert_eq!(server.dials.all(), []);

    // The honest client has its own peer id and neighbourhood: it gets all that is left for it.
    server.serves(honest(), 12).await;
    server.is_idle().await;
}
