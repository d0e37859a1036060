//! The server's key, its end, its limits and its metrics.

use std::{path::Path, time::Duration};

use args::Args;
use clap::Parser;
use libp2p_autonat_v2::server::Config;

use crate::process::{Process, Scratch, run, server};

#[path = "../../examples/server/args.rs"]
#[expect(dead_code, reason = "the tests read its configuration only")]
mod args;

fn peer(addr: &str) -> String {
    let (_, peer) = addr.split_once("/p2p/").expect("it names its peer");
    peer.to_owned()
}

#[cfg(unix)]
#[tokio::test]
async fn the_identity_outlives_a_restart_and_both_signals_end_it_cleanly() {
    let scratch = Scratch::new("server-restart");
    let mut peers = Vec::new();
    for signal in ["TERM", "INT"] {
        let (mut server, tcp, quic) = server(&scratch, &[]).await;
        assert_eq!(peer(&tcp), peer(&quic));
        peers.push(peer(&tcp));
        server.signal(signal).await;
        server.line(&format!("SIG{signal}: stopping")).await;
        server.line("stopped: 0 requests").await;
        assert!(server.ended().await.success());
    }
    assert_eq!(peers.first(), peers.last());
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_key() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let scratch = Scratch::new("server-key");
    drop(server(&scratch, &[]).await);
    let key = scratch.file("key");
    let mode = fs::metadata(&key)
        .expect("it was made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let open = run(
        "server",
        &["--key", &key, "--listen", "/ip4/127.0.0.1/tcp/0"],
    )
    .await;
    assert_eq!(open.code, 1, "{open:?}");
    assert!(open.stderr.contains("chmod 600"), "{open:?}");
}

#[tokio::test]
async fn a_file_that_is_no_key_is_left_alone() {
    let scratch = Scratch::new("server-no-key");
    let key = scratch.file("key");
    std::fs::write(&key, "my diary").expect("it can be written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&key, mode).expect("it is ours");
    }
    let run = run(
        "server",
        &["--key", &key, "--listen", "/ip4/127.0.0.1/tcp/0"],
    )
    .await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("does not hold a libp2p key"), "{run:?}");
    assert_eq!(
        std::fs::read_to_string(&key).expect("it is there"),
        "my diary"
    );
}

#[tokio::test]
async fn what_it_cannot_listen_on_is_told_and_leaves_no_key_behind() {
    let scratch = Scratch::new("server-listen");
    let key = scratch.file("key");
    let here = ["--listen", "/ip4/127.0.0.1/tcp/0"];
    for args in [
        &["--listen", "/ip4/203.0.113.1/tcp/0"][..],
        &[&here[..], &["--dial-from", "203.0.113.1"]].concat(),
        #[cfg(feature = "metrics")]
        &[&here[..], &["--metrics", "203.0.113.1:0"]].concat(),
    ] {
        let run = run("server", &[&["--key", &key], args].concat()).await;
        assert_eq!(run.code, 1, "{args:?}: {run:?}");
        let (what, why) = run.stderr.rsplit_once(": ").expect("it says why");
        assert!(what.contains("203.0.113.1"), "{args:?}: {run:?}");
        assert!(why.contains("os error"), "{args:?}: {run:?}");
        assert!(!Path::new(&key).exists(), "{args:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn it_serves_on_when_nobody_reads_what_it_prints() {
    let scratch = Scratch::new("server-unread");
    let (mut server, tcp, _) = server(&scratch, &[]).await;
    server.unread();
    let args = ["--allow-private", "--bind", "127.0.0.1", "--tcp", "0", &tcp];
    for _ in 0..2 {
        let client = run("check", &args).await;
        assert_eq!(client.code, 0, "{client:?}");
    }
    server.signal("TERM").await;
    assert!(server.ended().await.success());
}

/// Each option against the setter that it stands for. The configuration tells its values to `Debug` only.
#[test]
fn each_option_sets_what_it_says() {
    let ms = Duration::from_millis;
    let networks = [
        ([192, 0, 2, 0].into(), 24),
        ("2001:db8::".parse().expect("an IP"), 32),
    ];
    let config = Config::default;
    let options: [(&[&str], Config); 24] = [
        (&[], config()),
        (&["--allow-private"], config().with_private_addresses(true)),
        (&["--allow-names"], config().with_names(true)),
        (
            &[
                "--refuse-network=192.0.2.0/24",
                "--refuse-network=2001:db8::/32",
            ],
            config().with_refused_networks(networks),
        ),
        (&["--max-addresses=7"], config().with_max_addresses(7)),
        (&["--requests=7"], config().with_max_requests_per_minute(7)),
        (
            &["--requests-per-peer=7"],
            config().with_max_requests_per_minute_per_peer(7),
        ),
        (
            &["--requests-per-neighbourhood=7"],
            config().with_max_requests_per_minute_per_neighbourhood(7),
        ),
        (&["--v4-prefix=17"], config().with_neighbourhood(17, 56)),
        (&["--v6-prefix=47"], config().with_neighbourhood(24, 47)),
        (
            &["--dial-data=7"],
            config().with_max_dial_data_requests_per_minute(7),
        ),
        (
            &["--dial-data-per-neighbourhood=5"],
            config().with_max_dial_data_requests_per_minute_per_neighbourhood(5),
        ),
        (
            &["--dials-per-target=7"],
            config().with_max_dials_per_minute_per_target(7),
        ),
        (
            &["--concurrent-requests=7"],
            config().with_max_concurrent_requests(7),
        ),
        (
            &["--concurrent-requests-per-peer=7"],
            config().with_max_concurrent_requests_per_peer(7),
        ),
        (
            &["--concurrent-dials=7"],
            config().with_max_concurrent_dials(7),
        ),
        (
            &["--streams-per-connection=7"],
            config().with_max_streams_per_connection(7),
        ),
        (&["--message-len=7777"], config().with_max_message_len(7777)),
        (
            &["--request-timeout=7777"],
            config().with_request_timeout(ms(7777)),
        ),
        (
            &["--read-timeout=1777"],
            config().with_read_timeout(ms(1777)),
        ),
        (
            &["--dial-data-timeout=1777"],
            config().with_dial_data_timeout(ms(1777)),
        ),
        (
            &["--dial-data-delay=1777"],
            config().with_max_delay_after_dial_data(ms(1777)),
        ),
        (
            &["--dial-timeout=1777"],
            config().with_dial_timeout(ms(1777)),
        ),
        (
            &["--dial-back-timeout=1777"],
            config().with_dial_back_timeout(ms(1777)),
        ),
    ];
    let default = format!("{:?}", config());
    for (given, wanted) in options {
        let args = Args::parse_from([&["server"], given].concat());
        let wanted = format!("{wanted:?}");
        assert_eq!(format!("{:?}", args.config()), wanted, "{given:?}");
        assert_eq!(wanted == default, given.is_empty(), "{given:?}");
    }
}

#[tokio::test]
async fn mistakes_on_the_servers_command_line_are_explained() {
    let scratch = Scratch::new("server-mistakes");
    let key = scratch.file("key");
    for (args, words) in [
        (["--listen", "8.8.8.8"], "multiaddr"),
        (["--refuse-network", "10.0.0.0"], "203.0.113.0/24"),
        (["--refuse-network", "10.0.0.0/33"], "203.0.113.0/24"),
        (["--v4-prefix", "33"], "0..=32"),
        (["--requests", "many"], "invalid digit"),
    ] {
        let run = run("server", &[&["--key", &key][..], &args].concat()).await;
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert!(run.stderr.contains(words), "{args:?}: {run:?}");
    }
}

#[tokio::test]
async fn a_limit_that_was_given_holds() {
    let scratch = Scratch::new("server-limit");
    let (mut server, tcp, _) = server(&scratch, &["--requests-per-peer", "0"]).await;
    let args = [
        "--allow-private",
        "--bind",
        "127.0.0.1",
        "--tcp",
        "0",
        "--timeout",
        "30",
        &tcp,
    ];
    let _client = Process::start("check", &args, &[]);
    server.line("rejected, over the limit").await;
}

#[cfg(not(feature = "metrics"))]
#[tokio::test]
async fn without_the_feature_it_says_how_to_get_metrics() {
    let scratch = Scratch::new("server-no-metrics");
    let run = run(
        "server",
        &["--key", &scratch.file("key"), "--metrics", "127.0.0.1:0"],
    )
    .await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("--features metrics"), "{run:?}");
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn the_metrics_count_what_was_served() {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    async fn get(host: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(host).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        let read = tokio::time::timeout(Duration::from_secs(60), read).await;
        read.expect("it answers in time").expect("it answers");
        text
    }

    let scratch = Scratch::new("server-metrics");
    let key = scratch.file("key");
    let args = [
        "--key",
        &key,
        "--allow-private",
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
        "--metrics",
        "127.0.0.1:0",
    ];
    let mut server = Process::start("server", &args, &[]);
    let url = server.line("metrics on http://").await;
    let (host, _) = url.split_once('/').expect("it has a path");
    let tcp = server.line("listening on ").await;
    let args = ["--allow-private", "--bind", "127.0.0.1", "--tcp", "0", &tcp];
    let client = run("check", &args).await;
    assert_eq!(client.code, 0, "{client:?}");

    let text = get(host, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("application/openmetrics-text"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let completed = text
        .lines()
        .find(|line| line.starts_with("libp2p_autonatv2_requests_completed_total{"));
    let completed = completed.unwrap_or_else(|| panic!("no request is counted: {text}"));
    assert!(completed.contains("response_status=\"OK\""), "{completed}");
    assert!(completed.contains("dial_status=\"OK\""), "{completed}");
    assert!(
        text.contains("libp2p_autonatv2_server_requests_in_flight 0"),
        "{text}"
    );
    assert!(get(host, "/").await.starts_with("HTTP/1.1 404"));
}
