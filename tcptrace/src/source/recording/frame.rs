//! Frames: pieces of a file that can be told to be whole.
//!
//! ```text
//! offset  bytes
//!      0      4  the mark, "\x1eTCF"
//!      4      1  what it holds: 0 header, 1 batches, 2 the end, 3 the end of this file only
//!      5      1  how: 0 as it is, 1 compressed (Zstandard, RFC 8878)
//!      6      2  the file's version
//!      8      4  length of what follows this head
//!     12      4  length of the contents, uncompressed
//!     16      4  CRC-32 (IEEE 802.3) of bytes 4 to 15: where lengths are wrong, it shows at once
//!     20      4  CRC-32 of what follows
//! ```
//! All numbers are little-endian.

use std::io::Read;

use ruzstd::{
    decoding::StreamingDecoder,
    encoding::{CompressionLevel, compress_to_vec},
};

use super::VERSION;

/// Where a frame may begin.
pub const MARK: [u8; 4] = *b"\x1eTCF";
/// The length of its head.
pub const HEAD: usize = 24;
/// No frame is longer than this, uncompressed or not: a scan of a million sockets fits.
pub const LONGEST: usize = 512 << 20;
/// Shorter contents are not worth compressing.
const SHORT: usize = 64;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A [`super::Header`], as postcard encodes it.
    Header = 0,
    /// [`super::Batch`]es.
    Batches = 1,
    /// Nothing: the recording ended here.
    End = 2,
    /// Nothing: it goes on in the next file.
    Continued = 3,
}

impl FrameKind {
    fn new(byte: u8) -> Option<Self> {
        [Self::Header, Self::Batches, Self::End, Self::Continued]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Of which kind it is.
    pub kind: FrameKind,
    /// The contents, uncompressed.
    pub contents: Vec<u8>,
}

/// What the beginning of some bytes is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// A frame, and how many bytes it takes.
    Frame(Unpacked, usize),
    /// The beginning of a frame: it takes so many bytes in all, as far as can be told.
    Short(usize),
    /// A frame of a newer version of the files.
    Newer(u16),
    /// Something else.
    Garbled,
}

/// Appends a frame.
pub fn write(kind: FrameKind, contents: &[u8], to: &mut Vec<u8>) {
    let compressed = (contents.len() >= SHORT)
        .then(|| compress_to_vec(contents, CompressionLevel::Fastest))
        .filter(|compressed| compressed.len() < contents.len());
    let (how, stored) = match &compressed {
        Some(compressed) => (1, &compressed[..]),
        None => (0, contents),
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut head = [0; 12];
    (head[0], head[1]) = (kind as u8, how);
    head[2..4].copy_from_slice(&(VERSION as u16).to_le_bytes());
    head[4..8].copy_from_slice(&length(stored));
    head[8..12].copy_from_slice(&length(contents));
    to.extend_from_slice(&MARK);
    to.extend_from_slice(&head);
    to.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    to.extend_from_slice(&crc32fast::hash(stored).to_le_bytes());
    to.extend_from_slice(stored);
}

/// Reads the frame that the bytes begin with.
#[must_use]
pub fn read(bytes: &[u8]) -> Beginning {
    let begun = bytes.len().min(MARK.len());
    if bytes[..begun] != MARK[..begun] {
        return Beginning::Garbled;
    }
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Beginning::Short(HEAD) };
    let number =
        |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (stored, length) = (number(8) as usize, number(12) as usize);
    if crc32fast::hash(&head[4..16]) != number(16) || stored > LONGEST || length > LONGEST {
        return Beginning::Garbled;
    }
    let Some(contents) = bytes.get(HEAD..HEAD + stored) else {
        return Beginning::Short(HEAD + stored);
    };
    if crc32fast::hash(contents) != number(20) {
        return Beginning::Garbled;
    }
    let version = u16::from_le_bytes([head[6], head[7]]);
    if u32::from(version) > VERSION {
        return Beginning::Newer(version);
    }
    let contents = match head[5] {
        0 => Some(contents.to_vec()),
        1 => decompressed(contents, length),
        _ => None,
    };
    let contents = contents.filter(|contents| contents.len() == length);
    match (FrameKind::new(head[4]), contents) {
        (Some(kind), Some(contents)) => {
            Beginning::Frame(Unpacked { kind, contents }, HEAD + stored)
        }
        _ => Beginning::Garbled,
    }
}

/// No more than `length` bytes are made room for, whatever the compressed ones claim.
fn decompressed(stored: &[u8], length: usize) -> Option<Vec<u8>> {
    let decoder = StreamingDecoder::new(stored).ok()?;
    let mut contents = Vec::new();
    decoder.take(length as u64 + 1).read_to_end(&mut contents).ok()?;
    Some(contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            contents in proptest::collection::vec(0u8..4, 0..2_000),
            more: Vec<u8>,
        ) {
            let mut bytes = Vec::new();
            write(FrameKind::Batches, &contents, &mut bytes);
            let length = bytes.len();
            prop_assert!(length <= HEAD + contents.len());
            bytes.extend_from_slice(&more);
            let frame = Unpacked { kind: FrameKind::Batches, contents };
            prop_assert_eq!(read(&bytes), Beginning::Frame(frame, length));
        }

        #[test]
        fn a_frame_that_is_cut_is_short_and_a_changed_bit_shows(
            contents: Vec<u8>,
            at: prop::sample::Index,
            bit in 0u32..8,
        ) {
            let mut bytes = Vec::new();
            write(FrameKind::Header, &contents, &mut bytes);
            let cut = at.index(bytes.len());
            prop_assert!(matches!(read(&bytes[..cut]), Beginning::Short(all) if all > cut));
            bytes[cut] ^= 1 << bit;
            prop_assert!(!matches!(read(&bytes), Beginning::Frame(..)));
        }

        #[test]
        fn any_bytes_are_read(how in 0u8..2, contents: Vec<u8>, length in 0u32..5_000) {
            let mut head = [1, how, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            head[4..8].copy_from_slice(&(contents.len() as u32).to_le_bytes());
            head[8..12].copy_from_slice(&length.to_le_bytes());
            let sums = [crc32fast::hash(&head), crc32fast::hash(&contents)].map(u32::to_le_bytes);
            let bytes = [&MARK[..], &head, &sums[0], &sums[1], &contents].concat();
            if let Beginning::Frame(frame, all) = read(&bytes) {
                prop_assert_eq!((frame.contents.len(), all), (length as usize, bytes.len()));
            }
        }
    }
}
