//! The `bpf()` calls that aya has no name for: iterators over a map's elements, the size of the
//! kernel's BTF.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_BTF_GET_FD_BY_ID: libc::c_long = 19;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_ITER_CREATE: libc::c_long = 33;
const BPF_TRACE_ITER: u32 = 28;
const BPF_PERF_EVENT: u32 = 41;

/// `union bpf_attr`, the `link_create` member with the iterator's information (uapi/linux/bpf.h).
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    pad: u32,
}

/// `union bpf_iter_link_info`, the `map` member.
#[repr(C)]
struct MapInfo {
    map_fd: u32,
    pad: [u32; 3],
}

/// `union bpf_attr`, the `iter_create` member.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// `union bpf_attr`, the `info` member.
#[repr(C)]
struct GetInfo {
    fd: u32,
    len: u32,
    info: u64,
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Default)]
struct BtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

/// For commands whose answer is a number.
fn call<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is the kernel's layout for `command`, readable for its size; the kernel takes
    // what it leaves out as zero.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    i32::try_from(answer).ok().filter(|n| *n >= 0).ok_or_else(io::Error::last_os_error)
}

/// For commands whose answer is a descriptor.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Length of the running kernel's own BTF, bytes. It is the first that the kernel has, with id 1.
/// Takes CAP_SYS_ADMIN.
pub fn kernel_btf_size() -> io::Result<u32> {
    let btf = bpf(BPF_BTF_GET_FD_BY_ID, &1u32)?;
    let mut name = [0; 8];
    let mut info = BtfInfo {
        name: name.as_mut_ptr() as u64,
        name_len: name.len() as u32,
        ..BtfInfo::default()
    };
    let len = size_of::<BtfInfo>() as u32;
    // The kernel writes into `info`, and the name into `name`: both live here.
    call(
        BPF_OBJ_GET_INFO_BY_FD,
        &GetInfo { fd: btf.as_raw_fd().cast_unsigned(), len, info: &raw mut info as u64 },
    )?;
    if info.kernel_btf == 0 || name != *b"vmlinux\0" {
        return Err(io::Error::other("the first BTF is not the kernel's own"));
    }
    Ok(info.btf_size)
}

/// Links an iterator program, over the elements of `map` where it is one over a map.
pub fn link_iter(program: BorrowedFd<'_>, map: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let info = MapInfo { map_fd: map.map_or(0, |m| m.as_raw_fd().cast_unsigned()), pad: [0; 3] };
    let (iter_info, iter_info_len) = match map {
        Some(_) => (&raw const info as u64, size_of::<MapInfo>() as u32),
        None => (0, 0),
    };
    bpf(
        BPF_LINK_CREATE,
        &LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            iter_info,
            iter_info_len,
            pad: 0,
        },
    )
}

/// Links a program of tracepoints to a perf event (from 5.15 on).
pub fn link_event(program: BorrowedFd<'_>, event: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    bpf(
        BPF_LINK_CREATE,
        &LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: event.as_raw_fd().cast_unsigned(),
            attach_type: BPF_PERF_EVENT,
            flags: 0,
            iter_info: 0,
            iter_info_len: 0,
            pad: 0,
        },
    )
}

/// Starts a linked iterator. One over sockets sees the network namespace, one over tasks
/// the pid namespace, that the calling thread is in now.
pub fn open_iter(link: BorrowedFd<'_>) -> io::Result<File> {
    bpf(BPF_ITER_CREATE, &IterCreate { link_fd: link.as_raw_fd().cast_unsigned(), flags: 0 })
        .map(File::from)
}
