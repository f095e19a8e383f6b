//! Other hosts: their agents over HTTP, or a Prometheus that scrapes them. What they answer is as
//! untrusted as a file that somebody sent.

pub mod agent;
pub mod http;
pub mod prometheus;
