//! Messages to bytes and back, for [`asynchronous_codec`].
//!
//! The only file besides the generated code that knows quick-protobuf, so that the library can be
//! exchanged. It writes every message but dial data, and reads those of a fixed size. Three are read
//! by hand: `DialDataResponse` so that nothing is copied, `DialRequest` so that addresses behind the
//! limit are counted and cost nothing, and with it `DialBack`, since a nonce comes in two ways. Each message is walked by [`Fields`] before
//! quick-protobuf sees it; that module says why.
//!
//! A decoder takes a message off the buffer when all of it has arrived, be it good or bad, and
//! never makes the buffer larger. Must never trust a length before it is checked.

use std::borrow::Cow;

use asynchronous_codec::{BytesMut, Decoder, Encoder};
use bytes::{Buf, BufMut};
use libp2p_core::Multiaddr;
use quick_protobuf::{BytesReader, MessageRead, MessageWrite, Writer, WriterBackend};

use super::{
    MAX_ADDRESS_LEN, MAX_ADDRESSES, MAX_DIAL_BACK_LEN, MAX_DIAL_DATA_CHUNK, MAX_MESSAGE_LEN,
    dial_data,
    error::{DecodeError, EncodeError, Malformed},
    fields::{Field, Fields, Value},
    generated::{self as pb, mod_Message::OneOfmsg, mod_VarintMessage},
    message::{
        DialBack, DialBackResponse, DialBackStatus, DialDataRequest, DialRequest, DialResponse,
        DialStatus, Message, Nonce, NonceEncoding, ResponseStatus,
    },
};

/// What a [`MessageCodec`] puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    max_message_len: usize,
    max_addresses: usize,
}

impl Default for Limits {
    /// [`MAX_MESSAGE_LEN`] and [`MAX_ADDRESSES`].
    fn default() -> Self {
        Self {
            max_message_len: MAX_MESSAGE_LEN,
            max_addresses: MAX_ADDRESSES,
        }
    }
}

impl Limits {
    /// The longest message that is read or written, in bytes without its length prefix.
    ///
    /// Default: [`MAX_MESSAGE_LEN`]. This is what a remote can make a stream's buffer hold, and one
    /// read of the stream more. Under 4,102 a full [`DialDataChunk`](super::DialDataChunk) of
    /// another peer is refused.
    #[must_use]
    pub const fn with_max_message_len(mut self, bytes: usize) -> Self {
        self.max_message_len = bytes;
        self
    }

    pub(crate) const fn max_message_len(self) -> u64 {
        self.max_message_len as u64
    }

    /// How many addresses of a [`DialRequest`] are parsed. The others are counted.
    ///
    /// Default: [`MAX_ADDRESSES`]. Each costs a parse and an allocation.
    #[must_use]
    pub const fn with_max_addresses(mut self, addresses: usize) -> Self {
        self.max_addresses = addresses;
        self
    }
}

/// Reads and writes the messages of a stream of
/// [`DIAL_REQUEST_PROTOCOL`](super::DIAL_REQUEST_PROTOCOL), for both roles.
///
/// It does not check that a message makes sense at its place in the exchange.
///
/// ```
/// use asynchronous_codec::Framed;
/// use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
/// use libp2p_autonat_v2::protocol::{
///     DialRequest, Limits, Message, MessageCodec, write_dial_data,
/// };
///
/// async fn ask<S>(stream: S, request: DialRequest) -> Result<Message, Box<dyn std::error::Error>>
/// where
///     S: AsyncRead + AsyncWrite + Unpin,
/// {
///     let mut stream = Framed::new(stream, MessageCodec::new(Limits::default()));
///     stream.send(Message::DialRequest(request)).await?;
///     loop {
///         match stream.next().await.ok_or("the server says nothing")?? {
///             Message::DialDataRequest(data) if data.num_bytes <= 100_000 => {
///                 write_dial_data(&mut *stream, data.num_bytes).await?;
///             }
///             message => return Ok(message),
///         }
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageCodec {
    limits: Limits,
    bytes_read: u64,
}

impl MessageCodec {
    /// A codec with these limits.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            bytes_read: 0,
        }
    }

    /// The bytes of all messages read so far, good or bad, with their length prefixes and with what a message has
    /// besides its content: unknown fields, repeated ones.
    pub(crate) const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

impl Decoder for MessageCodec {
    type Item = Message;
    type Error = DecodeError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
        let limits = self.limits;
        let buffered = src.len();
        let message = take_frame(
            src,
            limits.max_message_len,
            |bytes| match dial_data::read_header(bytes) {
                Some(len) => Ok(Message::DialDataResponse { len }),
                None => read_message(bytes, limits.max_addresses),
            },
        );
        self.bytes_read += (buffered - src.len()) as u64;
        message
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Message>, DecodeError> {
        let message = self.decode(src)?;
        end_of_stream(message, src)
    }
}

impl Encoder for MessageCodec {
    type Item<'a> = Message;
    type Error = EncodeError;

    fn encode(&mut self, message: Message, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let max = self.limits.max_message_len;
        let variant = match &message {
            Message::DialRequest(request) => {
                return append_frame(&request.to_pb(), max, dst);
            }
            Message::DialResponse(response) => {
                OneOfmsg::dialResponse(write_dial_response(response))
            }
            Message::DialDataRequest(request) => OneOfmsg::dialDataRequest(pb::DialDataRequest {
                addrIdx: Some(request.addr_idx),
                numBytes: unless_zero(request.num_bytes),
            }),
            Message::DialDataResponse { len } => {
                return append_dial_data(*len, max, dst);
            }
        };
        append_frame(&pb::Message { msg: variant }, max, dst)
    }
}

/// Writes a [`DialBack`] and reads the [`DialBackResponse`]: for the server, which has dialed.
///
/// ```
/// use asynchronous_codec::Framed;
/// use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
/// use libp2p_autonat_v2::protocol::{DialBack, DialBackServerCodec};
///
/// async fn deliver<S>(stream: S, nonce: u64) -> Result<(), Box<dyn std::error::Error>>
/// where
///     S: AsyncRead + AsyncWrite + Unpin,
/// {
///     let mut stream = Framed::new(stream, DialBackServerCodec::new());
///     stream.send(DialBack { nonce }).await?;
///     stream.next().await.ok_or("closed without an answer")??;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DialBackServerCodec {
    nonce_encoding: NonceEncoding,
}

impl DialBackServerCodec {
    /// A codec with the limit [`MAX_DIAL_BACK_LEN`].
    pub const fn new() -> Self {
        Self {
            nonce_encoding: NonceEncoding::Fixed64,
        }
    }

    /// Writes the nonce like this: as the request had it ([`DialRequest::nonce_encoding`]). Default: as the specification
    /// has it.
    #[must_use]
    pub const fn with_nonce_encoding(mut self, encoding: NonceEncoding) -> Self {
        self.nonce_encoding = encoding;
        self
    }
}

impl Encoder for DialBackServerCodec {
    type Item<'a> = DialBack;
    type Error = EncodeError;

    fn encode(&mut self, message: DialBack, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let nonce = unless_zero(message.nonce);
        match self.nonce_encoding {
            NonceEncoding::Fixed64 => append_frame(&pb::DialBack { nonce }, MAX_DIAL_BACK_LEN, dst),
            NonceEncoding::Varint => {
                append_frame(&pb::VarintDialBack { nonce }, MAX_DIAL_BACK_LEN, dst)
            }
        }
    }
}

impl Decoder for DialBackServerCodec {
    type Item = DialBackResponse;
    type Error = DecodeError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<DialBackResponse>, DecodeError> {
        take_frame(src, MAX_DIAL_BACK_LEN, |bytes| {
            let pb::DialBackResponse { status } = read_checked(check(bytes)?)?;
            let status = status.unwrap_or_default();
            let status = DialBackStatus::from_code(status)
                .ok_or(DecodeError::UnknownDialBackStatus(status))?;
            Ok(DialBackResponse { status })
        })
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<DialBackResponse>, DecodeError> {
        let message = self.decode(src)?;
        end_of_stream(message, src)
    }
}

/// Reads a [`DialBack`] and writes the [`DialBackResponse`]: for the client, which was dialed.
///
/// ```
/// use asynchronous_codec::Framed;
/// use futures::{AsyncRead, AsyncWrite, SinkExt, StreamExt};
/// use libp2p_autonat_v2::protocol::{DialBackClientCodec, DialBackResponse};
///
/// async fn accept<S>(stream: S, expected: u64) -> Result<(), Box<dyn std::error::Error>>
/// where
///     S: AsyncRead + AsyncWrite + Unpin,
/// {
///     let mut stream = Framed::new(stream, DialBackClientCodec::new());
///     let dial_back = stream.next().await.ok_or("closed without a nonce")??;
///     if dial_back.nonce != expected {
///         return Err("not our nonce".into());
///     }
///     stream.send(DialBackResponse::default()).await?;
///     stream.close().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DialBackClientCodec {
    nonce_encoding: NonceEncoding,
}

impl DialBackClientCodec {
    /// A codec with the limit [`MAX_DIAL_BACK_LEN`].
    pub const fn new() -> Self {
        Self {
            nonce_encoding: NonceEncoding::Fixed64,
        }
    }

    /// How the last nonce that was read was written.
    pub const fn nonce_encoding(&self) -> NonceEncoding {
        self.nonce_encoding
    }
}

impl Encoder for DialBackClientCodec {
    type Item<'a> = DialBackResponse;
    type Error = EncodeError;

    fn encode(&mut self, message: DialBackResponse, dst: &mut BytesMut) -> Result<(), EncodeError> {
        let status = Some(message.status.code());
        append_frame(&pb::DialBackResponse { status }, MAX_DIAL_BACK_LEN, dst)
    }
}

impl Decoder for DialBackClientCodec {
    type Item = DialBack;
    type Error = DecodeError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<DialBack>, DecodeError> {
        take_frame(src, MAX_DIAL_BACK_LEN, |bytes| {
            let nonce = read_dial_back(bytes)?;
            self.nonce_encoding = nonce.encoding;
            Ok(DialBack {
                nonce: nonce.number,
            })
        })
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<DialBack>, DecodeError> {
        let message = self.decode(src)?;
        end_of_stream(message, src)
    }
}

impl DialRequest {
    /// The length of the message that carries this request, in bytes without its length prefix,
    /// which is what the limits of all peers count. At most
    /// [`MAX_PORTABLE_REQUEST_LEN`](super::MAX_PORTABLE_REQUEST_LEN) can be sent to every one.
    pub fn encoded_len(&self) -> usize {
        self.to_pb().get_size()
    }

    fn to_pb(&self) -> PbRequest<'_> {
        let mut unparsed = self.unparsed.iter();
        let addrs = self.addrs.iter().map(|addr| match addr {
            Some(addr) => Cow::Borrowed(addr.as_ref()),
            // An empty address does not parse either.
            None => Cow::Borrowed(unparsed.next().map_or(&[][..], |bytes| bytes)),
        });
        let (addrs, nonce) = (addrs.collect(), self.has_nonce().then_some(self.nonce));
        match self.nonce_encoding {
            NonceEncoding::Fixed64 => PbRequest::Fixed64(pb::Message {
                msg: OneOfmsg::dialRequest(pb::DialRequest { addrs, nonce }),
            }),
            NonceEncoding::Varint => PbRequest::Varint(pb::VarintMessage {
                msg: mod_VarintMessage::OneOfmsg::dialRequest(pb::VarintDialRequest {
                    addrs,
                    nonce,
                }),
            }),
        }
    }
}

/// A message that carries a request, by the encoding of its nonce.
enum PbRequest<'a> {
    Fixed64(pb::Message<'a>),
    Varint(pb::VarintMessage<'a>),
}

impl MessageWrite for PbRequest<'_> {
    fn get_size(&self) -> usize {
        match self {
            Self::Fixed64(message) => message.get_size(),
            Self::Varint(message) => message.get_size(),
        }
    }

    fn write_message<W: WriterBackend>(
        &self,
        writer: &mut Writer<W>,
    ) -> quick_protobuf::Result<()> {
        match self {
            Self::Fixed64(message) => message.write_message(writer),
            Self::Varint(message) => message.write_message(writer),
        }
    }
}

/// Where an address was dialed, zeros are written out: nim-libp2p takes an index that is left out for none.
fn write_dial_response(response: &DialResponse) -> pb::DialResponse {
    let (status, addr_idx, dial_status) = (
        response.status.code(),
        response.addr_idx,
        response.dial_status.code(),
    );
    let dialed = response.status == ResponseStatus::Ok;
    pb::DialResponse {
        status: unless_zero(status),
        addrIdx: unless_zero(addr_idx).or(dialed.then_some(0)),
        dialStatus: unless_zero(dial_status).or(dialed.then_some(0)),
    }
}

/// proto3 leaves out what is zero.
fn unless_zero<T: Default + PartialEq>(number: T) -> Option<T> {
    (number != T::default()).then_some(number)
}

/// Takes the next message off the buffer and reads it, if all of it is there.
fn take_frame<T>(
    src: &mut BytesMut,
    max: usize,
    read: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    use unsigned_varint::decode;

    let (len, behind_prefix) = match decode::u64(src) {
        Ok(prefix) => prefix,
        Err(decode::Error::Insufficient) => return Ok(None),
        Err(_) => return Err(DecodeError::MalformedLength),
    };
    let len = usize::try_from(len)
        .ok()
        .filter(|len| *len <= max)
        .ok_or(DecodeError::LengthOverLimit { len, max })?;
    let Some(message) = behind_prefix.get(..len) else {
        return Ok(None);
    };

    let result = read(message);
    let frame_len = src.len() - behind_prefix.len() + len;
    src.advance(frame_len);
    result.map(Some)
}

fn end_of_stream<T>(message: Option<T>, src: &BytesMut) -> Result<Option<T>, DecodeError> {
    if message.is_none() && !src.is_empty() {
        return Err(DecodeError::Truncated);
    }
    Ok(message)
}

/// Reads a message field by field.
fn read_message(bytes: &[u8], max_addresses: usize) -> Result<Message, DecodeError> {
    let mut variant = None;
    for field in Fields::of(bytes) {
        let Field { number, value } = field?;
        if let (1..=4, Value::Bytes(bytes)) = (number, value) {
            variant = Some((number, check(bytes)?));
        }
    }
    match variant {
        Some((1, request)) => Ok(Message::DialRequest(read_dial_request(
            request,
            max_addresses,
        )?)),
        Some((2, response)) => Ok(Message::DialResponse(read_dial_response(response)?)),
        Some((3, request)) => {
            let pb::DialDataRequest { addrIdx, numBytes } = read_checked(request)?;
            Ok(Message::DialDataRequest(DialDataRequest {
                addr_idx: addrIdx.unwrap_or_default(),
                num_bytes: numBytes.unwrap_or_default(),
            }))
        }
        Some((_, response)) => {
            let data = Fields::of(response).filter_map(|field| {
                let Field { number, value } = field.ok()?;
                dial_data::data_len(number, value)
            });
            let len = data.last().unwrap_or(0);
            Ok(Message::DialDataResponse { len })
        }
        None => Err(DecodeError::EmptyMessage),
    }
}

fn read_dial_request(bytes: &[u8], max_addresses: usize) -> Result<DialRequest, Malformed> {
    let mut request = DialRequest {
        without_nonce: true,
        ..DialRequest::default()
    };
    for field in Fields::of(bytes) {
        let Field { number, value } = field?;
        match (number, value) {
            (1, Value::Bytes(_)) if request.addrs.len() >= max_addresses => request.unread += 1,
            (1, Value::Bytes(bytes)) => {
                let addr = parse_address(bytes);
                if addr.is_none() {
                    request.unparsed.push(bytes.into());
                }
                request.addrs.push(addr);
            }
            (2, value) => {
                if let Some(nonce) = read_nonce(value) {
                    request.without_nonce = false;
                    request.nonce = nonce.number;
                    request.nonce_encoding = nonce.encoding;
                }
            }
            _ => {}
        }
    }
    Ok(request)
}

fn read_dial_back(bytes: &[u8]) -> Result<Nonce, Malformed> {
    let mut nonce = Nonce::default();
    for field in Fields::of(bytes) {
        if let Field { number: 1, value } = field? {
            nonce = read_nonce(value).unwrap_or(nonce);
        }
    }
    Ok(nonce)
}

/// A field that should be a nonce, if it can be one.
const fn read_nonce(value: Value<'_>) -> Option<Nonce> {
    match value {
        Value::Fixed64(bytes) => Some(Nonce {
            number: u64::from_le_bytes(bytes),
            encoding: NonceEncoding::Fixed64,
        }),
        Value::Varint(number) => Some(Nonce {
            number,
            encoding: NonceEncoding::Varint,
        }),
        Value::Bytes(_) | Value::Fixed32 => None,
    }
}

/// An empty address is none, as in go-libp2p, though it has a `Multiaddr`.
fn parse_address(bytes: &[u8]) -> Option<Multiaddr> {
    if bytes.is_empty() || bytes.len() > MAX_ADDRESS_LEN {
        return None;
    }
    Multiaddr::try_from(bytes.to_vec()).ok()
}

fn read_dial_response(bytes: &[u8]) -> Result<DialResponse, DecodeError> {
    let pb::DialResponse {
        status,
        addrIdx,
        dialStatus,
    } = read_checked(bytes)?;
    let (status, dial_status) = (status.unwrap_or_default(), dialStatus.unwrap_or_default());
    Ok(DialResponse {
        status: ResponseStatus::from_code(status)
            .ok_or(DecodeError::UnknownResponseStatus(status))?,
        addr_idx: addrIdx.unwrap_or_default(),
        dial_status: DialStatus::from_code(dial_status)
            .ok_or(DecodeError::UnknownDialStatus(dial_status))?,
    })
}

/// Walks over a message, so that [`read_checked`] may read it.
fn check(bytes: &[u8]) -> Result<&[u8], Malformed> {
    for field in Fields::of(bytes) {
        field?;
    }
    Ok(bytes)
}

/// Reads a message by quick-protobuf. It must have passed [`check`] and have no nested messages.
fn read_checked<'a, M: MessageRead<'a>>(bytes: &'a [u8]) -> Result<M, Malformed> {
    let mut reader = BytesReader::from_bytes(bytes);
    // `check` has found every fault that there is to find, so this names them only roughly.
    M::from_reader(&mut reader, bytes).map_err(|error| match error {
        quick_protobuf::Error::Varint => Malformed::Varint,
        _ => Malformed::Overrun,
    })
}

fn append_frame(
    message: &impl MessageWrite,
    max: usize,
    dst: &mut BytesMut,
) -> Result<(), EncodeError> {
    check_len(message.get_size(), max)?;
    Writer::new(dst.writer())
        .write_message(message)
        .map_err(|error| EncodeError::Io(error.into()))
}

fn append_dial_data(len: usize, max: usize, dst: &mut BytesMut) -> Result<(), EncodeError> {
    if len > MAX_DIAL_DATA_CHUNK {
        return Err(EncodeError::DialDataOverLimit {
            len,
            max: MAX_DIAL_DATA_CHUNK,
        });
    }
    check_len(dial_data::message_len(len), max)?;
    dial_data::write_frame(len, dst);
    Ok(())
}

const fn check_len(len: usize, max: usize) -> Result<(), EncodeError> {
    if len > max {
        return Err(EncodeError::LengthOverLimit { len, max });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
