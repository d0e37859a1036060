//! This crate's own client and server, with their defaults wherever the case leaves them.

use futures::StreamExt;
use interop_peer::{
    Failure, Options, Role, connect, emit, identify, listen, swarm, tell_connection,
};
use libp2p::{
    Multiaddr, Swarm, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{client, server};
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
    let mut config = client::Config::default();
    if !options.together {
        config = config
            .with_addresses_per_request(1)
            .with_requests_per_minute(12);
    }
    let mut swarm = swarm(|key| Client {
        identify: identify(key),
        autonat: client::Behaviour::new(key.public().to_peer_id(), config),
    })?;
    // Addresses are asked about in the order in which they were heard of.
    if options.together {
        add(&mut swarm, &options.test)?;
        listen(&mut swarm, &options.listen).await?;
    } else {
        listen(&mut swarm, &options.listen).await?;
        add(&mut swarm, &options.test)?;
    }
    connect(&mut swarm, &options.servers)?;
    loop {
        let event = swarm.select_next_some().await;
        tell_connection(&event);
        match event {
            SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::Probed(probed))) => {
                emit(&json!({
                    "event": "result",
                    "request": format!("{:?}", probed.probe),
                    "server": probed.server.to_string(),
                    "addr": probed.address,
                    "outcome": probed.outcome.as_str(),
                    "dial_data": probed.dial_data,
                    "addresses": probed.addresses,
                    "millis": u64::try_from(probed.took.as_millis()).unwrap_or(u64::MAX),
                }));
            }
            SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::VerdictChanged {
                address,
                new,
                ..
            })) => emit(&json!({ "event": "verdict", "addr": address, "verdict": new.as_str() })),
            SwarmEvent::ExternalAddrConfirmed { address } => {
                emit(&json!({ "event": "confirmed", "addr": address }));
            }
            SwarmEvent::ExternalAddrExpired { address } => {
                emit(&json!({ "event": "expired", "addr": address }));
            }
            _ => {}
        }
    }
}

fn add(swarm: &mut Swarm<Client>, addrs: &[Multiaddr]) -> Result<(), Failure> {
    for addr in addrs {
        swarm.behaviour_mut().autonat.add_candidate(addr)?;
    }
    Ok(())
}

async fn server(options: Options) -> Result<(), Failure> {
    let mut config = server::Config::default();
    if let Some(limit) = options.limit {
        config = config.with_max_requests_per_minute(limit);
    }
    if options.refuse {
        config = config.with_dialable([]);
    }
    let mut swarm = swarm(|key| Server {
        identify: identify(key),
        autonat: server::Behaviour::new(config),
    })?;
    listen(&mut swarm, &options.listen).await?;
    loop {
        let event = swarm.select_next_some().await;
        tell_connection(&event);
        match event {
            SwarmEvent::Behaviour(ServerEvent::Autonat(server::Event::Served(served))) => {
                emit(&json!({
                    "event": "served",
                    "client": served.client.to_string(),
                    "asked": served.asked,
                    "asked_in_all": served.asked_in_all,
                    "index": served.tested.as_ref().map(|(index, _)| index),
                    "tested": served.tested.as_ref().map(|(_, addr)| addr),
                    "passed_over": served.passed_over.len(),
                    "data_requested": served.dial_data_requested,
                    "data_received": served.dial_data_received,
                    "dial_back": served.dial_back.map(|outcome| format!("{outcome:?}")),
                    "status": served.status.map(|status| status.to_string()),
                    "dial_status": served.dial_status.map(|status| status.to_string()),
                    "end": format!("{:?}", served.end),
                    "millis": u64::try_from(served.duration.as_millis()).unwrap_or(u64::MAX),
                }));
            }
            SwarmEvent::Behaviour(ServerEvent::Autonat(server::Event::Rejected(rejected))) => {
                emit(&json!({
                    "event": "rejected",
                    "limit": format!("{:?}", rejected.limit),
                    "count": rejected.count,
                }));
            }
            SwarmEvent::Behaviour(ServerEvent::Autonat(server::Event::Misbehaved(it))) => {
                emit(
                    &json!({ "event": "misbehaved", "cause": it.cause.as_str(), "count": it.count }),
                );
            }
            _ => {}
        }
    }
}
