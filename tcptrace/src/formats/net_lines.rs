//! The lines of `/proc/PID/net/{tcp,tcp6,udp,udp6}` (proc_pid_net(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcptrace_common::state::TcpState;

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetLine {
    /// Its local end; a mapped IPv4 address is shown as IPv4.
    pub local: SocketAddr,
    /// Its remote end.
    pub remote: SocketAddr,
    /// The number of its state.
    pub state: u8,
    /// Bytes sent and not acknowledged.
    pub send_q: u32,
    /// Bytes received and not read; of a listener: connections that wait.
    pub recv_q: u32,
    /// Its inode number; 0: no descriptor was made for it.
    pub inode: u64,
}

impl NetLine {
    /// Parses a line: sl, local, remote, st, queues, timer, retransmissions, uid, timeout, inode.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (end(fields.next()?)?, end(fields.next()?)?);
        let state = u8::from_str_radix(fields.next()?, 16).ok()?;
        let (send_q, recv_q) = fields.next()?.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let (send_q, recv_q) = (number(send_q)?, number(recv_q)?);
        let inode = fields.nth(4)?.parse().ok()?;
        Some(Self { local, remote, state, send_q, recv_q, inode })
    }

    /// Whether it is a listening socket of TCP.
    #[must_use]
    pub fn is_listener(&self) -> bool {
        self.state == TcpState::Listen as u8
    }
}

/// `0100007F:1F90`: words of the machine's byte order, in hexadecimal (`get_tcp4_sock`,
/// net/ipv4/tcp_ipv4.c).
fn end(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |n: usize| u32::from_str_radix(address.get(n * 8..n * 8 + 8)?, 16).ok();
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (n, to) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *to = word(n)?.to_ne_bytes();
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_both_families() {
        let line = "   1: 0100007F:1F90 0200007F:C001 01 00000003:0000000A 00:00000000 00000000  \
                    1000        0 70091 1 0 100 0 0 10 0";
        let found = NetLine::parse(line).expect("a line");
        assert_eq!(found.local, "127.0.0.1:8080".parse().expect("an end"));
        assert_eq!(found.remote, "127.0.0.2:49153".parse().expect("an end"));
        assert_eq!((found.state, found.send_q, found.recv_q, found.inode), (1, 3, 10, 70_091));
        let six = line.replace("0100007F", "0000000000000000FFFF00000100007F");
        assert_eq!(NetLine::parse(&six).expect("a line").local, found.local, "mapped");
        assert_eq!(NetLine::parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "( 1: [0-9A-F]{0,33}:[0-9A-F]{0,5} [0-9A-F:]*)?\\PC*") {
            let _ = NetLine::parse(&text);
        }
    }
}
