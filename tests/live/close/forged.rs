//! Ending a connection with forged packets, as killcx does, beside what the kernel is asked for.
//!
//! Such a tool sends a SYN in the peer's name. The kernel answers with an acknowledgement that
//! carries the numbers a reset has to have (RFC 5961, 4.2); the tool reads them off the interface
//! and forges the reset. That takes a peer whose address still answers: to one that is gone no
//! packet leaves the host, as nobody says where to send it, so there is nothing to read the numbers
//! from.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{close, state_of, would};
use crate::{
    support::netns::{Netns, join},
    tests,
    tracer::{DEADLINE, netns, start},
};

tests![a_peer_that_answers, a_peer_that_is_gone];

const SYN: u8 = 2;
const RST: u8 = 4;
/// The kernel answers such a packet at once, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server that holds a CLOSE_WAIT, and its peer's host.
struct Leak {
    here: Netns,
    there: Netns,
    plan: Value,
    _server: crate::support::actor::Actor,
}

fn leak() -> Leak {
    let (here, there) = (netns(), netns());
    let [address, _] = join(&here, &there).expect("a pair of interfaces");
    let (mut server, mut client) = (start(&here), start(&there));
    let listener = server.number(&format!("listen {address}:0 8")).expect("listens");
    let to = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect {to}")).expect("connects");
    server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("close {connected}")).expect("closes");
    let plan = would(&here, &[], 1).lines.remove(0);
    Leak { here, there, plan, _server: server }
}

/// While it does, forged packets end the connection, too.
fn a_peer_that_answers() {
    let leak = leak();
    assert!(forge(&leak), "the kernel's answer was on its way to the peer");
    let deadline = Instant::now() + DEADLINE;
    while state_of(&leak.here, &leak.plan["cookie"]).is_some() {
        assert!(Instant::now() < deadline, "the reset had the right numbers");
    }
}

/// Its host was taken away: forged packets do nothing, shutdown sends a FIN that nobody
/// acknowledges, and destroy ends it.
fn a_peer_that_is_gone() {
    let leak = leak();
    ip(&leak.there, &["address", "flush", "dev", "v1"]);
    ip(&leak.here, &["neigh", "flush", "dev", "v0"]);
    assert!(!forge(&leak), "no answer leaves the host");
    assert_eq!(state_of(&leak.here, &leak.plan["cookie"]), Some(json!("CLOSE_WAIT")));

    let ran = close(&leak.here, &["--yes", "--wait", "100ms"]);
    let closing = ran.only();
    assert_eq!((&closing["how"], &closing["result"]), (&json!("shutdown"), &json!("closing")));
    assert_eq!(closing["state_after"], "LAST_ACK");
    let said = closing["text"][0].as_str().expect("text");
    assert!(said.contains("tcptrace close --state last_ack"), "{said}");

    let ran = close(&leak.here, &["--yes", "--state", "last_ack", "--force"]);
    let closed = ran.only();
    assert_eq!((&closed["how"], &closed["result"]), (&json!("destroy"), &json!("closed")));
    assert_eq!(state_of(&leak.here, &leak.plan["cookie"]), None);
}

fn ip(within: &Netns, args: &[&str]) {
    let mut command = Command::new("ip");
    command.args(args);
    within.enter_in(&mut command).expect("a way in");
    assert!(command.status().expect("ip runs").success(), "ip {args:?}");
}

/// What killcx does, in the server's namespace. False: no answer was seen, and the reset that was
/// sent all the same had numbers from nowhere.
fn forge(leak: &Leak) -> bool {
    let end = |name: &str| match leak.plan[name].as_str().expect("an end").parse() {
        Ok(SocketAddr::V4(end)) => end,
        other => panic!("no IPv4 end: {other:?}"),
    };
    let (local, remote) = (end("local"), end("remote"));
    let forge = || {
        leak.here.enter().expect("enters");
        let seen = Listening::new().expect("a packet socket");
        send(remote, local, 12_345, SYN).expect("sends");
        let answer = seen.answer(local, remote);
        let sequence = answer.unwrap_or(12_345);
        send(remote, local, sequence, RST).expect("sends");
        answer.is_some()
    };
    thread::scope(|scope| scope.spawn(forge).join().expect("it does not panic"))
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call with numbers.
    match unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just made this descriptor for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Sees each IPv4 packet that an interface of the namespace sends or gets (packet(7)).
struct Listening(OwnedFd);

impl Listening {
    fn new() -> io::Result<Self> {
        const ETH_P_ALL: u16 = 3;
        let protocol = libc::c_int::from(ETH_P_ALL.to_be());
        socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, protocol).map(Self)
    }

    /// The number that an acknowledgement from one end to the other asks for next.
    fn answer(&self, from: SocketAddrV4, to: SocketAddrV4) -> Option<u32> {
        let deadline = Instant::now() + PATIENCE;
        let mut packet = [0u8; 2048];
        loop {
            // SAFETY: the buffer is as long as is said, and outlives the call.
            let n = unsafe {
                libc::recv(self.0.as_raw_fd(), packet.as_mut_ptr().cast(), packet.len(), 0)
            };
            let Ok(n) = usize::try_from(n) else {
                if Instant::now() >= deadline {
                    return None;
                }
                thread::yield_now();
                continue;
            };
            let [p @ .., _] = &packet[..n.min(packet.len() - 1) + 1] else { return None };
            if n < 40 || p[0] != 0x45 || p[9] != 6 || p[12..16] != from.ip().octets() {
                continue;
            }
            let port = |at: usize| u16::from_be_bytes([p[at], p[at + 1]]);
            if (port(20), port(22)) == (from.port(), to.port()) {
                return Some(u32::from_be_bytes([p[28], p[29], p[30], p[31]]));
            }
        }
    }
}

/// Sends a TCP packet in somebody's name (raw(7)).
fn send(from: SocketAddrV4, to: SocketAddrV4, sequence: u32, flags: u8) -> io::Result<()> {
    let raw = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0; 4]);
    // Five words of header, a window, and neither checksum nor urgent data yet.
    tcp.extend([5 << 4, flags, 4, 0, 0, 0, 0, 0]);
    let mut pseudo = [from.ip().octets(), to.ip().octets()].concat();
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    // The kernel fills in the checksum and the length of IP's header.
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend([from.ip().octets(), to.ip().octets()].concat());
    packet.extend(tcp);
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: to.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: packet and address are as long as is said, and outlive the call.
    let sent = unsafe {
        libc::sendto(
            raw.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        )
    };
    if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|b| u32::from(u16::from_be_bytes([b[0], b[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}
