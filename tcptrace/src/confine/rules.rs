//! What filters of system calls are made of.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp::{self, Eq, MaskedEq},
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Calls and the arguments that they are for; no rule: any arguments.
pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(super) fn program(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    // Calls by the numbers of another architecture are fatal in any case.
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, otherwise, listed, here)?.try_into()
}

/// Flags of open() in this argument that neither make, nor empty, nor write. (musl's O_ACCMODE
/// holds O_PATH too, which does nothing of the kind.)
pub(super) fn reading(index: u8) -> Result<SeccompRule, BackendError> {
    argument(
        index,
        MaskedEq((libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64),
        0,
    )
}

/// An argument that is a pointer.
pub(super) fn argument_wide(index: u8, value: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, Qword, Eq, value)?])
}

pub(super) fn first(value: u64) -> Result<SeccompRule, BackendError> {
    argument(0, Eq, value)
}

pub(super) fn second(value: u64) -> Result<SeccompRule, BackendError> {
    argument(1, Eq, value)
}

/// A rule about the lower half of one argument: the kernel takes these for `int`s, or has no bits
/// above.
pub(super) fn argument(
    index: u8,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(index, Dword, op, value)?])
}
