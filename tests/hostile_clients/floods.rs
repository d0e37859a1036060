//! More clients than the server wants, over connections without cryptography.

use std::{collections::BTreeMap, ops::ControlFlow};

use libp2p::swarm::dial_opts::DialOpts;
use libp2p_autonat_v2::server::Load;

use super::{
    support::{Face, Node, Raw, Scope, face, naked_swarm},
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

/// A port where nobody listens. Each client of the crowd has it tested on its own IP, and the server dials it.
const CLOSED: u16 = 2;

/// So many clients, each of them new, connect, ask and leave. Meanwhile an honest client asks, once for each hundred of
/// them, `honest` times at most.
async fn flood(
    server: &mut Server,
    at: &Multiaddr,
    clients: usize,
    networks: u32,
    mut honest: Option<(&mut HonestClient, usize)>,
) -> Crowd {
    let (swarm, _) = naked_swarm(Raw::new(&[]), Scope::Loopback, Face::New { networks });
    let mut attacker = RawPeer::spawn(swarm);
    let mut crowd = Crowd::default();
    for batch in 0..clients.div_ceil(AT_ONCE) {
        let at = at.clone();
        let dialed = attacker
            .with(move |swarm| {
                (0..AT_ONCE)
                    .map(|_| {
                        let opts = DialOpts::unknown_peer_id().address(at.clone()).build();
                        let connection = opts.connection_id();
                        swarm.dial(opts).expect("the dial starts");
                        connection
                    })
                    .collect::<Vec<_>>()
            })
            .await;
        for _ in 0..AT_ONCE {
            connected(&mut attacker).await;
        }
        let mut requests = Vec::new();
        let streams = streams(&mut attacker, dialed.clone()).await;
        for (at, stream) in (batch * AT_ONCE..).zip(streams) {
            let [_, b, c, d] = face(u32::try_from(at).expect("few"), networks).octets();
            let addr = format!("/ip4/20.{b}.{c}.{d}/tcp/{CLOSED}");
            let request = DialRequest::new([addr.parse().expect("valid")], 1);
            let mut stream = Framed::new(stream, MessageCodec::default());
            // A rejected client may be told so before it has asked.
            let _ = stream.send(Message::DialRequest(request)).await;
            requests.push(stream);
        }
        note(&mut crowd, server.load().await);
        if let Some((honest, times)) = &mut honest
            && *times > 0
            && batch > 0
        {
            server.serves_again(honest).await;
            *times -= 1;
        }
        for mut request in requests {
            let response = answer(&mut request).await;
            match response.status {
                ResponseStatus::RequestRejected => crowd.rejected += 1,
                ResponseStatus::Ok => {
                    assert_eq!(response.dial_status, DialStatus::DialError);
                    crowd.served += 1;
                }
                other => panic!("{other}"),
            }
        }
        note(&mut crowd, server.load().await);
        attacker
            .with(move |swarm| {
                for connection in dialed {
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

/// Opens a stream on each of the connections, in the same order.
async fn streams(attacker: &mut RawPeer, connections: Vec<ConnectionId>) -> Vec<Stream> {
    let ids = attacker
        .with(move |swarm| {
            connections
                .into_iter()
                .map(|connection| {
                    swarm
                        .behaviour_mut()
                        .open(connection, DIAL_REQUEST_PROTOCOL)
                })
                .collect::<Vec<_>>()
        })
        .await;
    let mut streams = BTreeMap::new();
    for _ in &ids {
        let (id, result) = attacker
            .take("an answer to a stream", |event| match event {
                SwarmEvent::Behaviour(RawEvent::Opened { id, result }) => {
                    ControlFlow::Break((id, result))
                }
                other => ControlFlow::Continue(other),
            })
            .await;
        streams.insert(id, result.expect("the server speaks the protocol"));
    }
    // They were numbered in the order of the connections.
    streams.into_values().collect()
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
    const HONEST: usize = 12;

    let mut server = Server::naked(Config::default());
    let at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut honest = server.knows(honest()).await;
    server.dials.clear();
    let start = std::time::Instant::now();
    let crowd = flood(&mut server, &at, CLIENTS, 1, Some((&mut honest, HONEST))).await;
    let minutes = usize::try_from(start.elapsed().as_secs() / 60 + 1).expect("small");

    assert_eq!(crowd.served + crowd.rejected, CLIENTS);
    assert!(crowd.served >= 15, "{crowd:?}");
    assert!(
        crowd.served <= 15 * minutes,
        "one neighbourhood has 15 a minute: {crowd:?}"
    );
    let most = crowd.most.expect("looked");
    assert!(most.requests <= 64, "{most:?}");
    assert!(
        most.rate_entries <= 15 * minutes + 2 + 3 + 64,
        "who is rejected is not remembered: {most:?}"
    );
    assert_eq!(
        server.dials.all().len(),
        crowd.served + HONEST,
        "one dial for each request that was served"
    );

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
    let mut honest = server.knows(honest()).await;
    server.dials.clear();
    let start = std::time::Instant::now();
    let crowd = flood(&mut server, &at, 1000, 2, None).await;
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
    assert_eq!(server.dials.all().len(), crowd.served);

    // The honest client has its own peer id and neighbourhood: it gets all that is left for it, while the crowd goes on.
    let crowd = flood(&mut server, &at, 1300, 2, Some((&mut honest, 12))).await;
    assert!(crowd.rejected > 0, "{crowd:?}");
    server.is_idle().await;
}
