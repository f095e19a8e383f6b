//! Readers of what others wrote: netlink, BTF, the text of `/proc`, cgroup and container names.
//! Pure: bytes come in as arguments.

pub mod arguments;
pub mod btf;
pub mod calls;
pub mod cgroup;
pub mod config_file;
pub mod container;
pub mod descriptor;
pub mod elf;
pub mod fdinfo;
pub mod go;
pub mod jvm_dump;
pub mod lines;
pub mod local_addresses;
pub mod maps;
pub mod mounts;
pub mod net_lines;
mod netlink;
pub mod perf_map;
pub mod pod_list;
pub mod pods;
pub mod ports;
pub mod python;
pub mod sock_diag;
pub mod stat;
pub mod sysctl;
pub mod threads;
pub mod unix_diag;
