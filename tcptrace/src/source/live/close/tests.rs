use std::{
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::Path,
};

use rustix::fs::fstat;

use super::*;

/// What `destroys` finds is what destroying then finds.
#[test]
fn what_is_tried_on_nothing_holds() {
    let netns = Netns::of(Path::new("/proc/self/ns/net")).expect("we are in one");
    let (mut closer, failed) = Closer::enter(std::slice::from_ref(&netns));
    assert!(failed.is_empty(), "{failed:?}");
    let (near, _far, target) = connection(netns.inode);
    let ended = closer.end(&target, CloseWay::Destroy);
    match closer.destroys(netns.inode) {
        Ok(()) => {
            ended.expect("it may");
            assert_eq!(closer.now(&target.connection).expect("an answer"), None);
            let held = still_held(&CloseTarget {
                holders: vec![Handle {
                    pid: std::process::id(),
                    tid: None,
                    fd: near.as_raw_fd().cast_unsigned(),
                    comm: "test".into(),
                }],
                ..target.clone()
            });
            assert_eq!(held.expect("ours").len(), 1, "the descriptor is not the connection");
        }
        Err(Cannot::Rights) => {
            crate::skipped("no CAP_NET_ADMIN: that is what is held against");
            assert_eq!(ended.expect_err("it may not").outcome, CloseResult::NotAllowed);
        }
        Err(Cannot::Kernel) => {
            assert_eq!(ended.expect_err("it can't").outcome, CloseResult::Failed);
        }
    }
}

#[test]
fn another_cookie_or_state_is_another_connection() {
    let netns = Netns::of(Path::new("/proc/self/ns/net")).expect("we are in one");
    let (mut closer, _) = Closer::enter(std::slice::from_ref(&netns));
    let (near, _far, target) = connection(netns.inode);
    let mut other = target.clone();
    other.connection.cookie = u64::MAX - 7;
    let stale = CloseTarget { state: TcpState::CloseWait, ..target.clone() };
    let ours = |target: &CloseTarget| CloseTarget {
        holders: vec![Handle {
            pid: std::process::id(),
            tid: None,
            fd: near.as_raw_fd().cast_unsigned(),
            comm: "test".into(),
        }],
        ..target.clone()
    };
    for how in [CloseWay::Destroy, CloseWay::Shutdown] {
        let refused = |closer: &mut Closer, target: &CloseTarget| {
            closer.end(&ours(target), how).expect_err("it is another").outcome
        };
        assert_eq!(refused(&mut closer, &other), CloseResult::GoneBefore, "{how:?}");
        assert_eq!(refused(&mut closer, &stale), CloseResult::Changed, "{how:?}");
    }
    let now = closer.now(&target.connection).expect("an answer");
    assert_eq!(now, Some(TcpState::Established), "nothing was done to it");
}

/// A connection to ourselves: its near end is the target.
fn connection(netns: u32) -> (TcpStream, TcpStream, CloseTarget) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let near = TcpStream::connect(listener.local_addr().expect("an end")).expect("connects");
    let far = listener.accept().expect("accepts").0;
    let cookie = rustix::net::sockopt::socket_cookie(&near).expect("a cookie");
    let connection = Connection {
        cookie,
        netns,
        local: near.local_addr().expect("an end"),
        remote: near.peer_addr().expect("an end"),
        mptcp: false,
    };
    let inode = fstat(&near).expect("a file").st_ino;
    let target =
        CloseTarget { connection, state: TcpState::Established, inode, holders: Vec::new() };
    (near, far, target)
}
