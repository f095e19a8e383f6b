use proptest::prelude::*;
use tcptrace_common::state::TcpState;

use super::*;

const NOW: u64 = 100_000_000_000;

fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let len = (16 + body.len()) as u32;
    [&len.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 10], body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes =
        [&(4 + value.len() as u16).to_le_bytes()[..], &kind.to_le_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// 10.0.0.1:80 <- 10.0.0.2:5000 in a state, cookie 7, inode 9.
fn answer(state: TcpState, rqueue: u32, wqueue: u32) -> Vec<u8> {
    let mut body = vec![2, state as u8, 2, 0];
    body.extend(80u16.to_be_bytes());
    body.extend(5000u16.to_be_bytes());
    body.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend([10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    body.extend([0, 7, 0, 0, rqueue, wqueue, 0, 9].map(u32::to_le_bytes).concat());
    body
}

#[test]
fn a_connection_with_its_times() {
    let mut info = vec![0; 232];
    for (at, ms) in [(44, 9_000u32), (52, 8_000), (56, 3_000)] {
        info[at..at + 4].copy_from_slice(&ms.to_le_bytes());
    }
    let cgroup = 77u64.to_le_bytes();
    let body =
        [answer(TcpState::CloseWait, 5, 6), attribute(2, &info), attribute(21, &cgroup)].concat();
    let mut dump = Dump::new(1, TCP, Detail::Connection);
    assert_eq!(
        dump.take(&[message(20, &body), message(NLMSG_DONE, &[0; 4])].concat(), NOW),
        Ok(true)
    );
    let s = dump.sockets[0];
    assert_eq!((s.cookie, s.inode, s.recv_q, s.send_q, s.cgroup), (7, 9, 5, 6, 77));
    assert_eq!(
        (s.tuple.lport, s.tuple.rport, s.tuple.laddr[12..].to_vec()),
        (80, 5000, vec![10, 0, 0, 1])
    );
    assert_eq!(s.flags, HAS_SOCKET | HAS_TCP | ADOPTED | NO_LIMIT | KEEPALIVE);
    let ago = |ns: u64| (NOW - ns) / 1_000_000;
    assert_eq!((ago(s.earliest_ns), ago(s.latest_ns)), (8_020, 2_980), "an interval with slack");
    assert_eq!(dump.states[TcpState::CloseWait as usize], 1);
    assert_eq!(dump.skipped, 0);
}

#[test]
fn a_request_to_destroy_names_the_socket_and_wants_an_answer() {
    let mut socket = Socket::new_zeroed();
    (socket.cookie, socket.tuple.lport, socket.tuple.rport) = (7 << 32 | 9, 80, 5000);
    let one = request_one(&socket, 3);
    let destroy = request_destroy(&socket, 3);
    assert_eq!((destroy[4], destroy[6]), (21, 5), "SOCK_DESTROY; NLM_F_REQUEST and NLM_F_ACK");
    assert_eq!(one[8..], destroy[8..], "about the same socket");
    let cookie = [9u32.to_le_bytes(), 7u32.to_le_bytes()].concat();
    assert_eq!(destroy[16 + 8 + 40..][..8], cookie);
}

#[test]
fn it_was_done_or_not() {
    let error = |errno: i32| acknowledgement(&message(NLMSG_ERROR, &errno.to_le_bytes()));
    assert_eq!([error(0), error(-2), error(i32::MIN)], [Ok(()), Err(2), Err(i32::MAX)]);
    assert_eq!(error(2), Err(0), "no error number");
    assert_eq!(acknowledgement(&message(NLMSG_DONE, &[0; 4])), Err(0));
    assert_eq!(acknowledgement(&[0; 7]), Err(0));
}

#[test]
fn a_listener_has_a_queue_and_drops() {
    let memory = [[0u8; 4]; 8].concat();
    let body = [
        answer(TcpState::Listen, 5, 128),
        attribute(7, &[&memory[..], &3u32.to_le_bytes()].concat()),
    ]
    .concat();
    let mut dump = Dump::new(1, TCP, Detail::Connection);
    assert_eq!(dump.take(&message(20, &body), NOW), Ok(false));
    let s = dump.sockets[0];
    assert_eq!((s.backlog, s.max_backlog, s.drops, s.recv_q), (5, 128, 3, 0));
}

#[test]
fn subflows_are_the_kernels_own() {
    let ulp = attribute(19, &attribute(1, b"mptcp\0"));
    let mut dump = Dump::new(1, TCP, Detail::Connection);
    assert_eq!(
        dump.take(&message(20, &[answer(TcpState::CloseWait, 1, 0), ulp].concat()), NOW),
        Ok(false)
    );
    assert!(dump.sockets.is_empty());
}

#[test]
fn where_a_buffer_begins_does_not_matter() {
    let bytes = message(20, &answer(TcpState::CloseWait, 5, 6));
    for from in 0..4 {
        let mut dump = Dump::new(1, TCP, Detail::Connection);
        let shifted = [&vec![0; from][..], &bytes].concat();
        assert_eq!(dump.take(&shifted[from..], NOW), Ok(false));
        assert_eq!((dump.sockets.len(), dump.skipped), (1, 0), "{from} bytes further");
    }
}

#[test]
fn errors_and_nonsense() {
    let mut dump = Dump::new(1, TCP, Detail::Connection);
    assert_eq!(dump.take(&message(NLMSG_ERROR, &(-2i32).to_le_bytes()), NOW), Err(2));
    assert_eq!(dump.take(&message(20, &[1, 2, 3]), NOW), Ok(false));
    assert_eq!(dump.take(&[1, 2, 3], NOW), Ok(false));
    assert_eq!(
        dump.take(&message(NLMSG_ERROR, &0i32.to_le_bytes()), NOW),
        Ok(false),
        "no error is none"
    );
    assert_eq!(
        dump.take(&message(NLMSG_ERROR, &5i32.to_le_bytes()), NOW),
        Ok(false),
        "nor is this one"
    );
    assert_eq!(dump.skipped, 4);
}

#[test]
fn a_request_names_what_it_wants() {
    let bytes = request(2, MPTCP, TcpState::CloseWait.bit(), Detail::Connection);
    assert_eq!(
        (bytes.len(), bytes[16], bytes[18], bytes[20..24].to_vec()),
        (80, 2, 2, vec![0, 1, 0, 0])
    );
    assert_eq!(bytes[72..], [8, 0, 3, 0, 6, 1, 0, 0]);
    let bytes = request_tcp(TcpState::CloseWait.bit(), Detail::Listener);
    assert_eq!((bytes.len(), bytes[4], bytes[19]), (76, 18, 64));
    assert_eq!(bytes[68..], [0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn one_socket_is_asked_for_as_it_was_answered() {
    let mut v4 = answer(TcpState::CloseWait, 5, 6);
    // Bound to interface 3.
    v4[40] = 3;
    let mut v6 = v4.clone();
    v6[0] = 10;
    v6[8..12].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    for body in [v4, v6] {
        let mut dump = Dump::new(1, TCP, Detail::Connection);
        assert_eq!(dump.take(&message(18, &body), NOW), Ok(false));
        assert_eq!(dump.bound, [(7, 3)]);
        let bytes = request_one(&dump.sockets[0], 3);
        // A plain request, of its family, with its identity as the kernel wrote it.
        assert_eq!((bytes[6..8].to_vec(), bytes[16]), (vec![1, 0], body[0]));
        assert_eq!(bytes[24..72], body[4..52]);
    }
}

proptest! {
    #[test]
    fn acknowledgements_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = acknowledgement(&bytes);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        details: bool,
    ) {
        let mut dump = Dump::new(1, TCP, if details { Detail::Connection } else { Detail::Count });
        let _ = dump.take(&bytes, NOW);
        // Past the header, where chance seldom gets.
        let _ = dump.take(&message(20, &bytes), NOW);
        let _ = dump.take(&message(20, &[answer(TcpState::CloseWait, 0, 0), bytes].concat()), NOW);
        for s in &dump.sockets {
            prop_assert!(s.earliest_ns <= s.latest_ns && s.latest_ns <= NOW);
        }
    }
}
