//! tcptrace's kernel programs. One file per hook; this one is their table of contents.
//!
//! | program | hook | does |
//! |---|---|---|
//! | `set_state` | `tp_btf/inet_sock_set_state` | times stays in watched states, counts, emits |
//! | `destroy` | `tp_btf/tcp_destroy_sock` | ends the stay of a socket that the kernel frees |
//! | `set_state_of_run`, `destroy_of_run` | the same | the same, and whether the task is ending |
//! | `scan` | `iter/bpf_sk_storage_map` | lists the live stays that are due for a report |
//! | `holders` | `iter/task_file` | lists who has a descriptor for those, and for listeners |
//! | `snapshot` | `iter/task_file` | lists who has a descriptor for anything, ghosts included |
//! | `adopt` | `iter/tcp` | gives sockets whose change of state nobody saw a stay |
//! | `accepted` | exit of `accept`, `accept4` | origins: who accepted a connection |
//! | `connected` | `tp_btf/inet_sock_set_state` | origins: who opened one |
//! | `received` | `tp_btf/sock_recv_length` | origins: who read from one, and who its end |
//! | `forget` | `tp_btf/tcp_destroy_sock` | origins: the socket is gone |
//! | `normal` | `tp_btf/inet_sock_set_state` | how long stays last as a rule, by where they lead |
//! | `empty` | `tp_btf/inet_sock_set_state` | nothing: what `cargo xtask bench` compares with |
#![no_std]
#![no_main]
// The library has no compare-and-exchange for BPF, which has the instruction since Linux 5.12, and
// the compiler no fence for its own stores.
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the nightly that builds this is pinned")]

mod adopt;
mod destroy;
mod filter;
mod holders;
mod log;
mod maps;
mod normal;
mod nursery;
mod offsets;
mod origin;
mod scan;
mod seq;
mod set_state;
mod snapshot;
mod sock;
mod stack;
mod stream;
mod word;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "inet_sock_set_state")]
fn empty(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers such as socket storage and cookies are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
