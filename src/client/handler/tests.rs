use std::{mem::size_of, task::Waker};

use super::*;
use crate::protocol::NonceEncoding;

fn order(id: u64) -> OutgoingRequest {
    OutgoingRequest {
        probe: ProbeId(id),
        addrs: vec!["/ip4/20.1.0.1/tcp/1".parse().unwrap()],
        nonce: id,
        encoding: NonceEncoding::default(),
        timeout: Duration::from_secs(60),
    }
}

type Polled = Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, ProbeId, Report>>;

fn poll(handler: &mut Handler) -> Polled {
    handler.poll(&mut Context::from_waker(Waker::noop()))
}

fn ended(polled: Polled) -> Option<(ProbeId, ProbeEnd)> {
    match polled {
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report(ToBehaviour::Ended {
            probe,
            end,
        }))) => Some((probe, end)),
        _ => None,
    }
}

fn opens(polled: Polled) -> Option<ProbeId> {
    match polled {
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }) => {
            Some(*protocol.info())
        }
        _ => None,
    }
}

fn fails(
    handler: &mut Handler,
    info: ProbeId,
    error: StreamUpgradeError<std::convert::Infallible>,
) {
    handler.on_connection_event(ConnectionEvent::DialUpgradeError(DialUpgradeError {
        info,
        error,
    }));
}

/// A node has a handler for each of its connections.
#[test]
fn an_idle_handler_is_three_words_at_most_and_holds_nothing() {
    assert!(size_of::<Handler>() <= 3 * size_of::<usize>());
    let mut handler = Handler::default();
    assert!(poll(&mut handler).is_pending());
    assert!(handler.active.is_none());
    assert!(!handler.connection_keep_alive());
}

#[test]
fn a_failed_request_leaves_nothing_behind() {
    for (error, expected) in [
        (StreamUpgradeError::NegotiationFailed, ProbeEnd::Unsupported),
        (StreamUpgradeError::Timeout, ProbeEnd::Timeout),
        (
            StreamUpgradeError::Io(std::io::ErrorKind::BrokenPipe.into()),
            ProbeEnd::Reset,
        ),
    ] {
        let mut handler = Handler::default();
        handler.on_behaviour_event(Command(FromBehaviour::Ask(order(1))));
        assert_eq!(opens(poll(&mut handler)), Some(ProbeId(1)));
        assert!(poll(&mut handler).is_pending());
        fails(&mut handler, ProbeId(1), error);
        assert_eq!(ended(poll(&mut handler)), Some((ProbeId(1), expected)));
        assert!(poll(&mut handler).is_pending());
        assert!(handler.active.is_none());
    }
}

#[test]
fn a_stream_that_never_opens_is_given_up() {
    let mut handler = Handler::default();
    let order = OutgoingRequest {
        timeout: Duration::ZERO,
        ..order(1)
    };
    handler.on_behaviour_event(Command(FromBehaviour::Ask(order)));
    assert_eq!(opens(poll(&mut handler)), Some(ProbeId(1)));
    let (probe, end) = futures::executor::block_on(std::future::poll_fn(|cx| {
        let polled = handler.poll(cx);
        if polled.is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(ended(polled).expect("the end of the probe"))
    }));
    assert_eq!((probe, end), (ProbeId(1), ProbeEnd::Timeout));
    // A late failure is nobody's.
    fails(&mut handler, ProbeId(1), StreamUpgradeError::Timeout);
    assert!(poll(&mut handler).is_pending());
    assert!(handler.active.is_none());
}

#[test]
fn every_request_beyond_the_limit_ends_at_once() {
    let mut handler = Handler::default();
    for id in 0..10 {
        handler.on_behaviour_event(Command(FromBehaviour::Ask(order(id))));
    }
    let mut turned_down = Vec::new();
    let mut opened = Vec::new();
    loop {
        let polled = poll(&mut handler);
        if polled.is_pending() {
            break;
        }
        if let Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { .. }) = polled {
            opened.extend(opens(polled));
        } else {
            turned_down.extend(ended(polled).map(|(probe, _)| probe));
        }
    }
    opened.sort_unstable();
    turned_down.sort_unstable();
    assert_eq!(opened, [ProbeId(0), ProbeId(1)]);
    assert_eq!(turned_down, (2..10).map(ProbeId).collect::<Vec<_>>());
}

#[test]
fn an_answer_for_a_stream_that_is_gone_is_ignored() {
    let mut handler = Handler::default();
    for accept in [true, false] {
        handler.on_behaviour_event(Command(FromBehaviour::Answer { stream: 7, accept }));
        assert!(poll(&mut handler).is_pending());
        assert!(handler.active.is_none());
    }
}
