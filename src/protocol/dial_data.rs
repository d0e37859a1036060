//! What a client pays before a server dials an address that is not evidently its own
//! (specification, "Amplification Attack Prevention").
//!
//! The bytes mean nothing. So one message of zeros is made and written again and again, and on the
//! way in only the two headers are looked at. Both are done by hand here: a protobuf library would
//! hand the bytes around. Nothing here decides whether to pay, or how much to ask for.

use std::{
    cmp, future, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use asynchronous_codec::{Bytes, BytesMut};
use futures::io::AsyncWrite;

use super::{
    MAX_DIAL_DATA_CHUNK,
    error::EncodeError,
    fields::{Value, varint},
};

/// `Message.dialDataResponse`: field 4, with a length.
const RESPONSE_TAG: u8 = 0x22;

/// `DialDataResponse.data`: field 1, with a length.
const DATA_TAG: u8 = 0x0a;

/// A `DialDataResponse` as it stands on the wire, length prefix included.
///
/// Clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialDataChunk {
    frame: Bytes,
    len: usize,
}

impl DialDataChunk {
    /// A message with `len` bytes of dial data.
    ///
    /// go-libp2p gives up on messages of under 100 bytes, other than the last.
    ///
    /// # Errors
    ///
    /// [`EncodeError::DialDataOverLimit`] if `len` is over [`MAX_DIAL_DATA_CHUNK`].
    pub fn new(len: usize) -> Result<Self, EncodeError> {
        if len > MAX_DIAL_DATA_CHUNK {
            return Err(EncodeError::DialDataOverLimit {
                len,
                max: MAX_DIAL_DATA_CHUNK,
            });
        }
        Ok(Self::of(len))
    }

    fn of(len: usize) -> Self {
        let mut frame = BytesMut::with_capacity(with_header(with_header(with_header(len))));
        write_frame(len, &mut frame);
        Self {
            frame: frame.freeze(),
            len,
        }
    }

    /// The message as it is written to a stream.
    pub fn as_bytes(&self) -> &[u8] {
        &self.frame
    }

    /// How many bytes of dial data it pays, at most [`MAX_DIAL_DATA_CHUNK`]. Headers do not count.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it pays nothing.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The messages that pay a given number of bytes, no more and no fewer.
///
/// They have [`MAX_DIAL_DATA_CHUNK`] bytes of dial data each, the last one the rest. All but the
/// last are the same one, made once.
#[derive(Debug, Clone)]
pub struct DialData {
    chunk: DialDataChunk,
    unpaid: u64,
}

impl DialData {
    /// The messages for `num_bytes` bytes of dial data. None for 0.
    ///
    /// Takes any number: whether it is between [`MIN_DIAL_DATA`](super::MIN_DIAL_DATA) and
    /// [`MAX_DIAL_DATA`](super::MAX_DIAL_DATA) is for the caller to check before paying.
    pub fn new(num_bytes: u64) -> Self {
        Self {
            chunk: DialDataChunk::of(at_most_a_chunk(num_bytes)),
            unpaid: num_bytes,
        }
    }

    /// How many bytes are still to be paid.
    pub const fn unpaid(&self) -> u64 {
        self.unpaid
    }
}

impl Iterator for DialData {
    type Item = DialDataChunk;

    fn next(&mut self) -> Option<Self::Item> {
        let len = at_most_a_chunk(self.unpaid);
        if len == 0 {
            return None;
        }
        if len < self.chunk.len {
            self.chunk = DialDataChunk::of(len);
        }
        self.unpaid -= len as u64;
        Some(self.chunk.clone())
    }
}

/// Messages that are written in one go. A yamux frame holds four, and each write makes a frame.
const MESSAGES_AT_ONCE: usize = 4;

/// Pays a given number of bytes into a stream, in the messages that [`DialData`] has.
///
/// The same message stands in a row a few times, so that one write takes several.
#[derive(Debug)]
pub struct DialDataWriter {
    row: Vec<u8>,
    /// Bytes of one message of the row.
    period: usize,
    /// Bytes of full messages still to be written, and where in the row they go on.
    unsent: u64,
    at: usize,
    last: Option<DialDataChunk>,
}

impl DialDataWriter {
    /// A writer of `num_bytes` bytes of dial data; any number, as for [`DialData::new`].
    pub fn new(num_bytes: u64) -> Self {
        let full = num_bytes / MAX_DIAL_DATA_CHUNK as u64;
        let rest = at_most_a_chunk(num_bytes % MAX_DIAL_DATA_CHUNK as u64);
        let mut writer = Self {
            row: Vec::new(),
            period: 0,
            unsent: 0,
            at: 0,
            last: (rest > 0).then(|| DialDataChunk::of(rest)),
        };
        if full > 0 {
            let chunk = DialDataChunk::of(MAX_DIAL_DATA_CHUNK);
            let in_a_row = usize::try_from(full)
                .map_or(MESSAGES_AT_ONCE, |full| cmp::min(full, MESSAGES_AT_ONCE));
            writer.row = chunk.as_bytes().repeat(in_a_row);
            writer.period = chunk.as_bytes().len();
            writer.unsent = full.saturating_mul(writer.period as u64);
        }
        writer
    }

    /// Writes what the stream takes, and flushes it when all is written.
    ///
    /// # Errors
    ///
    /// Those of the stream. How much the remote has read by then is unknown.
    pub fn poll_write_to<W>(&mut self, stream: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        W: AsyncWrite + Unpin,
    {
        loop {
            let next = self.next_bytes();
            if next.is_empty() {
                return Pin::new(stream).poll_flush(cx);
            }
            match ready!(Pin::new(&mut *stream).poll_write(cx, next))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
    }

    fn next_bytes(&self) -> &[u8] {
        if self.unsent > 0 {
            let left = usize::try_from(self.unsent).unwrap_or(usize::MAX);
            let row = self.row.get(self.at..).unwrap_or_default();
            return row.get(..left).unwrap_or(row);
        }
        match &self.last {
            Some(last) => last.as_bytes().get(self.at..).unwrap_or_default(),
            None => &[],
        }
    }

    fn advance(&mut self, written: usize) {
        self.at += written;
        if self.unsent == 0 {
            return;
        }
        self.unsent = self.unsent.saturating_sub(written as u64);
        self.at %= self.period;
    }
}

/// Writes `num_bytes` bytes of dial data to a stream and flushes it.
///
/// Takes any number, like [`DialData::new`], and has no deadline of its own. Of a
/// [`Framed`](asynchronous_codec::Framed), pass the stream inside, with nothing left to flush.
///
/// # Errors
///
/// Those of the stream. How much the remote has read by then is unknown.
pub async fn write_dial_data<W>(stream: &mut W, num_bytes: u64) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut writer = DialDataWriter::new(num_bytes);
    future::poll_fn(|cx| writer.poll_write_to(stream, cx)).await
}

fn at_most_a_chunk(num_bytes: u64) -> usize {
    usize::try_from(num_bytes).map_or(MAX_DIAL_DATA_CHUNK, |len| {
        cmp::min(len, MAX_DIAL_DATA_CHUNK)
    })
}

/// The length of a message with `len` bytes of dial data, without its length prefix.
pub(super) fn message_len(len: usize) -> usize {
    with_header(data_field_len(len))
}

/// Appends a message with `len` bytes of dial data, length prefix included.
pub(super) fn write_frame(len: usize, dst: &mut BytesMut) {
    write_varint(message_len(len), dst);
    dst.extend_from_slice(&[RESPONSE_TAG]);
    write_varint(data_field_len(len), dst);
    if len > 0 {
        dst.extend_from_slice(&[DATA_TAG]);
        write_varint(len, dst);
        dst.resize(dst.len() + len, 0);
    }
}

/// The bytes of dial data in a message that is nothing but dial data, as every one from a real
/// peer is. `None` says nothing: the message has to be read field by field.
pub(super) fn read_header(message: &[u8]) -> Option<usize> {
    let response = behind_header(message, RESPONSE_TAG)?;
    let data = behind_header(response, DATA_TAG)?;
    Some(data.len())
}

/// The bytes of dial data in the `DialDataResponse` whose field this is.
pub(super) const fn data_len(number: u32, value: Value<'_>) -> Option<usize> {
    match (number, value) {
        (1, Value::Bytes(data)) => Some(data.len()),
        _ => None,
    }
}

/// What follows a tag and a length, if that is all that follows.
fn behind_header(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let (len, rest) = varint(bytes.strip_prefix(&[tag])?).ok()?;
    (len == rest.len() as u64).then_some(rest)
}

/// proto3 leaves empty bytes off the wire.
fn data_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { with_header(len) }
}

/// The length of a field of `len` bytes, with its tag and its length.
fn with_header(len: usize) -> usize {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    1 + unsigned_varint::encode::usize(len, &mut buffer).len() + len
}

fn write_varint(number: usize, dst: &mut BytesMut) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    dst.extend_from_slice(unsigned_varint::encode::usize(number, &mut buffer));
}
