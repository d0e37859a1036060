//! All values that the labels can have, so that each series is there at 0 before its first event: Prometheus' `increase()`
//! and `rate()` see no growth in a series that begins at 1.
//!
//! A list that lacks a variant does not compile. What a variant carries is not part of its word: any value serves.

use std::{hash::Hash, io};

use libp2p_identity::PeerId;
use prometheus_client::metrics::family::{Family, MetricConstructor};

use crate::{
    address::{IpScope, Transport},
    client::{ProbeEnd, ProbeOutcome, Summary, Vantage, Verdict, Violation},
    server::{DialBackOutcome, Limit, Misbehaviour, NotDelivered, NotDialed, PassedOver},
};

/// Creates the series with these labels.
pub(super) fn create<S, M, C>(family: &Family<S, M, C>, labels: impl IntoIterator<Item = S>)
where
    S: Clone + Hash + Eq,
    C: MetricConstructor<M>,
{
    for labels in labels {
        drop(family.get_or_create(&labels));
    }
}

/// `ip_or_dns_version` and `transport` of what nodes listen on by default. Of the others there are many, and most nodes have
/// none: their series begin with their first event.
pub(super) const ADDRESSES: [(&str, &str); 4] = [
    ("ip4", "tcp"),
    ("ip4", "quic-v1"),
    ("ip6", "tcp"),
    ("ip6", "quic-v1"),
];

/// An array of all variants of a type, each with what it carries.
macro_rules! every {
    ($type:ty: $($variant:ident $(($payload:expr))?),+ $(,)?) => {{
        type All = $type;
        const fn _is_complete(value: &All) {
            match value {
                $(All::$variant { .. } => {})+
            }
        }
        [$(All::$variant $(($payload))?),+]
    }};
}

/// A peer ID that no peer has, for values of which only the kind counts.
fn nobody() -> PeerId {
    // The multihash of nothing, by the function that changes nothing.
    PeerId::from_bytes(&[0, 0]).expect("it is well formed")
}

pub(super) const VERDICTS: [Verdict; 4] =
    every!(Verdict: Unknown, Reachable, Filtered, Unreachable);

pub(super) const SUMMARIES: [Summary; 3] = every!(Summary: Unknown, Public, Private);

/// With none, of an address without proof.
pub(super) fn vantages() -> [Option<Vantage>; 3] {
    let [contacted, independent] = every!(Vantage: Contacted, Independent);
    [None, Some(contacted), Some(independent)]
}

/// [`ProbeOutcome::as_str`].
pub(super) fn probe_outcomes() -> impl Iterator<Item = &'static str> {
    let ends = every!(ProbeEnd:
        Completed,
        Reset,
        ConnectionClosed,
        Timeout,
        Unsupported,
        DialDataRefused,
        ProtocolViolation(Violation::Response),
    );
    let outcomes = every!(ProbeOutcome:
        Reachable(Vantage::Contacted),
        DialError,
        LateDialError,
        DialBackError,
        NonceMissing,
        DeniedHere,
        Refused,
        Rejected,
        InternalError,
        NoAnswer(ProbeEnd::Completed),
    );
    let ends = ends.into_iter().map(ProbeOutcome::NoAnswer);
    outcomes.into_iter().chain(ends).map(ProbeOutcome::as_str)
}

/// [`Limit::as_str`].
pub(super) fn limits() -> impl Iterator<Item = &'static str> {
    let limits = every!(Limit:
        Requests,
        RequestsOfPeer,
        RequestsOfNeighbourhood,
        RequestsOfNetwork,
        DialData,
        DialDataOfNeighbourhood,
        DialDataOfNetwork,
        Target,
        Concurrent,
        ConcurrentOfPeer,
        Dials,
        LingeringDials,
        DialsOfPeer,
        QuicDials,
        Off,
    );
    limits.into_iter().map(Limit::as_str)
}

/// [`PassedOver::as_str`].
pub(super) fn reasons() -> impl Iterator<Item = &'static str> {
    let reasons = every!(PassedOver:
        Unparsable,
        Relayed,
        Name,
        NoIp,
        SeveralIps,
        OtherPeer,
        NotPublic(IpScope::Private),
        RefusedNetwork,
        NoPort,
        BadPort(25),
        Path,
        OwnIp,
        OwnNetwork,
        UnknownTransport,
        CannotDial(Transport::Tcp),
    );
    reasons.into_iter().map(PassedOver::as_str)
}

/// [`DialBackOutcome::as_str`].
pub(super) fn dial_back_outcomes() -> impl Iterator<Item = &'static str> {
    let not_delivered = every!(NotDelivered:
        ProtocolNotSupported,
        Reset,
        StreamClosed,
        WrongAnswer,
        TimedOut,
        ConnectionLost,
    );
    let not_dialed = every!(NotDialed:
        Denied,
        NotSupported,
        OwnAddress,
        NoRoute,
        LocalFailure,
        Aborted,
    );
    let outcomes = every!(DialBackOutcome:
        Delivered,
        NotDelivered(NotDelivered::Reset),
        DialFailed(io::ErrorKind::Other),
        DialTimedOut,
        DialGivenUp,
        WrongPeer(nobody()),
        NotDialed(NotDialed::Denied),
    );
    let not_delivered = not_delivered.map(DialBackOutcome::NotDelivered);
    let not_dialed = not_dialed.map(DialBackOutcome::NotDialed);
    let outcomes = outcomes.into_iter().chain(not_delivered).chain(not_dialed);
    outcomes.map(|outcome| outcome.as_str())
}

/// [`Misbehaviour::as_str`].
pub(super) fn causes() -> impl Iterator<Item = &'static str> {
    let causes = every!(Misbehaviour:
        TooManyStreams,
        SlowRequest,
        NotARequest,
        Garbage,
        TooLong,
        SlowDialData,
        NotDialData,
        SmallDialData,
        PaddedDialData,
        Unasked,
        NoNonce,
    );
    causes.into_iter().map(Misbehaviour::as_str)
}
