//! Where the kernel's BTF is read.

use std::{fs, path::PathBuf};

use crate::{
    exit::Failure,
    formats::{btf, btf::BtfError},
    source::live::bpf::preflight::KERNEL_BTF,
};

#[derive(Debug, clap::Args)]
#[group(id = "types")]
pub struct Args {
    /// Read this kernel's BTF from a file instead of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "PATH")]
    btf: Option<PathBuf>,
}

impl Args {
    /// Whether one was named.
    pub fn is_given(&self) -> bool {
        self.btf.is_some()
    }

    /// The file to read. One that was named and holds no BTF is an error now.
    pub fn resolve(&self) -> Result<PathBuf, Failure> {
        let Some(path) = &self.btf else { return Ok(KERNEL_BTF.into()) };
        let bad = |why: String| Failure::usage(format!("--btf {}: {why}", path.display()));
        let bytes = fs::read(path).map_err(|e| bad(e.to_string()))?;
        match btf::needed(&bytes) {
            Err(e @ BtfError::Malformed(_)) => {
                Err(bad(format!("{e}; give a copy of this kernel's {KERNEL_BTF}")))
            }
            // Another kernel's is the business of who loads it.
            _ => Ok(path.clone()),
        }
    }
}
