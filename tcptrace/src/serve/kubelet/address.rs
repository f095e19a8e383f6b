//! Where the kubelet is, as people write it.

use crate::serve::client::address::{Help, ServerAddress, UsualPorts};

/// Its ports (pkg/cluster/ports): its own, and the old one that only reads.
const PORTS: UsualPorts = UsualPorts { http: 10_255, https: 10_250 };

/// Reads one: `https://127.0.0.1:10250`.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn parse(text: &str) -> Result<ServerAddress, String> {
    const USUAL: &str = "write a directory, or https://HOST:10250";
    let help = Help { usual: USUAL, secrets: "write a token into a file: --pods-token-file" };
    let address = ServerAddress::parse(text, PORTS, help)?;
    if !address.path.is_empty() {
        return Err("the kubelet's address has no path: leave it away".to_owned());
    }
    let is_here = address.host == "localhost" || address.ip().is_some_and(|ip| ip.is_loopback());
    if !address.is_tls && !is_here {
        return Err("without TLS anybody on the way could answer: write https://, or \
                    http://127.0.0.1:10255 on the node itself"
            .to_owned());
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, host, port) in [
            ("https://127.0.0.1:10250", "127.0.0.1", 10_250),
            ("https://node-7/", "node-7", 10_250),
            ("https://[fd00::2]", "fd00::2", 10_250),
            ("http://localhost", "localhost", 10_255),
            ("http://[::1]:10255/", "::1", 10_255),
        ] {
            let address = parse(text).expect(text);
            assert_eq!((&*address.host, address.port), (host, port), "{text}");
        }
        for (text, told) in [
            ("ftp://node", "write a directory, or https://HOST:10250"),
            ("https://", "write a directory, or https://HOST:10250"),
            ("https://node:0", "write a directory, or https://HOST:10250"),
            ("https://fd00::2:10250", "write a directory, or https://HOST:10250"),
            ("https://node/pods", "leave it away"),
            ("https://api/api/v1/nodes/n/proxy", "leave it away"),
            ("https://token@node", "--pods-token-file"),
            ("http://10.0.0.7:10255", "without TLS anybody"),
            ("http://node:10255", "without TLS anybody"),
        ] {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(told), "{text}: {problem}");
        }
    }
}
