//! A load of short connections over loopback, bounded in number: a byte asked, a byte answered. The
//! client closes first, so each connection passes through CLOSE_WAIT on the server's side.

use std::{
    io::{self, Read, Write},
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
            short_connections(count, 2)
        });
        load.join().map_err(|_| io::Error::other("the load panicked"))?
    })
}

/// In the calling thread's network namespace, `clients` at a time, each client with an address of
/// its own so that ports don't run out in TIME_WAIT.
fn short_connections(count: u64, clients: u64) -> io::Result<Made> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let server = listener.local_addr()?;
    let each = count / clients;
    let total = each * clients;
    let began = Instant::now();
    thread::scope(|scope| {
        let serve = scope.spawn(|| serve(&listener, total));
        let connecting: Vec<_> =
            (0..clients).map(|n| scope.spawn(move || connect(server, each, n))).collect();
        let mut latencies = Vec::new();
        for client in connecting {
            latencies
                .append(&mut client.join().map_err(|_| io::Error::other("a client panicked"))??);
        }
        serve.join().map_err(|_| io::Error::other("the server panicked"))??;
        let took = began.elapsed();
        latencies.sort_unstable();
        let connect_p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
        Ok(Made { connections: total, took, connect_p99 })
    })
}

fn serve(listener: &TcpListener, count: u64) -> io::Result<()> {
    for _ in 0..count {
        let (mut stream, _) = listener.accept()?;
        let mut byte = [0; 1];
        // A request, its answer, and the end of the stream: from there on we are in CLOSE_WAIT, for
        // as long as it takes to close.
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
    }
    Ok(())
}

/// Distinct sources, 127.1.x.y, take turns: each has 28,000 ports.
const SOURCES: u64 = 64;

/// Returns how long each connect() took.
fn connect(server: SocketAddr, count: u64, client: u64) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::with_capacity(count as usize);
    for n in 0..count {
        let source = Ipv4Addr::new(127, 1, client as u8, (n % SOURCES) as u8 + 1);
        let began = Instant::now();
        let mut stream = connect_from(source, server)?;
        latencies.push(began.elapsed());
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0; 1])?;
        // First to close, but not to leave: who runs ahead of the server fills its accept queue,
        // and a dropped SYN costs a second.
        stream.shutdown(Shutdown::Write)?;
        while stream.read(&mut [0; 1])? > 0 {}
    }
    Ok(latencies)
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
