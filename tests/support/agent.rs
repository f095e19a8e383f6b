//! `tcptrace serve`, until it says where it listens.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// An agent. It ends with this.
pub struct Agent {
    pub child: Child,
    /// Where it listens.
    pub at: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Agent {
    /// Starts one; the command says all but where its stderr goes.
    pub fn serving(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let stderr = child.stderr.take().ok_or_else(|| io::Error::other("no stderr"))?;
        let mut agent = Self { child, at: ([0; 4], 0).into(), said: Arc::default() };
        let (mut stderr, mut said) = (BufReader::new(stderr), String::new());
        while agent.at.port() == 0 {
            if stderr.read_line(&mut said)? == 0 {
                return Err(io::Error::other(format!("it ended before it served: {said}")));
            }
            let at = said.split_once("://").and_then(|(_, rest)| rest.split_once(';'));
            if let Some((at, _)) = at {
                agent.at = at.parse().map_err(io::Error::other)?;
            }
        }
        // What else it says must not block it.
        let heard = Arc::clone(&agent.said);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) += &(line + "\n");
            }
        });
        Ok(agent)
    }

    /// What it has said since it serves.
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
