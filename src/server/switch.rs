//! Whether the protocol is offered: one switch for all connections of a server. What becomes of requests under way when it is
//! switched off is for `service.rs`: they are served to their end.
//!
//! A swarm looks at what a connection offers when it polls the connection, and tells the behaviours beside, such as identify,
//! of a change. An idle connection is not polled, so that the switch wakes all of them. Each leaves a waker here, of 16 bytes,
//! when it is polled for the first time; its task keeps the same one.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    option,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use libp2p_core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p_swarm::{Stream, StreamProtocol};

use crate::protocol::DIAL_REQUEST_PROTOCOL;

#[derive(Debug)]
pub(super) struct Switch {
    on: AtomicBool,
    wakers: Mutex<Wakers>,
}

/// The wakers of connections that are open, and the places of those that are not.
#[derive(Debug, Default)]
struct Wakers {
    all: Vec<Option<Waker>>,
    free: Vec<u32>,
}

/// Where the waker of a connection is. None before its first poll.
#[derive(Debug, Default)]
pub(super) struct Place(Option<std::num::NonZeroU32>);

impl Place {
    fn index(&self) -> Option<u32> {
        self.0.map(|index| index.get() - 1)
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(true),
            wakers: Mutex::default(),
        }
    }
}

impl Switch {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, on: bool) {
        if self.on.swap(on, Ordering::Relaxed) != on {
            for waker in self.wakers().all.iter().flatten() {
                waker.wake_by_ref();
            }
        }
    }

    /// Whoever is woken by this waker is woken when the switch changes.
    pub(super) fn wakes(&self, place: &mut Place, waker: &Waker) {
        if place.0.is_some() {
            return;
        }
        let mut wakers = self.wakers();
        let index = wakers.free.pop().unwrap_or_else(|| {
            wakers.all.push(None);
            u32::try_from(wakers.all.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(entry) = wakers.all.get_mut(index as usize) {
            *entry = Some(waker.clone());
            place.0 = index.checked_add(1).and_then(std::num::NonZeroU32::new);
        }
    }

    /// The connection that has this place is gone.
    pub(super) fn forget(&self, place: &Place) {
        let Some(index) = place.index() else {
            return;
        };
        let mut wakers = self.wakers();
        if let Some(entry) = wakers.all.get_mut(index as usize) {
            *entry = None;
            wakers.free.push(index);
        }
        if wakers.free.len() == wakers.all.len() {
            *wakers = Wakers::default();
        }
    }

    /// A panic of somebody who held the lock leaves nothing half done.
    fn wakers(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes streams for dial requests, or none.
#[derive(Debug, Clone, Copy)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Offer(pub(super) bool);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.then_some(DIAL_REQUEST_PROTOCOL).into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use futures::task::{ArcWake, waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(this: &Arc<Self>) {
            this.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_that_are_there_are_woken_by_a_change_and_nobody_else() {
        let switch = Switch::default();
        let woken = [(); 3].map(|()| Arc::<Woken>::default());
        let mut places = [(); 3].map(|()| Place::default());
        for (woken, place) in woken.iter().zip(&mut places) {
            switch.wakes(place, &waker(Arc::clone(woken)));
            switch.wakes(place, &waker(Arc::clone(woken)));
        }
        switch.forget(&places[1]);
        let times = || woken.each_ref().map(|it| it.0.load(Ordering::Relaxed));
        switch.set(true);
        assert_eq!(times(), [0, 0, 0], "it was on");
        switch.set(false);
        assert_eq!(times(), [1, 0, 1]);
        assert!(!switch.is_on());

        // A place is given again, and a connection that was never polled has none.
        let mut next = Place::default();
        switch.forget(&next);
        switch.wakes(&mut next, &waker(Arc::clone(&woken[1])));
        assert_eq!(next.index(), places[1].index());
        for place in [&places[0], &next, &places[2]] {
            switch.forget(place);
        }
        assert!(switch.wakers().all.is_empty());
        assert_eq!(size_of::<Option<Waker>>(), 16);
    }
}
