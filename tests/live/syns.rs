//! Connection requests that nobody answers for: a SYN queue that is full, for real.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect, ipproto, sendto, socket_with,
};
use serde_json::json;

use crate::{
    doctor::{set, wait_for},
    healthy::Ends,
    support::netns::Netns,
    tests,
    tracer::{netns, start},
};

tests![a_full_syn_queue, what_is_sent_again];

/// An interface behind which nobody is: its other end does not even answer for addresses.
pub fn interface(ns: &Netns) -> io::Result<()> {
    let steps = [
        "link add v0 type veth peer name v1",
        "address add 10.88.0.1/24 dev v0",
        "link set v0 up",
        "link set v1 up",
    ];
    for step in steps {
        let mut ip = Command::new("ip");
        ip.args(step.split(' '));
        ns.enter_in(&mut ip)?;
        let made = ip.output()?;
        if !made.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned()));
        }
    }
    Ok(())
}

/// A SYN with its IP header (RFC 791, RFC 9293), from whomever.
fn syn(from: SocketAddrV4, to: SocketAddrV4) -> [u8; 40] {
    let mut packet = [0; 40];
    // Version and length, whole length, time to live, protocol.
    (packet[0], packet[3], packet[8], packet[9]) = (0x45, 40, 64, 6);
    packet[12..16].copy_from_slice(&from.ip().octets());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&from.port().to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    // Length of TCP's header, SYN, window.
    (packet[32], packet[33], packet[34]) = (0x50, 0x02, 0xff);
    let sum = checksum(&packet[12..]);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Of addresses and TCP header, with the rest of the pseudo header: protocol and length.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum = words.sum::<u32>() + 6 + 20;
    while sum >> 16 > 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// SYNs from addresses that nobody has, until it is over.
fn flood(ns: &Netns, to: SocketAddrV4, over: &AtomicBool) {
    ns.enter().expect("enters");
    // IPPROTO_RAW: the IP header comes with each packet (raw(7)).
    let flags = SocketFlags::CLOEXEC;
    let raw = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::RAW));
    let raw = raw.expect("root may");
    for n in 0_u16.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let host = Ipv4Addr::new(10, 88, 0, 10 + (n % 200) as u8);
        let from = SocketAddrV4::new(host, 1_024 + n % 60_000);
        sendto(&raw, &syn(from, to), SendFlags::empty(), &SocketAddr::V4(to)).expect("sends");
        thread::sleep(Duration::from_millis(2));
    }
}

fn a_full_syn_queue() {
    let ns = netns();
    interface(&ns).expect("ip is there");
    let mut server = start(&ns);
    let listener = server.number("listen 10.88.0.1:0 4").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let SocketAddr::V4(to) = address else { panic!("{address}") };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(&ns, to, &over));
        let _ends = Ends(&over);
        let found = wait_for(&ns, &[], "syn-queue", |_| true);
        assert_eq!(
            [&found["harm"], &found["confidence"], &found["basis"]],
            ["medium", "possible", "rate"]
        );
        assert_eq!(found["processes"][0]["pid"], json!(server.pid()));
        assert!(found["meaning"].as_str().is_some_and(|t| t.contains("SYN flood")), "{found}");
        let evidence = found["evidence"][1].as_str().expect("a text");
        assert!(evidence.contains(&format!("at {address}, whose limit is its backlog, 4")));
        // Without cookies nobody gets in.
        set(&ns, "ipv4/tcp_syncookies", "0");
        let dropping = wait_for(&ns, &[], "syn-queue", |f| f["harm"] == "high");
        assert!(dropping["found"].as_str().is_some_and(|t| t.contains("full SYN queue")));
    });
}

/// Requests that nobody answers, and that are sent again after a second.
fn what_is_sent_again() {
    let ns = netns();
    interface(&ns).expect("ip is there");
    let (_somebody, over) = (start(&ns), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            ns.enter().expect("enters");
            let to = SocketAddr::from(([10, 88, 0, 9], 9));
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let mut asking = std::collections::VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
                let socket = socket.expect("a socket");
                let _in_progress = connect(&socket, &to);
                asking.push_back(socket);
                // Each stays for long enough to be sent twice.
                if asking.len() > 600 {
                    asking.pop_front();
                }
                thread::sleep(Duration::from_millis(3));
            }
        });
        let _ends = Ends(&over);
        let found = wait_for(&ns, &["--for", "2s"], "packet-loss", |_| true);
        assert_eq!(
            [&found["harm"], &found["confidence"], &found["basis"]],
            ["medium", "likely", "rate"]
        );
        assert!(found["value"].as_u64().is_some_and(|again| again >= 25), "{found}");
    });
}
