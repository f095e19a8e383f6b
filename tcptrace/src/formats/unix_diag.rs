//! What sock_diag answers about one unix socket (sock_diag(7), uapi/linux/unix_diag.h).

use zerocopy::{FromBytes, Immutable, IntoBytes};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_UNIX: u8 = 1;
/// `UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN`.
const SHOW: u32 = 0x1 | 0x4 | 0x10;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct UnixRequest {
    len: u32,
    kind: u16,
    flags: u16,
    seq: u32,
    pid: u32,
    family: u8,
    protocol: u8,
    pad: u16,
    states: u32,
    inode: u32,
    show: u32,
    cookie: [u32; 2],
}

const _: () = assert!(size_of::<UnixRequest>() == 16 + 24);

/// A request for the unix socket with this inode number.
#[must_use]
pub fn request_unix(inode: u32) -> Vec<u8> {
    let request = UnixRequest {
        len: size_of::<UnixRequest>() as u32,
        kind: SOCK_DIAG_BY_FAMILY,
        flags: NLM_F_REQUEST,
        seq: 0,
        pid: 0,
        family: AF_UNIX,
        protocol: 0,
        pad: 0,
        states: u32::MAX,
        inode,
        show: SHOW,
        // INET_DIAG_NOCOOKIE: any.
        cookie: [u32::MAX; 2],
    };
    request.as_bytes().to_vec()
}

/// A unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnixSocket {
    /// The number of its state, as TCP's: 1 is connected, 10 listens.
    pub state: u8,
    /// Where it is bound; may hold anything. One that begins with a NUL is in no file system.
    pub name: Option<String>,
    /// The inode number of its peer; 0: that has none, nobody has accepted it yet.
    pub peer: Option<u32>,
    /// Bytes that wait to be read; of a listener: connections.
    pub recv_q: u32,
}

/// The answer's socket.
///
/// # Errors
/// The errno that the kernel answered; 0 for an answer that makes no sense.
pub fn answer_unix(bytes: &[u8]) -> Result<UnixSocket, i32> {
    let number = |at: usize| {
        bytes.get(at..).and_then(|rest| u32::read_from_prefix(rest).ok()).map(|(n, _)| n)
    };
    let (len, kind) = (number(0).ok_or(0)? as usize, number(4).ok_or(0)? as u16);
    if kind != SOCK_DIAG_BY_FAMILY {
        // An error's number is negative.
        return Err(number(16).map_or(0, |errno| errno.cast_signed().saturating_neg().max(0)));
    }
    let body = bytes.get(16..len.min(bytes.len())).ok_or(0)?;
    let mut found = UnixSocket { state: *body.get(2).ok_or(0)?, ..UnixSocket::default() };
    // After family, type, state, pad, inode and cookie.
    for (kind, value) in super::netlink::attributes_of(body.get(16..).unwrap_or_default()) {
        let first = || u32::read_from_prefix(value).ok().map(|(n, _)| n);
        match kind {
            UNIX_DIAG_NAME => {
                let text = String::from_utf8_lossy(value);
                let text = text.strip_suffix('\0').filter(|t| t.len() > 1).unwrap_or(&text);
                found.name = Some(text.to_owned()).filter(|text| !text.is_empty());
            }
            UNIX_DIAG_PEER => found.peer = first(),
            UNIX_DIAG_RQLEN => found.recv_q = first().unwrap_or(0),
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer() -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([AF_UNIX, 1, 1, 0]);
        bytes.extend([0; 12]);
        for (kind, value) in [(0u16, &b"/run/x\0"[..]), (2, &77u32.to_ne_bytes()), (4, &[5; 8])] {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let len = (bytes.len() as u32).to_ne_bytes();
        bytes[..4].copy_from_slice(&len);
        bytes
    }

    #[test]
    fn a_socket_with_a_peer() {
        let found = answer_unix(&answer()).expect("a socket");
        assert_eq!((found.state, found.peer, found.recv_q), (1, Some(77), 0x0505_0505));
        assert_eq!(found.name.as_deref(), Some("/run/x"));
        let mut refused = answer();
        refused[4..6].copy_from_slice(&2u16.to_ne_bytes());
        refused[16..20].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(answer_unix(&refused), Err(2));
        assert_eq!(request_unix(7).len(), 40);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            cut in 0usize..80,
        ) {
            let whole = answer();
            let _ = (answer_unix(&bytes), answer_unix(&whole[..cut.min(whole.len())]));
        }
    }
}
