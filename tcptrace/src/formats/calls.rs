//! System calls by name.

/// Whether a call's first argument is the descriptor that it waits on.
#[must_use]
pub fn takes_descriptor(call: &str) -> bool {
    matches!(
        call,
        "read"
            | "pread64"
            | "readv"
            | "preadv"
            | "preadv2"
            | "recv"
            | "recvfrom"
            | "recvmsg"
            | "recvmmsg"
            | "write"
            | "pwrite64"
            | "writev"
            | "pwritev"
            | "pwritev2"
            | "send"
            | "sendto"
            | "sendmsg"
            | "sendmmsg"
            | "sendfile"
            | "splice"
            | "tee"
            | "vmsplice"
            | "copy_file_range"
            | "accept"
            | "accept4"
            | "connect"
            | "bind"
            | "listen"
            | "shutdown"
            | "close"
            | "getsockopt"
            | "setsockopt"
            | "getsockname"
            | "getpeername"
            | "epoll_wait"
            | "epoll_pwait"
            | "epoll_pwait2"
            | "epoll_ctl"
            | "io_uring_enter"
            | "ioctl"
            | "fcntl"
            | "flock"
            | "fsync"
            | "fdatasync"
            | "sync_file_range"
            | "ftruncate"
            | "fallocate"
            | "fstat"
            | "lseek"
            | "getdents"
            | "getdents64"
            | "mq_timedreceive"
            | "mq_timedsend"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_wait_on_a_descriptor() {
        assert!(takes_descriptor("read") && takes_descriptor("accept4"));
        // Their first arguments are an address, a set, a count.
        for call in ["futex", "poll", "select", "nanosleep", ""] {
            assert!(!takes_descriptor(call), "{call}");
        }
    }
}
