//! Recordings: files, frames and facts.

use bytes::Bytes;
use tcptrace::{
    engine::update::Update,
    source::recording::{
        Batch, Header,
        frame::{self, Beginning, FrameKind, Unpacked},
        reader::{Piece, Reader},
    },
};

use super::{NOW, show, watch};

/// A recording: the first byte says whether the rest is a file, a frame's contents compressed or
/// not, or facts.
pub fn recording(data: &[u8]) {
    let Some((what, data)) = data.split_first() else { return };
    match what % 4 {
        0 => file(data),
        1 => {
            let mut bytes = Vec::new();
            frame::write(FrameKind::Batches, data, &mut bytes);
            let frame = Unpacked { kind: FrameKind::Batches, contents: data.to_vec() };
            assert_eq!(frame::read(&bytes), Beginning::Frame(frame, bytes.len()));
        }
        2 => file(&with_header(compressed(data))),
        _ => batches(data),
    }
}

/// A frame that claims to hold these bytes compressed.
fn compressed(data: &[u8]) -> Vec<u8> {
    let mut head = vec![1, 1, 1, 0];
    head.extend((data.len() as u32).to_le_bytes());
    head.extend(5_000_u32.to_le_bytes());
    let sums = [crc32fast::hash(&head), crc32fast::hash(data)].map(u32::to_le_bytes);
    [&frame::MARK[..], &head, &sums[0], &sums[1], data].concat()
}

fn with_header(rest: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = postcard::to_stdvec(&Header::default()).expect("memory");
    frame::write(FrameKind::Header, &header, &mut bytes);
    [bytes, rest].concat()
}

/// Whatever it is, it is read to its end, and each byte once.
fn file(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.header().is_err() {
        return;
    }
    let (mut damaged, mut end) = (0, None);
    while let Ok(Some(piece)) = reader.next_piece() {
        assert!(end.is_none(), "the end is the last");
        match piece {
            Piece::Damage(damage) => damaged += damage.bytes,
            Piece::End(ending) => end = Some(ending),
            Piece::Header(_) | Piece::Batch(_) => {}
        }
    }
    assert!(damaged <= data.len() as u64, "{damaged} bytes of {}", data.len());
}

/// Facts as any writer may put them together: the core takes them, and all formats show it.
fn batches(data: &[u8]) {
    let (mut watch, mut said) = (watch(), Vec::new());
    let mut bytes = Bytes::copy_from_slice(data);
    while let Ok(batch) = Batch::read(&mut bytes) {
        for fact in &batch.facts {
            watch.take(fact, &mut said);
        }
    }
    watch.finish(NOW, &mut said);
    said.retain(|said| !matches!(said.update, Update::Clock(_)));
    show(&said, data.len());
}
