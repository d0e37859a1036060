//! A node of the NAT laboratory (`lab/run`): a plain composition of identify, kad, ping, and the client and server of this crate,
//! or the client of `libp2p-autonat` in place of ours, to compare.
//!
//! It takes one argument, a JSON object of options (see [`Options`]), and prints one JSON object a line, each with the time at
//! which it happened (`at`, seconds since the Unix epoch) and since the first connection (`t`, seconds). It ends when its
//! time is over or its standard input is closed, whichever comes first, so that none outlives the runner.

use std::{
    error::Error,
    io::Write,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify,
    identity::Keypair,
    kad,
    multiaddr::Protocol,
    noise, ping,
    swarm::{
        NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts,
        dial_opts::PeerCondition,
    },
    tcp, yamux,
};
use libp2p_autonat::v2::client as foreign;
use libp2p_autonat_v2::{
    client::{self, AddressReport},
    server,
};
use serde_json::{Value, json};

type Failure = Box<dyn Error + Send + Sync>;

const KAD: StreamProtocol = StreamProtocol::new("/lab/kad/1.0.0");
/// How often a client dials the servers that it has lost, as a node does with its bootstrap peers.
const RECONNECT: Duration = Duration::from_secs(5);

/// What the runner wants.
struct Options {
    /// Who tests and serves: `client`, `server`, `both`, `public` (both, with a known external address) or `foreign-client`
    /// (`libp2p-autonat`).
    role: String,
    listen: Vec<Multiaddr>,
    /// Client: whom to connect to, with their peer ids.
    servers: Vec<Multiaddr>,
    /// Server: a dialer of its own, with a listener here, from which QUIC dial-backs come.
    dialer: Option<Multiaddr>,
    /// After how long to end, whatever happened.
    time: Duration,
}

impl Options {
    fn from_args() -> Result<Self, Failure> {
        let arg = std::env::args().nth(1).ok_or("no options given")?;
        let given: Value = serde_json::from_str(&arg)?;
        let addrs = |name: &str| -> Result<Vec<Multiaddr>, Failure> {
            let listed = given[name].as_array().map_or(&[][..], Vec::as_slice);
            Ok(listed
                .iter()
                .filter_map(Value::as_str)
                .map(str::parse)
                .collect::<Result<_, _>>()?)
        };
        Ok(Self {
            role: given["role"].as_str().ok_or("no role")?.to_owned(),
            listen: addrs("listen")?,
            servers: addrs("servers")?,
            dialer: given["dialer"].as_str().map(str::parse).transpose()?,
            time: Duration::from_secs(given["seconds"].as_u64().ok_or("no time limit")?),
        })
    }

    fn is(&self, roles: &[&str]) -> bool {
        roles.contains(&self.role.as_str())
    }
}

#[derive(NetworkBehaviour)]
struct Node {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    ping: ping::Behaviour,
    client: Toggle<client::Behaviour>,
    foreign: Toggle<foreign::Behaviour>,
    server: Toggle<server::Behaviour>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let run = || -> Result<(), Failure> {
        let options = Options::from_args()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let ended = runtime.block_on(async {
            tokio::select! {
                done = run(&options) => done,
                () = tokio::time::sleep(options.time) => Ok(()),
            }
        });
        runtime.shutdown_background();
        ended
    };
    std::thread::spawn(end_with_runner);
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!(
                "{}",
                json!({ "event": "error", "error": error.to_string() })
            );
            ExitCode::FAILURE
        }
    }
}

fn end_with_runner() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(0);
}

/// Prints events with the time.
struct Clock {
    first_connection: Option<Instant>,
}

impl Clock {
    fn tell(&self, event: &str, mut fields: Value) {
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        fields["event"] = event.into();
        fields["at"] = at.as_secs_f64().into();
        fields["t"] = self
            .first_connection
            .map(|first| first.elapsed().as_secs_f64())
            .into();
        let mut out = std::io::stdout().lock();
        // Without a runner there is nobody to tell that.
        let _ = writeln!(out, "{fields}").and_then(|()| out.flush());
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let mut swarm = swarm(options)?;
    let mut clock = Clock {
        first_connection: None,
    };
    let mut listening = Vec::new();
    for addr in &options.listen {
        swarm.listen_on(addr.clone())?;
    }
    while listening.len() < options.listen.len() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => listening.push(address),
            SwarmEvent::ListenerClosed { reason, .. } => {
                return Err(format!("can't listen: {reason:?}").into());
            }
            _ => {}
        }
    }
    if options.is(&["server", "public"]) {
        // Servers are public by configuration.
        for addr in &listening {
            swarm.add_external_address(addr.clone());
        }
    }
    clock.tell(
        "ready",
        json!({ "id": swarm.local_peer_id().to_string(), "addrs": listening }),
    );
    let mut reconnect = tokio::time::interval(RECONNECT);
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event(&mut swarm, &mut clock, event),
            _ = reconnect.tick() => connect(&mut swarm, &options.servers),
        }
    }
}

fn swarm(options: &Options) -> Result<Swarm<Node>, Failure> {
    let serves = options.is(&["server", "public", "both"]);
    let dialer = match &options.dialer {
        Some(listen) => Some(dialer(listen)?),
        None => None,
    };
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut kad = kad::Behaviour::with_config(
                id,
                kad::store::MemoryStore::new(id),
                kad::Config::new(KAD),
            );
            if options.is(&["server", "public"]) {
                kad.set_mode(Some(kad::Mode::Server));
            }
            Node {
                identify: identify(key),
                kad,
                ping: ping::Behaviour::default(),
                client: options
                    .is(&["client", "both", "public"])
                    .then(|| client::Behaviour::new(id, client::Config::default()))
                    .into(),
                foreign: options
                    .is(&["foreign-client"])
                    .then(foreign::Behaviour::default)
                    .into(),
                server: serves.then(|| server_behaviour(dialer)).into(),
            }
        })?
        // As long as a node that uses its connections keeps them.
        .with_swarm_config(|config| config.with_idle_connection_timeout(options.time))
        .build())
}

fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/lab/1.0.0".to_owned(), key.public()))
}

fn server_behaviour(dialer: Option<Swarm<server::DialBack>>) -> server::Behaviour {
    let config = server::Config::default();
    match dialer {
        Some(dialer) => server::Behaviour::with_dialer(config, dialer),
        None => server::Behaviour::new(config),
    }
}

/// A swarm that dials back, over QUIC from the IP that it listens on.
fn dialer(listen: &Multiaddr) -> Result<Swarm<server::DialBack>, Failure> {
    let mut dialer = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|_| server::DialBack::default().with_dials_from_listeners(true))?
        .build();
    dialer.listen_on(listen.clone())?;
    Ok(dialer)
}

/// Dials the servers that are not connected.
fn connect(swarm: &mut Swarm<Node>, servers: &[Multiaddr]) {
    for server in servers {
        let Some(peer) = peer_of(server) else {
            continue;
        };
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(vec![server.clone()])
            .build();
        // It is connected already.
        let _ = swarm.dial(opts);
    }
}

fn peer_of(addr: &Multiaddr) -> Option<PeerId> {
    addr.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

fn on_event(swarm: &mut Swarm<Node>, clock: &mut Clock, event: SwarmEvent<NodeEvent>) {
    match event {
        SwarmEvent::ConnectionEstablished {
            peer_id, endpoint, ..
        } => {
            clock.first_connection.get_or_insert_with(Instant::now);
            clock.tell(
                "connected",
                json!({
                    "peer": peer_id.to_string(),
                    "dialed": endpoint.is_dialer(),
                    "remote": endpoint.get_remote_address(),
                }),
            );
        }
        SwarmEvent::ConnectionClosed { peer_id, cause, .. } => clock.tell(
            "disconnected",
            json!({ "peer": peer_id.to_string(), "cause": cause.map(|cause| cause.to_string()) }),
        ),
        SwarmEvent::ExternalAddrConfirmed { address } => {
            clock.tell("confirmed", json!({ "addr": address }));
        }
        SwarmEvent::ExternalAddrExpired { address } => {
            clock.tell("expired", json!({ "addr": address }));
        }
        SwarmEvent::Behaviour(event) => on_behaviour_event(swarm, clock, event),
        _ => {}
    }
}

fn on_behaviour_event(swarm: &mut Swarm<Node>, clock: &Clock, event: NodeEvent) {
    match event {
        NodeEvent::Identify(identify::Event::Received {
            connection_id,
            peer_id,
            info,
        }) => {
            if let Some(client) = swarm.behaviour_mut().client.as_mut() {
                client.observed(connection_id, &info.observed_addr);
            }
            if info.protocols.contains(&KAD) {
                for addr in info.listen_addrs {
                    swarm.behaviour_mut().kad.add_address(&peer_id, addr);
                }
            }
        }
        // A connection that is dead without having been closed.
        NodeEvent::Ping(ping::Event {
            connection,
            result: Err(ping::Failure::Timeout),
            ..
        }) => {
            swarm.close_connection(connection);
        }
        NodeEvent::Client(event) => tell_ours(swarm, clock, event),
        NodeEvent::Foreign(tested) => {
            let verdict = if tested.result.is_ok() {
                "reachable"
            } else {
                "unreachable"
            };
            clock.tell(
                "probed",
                json!({
                    "addr": tested.tested_addr,
                    "server": tested.server.to_string(),
                    "outcome": verdict,
                    "detail": tested.result.err().map(|error| error.to_string()),
                    "dial_data": tested.bytes_sent,
                }),
            );
            // It keeps no verdicts: the result of a test is its last word.
            clock.tell(
                "verdict",
                json!({ "addr": tested.tested_addr, "verdict": verdict }),
            );
        }
        NodeEvent::Server(server::Event::Served(served)) => clock.tell(
            "served",
            json!({
                "client": served.client.to_string(),
                "observed_ip": served.observed_ip,
                "asked": served.asked,
                "tested": served.tested.map(|(_, addr)| addr),
                "data": served.dial_data_received,
                "dial_back": served.dial_back.map(|outcome| format!("{outcome:?}")),
                "status": served.status.map(|status| status.to_string()),
                "dial_status": served.dial_status.map(|status| status.to_string()),
                "seconds": served.duration.as_secs_f64(),
            }),
        ),
        NodeEvent::Server(event) => {
            clock.tell("server", json!({ "detail": format!("{event:?}") }));
        }
        _ => {}
    }
}

fn tell_ours(swarm: &Swarm<Node>, clock: &Clock, event: client::Event) {
    match event {
        client::Event::VerdictChanged {
            address,
            old,
            new,
            vantage,
            confidence,
            ..
        } => {
            let report = swarm
                .behaviour()
                .client
                .as_ref()
                .and_then(|client| client.address(&address));
            clock.tell(
                "verdict",
                json!({
                    "addr": address,
                    "old": old.as_str(),
                    "verdict": new.as_str(),
                    "vantage": vantage.map(client::Vantage::as_str),
                    "confidence": confidence,
                    "servers": report.as_ref().map(|report: &AddressReport| report.servers),
                }),
            );
        }
        client::Event::Probed(probed) => {
            // More than verdict events say: a proof from elsewhere can raise the vantage of one that stands.
            let report = swarm
                .behaviour()
                .client
                .as_ref()
                .and_then(|client| client.address(&probed.address));
            clock.tell(
                "probed",
                json!({
                    "addr": probed.address,
                    "server": probed.server.to_string(),
                    "outcome": probed.outcome.as_str(),
                    "vantage": match probed.outcome {
                        client::ProbeOutcome::Reachable(vantage) => Some(vantage.as_str()),
                        _ => None,
                    },
                    "stands": report.as_ref().map(|report| report.verdict.as_str()),
                    "stands_from": report
                        .as_ref()
                        .and_then(|report| report.vantage)
                        .map(client::Vantage::as_str),
                    "dial_data": probed.dial_data,
                    "took": probed.took.as_secs_f64(),
                    "addresses": probed.addresses,
                }),
            );
        }
        client::Event::SummaryChanged { new, .. } => {
            clock.tell("summary", json!({ "summary": new.as_str() }));
        }
        client::Event::NatMappingChanged { new, .. } => {
            clock.tell("mapping", json!({ "mapping": format!("{new:?}") }));
        }
        client::Event::ServersWanted { known, wanted, .. } => {
            clock.tell("wanted", json!({ "known": known, "wanted": wanted }));
        }
        _ => {}
    }
}
