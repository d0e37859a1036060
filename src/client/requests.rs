//! How the nonce of a request is written, and the one retry with the other spelling: what is remembered of each request for that
//! until it is over.
//!
//! The core's probe is one question. A server that can't read it ends the stream without a word, and is asked once more with
//! the nonce written the other way, within the same probe: nim-libp2p had a varint where the specification has fixed64, until
//! its 2.0.0. A request never has both, which js-libp2p would misread. What a server was seen to read is remembered.
//!
//! This file has no I/O and no clock. It must never ask a third time, nor a server that has read the request, and what it
//! remembers is bounded.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    protocol::{DialResponse, DialStatus, NonceEncoding, ResponseStatus},
    reachability::{ProbeEnd, ProbeId, ProbeRequest},
};

/// A server that can't read a request ends the stream as soon as it has it. `libp2p-autonat` 0.16 ends it too, having read it,
/// when a TCP dial got no answer in 10 s. Chosen; insensitive between 1 s, for slow links, and 9 s.
const UNREAD_WITHIN: Duration = Duration::from_secs(5);

/// How long the second request may take. nim-libp2p's server gives a dial 15 s.
const SECOND_TIMEOUT: Duration = Duration::from_secs(20);

/// Of how many servers it is remembered what they read, those heard of last. 88 bytes each. Chosen: a server that was
/// forgotten costs one more stream.
const MAX_SERVERS: usize = 128;

/// A request to write.
#[derive(Debug)]
pub(super) struct OutgoingRequest {
    pub(super) probe: ProbeId,
    pub(super) addrs: Vec<Multiaddr>,
    pub(super) nonce: u64,
    pub(super) encoding: NonceEncoding,
    pub(super) timeout: Duration,
}

/// What follows when a server has ended the stream without a word.
#[derive(Debug)]
pub(super) enum Next {
    /// It is asked once more, on this connection.
    AskAgain(PeerId, ConnectionId, OutgoingRequest),
    Over(ProbeEnd),
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Bounded by [`Config::with_max_in_flight`](super::Config::with_max_in_flight).
    under_way: HashMap<ProbeId, UnderWay>,
    reads: Reads,
}

#[derive(Debug)]
struct UnderWay {
    request: ProbeRequest,
    since: Instant,
    encoding: NonceEncoding,
    is_second: bool,
    /// How the nonce was written that came in for it, if one did.
    brought: Option<NonceEncoding>,
}

impl UnderWay {
    fn order(&self, timeout: Duration) -> OutgoingRequest {
        OutgoingRequest {
            probe: self.request.id,
            addrs: self.request.addrs.clone(),
            nonce: self.request.nonce,
            encoding: self.encoding,
            timeout,
        }
    }
}

impl Requests {
    pub(super) fn start(&mut self, now: Instant, request: ProbeRequest) -> OutgoingRequest {
        let timeout = request.timeout;
        let under_way = UnderWay {
            encoding: self.reads.known(request.server).unwrap_or_default(),
            request,
            since: now,
            is_second: false,
            brought: None,
        };
        let order = under_way.order(timeout);
        self.under_way.insert(order.probe, under_way);
        order
    }

    /// A nonce came in. Whoever brings it has it from the server, or is the server: it has read the request.
    pub(super) fn on_nonce(&mut self, nonce: u64, encoding: NonceEncoding) {
        let mut under_way = self.under_way.values_mut();
        if let Some(asked) = under_way.find(|asked| asked.request.nonce == nonce) {
            asked.brought = Some(encoding);
        }
    }

    /// The server answered.
    pub(super) fn on_response(&mut self, probe: ProbeId, response: DialResponse) {
        let Some(asked) = self.under_way.get(&probe) else {
            return;
        };
        let server = asked.request.server;
        // Others find no nonce in a varint, and dial back all the same.
        let claims_delivery = response.status == ResponseStatus::Ok
            && matches!(
                response.dial_status,
                DialStatus::Ok | DialStatus::DialBackError
            );
        let misread = asked.encoding != NonceEncoding::default()
            && claims_delivery
            && asked.brought != Some(asked.encoding);
        if misread {
            self.reads.forget(server);
        } else {
            self.reads.remember(server, asked.encoding);
        }
    }

    /// The server ended the stream without a word. `None`: the request is over already.
    pub(super) fn on_unread(&mut self, now: Instant, probe: ProbeId) -> Option<Next> {
        let asked = self.under_way.get_mut(&probe)?;
        let took = now.saturating_duration_since(asked.since);
        let left = asked.request.timeout.saturating_sub(took);
        let reads_it = self.reads.known(asked.request.server) == Some(NonceEncoding::default())
            || asked.brought.is_some();
        if asked.is_second || reads_it || took > UNREAD_WITHIN || left.is_zero() {
            return self.on_end(probe, ProbeEnd::Reset).map(Next::Over);
        }
        asked.is_second = true;
        asked.encoding = other(asked.encoding);
        tracing::debug!(
            server = %asked.request.server,
            encoding = ?asked.encoding,
            "the request was not read: asking again with the nonce written the other way"
        );
        let order = asked.order(left.min(SECOND_TIMEOUT));
        let ProbeRequest {
            server, connection, ..
        } = asked.request;
        Some(Next::AskAgain(server, connection, order))
    }

    /// The request is over. The end to tell of: where the second request fails too, it is that of the first. `None` if it was
    /// over already.
    pub(super) fn on_end(&mut self, probe: ProbeId, end: ProbeEnd) -> Option<ProbeEnd> {
        let asked = self.under_way.remove(&probe)?;
        let failed = matches!(end, ProbeEnd::Timeout | ProbeEnd::Unsupported);
        Some(if asked.is_second && failed {
            ProbeEnd::Reset
        } else {
            end
        })
    }

    /// The requests on this connection, in the order in which they were sent.
    pub(super) fn on(&self, connection: ConnectionId) -> Vec<ProbeId> {
        let mut probes: Vec<ProbeId> = self
            .under_way
            .iter()
            .filter(|(_, asked)| asked.request.connection == connection)
            .map(|(probe, _)| *probe)
            .collect();
        probes.sort_unstable();
        probes
    }
}

const fn other(encoding: NonceEncoding) -> NonceEncoding {
    match encoding {
        NonceEncoding::Fixed64 => NonceEncoding::Varint,
        NonceEncoding::Varint => NonceEncoding::Fixed64,
    }
}

/// Which nonces servers were seen to read, those heard of last at the end.
#[derive(Debug, Default)]
struct Reads(VecDeque<(PeerId, NonceEncoding)>);

impl Reads {
    fn known(&self, server: PeerId) -> Option<NonceEncoding> {
        let known = self.0.iter().find(|(of, _)| *of == server);
        known.map(|(_, encoding)| *encoding)
    }

    fn remember(&mut self, server: PeerId, encoding: NonceEncoding) {
        self.forget(server);
        if self.0.len() >= MAX_SERVERS {
            self.0.pop_front();
        }
        self.0.push_back((server, encoding));
    }

    fn forget(&mut self, server: PeerId) {
        self.0.retain(|(of, _)| *of != server);
    }
}

#[cfg(test)]
mod tests;
