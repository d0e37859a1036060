//! A public AutoNAT v2 server: persistent identity, all limits as options, metrics over HTTP, clean shutdown.
//!
//! `cargo run --features metrics --example server -- --help` says how it is used.

mod args;
#[cfg(feature = "metrics")]
mod http;
mod identity;

use std::{
    error::Error,
    fmt, io,
    io::Write as _,
    net::{IpAddr, TcpListener, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use args::Args;
use clap::Parser;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError, connection_limits,
    core::transport::ListenerId,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
#[cfg(feature = "metrics")]
use libp2p_autonat_v2::metrics::{Metrics, Recorder, Registry};
use libp2p_autonat_v2::{
    address::{self, PortProtocol},
    server::{self, DialBack, Event},
};

/// How long requests under way may take after the first signal to stop.
const FAREWELL: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat: server::Behaviour,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    // Before anything is said: who reads it may send a signal at once.
    let mut signals = Signals::new()?;
    #[cfg(not(feature = "metrics"))]
    if args.metrics.is_some() {
        return Err(
            "--metrics needs the feature: cargo run --features metrics --example server".into(),
        );
    }
    let known = identity::load(&args.key)?;
    let key = known.clone().unwrap_or_else(Keypair::generate_ed25519);
    let mut swarm = swarm(args, key.clone())?;
    let listeners = listen(&mut swarm, args)?;
    for addr in &args.external {
        swarm.add_external_address(addr.clone());
    }
    let mut served = Served::default();

    #[cfg(feature = "metrics")]
    let (registry, metrics) = {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        (registry, metrics)
    };
    #[cfg(feature = "metrics")]
    let mut metrics_at = None;
    #[cfg(feature = "metrics")]
    let mut scrapes = match args.metrics {
        None => None,
        Some(addr) => {
            let (addr, scrapes) = http::serve(addr)
                .await
                .map_err(|error| format!("can't serve metrics on {addr}: {error}"))?;
            metrics_at = Some(addr);
            Some(scrapes)
        }
    };
    // Last of what may fail: a mistake on the command line leaves no file behind.
    if known.is_none() {
        identity::save(&args.key, &key)?;
        say(format_args!("made a new key: {}", args.key.display()));
    }
    say(format_args!("peer {}", swarm.local_peer_id()));
    #[cfg(feature = "metrics")]
    if let Some(addr) = metrics_at {
        say(format_args!("metrics on http://{addr}/metrics"));
    }

    let mut stopping: Option<Instant> = None;
    loop {
        let load = swarm.behaviour().autonat.load();
        if stopping.is_some_and(|since| load.requests == 0 || since.elapsed() >= FAREWELL) {
            break;
        }
        #[cfg(feature = "metrics")]
        let scrape = async {
            match &mut scrapes {
                Some(scrapes) => scrapes.recv().await,
                None => None,
            }
        };
        #[cfg(not(feature = "metrics"))]
        let scrape = std::future::ready(None::<std::convert::Infallible>);
        tokio::select! {
            event = swarm.select_next_some() => {
                #[cfg(feature = "metrics")]
                if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) = &event {
                    metrics.record(event);
                }
                on_event(event, *swarm.local_peer_id(), args.quiet, &mut served);
            }
            Some(scrape) = scrape => {
                #[cfg(feature = "metrics")]
                {
                    metrics.record(&swarm.behaviour().autonat);
                    let mut text = String::new();
                    if prometheus_client::encoding::text::encode(&mut text, &registry).is_ok() {
                        let _ = scrape.send(text);
                    }
                }
                #[cfg(not(feature = "metrics"))]
                match scrape {}
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

/// Prints a line. Whoever listens no more, as `head` does, is no reason to stop serving.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn complain(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// What the error says; its own `Display` leaves out what is in it.
fn why(error: &TransportError<io::Error>) -> String {
    let text = match error {
        TransportError::Other(error) => error.to_string(),
        other => other.to_string(),
    };
    match text.is_empty() {
        true => format!("{error:?}"),
        false => text,
    }
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
            return complain(format_args!("a listener failed: {error}"));
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

fn swarm(args: &Args, key: Keypair) -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    let autonat = match args.own_dialer || !args.dial_from.is_empty() {
        true => server::Behaviour::with_dialer(args.config(), dialer(&args.dial_from)?),
        false => server::Behaviour::new(args.config()),
    };
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(args.max_connections));
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            identify: identify::Behaviour::new(identify::Config::new(
                "/libp2p-autonat-v2-server/1.0.0".to_owned(),
                key.public(),
            )),
            ping: ping::Behaviour::default(),
            autonat,
        })?
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(Duration::from_secs(args.idle_timeout))
        })
        .build())
}

/// A swarm for dial-backs alone, that sends QUIC from `ips`.
fn dialer(ips: &[IpAddr]) -> Result<Swarm<DialBack>, Box<dyn Error>> {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|_| DialBack::default())?
        .build();
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

/// SIGINT, and SIGTERM where there is one.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "interrupted"
    }
}
