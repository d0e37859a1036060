//! What is to happen when. Of two things at the same time the one that was scheduled first happens first.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Scheduled<T>>>,
    scheduled: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            scheduled: 0,
        }
    }

    pub(crate) fn push(&mut self, at: Duration, happening: T) {
        self.heap.push(Reverse(Scheduled {
            at,
            sequence: self.scheduled,
            happening,
        }));
        self.scheduled += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, T)> {
        let Reverse(next) = self.heap.pop()?;
        Some((next.at, next.happening))
    }
}

struct Scheduled<T> {
    at: Duration,
    sequence: u64,
    happening: T,
}

impl<T> Ord for Scheduled<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl<T> PartialOrd for Scheduled<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Scheduled<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Scheduled<T> {}
