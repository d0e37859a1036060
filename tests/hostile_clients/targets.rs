//! What the dial meets at the other end.

use super::*;

#[tokio::test]
async fn a_target_that_accepts_and_never_speaks() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let silent = std::net::TcpListener::bind((ATTACKER, 0)).expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let addr = format!("/ip4/20.66.0.1/tcp/{port}").parse().expect("valid");
    let mut request = ask(&mut attacker, connection, &[addr], 1).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::DialTimedOut)
    );
    assert_eq!(server.dials.all().len(), 1);
    server.serves_an_honest_client().await;
    drop(silent);
    server.is_idle().await;
}

#[tokio::test]
async fn a_target_that_answers_with_garbage() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let target = tokio::net::TcpListener::bind((ATTACKER, 0))
        .await
        .expect("a free port");
    let port = target.local_addr().expect("bound").port();
    let babble = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _) = target.accept().await.expect("the server dials");
        let _ = stream.write_all(&[0x17; 4096]).await;
    });
    let addr = format!("/ip4/20.66.0.1/tcp/{port}").parse().expect("valid");
    let mut request = ask(&mut attacker, connection, &[addr], 1).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    assert!(matches!(
        server.served().await.dial_back,
        Some(DialBackOutcome::DialFailed(_))
    ));
    assert_eq!(server.dials.all().len(), 1);
    babble.await.expect("runs");
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn a_client_that_takes_the_nonce_and_never_answers() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let addr = attacker.listen(&format!("/ip4/{ATTACKER}/tcp/0")).await;
    let mut request = ask(&mut attacker, connection, &[public(&addr)], 1).await;
    let (_, dial_back, _stream) = attacker.accept().await;
    assert_eq!(
        answer(&mut request).await,
        dialed(0, DialStatus::DialBackError)
    );
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::NotDelivered(NotDelivered::TimedOut))
    );
    attacker.closed_promptly(dial_back).await;
    assert_eq!(server.dials.all().len(), 1);
    server.is_idle().await;
    server.serves_an_honest_client().await;
}

#[tokio::test]
async fn a_client_that_answers_the_nonce_with_garbage() {
    let (mut server, mut attacker, connection) = attacked(impatient()).await;
    let addr = attacker.listen(&format!("/ip4/{ATTACKER}/tcp/0")).await;
    for (garbage, dials) in [&[0xff; 64][..], &[2, 0x08, 0x07], &[3, 1, 2, 3]]
        .into_iter()
        .zip(1..)
    {
        let mut request = ask(&mut attacker, connection, &[public(&addr)], 1).await;
        let (_, dial_back, stream) = attacker.accept().await;
        let mut framed = Framed::new(stream, DialBackClientCodec::new());
        within(PATIENCE, "the nonce", framed.next())
            .await
            .expect("a message")
            .expect("a nonce");
        let _ = send(&mut framed, garbage).await;
        assert_eq!(
            answer(&mut request).await,
            dialed(0, DialStatus::DialBackError)
        );
        assert_eq!(
            server.served().await.dial_back,
            Some(DialBackOutcome::NotDelivered(NotDelivered::WrongAnswer))
        );
        attacker.closed_promptly(dial_back).await;
        assert_eq!(server.dials.all().len(), dials);
    }
    server.is_idle().await;
    server.serves_an_honest_client().await;
}
