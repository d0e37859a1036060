//! What `autonat check` answers, and how it ends.

use std::net::TcpListener;

use libp2p::PeerId;
use serde_json::Value;

use crate::{
    command::{self, AUTONAT, server, start},
    hosts,
    process::{Run, Scratch, run_unread},
};

const LOCAL: [&str; 5] = ["--allow-private", "--bind", "127.0.0.1", "--port", "0"];

async fn check(more: &[&str]) -> Run {
    command::check(&[&LOCAL, more].concat()).await
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

#[tokio::test]
async fn each_mistake_on_the_command_line_is_explained() {
    let peer = PeerId::random().to_string();
    let server = "/ip4/203.0.113.7/tcp/4001";
    let relayed = format!("/ip4/8.8.8.8/tcp/1/p2p/{peer}/p2p-circuit");
    let at_8 = |rest: &str| format!("/ip4/8.8.8.8/{rest}");
    let mistakes: [(&[&str], &str); 46] = [
        (&[], "<SERVER>..."),
        (&["8.8.8.8:4001"], "Did you mean /ip4/8.8.8.8/tcp/4001"),
        (
            &["[2001:db8::1]:4001"],
            "Did you mean /ip6/2001:db8::1/tcp/4001",
        ),
        (&["8.8.8.8"], "Did you mean /ip4/8.8.8.8/tcp/4001"),
        (
            &["example.org:4001"],
            "Did you mean /dns4/example.org/tcp/4001",
        ),
        (
            &["https://example.org/a"],
            "a URL, not a multiaddr. Did you mean /dns4/example.org/tcp/4001?",
        ),
        (&["ip4/8.8.8.8/tcp/1"], "Did you mean /ip4/8.8.8.8/tcp/1?"),
        (&["nonsense"], "One looks like"),
        (&[&peer], "a peer ID"),
        (&[&format!("/p2p/{peer}")], "a peer ID alone"),
        (&[""], "it is empty"),
        (&["example.org"], "Did you mean /dns4/example.org/tcp/4001"),
        (
            &["example.org/tcp/1"],
            "Did you mean /dns4/example.org/tcp/1?",
        ),
        (&["8.8.8.8/tcp/1"], "Did you mean /ip4/8.8.8.8/tcp/1?"),
        (&["/ip4/8.8.8.8"], "it lacks the port"),
        (
            &[&at_8(&format!("p2p/{peer}"))],
            &at_8(&format!("tcp/4001/p2p/{peer}?")),
        ),
        (
            &[&at_8(&format!("udp/1/p2p/{peer}"))],
            &at_8(&format!("udp/1/quic-v1/p2p/{peer}?")),
        ),
        (
            &["/dns4/example.org/udp/1"],
            "/dns4/example.org/udp/1/quic-v1?",
        ),
        (&["/unix/a"], "neither a TCP nor a QUIC address"),
        (&[&at_8("tcp/99999")], "\"99999\" is not a port"),
        (&[&at_8("tcp")], "/tcp lacks what belongs behind it"),
        (&[&at_8("tcp/1/")], "a slash too many"),
        (&["//ip4/8.8.8.8/tcp/1"], "two slashes"),
        (&[&at_8("tpc/1")], "/tpc is not a part"),
        (&["/ip4/300.1.1.1/tcp/1"], "\"300.1.1.1\" is not an IPv4"),
        (&["/ip6/8.8.8.8/tcp/1"], "\"8.8.8.8\" is not an IPv6"),
        (&[&at_8("tcp/1/p2p/12D3")], "\"12D3\" is not a peer ID"),
        (&["/dns4//tcp/1"], "the name in it is empty"),
        (&[&at_8("udp/1/webrtc-direct")], "WebRTC is not"),
        (&[&at_8("tcp/1/tls/ws")], "secure WebSocket is not"),
        (
            &[
                "/ip4/8.8.8.8/tcp/1",
                "--external",
                &at_8(&format!("tcp/1/p2p/{peer}")),
            ],
            "names a peer",
        ),
        (
            &[
                "--allow-private",
                "/ip4/8.8.8.8/tcp/1",
                "--external",
                &at_8(&format!("tcp/1/p2p/{peer}")),
            ],
            "names a peer",
        ),
        (
            &["--external", "/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1"],
            "--external /ip4/10.0.0.1/tcp/1 is not a public address",
        ),
        (
            &["/ip4/8.8.8.8/udp/1"],
            "Did you mean /ip4/8.8.8.8/udp/1/quic-v1",
        ),
        (&["/ip4/8.8.8.8/udp/1/quic"], "Write /quic-v1"),
        (&["/ip4/8.8.8.8/tcp/1/ws"], "TCP or a QUIC address"),
        (&["/ip4/8.8.8.8/tcp/0"], "port 0"),
        (&["/ip4/0.0.0.0/tcp/1"], "an address to listen on"),
        (&["/dnsaddr/example.org/tcp/1"], "nothing but /p2p/PEER"),
        (
            &["--external", "/dnsaddr/example.org", "/ip4/8.8.8.8/tcp/1"],
            "Give one of them",
        ),
        (&[&relayed], "a relay"),
        (&["/ip4/127.0.0.1/tcp/1"], "add --allow-private"),
        (&[server, "--port", "70000"], "0..=65535"),
        (&[server, "--timeout", "0"], "1..=3600"),
        (&[server, "--bind", "here"], "invalid IP address"),
        (&[server, "--jsn"], "--json"),
    ];
    for (args, words) in mistakes {
        let run = command::check(args).await;
        assert_eq!(run.code, 2, "{args:?}: {run:?}");
        assert!(
            run.stderr.contains(words),
            "{args:?} says {words:?}: {}",
            run.stderr
        );
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[tokio::test]
async fn the_help_documents_every_exit_code() {
    let run = command::check(&["--help"]).await;
    assert_eq!(run.code, 0);
    for code in ["0  ", "1  ", "2  ", "3  ", "4  ", "5  "] {
        assert!(
            run.stdout.contains(&format!("\n  {code}")),
            "{code}: {}",
            run.stdout
        );
    }
}

#[tokio::test]
async fn a_reachable_machine_ends_with_0() {
    let scratch = Scratch::new("check-0");
    let (_server, tcp, quic) = server(&scratch, &[]).await;
    let run = check(&[&tcp, &quic]).await;
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("YES"), "{run:?}");
    assert!(run.stdout.contains("both of its addresses"), "{run:?}");
    assert!(run.stdout.contains("NAT: none"), "{run:?}");
    assert!(
        run.stderr.contains("got through"),
        "tells of its progress: {run:?}"
    );
}

#[tokio::test]
async fn the_json_says_all_that_the_table_says() {
    let scratch = Scratch::new("check-json");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let closed = format!("/ip4/127.0.0.1/tcp/{}", hosts::free_port());
    let run = check(&["--json", "--quiet", "--external", &closed, &tcp]).await;
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");

    let json = json(&run);
    assert_eq!(json["result"], "reachable");
    assert_eq!(json["exit_code"], 0);
    assert_eq!(json["summary"], "public");
    assert_eq!(json["timed_out"], false);
    assert_eq!(json["nat"]["present"], false);
    assert_eq!(json["nat"]["mapping"], "unknown");
    assert_eq!(json["servers"][0]["address"], tcp);
    assert_eq!(json["servers"][0]["state"], "serves");
    let addresses = json["addresses"].as_array().expect("a list");
    assert_eq!(
        addresses.len(),
        3,
        "TCP, QUIC, and the one that was named: {json}"
    );
    for address in addresses {
        let is_closed = address["address"] == closed;
        let verdict = if is_closed {
            "unreachable"
        } else {
            "reachable"
        };
        assert_eq!(address["verdict"], verdict, "{json}");
        assert!(
            address["confidence"]
                .as_f64()
                .is_some_and(|sure| sure > 0.5),
            "{json}"
        );
        // The server was contacted over TCP: what comes over UDP comes from a stranger.
        let is_quic = address["address"].to_string().contains("/quic-v1");
        let vantage = match (is_closed, is_quic) {
            (true, _) => Value::Null,
            (false, true) => "independent".into(),
            (false, false) => "contacted".into(),
        };
        assert_eq!(address["vantage"], vantage, "{json}");
    }
    let advice = json["advice"].to_string();
    assert!(
        advice.contains(&closed),
        "says what to do about the closed one: {advice}"
    );
}

#[tokio::test]
async fn it_does_not_wait_for_ports_that_are_never_tested() {
    let scratch = Scratch::new("check-passing");
    let (_server, tcp, quic) = server(&scratch, &[]).await;
    for (port, addr) in [("--quic", &tcp), ("--tcp", &quic)] {
        let args = ["--allow-private", "--bind", "127.0.0.1", port, "0", addr];
        let run = command::check(&[&args[..], &["--json"]].concat()).await;
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(json(&run)["timed_out"], false, "{run:?}");
        assert!(!run.stderr.contains("waiting"), "{run:?}");
        let addresses = json(&run)["addresses"].as_array().map(Vec::len);
        assert_eq!(addresses, Some(1), "{run:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_named_twice_counts_once() {
    let scratch = Scratch::new("check-twice");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let (nameless, _) = tcp.split_once("/p2p/").expect("it names its peer");
    let named = nameless.replace("/ip4/127.0.0.1", "/dns4/localhost");
    let run = check(&["--json", nameless, &tcp, &named]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let json = json(&run);
    let servers = json["servers"].as_array().expect("a list");
    let in_state = |state| {
        servers
            .iter()
            .filter(move |server| server["state"] == state)
    };
    assert_eq!(in_state("serves").count(), 1, "{json}");
    assert_eq!(in_state("useless").count(), 2, "{json}");
    for server in in_state("useless") {
        let why = server["error"].to_string();
        assert!(why.contains("as server"), "says which one it is: {json}");
    }
    assert!(
        !json["advice"].to_string().contains("open or forward"),
        "{json}"
    );
}

/// Only there all of 127.0.0.0/8 is this machine's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_ip_of_this_machine_that_is_not_listened_on_is_no_nat() {
    let scratch = Scratch::new("check-bind");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let args = ["--allow-private", "--bind", "127.0.0.5", "--tcp", "0", &tcp];
    let run = command::check(&[&args[..], &["--json"]].concat()).await;
    let json = json(&run);
    assert_eq!(json["nat"]["present"], false, "{run:?}");
    let advice = json["advice"].to_string();
    assert!(
        !advice.contains("forward"),
        "nothing is in the way: {run:?}"
    );
}

#[tokio::test]
async fn addresses_that_no_server_can_dial_are_passed_over_or_told_in_one_item() {
    let scratch = Scratch::new("check-all");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let run = command::check(&["--allow-private", "--port", "0", "--json", &tcp]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let json = json(&run);
    for address in json["addresses"].as_array().expect("a list") {
        let address = address["address"].as_str().expect("text");
        let is_local = address.starts_with("/ip6/::1/") || address.starts_with("/ip6/fe80:");
        assert!(!is_local, "the server is on IPv4: {json}");
    }
    let advice = json["advice"].as_array().expect("a list").iter();
    let undialed = advice.filter(|item| item.to_string().contains("no server dials"));
    assert!(undialed.count() <= 1, "{json}");
}

#[tokio::test]
async fn one_refusal_does_not_speak_for_all_servers() {
    let refuses = Scratch::new("check-refuses");
    let (_one, one, _) = server(&refuses, &["--refuse-network", "127.0.0.0/8"]).await;
    let is_busy = Scratch::new("check-busy");
    let (_other, other, _) = server(&is_busy, &["--requests", "0"]).await;
    let alone = check(&[&one]).await;
    let advice = "Servers turned private addresses down";
    assert!(alone.stdout.contains(advice), "{alone:?}");

    let both = check(&["--timeout", "4", &one, &other]).await;
    assert_eq!(both.code, 3, "{both:?}");
    assert!(both.stderr.contains("can't or won't dial"), "{both:?}");
    assert!(!both.stdout.contains(advice), "{both:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interruption_is_told_from_the_end_of_the_time() {
    let scratch = Scratch::new("check-interrupted");
    let (_server, tcp, _) = server(&scratch, &["--requests", "0"]).await;
    for (more, words) in [
        ("--bind=127.0.0.1", "UNDECIDED. It was interrupted"),
        ("--json", "\"interrupted\":true"),
    ] {
        let mut check = start("check", &[&LOCAL, &[more, &tcp][..]].concat());
        check.line("is busy and turned the request down").await;
        check.signal("INT").await;
        let rest = check.line(words).await;
        assert!(!rest.contains("\"timed_out\":true"), "{rest}");
        assert_eq!(check.ended().await.code(), Some(3));
    }
}

#[tokio::test]
async fn nobody_has_to_read_what_it_says() {
    let scratch = Scratch::new("check-unread");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let code = run_unread(AUTONAT, &[&["check"], &LOCAL[..], &[&tcp]].concat()).await;
    assert_eq!(code, Some(0), "the exit code says it, too");
}

#[tokio::test]
async fn an_unreachable_machine_ends_with_1() {
    let (one, other) = (hosts::walled_off().await, hosts::walled_off().await);
    let args = ["--allow-private", "--bind", "127.0.0.1", "--tcp", "0"];
    let run = command::check(&[&args[..], &[&one.to_string(), &other.to_string()]].concat()).await;
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.stdout
            .contains("NO. Strangers cannot reach this machine on its one address"),
        "{run:?}"
    );
    assert!(
        run.stdout.contains("firewall"),
        "there is no NAT to forward a port on: {run:?}"
    );
    assert!(run.stdout.contains("relay"), "{run:?}");
}

#[tokio::test]
async fn too_little_time_ends_with_3() {
    let scratch = Scratch::new("check-3");
    let (_server, tcp, _) = server(&scratch, &["--requests", "0"]).await;
    let run = check(&["--timeout", "3", &tcp]).await;
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.stdout.contains("UNDECIDED. The time was over"),
        "{run:?}"
    );
    assert!(
        run.stdout.contains("busy and turned requests down"),
        "{run:?}"
    );
}

#[tokio::test]
async fn nothing_to_test_ends_with_3_and_says_what_to_add() {
    // The name hides from the command line that the server is private; what it sees is, too.
    let scratch = Scratch::new("check-nothing");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let named = tcp.replace("/ip4/127.0.0.1", "/dns4/localhost");
    let run = command::check(&["--bind", "127.0.0.1", "--port", "0", &named]).await;
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.stdout.contains("--allow-private"), "{run:?}");
    assert!(run.stdout.contains("--external"), "{run:?}");
}

#[tokio::test]
async fn no_server_ends_with_4_and_says_why() {
    let dead = format!("/ip4/127.0.0.1/tcp/{}", hosts::free_port());
    let run = check(&[&dead, "/dns4/no-such-name.invalid/tcp/1"]).await;
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stdout.contains("nobody listens there"), "{run:?}");
    assert!(
        run.stdout.contains("can't look up no-such-name.invalid"),
        "{run:?}"
    );
}

#[tokio::test]
async fn another_peer_than_the_named_one_is_no_server() {
    let scratch = Scratch::new("check-peer");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let (addr, real) = tcp.split_once("/p2p/").expect("it names its peer");
    let run = check(&[&format!("{addr}/p2p/{}", PeerId::random()), "--json"]).await;
    assert_eq!(run.code, 4, "{run:?}");
    let error = json(&run)["servers"][0]["error"].to_string();
    assert!(error.contains(real), "names who is there: {run:?}");
}

#[tokio::test]
async fn a_peer_that_does_not_serve_is_no_server() {
    let addr = hosts::deaf().await;
    let run = check(&[&addr.to_string()]).await;
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stdout.contains("does not speak AutoNAT v2"), "{run:?}");
}

#[tokio::test]
async fn a_port_in_use_ends_with_5() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let args = [
        "--allow-private",
        "--bind",
        "127.0.0.1",
        "--tcp",
        &port,
        "/ip4/127.0.0.1/tcp/1",
    ];
    let plain = command::check(&args).await;
    assert_eq!(plain.code, 5, "{plain:?}");
    assert!(plain.stderr.contains("another program"), "{plain:?}");
    assert!(plain.stderr.contains("--port"), "{plain:?}");

    let run = command::check(&[&args[..], &["--json"]].concat()).await;
    assert_eq!(json(&run)["result"], "error", "{run:?}");
    assert_eq!(json(&run)["exit_code"], 5, "{run:?}");
}

#[tokio::test]
async fn an_ip_of_another_machine_ends_with_5() {
    let args = [
        "--allow-private",
        "--bind",
        "192.0.2.200",
        "--port",
        "0",
        "/ip4/127.0.0.1/tcp/1",
    ];
    let run = command::check(&args).await;
    assert_eq!(run.code, 5, "{run:?}");
    assert!(run.stderr.contains("does not have that IP"), "{run:?}");
}

#[tokio::test]
async fn a_server_that_could_not_be_asked_is_told_beside_those_that_were() {
    let scratch = Scratch::new("check-one-dead");
    let (_server, tcp, _) = server(&scratch, &[]).await;
    let dead = format!("/ip4/127.0.0.1/tcp/{}", hosts::free_port());
    let run = check(&[&dead, &tcp]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let (_, unasked) = run
        .stdout
        .split_once("Not asked:")
        .expect("it has that part");
    let told = format!("Server 1 ({dead}): nobody listens there");
    assert!(
        unasked
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(&told),
        "{run:?}"
    );
    assert!(!unasked.contains("Server 2"), "{run:?}");
}

#[cfg(unix)]
#[tokio::test]
async fn an_interruption_before_any_answer_ends_with_3() {
    // It takes connections and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = mute.local_addr().expect("it is bound").port();
    let server = format!("/ip4/127.0.0.1/tcp/{port}");
    for (signal, more, words) in [
        (
            "INT",
            "--bind=127.0.0.1",
            "UNDECIDED. It was interrupted before a server could be asked",
        ),
        ("TERM", "--json", "\"result\":\"undecided\""),
    ] {
        let mut check = start("check", &[&LOCAL, &[more, &server][..]].concat());
        check.line("server 1: asking").await;
        check.signal(signal).await;
        check.line(words).await;
        assert_eq!(check.ended().await.code(), Some(3));
    }
}

#[tokio::test]
async fn servers_with_keys_of_every_kind_are_asked() {
    for key in hosts::keys() {
        let kind = key.key_type();
        for addr in hosts::with_key(key).await {
            let run = check(&["--json", &addr.to_string()]).await;
            assert_eq!(run.code, 0, "{kind:?} at {addr}: {run:?}");
        }
    }
}

#[tokio::test]
async fn what_a_server_sends_does_not_reach_the_terminal_raw() {
    let addr = hosts::that_sees_everyone_at(hosts::NASTY).await.to_string();
    let is_plain = |c: char| matches!(c, ' '..='~' | '\n');
    for more in [&["--timeout", "5"][..], &["--timeout", "5", "--json"]] {
        let run = check(&[more, &[&addr]].concat()).await;
        assert!(
            run.stderr.contains("sees this machine as /dns4/\\u{1b}"),
            "{run:?}"
        );
        for text in [&run.stdout, &run.stderr] {
            assert!(text.chars().all(is_plain), "{run:?}");
        }
        if more.contains(&"--json") {
            assert_eq!(
                json(&run)["servers"][0]["observed"],
                hosts::NASTY,
                "it is exact: {run:?}"
            );
        }
    }
}
