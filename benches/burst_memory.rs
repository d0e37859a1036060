//! Memory that a server takes in bursts of requests whose dial-backs go over QUIC: 480 requests from 40 clients within two
//! seconds, ten times over, with the rate limits out of the way.
//!
//! `cargo bench --bench burst_memory`; with `own-sockets` as an argument without `FreshPorts`, with `tcp` over TCP, and with
//! `--places N` for so many dial-backs over QUIC at once. The clients live in processes of their own, over QUIC
//! each on an IP of its own.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{process::Command, time::Duration};

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt, future::join_all, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed},
    identity::Keypair,
    multiaddr::Protocol,
    noise, quic,
    swarm::SwarmEvent,
    tcp, yamux,
};
use libp2p_autonat_v2::{
    protocol::{DIAL_BACK_PROTOCOL, DialBackClientCodec, DialStatus, Message},
    server::{self, BoundedClose, FreshPorts},
};
use support::{RawEvent, RawPeer, autonat::ask};

const BURSTS: usize = 10;
const CLIENTS: usize = 40;
const REQUESTS_OF_A_CLIENT: u32 = 12;
const BURST: Duration = Duration::from_secs(2);

/// How long the server is left alone after a burst.
const PAUSE: Duration = Duration::from_secs(5);

/// Most of it are receive buffers of 3 MB, of which there are few with [`FreshPorts`], and what glibc keeps beside them.
const MAX_RSS_MIB: f64 = 64.0;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if let Some(at) = args.iter().position(|arg| arg == "--clients-of") {
        let server = args[at + 1].parse().expect("an address");
        println!("{}", runtime.block_on(clients(server)));
        return;
    }
    let is_told = |what| args.iter().any(|arg| arg == what);
    let listen = if is_told("tcp") {
        "/ip4/127.0.0.1/tcp/0"
    } else {
        "/ip4/127.0.0.1/udp/0/quic-v1"
    };
    let places = args.iter().position(|arg| arg == "--places");
    let places = places.map(|at| args[at + 1].parse().expect("a number"));
    runtime.block_on(serve(listen, places, !is_told("own-sockets")));
}

fn quic(key: &Keypair, fresh_ports: bool) -> Boxed<(PeerId, StreamMuxerBox)> {
    let config = quic::Config::new(key);
    let make = move || {
        let transport = quic::tokio::Transport::new(config.clone());
        transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
    };
    if fresh_ports {
        FreshPorts::new(make).boxed()
    } else {
        make().boxed()
    }
}

/// A line of `/proc/self/status`, in MiB.
fn status(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux says so");
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<f64>().ok())
        .expect("a number")
        / 1024.0
}

async fn serve(listen: &str, places: Option<u32>, fresh_ports: bool) {
    let mut config = server::Config::default()
        .with_private_addresses(true)
        .with_max_requests_per_minute(10_000)
        .with_max_requests_per_minute_per_peer(10_000)
        .with_max_requests_per_minute_per_neighbourhood(10_000);
    if let Some(places) = places {
        config = config.with_max_concurrent_quic_dials(places);
    }
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, || {
            BoundedClose::new(yamux::Config::default())
        })
        .expect("TCP can be set up")
        .with_other_transport(|key| quic(key, fresh_ports))
        .expect("QUIC can be set up")
        .with_behaviour(|_| server::Behaviour::new(config))
        .expect("a behaviour")
        .build();
    swarm
        .listen_on(listen.parse().expect("valid"))
        .expect("it listens");
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    println!("burst  served  MiB at the most  MiB after  most dials");
    println!(
        "    0       -  {:15.1}  {:9.1}",
        status("VmHWM"),
        status("VmRSS")
    );
    let mut last = 0.0;
    for burst in 1..=BURSTS {
        let me = std::env::current_exe().expect("known");
        let at = at.to_string();
        let clients = tokio::task::spawn_blocking(move || {
            Command::new(me).args(["--clients-of", &at]).output()
        });
        tokio::pin!(clients);
        let mut most = 0;
        let output = loop {
            tokio::select! {
                _ = swarm.select_next_some() => most = most.max(swarm.behaviour().load().dials),
                output = &mut clients => break output.expect("runs").expect("runs"),
            }
        };
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                _ = swarm.select_next_some() => {}
                () = &mut pause => break,
            }
        }
        let served = String::from_utf8_lossy(&output.stdout);
        last = status("VmHWM");
        println!(
            "{burst:5}  {:>6}  {last:15.1}  {:9.1}  {most:10}",
            served.trim(),
            status("VmRSS")
        );
    }
    if fresh_ports {
        println!("wanted: at most {MAX_RSS_MIB} MiB");
        assert!(last <= MAX_RSS_MIB, "{last} MiB");
    }
}

/// How many of the requests of all clients were answered with a dial-back.
async fn clients(server: Multiaddr) -> usize {
    let mut clients = Vec::new();
    for n in 1..=CLIENTS {
        let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        // Over TCP a client cannot choose the IP that it connects from.
        let any_port = match server.iter().nth(1) {
            Some(Protocol::Udp(_)) => format!("/ip4/127.0.{n}.1/udp/0/quic-v1"),
            _ => "/ip4/127.0.0.1/tcp/0".to_owned(),
        };
        let addr = client.listen(&any_port).await;
        let connection = client.connect(server.clone()).await;
        clients.push((client, addr, connection));
    }
    let asking = clients
        .into_iter()
        .map(|(mut client, addr, connection)| async move {
            let mut pace = tokio::time::interval(BURST / REQUESTS_OF_A_CLIENT);
            let mut asked = 0;
            let mut served = 0;
            let mut answers = FuturesUnordered::new();
            let mut dial_backs = FuturesUnordered::new();
            while asked < REQUESTS_OF_A_CLIENT || !answers.is_empty() {
                tokio::select! {
                    _ = pace.tick(), if asked < REQUESTS_OF_A_CLIENT => {
                        asked += 1;
                        let addrs = std::slice::from_ref(&addr);
                        let mut request = ask(&mut client, connection, addrs, asked.into()).await;
                        answers.push(async move { request.next().await });
                    }
                    Some(answer) = answers.next(), if !answers.is_empty() => {
                        if let Some(Ok(Message::DialResponse(response))) = answer
                            && response.dial_status == DialStatus::Ok
                        {
                            served += 1;
                        }
                    }
                    _ = dial_backs.next(), if !dial_backs.is_empty() => {}
                    event = client.next_event() => {
                        if let SwarmEvent::Behaviour(RawEvent::Inbound { stream, .. }) = event {
                            dial_backs.push(async move {
                                let codec = DialBackClientCodec::new();
                                let mut framed = Framed::new(stream, codec);
                                let _ = framed.next().await;
                                let _ = framed.send(Default::default()).await;
                                let _ = framed.next().await;
                            });
                        }
                    }
                }
            }
            served
        });
    join_all(asking).await.into_iter().sum()
}
