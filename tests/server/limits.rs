//! Each limit over real connections: that the behaviour asks for it, and with the right numbers.

use super::*;

/// A client on this IP that is connected to the server.
async fn client_at(server: &mut Server, ip: &str) -> (RawPeer, libp2p::swarm::ConnectionId) {
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = server.connects_to(&mut client, ip).await;
    (client, connection)
}

async fn server(config: Config) -> Server {
    let mut server = Server::in_public(config);
    server.listen(TCP).await;
    server
}

/// A client on this IP asks about a port where nobody listens, on its own IP, and is answered this.
async fn asks_from(server: &mut Server, ip: &str) -> ResponseStatus {
    let (mut client, connection) = client_at(server, ip).await;
    asks(&mut client, connection, ip).await
}

async fn asks(
    client: &mut RawPeer,
    connection: libp2p::swarm::ConnectionId,
    ip: &str,
) -> ResponseStatus {
    let (_socket, addr) = closed_port(ip);
    let mut request = ask(client, connection, &[public(&addr)], 1).await;
    answer(&mut request).await.status
}

/// A client on this IP asks about this address, which is not its own, and pays if it is told to. `None` if it is, else
/// what it is answered.
async fn pays_from(server: &mut Server, ip: &str, target: &Multiaddr) -> Option<ResponseStatus> {
    let (mut client, connection) = client_at(server, ip).await;
    let mut request = ask(&mut client, connection, std::slice::from_ref(target), 1).await;
    match within(PATIENCE, "a message", request.next()).await {
        Some(Ok(Message::DialDataRequest(data))) => {
            pay(&mut request, data.num_bytes).await;
            assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
            None
        }
        Some(Ok(Message::DialResponse(response))) => Some(response.status),
        other => panic!("{other:?}"),
    }
}

/// A target that accepts a connection and says nothing.
fn silent(ip: &str) -> (std::net::TcpListener, Multiaddr) {
    let listener = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let addr = format!("/ip4/{ip}/tcp/{port}").parse().expect("valid");
    (listener, public(&addr))
}

const REJECTED: ResponseStatus = ResponseStatus::RequestRejected;

#[tokio::test]
async fn a_peer_is_served_as_often_as_it_may_be() {
    let mut server = server(Config::default().with_max_requests_per_minute_per_peer(2)).await;
    let ip = "127.66.0.1";
    let (mut client, connection) = client_at(&mut server, ip).await;
    for _ in 0..2 {
        let status = asks(&mut client, connection, ip).await;
        assert_eq!(status, ResponseStatus::Ok);
    }
    assert_eq!(asks(&mut client, connection, ip).await, REJECTED);
    assert_eq!(server.rejected().await.limit, Limit::RequestsOfPeer);
    assert_eq!(server.dials.all().len(), 2);
    // Its neighbour is another peer.
    assert_eq!(asks_from(&mut server, ip).await, ResponseStatus::Ok);
}

#[tokio::test]
async fn a_neighbourhood_and_a_network_are_served_as_often_as_they_may_be() {
    let config = Config::default()
        .with_max_requests_per_minute(6)
        .with_max_requests_per_minute_per_neighbourhood(1);
    let mut server = server(config).await;
    assert_eq!(
        asks_from(&mut server, "127.66.0.1").await,
        ResponseStatus::Ok
    );
    assert_eq!(asks_from(&mut server, "127.66.0.2").await, REJECTED);
    let limit = server.rejected().await.limit;
    assert_eq!(limit, Limit::RequestsOfNeighbourhood);
    assert_eq!(
        asks_from(&mut server, "127.66.1.1").await,
        ResponseStatus::Ok
    );
    assert_eq!(asks_from(&mut server, "127.66.2.1").await, REJECTED);
    assert_eq!(server.rejected().await.limit, Limit::RequestsOfNetwork);
    assert_eq!(
        asks_from(&mut server, "127.67.0.1").await,
        ResponseStatus::Ok
    );
}

#[tokio::test]
async fn so_many_requests_are_served_at_once() {
    let mut server = server(Config::default().with_max_concurrent_requests(2)).await;
    let mut held = Vec::new();
    for ip in ["127.66.0.1", "127.67.0.1"] {
        let (mut client, connection) = client_at(&mut server, ip).await;
        let stream = open_request(&mut client, connection).await;
        held.push((client, stream));
    }
    within(PATIENCE, "two requests are under way", async {
        while server.load().await.requests < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(asks_from(&mut server, "127.68.0.1").await, REJECTED);
    assert_eq!(server.rejected().await.limit, Limit::Concurrent);
    drop(held);
    server.is_idle().await;
    assert_eq!(
        asks_from(&mut server, "127.68.0.1").await,
        ResponseStatus::Ok
    );
}

#[tokio::test]
async fn no_request_is_read_while_every_dial_is_taken() {
    let mut server = server(Config::default().with_max_concurrent_dials(1)).await;
    let (listener, target) = silent("127.66.0.1");
    let (mut first, connection) = client_at(&mut server, "127.66.0.1").await;
    let request = ask(&mut first, connection, &[target], 1).await;
    within(PATIENCE, "the dial goes out", async {
        while server.load().await.dials < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(asks_from(&mut server, "127.67.0.1").await, REJECTED);
    assert_eq!(server.rejected().await.limit, Limit::Dials);
    // A dial that nobody waits for holds its socket, and counts.
    drop(request);
    assert_eq!(server.served().await.end, End::ClientLeft);
    assert_eq!(asks_from(&mut server, "127.67.0.1").await, REJECTED);
    drop(listener);
    server.is_idle().await;
    assert_eq!(
        asks_from(&mut server, "127.67.0.1").await,
        ResponseStatus::Ok
    );
}

#[tokio::test]
async fn a_request_that_finds_every_dial_taken_is_rejected() {
    let mut server = server(Config::default().with_max_concurrent_dials(1)).await;
    let (_listener, target) = silent("127.66.0.1");
    // Both are admitted before either asks.
    let (mut first, connection) = client_at(&mut server, "127.66.0.1").await;
    let first_stream = open_request(&mut first, connection).await;
    let (mut second, connection) = client_at(&mut server, "127.67.0.1").await;
    let second_stream = open_request(&mut second, connection).await;
    within(PATIENCE, "two requests are under way", async {
        while server.load().await.requests < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.dials.clear();
    let _first = ask_on(first_stream, &[target], 1).await;
    within(PATIENCE, "the dial goes out", async {
        while server.load().await.dials < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (_socket, addr) = closed_port("127.67.0.1");
    let mut request = ask_on(second_stream, &[public(&addr)], 1).await;
    assert_eq!(answer(&mut request).await, not_dialed(REJECTED));
    let served = server.served().await;
    assert_eq!(served.limit, Some(Limit::Dials));
    assert_eq!(served.dial_back, None);
    assert_eq!(server.dials.all().len(), 1);
}

#[tokio::test]
async fn so_much_dial_data_is_taken_of_all_of_a_neighbourhood_and_of_a_network() {
    let of = |all, neighbourhood| {
        prompt()
            .with_max_dial_data_requests_per_minute(all)
            .with_max_dial_data_requests_per_minute_per_neighbourhood(neighbourhood)
    };
    for (config, then, limit) in [
        (of(6, 1), "127.66.0.2", Limit::DialDataOfNeighbourhood),
        (of(3, 1), "127.66.1.1", Limit::DialDataOfNetwork),
        (of(1, 1), "127.67.0.1", Limit::DialData),
    ] {
        let mut server = server(config).await;
        let (_socket, target) = closed_port("127.99.0.1");
        let target = public(&target);
        assert_eq!(pays_from(&mut server, "127.66.0.1", &target).await, None);
        assert_eq!(server.served().await.limit, None);
        let status = pays_from(&mut server, then, &target).await;
        assert_eq!(status, Some(REJECTED), "{limit:?}");
        assert_eq!(server.served().await.limit, Some(limit));
        // What needs no dial data is not affected.
        assert_eq!(asks_from(&mut server, then).await, ResponseStatus::Ok);
    }
}

#[tokio::test]
async fn those_who_do_not_pay_use_up_neither_the_dial_data_nor_the_target() {
    let config = prompt()
        .with_max_dial_data_requests_per_minute(1)
        .with_max_dials_per_minute_per_target(1);
    let mut server = server(config).await;
    let (_socket, target) = closed_port("127.99.0.1");
    let target = public(&target);
    for (ip, paid) in [("127.66.0.1", 0), ("127.67.0.1", 3000)] {
        let (mut client, connection) = client_at(&mut server, ip).await;
        let mut request = ask(&mut client, connection, std::slice::from_ref(&target), 1).await;
        dial_data_request(&mut request).await;
        pay(&mut request, paid).await;
        drop(request);
        assert_eq!(server.served().await.end, End::ClientLeft);
    }
    // Who has paid much of it and left has used it up.
    let (mut client, connection) = client_at(&mut server, "127.68.0.1").await;
    let mut request = ask(&mut client, connection, std::slice::from_ref(&target), 1).await;
    dial_data_request(&mut request).await;
    pay(&mut request, 20_000).await;
    request.close().await.expect("the stream half-closes");
    ends_without_a_message(&mut request).await;
    assert_eq!(server.served().await.end, End::ClientLeft);
    let status = pays_from(&mut server, "127.69.0.1", &target).await;
    assert_eq!(status, Some(REJECTED));
    assert_eq!(server.served().await.limit, Some(Limit::Target));
    let (_socket, other) = closed_port("127.98.0.1");
    let status = pays_from(&mut server, "127.69.0.1", &public(&other)).await;
    assert_eq!(status, Some(REJECTED));
    assert_eq!(server.served().await.limit, Some(Limit::DialData));
}
