//! A metrics endpoint, no more of HTTP than a scraper needs: `GET /metrics`, one request a connection.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
};

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_HEAD: usize = 8192;
const MAX_CONNECTIONS: usize = 16;

/// A scrape that waits for the text.
pub(crate) type Scrape = oneshot::Sender<String>;

/// Listens on `addr`. Each scrape comes out of the channel.
pub(crate) async fn serve(addr: SocketAddr) -> io::Result<(SocketAddr, mpsc::Receiver<Scrape>)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let (sender, receiver) = mpsc::channel(MAX_CONNECTIONS);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn(async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(DEADLINE, answer(stream, sender)).await;
                drop(place);
            });
        }
    });
    Ok((addr, receiver))
}

async fn answer(mut stream: TcpStream, sender: mpsc::Sender<Scrape>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < MAX_HEAD {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (status, kind, body) = match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/metrics")) => {
            let (reply, text) = oneshot::channel();
            let asked = sender.send(reply).await.is_ok();
            match text.await {
                Ok(text) if asked => (
                    "200 OK",
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    text,
                ),
                _ => ("503 Service Unavailable", "text/plain", String::new()),
            }
        }
        (Some(b"GET"), _) => ("404 Not Found", "text/plain", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "text/plain", String::new()),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}
