//! The client and the server of `libp2p-autonat`.

use std::collections::VecDeque;

use futures::StreamExt;
use interop_peer::{
    Failure, Options, Role, connect, emit, identify, listen, swarm, tell_connection,
};
use libp2p::{
    Multiaddr, Swarm, identify,
    swarm::{
        NetworkBehaviour, SwarmEvent, behaviour::NewExternalAddrCandidate,
        derive_prelude::FromSwarm,
    },
};
use libp2p_autonat::v2::{client, server};
use serde_json::json;

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

fn main() {
    interop_peer::main(async |options: Options| match options.role {
        Role::Client => client(options).await,
        Role::Server => server(options).await,
    });
}

async fn client(options: Options) -> Result<(), Failure> {
    let mut swarm = swarm(|key| Client {
        identify: identify(key),
        autonat: client::Behaviour::default(),
    })?;
    listen(&mut swarm, &options.listen).await?;
    connect(&mut swarm, &options.servers)?;
    // It asks about all of its candidates at once. Beyond two at once, servers reject.
    let mut waiting: VecDeque<Multiaddr> = options.test.into();
    let mut current = waiting.pop_front();
    if let Some(addr) = &current {
        add(&mut swarm, addr);
    }
    loop {
        let event = swarm.select_next_some().await;
        tell_connection(&event);
        if let SwarmEvent::Behaviour(ClientEvent::Autonat(tested)) = event {
            let (outcome, detail) = match &tested.result {
                Ok(()) => ("reachable", String::new()),
                Err(error) => ("unreachable", format!("{error:?}")),
            };
            emit(&json!({
                "event": "result",
                "server": tested.server.to_string(),
                "addr": tested.tested_addr,
                "outcome": outcome,
                "detail": detail,
                "dial_data": tested.bytes_sent,
                "addresses": 1,
            }));
            if current.as_ref() == Some(&tested.tested_addr) {
                current = waiting.pop_front();
                if let Some(addr) = &current {
                    add(&mut swarm, addr);
                }
            }
        }
    }
}

fn add(swarm: &mut Swarm<Client>, addr: &Multiaddr) {
    let candidate = NewExternalAddrCandidate { addr };
    swarm
        .behaviour_mut()
        .autonat
        .on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
}

async fn server(options: Options) -> Result<(), Failure> {
    let mut swarm = swarm(|key| Server {
        identify: identify(key),
        autonat: server::Behaviour::default(),
    })?;
    listen(&mut swarm, &options.listen).await?;
    loop {
        let event = swarm.select_next_some().await;
        tell_connection(&event);
        if let SwarmEvent::Behaviour(ServerEvent::Autonat(served)) = event {
            emit(&json!({
                "event": "served",
                "client": served.client.to_string(),
                "asked": served.all_addrs,
                "tested": served.tested_addr,
                "data_requested": served.data_amount,
                "result": format!("{:?}", served.result),
            }));
        }
    }
}
