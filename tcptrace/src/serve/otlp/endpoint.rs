//! Where the collector is, as people write it.

use std::fmt;

use super::queue::Signal;
use crate::serve::client::address::{Help, ServerAddress, UsualPorts};

/// How it is spoken to, as `OTEL_EXPORTER_OTLP_PROTOCOL` names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in requests of HTTP/1.1.
    #[default]
    Http,
    /// gRPC.
    Grpc,
}

/// A collector's address; its path is what stands before `/v1/logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: ServerAddress,
}

impl Endpoint {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HELP: Help = Help {
            usual: "write http://HOST:4318 or https://HOST:4318 (gRPC: 4317)",
            secrets: "write what the collector asks for into a file: --otlp-header-file",
        };
        if text.starts_with("grpc://") || text.starts_with("grpcs://") {
            return Err("write http:// or https://, and --otlp-protocol grpc".to_owned());
        }
        let ports = UsualPorts { http: 80, https: 443 };
        Ok(Self { address: ServerAddress::parse(text, ports, HELP)? })
    }

    /// Where requests go: by the specification of `OTEL_EXPORTER_OTLP_ENDPOINT`, or by the
    /// service's name.
    #[must_use]
    pub fn path(&self, protocol: Protocol, signal: Signal) -> String {
        match (protocol, signal) {
            (Protocol::Http, Signal::Logs) => format!("{}/v1/logs", self.address.path),
            (Protocol::Http, Signal::Metrics) => format!("{}/v1/metrics", self.address.path),
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
        self.address.fmt(f)
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
            assert_eq!((&*endpoint.address.host, endpoint.address.port), (host, port), "{text}");
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
