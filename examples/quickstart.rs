//! Four servers and a client in one process, on loopback only: the client learns which of its addresses work.
//!
//! The client has an address over TCP and one over QUIC that work, one on another IP (so that the servers ask for dial
//! data), one whose port is closed, and one of a transport that no server here can dial. Exits with 0 if every verdict
//! is the right one within ten seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::TcpListener,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    address::{IpFamily, Transport},
    client::{self, ProbeOutcome, Verdict},
    server::{self, BoundedClose},
};

const SERVERS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(10);
/// How long the client may take, so that there is time to print what it has.
const JUDGED: Duration = Duration::from_secs(8);

#[derive(NetworkBehaviour)]
struct Client {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Server {
    identify: identify::Behaviour,
    autonat: server::Behaviour,
}

/// What should come out for an address, and why.
struct Expectation {
    what: &'static str,
    verdict: Verdict,
    refused_by: BTreeSet<PeerId>,
}

impl Expectation {
    fn new(what: &'static str, verdict: Verdict) -> Self {
        Self {
            what,
            verdict,
            refused_by: BTreeSet::new(),
        }
    }

    /// Whether the address was judged rightly. One that nobody can dial has no verdict: that all servers say so is the
    /// most there is to know.
    fn is_met_by(&self, verdict: Verdict) -> bool {
        let heard = self.verdict != Verdict::Unknown || self.refused_by.len() == SERVERS;
        verdict == self.verdict && heard
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let finished = tokio::time::timeout(DEADLINE, run()).await;
    match finished.unwrap_or_else(|_| Err(format!("not done after {DEADLINE:?}").into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    println!(
        "Starting {SERVERS} AutoNAT servers and one client on loopback. The client is told of five addresses.\n"
    );
    let mut names = BTreeMap::new();
    let mut server_addrs = Vec::new();
    for i in 0..SERVERS {
        let mut server = server_swarm()?;
        let listen = listen(
            &mut server,
            &["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"],
        )
        .await?;
        names.insert(*server.local_peer_id(), format!("server {}", i + 1));
        // Half of the servers are met over TCP, the others over QUIC.
        server_addrs.extend(listen.get(i % 2).cloned());
        tokio::spawn(async move { while server.next().await.is_some() {} });
    }

    let mut client = client_swarm()?;
    let mut expected = BTreeMap::new();
    let listening = listen(
        &mut client,
        &["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"],
    )
    .await?;
    for (addr, what) in listening.into_iter().zip(["TCP", "QUIC"]) {
        expected.insert(addr, Expectation::new(what, Verdict::Reachable));
    }
    let other_ip = match listen(&mut client, &["/ip4/127.0.0.2/tcp/0"]).await {
        Ok(addrs) => addrs,
        // Only Linux has all of 127.0.0.0/8.
        Err(_) => listen(&mut client, &["/ip6/::1/tcp/0"]).await?,
    };
    for addr in other_ip {
        expected.insert(addr, Expectation::new("another IP", Verdict::Reachable));
    }
    let closed: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}", closed_port()?).parse()?;
    let websocket: Multiaddr = format!("/ip4/127.0.0.1/tcp/{}/ws", closed_port()?).parse()?;
    for addr in [&closed, &websocket] {
        client.behaviour_mut().autonat.add_candidate(addr)?;
    }
    expected.insert(
        closed,
        Expectation::new("closed port", Verdict::Unreachable),
    );
    expected.insert(
        websocket,
        Expectation::new("WebSocket, which no server dials", Verdict::Unknown),
    );
    for (addr, expectation) in &expected {
        println!(
            "The client wants to know about {addr} ({}).",
            expectation.what
        );
    }
    println!();

    for addr in server_addrs {
        // From a port of its own: a reused one could leave from the other IP.
        client.dial(
            DialOpts::unknown_peer_id()
                .address(addr)
                .allocate_new_port()
                .build(),
        )?;
    }

    let mut clock = Clock {
        start: Instant::now(),
        connected: None,
        first_verdict: None,
    };
    let finished = tokio::time::timeout(JUDGED, async {
        while !all_met(&client, &expected) {
            if let Some(event) = client.next().await {
                tell(event, &names, &mut expected, &mut clock);
            }
        }
    })
    .await;
    print_table(&client, &expected);
    if let (Some(connected), Some(verdict)) = (clock.connected, clock.first_verdict) {
        println!(
            "\nFirst verdict {:.2} s after the first connection, all of them {:.2} s after it.",
            (verdict - connected).as_secs_f64(),
            connected.elapsed().as_secs_f64()
        );
    }
    if finished.is_err() {
        return Err(format!("not every verdict was right after {JUDGED:?}").into());
    }
    println!("Every verdict is the right one.");
    Ok(())
}

struct Clock {
    start: Instant,
    connected: Option<Instant>,
    first_verdict: Option<Instant>,
}

fn all_met(client: &Swarm<Client>, expected: &BTreeMap<Multiaddr, Expectation>) -> bool {
    expected.iter().all(|(addr, expectation)| {
        client
            .behaviour()
            .autonat
            .address(addr)
            .is_some_and(|report| expectation.is_met_by(report.verdict))
    })
}

/// Says in words what happened.
fn tell(
    event: SwarmEvent<ClientEvent>,
    names: &BTreeMap<PeerId, String>,
    expected: &mut BTreeMap<Multiaddr, Expectation>,
    clock: &mut Clock,
) {
    let name = |peer: &PeerId| names.get(peer).cloned().unwrap_or_else(|| peer.to_string());
    let said = match event {
        SwarmEvent::ConnectionEstablished {
            peer_id, endpoint, ..
        } if endpoint.is_dialer() => {
            clock.connected.get_or_insert_with(Instant::now);
            format!("connected to {}", name(&peer_id))
        }
        SwarmEvent::ExternalAddrConfirmed { address } => {
            format!("{address} is announced to the network from now on")
        }
        SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::Probed(probed))) => {
            if probed.outcome == ProbeOutcome::Refused
                && let Some(expectation) = expected.get_mut(&probed.address)
            {
                expectation.refused_by.insert(probed.server);
            }
            let outcome = match probed.outcome {
                ProbeOutcome::Reachable(_) => "dialed back and brought the nonce",
                ProbeOutcome::DialError => "could not connect",
                ProbeOutcome::Refused => "can't or won't dial it",
                other => other.as_str(),
            };
            let paid = match probed.dial_data {
                0 => String::new(),
                bytes => format!(", for {bytes} bytes of dial data"),
            };
            format!(
                "{}: {} {outcome}{paid}",
                probed.address,
                name(&probed.server)
            )
        }
        SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::VerdictChanged {
            address,
            new,
            confidence,
            ..
        })) => {
            clock.first_verdict.get_or_insert_with(Instant::now);
            format!(
                "{address}: {}, {}% sure",
                new.as_str().to_uppercase(),
                percent(confidence)
            )
        }
        SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::SummaryChanged {
            new, ..
        })) => format!("the node is {}", new.as_str()),
        _ => return,
    };
    println!("{:6.3} s  {said}", clock.start.elapsed().as_secs_f64());
}

fn print_table(client: &Swarm<Client>, expected: &BTreeMap<Multiaddr, Expectation>) {
    println!(
        "\n{:<36} {:<12} {:>10} {:>8} {:>9} {:>10}",
        "address", "verdict", "confidence", "servers", "time", "bytes paid"
    );
    for report in client.behaviour().autonat.addresses() {
        let refused_by = expected
            .get(&report.address)
            .map_or(0, |expectation| expectation.refused_by.len());
        let time = report.time_to_verdict.map_or_else(
            || "-".to_owned(),
            |time| format!("{:.3} s", time.as_secs_f64()),
        );
        println!(
            "{:<36} {:<12} {:>9}% {:>8} {:>9} {:>10}",
            report.address.to_string(),
            report.verdict.as_str(),
            percent(report.confidence),
            report.servers.max(refused_by),
            time,
            report.dial_data
        );
    }
    for report in client.behaviour().autonat.addresses() {
        if !expected.contains_key(&report.address) {
            println!(
                "\nNobody told the client of {}. It is a guess: the IP that the servers see, with the port of its listener \
                 on another IP. Behind a NAT such a guess is how an external address is found; here nothing listens there.",
                report.address
            );
        }
    }
}

/// Never 100: nothing is that sure.
fn percent(confidence: f64) -> f64 {
    (confidence * 100.0).floor().min(99.0)
}

fn client_swarm() -> Result<Swarm<Client>, Box<dyn Error>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| Client {
            identify: identify(key),
            autonat: client::Behaviour::new(
                key.public().to_peer_id(),
                client::Config::default().with_private_addresses(true),
            ),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build())
}

fn server_swarm() -> Result<Swarm<Server>, Box<dyn Error>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        // No peer that is dialed back holds a socket by not reading.
        .with_tcp(tcp::Config::default(), noise::Config::new, || {
            BoundedClose::new(yamux::Config::default())
        })?
        .with_quic()
        .with_behaviour(|key| Server {
            identify: identify(key),
            autonat: server::Behaviour::new(
                server::Config::default()
                    .with_private_addresses(true)
                    // All that they have transports for; by default, what they listen on.
                    .with_dialable([
                        (IpFamily::V4, Transport::Tcp),
                        (IpFamily::V4, Transport::Quic),
                        (IpFamily::V6, Transport::Tcp),
                    ])
                    .with_max_delay_after_dial_data(Duration::ZERO),
            ),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(DEADLINE))
        .build())
}

fn identify(key: &libp2p::identity::Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/quickstart/1.0.0".to_owned(),
        key.public(),
    ))
}

/// Listens on `addrs` and returns what the swarm really listens on, in the same order.
async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    addrs: &[&str],
) -> Result<Vec<Multiaddr>, Box<dyn Error>> {
    let mut listening = Vec::new();
    for addr in addrs {
        let id = swarm.listen_on(addr.parse()?)?;
        loop {
            match swarm.next().await {
                Some(SwarmEvent::NewListenAddr {
                    listener_id,
                    address,
                }) if listener_id == id => {
                    listening.push(address);
                    break;
                }
                Some(SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                }) if listener_id == id => {
                    return Err(format!("can't listen on {addr}: {reason:?}").into());
                }
                Some(_) => {}
                None => return Err("the swarm has ended".into()),
            }
        }
    }
    Ok(listening)
}

/// A port that nobody listens on: one that was free a moment ago.
fn closed_port() -> Result<u16, std::io::Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
