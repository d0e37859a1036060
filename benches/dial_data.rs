//! Reading 100,000 bytes of dial data: our codec against `prost-codec`, which `libp2p-autonat` 0.16 reads with, on the same
//! frames. Counts instructions with valgrind's callgrind where it is installed, and nanoseconds where it is not; and
//! counts allocations.
//!
//! `cargo bench --bench dial_data`

mod callgrind;

use std::{env, process::ExitCode, time::Instant};

use asynchronous_codec::{BytesMut, Decoder};
use callgrind::instructions;
use libp2p_autonat_v2::protocol::{DialData, Limits, Message, MessageCodec};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const BYTES: u64 = 100_000;
const ROUNDS: u64 = 200;

/// The messages of the dial-request stream as `prost` has them; only dial data is read here.
#[derive(Clone, PartialEq, prost::Message)]
struct Theirs {
    #[prost(message, optional, tag = "4")]
    dial_data_response: Option<TheirDialData>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TheirDialData {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
}

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("ours") => run(ROUNDS, ours),
        Some("theirs") => run(ROUNDS, theirs),
        Some("nothing") => run(ROUNDS, |_| {}),
        _ => return compare(),
    }
    ExitCode::SUCCESS
}

fn compare() -> ExitCode {
    let (unit, base, ours_cost, theirs_cost) =
        match ["nothing", "ours", "theirs"].map(|mode| instructions(&[mode])) {
            [Some(base), Some(ours), Some(theirs)] => ("instructions", base, ours, theirs),
            _ => {
                eprintln!("valgrind is not installed: measuring time");
                let time = |read: fn(&mut BytesMut)| {
                    let start = Instant::now();
                    run(50 * ROUNDS, read);
                    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) / 50
                };
                ("ns", time(|_| {}), time(ours), time(theirs))
            }
        };
    let per_request = |cost: u64| cost.saturating_sub(base) as f64 / ROUNDS as f64;
    let (ours_cost, theirs_cost) = (per_request(ours_cost), per_request(theirs_cost));
    println!(
        "{unit} for {BYTES} bytes of dial data: ours {ours_cost:.0}, prost-codec {theirs_cost:.0}"
    );
    println!("ratio {:.3}, wanted: at most 0.5", ours_cost / theirs_cost);

    let _profiler = dhat::Profiler::builder().testing().build();
    let mut buffer = frames();
    let before = dhat::HeapStats::get().total_blocks;
    ours(&mut buffer);
    let allocations = dhat::HeapStats::get().total_blocks - before;
    println!("allocations: ours {allocations}, wanted: none");
    ExitCode::SUCCESS
}

/// Reads all frames `rounds` times. The copy of the frames is the same for everybody and is subtracted.
fn run(rounds: u64, read: fn(&mut BytesMut)) {
    let frames = frames();
    for _ in 0..rounds {
        let mut buffer = frames.clone();
        read(&mut buffer);
        std::hint::black_box(&buffer);
    }
}

/// Dial data as a client sends it, in chunks of 4,096 bytes and a last one.
fn frames() -> BytesMut {
    let mut frames = BytesMut::new();
    for chunk in DialData::new(BYTES) {
        frames.extend_from_slice(chunk.as_bytes());
    }
    frames
}

fn ours(buffer: &mut BytesMut) {
    let mut codec = MessageCodec::new(Limits::default());
    let mut read = 0;
    while let Ok(Some(Message::DialDataResponse { len })) = codec.decode(buffer) {
        read += len as u64;
    }
    assert_eq!(read, BYTES);
}

fn theirs(buffer: &mut BytesMut) {
    let mut codec = prost_codec::Codec::<Theirs>::new(4104);
    let mut read = 0;
    while let Ok(Some(message)) = codec.decode(buffer) {
        read += message
            .dial_data_response
            .map_or(0, |it| it.data.len() as u64);
    }
    assert_eq!(read, BYTES);
}
