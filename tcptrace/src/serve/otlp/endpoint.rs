//! Where the collector is, as people write it.

use std::fmt;

use hyper::Uri;

use super::queue::Signal;

/// How it is spoken to, as `OTEL_EXPORTER_OTLP_PROTOCOL` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in requests of HTTP/1.1.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// An address: `https://collector:4318/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// With TLS.
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port; where none is written, the scheme's.
    pub port: u16,
    /// What requests call it.
    pub authority: String,
    /// What stands before `/v1/logs`, without a slash at its end.
    pub prefix: String,
}

impl Endpoint {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HELP: &str = "write http://HOST:4318 or https://HOST:4318 (gRPC: 4317)";
        let uri: Uri = text.parse().map_err(|e| format!("{e}; {HELP}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some("grpc" | "grpcs") => {
                return Err("write http:// or https://, and --otlp-protocol grpc".to_owned());
            }
            _ => return Err(HELP.to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            let instead = "write what the collector asks for into a file: --otlp-header-file";
            return Err(format!("others can read the password here; {instead}"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(format!("no host in it; {HELP}"));
        }
        // The library takes a port that is none for a part of the name.
        let port = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            Some(_) => uri.port_u16().filter(|n| *n > 0).ok_or(HELP)?,
        };
        if uri.query().is_some() {
            return Err("an address of a collector has no '?'".to_owned());
        }
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_tls, host, port, authority: authority.to_owned(), prefix })
    }

    /// Where requests go: by the specification of `OTEL_EXPORTER_OTLP_ENDPOINT`, or by the
    /// service's name.
    #[must_use]
    pub fn path(&self, protocol: Protocol, signal: Signal) -> String {
        match (protocol, signal) {
            (Protocol::Http, Signal::Logs) => format!("{}/v1/logs", self.prefix),
            (Protocol::Http, Signal::Metrics) => format!("{}/v1/metrics", self.prefix),
            (Protocol::Grpc, Signal::Logs) => {
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export".to_owned()
            }
            (Protocol::Grpc, Signal::Metrics) => {
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export".to_owned()
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, host, port, path) in [
            ("http://otel:4318", "otel", 4318, "/v1/logs"),
            ("http://otel:4318/", "otel", 4318, "/v1/logs"),
            ("https://otlp.example/otlp/", "otlp.example", 443, "/otlp/v1/logs"),
            ("http://[::1]:4318/a/b", "::1", 4318, "/a/b/v1/logs"),
            ("http://[::1]", "::1", 80, "/v1/logs"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((&*endpoint.host, endpoint.port), (host, port), "{text}");
            assert_eq!(endpoint.path(Protocol::Http, Signal::Logs), path, "{text}");
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
        for (text, told) in [
            ("", "write http://HOST:4318"),
            ("otel:4318", "write http://HOST:4318"),
            ("grpc://otel:4317", "--otlp-protocol grpc"),
            ("http://", "write http://HOST:4318"),
            ("http://otel:99999", "write http://HOST:4318"),
            ("http://otel:0", "write http://HOST:4318"),
            ("http://a:b@otel:4318", "--otlp-header-file"),
            ("http://otel:4318/?x=y", "no '?'"),
            ("ftp://otel", "write http://HOST:4318"),
        ] {
            let problem = Endpoint::parse(text).expect_err(text);
            assert!(problem.contains(told), "{text}: {problem}");
        }
    }
}
