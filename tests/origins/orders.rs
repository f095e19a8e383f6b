//! A shop that never closes, as orders.c: `orders accept|ignore|connect N PORT`.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

/// What the crawler has read stays here.
struct Crawler {
    kept: Vec<TcpStream>,
}

impl Crawler {
    #[inline(never)]
    fn fetch(&mut self, mut connection: TcpStream) -> io::Result<()> {
        let mut bytes = [0; 256];
        while connection.read(&mut bytes)? > 0 {}
        self.kept.push(connection);
        Ok(())
    }

    #[inline(never)]
    fn crawl(&mut self, handed: &Receiver<TcpStream>) -> io::Result<()> {
        handed.iter().try_for_each(|connection| self.fetch(connection))
    }
}

/// Inlined wherever it is called.
#[inline(always)]
fn next_customer(listener: &TcpListener) -> io::Result<TcpStream> {
    Ok(listener.accept()?.0)
}

#[inline(never)]
fn take_order(listener: &TcpListener, taken: &mut usize) -> io::Result<TcpStream> {
    let connection = next_customer(listener)?;
    *taken += 1;
    Ok(connection)
}

#[inline(never)]
fn serve_orders(listener: &TcpListener, count: usize, hand: impl Fn(TcpStream)) -> io::Result<()> {
    let mut taken = 0;
    while taken < count {
        hand(take_order(listener, &mut taken)?);
    }
    Ok(())
}

#[inline(never)]
fn dial_supplier(to: SocketAddr, dialled: &mut usize) -> io::Result<TcpStream> {
    let connection = TcpStream::connect(to)?;
    *dialled += 1;
    Ok(connection)
}

#[inline(never)]
fn dial_suppliers(to: SocketAddr, count: usize, hand: &Sender<TcpStream>) -> io::Result<()> {
    let mut dialled = 0;
    while dialled < count {
        hand.send(dial_supplier(to, &mut dialled)?).map_err(io::Error::other)?;
    }
    Ok(())
}

fn start(name: &str, run: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let run = move || {
        if let Err(e) = run() {
            eprintln!("{e}");
            process::exit(1);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, how, count, port] = &args[..] else { process::exit(2) };
    let count: usize = count.parse().map_err(io::Error::other)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().map_err(io::Error::other)?));
    let (hand, handed) = channel();
    // An end that stays: the crawler waits for ever.
    let kept = hand.clone();
    start("crawler", move || Crawler { kept: Vec::new() }.crawl(&handed))?;
    let port = if how == "connect" {
        start("dialer", move || dial_suppliers(address, count, &hand))?;
        address.port()
    } else {
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        let reads = how == "accept";
        start("orders", move || {
            serve_orders(&listener, count, |connection| {
                if reads {
                    let _ = hand.send(connection);
                } else {
                    std::mem::forget(connection);
                }
            })
        })?;
        port
    };
    writeln!(io::stdout(), "ready {port} {}", process::id())?;
    loop {
        let _kept = &kept;
        thread::park();
    }
}
