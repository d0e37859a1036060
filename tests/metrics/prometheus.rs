//! A real Prometheus over a server and two clients: every query of the dashboard and every alert is answered, the first event
//! of a series is seen, and alerts fire when they should.
//!
//! `.ci/prometheus` gets Prometheus and runs this. All windows of the alerts are shortened by the same factor, so that
//! hours pass in seconds; `monitoring/alerts.test.yml` has the alerts with their own windows.

use std::{
    collections::BTreeSet,
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, core::transport::ListenerId, swarm::ConnectionId};
use libp2p_autonat_v2::{
    client::{ProbeOutcome, Vantage},
    protocol::{DialStatus, ResponseStatus},
    server,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
};

use crate::{
    monitoring,
    observed::{Client, Observed, Server, client, server},
    support::{
        PATIENCE, RawPeer,
        autonat::{answer, ask, dial_data_request, dialed, not_dialed, open_request, pay},
        from_new_port, read_to_end, send, within,
    },
};

/// So many seconds of an alert's window pass in one: an hour in half a minute. With a scrape each second the shortest
/// window, 10 min, still has five.
const HASTE: u64 = 120;

/// Half a minute for the longest window that has to be filled, and as much again that its alert has to hold.
const TO_FIRE: Duration = Duration::from_secs(180);

#[tokio::test]
#[ignore = "needs Prometheus: run .ci/prometheus"]
async fn prometheus_answers_every_panel_and_alerts_fire() {
    let mut nodes = Nodes::start().await;
    let prometheus = Prometheus::start(&nodes.endpoints());
    nodes
        .until("all are scraped twice", async || {
            let twice = "count(count_over_time(up[1m]) >= 2 and up == 1)";
            prometheus.samples(twice).await == [3.0]
        })
        .await;

    nodes.have_a_good_day().await;
    for first in [
        format!(
            "increase(libp2p_autonatv2_client_verdict_changes_total{{verdict=\"reachable\", instance=\"{}\"}}[5m])",
            nodes.client.endpoint
        ),
        "increase(libp2p_autonatv2_server_misbehaviours_total{cause=\"message too long\"}[5m])"
            .to_owned(),
    ] {
        nodes
            .until(
                "the first event is seen",
                async || matches!(prometheus.samples(&first).await[..], [growth] if growth > 0.0),
            )
            .await;
    }
    for (title, query) in monitoring::queries() {
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$instance", ".*");
        let samples = prometheus.samples(&query).await;
        assert!(
            samples.iter().any(|value| value.is_finite()),
            "{title}: {query} brings {samples:?}"
        );
    }
    nodes
        .until("all alerts are evaluated", async || {
            prometheus.healthy_alerts().await == monitoring::alerts()
        })
        .await;
    assert_eq!(prometheus.firing().await, BTreeSet::new());

    let lonely = client().await;
    prometheus.scrapes(&[&nodes.endpoints()[..], &[lonely.endpoint]].concat());
    nodes.have_a_bad_day().await;
    let (mut unreachable, connection) = nodes.stranger().await;
    let (_socket, nowhere) = closed(Ipv4Addr::LOCALHOST);
    let nowhere = [nowhere];
    let expected: BTreeSet<_> = [
        "AutonatNodeFindsNoServers",
        "AutonatNodeLostReachability",
        "AutonatServerIsMisused",
        "AutonatServerIsUsedAgainstSomebody",
        "AutonatServerReachesNobody",
    ]
    .map(str::to_owned)
    .into();
    let mut fired = BTreeSet::new();
    nodes
        .until("the alerts fire", async || {
            lonely.refresh().await;
            let mut request = ask(&mut unreachable, connection, &nowhere, 1).await;
            let failed = dialed(0, DialStatus::DialError);
            assert_eq!(answer(&mut request).await, failed);
            fired.append(&mut prometheus.firing().await);
            fired.is_superset(&expected)
        })
        .await;
    assert_eq!(fired, expected);
}

/// What is monitored.
struct Nodes {
    server: Observed<Server>,
    served_at: Multiaddr,
    client: Observed<Client>,
    example: Example,
    listener: Option<ListenerId>,
}

impl Nodes {
    async fn start() -> Self {
        // The loopback is one neighbourhood.
        let config = server::Config::default()
            .with_max_requests_per_minute(10_000)
            .with_max_requests_per_minute_per_neighbourhood(10_000)
            .with_max_requests_per_minute_per_peer(10_000)
            .with_max_dial_data_requests_per_minute(10_000)
            .with_max_dial_data_requests_per_minute_per_neighbourhood(10_000)
            .with_max_dials_per_minute_per_target(1);
        let mut server = server(config).await;
        let served_at = server.node.listen("/ip4/127.0.0.1/tcp/0").await;
        let example = Example::start(&served_at).await;
        Self {
            served_at,
            server,
            client: client().await,
            example,
            listener: None,
        }
    }

    fn endpoints(&self) -> [SocketAddr; 3] {
        [
            self.server.endpoint,
            self.client.endpoint,
            self.example.endpoint,
        ]
    }

    /// Asks again and again, with fresh gauges.
    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + TO_FIRE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "timed out: {what}");
            self.server.refresh().await;
            self.client.refresh().await;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Both clients are reachable, and somebody makes one mistake.
    async fn have_a_good_day(&mut self) {
        let listen = "/ip4/127.0.0.1/tcp/0".parse().expect("valid");
        let listener = self.client.node.with(|swarm| swarm.listen_on(listen)).await;
        self.listener = Some(listener.expect("it can listen"));
        self.client
            .node
            .connect(from_new_port(self.served_at.clone()))
            .await;
        self.client
            .completed(ProbeOutcome::Reachable(Vantage::Contacted))
            .await;
        self.example.line("is reachable").await;

        let (mut peer, connection) = self.stranger().await;
        let mut stream = open_request(&mut peer, connection).await;
        let much_too_long = [0xff, 0xff, 0xff, 0xff, 0x7f];
        send(&mut stream, &much_too_long).await.expect("it is sent");
        assert!(read_to_end(&mut stream).await.is_empty());
    }

    /// A client listens no more, the other is gone, and somebody attacks.
    async fn have_a_bad_day(&mut self) {
        let listener = self.listener.take().expect("it listens");
        let removed = self
            .client
            .node
            .with(move |swarm| swarm.remove_listener(listener))
            .await;
        assert!(removed);
        self.example.stop().await;

        let (mut peer, connection) = self.stranger().await;
        let (_there, there) = closed(Ipv4Addr::new(127, 66, 0, 1));
        let there = [there];
        let mut paid = ask(&mut peer, connection, &there, 1).await;
        let due = dial_data_request(&mut paid).await;
        pay(&mut paid, due.num_bytes).await;
        assert_eq!(answer(&mut paid).await, dialed(0, DialStatus::DialError));
        // 20 within ten minutes.
        for nonce in 0..40 {
            let mut request = ask(&mut peer, connection, &there, nonce).await;
            let rejected = not_dialed(ResponseStatus::RequestRejected);
            assert_eq!(answer(&mut request).await, rejected);
        }
        // One in a second, for ten minutes.
        for _ in 0..40 {
            let mut stream = open_request(&mut peer, connection).await;
            send(&mut stream, &[0xff; 64]).await.expect("it is sent");
            assert!(read_to_end(&mut stream).await.is_empty());
        }
    }

    async fn stranger(&self) -> (RawPeer, ConnectionId) {
        let mut peer = RawPeer::new(&[]);
        let connection = peer.connect(from_new_port(self.served_at.clone())).await;
        (peer, connection)
    }
}

/// An address where nobody listens while the socket is kept.
fn closed(ip: Ipv4Addr) -> (tokio::net::TcpSocket, Multiaddr) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((ip, 0).into()).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let addr = format!("/ip4/{ip}/tcp/{port}").parse().expect("valid");
    (socket, addr)
}

/// `examples/client_metrics.rs`. Killed when it is dropped.
struct Example {
    child: Child,
    stdout: tokio::io::Lines<BufReader<ChildStdout>>,
    endpoint: SocketAddr,
}

impl Example {
    async fn start(server: &Multiaddr) -> Self {
        let test = env::current_exe().expect("the test has a path");
        // target/PROFILE/deps/test
        let profile = test.ancestors().nth(2).expect("the target directory");
        let mut child = Command::new(profile.join("examples/client_metrics"))
            .arg(server.to_string())
            .env("ALLOW_PRIVATE", "1")
            .env("LISTEN", "/ip4/127.0.0.1/tcp/0")
            .env("METRICS", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example is built");
        let stdout = child.stdout.take().expect("it is piped");
        let mut example = Self {
            child,
            stdout: BufReader::new(stdout).lines(),
            endpoint: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let line = example.line("metrics on").await;
        let endpoint = line
            .strip_prefix("metrics on http://")
            .and_then(|rest| rest.strip_suffix("/metrics"));
        example.endpoint = endpoint.and_then(|it| it.parse().ok()).expect("an address");
        example
    }

    async fn stop(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// The next line with these words.
    async fn line(&mut self, words: &str) -> String {
        within(PATIENCE, words, async {
            loop {
                let line = self.stdout.next_line().await.expect("it can be read");
                let line = line.expect("the example runs");
                if line.contains(words) {
                    return line;
                }
            }
        })
        .await
    }
}

/// Killed when it is dropped.
struct Prometheus {
    _child: Child,
    endpoint: SocketAddr,
    directory: PathBuf,
}

impl Prometheus {
    fn start(targets: &[SocketAddr]) -> Self {
        let name = format!("prometheus-{}", std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("a file");
        write("alerts.yml", &hastened(&monitoring::read("alerts.yml")));
        write(
            "prometheus.yml",
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n\
             rule_files: [alerts.yml]\n\
             scrape_configs: [{job_name: autonat, file_sd_configs: [{files: [targets.json]}]}]\n",
        );
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = free.local_addr().expect("bound");
        drop(free);
        let log = fs::File::create(directory.join("log")).expect("a file");
        let program = env::var("PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
        let child = Command::new(program)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={endpoint}"))
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Prometheus starts");
        let this = Self {
            _child: child,
            endpoint,
            directory,
        };
        this.scrapes(targets);
        this
    }

    /// From now on.
    fn scrapes(&self, targets: &[SocketAddr]) {
        let targets = targets.iter().map(ToString::to_string).collect::<Vec<_>>();
        let text = serde_json::json!([{ "targets": targets }]).to_string();
        // Moved into place, so that Prometheus never reads half of it.
        let (new, place) = (
            self.directory.join("new"),
            self.directory.join("targets.json"),
        );
        fs::write(&new, text).expect("a file");
        fs::rename(new, place).expect("it can be moved");
    }

    /// The values that this query brings now.
    async fn samples(&self, query: &str) -> Vec<f64> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let Some(answer) = self.get(&format!("query?query={escaped}")).await else {
            return Vec::new();
        };
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let samples = answer["data"]["result"].as_array().expect("a vector");
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|it| it.parse().ok());
        samples
            .iter()
            .map(|sample| value(sample).expect("a number"))
            .collect()
    }

    /// The alerts whose rules were evaluated without an error.
    async fn healthy_alerts(&self) -> BTreeSet<String> {
        let answer = self.get("rules").await.expect("Prometheus is up");
        let groups = answer["data"]["groups"].as_array().expect("groups");
        let rules = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().expect("rules"));
        rules
            .inspect(|rule| assert_ne!(rule["health"], "err", "{rule}"))
            .filter(|rule| rule["health"] == "ok")
            .map(|rule| rule["name"].as_str().expect("a name").to_owned())
            .collect()
    }

    async fn firing(&self) -> BTreeSet<String> {
        let answer = self.get("alerts").await.expect("Prometheus is up");
        let alerts = answer["data"]["alerts"].as_array().expect("alerts");
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| {
                alert["labels"]["alertname"]
                    .as_str()
                    .expect("a name")
                    .to_owned()
            })
            .collect()
    }

    /// `None` until it is ready.
    async fn get(&self, path: &str) -> Option<Value> {
        let mut response = String::new();
        // Version 1.0 gets the answer in one piece.
        let request = format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n");
        within(PATIENCE, "Prometheus answers", async {
            let mut stream = TcpStream::connect(self.endpoint).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.read_to_string(&mut response).await
        })
        .await
        .ok()?;
        let (head, body) = response.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1);
        (status != Some("503")).then(|| serde_json::from_str(body).expect("JSON"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// The rules with all their windows shortened.
fn hastened(rules: &str) -> String {
    let with_seconds = |line: &str| match line.trim().strip_prefix("for: ") {
        Some(time) => line.replace(time, &shortened(time)),
        None => line
            .split('[')
            .enumerate()
            .map(|(at, part)| match (at, part.split_once(']')) {
                (1.., Some((time, rest))) => format!("[{}]{rest}", shortened(time)),
                _ => part.to_owned(),
            })
            .collect(),
    };
    rules
        .lines()
        .map(with_seconds)
        .collect::<Vec<_>>()
        .join("\n")
}

fn shortened(time: &str) -> String {
    let (count, unit) = time.split_at(time.len() - 1);
    let seconds = match unit {
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        other => panic!("no such unit of time: {other}"),
    };
    let count: u64 = count.parse().expect("a number");
    format!("{}ms", count * seconds * 1_000 / HASTE)
}

#[test]
fn windows_are_shortened() {
    let rules = "expr: rate(a[15m]) > rate(b{c=\"d\"}[1h])\n  for: 30m\nother: 1h";
    let expected = "expr: rate(a[7500ms]) > rate(b{c=\"d\"}[30000ms])\n  for: 15000ms\nother: 1h";
    assert_eq!(hastened(rules), expected);
}
