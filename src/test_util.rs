//! Events and reports for the tests of applications, which can't build them otherwise: they may get more fields.
//!
//! With the feature `test-util`, to be enabled under `[dev-dependencies]`. What a constructor does not ask for is empty or zero,
//! and can be set afterwards.
//!
//! ```
//! use libp2p_autonat_v2::client::{AddressReport, Event, Summary, Verdict};
//!
//! /// What an application does with events.
//! #[derive(Default)]
//! struct Status {
//!     is_public: bool,
//! }
//!
//! impl Status {
//!     fn on_event(&mut self, event: &Event) {
//!         if let Event::SummaryChanged { new, .. } = event {
//!             self.is_public = *new == Summary::Public;
//!         }
//!     }
//! }
//!
//! let mut status = Status::default();
//! status.on_event(&Event::summary_changed(Summary::Unknown, Summary::Public));
//! assert!(status.is_public);
//!
//! let address = "/ip4/198.51.100.7/tcp/4001".parse().unwrap();
//! let mut report = AddressReport::new(address, Verdict::Reachable);
//! report.confidence = 0.99;
//! ```

use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    client::{
        self, AddressReport, NatMapping, Obstacle, ProbeId, ProbeOutcome, Probed, RequestCompleted,
        RequestStarted, Sources, Summary, Verdict,
    },
    server::{self, JoinedLate, Limit, Misbehaved, Misbehaviour, Rejected, Served},
};

impl client::Event {
    /// [`VerdictChanged`](Self::VerdictChanged), with a confidence of 1 and no vantage.
    #[must_use]
    pub fn verdict_changed(address: Multiaddr, old: Verdict, new: Verdict) -> Self {
        Self::VerdictChanged {
            address,
            old,
            new,
            vantage: None,
            confidence: 1.0,
            time_to_verdict: None,
        }
    }

    /// [`SummaryChanged`](Self::SummaryChanged).
    #[must_use]
    pub fn summary_changed(old: Summary, new: Summary) -> Self {
        Self::SummaryChanged { old, new }
    }

    /// [`Obstructed`](Self::Obstructed).
    #[must_use]
    pub fn obstructed(address: Multiaddr, obstacle: Obstacle) -> Self {
        Self::Obstructed { address, obstacle }
    }

    /// [`StabilityChanged`](Self::StabilityChanged).
    #[must_use]
    pub fn stability_changed(address: Multiaddr, unstable: bool) -> Self {
        Self::StabilityChanged { address, unstable }
    }

    /// [`ServersWanted`](Self::ServersWanted).
    #[must_use]
    pub fn servers_wanted(known: usize, wanted: usize) -> Self {
        Self::ServersWanted { known, wanted }
    }

    /// [`NatMappingChanged`](Self::NatMappingChanged).
    #[must_use]
    pub fn nat_mapping_changed(old: NatMapping, new: NatMapping) -> Self {
        Self::NatMappingChanged { old, new }
    }
}

impl ProbeId {
    /// An ID that no request of a [`client::Behaviour`] need have.
    #[must_use]
    pub const fn new_unchecked(id: u64) -> Self {
        Self(id)
    }
}

impl RequestStarted {
    /// A request that has just left.
    #[must_use]
    pub const fn new(probe: ProbeId, server: PeerId, addresses: Vec<Multiaddr>) -> Self {
        Self {
            probe,
            server,
            addresses,
        }
    }
}

impl Probed {
    /// An answer about the one address of a request.
    #[must_use]
    pub const fn new(
        probe: ProbeId,
        server: PeerId,
        address: Multiaddr,
        outcome: ProbeOutcome,
    ) -> Self {
        Self {
            probe,
            server,
            address,
            outcome,
            dial_data: 0,
            took: Duration::ZERO,
            addresses: 1,
        }
    }
}

impl RequestCompleted {
    /// A request with one address that nothing was dialed for.
    #[must_use]
    pub const fn new(probe: ProbeId, server: PeerId, outcome: ProbeOutcome) -> Self {
        Self {
            probe,
            server,
            addresses: 1,
            dialed: None,
            outcome,
            dial_data: 0,
            took: Duration::ZERO,
        }
    }
}

impl AddressReport {
    /// A report with this verdict since now, and nothing else.
    #[must_use]
    pub fn new(address: Multiaddr, verdict: Verdict) -> Self {
        Self {
            address,
            verdict,
            since: Instant::now(),
            confidence: 0.0,
            vantage: None,
            sources: Sources::default(),
            servers: 0,
            time_to_verdict: None,
            last_probe: None,
            next_probe: None,
            dial_data: 0,
            announced: false,
            inherited: false,
            obstacle: None,
            unstable: false,
            proven_by: 0,
        }
    }
}

impl server::Event {
    /// [`Served`](Self::Served) for a request that its client left: what came of it can be set.
    #[must_use]
    pub fn served(
        client: PeerId,
        connection_id: ConnectionId,
        set: impl FnOnce(&mut Served),
    ) -> Self {
        let mut served = Served::new(client, connection_id, None);
        set(&mut served);
        Self::Served(Box::new(served))
    }

    /// [`Rejected`](Self::Rejected) for one request.
    #[must_use]
    pub const fn rejected(client: PeerId, connection_id: ConnectionId, limit: Limit) -> Self {
        Self::Rejected(Rejected {
            limit,
            count: 1,
            client,
            connection_id,
        })
    }

    /// [`Misbehaved`](Self::Misbehaved) for one violation.
    #[must_use]
    pub const fn misbehaved(
        client: PeerId,
        connection_id: ConnectionId,
        cause: Misbehaviour,
    ) -> Self {
        Self::Misbehaved(Misbehaved {
            cause,
            count: 1,
            client,
            connection_id,
        })
    }

    /// [`JoinedLate`](Self::JoinedLate).
    #[must_use]
    pub const fn joined_late(listen_addr: Multiaddr) -> Self {
        Self::JoinedLate(JoinedLate::new(listen_addr))
    }
}
