//! What one dial request costs, client and server together: ours against `libp2p-autonat` 0.16 and against a bare dial with
//! handshake and one echoed stream, over TCP and over QUIC.
//!
//! Counts instructions in user space with valgrind's callgrind, where it is installed. Then it measures CPU time, the
//! kernel's part included: what the thread was scheduled for (`/proc/self/schedstat`, Linux only), so that waiting costs
//! nothing. The kinds take turns, so that a machine that changes its speed does so for all, and the least of several
//! batches is taken; still it spreads by a fifth from run to run on a busy machine.
//!
//! `cargo bench --bench request`

mod callgrind;

use std::{
    collections::{HashSet, VecDeque},
    env, fs,
    task::{Context, Poll},
    time::Duration,
};

use callgrind::instructions;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    identity::Keypair,
    noise,
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, SubstreamProtocol, SwarmEvent, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
        behaviour::NewExternalAddrCandidate,
        dial_opts::DialOpts,
        handler::{
            ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound, ProtocolSupport,
        },
    },
    tcp, yamux,
};
use libp2p_autonat::v2 as theirs;
use libp2p_autonat_v2::{client, protocol::DIAL_REQUEST_PROTOCOL, server};
use tokio::sync::{mpsc, oneshot};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const OTHER_TCP: &str = "/ip4/127.0.0.2/tcp/0";
/// Clients of one batch; each sends one request.
const CLIENTS: usize = 50;
/// The same where instructions are counted, which takes fifty times as long.
const COUNTED: usize = 50;
const BATCHES: usize = 8;
const ECHO: StreamProtocol = StreamProtocol::new("/echo/1");
/// How long connections may take to close behind the last answer. Costs no CPU.
const AFTERMATH: Duration = Duration::from_millis(300);

/// What is compared.
#[derive(Clone, Copy)]
enum Kind {
    Bare,
    Ours,
    Theirs,
}

const KINDS: [(&str, Kind); 3] = [
    ("bare", Kind::Bare),
    ("ours", Kind::Ours),
    ("0.16", Kind::Theirs),
];
/// The server's listener, and the client's.
const PATHS: [(&str, (&str, &str)); 3] = [
    ("TCP", (TCP, TCP)),
    ("QUIC", (QUIC, QUIC)),
    ("TCP with dial data", (TCP, OTHER_TCP)),
];

fn main() {
    let args: Vec<String> = env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [_, "count", kind, path, work] = words[..] {
        let kind = KINDS.iter().find(|it| it.0 == kind).expect("a kind").1;
        let path = PATHS.iter().find(|it| it.0 == path).expect("a path").1;
        block_on(async {
            // What the first handshake of a process costs, gathering randomness above all, is nobody's.
            batch(Kind::Bare, path, 1, true).await;
            batch(kind, path, COUNTED, work == "work").await
        });
        return;
    }
    for (name, path) in PATHS {
        let counts = KINDS.map(|(kind, _)| counted(kind, name));
        if let [Some(bare), Some(ours), Some(theirs)] = counts {
            print(name, "thousand instructions", [bare, ours, theirs]);
        } else {
            eprintln!("valgrind is not installed: measuring time alone");
        }
        let mut least = [Duration::MAX; 3];
        for _ in 0..BATCHES {
            for ((_, kind), least) in KINDS.iter().zip(&mut least) {
                *least = (*least).min(block_on(batch(*kind, path, CLIENTS, true)));
            }
        }
        let each = least.map(|batch| batch.as_secs_f64() * 1e6 / CLIENTS as f64);
        print(name, "µs of CPU time", each);
    }
}

fn print(path: &str, unit: &str, [bare, ours, theirs]: [f64; 3]) {
    println!("{path}: {unit} a request: ours {ours:.0}, 0.16 {theirs:.0}, bare dial {bare:.0}");
    // A bare dial carries no dial data.
    if path == "TCP with dial data" {
        println!("{path}: {unit}: ours / 0.16 {:.2}", ours / theirs);
    } else {
        let (to_bare, to_theirs) = (ours / bare, ours / theirs);
        println!("{path}: {unit}: ours / bare dial {to_bare:.2}, ours / 0.16 {to_theirs:.2}");
    }
}

/// Thousands of instructions of one request: those of a batch without those of a batch that stops short of the request.
fn counted(kind: &str, path: &str) -> Option<f64> {
    let work = instructions(&["count", kind, path, "work"])?;
    let none = instructions(&["count", kind, path, "none"])?;
    Some(work.saturating_sub(none) as f64 / 1e3 / COUNTED as f64)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(work)
}

/// The CPU time of what `clients` cost; if not `work`, of what they cost at rest.
async fn batch(kind: Kind, path: (&str, &str), clients: usize, work: bool) -> Duration {
    match kind {
        Kind::Bare => bare_dials(path.1, clients, work).await,
        Kind::Ours => our_requests(path, clients, work).await,
        Kind::Theirs => their_requests(path, clients, work).await,
    }
}

/// The time that this thread has run.
fn cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").expect("this is Linux");
    let nanos = schedstat.split(' ').next().and_then(|it| it.parse().ok());
    Duration::from_nanos(nanos.expect("schedstat starts with nanoseconds"))
}

#[derive(NetworkBehaviour)]
struct OurClient {
    peer: Bare,
    autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct OurServer {
    peer: Bare,
    autonat: server::Behaviour,
}

#[derive(NetworkBehaviour)]
struct TheirClient {
    peer: Bare,
    autonat: theirs::client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct TheirServer {
    peer: Bare,
    autonat: theirs::server::Behaviour,
}

async fn our_requests(path: (&str, &str), clients: usize, work: bool) -> Duration {
    let config = server::Config::default()
        .with_private_addresses(true)
        .with_max_delay_after_dial_data(Duration::ZERO)
        .with_max_requests_per_minute(100_000)
        .with_max_requests_per_minute_per_neighbourhood(100_000)
        .with_max_dial_data_requests_per_minute(100_000)
        .with_max_dial_data_requests_per_minute_per_neighbourhood(100_000)
        .with_max_dials_per_minute_per_target(100_000)
        .with_max_concurrent_requests(1_000)
        .with_max_concurrent_dials(1_000)
        .with_max_concurrent_quic_dials(1_000);
    let server = Node::new(|_| OurServer {
        peer: Bare::default(),
        autonat: server::Behaviour::new(config),
    });
    requests(
        server,
        path,
        (clients, work),
        |key| OurClient {
            peer: Bare::default(),
            autonat: client::Behaviour::new(
                key.public().to_peer_id(),
                client::Config::default()
                    .with_private_addresses(true)
                    .with_gather_delay(Duration::ZERO),
            ),
        },
        |swarm, _| swarm.behaviour_mut().peer.announce(),
        |event| {
            matches!(
                event,
                SwarmEvent::Behaviour(OurClientEvent::Autonat(client::Event::Probed(probed)))
                    if matches!(probed.outcome, client::ProbeOutcome::Reachable(_))
            )
        },
    )
    .await
}

async fn their_requests(path: (&str, &str), clients: usize, work: bool) -> Duration {
    let server = Node::new(|_| TheirServer {
        peer: Bare::default(),
        autonat: theirs::server::Behaviour::default(),
    });
    requests(
        server,
        path,
        (clients, work),
        |_| TheirClient {
            peer: Bare::default(),
            autonat: theirs::client::Behaviour::default(),
        },
        |swarm, addr| {
            swarm.behaviour_mut().peer.announce();
            let candidate = NewExternalAddrCandidate { addr };
            let autonat = &mut swarm.behaviour_mut().autonat;
            autonat.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
        },
        |event| {
            matches!(
                event,
                SwarmEvent::Behaviour(TheirClientEvent::Autonat(tested)) if tested.result.is_ok()
            )
        },
    )
    .await
}

/// Connects clients with `server`, lets each send a request at the word of `go`, and waits until all are `done`.
async fn requests<S, C>(
    mut server: Node<S>,
    (server_listens, client_listens): (&str, &str),
    (clients, work): (usize, bool),
    client: fn(&Keypair) -> C,
    go: fn(&mut Swarm<C>, &Multiaddr),
    done: fn(&SwarmEvent<C::ToSwarm>) -> bool,
) -> Duration
where
    S: NetworkBehaviour + Send,
    S::ToSwarm: Send,
    C: NetworkBehaviour + Send,
    C::ToSwarm: Send,
{
    let served_at = server.listen(server_listens).await;
    let mut nodes = Vec::new();
    for _ in 0..clients {
        let mut client = Node::new(client);
        let addr = client.listen(client_listens).await;
        client.connect(served_at.clone()).await;
        nodes.push((client, addr));
    }
    tokio::time::sleep(AFTERMATH).await;
    let before = cpu();
    if work {
        for (client, addr) in &nodes {
            let addr = addr.clone();
            client.with(move |swarm| go(swarm, &addr)).await;
        }
        for (client, _) in &mut nodes {
            client.event(|event| done(event).then_some(())).await;
        }
    }
    tokio::time::sleep(AFTERMATH).await;
    cpu() - before
}

/// Dials each client from a new port, has it echo a message on a stream, and closes the connection.
async fn bare_dials(listens: &str, clients: usize, work: bool) -> Duration {
    let mut server = Node::new(|_| Bare {
        asks: true,
        ..Bare::default()
    });
    let mut nodes = Vec::new();
    for _ in 0..clients {
        let mut client = Node::new(|_| Bare::default());
        let addr = client.listen(listens).await;
        nodes.push((client, addr));
    }
    tokio::time::sleep(AFTERMATH).await;
    let before = cpu();
    for (_, addr) in nodes.iter().filter(|_| work) {
        server.dial(addr.clone()).await;
    }
    for _ in nodes.iter().filter(|_| work) {
        server
            .event(|event| match event {
                SwarmEvent::Behaviour(Echoed) => Some(()),
                _ => None,
            })
            .await;
    }
    tokio::time::sleep(AFTERMATH).await;
    cpu() - before
}

type Task<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;

/// A swarm on a task of its own.
struct Node<B: NetworkBehaviour> {
    tasks: mpsc::UnboundedSender<Task<B>>,
    events: mpsc::UnboundedReceiver<SwarmEvent<B::ToSwarm>>,
}

impl<B> Node<B>
where
    B: NetworkBehaviour + Send,
    B::ToSwarm: Send,
{
    fn new(behaviour: impl FnOnce(&Keypair) -> B) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("TCP can be set up")
            .with_quic()
            .with_behaviour(behaviour)
            .expect("the behaviour can be set up")
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(Duration::from_secs(60))
            })
            .build();
        let (tasks, mut inbox) = mpsc::unbounded_channel::<Task<B>>();
        let (outbox, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    task = inbox.recv() => match task {
                        Some(task) => task(&mut swarm),
                        None => return,
                    },
                    event = swarm.select_next_some() => drop(outbox.send(event)),
                }
            }
        });
        Self { tasks, events }
    }

    async fn with<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Swarm<B>) -> R + Send + 'static,
    ) -> R {
        let (done, result) = oneshot::channel();
        let task: Task<B> = Box::new(move |swarm| drop(done.send(task(swarm))));
        assert!(self.tasks.send(task).is_ok(), "the node runs");
        result.await.expect("the node runs")
    }

    async fn event<T>(&mut self, mut pick: impl FnMut(&SwarmEvent<B::ToSwarm>) -> Option<T>) -> T {
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, async {
            loop {
                let event = self.events.recv().await.expect("the node runs");
                if let Some(picked) = pick(&event) {
                    return picked;
                }
            }
        })
        .await
        .expect("the event comes in time")
    }

    async fn listen(&mut self, addr: &str) -> Multiaddr {
        let addr: Multiaddr = addr.parse().expect("a valid address");
        self.with(move |swarm| swarm.listen_on(addr).map(drop))
            .await
            .expect("the transport can listen");
        self.event(|event| match event {
            SwarmEvent::NewListenAddr { address, .. } => Some(address.clone()),
            _ => None,
        })
        .await
    }

    async fn dial(&self, addr: Multiaddr) {
        let opts = DialOpts::unknown_peer_id()
            .address(addr)
            .allocate_new_port()
            .build();
        self.with(move |swarm| swarm.dial(opts))
            .await
            .expect("the dial starts");
    }

    async fn connect(&mut self, addr: Multiaddr) {
        self.dial(addr).await;
        self.event(|event| match event {
            SwarmEvent::ConnectionEstablished { .. } => Some(()),
            _ => None,
        })
        .await;
    }
}

/// Echoes streams; where it asks, sends something to be echoed on each connection that it dialed and closes it; and says on command that
/// the other side serves dial requests, which takes identify elsewhere.
#[derive(Default)]
struct Bare {
    connections: Vec<(PeerId, ConnectionId)>,
    actions: VecDeque<ToSwarm<Echoed, Announce>>,
    asks: bool,
}

#[derive(Debug)]
struct Echoed;

#[derive(Debug)]
struct Announce;

impl Bare {
    fn announce(&mut self) {
        for (peer_id, connection) in &self.connections {
            self.actions.push_back(ToSwarm::NotifyHandler {
                peer_id: *peer_id,
                handler: NotifyHandler::One(*connection),
                event: Announce,
            });
        }
    }
}

impl NetworkBehaviour for Bare {
    type ConnectionHandler = BareHandler;
    type ToSwarm = Echoed;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(BareHandler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(BareHandler {
            ask: self.asks,
            ..BareHandler::default()
        })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionEstablished(event) = event {
            self.connections.push((event.peer_id, event.connection_id));
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer_id: PeerId,
        connection: ConnectionId,
        Echoed: THandlerOutEvent<Self>,
    ) {
        self.actions.push_back(ToSwarm::GenerateEvent(Echoed));
        self.actions.push_back(ToSwarm::CloseConnection {
            peer_id,
            connection: libp2p::swarm::CloseConnection::One(connection),
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Echoed, THandlerInEvent<Self>>> {
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Default)]
struct BareHandler {
    ask: bool,
    announce: bool,
    echoed: Option<oneshot::Receiver<()>>,
}

impl ConnectionHandler for BareHandler {
    type FromBehaviour = Announce;
    type ToBehaviour = Echoed;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(ECHO), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Echoed>> {
        if std::mem::take(&mut self.announce) {
            let protocols = HashSet::from([DIAL_REQUEST_PROTOCOL]);
            return Poll::Ready(ConnectionHandlerEvent::ReportRemoteProtocols(
                ProtocolSupport::Added(protocols),
            ));
        }
        if std::mem::take(&mut self.ask) {
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(ECHO), ()),
            });
        }
        if let Some(echoed) = &mut self.echoed
            && let Poll::Ready(result) = futures::FutureExt::poll_unpin(echoed, cx)
        {
            self.echoed = None;
            if result.is_ok() {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Echoed));
            }
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Announce: Announce) {
        self.announce = true;
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => drop(tokio::spawn(echo(protocol))),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => {
                let (done, echoed) = oneshot::channel();
                self.echoed = Some(echoed);
                tokio::spawn(ask(protocol, done));
            }
            _ => {}
        }
    }
}

async fn echo(mut stream: Stream) -> std::io::Result<()> {
    let mut message = [0; 10];
    stream.read_exact(&mut message).await?;
    stream.write_all(&message).await?;
    stream.close().await
}

async fn ask(mut stream: Stream, done: oneshot::Sender<()>) -> std::io::Result<()> {
    stream.write_all(&[1; 10]).await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; 10]).await?;
    let _ = done.send(());
    stream.close().await
}
