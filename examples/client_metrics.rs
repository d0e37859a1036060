//! A node that learns which of its addresses strangers can reach, and exports what it learns to Prometheus.
//!
//! `cargo run --features metrics --example client_metrics -- /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW...` joins at these peers.
//! `METRICS` is where it is scraped (127.0.0.1:9401), and `LISTEN` a multiaddr (by default a random TCP port);
//! `ALLOW_PRIVATE=1` is for a network of one's own. docs/monitoring.md has the dashboard and the alerts.

use futures::StreamExt;
use libp2p::{
    Multiaddr, SwarmBuilder, identify,
    identity::Keypair,
    metrics::{Metrics as Libp2pMetrics, Recorder, Registry},
    noise, ping,
    swarm::{NetworkBehaviour, SwarmEvent},
    yamux,
};
use libp2p_autonat_v2::{client, metrics::Metrics};
use prometheus_client::encoding::text::encode;
use std::{env, error::Error, io, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

#[derive(NetworkBehaviour)]
struct Node {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    autonat: client::Behaviour,
}

impl Node {
    fn new(key: &Keypair) -> Self {
        let private = env::var("ALLOW_PRIVATE").is_ok_and(|value| value == "1");
        let config = client::Config::default().with_private_addresses(private);
        let identify = identify::Config::new("/client-metrics/1.0.0".to_owned(), key.public());
        Self {
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            autonat: client::Behaviour::new(key.public().to_peer_id(), config),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let parse = |text: String| text.parse().map_err(|e| format!("{text}: {e}"));
    let peers: Vec<Multiaddr> = env::args().skip(1).map(parse).collect::<Result<_, _>>()?;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            Default::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(Node::new)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(300)))
        .build();
    let listen = env::var("LISTEN").unwrap_or_else(|_| "/ip4/0.0.0.0/tcp/0".to_owned());
    swarm.listen_on(parse(listen)?)?;
    for peer in peers {
        swarm.dial(peer)?;
    }

    // libp2p's own metrics and ours in one registry.
    let mut registry = Registry::default();
    let of_libp2p = Libp2pMetrics::new(&mut registry);
    let metrics = Metrics::of_client(&mut registry);

    let at = env::var("METRICS").unwrap_or_else(|_| "127.0.0.1:9401".to_owned());
    let scrapes = TcpListener::bind(&at)
        .await
        .map_err(|e| format!("{at}: {e}"))?;
    println!("metrics on http://{}/metrics", scrapes.local_addr()?);

    loop {
        tokio::select! {
            event = swarm.select_next_some() => {
                of_libp2p.record(&event);
                match event {
                    SwarmEvent::NewListenAddr { address, .. } => println!("listening on {address}"),
                    SwarmEvent::Behaviour(NodeEvent::Identify(event)) => {
                        of_libp2p.record(&event);
                        if let identify::Event::Received { connection_id, info, .. } = &event {
                            swarm.behaviour_mut().autonat.observed(*connection_id, &info.observed_addr);
                        }
                    }
                    SwarmEvent::Behaviour(NodeEvent::Ping(event)) => of_libp2p.record(&event),
                    SwarmEvent::Behaviour(NodeEvent::Autonat(event)) => {
                        metrics.record(&event);
                        if let client::Event::VerdictChanged { address, new, .. } = event {
                            println!("{address} is {}", new.as_str());
                        }
                    }
                    _ => {}
                }
            }
            Ok((stream, _)) = scrapes.accept() => {
                // The gauges are as old as their last record.
                metrics.record(&swarm.behaviour().autonat);
                let mut text = String::new();
                encode(&mut text, &registry)?;
                tokio::spawn(timeout(Duration::from_secs(5), answer(stream, text)));
            }
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// Answers any request with the metrics. A node that has a web server uses that.
async fn answer(stream: TcpStream, text: String) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // The request ends with an empty line. More than 8 KiB are no request of a scraper.
    let mut head = (&mut stream).take(8_192);
    while head.read_line(&mut line).await? > "\r\n".len() {
        line.clear();
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
