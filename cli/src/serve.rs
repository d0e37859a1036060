//! A public AutoNAT v2 server: persistent identity, all limits as options, metrics over HTTP, clean shutdown.

mod args;
pub(crate) mod config_file;
mod http;
mod identity;

use std::{
    fmt, io,
    net::{TcpListener, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

pub(crate) use args::Args;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, connection_limits,
    core::transport::ListenerId,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    ping,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{
    address::{self, PortProtocol},
    metrics::{Metrics, Recorder, Registry},
    server::{self, DialBack, Event},
};

use crate::{
    signals::Signals,
    terminal::{self, ASIDE},
    transport::{self, why},
};

/// How long requests under way may take after the first signal to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a dial-back's connection may stay idle: as long as in a swarm of `SwarmBuilder`.
const DIALER_IDLE: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat: server::Behaviour,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("can't start: {error}"));
    match runtime.and_then(|runtime| runtime.block_on(run(args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), String> {
    // Before anything is said: who reads it may send a signal at once.
    let mut signals = Signals::new().map_err(|error| format!("can't wait for signals: {error}"))?;
    let known = identity::load(&args.key)?;
    let key = known.clone().unwrap_or_else(Keypair::generate_ed25519);
    let mut swarm = swarm(args, &key)?;
    let listeners = listen(&mut swarm, args)?;
    for addr in &args.external {
        swarm.add_external_address(addr.clone());
    }
    let mut registry = Registry::default();
    let metrics = Metrics::of_server(&mut registry);
    let (metrics_at, mut scrapes) = match args.metrics {
        None => (None, None),
        Some(addr) => {
            let served = http::serve(addr).await;
            let (addr, scrapes) =
                served.map_err(|error| format!("can't serve metrics on {addr}: {error}"))?;
            (Some(addr), Some(scrapes))
        }
    };
    // Last of what may fail: a mistake on the command line leaves no file behind.
    if known.is_none() {
        identity::save(&args.key, &key)?;
        say(format_args!("made a new key: {}", args.key.display()));
    }
    say(format_args!("peer {}", swarm.local_peer_id()));
    if let Some(addr) = metrics_at {
        say(format_args!("metrics on http://{addr}/metrics"));
    }

    let mut served = Served::default();
    let mut stopping: Option<Instant> = None;
    loop {
        let load = swarm.behaviour().autonat.load();
        if stopping.is_some_and(|since| load.requests == 0 || since.elapsed() >= FAREWELL) {
            break;
        }
        let scrape = async {
            match &mut scrapes {
                Some(scrapes) => scrapes.recv().await,
                None => None,
            }
        };
        tokio::select! {
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) = &event {
                    metrics.record(event);
                }
                on_event(event, *swarm.local_peer_id(), args.quiet, &mut served);
            }
            Some(scrape) = scrape => {
                metrics.record(&swarm.behaviour().autonat);
                let mut text = String::new();
                if prometheus_client::encoding::text::encode(&mut text, &registry).is_ok() {
                    let _ = scrape.send(text);
                }
            }
            name = signals.next() => {
                if stopping.replace(Instant::now()).is_some() {
                    break;
                }
                say(format_args!("{name}: stopping, {} requests are under way", load.requests));
                for listener in &listeners {
                    swarm.remove_listener(*listener);
                }
            }
            () = tokio::time::sleep(Duration::from_millis(200)), if stopping.is_some() => {}
        }
    }
    served.print();
    Ok(())
}

/// Prints a line with the time, escaped: clients choose much of what is in it. Whoever listens no more, as `head` does, is
/// no reason to stop serving.
fn say(line: fmt::Arguments<'_>) {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let line = terminal::escape(&line.to_string());
    terminal::print(&format!("{ASIDE}{now}{ASIDE:#} {line}\n"));
}

/// What was done so far.
#[derive(Debug, Default)]
struct Served {
    requests: u64,
    reached: u64,
    rejected: u64,
    misbehaved: u64,
}

impl Served {
    fn print(&self) {
        say(format_args!(
            "stopped: {} requests served, {} of them reached their client; {} rejected; {} broke the protocol",
            self.requests, self.reached, self.rejected, self.misbehaved
        ));
    }
}

fn on_event(event: SwarmEvent<BehaviourEvent>, me: PeerId, quiet: bool, served: &mut Served) {
    let said = match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            return say(format_args!("listening on {address}/p2p/{me}"));
        }
        SwarmEvent::ListenerError { error, .. } => {
            return terminal::complain(&format!("a listener failed: {error}"));
        }
        SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::Served(request))) => {
            served.requests += 1;
            let reached = request.dial_back == Some(server::DialBackOutcome::Delivered);
            served.reached += u64::from(reached);
            let what = request.tested.as_ref().map_or_else(
                || format!("none of {} addresses", request.asked_in_all),
                |(_, addr)| addr.to_string(),
            );
            let outcome = request.dial_back.as_ref();
            let outcome = outcome.map_or("not dialed".to_owned(), |outcome| format!("{outcome:?}"));
            format!(
                "{}: {what}, {outcome}, {} bytes of dial data, {:.1} s",
                request.client,
                request.dial_data_received,
                request.duration.as_secs_f64()
            )
        }
        SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::Rejected(rejected))) => {
            served.rejected += rejected.count;
            let limit = rejected.limit.as_str();
            format!(
                "{}: {} rejected, over the limit: {limit}",
                rejected.client, rejected.count
            )
        }
        SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::Misbehaved(misbehaved))) => {
            served.misbehaved += misbehaved.count;
            let cause = misbehaved.cause.as_str();
            format!(
                "{}: broke the protocol {} times: {cause}",
                misbehaved.client, misbehaved.count
            )
        }
        _ => return,
    };
    if !quiet {
        say(format_args!("{said}"));
    }
}

fn swarm(args: &Args, key: &Keypair) -> Result<Swarm<Behaviour>, String> {
    let autonat = match args.own_dialer || !args.dial_from.is_empty() {
        true => server::Behaviour::with_dialer(args.config(), dialer(args)?),
        false => server::Behaviour::new(args.config()),
    };
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(args.max_connections));
    let agent = identify::Config::new("/libp2p-autonat-v2-server/1.0.0".to_owned(), key.public());
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(agent),
        ping: ping::Behaviour::default(),
        autonat,
    };
    let idle = Duration::from_secs(args.idle_timeout);
    transport::swarm(key, behaviour, args.policy.names(), idle)
}

/// A swarm for dial-backs alone, that sends QUIC from the IPs that were given.
fn dialer(args: &Args) -> Result<Swarm<DialBack>, String> {
    let ips = &args.dial_from;
    let behaviour = DialBack::default().with_dials_from_listeners(!ips.is_empty());
    let key = Keypair::generate_ed25519();
    let mut swarm = transport::swarm(&key, behaviour, args.policy.names(), DIALER_IDLE)?;
    for ip in ips {
        let addr = Multiaddr::from(*ip)
            .with(Protocol::Udp(0))
            .with(Protocol::QuicV1);
        swarm
            .listen_on(addr)
            .map_err(|error| format!("can't dial from {ip}: {}", why(&error)))?;
    }
    Ok(swarm)
}

fn listen(swarm: &mut Swarm<Behaviour>, args: &Args) -> Result<Vec<ListenerId>, String> {
    let mut listeners = Vec::new();
    let addrs = args.listen();
    for (addr, _) in &addrs {
        if is_taken(addr) {
            return Err(format!("can't listen on {addr}: another program does"));
        }
    }
    for (addr, must) in addrs {
        match swarm.listen_on(addr.clone()) {
            Ok(id) => listeners.push(id),
            Err(error) if must => return Err(format!("can't listen on {addr}: {}", why(&error))),
            // Not every machine has IPv6.
            Err(_) => {}
        }
    }
    Ok(listeners)
}

/// libp2p shares its TCP ports: a second server would listen beside the first and get some of its clients.
fn is_taken(addr: &Multiaddr) -> bool {
    let bound = address::thin_waist(addr).map(|at| match at.protocol {
        PortProtocol::Tcp => TcpListener::bind((at.ip, at.port)).map(drop),
        PortProtocol::Udp => UdpSocket::bind((at.ip, at.port)).map(drop),
    });
    matches!(bound, Some(Err(error)) if error.kind() == io::ErrorKind::AddrInUse)
}
