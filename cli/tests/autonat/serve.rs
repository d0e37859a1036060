//! The server's key, its end, its limits, how it dials, and its metrics.

use std::{path::Path, time::Duration};

use crate::{
    command::{check, serve, server, start},
    hosts,
    process::Scratch,
};

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
    let open = serve(&["--key", &key, "--listen", "/ip4/127.0.0.1/tcp/0"]).await;
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
    let run = serve(&["--key", &key, "--listen", "/ip4/127.0.0.1/tcp/0"]).await;
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
        &[&here[..], &["--metrics", "203.0.113.1:0"]].concat(),
    ] {
        let run = serve(&[&["--key", &key], args].concat()).await;
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
        let client = check(&args).await;
        assert_eq!(client.code, 0, "{client:?}");
    }
    server.signal("TERM").await;
    assert!(server.ended().await.success());
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
        let run = serve(&[&["--key", &key][..], &args].concat()).await;
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
    let _client = start("check", &args);
    server.line("rejected, over the limit").await;
}

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
    let mut server = start("serve", &args);
    let url = server.line("metrics on http://").await;
    let (host, _) = url.split_once('/').expect("it has a path");
    let tcp = server.line("listening on ").await;
    let args = ["--allow-private", "--bind", "127.0.0.1", "--tcp", "0", &tcp];
    let client = check(&args).await;
    assert_eq!(client.code, 0, "{client:?}");

    let text = get(host, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("application/openmetrics-text"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let counted = text.lines().filter(|line| {
        line.starts_with("libp2p_autonatv2_requests_completed_total{") && !line.ends_with(" 0")
    });
    let counted: Vec<&str> = counted.collect();
    let [completed] = counted.as_slice() else {
        panic!("one kind of request is counted: {counted:?}");
    };
    assert!(completed.contains("response_status=\"OK\""), "{completed}");
    assert!(completed.contains("dial_status=\"OK\""), "{completed}");
    assert!(
        text.contains("libp2p_autonatv2_server_requests_in_flight 0"),
        "{text}"
    );
    assert!(get(host, "/").await.starts_with("HTTP/1.1 404"));
}

/// Only there all of 127.0.0.0/8 is this machine's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_dials_from_the_ip_that_was_given() {
    let scratch = Scratch::new("serve-dial-from");
    let (_server, _, quic) = server(&scratch, &["--dial-from", "127.0.0.9"]).await;
    let dialers = hosts::dialers_of_a_client_of(&quic.parse().expect("an address")).await;
    assert_eq!(
        dialers,
        ["127.0.0.9".parse::<std::net::IpAddr>().expect("an IP")]
    );
}

#[tokio::test]
async fn clients_with_keys_of_every_kind_are_served() {
    let scratch = Scratch::new("serve-keys");
    let (_server, tcp, quic) = server(&scratch, &[]).await;
    for key in hosts::keys() {
        for addr in [&tcp, &quic] {
            hosts::is_served(key.clone(), &addr.parse().expect("an address")).await;
        }
    }
}

#[tokio::test]
async fn each_line_has_its_time() {
    let scratch = Scratch::new("serve-time");
    let (mut server, _, _) = server(&scratch, &[]).await;
    server.signal("TERM").await;
    assert!(server.ended().await.success());
    let log = server.log();
    for line in log.lines() {
        let (time, _) = line.split_once(' ').expect("something follows");
        let digits = time.replace(|c: char| c.is_ascii_digit(), "0");
        assert_eq!(digits, "0000-00-00T00:00:00Z", "{log}");
    }
}
