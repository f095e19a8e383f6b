//! What only the host knows: processes, their cgroups, who holds what. Each answer may be absent.

pub mod cgroupfs;
pub mod holders;
pub mod host;
pub mod limits;
pub mod netstat;
pub mod process;
pub mod threads;
