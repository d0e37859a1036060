//! The metrics of a client and a server over real loopback connections, scraped over HTTP as Prometheus does.

#[path = "metrics/monitoring.rs"]
mod monitoring;
#[path = "metrics/observed.rs"]
mod observed;
#[path = "metrics/openmetrics.rs"]
mod openmetrics;
#[path = "metrics/prometheus.rs"]
mod prometheus;

mod support;

use std::collections::{BTreeMap, BTreeSet};

use libp2p::metrics::Registry;
use libp2p_autonat_v2::{
    client::{self, ProbeOutcome, Verdict},
    metrics::Metrics,
    server,
};
use observed::{client, server};
use openmetrics::Scrape;
use prometheus_client::encoding::text::encode;
use support::from_new_port;

#[tokio::test]
async fn gos_metrics_are_scraped_with_gos_labels_and_the_right_values() {
    // Takes three requests of a peer a minute.
    let config = server::Config::default().with_max_requests_per_minute_per_peer(3);
    let mut server = server(config).await;
    let served_at = server.node.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut client = client().await;
    let open = client.node.listen("/ip4/127.0.0.1/tcp/0").await;
    let client_at_first = client.scrape().await;
    let server_at_first = server.scrape().await;
    client.node.connect(from_new_port(served_at)).await;
    let is_served = |event: &server::Event| matches!(event, server::Event::Served(_));
    let vantage = client::Vantage::Contacted;

    // One success.
    let success = client.completed(ProbeOutcome::Reachable(vantage)).await;
    assert_eq!(success.dialed.as_ref(), Some(&open));
    client.found(Verdict::Reachable).await;
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

    let of_client = client.scrape().await;
    let of_server = server.scrape().await;
    every_count_began_at_0(&client_at_first, &of_client);
    every_count_began_at_0(&server_at_first, &of_server);
    the_clients_counts_are_right(&of_client, dial_error.dial_data);
    the_servers_counts_are_right(&of_server, dial_error.dial_data);
    for scrape in [&of_client, &of_server] {
        no_label_names_an_address_or_a_peer(scrape);
    }
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
