//! The system calls of the thread that answers requests.

use seccompiler::{Error, SeccompAction, apply_filter};

use super::{
    rules::{calls, program, second, sends},
    seccomp::REFUSAL,
};

/// From here on this thread makes only the calls of one that answers requests: it opens no file,
/// and knows no socket but those that come in. To be called after [`super::seccomp::confine`].
/// There is no way back.
///
/// # Errors
/// What the kernel answers.
pub fn confine() -> Result<(), Error> {
    let mut rules = calls(&[libc::SYS_accept4, libc::SYS_shutdown])?;
    rules.insert(libc::SYS_sendto, vec![sends()?]);
    // Debug builds ask whether what they close is open.
    rules.insert(libc::SYS_fcntl, vec![second(libc::F_GETFD as u64)?]);
    apply_filter(&program(rules, REFUSAL, SeccompAction::Allow)?)
}
