//! What answers of netlink are made of (uapi/linux/netlink.h): numbers, addresses, attributes.

use zerocopy::FromBytes;

/// The type's two highest bits are flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// A number in host order; `None`: the bytes end before.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    u32::read_from_prefix(bytes.get(offset..)?).ok().map(|(n, _)| n)
}

/// How an IPv4 address begins that is written as IPv6.
pub(super) const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An address of sock_diag as the kernel programs write them: IPv4 mapped.
pub(super) fn address(bytes: [u8; 16], v4: bool) -> [u8; 16] {
    if !v4 {
        return bytes;
    }
    let mut mapped = [0; 16];
    mapped[..12].copy_from_slice(&MAPPED);
    mapped[12..].copy_from_slice(&bytes[..4]);
    mapped
}

/// Attributes: length, type, value, each aligned to 4 bytes.
pub(super) fn attributes_of(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (number(bytes, 0)? & 0xffff, number(bytes, 0)? >> 16);
        let len = len as usize;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind as u16 & NLA_TYPE_MASK, value))
    })
}
