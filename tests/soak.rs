//! A server and fifty clients on loopback for twenty minutes, with hostile ones among them: what they hold stays flat, and the
//! verdicts stay right.
//!
//! `cargo test --test soak -- --ignored --nocapture`; `SOAK_SECONDS=120` for a short run. Each sample is a line of
//! `soak.csv` in cargo's temporary directory.

#![cfg(target_os = "linux")]

#[path = "soak/hostile.rs"]
mod hostile;
#[path = "soak/sample.rs"]
mod sample;
mod support;

use std::{
    env,
    time::{Duration, Instant},
};

use hostile::Attack;
use libp2p::{Multiaddr, identify, identity::Keypair};
use libp2p_autonat_v2::{
    client::{self, Verdict},
    server,
};
use sample::{Sample, Samples};
use support::{
    Node, from_new_port,
    serving::{Client, Honest, HonestServer, QUIC, RawServer, TCP},
    swarm,
};
use tokio::{net::TcpSocket, task::JoinHandle};

const HONEST: usize = 40;
const HOSTILE_CLIENTS: usize = 8;
const HOSTILE_SERVERS: usize = 2;
/// All of them find each other within this time, and the rates of a minute fill.
const WARM_UP: Duration = Duration::from_secs(60);
/// How often an honest client leaves and another one comes.
const TURNOVER: Duration = Duration::from_secs(5);
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes twenty minutes"]
async fn twenty_minutes_leave_nothing_behind() {
    tokio::task::LocalSet::new().run_until(soak()).await;
}

async fn soak() {
    let seconds = env::var("SOAK_SECONDS").map_or(1_200, |it| it.parse().expect("a number"));
    let length = Duration::from_secs(seconds).max(WARM_UP * 2);
    let mut server = server();
    let served_at = [server.listen(TCP).await, server.listen(QUIC).await];
    let mut attacks = Vec::new();
    let mut liars = Vec::new();
    for _ in 0..HOSTILE_SERVERS {
        let mut liar = RawServer::new();
        liars.push(liar.node.listen(TCP).await);
        attacks.push(tokio::task::spawn_local(hostile::lies(liar)));
    }
    for attack in Attack::ALL.into_iter().cycle().take(HOSTILE_CLIENTS) {
        attacks.push(tokio::task::spawn_local(hostile::attacks(
            attack,
            served_at[0].clone(),
        )));
    }
    let mut clients = Vec::new();
    for number in 0..HONEST {
        clients.push(HonestClient::new(&served_at[number % 2], &liars).await);
    }

    let start = Instant::now();
    let mut samples = Samples::new(start);
    let mut next_turnover = start + TURNOVER;
    let mut tick = tokio::time::interval(BETWEEN_SAMPLES);
    while start.elapsed() < length {
        tick.tick().await;
        if next_turnover <= Instant::now() {
            next_turnover += TURNOVER;
            let left = clients.remove(0);
            drop(left);
            let number = samples.len();
            clients.push(HonestClient::new(&served_at[number % 2], &liars).await);
        }
        samples.push(sample(&mut server, &mut clients).await);
        assert!(
            !attacks.iter().any(JoinHandle::is_finished),
            "an attack ended"
        );
    }
    println!("{}", samples.summary());
    samples.are_flat();
}

/// All come from one neighbourhood, so that what it may do is what all may do.
fn server() -> HonestServer {
    let config = server::Config::default()
        .with_private_addresses(true)
        .with_max_requests_per_minute(2_000)
        .with_max_requests_per_minute_per_neighbourhood(2_000)
        .with_max_dial_data_requests_per_minute(500)
        .with_max_dial_data_requests_per_minute_per_neighbourhood(500)
        .with_max_dials_per_minute_per_target(500);
    let keypair = Keypair::generate_ed25519();
    let identify = identify::Config::new("/soak/1".to_owned(), keypair.public());
    let behaviour = Honest {
        identify: identify::Behaviour::new(identify),
        autonat: server::Behaviour::new(config),
    };
    Node::spawn(swarm(keypair, behaviour))
}

struct HonestClient {
    client: Client,
    open: [Multiaddr; 2],
    /// Nobody listens there while the socket is kept.
    closed: Multiaddr,
    _socket: TcpSocket,
    since: Instant,
}

impl HonestClient {
    async fn new(server: &Multiaddr, liars: &[Multiaddr]) -> Self {
        let config =
            client::Config::default().with_recheck(Duration::from_secs(2), Duration::from_secs(10));
        let mut client = Client::new(config);
        let open = [
            client.node.listen(TCP).await,
            client.node.listen(QUIC).await,
        ];
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("valid"))
            .expect("a free port");
        let port = socket.local_addr().expect("bound").port();
        let closed: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");
        let candidate = closed.clone();
        client
            .with(move |autonat| autonat.add_candidate(&candidate))
            .await
            .expect("it can be tested");
        for server in [server].into_iter().chain(liars) {
            client.node.connect(from_new_port(server.clone())).await;
        }
        Self {
            client,
            open,
            closed,
            _socket: socket,
            since: Instant::now(),
        }
    }
}

async fn sample(server: &mut HonestServer, clients: &mut [HonestClient]) -> Sample {
    // Nobody reads their events.
    server.drain();
    let load = server.with(|swarm| swarm.behaviour().autonat.load()).await;
    let mut sample = Sample::of_process(load);
    for honest in clients {
        honest.client.node.drain();
        sample.add_sizes(honest.client.sizes().await);
        if honest.since.elapsed() < WARM_UP {
            continue;
        }
        let expected = [
            (&honest.open[0], Verdict::Reachable),
            (&honest.open[1], Verdict::Reachable),
            (&honest.closed, Verdict::Unreachable),
        ];
        for (addr, expected) in expected {
            let report = honest.client.report(addr).await;
            sample.add_verdict(expected, report.map(|report| report.verdict));
        }
    }
    sample
}
