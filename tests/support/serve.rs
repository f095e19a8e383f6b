//! A server that a load comes to from outside, and the load: in a machine of its own, reached
//! through its network card.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

/// Connections to this port are closed once the client has closed.
pub const SHORT: u16 = 8080;
/// Those to this one are kept for ever: each is a leak.
pub const LEAKING: u16 = 8081;
/// The first to this one says that there is no more to come.
pub const END: u16 = 8082;

/// Threads that serve short connections: while one closes a socket, packets for others come in.
const THREADS: usize = 4;

/// Serves all three, says `SERVING` when they are there and `SERVED` when the end has come, and
/// then holds the leaks for as long as its input is open.
pub fn serve() -> io::Result<()> {
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let (short, leaking, end) = (listen(SHORT)?, listen(LEAKING)?, listen(END)?);
    for _ in 0..THREADS {
        let short = short.try_clone()?;
        thread::spawn(move || {
            while let Ok((stream, _)) = short.accept() {
                // A connection that is reset has ended, too.
                let _ = to_the_end(stream);
            }
        });
    }
    thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = leaking.accept() {
            kept.push(stream);
        }
    });
    writeln!(io::stdout(), "SERVING")?;
    end.accept()?;
    writeln!(io::stdout(), "SERVED")?;
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

fn to_the_end(mut stream: TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 64])? > 0 {}
    Ok(())
}

/// Makes `count` short connections, one after the other; returns how many came about.
pub fn short(server: SocketAddr, count: u64) -> u64 {
    let one = || -> io::Result<()> {
        let stream = TcpStream::connect(server)?;
        stream.shutdown(Shutdown::Write)?;
        to_the_end(stream)
    };
    (0..count).filter(|_| one().is_ok()).count() as u64
}

/// Plants a leak: connects, and closes.
pub fn plant(server: SocketAddr) -> io::Result<()> {
    TcpStream::connect(server).map(drop)
}
