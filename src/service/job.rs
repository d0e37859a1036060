//! One request as an explicit state machine: what it waits for, until when, and what follows.
//!
//! Pure: facts and time come in, [`Action`]s come out. Every state has a deadline, so a job ends
//! whatever the client, the network or the node's other parts do, and it ends within
//! [`Timing::request`] of the stream's opening, unless this node itself is not polled. It never decides what to dial (that is
//! [`policy`](super::policy)) nor how often ([`limits`](super::limits)).

use std::time::Duration;

use web_time::Instant;

use super::{DialBackOutcome, End, Limit, Misbehaviour, NotDelivered, Served, policy::Chosen};
use crate::protocol::{DialResponse, DialStatus, ResponseStatus};

/// Time that is kept back for writing the answer.
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// How long a client may take to accept the few bytes of an answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Time that is kept back for delivering the nonce on a connection that took long to establish.
const NONCE_RESERVE: Duration = Duration::from_millis(1500);

/// The wait after dial data is cut short if the dial would be left with less than this, the nonce included: a
/// [`FAIR_DIAL`], [`NONCE_RESERVE`], and something for a clock that is late.
const DIAL_RESERVE: Duration = Duration::from_millis(4000);

/// A dial that had less than this says nothing about the address if it is not established: time for one lost TCP SYN
/// (sent again after a second, RFC 6298) and two slow round trips.
const FAIR_DIAL: Duration = Duration::from_millis(1900);

/// A deadline that is noticed so late was missed by this node, which was not polled. What it waits for may have
/// happened and be queued behind the clock.
const STALL: Duration = Duration::from_secs(1);

/// What a request gets after a stall, once.
const GRACE: Duration = Duration::from_millis(500);

/// How long each step may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) request: Duration,
    pub(crate) read: Duration,
    pub(crate) dial_data: Duration,
    pub(crate) dial: Duration,
    pub(crate) nonce: Duration,
}

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For the client's request.
    Request,
    /// For the client's dial data.
    DialData,
    /// For nothing but time: the random delay before a dial that dial data paid for.
    Delay,
    /// For room for the dial, which this limit leaves none for.
    Turn(Limit),
    /// For the dial to be established.
    Connection,
    /// For the client to acknowledge the nonce on that connection.
    Nonce,
    /// For the answer to be written.
    Answer,
}

/// What the behaviour is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    AskForData {
        index: u32,
        num_bytes: u64,
    },
    Dial(Chosen),
    Answer(DialResponse),
    /// Reset the stream; the job is over.
    Reset(End),
}

/// What was decided about a request.
#[derive(Debug)]
pub(crate) enum Decision {
    /// There is no address to dial.
    Refuse,
    /// A limit was hit that depends on the request's content.
    Reject,
    /// The chosen address is tested, after dial data of this size if any is due.
    Test(Chosen, Option<u64>),
}

#[derive(Debug)]
pub(crate) struct Job {
    state: State,
    deadline: Instant,
    started: Instant,
    timing: Timing,
    chosen: Option<Chosen>,
    dialed: Option<Instant>,
    /// Whether this node missed a deadline.
    stalled: bool,
    /// The event that is made of this job when it is over.
    pub(crate) record: Box<Served>,
}

impl Job {
    pub(crate) fn new(now: Instant, timing: Timing, record: Served) -> Self {
        Self {
            state: State::Request,
            deadline: now + timing.read.min(timing.request),
            started: now,
            timing,
            chosen: None,
            dialed: None,
            stalled: false,
            record: Box::new(record),
        }
    }

    pub(crate) const fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// The request was read and decided on.
    pub(crate) fn decided(&mut self, now: Instant, decision: Decision) -> Option<Action> {
        if self.state != State::Request {
            return None;
        }
        match decision {
            Decision::Refuse => Some(self.answer(now, ResponseStatus::DialRefused)),
            Decision::Reject => Some(self.answer(now, ResponseStatus::RequestRejected)),
            Decision::Test(chosen, None) => {
                self.chosen = Some(chosen.clone());
                Some(Action::Dial(chosen))
            }
            Decision::Test(chosen, Some(num_bytes)) => {
                let index = chosen.index;
                self.chosen = Some(chosen);
                self.record.dial_data_requested = num_bytes;
                self.enter(State::DialData, now + self.timing.dial_data);
                Some(Action::AskForData { index, num_bytes })
            }
        }
    }

    /// The dial data is complete. The dial follows after `delay`, or earlier if it would come too
    /// late.
    pub(crate) fn data_complete(&mut self, now: Instant, delay: Duration) -> Option<Action> {
        if self.state != State::DialData {
            return None;
        }
        let latest = before(self.answer_by(), DIAL_RESERVE, now);
        let until = (now + delay).min(latest);
        if until <= now {
            return self.chosen.clone().map(Action::Dial);
        }
        self.enter(State::Delay, until);
        None
    }

    /// The dial has to wait for another one to be gone, for as long as it would still have a fair chance. By default that is
    /// 5.1 s, a little longer than it takes QUIC to give up a handshake.
    pub(crate) fn wait_for_turn(&mut self, now: Instant, limit: Limit) {
        let latest = before(self.answer_by(), FAIR_DIAL + NONCE_RESERVE, now);
        self.enter(State::Turn(limit), latest);
    }

    /// What the job waits to dial, if it waits for room.
    pub(crate) const fn waits_to_dial(&self) -> Option<&Chosen> {
        match self.state {
            State::Turn(_) => self.chosen.as_ref(),
            _ => None,
        }
    }

    /// The dial went out.
    pub(crate) fn dialing(&mut self, now: Instant) {
        self.dialed = Some(now);
        let latest = before(self.answer_by(), NONCE_RESERVE, now);
        self.enter(State::Connection, (now + self.timing.dial).min(latest));
    }

    /// The dial could not go out, since as many are under way as may be.
    pub(crate) fn no_dial_left(&mut self, now: Instant, limit: Limit) -> Action {
        self.record.limit = Some(limit);
        self.answer(now, ResponseStatus::RequestRejected)
    }

    /// The dialed connection is established.
    pub(crate) fn connected(&mut self, now: Instant) {
        if self.state == State::Connection {
            self.enter(State::Nonce, now + self.timing.nonce);
        }
    }

    /// The dial-back is over.
    pub(crate) fn dial_ended(&mut self, now: Instant, outcome: DialBackOutcome) -> Option<Action> {
        match self.state {
            State::Connection | State::Nonce => Some(self.ended(now, outcome)),
            _ => None,
        }
    }

    /// Time has passed. `None` if the deadline has not, or if it was missed for the first time: then there is a new
    /// one. Otherwise there is always something to do.
    pub(crate) fn timed_out(&mut self, now: Instant) -> Option<Action> {
        if now < self.deadline {
            return None;
        }
        let missed = now.saturating_duration_since(self.deadline) > STALL;
        if missed && !self.stalled && self.state != State::Delay {
            self.stalled = true;
            self.deadline = now + GRACE;
            return None;
        }
        let action = match self.state {
            State::Request => Action::Reset(End::Misbehaved(Misbehaviour::SlowRequest)),
            State::DialData => Action::Reset(End::Misbehaved(Misbehaviour::SlowDialData)),
            State::Delay => match self.chosen.clone() {
                Some(chosen) => Action::Dial(chosen),
                None => Action::Reset(End::NotAnswered),
            },
            State::Turn(limit) => self.no_dial_left(now, limit),
            State::Connection if self.dial_was_fair(now) => {
                self.ended(now, DialBackOutcome::DialTimedOut)
            }
            State::Connection => self.ended(now, DialBackOutcome::DialGivenUp),
            State::Nonce => self.ended(now, DialBackOutcome::NotDelivered(NotDelivered::TimedOut)),
            State::Answer => Action::Reset(End::NotAnswered),
        };
        Some(action)
    }

    /// The job is over; what it was goes into the event.
    pub(crate) fn into_event(mut self, now: Instant, end: End) -> Box<Served> {
        if end != End::Answered {
            self.record.status = None;
            self.record.dial_status = None;
        }
        self.record.end = end;
        self.record.duration = now.saturating_duration_since(self.started);
        self.record
    }

    fn ended(&mut self, now: Instant, outcome: DialBackOutcome) -> Action {
        let (status, dial_status) = outcome.statuses();
        self.record.dial_back = Some(outcome);
        self.respond(now, status, dial_status)
    }

    fn answer(&mut self, now: Instant, status: ResponseStatus) -> Action {
        self.respond(now, status, DialStatus::Unused)
    }

    fn respond(&mut self, now: Instant, status: ResponseStatus, dial_status: DialStatus) -> Action {
        let ok = status == ResponseStatus::Ok;
        self.record.status = Some(status);
        self.record.dial_status = ok.then_some(dial_status);
        let end = self.started + self.timing.request;
        self.state = State::Answer;
        self.deadline = (now + ANSWER_TIME).min(end).max(now + ANSWER_RESERVE);
        let addr_idx = match &self.chosen {
            Some(chosen) if ok => chosen.index,
            _ => 0,
        };
        Action::Answer(DialResponse {
            status,
            addr_idx,
            dial_status,
        })
    }

    fn dial_was_fair(&self, now: Instant) -> bool {
        let had = self
            .dialed
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        had >= self.timing.dial.min(FAIR_DIAL) && !self.stalled
    }

    fn answer_by(&self) -> Instant {
        before(
            self.started + self.timing.request,
            ANSWER_RESERVE,
            self.started,
        )
    }

    fn enter(&mut self, state: State, deadline: Instant) {
        self.state = state;
        self.deadline = deadline.min(self.answer_by());
    }
}

/// `at - span`, but not before `earliest`.
fn before(at: Instant, span: Duration, earliest: Instant) -> Instant {
    at.checked_sub(span).map_or(earliest, |at| at.max(earliest))
}

#[cfg(test)]
mod tests;
