//! Clients that leave at the worst moment.

use super::*;

#[tokio::test]
async fn reset_at_each_step_of_the_request() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;

    // Before the request, and in the middle of it.
    for bytes in [&[][..], &[0x40, 0x0a, 0x3e]] {
        let mut stream = open_request(&mut attacker, connection).await;
        send(&mut stream, bytes).await.expect("sent");
        drop(stream);
        let served = server.served().await;
        assert_eq!(served.end, End::ClientLeft);
        assert_eq!(served.status, None);
    }
    // Before dial data, and in the middle of it.
    for paid in [0, 10_000] {
        let (mut request, _) = asked_to_pay(&mut attacker, connection).await;
        pay(&mut request, paid).await;
        drop(request);
        assert_eq!(server.served().await.end, End::ClientLeft);
    }
    dialed_nothing_and_serves_on(server).await;
}

/// A step of a request at which the client's connection closes.
#[derive(Debug, Clone, Copy)]
enum Step {
    Opened,
    Asking,
    Due,
    Paying,
    Waiting,
    Dialed,
}

async fn the_connection_closes_at(step: Step) {
    // Long enough for the connection to close in it.
    let config = Config::default().with_max_delay_after_dial_data(Duration::from_secs(3));
    let (mut server, mut attacker, connection) = attacked(config).await;
    let silent = std::net::TcpListener::bind((ATTACKER, 0)).expect("a free port");
    let mut streams = Vec::new();
    let mut victim = None;
    match step {
        Step::Opened | Step::Asking => {
            let mut stream = open_request(&mut attacker, connection).await;
            if let Step::Asking = step {
                send(&mut stream, &[0x40, 0x0a, 0x3e]).await.expect("sent");
            } else {
                send(&mut stream, &[]).await.expect("sent");
            }
            streams.push(stream);
        }
        Step::Due | Step::Paying | Step::Waiting => {
            let (mut request, due) = asked_to_pay(&mut attacker, connection).await;
            let paid = match step {
                Step::Due => 0,
                Step::Paying => 10_000,
                _ => due,
            };
            pay(&mut request, paid).await;
            streams.push(request.into_inner());
        }
        Step::Dialed => {
            let port = silent.local_addr().expect("bound").port();
            let addr = format!("/ip4/20.66.0.1/tcp/{port}").parse().expect("valid");
            let request = ask(&mut attacker, connection, &[addr], 1).await;
            let silent = silent.try_clone().expect("a second handle");
            let accepted = tokio::task::spawn_blocking(move || silent.accept());
            victim = Some(accepted.await.expect("runs").expect("the server dials"));
            streams.push(request.into_inner());
        }
    }
    within(PATIENCE, "the request is under way", async {
        while server.load().await.requests == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    attacker
        .with(move |swarm| swarm.close_connection(connection))
        .await;
    let served = server.served().await;
    assert_eq!(served.end, End::ClientLeft, "{step:?}");
    assert_eq!(served.status, None, "{step:?}");
    drop((streams, silent, victim));
    server.is_idle().await;
    let dials = server.dials.all().len();
    match step {
        Step::Waiting => assert!(dials <= 1, "{dials}"),
        Step::Dialed => assert_eq!(dials, 1),
        _ => assert_eq!(dials, 0, "{step:?}"),
    }
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn closing_the_connection_at_each_step_of_the_request() {
    for step in [
        Step::Opened,
        Step::Asking,
        Step::Due,
        Step::Paying,
        Step::Waiting,
        Step::Dialed,
    ] {
        the_connection_closes_at(step).await;
    }
}

#[tokio::test]
async fn reset_in_the_wait_before_the_dial() {
    // The wait is long enough for a reset to arrive in it, save for the few random ones near zero.
    let config = Config::default().with_max_delay_after_dial_data(Duration::from_secs(3));
    let (mut server, mut attacker, connection) = attacked(config).await;
    let (mut request, due) = asked_to_pay(&mut attacker, connection).await;
    pay(&mut request, due).await;
    drop(request);
    let served = server.served().await;
    assert_eq!(served.end, End::ClientLeft);
    assert!(server.dials.all().len() <= 1);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn reset_while_the_server_dials() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let silent = std::net::TcpListener::bind((ATTACKER, 0)).expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let addr = format!("/ip4/20.66.0.1/tcp/{port}").parse().expect("valid");
    let request = ask(&mut attacker, connection, &[addr], 1).await;
    let (victim, _) = tokio::task::spawn_blocking(move || silent.accept())
        .await
        .expect("runs")
        .expect("the server dials");
    drop(request);
    assert_eq!(server.served().await.end, End::ClientLeft);
    assert_eq!(server.load().await.requests, 0);
    assert_eq!(server.dials.all().len(), 1);
    drop(victim);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn reset_of_the_dial_back_stream() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let addr = attacker.listen(&format!("/ip4/{ATTACKER}/tcp/0")).await;
    let mut request = ask(&mut attacker, connection, &[public(&addr)], 1).await;
    let (_, dial_back, stream) = attacker.accept().await;
    drop(stream);
    assert_eq!(
        answer(&mut request).await,
        dialed(0, DialStatus::DialBackError)
    );
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::NotDelivered(NotDelivered::StreamClosed))
    );
    attacker.closed_promptly(dial_back).await;
    assert_eq!(server.dials.all().len(), 1);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn closing_the_dial_back_connection() {
    for listen in [
        format!("/ip4/{ATTACKER}/tcp/0"),
        format!("/ip4/{ATTACKER}/udp/0/quic-v1"),
    ] {
        let (mut server, mut attacker, connection) = attacked(Config::default()).await;
        let addr = attacker.listen(&listen).await;
        let mut request = ask(&mut attacker, connection, &[public(&addr)], 1).await;
        let (_, dial_back, _stream) = attacker.accept().await;
        attacker
            .with(move |swarm| swarm.close_connection(dial_back))
            .await;
        assert_eq!(
            answer(&mut request).await,
            dialed(0, DialStatus::DialBackError)
        );
        assert!(matches!(
            server.served().await.dial_back,
            Some(DialBackOutcome::NotDelivered(
                NotDelivered::ConnectionLost | NotDelivered::StreamClosed
            ))
        ));
        assert_eq!(server.dials.all().len(), 1);
        server.is_idle().await;
        server.serves_an_honest_client().await;
    }
}
