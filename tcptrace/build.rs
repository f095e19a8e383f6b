//! Builds the kernel programs and leaves their object where `bpf::loader` embeds it.

fn main() -> anyhow::Result<()> {
    let log = std::env::var_os("CARGO_FEATURE_KERNEL_LOG").is_some();
    let package = aya_build::Package {
        name: "tcptrace-ebpf",
        root_dir: "../tcptrace-ebpf",
        no_default_features: false,
        features: if log { &["kernel-log"] } else { &[] },
    };
    println!("cargo:rerun-if-changed=../tcptrace-common");
    println!("cargo:rerun-if-env-changed=TCPTRACE_NIGHTLY");
    // The toolchain is pinned in one place, xtask, which hands it over; a bare cargo build takes
    // the nightly that is there.
    let nightly = std::env::var("TCPTRACE_NIGHTLY").unwrap_or_else(|_| "nightly".to_owned());
    // Line numbers, for the verifier's log, come with paths: those of the sources, wherever they
    // lie.
    // SAFETY: a build script is one thread.
    unsafe {
        std::env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        std::env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
    }
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(&nightly))
}
