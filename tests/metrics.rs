//! The metrics of a client and a server over real loopback connections, scraped over HTTP as Prometheus does.

#[path = "metrics/openmetrics.rs"]
mod openmetrics;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
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
use openmetrics::Scrape;
use prometheus_client::encoding::text::encode;
use support::{Node, PATIENCE, from_new_port, swarm, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/test/1".to_owned(),
        keypair.public(),
    ))
}

/// A node with its metrics and where they are scraped.
struct Observed<B: NetworkBehaviour> {
    node: Node<B>,
    metrics: Metrics,
    endpoint: std::net::SocketAddr,
}

impl<B> Observed<B>
where
    B: NetworkBehaviour + Send,
    B::ToSwarm: std::fmt::Debug + Send,
{
    async fn new(
        keypair: Keypair,
        behaviour: B,
        record: impl Fn(&Metrics, &B::ToSwarm) + Send + 'static,
    ) -> Self {
        let mut registry = Registry::default();
        // As an application has them: libp2p's own beside ours.
        let _libp2p = libp2p::metrics::Metrics::new(&mut registry);
        let metrics = Metrics::new(&mut registry);
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

    /// Sets the gauges, and asks as Prometheus does.
    async fn scrape(&self, gauges: impl Fn(&Metrics, &B) + Send + 'static) -> Scrape {
        let metrics = self.metrics.clone();
        self.node
            .with(move |swarm| gauges(&metrics, swarm.behaviour()))
            .await;
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

async fn client() -> Observed<Client> {
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
    Observed::new(keypair, behaviour, |metrics, event| {
        if let ClientEvent::Autonat(event) = event {
            metrics.record(event);
        }
    })
    .await
}

/// Takes three requests of a peer a minute.
async fn server() -> Observed<Server> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = Server {
        identify: identify(&keypair),
        autonat: server::Behaviour::new(
            server::Config::default()
                .with_private_addresses(true)
                .with_max_delay_after_dial_data(Duration::ZERO)
                .with_max_requests_per_minute_per_peer(3),
        ),
    };
    Observed::new(keypair, behaviour, |metrics, event| {
        if let ServerEvent::Autonat(event) = event {
            metrics.record(event);
        }
    })
    .await
}

impl Observed<Client> {
    async fn completed(&mut self, outcome: ProbeOutcome) -> client::RequestCompleted {
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

    async fn add(&self, address: &Multiaddr) {
        let address = address.clone();
        self.node
            .with(move |swarm| swarm.behaviour_mut().autonat.add_candidate(&address))
            .await
            .expect("the address can be tested");
    }
}

impl Observed<Server> {
    async fn counted(&mut self, what: &str, is_it: impl Fn(&server::Event) -> bool) {
        self.node
            .event(what, |event| match event {
                SwarmEvent::Behaviour(ServerEvent::Autonat(event)) => is_it(event).then_some(()),
                _ => None,
            })
            .await;
    }
}

#[tokio::test]
async fn gos_metrics_are_scraped_with_gos_labels_and_the_right_values() {
    let mut server = server().await;
    let served_at = server.node.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut client = client().await;
    let open = client.node.listen("/ip4/127.0.0.1/tcp/0").await;
    let client_at_first = client.scrape(client_gauges).await;
    let server_at_first = server.scrape(server_gauges).await;
    client.node.connect(from_new_port(served_at)).await;
    let is_served = |event: &server::Event| matches!(event, server::Event::Served(_));
    let vantage = client::Vantage::Contacted;

    // One success.
    let success = client.completed(ProbeOutcome::Reachable(vantage)).await;
    assert_eq!(success.dialed.as_ref(), Some(&open));
    server.counted("the success", is_served).await;

    // One dial error, paid for since the IP is another one. Nobody listens while the socket is kept.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.2:0".parse().expect("valid"))
        .expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let closed = format!("/ip4/127.0.0.2/tcp/{port}").parse().expect("valid");
    client.add(&closed).await;
    let dial_error = client.completed(ProbeOutcome::DialError).await;
    assert_eq!(dial_error.dialed, Some(closed));
    server.counted("the dial error", is_served).await;

    // One refusal: the server has no QUIC listener.
    let quic = "/ip4/127.0.0.1/udp/9/quic-v1".parse().expect("valid");
    client.add(&quic).await;
    let refusal = client.completed(ProbeOutcome::Refused).await;
    assert_eq!(refusal.dialed, None);
    server.counted("the refusal", is_served).await;

    // One rejection: the fourth request in a minute.
    client
        .node
        .with(move |swarm| swarm.behaviour_mut().autonat.check_now(&open))
        .await
        .expect("the address is tracked");
    client.completed(ProbeOutcome::Rejected).await;
    server
        .counted("the rejection", |event| {
            matches!(event, server::Event::Rejected(_))
        })
        .await;

    let of_client = client.scrape(client_gauges).await;
    let of_server = server.scrape(server_gauges).await;
    every_count_began_at_0(&client_at_first, &of_client);
    every_count_began_at_0(&server_at_first, &of_server);
    the_clients_counts_are_right(&of_client, dial_error.dial_data);
    the_servers_counts_are_right(&of_server, dial_error.dial_data);
    for scrape in [&of_client, &of_server] {
        no_label_names_an_address_or_a_peer(scrape);
    }
}

fn client_gauges(metrics: &Metrics, behaviour: &Client) {
    metrics.record(&behaviour.autonat);
}

fn server_gauges(metrics: &Metrics, behaviour: &Server) {
    metrics.record(&behaviour.autonat);
}

/// `increase()` sees no first event in a series that begins with it.
fn every_count_began_at_0(at_first: &Scrape, later: &Scrape) {
    let counts = |scrape: &Scrape| -> BTreeMap<_, _> {
        let ours = scrape.samples.iter().filter(|((name, _), _)| {
            let counts = ["_total", "_count", "_bucket"];
            name.starts_with("libp2p_autonatv2_") && counts.iter().any(|it| name.ends_with(it))
        });
        ours.map(|(key, value)| (key.clone(), *value)).collect()
    };
    let at_first = counts(at_first);
    for (key, value) in &at_first {
        assert_eq!(*value, 0.0, "{key:?}");
    }
    for key in counts(later).keys() {
        assert!(at_first.contains_key(key), "{key:?} came later");
    }
}

#[test]
fn a_node_of_one_role_shows_no_metrics_of_the_other() {
    let names = |register: fn(&mut Registry) -> Metrics| {
        let mut registry = Registry::default();
        let _metrics = register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).expect("it can be written");
        let scrape = Scrape::parse(&text).expect("it is well-formed");
        scrape.types.into_keys().collect::<BTreeSet<_>>()
    };
    let both = names(Metrics::new);
    let (of_client, of_server) = (names(Metrics::of_client), names(Metrics::of_server));
    let of_a_client = |name: &String| name.starts_with("libp2p_autonatv2_client_");
    assert!(of_client.iter().all(of_a_client));
    assert!(!of_server.iter().any(of_a_client));
    assert_eq!(&of_client | &of_server, both);
}

fn the_clients_counts_are_right(scrape: &Scrape, dial_data: u64) {
    let name = "libp2p_autonatv2_client_requests_total";
    assert_eq!(scrape.all(name, &["outcome"]).len(), 2);
    assert_eq!(scrape.value(name, &[("outcome", "success")]), 3.0);
    assert_eq!(scrape.value(name, &[("outcome", "failure")]), 1.0);

    let name = "libp2p_autonatv2_client_requests_completed_total";
    let labels = [
        "ip_or_dns_version",
        "transport",
        "addr_count",
        "dial_refused",
        "reachability",
    ];
    assert_eq!(counted(scrape, name, &labels), 3);
    for values in [
        ["ip4", "tcp", "1", "false", "public"],
        ["ip4", "tcp", "1", "false", "private"],
        ["unknown", "unknown", "1", "true", "unknown"],
    ] {
        assert_eq!(
            scrape.value(name, &pairs(labels, values)),
            1.0,
            "{values:?}"
        );
    }

    let value = |name: &str, labels: &[(&str, &str)]| {
        scrape.value(&format!("libp2p_autonatv2_client_{name}"), labels)
    };
    for outcome in ["reachable", "dial-error", "refused", "rejected"] {
        assert_eq!(value("probes_total", &[("outcome", outcome)]), 1.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "100,000 at most")]
    let paid = dial_data as f64;
    assert!(paid >= 30_000.0);
    assert_eq!(value("dial_data_sent_bytes_total", &[]), paid);
    assert_eq!(
        value(
            "addresses",
            &[("verdict", "reachable"), ("vantage", "contacted")]
        ),
        1.0
    );
    assert_eq!(
        value(
            "addresses",
            &[("verdict", "reachable"), ("vantage", "independent")]
        ),
        0.0
    );
    assert_eq!(value("confirmed_addresses", &[]), 1.0);
    let confidence = value("lowest_confidence_ratio", &[("verdict", "reachable")]);
    assert!((0.9..1.0).contains(&confidence), "{confidence}");
    assert_eq!(value("summary", &[("reachability", "public")]), 1.0);
    assert_eq!(value("summary", &[("reachability", "private")]), 0.0);
    assert_eq!(value("servers", &[("state", "known")]), 1.0);
    assert_eq!(value("servers", &[("state", "usable")]), 0.0, "backed off");
    assert_eq!(value("state_entries", &[("collection", "addresses")]), 3.0);
    for (reachability, count) in [("public", 1.0), ("private", 1.0), ("unknown", 2.0)] {
        let labels = [("reachability", reachability)];
        assert_eq!(value("probe_duration_seconds_count", &labels), count);
    }
    let labels = [("verdict", "reachable")];
    assert_eq!(value("time_to_first_verdict_seconds_count", &labels), 1.0);
    assert_eq!(value("verdict_changes_total", &labels), 1.0);
}

fn the_servers_counts_are_right(scrape: &Scrape, dial_data: u64) {
    let name = "libp2p_autonatv2_requests_completed_total";
    let labels = [
        "server_error",
        "response_status",
        "dial_status",
        "dial_data_required",
        "ip_or_dns_version",
        "transport",
    ];
    assert_eq!(counted(scrape, name, &labels), 4);
    for values in [
        ["nil", "OK", "OK", "false", "ip4", "tcp"],
        ["nil", "OK", "E_DIAL_ERROR", "true", "ip4", "tcp"],
        ["nil", "E_DIAL_REFUSED", "UNUSED", "false", "", ""],
        ["nil", "E_REQUEST_REJECTED", "UNUSED", "false", "", ""],
    ] {
        assert_eq!(
            scrape.value(name, &pairs(labels, values)),
            1.0,
            "{values:?}"
        );
    }

    let value = |name: &str, labels: &[(&str, &str)]| {
        scrape.value(&format!("libp2p_autonatv2_server_{name}"), labels)
    };
    let limit = server::Limit::RequestsOfPeer.as_str();
    assert_eq!(value("rejections_total", &[("limit", limit)]), 1.0);
    assert_eq!(
        value("passed_over_total", &[("reason", "cannot dial")]),
        1.0
    );
    assert_eq!(value("dial_backs_total", &[("outcome", "delivered")]), 1.0);
    assert_eq!(
        value("dial_backs_total", &[("outcome", "dial failed")]),
        1.0
    );
    #[expect(clippy::cast_precision_loss, reason = "100,000 at most")]
    let paid = dial_data as f64;
    assert_eq!(value("dial_data_requested_bytes_total", &[]), paid);
    assert_eq!(value("dial_data_received_bytes_total", &[]), paid);
    assert_eq!(value("request_duration_seconds_count", &[]), 3.0);
    assert_eq!(value("requests_in_flight", &[]), 0.0);
    assert_eq!(value("dials_in_flight", &[]), 0.0);
    // The peer, its neighbourhood and network, those two for dial data, and the target.
    assert_eq!(value("rate_entries", &[]), 6.0);
}

/// How many series are above 0.
fn counted(scrape: &Scrape, name: &str, labels: &[&str]) -> usize {
    let all = scrape.all(name, labels);
    all.into_iter().filter(|(_, value)| *value > 0.0).count()
}

fn pairs<const N: usize>(
    names: [&'static str; N],
    values: [&'static str; N],
) -> Vec<(&'static str, &'static str)> {
    names.into_iter().zip(values).collect()
}

fn no_label_names_an_address_or_a_peer(scrape: &Scrape) {
    for (name, labels) in scrape.samples.keys() {
        for (label, value) in labels {
            let is_number = label == "le" || label == "addr_count";
            let is_a_word =
                !value.contains(['/', '.', ':']) && value.parse::<libp2p::PeerId>().is_err();
            assert!(is_number || is_a_word, "{name}{{{label}={value:?}}}");
        }
    }
}

#[test]
fn the_parser_takes_no_malformed_text() {
    let good = "# HELP a_b Words.\n# TYPE a_b counter\na_b_total{x=\"1\",y=\"a\\\"b\"} 2\n# EOF\n";
    let scrape = Scrape::parse(good).expect("it is well-formed");
    assert_eq!(scrape.value("a_b_total", &[("x", "1"), ("y", "a\"b")]), 2.0);
    for (from, to) in [
        ("# EOF\n", ""),
        ("a_b_total", "a_b"),
        ("# TYPE a_b counter\n", ""),
        ("\",y", "\"y"),
        ("} 2", "}2"),
        ("} 2", ",} 2"),
        (" 2\n", " two\n"),
        ("y=", "x="),
        ("b\"}", "b}"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good);
        assert!(Scrape::parse(&bad).is_err(), "{bad}");
    }
}
