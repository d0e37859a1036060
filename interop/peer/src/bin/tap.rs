//! Speaks the protocol by hand and tells every message as bytes, in both roles: how `tests/captured` was made.
//!
//! As a client it sends one request about all addresses of `test`, and a second one if that was not read: with a varint for a
//! nonce, as nim-libp2p had it until 2.0.0. As a server it serves one request for the first address, brings the nonce as the
//! request had it, and asks for dial data if it is told to.

#[path = "../../../../tests/support/raw.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw;

use std::io;

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use interop_peer::{
    Failure, Options, Role, connect, emit, identify, listen, swarm, tell_connection,
};
use libp2p::{
    PeerId, Stream, StreamProtocol, Swarm, identify,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_autonat_v2::protocol::{DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialDataChunk};
use raw::{Raw, RawEvent};
use serde_json::json;
use tokio::sync::mpsc;

const NONCE: u64 = 0xfedc_ba98_7654_3210;
const DIAL_DATA: usize = 30_000;

#[derive(NetworkBehaviour)]
struct Tap {
    identify: identify::Behaviour,
    raw: Raw,
}

fn main() {
    interop_peer::main(async |options: Options| match options.role {
        Role::Client => client(options).await,
        Role::Server => server(options).await,
    });
}

// ---- messages, by hand ----

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&varint(body.len() as u64)[..], body].concat()
}

/// A field with a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn number(field: u8, value: u64) -> Vec<u8> {
    [&[field << 3][..], &varint(value)].concat()
}

/// A nonce as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nonce {
    Fixed64([u8; 8]),
    Varint(u64),
}

impl Nonce {
    fn field(self, field: u8) -> Vec<u8> {
        match self {
            Self::Fixed64(bytes) => [&[field << 3 | 1][..], &bytes].concat(),
            Self::Varint(number) => [&[field << 3][..], &varint(number)].concat(),
        }
    }
}

/// Writes a frame and tells it.
async fn write(stream: &mut Stream, name: &str, frame: &[u8]) -> io::Result<()> {
    tell("sent", name, frame);
    stream.write_all(frame).await?;
    stream.flush().await
}

/// Reads a frame and tells it. `None` at the end of the stream.
async fn read(stream: &mut Stream, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut frame = Vec::new();
    let mut len = 0;
    loop {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        len |= usize::from(byte[0] & 0x7f) << (7 * frame.len());
        frame.push(byte[0]);
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let start = frame.len();
    frame.resize(start + len, 0);
    stream.read_exact(&mut frame[start..]).await?;
    tell("received", name, &frame);
    Ok(Some(frame[start..].to_vec()))
}

fn tell(direction: &str, stream: &str, frame: &[u8]) {
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    emit(&json!({ "event": "frame", "direction": direction, "stream": stream, "hex": hex }));
}

fn end(result: io::Result<()>) {
    let error = result.err().map(|error| error.to_string());
    emit(&json!({ "event": "done", "error": error }));
}

// ---- client ----

async fn client(options: Options) -> Result<(), Failure> {
    let mut swarm = swarm(|key| Tap {
        identify: identify(key),
        raw: Raw::new(&[DIAL_BACK_PROTOCOL]),
    })?;
    listen(&mut swarm, &options.listen).await?;
    connect(&mut swarm, &options.servers)?;
    let mut nonce = Nonce::Fixed64(NONCE.to_le_bytes());
    let mut asked = None;
    let (tell_unread, mut unread) = mpsc::channel(1);
    loop {
        let event = tokio::select! {
            event = swarm.select_next_some() => event,
            Some(()) = unread.recv() => {
                emit(&json!({ "event": "unread" }));
                nonce = Nonce::Varint(NONCE);
                if let Some(connection) = asked {
                    swarm.behaviour_mut().raw.open(connection, DIAL_REQUEST_PROTOCOL);
                }
                continue;
            }
        };
        tell_connection(&event);
        match event {
            SwarmEvent::ConnectionEstablished {
                connection_id,
                endpoint,
                ..
            } if endpoint.is_dialer() && asked.is_none() => {
                asked = Some(connection_id);
                swarm
                    .behaviour_mut()
                    .raw
                    .open(connection_id, DIAL_REQUEST_PROTOCOL);
            }
            SwarmEvent::Behaviour(TapEvent::Raw(RawEvent::Opened { result, .. })) => {
                let stream = result.map_err(|error| format!("{error:?}"))?;
                let addrs: Vec<_> = options.test.iter().map(|a| field(1, &a.to_vec())).collect();
                let request = field(1, &[addrs.concat(), nonce.field(2)].concat());
                let tell_unread = tell_unread.clone();
                tokio::spawn(async move {
                    match ask(stream, &framed(&request)).await {
                        Ok(0) if matches!(nonce, Nonce::Fixed64(_)) => {
                            let _ = tell_unread.send(()).await;
                        }
                        Ok(0) => end(Err(io::Error::other("the request was not read"))),
                        done => end(done.map(drop)),
                    }
                });
            }
            SwarmEvent::Behaviour(TapEvent::Raw(RawEvent::Inbound { mut stream, .. })) => {
                tokio::spawn(async move {
                    if let Ok(Some(_)) = read(&mut stream, "dial-back").await {
                        // `DialBackResponse{OK}` is empty, but who has varints needs the zero.
                        let response = match nonce {
                            Nonce::Fixed64(_) => Vec::new(),
                            Nonce::Varint(_) => number(1, 0),
                        };
                        let _ = write(&mut stream, "dial-back", &framed(&response)).await;
                        let _ = stream.close().await;
                    }
                });
            }
            _ => {}
        }
    }
}

/// How many messages came back.
async fn ask(mut stream: Stream, request: &[u8]) -> io::Result<usize> {
    write(&mut stream, "dial-request", request).await?;
    let mut messages = 0;
    loop {
        let message = match read(&mut stream, "dial-request").await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            // To reset a stream is one way not to read it.
            Err(_) if messages == 0 => return Ok(0),
            Err(error) => return Err(error),
        };
        messages += 1;
        // Field 3 asks for dial data. 100,000 bytes are enough for whatever is asked.
        if message.first() == Some(&0x1a) {
            let mut due = data_due(&message);
            while due > 0 {
                let len = due.min(4096);
                let chunk = DialDataChunk::new(len).map_err(io::Error::other)?;
                write(&mut stream, "dial-request", chunk.as_bytes()).await?;
                due -= len;
            }
        }
    }
    stream.close().await?;
    Ok(messages)
}

/// `num_bytes`: the last number of the message.
fn data_due(message: &[u8]) -> usize {
    let Some(at) = message.iter().rposition(|byte| *byte == 0x10) else {
        return 100_000;
    };
    let digits = message.get(at + 1..).unwrap_or_default().iter().enumerate();
    digits.fold(0, |due, (i, byte)| {
        due | usize::from(byte & 0x7f) << (7 * i)
    })
}

// ---- server ----

async fn server(options: Options) -> Result<(), Failure> {
    let mut swarm = swarm(|key| Tap {
        identify: identify(key),
        raw: Raw::new(&[DIAL_REQUEST_PROTOCOL]),
    })?;
    listen(&mut swarm, &options.listen).await?;
    let (peer, mut request) = loop {
        let event = swarm.select_next_some().await;
        tell_connection(&event);
        if let SwarmEvent::Behaviour(TapEvent::Raw(RawEvent::Inbound { peer, stream, .. })) = event
        {
            break (peer, stream);
        }
    };
    // The swarm has to run while the stream is read.
    let task = tokio::spawn(async move {
        let message = read(&mut request, "dial-request").await?;
        if options.ask_for_data {
            let ask = [number(1, 0), number(2, DIAL_DATA as u64)].concat();
            write(&mut request, "dial-request", &framed(&field(3, &ask))).await?;
            let mut received = 0;
            while received < DIAL_DATA {
                match read(&mut request, "dial-request").await? {
                    // Two tags and two lengths of two bytes each.
                    Some(message) => received += message.len().saturating_sub(6),
                    None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                }
            }
        }
        Ok((message.unwrap_or_default(), request))
    });
    let (message, mut request): (Vec<u8>, Stream) = drive(&mut swarm, task).await??;
    let (addr, their_nonce) = parse(&message).ok_or("not a request")?;
    let opts = DialOpts::peer_id(peer)
        .addresses(vec![addr])
        .condition(libp2p::swarm::dial_opts::PeerCondition::Always)
        .allocate_new_port()
        .build();
    let dialed = opts.connection_id();
    swarm.dial(opts)?;
    let mut dial_back = open(&mut swarm, dialed, peer, DIAL_BACK_PROTOCOL).await?;
    let task = tokio::spawn(async move {
        let nonce = framed(&their_nonce.field(1));
        write(&mut dial_back, "dial-back", &nonce).await?;
        let answer = read(&mut dial_back, "dial-back").await;
        if let Err(error) = answer {
            emit(&json!({ "event": "unanswered", "error": error.to_string() }));
        }
        // `OK`, index 0, `OK`.
        let response = field(2, &[number(1, 200), number(3, 200)].concat());
        write(&mut request, "dial-request", &framed(&response)).await?;
        request.close().await
    });
    let ended = drive(&mut swarm, task).await?;
    end(ended);
    loop {
        swarm.select_next_some().await;
    }
}

async fn drive<T>(
    swarm: &mut Swarm<Tap>,
    mut task: tokio::task::JoinHandle<T>,
) -> Result<T, Failure> {
    loop {
        tokio::select! {
            done = &mut task => return Ok(done?),
            event = swarm.select_next_some() => tell_connection(&event),
        }
    }
}

async fn open(
    swarm: &mut Swarm<Tap>,
    connection: ConnectionId,
    peer: PeerId,
    protocol: StreamProtocol,
) -> Result<Stream, Failure> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { connection_id, .. }
                if connection_id == connection =>
            {
                swarm
                    .behaviour_mut()
                    .raw
                    .open(connection_id, protocol.clone());
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => {
                return Err(format!("can't dial {peer}: {error}").into());
            }
            SwarmEvent::Behaviour(TapEvent::Raw(RawEvent::Opened { result, .. })) => {
                return result.map_err(|error| format!("{error:?}").into());
            }
            _ => {}
        }
    }
}

/// The first address and the nonce of a request.
fn parse(message: &[u8]) -> Option<(libp2p::Multiaddr, Nonce)> {
    let mut request = message.strip_prefix(&[0x0a])?;
    take_varint(&mut request)?;
    let (mut addr, mut nonce) = (None, None);
    while let Some((tag, rest)) = request.split_first() {
        request = rest;
        match tag {
            0x0a => {
                let len = usize::try_from(take_varint(&mut request)?).ok()?;
                let (value, rest) = request.split_at_checked(len)?;
                request = rest;
                if addr.is_none() {
                    addr = Some(value.to_vec().try_into().ok()?);
                }
            }
            0x10 => nonce = Some(Nonce::Varint(take_varint(&mut request)?)),
            0x11 => {
                let (value, rest) = request.split_first_chunk()?;
                request = rest;
                nonce = Some(Nonce::Fixed64(*value));
            }
            _ => return None,
        }
    }
    Some((addr?, nonce?))
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
