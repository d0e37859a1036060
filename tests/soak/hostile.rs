//! Clients that attack a server, each in its own way and under a new name every few seconds, and servers that lie.

use std::time::Duration;

use libp2p::Multiaddr;
use libp2p_autonat_v2::protocol::{
    DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialDataRequest, DialResponse, DialStatus,
    MAX_DIAL_DATA, Message, ResponseStatus, write_dial_data,
};
use tokio::{net::TcpListener, time::timeout};

use crate::support::{
    RawPeer,
    autonat::{ask_on, dialed},
    from_new_port, send,
    serving::{RawServer, TCP},
};

/// Between two attacks of one attacker.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Attack {
    /// Bytes that are no message.
    Garbage,
    /// More streams than a connection may have.
    ManyStreams,
    /// A request that never ends.
    SlowRequest,
    /// Names another IP, and pays a tenth of the dial data.
    HardlyPays,
    /// Takes the nonce and never says so.
    MuteTarget,
    /// A listener that takes connections and says nothing.
    SilentTarget,
    /// Leaves when it has asked.
    Leaves,
    /// As many requests as it can.
    Floods,
}

impl Attack {
    pub(crate) const ALL: [Self; 8] = [
        Self::Garbage,
        Self::ManyStreams,
        Self::SlowRequest,
        Self::HardlyPays,
        Self::MuteTarget,
        Self::SilentTarget,
        Self::Leaves,
        Self::Floods,
    ];
}

/// Attacks for ever.
pub(crate) async fn attacks(attack: Attack, server: Multiaddr) {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent_port = silent.local_addr().expect("bound").port();
    let silent_addr: Multiaddr = format!("/ip4/127.0.0.1/tcp/{silent_port}")
        .parse()
        .expect("valid");
    loop {
        let mut peer = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        let own = peer.listen(TCP).await;
        let connection = peer.connect(from_new_port(server.clone())).await;
        let times = if matches!(attack, Attack::Leaves) {
            1
        } else {
            5
        };
        for _ in 0..times {
            let streams = match attack {
                Attack::ManyStreams => 40,
                Attack::Floods => 10,
                _ => 1,
            };
            let mut kept = Vec::new();
            for _ in 0..streams {
                let Ok(mut stream) = peer.open(connection, DIAL_REQUEST_PROTOCOL).await else {
                    break;
                };
                match attack {
                    Attack::Garbage => _ = send(&mut stream, &[0xff; 64]).await,
                    Attack::ManyStreams => {}
                    Attack::SlowRequest => _ = send(&mut stream, &[0x40]).await,
                    Attack::HardlyPays => {
                        let elsewhere = "/ip4/127.66.0.1/tcp/9".parse().expect("valid");
                        let mut request = ask_on(stream, &[elsewhere], 1).await;
                        let _ = write_dial_data(&mut *request, MAX_DIAL_DATA / 10).await;
                        kept.push(request);
                        continue;
                    }
                    Attack::SilentTarget => {
                        let target = std::slice::from_ref(&silent_addr);
                        kept.push(ask_on(stream, target, 1).await);
                        // The dial ends after six seconds, and the socket with this.
                        let accepted = timeout(Duration::from_secs(2), silent.accept()).await;
                        tokio::time::sleep(Duration::from_secs(7)).await;
                        drop(accepted);
                        continue;
                    }
                    Attack::MuteTarget | Attack::Leaves | Attack::Floods => {
                        kept.push(ask_on(stream, std::slice::from_ref(&own), 1).await);
                        continue;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
            drop(kept);
            peer.drain();
        }
    }
}

/// Serves for ever, and does something wrong each time.
pub(crate) async fn lies(mut server: RawServer) {
    for turn in 0_usize.. {
        // Else what nobody takes piles up.
        server.node.drain();
        let Ok(mut asked) = timeout(Duration::from_secs(10), server.asked()).await else {
            continue;
        };
        match turn % 5 {
            // Claims a dial-back that never was.
            0 => asked.respond(dialed(0, DialStatus::Ok)).await,
            1 => {
                asked
                    .respond(DialResponse {
                        status: ResponseStatus::Ok,
                        addr_idx: u32::MAX,
                        dial_status: DialStatus::DialError,
                    })
                    .await;
            }
            2 => {
                let much = DialDataRequest {
                    addr_idx: 0,
                    num_bytes: MAX_DIAL_DATA,
                };
                asked.send(Message::DialDataRequest(much)).await;
            }
            3 => asked.respond(dialed(0, DialStatus::DialError)).await,
            // Says nothing.
            _ => {}
        }
    }
}
