//! What a recording says of this host.

use std::fs;

use jiff::Timestamp;
use rustix::system::uname;

use super::{
    boot_now,
    netns::{NAMED, Netns},
    text,
};
use crate::source::recording::Header;

/// Settings that bear on how long connections stay, on queues, ports and descriptors
/// (Documentation/networking/ip-sysctl.rst, Documentation/admin-guide/sysctl in the kernel).
const SYSCTLS: [&str; 27] = [
    "fs.file-max",
    "fs.file-nr",
    "fs.nr_open",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_abort_on_overflow",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_migrate_req",
    "net.ipv4.tcp_orphan_retries",
    "net.ipv4.tcp_retries1",
    "net.ipv4.tcp_retries2",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syn_retries",
    "net.ipv4.tcp_synack_retries",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_user_timeout",
    "net.ipv4.tcp_wmem",
];
/// More named network namespaces than these are not listed.
const NAMESPACES: usize = 10_000;

/// The part of a header that is about the host, now. What can't be read is left out.
#[must_use]
pub fn header() -> Header {
    let names = uname();
    let one = |path: &str| text(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let began_ns = boot_now();
    let offset = Timestamp::now().as_nanosecond() - i128::from(began_ns);
    Header {
        recording: drawn(&one("/proc/sys/kernel/random/uuid")),
        host: names.nodename().to_string_lossy().into_owned(),
        kernel: names.release().to_string_lossy().into_owned(),
        machine: names.machine().to_string_lossy().into_owned(),
        boot: one("/proc/sys/kernel/random/boot_id"),
        began_ns,
        offset_ns: i64::try_from(offset).unwrap_or(0),
        namespaces: namespaces(),
        sysctls: sysctls(),
        ..Header::default()
    }
}

/// The first half of a UUID that was drawn at random.
fn drawn(uuid: &str) -> u64 {
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}

fn namespaces() -> Vec<(u32, String)> {
    let named = fs::read_dir(NAMED).into_iter().flatten().flatten().take(NAMESPACES);
    let named = named.filter_map(|entry| {
        let inode = Netns::of(&entry.path()).ok()?.inode;
        Some((inode, entry.file_name().to_string_lossy().into_owned()))
    });
    named.collect()
}

fn sysctls() -> Vec<(String, String)> {
    let value = |name: &str| {
        let value = text(&format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
        Some((name.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    SYSCTLS.into_iter().filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host() {
        let header = header();
        assert!(header.recording != 0 && header.recording != super::header().recording);
        assert!(!header.host.is_empty() && !header.kernel.is_empty() && header.boot.len() == 36);
        let fin = header.sysctls.iter().find(|(name, _)| name == "net.ipv4.tcp_fin_timeout");
        assert!(fin.is_some_and(|(_, value)| value.parse::<u32>().is_ok()), "{header:?}");
    }
}
