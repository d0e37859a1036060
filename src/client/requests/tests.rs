use super::*;

const OK: DialResponse = DialResponse {
    status: ResponseStatus::Ok,
    addr_idx: 0,
    dial_status: DialStatus::Ok,
};
const DIAL_ERROR: DialResponse = DialResponse {
    dial_status: DialStatus::DialError,
    ..OK
};
const DIAL_BACK_ERROR: DialResponse = DialResponse {
    dial_status: DialStatus::DialBackError,
    ..OK
};
const FIXED64: NonceEncoding = NonceEncoding::Fixed64;
const VARINT: NonceEncoding = NonceEncoding::Varint;

/// Requests to one server, each with a number of its own.
struct Scene {
    requests: Requests,
    server: PeerId,
    now: Instant,
    asked: u64,
}

impl Scene {
    fn new() -> Self {
        Self {
            requests: Requests::default(),
            server: PeerId::random(),
            now: Instant::now(),
            asked: 0,
        }
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }

    fn asks(&mut self) -> OutgoingRequest {
        self.asked += 1;
        let request = ProbeRequest {
            id: ProbeId(self.asked),
            server: self.server,
            connection: ConnectionId::new_unchecked(1),
            addrs: vec!["/ip4/20.1.0.1/tcp/1".parse().unwrap()],
            nonce: 1000 + self.asked,
            timeout: Duration::from_secs(30),
        };
        self.requests.start(self.now, request)
    }

    /// The second request, if there is one.
    fn is_not_read(&mut self, order: &OutgoingRequest) -> Result<OutgoingRequest, ProbeEnd> {
        match self.requests.on_unread(self.now, order.probe) {
            Some(Next::AskAgain(server, connection, again)) => {
                assert_eq!(server, self.server);
                assert_eq!(connection, ConnectionId::new_unchecked(1));
                assert_eq!((again.probe, again.nonce), (order.probe, order.nonce));
                assert_eq!(again.addrs, order.addrs);
                Ok(again)
            }
            Some(Next::Over(end)) => Err(end),
            None => panic!("it is under way"),
        }
    }

    fn answers(&mut self, order: &OutgoingRequest, response: DialResponse) {
        self.requests.on_response(order.probe, response);
        self.ends(order, ProbeEnd::Completed);
    }

    fn ends(&mut self, order: &OutgoingRequest, end: ProbeEnd) {
        assert_eq!(self.requests.on_end(order.probe, end), Some(end));
    }

    /// The server reads varints only, and was seen to.
    fn learned() -> Self {
        let mut scene = Self::new();
        let first = scene.asks();
        let second = scene.is_not_read(&first).unwrap();
        scene.requests.on_nonce(second.nonce, VARINT);
        scene.answers(&second, OK);
        scene
    }
}

#[test]
fn what_was_not_read_is_asked_once_more_with_a_varint_and_no_third_time() {
    let mut scene = Scene::new();
    let first = scene.asks();
    assert_eq!(first.encoding, FIXED64);
    scene.passes(Duration::from_secs(1));
    let second = scene.is_not_read(&first).unwrap();
    assert_eq!(second.encoding, VARINT);
    assert_eq!(second.timeout, SECOND_TIMEOUT);
    assert_eq!(scene.is_not_read(&second).unwrap_err(), ProbeEnd::Reset);
    assert!(scene.requests.on_unread(scene.now, first.probe).is_none());
    // Nothing was learned.
    assert_eq!(scene.asks().encoding, FIXED64);
}

#[test]
fn a_server_that_brought_the_nonce_or_ended_the_stream_late_has_read_the_request() {
    let mut scene = Scene::new();
    let order = scene.asks();
    scene.requests.on_nonce(order.nonce, FIXED64);
    assert_eq!(scene.is_not_read(&order).unwrap_err(), ProbeEnd::Reset);

    let order = scene.asks();
    scene.passes(Duration::from_secs(9));
    assert_eq!(scene.is_not_read(&order).unwrap_err(), ProbeEnd::Reset);

    let mut scene = Scene::new();
    let order = scene.asks();
    scene.answers(&order, DIAL_ERROR);
    let order = scene.asks();
    assert_eq!(scene.is_not_read(&order).unwrap_err(), ProbeEnd::Reset);
}

#[test]
fn the_second_request_has_the_time_that_the_first_has_left() {
    let mut scene = Scene::new();
    scene.asked += 1;
    let mut request = ProbeRequest {
        id: ProbeId(1),
        server: scene.server,
        connection: ConnectionId::new_unchecked(1),
        addrs: Vec::new(),
        nonce: 1,
        timeout: Duration::from_secs(4),
    };
    let order = scene.requests.start(scene.now, request.clone());
    scene.passes(Duration::from_secs(1));
    let again = scene.is_not_read(&order).unwrap();
    assert_eq!(again.timeout, Duration::from_secs(3));

    request.id = ProbeId(2);
    let order = scene.requests.start(scene.now, request);
    scene.passes(Duration::from_secs(4));
    assert_eq!(scene.is_not_read(&order).unwrap_err(), ProbeEnd::Reset);
}

/// What the server did to the first is what it is known for: the second was asked on the client's own account.
#[test]
fn a_second_request_that_fails_ends_like_the_first() {
    for (end, told) in [
        (ProbeEnd::Timeout, ProbeEnd::Reset),
        (ProbeEnd::Unsupported, ProbeEnd::Reset),
        (ProbeEnd::ConnectionClosed, ProbeEnd::ConnectionClosed),
        (ProbeEnd::DialDataRefused, ProbeEnd::DialDataRefused),
        (ProbeEnd::Completed, ProbeEnd::Completed),
    ] {
        let mut scene = Scene::new();
        let order = scene.asks();
        scene.is_not_read(&order).unwrap();
        assert_eq!(scene.requests.on_end(order.probe, end), Some(told));
    }
}

#[test]
fn what_a_server_reads_is_remembered() {
    let mut scene = Scene::learned();
    let order = scene.asks();
    assert_eq!(order.encoding, VARINT);
    scene.answers(&order, DIAL_ERROR);
    assert_eq!(scene.asks().encoding, VARINT);
    // Of this server, and of no other.
    scene.server = PeerId::random();
    assert_eq!(scene.asks().encoding, FIXED64);
}

#[test]
fn any_answer_to_a_varint_is_remembered_but_a_claim_without_the_nonce() {
    for (response, nonce, expected) in [
        (DIAL_ERROR, None, VARINT),
        (
            DialResponse::without_dial(ResponseStatus::DialRefused),
            None,
            VARINT,
        ),
        (OK, Some(VARINT), VARINT),
        (DIAL_BACK_ERROR, Some(VARINT), VARINT),
        // A server that finds no nonce in a varint brings a zero.
        (OK, None, FIXED64),
        (DIAL_BACK_ERROR, None, FIXED64),
    ] {
        let mut scene = Scene::new();
        let first = scene.asks();
        let second = scene.is_not_read(&first).unwrap();
        if let Some(encoding) = nonce {
            scene.requests.on_nonce(second.nonce, encoding);
        }
        scene.answers(&second, response);
        assert_eq!(scene.asks().encoding, expected, "{response:?} {nonce:?}");
    }
}

#[test]
fn a_server_that_was_mended_is_asked_as_the_specification_has_it() {
    let mut scene = Scene::learned();
    let first = scene.asks();
    assert_eq!(first.encoding, VARINT);
    let second = scene.is_not_read(&first).unwrap();
    assert_eq!(second.encoding, FIXED64);
    scene.answers(&second, OK);
    assert_eq!(scene.asks().encoding, FIXED64);

    // One that reads a varint for nothing.
    let mut scene = Scene::learned();
    let order = scene.asks();
    scene.requests.on_nonce(0, FIXED64);
    scene.answers(&order, OK);
    assert_eq!(scene.asks().encoding, FIXED64);
}

#[test]
fn the_servers_heard_of_last_are_remembered_and_no_more() {
    let mut scene = Scene::learned();
    let first = scene.server;
    for _ in 0..10 * MAX_SERVERS {
        scene.server = PeerId::random();
        let order = scene.asks();
        scene.answers(&order, DIAL_ERROR);
        assert!(scene.requests.reads.0.len() <= MAX_SERVERS);
    }
    assert_eq!(size_of::<(PeerId, NonceEncoding)>(), 88);
    let last = scene.server;
    assert_eq!(scene.requests.reads.known(last), Some(FIXED64));
    assert_eq!(scene.requests.reads.known(first), None);
}

#[test]
fn a_request_that_is_over_leaves_nothing() {
    let mut scene = Scene::new();
    let orders = [scene.asks(), scene.asks(), scene.asks()];
    let on = |scene: &Scene, id| scene.requests.on(ConnectionId::new_unchecked(id));
    assert_eq!(on(&scene, 1), [1, 2, 3].map(ProbeId));
    assert_eq!(on(&scene, 2), []);
    for order in &orders {
        scene.ends(order, ProbeEnd::ConnectionClosed);
        assert_eq!(scene.requests.on_end(order.probe, ProbeEnd::Reset), None);
    }
    assert!(scene.requests.under_way.is_empty());
}
