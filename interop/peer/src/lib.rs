//! What the peers share: options from the runner, events to the runner, a swarm over TCP and QUIC.
//!
//! A peer is started with one argument, a JSON object (see [`Options`]), and prints one JSON object a line. It ends when
//! its time is over or its standard input is closed, whichever comes first, so that none outlives the runner.

use std::{error::Error, io::Write, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::ConnectedPoint,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

pub type Failure = Box<dyn Error + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Server,
    Client,
}

/// What the runner wants.
#[derive(Debug, Clone, Deserialize)]
pub struct Options {
    pub role: Role,
    /// Where to listen.
    #[serde(default)]
    pub listen: Vec<Multiaddr>,
    /// Client: whom to ask, with their peer ids.
    #[serde(default)]
    pub servers: Vec<Multiaddr>,
    /// Client: what to ask about. Peers that also ask about what they listen on may do so.
    #[serde(default)]
    pub test: Vec<Multiaddr>,
    /// Client: all addresses in one request, those of `test` first, not each in its own.
    #[serde(default)]
    pub together: bool,
    /// Server: how many requests a minute to serve; the peer's default if absent.
    pub limit: Option<u32>,
    /// Server: refuse all addresses.
    #[serde(default)]
    pub refuse: bool,
    /// Tap as a server: ask for dial data.
    #[serde(default)]
    pub ask_for_data: bool,
    /// After how many seconds to end, whatever happened.
    pub seconds: u64,
}

impl Options {
    pub fn from_args() -> Result<Self, Failure> {
        let arg = std::env::args().nth(1).ok_or("no options given")?;
        Ok(serde_json::from_str(&arg)?)
    }
}

/// Tells the runner.
pub fn emit(event: &Value) {
    let mut out = std::io::stdout().lock();
    // Without a runner there is nobody to tell that.
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}

/// Runs until `work` ends, the time is over, or the runner is gone.
pub async fn bounded(
    seconds: u64,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    let runner_gone = async { while matches!(stdin.read(&mut buffer).await, Ok(n) if n > 0) {} };
    tokio::select! {
        done = work => done,
        () = tokio::time::sleep(Duration::from_secs(seconds)) => Ok(()),
        () = runner_gone => Ok(()),
    }
}

/// Runs a peer's `main`.
pub fn main(peer: impl AsyncFnOnce(Options) -> Result<(), Failure>) {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let run = || -> Result<(), Failure> {
        let options = Options::from_args()?;
        let seconds = options.seconds;
        let runtime = tokio::runtime::Runtime::new()?;
        let ended = runtime.block_on(bounded(seconds, peer(options)));
        // A read of standard input can't be called back.
        runtime.shutdown_background();
        ended
    };
    if let Err(error) = run() {
        emit(&json!({ "event": "error", "error": error.to_string() }));
        std::process::exit(1);
    }
    std::process::exit(0);
}

pub fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/interop/1.0.0".to_owned(),
        key.public(),
    ))
}

pub fn swarm<B: NetworkBehaviour>(
    behaviour: impl FnOnce(&Keypair) -> B,
) -> Result<Swarm<B>, Failure> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| behaviour(key))
        .map_err(|_| "the behaviour can't be built")?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
        .build())
}

/// Listens, and tells the runner when all addresses are there.
pub async fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    addrs: &[Multiaddr],
) -> Result<(), Failure> {
    let mut listening = Vec::new();
    for addr in addrs {
        swarm.listen_on(addr.clone())?;
    }
    while listening.len() < addrs.len() {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => listening.push(address),
            SwarmEvent::ListenerClosed { reason, .. } => {
                return Err(format!("can't listen: {reason:?}").into());
            }
            _ => {}
        }
    }
    let id = swarm.local_peer_id().to_string();
    emit(&json!({ "event": "ready", "id": id, "addrs": listening }));
    Ok(())
}

/// Connects to the servers from fresh ports, so that the kernel picks the source IP.
pub fn connect<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    servers: &[Multiaddr],
) -> Result<(), Failure> {
    for server in servers {
        let opts = DialOpts::peer_id(peer_of(server).ok_or("a server without a peer id")?)
            .addresses(vec![server.clone()])
            .allocate_new_port()
            .build();
        swarm.dial(opts)?;
    }
    Ok(())
}

pub fn peer_of(addr: &Multiaddr) -> Option<PeerId> {
    addr.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    })
}

/// Connections that come and go.
pub fn tell_connection<E: std::fmt::Debug>(event: &SwarmEvent<E>) {
    match event {
        SwarmEvent::ConnectionEstablished {
            peer_id, endpoint, ..
        } => emit(&json!({
            "event": "connected",
            "peer": peer_id.to_string(),
            "dialed": endpoint.is_dialer(),
            "remote": endpoint.get_remote_address(),
            // Where a connection came in.
            "local": match endpoint {
                ConnectedPoint::Listener { local_addr, .. } => Some(local_addr),
                ConnectedPoint::Dialer { .. } => None,
            },
        })),
        SwarmEvent::ConnectionClosed { peer_id, cause, .. } => emit(&json!({
            "event": "disconnected",
            "peer": peer_id.to_string(),
            "cause": cause.as_ref().map(ToString::to_string),
        })),
        SwarmEvent::OutgoingConnectionError { error, .. } => {
            emit(&json!({ "event": "dial-failed", "error": error.to_string() }));
        }
        _ => {}
    }
}
