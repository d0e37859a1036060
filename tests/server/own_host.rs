//! Strangers ask for addresses of the server's host and of its LAN that it does not listen on. In a network namespace of its
//! own, where the host can have whatever addresses it likes; skipped, with a word, where the system gives none.

use std::process::Command;

use super::*;

/// Set in the process that runs in the namespace.
const INSIDE: &str = "AUTONAT_TEST_NETWORK_NAMESPACE";

/// Runs this test again in a network namespace of its own with these addresses. Whether this is the process in it.
fn inside(test: &str, setup: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let test = format!("{}::{test}", module_path!().trim_start_matches("server::"));
    let me = std::env::current_exe().expect("known");
    let script = format!(
        "set -e; {}; exec \"$0\" --exact {test} --nocapture",
        setup.join("; ")
    );
    let run = |script: &str| {
        Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .arg(&me)
            .env(INSIDE, "1")
            .output()
    };
    match run("ip link set lo up") {
        Ok(output) if output.status.success() => {}
        other => {
            println!("SKIPPED {test}: no network namespace to be had: {other:?}");
            return false;
        }
    }
    let output = run(&script).expect("it ran before");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    assert!(text.contains("1 passed"), "the test was not run: {text}");
    false
}

#[tokio::test]
async fn neither_this_host_nor_its_lan_is_dialed_where_the_server_does_not_listen() {
    let addresses = [
        "ip link set lo up",
        "ip link add server type veth peer name lan",
        "ip addr add 20.1.0.5/16 dev server",
        // A second one in the same subnet: packets to it leave with the first one.
        "ip addr add 20.1.7.6/16 dev server",
        "ip addr add 2a00:1::5/64 dev server nodad",
        "ip link set server up",
        "ip link set lan up",
        "ip route add default via 20.1.0.1",
        "ip -6 route add default via 2a00:1::1",
    ];
    if !inside(
        "neither_this_host_nor_its_lan_is_dialed_where_the_server_does_not_listen",
        &addresses,
    ) {
        return;
    }
    let everything = [IpFamily::V4, IpFamily::V6].map(|family| (family, Transport::Tcp));
    let config = Config::default().with_dialable(everything);
    let behaviour = server::Behaviour::new(config);
    let mut server = Server::with_behaviour(behaviour, Scope::Loopback);
    let at = server.listen(TCP).await;
    let mut client = RawPeer::new(&[]);
    let connection = client.connect(at).await;
    for (addr, reason) in [
        ("/ip4/20.1.0.5/tcp/4001", Some(PassedOver::OwnIp)),
        ("/ip4/20.1.7.6/tcp/4001", Some(PassedOver::OwnIp)),
        ("/ip6/2a00:1::5/tcp/4001", Some(PassedOver::OwnIp)),
        ("/ip6/64:ff9b::1401:706/tcp/4001", Some(PassedOver::OwnIp)),
        ("/ip4/20.1.0.9/tcp/4001", Some(PassedOver::OwnNetwork)),
        ("/ip6/2a00:1::99/tcp/4001", Some(PassedOver::OwnNetwork)),
        ("/ip4/20.77.0.1/tcp/4001", None),
        ("/ip6/2a00:77::1/tcp/4001", None),
    ] {
        let asked = addr.parse().expect("valid");
        let mut request = ask(&mut client, connection, &[asked], 1).await;
        let Some(reason) = reason else {
            // It is to be paid for, so it would be dialed.
            dial_data_request(&mut request).await;
            drop(request);
            server.served().await;
            continue;
        };
        let refused = not_dialed(ResponseStatus::DialRefused);
        assert_eq!(answer(&mut request).await, refused, "{addr}");
        assert_eq!(server.served().await.passed_over, [(0, reason)], "{addr}");
    }
    assert_eq!(server.dials.all(), []);
}
