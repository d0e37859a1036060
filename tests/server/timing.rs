//! By the clock: that the wait is one, and that the answer comes in time.

use std::time::Instant;

use super::*;

/// What a deadline may be missed by on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test]
async fn the_dial_waits_after_dial_data_a_random_while() {
    let most = Duration::from_secs(3);
    let config = Config::default()
        .with_max_delay_after_dial_data(most)
        .with_max_dial_data_requests_per_minute_per_neighbourhood(12);
    let mut server = Server::on_loopback(config);
    let at = server.listen(TCP).await;
    let (_socket, target) = closed_port("127.9.9.9");
    let mut clients = Vec::new();
    let mut waiting = Vec::new();
    for nonce in 1..5 {
        let mut client = RawPeer::new(&[]);
        let connection = client.connect(at.clone()).await;
        for nonce in [nonce, nonce + 4] {
            let mut request = ask(
                &mut client,
                connection,
                std::slice::from_ref(&target),
                nonce,
            )
            .await;
            let data = dial_data_request(&mut request).await;
            pay(&mut request, data.num_bytes).await;
            waiting.push((request, Instant::now()));
        }
        clients.push(client);
    }
    let waits = waiting.into_iter().map(|(mut request, paid)| async move {
        assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
        paid.elapsed()
    });
    let waits = futures::future::join_all(waits).await;
    drop(clients);
    // That eight waits of up to 3 s are all under half a second happens once in a million times.
    let longest = waits.iter().max().expect("eight");
    assert!(*longest >= Duration::from_millis(500), "{waits:?}");
    assert!(*longest < most + SLACK, "{waits:?}");
}

#[tokio::test]
async fn no_dial_leaves_before_its_wait_is_over() {
    const HOUR: Duration = Duration::from_secs(60 * 60);

    let config = Config::default()
        .with_max_delay_after_dial_data(HOUR)
        .with_request_timeout(HOUR);
    let (server, mut client, connection) = pair(TCP, config).await;
    let (_socket, target) = closed_port("127.9.9.9");
    let mut requests = Vec::new();
    for nonce in 1..3 {
        let mut request = ask(
            &mut client,
            connection,
            std::slice::from_ref(&target),
            nonce,
        )
        .await;
        let data = dial_data_request(&mut request).await;
        pay(&mut request, data.num_bytes).await;
        requests.push(request);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // One random wait in some thousand is as short as this, and two of them never.
    assert!(server.dials.all().len() <= 1);
    assert!(server.load().await.requests >= 1);
}

/// How long it takes until the server answers, with its default deadlines, a client that is as slow as it may be and
/// names a target that is silent.
async fn answered_after(pays: bool) -> Duration {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let ip = if pays { "127.0.0.2" } else { "127.0.0.1" };
    let silent = std::net::TcpListener::bind((ip, 0)).expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let target: Multiaddr = format!("/ip4/{ip}/tcp/{port}").parse().expect("valid");

    let start = Instant::now();
    let stream = open_request(&mut client, connection).await;
    if pays {
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    let mut request = ask_on(stream, &[target], 1).await;
    if pays {
        let data = dial_data_request(&mut request).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        pay(&mut request, data.num_bytes).await;
    }
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    let elapsed = start.elapsed();
    let served = server.served().await;
    assert_eq!(served.dial_back, Some(DialBackOutcome::DialTimedOut));
    assert_eq!(server.dials.all().len(), 1);
    elapsed
}

/// What the clients of `libp2p-autonat` 0.16 wait for, less a second.
const IN_TIME: Duration = Duration::from_secs(9);

#[tokio::test]
async fn a_silent_target_is_answered_in_time() {
    let elapsed = answered_after(false).await;
    assert!(elapsed < IN_TIME, "{elapsed:?}");
}

#[tokio::test]
async fn a_silent_target_that_a_slow_client_paid_for_is_answered_in_time() {
    let elapsed = answered_after(true).await;
    assert!(elapsed < IN_TIME, "{elapsed:?}");
}
