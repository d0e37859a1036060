// Automatically generated rust module for 'autonat_v2.proto' file

#![allow(non_snake_case)]
#![allow(non_upper_case_globals)]
#![allow(non_camel_case_types)]
#![allow(unused_imports)]
#![allow(unknown_lints)]
#![allow(clippy::all)]
#![cfg_attr(rustfmt, rustfmt_skip)]


use std::borrow::Cow;
use quick_protobuf::{MessageInfo, MessageRead, MessageWrite, BytesReader, Writer, WriterBackend, Result};
use quick_protobuf::sizeofs::*;
use super::*;

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct Message<'a> {
    pub msg: mod_Message::OneOfmsg<'a>,
}

impl<'a> MessageRead<'a> for Message<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.msg = mod_Message::OneOfmsg::dialRequest(r.read_message::<DialRequest>(bytes)?),
                Ok(18) => msg.msg = mod_Message::OneOfmsg::dialResponse(r.read_message::<DialResponse>(bytes)?),
                Ok(26) => msg.msg = mod_Message::OneOfmsg::dialDataRequest(r.read_message::<DialDataRequest>(bytes)?),
                Ok(34) => msg.msg = mod_Message::OneOfmsg::dialDataResponse(r.read_message::<DialDataResponse>(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for Message<'a> {
    fn get_size(&self) -> usize {
        0
        + match self.msg {
            mod_Message::OneOfmsg::dialRequest(ref m) => 1 + sizeof_len((m).get_size()),
            mod_Message::OneOfmsg::dialResponse(ref m) => 1 + sizeof_len((m).get_size()),
            mod_Message::OneOfmsg::dialDataRequest(ref m) => 1 + sizeof_len((m).get_size()),
            mod_Message::OneOfmsg::dialDataResponse(ref m) => 1 + sizeof_len((m).get_size()),
            mod_Message::OneOfmsg::None => 0,
    }    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        match self.msg {            mod_Message::OneOfmsg::dialRequest(ref m) => { w.write_with_tag(10, |w| w.write_message(m))? },
            mod_Message::OneOfmsg::dialResponse(ref m) => { w.write_with_tag(18, |w| w.write_message(m))? },
            mod_Message::OneOfmsg::dialDataRequest(ref m) => { w.write_with_tag(26, |w| w.write_message(m))? },
            mod_Message::OneOfmsg::dialDataResponse(ref m) => { w.write_with_tag(34, |w| w.write_message(m))? },
            mod_Message::OneOfmsg::None => {},
    }        Ok(())
    }
}

pub mod mod_Message {

use super::*;

#[derive(Debug, PartialEq, Clone)]
pub enum OneOfmsg<'a> {
    dialRequest(DialRequest<'a>),
    dialResponse(DialResponse),
    dialDataRequest(DialDataRequest),
    dialDataResponse(DialDataResponse<'a>),
    None,
}

impl<'a> Default for OneOfmsg<'a> {
    fn default() -> Self {
        OneOfmsg::None
    }
}

}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialRequest<'a> {
    pub addrs: Vec<Cow<'a, [u8]>>,
    pub nonce: Option<u64>,
}

impl<'a> MessageRead<'a> for DialRequest<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.addrs.push(r.read_bytes(bytes).map(Cow::Borrowed)?),
                Ok(17) => msg.nonce = Some(r.read_fixed64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for DialRequest<'a> {
    fn get_size(&self) -> usize {
        0
        + self.addrs.iter().map(|s| 1 + sizeof_len((s).len())).sum::<usize>()
        + self.nonce.as_ref().map_or(0, |_| 1 + 8)
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        for s in &self.addrs { w.write_with_tag(10, |w| w.write_bytes(&**s))?; }
        if let Some(ref s) = self.nonce { w.write_with_tag(17, |w| w.write_fixed64(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialDataRequest {
    pub addrIdx: Option<u32>,
    pub numBytes: Option<u64>,
}

impl<'a> MessageRead<'a> for DialDataRequest {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.addrIdx = Some(r.read_uint32(bytes)?),
                Ok(16) => msg.numBytes = Some(r.read_uint64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl MessageWrite for DialDataRequest {
    fn get_size(&self) -> usize {
        0
        + self.addrIdx.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
        + self.numBytes.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.addrIdx { w.write_with_tag(8, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.numBytes { w.write_with_tag(16, |w| w.write_uint64(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialResponse {
    pub status: Option<i32>,
    pub addrIdx: Option<u32>,
    pub dialStatus: Option<i32>,
}

impl<'a> MessageRead<'a> for DialResponse {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.status = Some(r.read_int32(bytes)?),
                Ok(16) => msg.addrIdx = Some(r.read_uint32(bytes)?),
                Ok(24) => msg.dialStatus = Some(r.read_int32(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl MessageWrite for DialResponse {
    fn get_size(&self) -> usize {
        0
        + self.status.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
        + self.addrIdx.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
        + self.dialStatus.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.status { w.write_with_tag(8, |w| w.write_int32(*s))?; }
        if let Some(ref s) = self.addrIdx { w.write_with_tag(16, |w| w.write_uint32(*s))?; }
        if let Some(ref s) = self.dialStatus { w.write_with_tag(24, |w| w.write_int32(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialDataResponse<'a> {
    pub data: Option<Cow<'a, [u8]>>,
}

impl<'a> MessageRead<'a> for DialDataResponse<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.data = Some(r.read_bytes(bytes).map(Cow::Borrowed)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for DialDataResponse<'a> {
    fn get_size(&self) -> usize {
        0
        + self.data.as_ref().map_or(0, |m| 1 + sizeof_len((m).len()))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.data { w.write_with_tag(10, |w| w.write_bytes(&**s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialBack {
    pub nonce: Option<u64>,
}

impl<'a> MessageRead<'a> for DialBack {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(9) => msg.nonce = Some(r.read_fixed64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl MessageWrite for DialBack {
    fn get_size(&self) -> usize {
        0
        + self.nonce.as_ref().map_or(0, |_| 1 + 8)
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.nonce { w.write_with_tag(9, |w| w.write_fixed64(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct DialBackResponse {
    pub status: Option<i32>,
}

impl<'a> MessageRead<'a> for DialBackResponse {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.status = Some(r.read_int32(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl MessageWrite for DialBackResponse {
    fn get_size(&self) -> usize {
        0
        + self.status.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.status { w.write_with_tag(8, |w| w.write_int32(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct VarintMessage<'a> {
    pub msg: mod_VarintMessage::OneOfmsg<'a>,
}

impl<'a> MessageRead<'a> for VarintMessage<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.msg = mod_VarintMessage::OneOfmsg::dialRequest(r.read_message::<VarintDialRequest>(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for VarintMessage<'a> {
    fn get_size(&self) -> usize {
        0
        + match self.msg {
            mod_VarintMessage::OneOfmsg::dialRequest(ref m) => 1 + sizeof_len((m).get_size()),
            mod_VarintMessage::OneOfmsg::None => 0,
    }    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        match self.msg {            mod_VarintMessage::OneOfmsg::dialRequest(ref m) => { w.write_with_tag(10, |w| w.write_message(m))? },
            mod_VarintMessage::OneOfmsg::None => {},
    }        Ok(())
    }
}

pub mod mod_VarintMessage {

use super::*;

#[derive(Debug, PartialEq, Clone)]
pub enum OneOfmsg<'a> {
    dialRequest(VarintDialRequest<'a>),
    None,
}

impl<'a> Default for OneOfmsg<'a> {
    fn default() -> Self {
        OneOfmsg::None
    }
}

}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct VarintDialRequest<'a> {
    pub addrs: Vec<Cow<'a, [u8]>>,
    pub nonce: Option<u64>,
}

impl<'a> MessageRead<'a> for VarintDialRequest<'a> {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(10) => msg.addrs.push(r.read_bytes(bytes).map(Cow::Borrowed)?),
                Ok(16) => msg.nonce = Some(r.read_uint64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl<'a> MessageWrite for VarintDialRequest<'a> {
    fn get_size(&self) -> usize {
        0
        + self.addrs.iter().map(|s| 1 + sizeof_len((s).len())).sum::<usize>()
        + self.nonce.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        for s in &self.addrs { w.write_with_tag(10, |w| w.write_bytes(&**s))?; }
        if let Some(ref s) = self.nonce { w.write_with_tag(16, |w| w.write_uint64(*s))?; }
        Ok(())
    }
}

#[allow(clippy::derive_partial_eq_without_eq)]
#[derive(Debug, Default, PartialEq, Clone)]
pub struct VarintDialBack {
    pub nonce: Option<u64>,
}

impl<'a> MessageRead<'a> for VarintDialBack {
    fn from_reader(r: &mut BytesReader, bytes: &'a [u8]) -> Result<Self> {
        let mut msg = Self::default();
        while !r.is_eof() {
            match r.next_tag(bytes) {
                Ok(8) => msg.nonce = Some(r.read_uint64(bytes)?),
                Ok(t) => { r.read_unknown(bytes, t)?; }
                Err(e) => return Err(e),
            }
        }
        Ok(msg)
    }
}

impl MessageWrite for VarintDialBack {
    fn get_size(&self) -> usize {
        0
        + self.nonce.as_ref().map_or(0, |m| 1 + sizeof_varint(*(m) as u64))
    }

    fn write_message<W: WriterBackend>(&self, w: &mut Writer<W>) -> Result<()> {
        if let Some(ref s) = self.nonce { w.write_with_tag(8, |w| w.write_uint64(*s))?; }
        Ok(())
    }
}

