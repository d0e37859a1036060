//! Nodes of one role, with their metrics and an HTTP endpoint that serves them.

#![allow(unreachable_pub, reason = "the test is its own crate")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{
    Multiaddr, identify,
    identity::Keypair,
    metrics::{Recorder, Registry},
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{
    client::{self, ProbeOutcome},
    metrics::Metrics,
    server,
};
use prometheus_client::encoding::text::encode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    openmetrics::Scrape,
    support::{Node, PATIENCE, swarm, within},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(NetworkBehaviour)]
pub struct Client {
    pub identify: identify::Behaviour,
    pub autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
pub struct Server {
    pub identify: identify::Behaviour,
    pub autonat: server::Behaviour,
}

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/test/1".to_owned(),
        keypair.public(),
    ))
}

/// A node with its metrics and where they are scraped.
pub struct Observed<B: NetworkBehaviour> {
    pub node: Node<B>,
    metrics: Metrics,
    pub endpoint: std::net::SocketAddr,
}

/// What has gauges.
pub trait Gauges {
    fn gauges(&self, metrics: &Metrics);
}

impl Gauges for Client {
    fn gauges(&self, metrics: &Metrics) {
        metrics.record(&self.autonat);
    }
}

impl Gauges for Server {
    fn gauges(&self, metrics: &Metrics) {
        metrics.record(&self.autonat);
    }
}

impl<B> Observed<B>
where
    B: NetworkBehaviour + Gauges + Send,
    B::ToSwarm: std::fmt::Debug + Send,
{
    async fn new(
        keypair: Keypair,
        behaviour: B,
        register: fn(&mut Registry) -> Metrics,
        record: impl Fn(&Metrics, &B::ToSwarm) + Send + 'static,
    ) -> Self {
        let mut registry = Registry::default();
        // As an application has them: libp2p's own beside ours.
        let _libp2p = libp2p::metrics::Metrics::new(&mut registry);
        let metrics = register(&mut registry);
        let recorder = metrics.clone();
        let node = Node::spawn_observed(swarm(keypair, behaviour), move |event| {
            if let SwarmEvent::Behaviour(event) = event {
                record(&recorder, event);
            }
        });
        Self {
            node,
            metrics,
            endpoint: serve(Arc::new(Mutex::new(registry))).await,
        }
    }

    /// Sets the gauges.
    pub async fn refresh(&self) {
        let metrics = self.metrics.clone();
        self.node
            .with(move |swarm| swarm.behaviour().gauges(&metrics))
            .await;
    }

    /// Sets the gauges, and asks as Prometheus does.
    pub async fn scrape(&self) -> Scrape {
        self.refresh().await;
        let response = within(PATIENCE, "a scrape", async {
            let mut stream = TcpStream::connect(self.endpoint).await?;
            let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await?;
            let mut response = String::new();
            stream.read_to_string(&mut response).await?;
            std::io::Result::Ok(response)
        })
        .await
        .expect("the endpoint answers");
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(
            head.contains(&format!("Content-Type: {OPENMETRICS}")),
            "{head}"
        );
        Scrape::parse(body).unwrap_or_else(|error| panic!("{error}\n{body}"))
    }
}

/// As small as a metrics endpoint can be.
async fn serve(registry: Arc<Mutex<Registry>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let mut body = String::new();
            encode(&mut body, &registry.lock().expect("no panic")).expect("it can be written");
            let length = body.len();
            let response = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {OPENMETRICS}\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            // A scraper that left.
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    endpoint
}

pub async fn client() -> Observed<Client> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = Client {
        identify: identify(&keypair),
        autonat: client::Behaviour::new(
            keypair.public().to_peer_id(),
            client::Config::default()
                .with_private_addresses(true)
                .with_addresses_per_request(1),
        ),
    };
    Observed::new(keypair, behaviour, Metrics::of_client, |metrics, event| {
        if let ClientEvent::Autonat(event) = event {
            metrics.record(event);
        }
    })
    .await
}

pub async fn server(config: server::Config) -> Observed<Server> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = Server {
        identify: identify(&keypair),
        autonat: server::Behaviour::new(
            config
                .with_private_addresses(true)
                .with_max_delay_after_dial_data(Duration::ZERO),
        ),
    };
    Observed::new(keypair, behaviour, Metrics::of_server, |metrics, event| {
        if let ServerEvent::Autonat(event) = event {
            metrics.record(event);
        }
    })
    .await
}

impl Observed<Client> {
    pub async fn completed(&mut self, outcome: ProbeOutcome) -> client::RequestCompleted {
        let completed = self
            .node
            .event("a request is completed", |event| match event {
                SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::RequestCompleted(
                    completed,
                ))) => Some(completed.clone()),
                _ => None,
            })
            .await;
        assert_eq!(completed.outcome, outcome);
        completed
    }

    pub async fn found(&mut self, verdict: client::Verdict) {
        let is_it = |event: &SwarmEvent<ClientEvent>| match event {
            SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::VerdictChanged {
                new,
                ..
            })) => (*new == verdict).then_some(()),
            _ => None,
        };
        self.node.event("a verdict", is_it).await;
    }

    pub async fn add(&self, address: &Multiaddr) {
        let address = address.clone();
        self.node
            .with(move |swarm| swarm.behaviour_mut().autonat.add_candidate(&address))
            .await
            .expect("the address can be tested");
    }
}

impl Observed<Server> {
    pub async fn counted(&mut self, what: &str, is_it: impl Fn(&server::Event) -> bool) {
        self.node
            .event(what, |event| match event {
                SwarmEvent::Behaviour(ServerEvent::Autonat(event)) => is_it(event).then_some(()),
                _ => None,
            })
            .await;
    }
}
