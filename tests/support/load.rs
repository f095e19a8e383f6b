//! A load of short connections over loopback, bounded in number, as many a second as the machine
//! makes. The client closes first, so each connection passes through CLOSE_WAIT on the server's
//! side, and makes five transitions on each.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::netns::Netns;

/// What a load made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Connections that were opened and closed.
    pub connections: u64,
    /// How long that took.
    pub took: Duration,
    /// 99 of 100 calls of connect() took no longer.
    pub connect_p99: Duration,
}

impl Made {
    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.connections as f64 / self.took.as_secs_f64()
    }
}

/// Opens and closes `count` connections in a network namespace.
pub fn run_load(netns: &Netns, count: u64) -> io::Result<Made> {
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            netns.enter()?;
            short_connections(count)
        });
        load.join().map_err(|_| io::Error::other("the load panicked"))?
    })
}

/// In the calling thread's network namespace.
fn short_connections(count: u64) -> io::Result<Made> {
    let began = Instant::now();
    thread::scope(|scope| {
        let playing: Vec<_> = (0..THREADS)
            .map(|n| {
                let share = count / THREADS + u64::from(n < count % THREADS);
                scope.spawn(move || both_ends(share, n as u8))
            })
            .collect();
        let mut latencies = Vec::new();
        for thread in playing {
            let joined = thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
            latencies.append(&mut joined?);
        }
        let took = began.elapsed();
        latencies.sort_unstable();
        let connect_p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
        Ok(Made { connections: latencies.len() as u64, took, connect_p99 })
    })
}

/// Threads, each with a listener of its own. Where they shared one, a thread would take the other's
/// connections, and wait for it.
pub const THREADS: u64 = 2;
/// Distinct sources, 127.1.x.y, take turns: each has 28,000 ports, which stay in TIME_WAIT.
const SOURCES: u64 = 64;

/// Plays client and server in turn, so that nobody waits for another thread: over loopback what one
/// end sends has arrived when the call returns. With a thread for each end, half of the time went
/// into switching between them. Returns how long each connect() took.
fn both_ends(count: u64, thread: u8) -> io::Result<Vec<Duration>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    let mut latencies = Vec::with_capacity(count as usize);
    for n in 0..count {
        let source = Ipv4Addr::new(127, 1, thread, (n % SOURCES) as u8 + 1);
        let began = Instant::now();
        let mut client = connect_from(source, server)?;
        latencies.push(began.elapsed());
        // Accepted before the client closes, as where a server keeps up.
        let (mut accepted, _) = listener.accept()?;
        client.shutdown(Shutdown::Write)?;
        ends(&mut accepted)?;
        // From CLOSE_WAIT on, where the end of the stream has brought it.
        drop(accepted);
        ends(&mut client)?;
    }
    Ok(latencies)
}

/// Waits for the end of a stream in which nothing was sent.
fn ends(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0; 1])? {
        0 => Ok(()),
        _ => Err(io::Error::other("data that nobody sent")),
    }
}

/// A connection from an address of one's own choice.
pub fn connect_from(source: Ipv4Addr, server: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with,
    };
    let fd = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        Some(ipproto::TCP),
    )?;
    // The port is chosen at connect: by then the kernel knows the whole tuple, and finds one
    // quickly (IP_BIND_ADDRESS_NO_PORT, ip(7)).
    set_bind_address_no_port(&fd)?;
    bind(&fd, &SocketAddr::from((source, 0)))?;
    connect(&fd, &server)?;
    Ok(TcpStream::from(fd))
}

fn set_bind_address_no_port(fd: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
