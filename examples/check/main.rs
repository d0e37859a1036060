//! Tells a person whether strangers can reach this machine, on which addresses, how sure that is, and what to do if not.
//!
//! `cargo run --example check -- --help` says how it is used. It listens, asks AutoNAT v2 servers to dial back, and
//! stops when every address is settled.

mod args;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    error::Error,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use args::Args;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FusedStream, FuturesUnordered},
};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, TransportError,
    core::transport::ListenerId,
    identify,
    multiaddr::Protocol,
    noise,
    swarm::{
        ConnectionError, ConnectionId, DialError, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts,
    },
    tcp, yamux,
};
use libp2p_autonat_v2::{
    address::{self, IpFamily},
    client::{self, AddressReport, ProbeOutcome, Verdict},
    protocol::DIAL_REQUEST_PROTOCOL,
};
use report::{Failure, Report};

/// How long nothing may change before the work is done: a server may answer late, an address be observed late.
const QUIET: Duration = Duration::from_secs(1);
/// How long after the servers said who they are an address to test must have shown up.
const NOTHING_TO_TEST: Duration = Duration::from_secs(3);
/// How long a connected server may take to say what it speaks.
const IDENTIFY: Duration = Duration::from_secs(10);
/// How long the listeners may take to say on which addresses they listen.
const LISTEN: Duration = Duration::from_secs(1);
/// The longest silence without a word on what is waited for.
const SILENCE: Duration = Duration::from_secs(5);
/// The client's pace for each server; the servers allow twelve.
const REQUESTS_PER_MINUTE: usize = 6;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

/// What is known of a server that was given on the command line.
#[derive(Debug)]
pub(crate) struct Server {
    addr: Multiaddr,
    peer: Option<PeerId>,
    /// Where it was reached.
    remote: Option<Multiaddr>,
    state: State,
    since: Instant,
    observed: Option<Multiaddr>,
    answers: usize,
    rejections: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Dialing,
    /// Connected; what it speaks is not known.
    Connected,
    Serves,
    /// It does not speak AutoNAT v2, or is a second address of another server.
    Useless(String),
    Failed(String),
}

fn main() -> ExitCode {
    let args = Args::read();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    let json = args.json;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(format!("can't start: {error}"));
            failure.print(json);
            return failure.exit_code();
        }
    };
    let result = runtime.block_on(run(args));
    // A name that is still being looked up would hold the end up.
    runtime.shutdown_background();
    match result {
        Ok(report) => {
            report.print(json);
            report.exit_code()
        }
        Err(failure) => {
            failure.print(json);
            failure.exit_code()
        }
    }
}

async fn run(args: Args) -> Result<Report, Failure> {
    let mut swarm = swarm(&args).map_err(|error| Failure::new(error.to_string()))?;
    let listeners = listen(&mut swarm, &args)?;
    for addr in &args.external {
        let added = swarm.behaviour_mut().autonat.add_candidate(addr);
        added.map_err(|error| Failure::mistake(format!("can't test {addr}: {error}")))?;
    }
    let mut check = Check {
        swarm,
        quiet: args.quiet,
        start: Instant::now(),
        servers: Vec::new(),
        lookups: FuturesUnordered::new(),
        dials: HashMap::new(),
        dialed: HashMap::new(),
        listeners,
        allow_private: args.allow_private,
        told: None,
        listening: Vec::new(),
        refused: BTreeMap::new(),
        changed: Instant::now(),
    };
    let end = {
        let work = async {
            check.listen().await;
            check.look_up(&args.servers);
            check.work().await;
        };
        tokio::select! {
            () = work => End::Done,
            () = tokio::time::sleep(args.timeout()) => End::TimedOut,
            _ = tokio::signal::ctrl_c() => End::Interrupted,
        }
    };
    Ok(check.into_report(end))
}

/// Why the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    TimedOut,
    Interrupted,
}

struct Check {
    swarm: Swarm<Behaviour>,
    quiet: bool,
    start: Instant,
    servers: Vec<Server>,
    /// The names of servers that are being looked up.
    lookups: FuturesUnordered<BoxFuture<'static, (usize, Result<Multiaddr, String>)>>,
    dials: HashMap<ConnectionId, usize>,
    /// By the address that was dialed.
    dialed: HashMap<Multiaddr, usize>,
    /// Those that have not said yet on which addresses they listen.
    listeners: HashSet<ListenerId>,
    allow_private: bool,
    /// The last change after which the person was told of the silence.
    told: Option<Instant>,
    listening: Vec<Multiaddr>,
    refused: BTreeMap<Multiaddr, BTreeSet<PeerId>>,
    /// When something last happened that matters.
    changed: Instant,
}

impl Check {
    /// Waits for the listeners. Only then connections to servers leave from the ports that are checked, and the servers see
    /// how a NAT maps them.
    async fn listen(&mut self) {
        let too_long = tokio::time::sleep(LISTEN);
        tokio::pin!(too_long);
        while !self.listeners.is_empty() {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                () = &mut too_long => break,
            }
        }
    }

    fn look_up(&mut self, addrs: &[Multiaddr]) {
        for (i, addr) in addrs.iter().enumerate() {
            self.say(&format!("server {}: asking {addr}", i + 1));
            self.servers.push(Server {
                addr: addr.clone(),
                peer: None,
                remote: None,
                state: State::Dialing,
                since: Instant::now(),
                observed: None,
                answers: 0,
                rejections: 0,
            });
            let addr = addr.clone();
            let lookup = async move { (i, resolve(&addr).await) };
            self.lookups.push(lookup.boxed());
        }
    }

    fn dial(&mut self, i: usize, addr: Result<Multiaddr, String>) {
        let addr = match addr {
            Ok(addr) => addr,
            Err(why) => return self.set(i, State::Failed(why)),
        };
        let twin = *self.dialed.entry(addr.clone()).or_insert(i);
        if twin != i {
            let why = format!("is at the same address as server {}", twin + 1);
            return self.set(i, State::Useless(why));
        }
        let opts = DialOpts::unknown_peer_id().address(addr).build();
        self.dials.insert(opts.connection_id(), i);
        if let Err(error) = self.swarm.dial(opts) {
            self.set(i, State::Failed(dial_error(&error)));
        }
    }

    /// Asks the servers until there is nothing left to wait for.
    async fn work(&mut self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some((i, addr)) = self.lookups.next(), if !self.lookups.is_terminated() => self.dial(i, addr),
                _ = tick.tick() => {
                    if self.is_done() { return }
                    self.tell_of_wait();
                }
            }
        }
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            let seconds = self.start.elapsed().as_secs_f64();
            // Whoever closed the pipe wants to read no more; the result is another matter.
            let _ = writeln!(io::stderr(), "{seconds:6.1} s  {what}");
        }
    }

    fn set(&mut self, i: usize, state: State) {
        let said = match &state {
            State::Dialing => None,
            State::Connected => Some("connected".to_owned()),
            State::Serves => Some("speaks AutoNAT v2".to_owned()),
            State::Useless(why) => Some(why.clone()),
            State::Failed(why) => Some(format!("can't be asked: {why}")),
        };
        let Some(server) = self.servers.get_mut(i) else {
            return;
        };
        if server.state == state {
            return;
        }
        server.state = state;
        server.since = Instant::now();
        self.changed = server.since;
        if let Some(said) = said {
            self.say(&format!("server {}: {said}", i + 1));
        }
    }

    fn server_of(&self, peer: &PeerId) -> Option<usize> {
        let mut mine = (0..self.servers.len()).filter(|i| self.peer_of(*i) == Some(peer));
        let first = mine.clone().next();
        mine.find(|i| self.state_of(*i) == Some(&State::Serves))
            .or(first)
    }

    fn peer_of(&self, i: usize) -> Option<&PeerId> {
        self.servers.get(i)?.peer.as_ref()
    }

    fn state_of(&self, i: usize) -> Option<&State> {
        self.servers.get(i).map(|server| &server.state)
    }

    fn name(&self, peer: &PeerId) -> String {
        self.server_of(peer)
            .map_or_else(|| peer.to_string(), |i| format!("server {}", i + 1))
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                if self.allow_private || !is_local(&address) {
                    self.say(&format!("listening on {address}"));
                }
                self.listeners.remove(&listener_id);
                self.listening.push(address);
            }
            SwarmEvent::ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            } => self.on_connected(connection_id, peer_id, endpoint.get_remote_address()),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(i) = self.dials.remove(&connection_id) {
                    self.set(i, State::Failed(dial_error(&error)));
                }
            }
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => {
                if let Some(i) = self.dials.remove(&connection_id) {
                    self.set(i, State::Failed(closed(cause.as_ref())));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) => self.on_identified(connection_id, &info),
            SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) => self.on_autonat(event),
            _ => {}
        }
    }

    fn on_connected(&mut self, connection: ConnectionId, peer: PeerId, remote: &Multiaddr) {
        let Some(i) = self.dials.get(&connection).copied() else {
            return;
        };
        let way = |addr| (address::transport(addr), address::family(addr));
        let twin = self.servers.iter().position(|server| {
            let is_up = matches!(server.state, State::Connected | State::Serves);
            let same_way = server.remote.as_ref().map(way) == Some(way(remote));
            is_up && same_way && server.peer == Some(peer)
        });
        if let Some(server) = self.servers.get_mut(i) {
            server.peer = Some(peer);
            server.remote = Some(remote.clone());
        }
        let Some(twin) = twin else {
            return self.set(i, State::Connected);
        };
        // It leaves from a port that nobody listens on, and the peer would tell of that one as an address to test.
        self.dials.remove(&connection);
        self.swarm.close_connection(connection);
        let why = format!("is the same peer as server {}", twin + 1);
        self.set(i, State::Useless(why));
    }

    fn on_identified(&mut self, connection: ConnectionId, info: &identify::Info) {
        let Some(i) = self.dials.get(&connection).copied() else {
            return;
        };
        let serves = info.protocols.contains(&DIAL_REQUEST_PROTOCOL);
        let seen = info.observed_addr.clone();
        let autonat = &mut self.swarm.behaviour_mut().autonat;
        autonat.observed(connection, &seen);
        let is_new = self
            .servers
            .get_mut(i)
            .is_some_and(|server| server.observed.replace(seen.clone()).as_ref() != Some(&seen));
        if is_new {
            self.say(&format!("server {}: sees this machine as {seen}", i + 1));
        }
        let state = match serves {
            true => State::Serves,
            false => State::Useless("does not speak AutoNAT v2".to_owned()),
        };
        self.set(i, state);
    }

    fn on_autonat(&mut self, event: client::Event) {
        self.changed = Instant::now();
        match event {
            client::Event::Probed(probed) => {
                if let Some(i) = self.server_of(&probed.server)
                    && let Some(server) = self.servers.get_mut(i)
                {
                    match probed.outcome {
                        ProbeOutcome::Rejected => server.rejections += 1,
                        ProbeOutcome::NoAnswer(_) => {}
                        _ => server.answers += 1,
                    }
                }
                if probed.outcome == ProbeOutcome::Refused {
                    let refused = self.refused.entry(probed.address.clone()).or_default();
                    refused.insert(probed.server);
                    if self.is_out_of_sight(&probed.address) {
                        return;
                    }
                }
                let outcome = match probed.outcome {
                    ProbeOutcome::Reachable(_) => "got through",
                    ProbeOutcome::DialError => "could not get through",
                    ProbeOutcome::Refused => "can't or won't dial this kind of address",
                    ProbeOutcome::Rejected => "is busy and turned the request down",
                    ProbeOutcome::InternalError => "failed for a reason of its own",
                    ProbeOutcome::NoAnswer(_) => "gave no answer",
                    ProbeOutcome::DialBackError => "reached something, but not this program",
                    _ => "gave an answer that proves nothing",
                };
                self.say(&format!(
                    "{}: {} {outcome}",
                    probed.address,
                    self.name(&probed.server)
                ));
            }
            client::Event::VerdictChanged { address, new, .. } => {
                self.say(&format!("{address}: {}", report::verdict(new)));
            }
            client::Event::NatMappingChanged { new, .. } => {
                self.say(&format!("the NAT's port mapping is {}", new.as_str()));
            }
            client::Event::ServersWanted { known, wanted, .. } if known > 0 => self.say(&format!(
                "servers to ask: {known}; with {wanted} the answer would be surer"
            )),
            _ => {}
        }
    }

    /// Says what is waited for, once in a silence.
    fn tell_of_wait(&mut self) {
        if self.changed.elapsed() <= SILENCE || self.told == Some(self.changed) {
            return;
        }
        self.told = Some(self.changed);
        let reports = self.reports();
        let mut open: Vec<String> = Vec::new();
        for report in &reports {
            if !self.is_settled(report, &reports) {
                open.push(report.address.to_string());
            }
        }
        if !self.serving().is_empty() && !open.is_empty() {
            self.say(&format!(
                "waiting for an answer about {}; a server is asked {REQUESTS_PER_MINUTE} times a minute at most",
                open.join(", ")
            ));
        }
    }

    /// Whether there is nothing left to wait for.
    fn is_done(&self) -> bool {
        let undecided = self.servers.iter().any(|server| match server.state {
            State::Dialing => true,
            State::Connected => server.since.elapsed() < IDENTIFY,
            _ => false,
        });
        if undecided || self.changed.elapsed() < QUIET {
            return false;
        }
        if self.serving().is_empty() {
            return true;
        }
        let reports = self.reports();
        if reports.is_empty() {
            return self.changed.elapsed() >= NOTHING_TO_TEST;
        }
        let mut settled = reports.iter().map(|r| self.is_settled(r, &reports));
        settled.all(|is| is)
    }

    /// The addresses that a server can have a word to say about.
    fn reports(&self) -> Vec<AddressReport> {
        let mut reports: Vec<_> = self.swarm.behaviour().autonat.addresses().collect();
        reports.retain(|report| {
            let is_wanted = report.sources.added || report.verdict == Verdict::Reachable;
            is_wanted || !self.is_out_of_sight(&report.address)
        });
        if reports.iter().all(|report| self.is_passing(report)) {
            reports.retain(|report| self.could_accept(&report.address));
        }
        reports
    }

    /// Of this machine alone, or of its link, and no server is there.
    fn is_out_of_sight(&self, addr: &Multiaddr) -> bool {
        let kind = |addr| address::ip(addr).map(|ip| (IpFamily::of(ip), address::ip_scope(ip)));
        let mut remotes = self.servers.iter().filter_map(|s| s.remote.as_ref());
        is_local(addr) && remotes.all(|remote| kind(remote) != kind(addr))
    }

    /// Whether one of the listeners could be behind the address.
    fn could_accept(&self, addr: &Multiaddr) -> bool {
        self.listening.iter().any(|listen| {
            address::family(listen) == address::family(addr)
                && (address::transport(listen) == address::transport(addr)
                    || address::port(listen) == address::port(addr))
        })
    }

    fn serving(&self) -> BTreeSet<&PeerId> {
        let serves = self
            .servers
            .iter()
            .filter(|server| server.state == State::Serves);
        serves.filter_map(|server| server.peer.as_ref()).collect()
    }

    fn is_settled(&self, report: &AddressReport, all: &[AddressReport]) -> bool {
        if report.inherited {
            return true;
        }
        if self.is_passing(report) {
            return !self.could_accept(&report.address) || self.has_better(report, all);
        }
        if report.verdict != Verdict::Unknown {
            let later = report
                .next_probe
                .is_some_and(|at| at > Instant::now() + QUIET);
            // It could become surer, but nobody has a word to say about it now.
            return later || self.changed.elapsed() > SILENCE;
        }
        self.nobody_dials(report)
    }

    fn nobody_dials(&self, report: &AddressReport) -> bool {
        let refused = self.refused.get(&report.address);
        refused.is_some_and(|by| self.serving().iter().all(|peer| by.contains(*peer)))
    }

    /// Whether a port that this program listens on is reachable behind the same IP, or may be.
    fn has_better(&self, passing: &AddressReport, all: &[AddressReport]) -> bool {
        let kind = |addr| (address::ip(addr), address::transport(addr));
        all.iter().any(|report| {
            kind(&report.address) == kind(&passing.address)
                && matches!(report.verdict, Verdict::Unknown | Verdict::Reachable)
                && !self.is_passing(report)
        })
    }

    /// Seen by a server and never tested: the port that one connection left from, beside addresses that can be listened on.
    fn is_passing(&self, report: &AddressReport) -> bool {
        is_only_observed(report)
            && report.verdict == Verdict::Unknown
            && report.servers == 0
            && !self.refused.contains_key(&report.address)
    }

    /// Of a socket that this program does not listen on, so that there is nothing to open or forward.
    fn is_stray(&self, report: &AddressReport) -> bool {
        let addr = &report.address;
        let is_here = address::ip(addr).is_some_and(is_own);
        let mut listening = self.listening.iter();
        let could_lead_to = |listen: &Multiaddr| {
            address::port(listen) == address::port(addr)
                && (!is_here || address::ip(listen) == address::ip(addr))
        };
        is_only_observed(report) && !listening.any(could_lead_to)
    }

    fn into_report(self, end: End) -> Report {
        let mut addresses = self.reports();
        if !addresses.iter().all(|report| self.is_passing(report)) {
            addresses.retain(|report| !self.is_passing(report));
        }
        let undialed = addresses
            .iter()
            .filter(|report| report.verdict == Verdict::Unknown && self.nobody_dials(report));
        let undialed = undialed.map(|report| report.address.clone()).collect();
        let stray = addresses.iter().filter(|report| self.is_stray(report));
        let stray = stray.map(|report| report.address.clone()).collect();
        let autonat = &self.swarm.behaviour().autonat;
        Report {
            addresses,
            undialed,
            stray,
            summary: autonat.summary(),
            mapping: autonat.nat_mapping(),
            behind_nat: is_behind_nat(&self.servers),
            listening: self.listening,
            servers: self.servers,
            took: self.start.elapsed(),
            end,
        }
    }
}

fn swarm(args: &Args) -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    let config = client::Config::default()
        .with_private_addresses(args.allow_private)
        .with_requests_per_minute(REQUESTS_PER_MINUTE);
    let idle = args.timeout() + Duration::from_secs(10);
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new(
                "/libp2p-autonat-v2-check/1.0.0".to_owned(),
                key.public(),
            )),
            autonat: client::Behaviour::new(key.public().to_peer_id(), config),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(idle))
        .build())
}

fn listen(swarm: &mut Swarm<Behaviour>, args: &Args) -> Result<HashSet<ListenerId>, Failure> {
    let all = [
        IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::from(Ipv6Addr::UNSPECIFIED),
    ];
    let ips = match args.bind.is_empty() {
        true => &all[..],
        false => &args.bind,
    };
    let (tcp, quic) = args.ports();
    let mut addrs = Vec::new();
    for ip in ips {
        let mut has_ip = true;
        for port in &tcp {
            let bound = TcpListener::bind((*ip, *port)).map(drop);
            has_ip &= is_free(bound, *ip, "TCP", *port, args)?;
            addrs.extend(has_ip.then(|| Multiaddr::from(*ip).with(Protocol::Tcp(*port))));
        }
        for port in &quic {
            let bound = UdpSocket::bind((*ip, *port)).map(drop);
            has_ip &= is_free(bound, *ip, "UDP", *port, args)?;
            let addr = Multiaddr::from(*ip).with(Protocol::Udp(*port));
            addrs.extend(has_ip.then(|| addr.with(Protocol::QuicV1)));
        }
    }
    let mut listeners = HashSet::new();
    for addr in addrs {
        let listening = swarm.listen_on(addr.clone());
        listeners.insert(
            listening.map_err(|error| {
                Failure::new(format!("can't listen on {addr}: {}", why(&error)))
            })?,
        );
    }
    Ok(listeners)
}

/// Whether the port could be bound. libp2p shares its TCP ports, so it would listen beside another program that does so
/// too, and get only some of the dial-backs.
fn is_free(
    bound: io::Result<()>,
    ip: IpAddr,
    kind: &str,
    port: u16,
    args: &Args,
) -> Result<bool, Failure> {
    let Err(error) = bound else { return Ok(true) };
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "can't listen on {kind} port {port}: another program does. Stop it while you check, or give another port with \
             --port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "can't listen on {kind} port {port}: not allowed. Ports under 1024 need privileges; give another with --port"
        ),
        // Not every machine has IPv6.
        _ if args.bind.is_empty() && ip.is_ipv6() => return Ok(false),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "can't listen on {ip}: this machine does not have that IP. Give one that it has with --bind"
            )
        }
        _ => format!("can't listen on {kind} port {port} of {ip}: {error}"),
    };
    Err(Failure::new(why))
}

fn is_only_observed(report: &AddressReport) -> bool {
    let sources = &report.sources;
    !(sources.listening || sources.confirmed || sources.added || sources.guessed)
}

/// Of no use to other machines, or only on this link.
fn is_local(addr: &Multiaddr) -> bool {
    match address::ip(addr) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        None => false,
    }
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

/// Why a connection ended, in a person's words.
fn closed(cause: Option<&ConnectionError>) -> String {
    match cause {
        Some(ConnectionError::IO(error)) => format!("the connection ended: {error}"),
        Some(ConnectionError::KeepAliveTimeout) | None => "the connection ended".to_owned(),
    }
}

/// Why a dial failed, in a person's words.
fn dial_error(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let text = match errors.first() {
                Some((_, error)) => why(error),
                None => "there is no address to dial".to_owned(),
            };
            // The kind of the operating system's error is lost on the way up.
            if text.contains("refused") {
                "nobody listens there (connection refused)".to_owned()
            } else if text.to_lowercase().contains("time") && text.contains("out") {
                "nobody answers there (timed out)".to_owned()
            } else if text.contains("No route to host") {
                "no machine answers at that IP (no route to host)".to_owned()
            } else if text.contains("etwork is unreachable") {
                "this machine has no way to that network, perhaps no IPv6 (network is unreachable)"
                    .to_owned()
            } else {
                text
            }
        }
        DialError::WrongPeerId { obtained, .. } => {
            format!("another peer is there: {obtained}. Was the server's key changed?")
        }
        DialError::LocalPeerId { .. } => "that is this machine itself".to_owned(),
        other => other.to_string(),
    }
}

/// Looks up a name, if the address has one.
async fn resolve(addr: &Multiaddr) -> Result<Multiaddr, String> {
    let mut parts = addr.iter();
    let (name, wanted): (String, fn(&IpAddr) -> bool) = match parts.next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), IpAddr::is_ipv6),
        _ => return Ok(addr.clone()),
    };
    let ips = tokio::net::lookup_host((name.as_str(), 0)).await;
    let ips = ips.map_err(|error| format!("can't look up {name}: {error}"))?;
    let ip = ips.map(|socket| socket.ip()).find(wanted);
    let ip = ip.ok_or_else(|| format!("{name} has no address of that family"))?;
    Ok(parts.fold(Multiaddr::from(ip), Multiaddr::with))
}

/// Whether the machine itself has the IPs that servers see, so that there is no NAT; `None` if nobody told.
fn is_behind_nat(servers: &[Server]) -> Option<bool> {
    let mut seen = servers
        .iter()
        .filter_map(|server| server.observed.as_ref())
        .filter_map(address::ip)
        .peekable();
    seen.peek()?;
    Some(seen.any(|ip| !is_own(ip)))
}

/// Whether this machine has the IP, listened on or not.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
