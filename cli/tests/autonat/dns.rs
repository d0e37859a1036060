//! Servers that stand behind a `/dnsaddr`, told by a DNS server on loopback.

use std::{collections::HashMap, net::SocketAddr};

use serde_json::Value;
use tokio::net::UdpSocket;

use crate::{
    command::{check, server},
    process::{Run, Scratch},
};

/// Answers with the texts of each name, until the test ends.
async fn dns(records: HashMap<String, Vec<String>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0")
        .await
        .expect("a port is free");
    let at = socket.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let reply = answer(&buffer[..len], &records);
            let _ = socket.send_to(&reply, from).await;
        }
    });
    at
}

/// RFC 1035, as much of it as a question for texts needs.
fn answer(query: &[u8], records: &HashMap<String, Vec<String>>) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + len]).to_lowercase());
        at += len + 1;
    }
    let question = &query[12..at + 5];
    let texts = records.get(&labels.join("."));
    let rcode = if texts.is_some() { 0x80 } else { 0x83 };
    let texts = texts.map_or(&[][..], Vec::as_slice);
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, rcode, 0, 1, 0, texts.len() as u8, 0, 0, 0, 0]);
    reply.extend(question);
    for text in texts {
        let len = text.len() as u8;
        // The name of the question, TXT, IN, for a minute, and the length twice: of the record and of its one string.
        reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, len + 1, len]);
        reply.extend(text.as_bytes());
    }
    reply
}

async fn checked(records: &[(&str, &[&str])], given: &str) -> Run {
    let records = records.iter().map(|(name, texts)| {
        let texts = texts.iter().map(|text| (*text).to_owned());
        (format!("_dnsaddr.{name}"), texts.collect())
    });
    let dns = dns(records.collect()).await.to_string();
    let local = ["--allow-private", "--bind", "127.0.0.1", "--port", "0"];
    check(&[&local[..], &["--json", "--dns", &dns, given]].concat()).await
}

fn asked(run: &Run) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {run:?}"));
    let servers = json["servers"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut asked: Vec<_> = servers
        .iter()
        .map(|server| (text(&server["address"]), text(&server["state"])))
        .collect();
    asked.sort();
    asked
}

#[tokio::test]
async fn each_address_that_it_lists_is_a_server() {
    let scratch = Scratch::new("dns-list");
    let (_server, tcp, quic) = server(&scratch, &[]).await;
    let (_, peer) = tcp.rsplit_once('/').expect("it names its peer");
    let records = [
        (
            "example.test",
            &[
                "dnsaddr=/dnsaddr/inner.example.test",
                "v=spf1 -all",
                "dnsaddr=nonsense",
                "dnsaddr=/ip4/127.0.0.1/tcp/9/ws",
            ][..],
        ),
        (
            "inner.example.test",
            &[&format!("dnsaddr={tcp}"), &format!("dnsaddr={quic}")],
        ),
    ];
    let mut wanted = vec![
        (tcp.clone(), "serves".to_owned()),
        (quic, "serves".to_owned()),
    ];
    wanted.sort();
    for given in [
        "/dnsaddr/example.test",
        &format!("/dnsaddr/inner.example.test/p2p/{peer}"),
    ] {
        let run = checked(&records, given).await;
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(asked(&run), wanted, "{run:?}");
        assert!(
            run.stderr.contains(&format!("{given} lists {tcp}")),
            "{run:?}"
        );
    }
}

#[tokio::test]
async fn one_that_lists_nothing_or_only_itself_is_no_server() {
    let other = libp2p::PeerId::random();
    let records: [(&str, &[&str]); 3] = [
        ("empty.test", &["something else"]),
        (
            "circle.test",
            &[
                "dnsaddr=/dnsaddr/circle.test",
                "dnsaddr=/dnsaddr/circle.test",
            ],
        ),
        ("one.test", &["dnsaddr=/ip4/127.0.0.1/tcp/9"]),
    ];
    for (given, words) in [
        ("/dnsaddr/empty.test", "lists no address"),
        ("/dnsaddr/circle.test", "lists no address"),
        (
            &format!("/dnsaddr/one.test/p2p/{other}"),
            "lists no address",
        ),
        (
            "/dnsaddr/missing.test",
            "can't look up _dnsaddr.missing.test",
        ),
    ] {
        let run = checked(&records, given).await;
        assert_eq!(run.code, 4, "{given}: {run:?}");
        assert!(run.stdout.contains(words), "{given} says {words}: {run:?}");
    }
}

#[tokio::test]
async fn whoever_owns_the_name_does_not_decide_how_many_are_dialed() {
    let listed: Vec<String> = (0..10)
        .map(|_| {
            format!(
                "dnsaddr=/ip4/127.0.0.1/tcp/9/p2p/{}",
                libp2p::PeerId::random()
            )
        })
        .collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let run = checked(&[("many.test", &listed)], "/dnsaddr/many.test").await;
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(asked(&run).len(), 8, "{run:?}");
}
