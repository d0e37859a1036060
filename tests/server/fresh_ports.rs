//! Dial-backs over QUIC that share sockets come from ports that their targets have not answered.

use std::collections::BTreeSet;

use super::*;
use support::{address_of, fresh_ports_swarm};

const CLIENTS: [&str; 2] = ["127.66.0.1", "127.67.0.1"];
const ROUNDS: u64 = 6;

/// Clients on different IPs have addresses of theirs tested by turns.
async fn sockets_are_shared_and_none_is_known_to_its_target(mut server: Server) {
    server.listen(TCP).await;
    let listens_at = address_of(&server.listen(QUIC).await).port();
    let mut clients = Vec::new();
    for ip in CLIENTS {
        let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        let connection = server.connects_to(&mut client, ip).await;
        let addr = client.listen(&format!("/ip4/{ip}/udp/0/quic-v1")).await;
        let seen = BTreeSet::from([listens_at]);
        clients.push((client, connection, public(&addr), seen));
    }
    for nonce in 1..=ROUNDS {
        let mut ports = BTreeSet::new();
        for (client, connection, addr, seen) in &mut clients {
            let mut request = ask(client, *connection, std::slice::from_ref(addr), nonce).await;
            let (_, dial_back, _) = acknowledge(client).await;
            assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
            let port = address_of(&client.remote_address(dial_back).await).port();
            assert!(seen.insert(port), "{port} again");
            ports.insert(port);
            client.closed_promptly(dial_back).await;
        }
        assert_eq!(ports.len(), 1, "one socket dials all of them");
    }
}

#[tokio::test]
async fn a_node_that_shares_sockets_dials_nobody_from_a_port_that_it_knows() {
    let server = Server::with_fresh_ports(Config::default(), Scope::Public);
    sockets_are_shared_and_none_is_known_to_its_target(server).await;
}

#[tokio::test]
async fn a_dialer_of_its_own_that_shares_sockets_dials_nobody_from_a_port_that_it_knows() {
    let keypair = Keypair::generate_ed25519();
    let (dialer, _) = fresh_ports_swarm(keypair, server::DialBack::default(), Scope::Public);
    let behaviour = server::Behaviour::with_dialer(Config::default(), dialer);
    let server = Server::with_behaviour(behaviour, Scope::Public);
    sockets_are_shared_and_none_is_known_to_its_target(server).await;
}
