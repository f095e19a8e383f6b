//! Finds the offsets of struct members in the kernel's BTF (Documentation/bpf/btf.rst).
//!
//! Our own reader because the published ones copy the five megabytes into a tree of objects (and
//! the best of them is LGPL); this one walks the bytes where they lie and keeps nothing.

mod members;

use std::collections::HashMap;

use tcptrace_common::config::{MISSING, Offsets};

use self::members::{MOVED, OPTIONAL};

/// BTF that can't be read, or a kernel that lacks a member we can't do without.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The bytes are not BTF of this machine's byte order.
    #[error("not BTF: {0}")]
    Malformed(&'static str),
    /// A struct member is nowhere to be found.
    #[error("this BTF has no member {path} in struct {strukt}")]
    NoMember {
        /// Struct name.
        strukt: &'static str,
        /// Member path.
        path: &'static str,
    },
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u8 = 1;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_FWD: u8 = 7;
const KIND_TYPEDEF: u8 = 8;
const KIND_VOLATILE: u8 = 9;
const KIND_CONST: u8 = 10;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_VAR: u8 = 14;
const KIND_DATASEC: u8 = 15;
const KIND_DECL_TAG: u8 = 17;
const KIND_TYPE_TAG: u8 = 18;
const KIND_ENUM64: u8 = 19;
const KIND_MAX: u8 = 19;
/// Length of the header, and of a type's fixed part.
const HEADER: u32 = 24;
const TYPE: usize = 12;
/// Anonymous members nest a few deep; modifiers chain a few long.
const MAX_DEPTH: u32 = 16;
/// No struct has as many members, those of anonymous ones included: what nests them so that they
/// multiply is not searched to the end.
const MAX_MEMBERS: u32 = 4096;
/// The kernel's symbols are no longer (KSYM_NAME_LEN).
const MAX_NAME: usize = 512;

/// What is needed of the kernel's BTF.
#[derive(Debug)]
pub struct Needed {
    /// The offsets that the kernel programs need. Members listed as optional may be missing.
    pub offsets: Offsets,
    /// BTF in which only what programs attach to has a name, under the kernel's own ids: all that
    /// the loader asks for, without a tree of all the kernel's types.
    pub attachable: Vec<u8>,
}

/// Reads the kernel's BTF.
///
/// # Errors
/// [`BtfError`] where the bytes make no sense or a needed member is missing.
pub fn needed(btf: &[u8]) -> Result<Needed, BtfError> {
    let btf = Btf::parse(btf)?;
    Ok(Needed { offsets: offsets(&btf)?, attachable: btf.attachable() })
}

fn offsets(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let mut missing = None;
    let offsets = Offsets::resolve(|strukt, path| {
        match btf.moved(strukt, path).or_else(|| btf.offset(strukt, path)) {
            Some(offset) => offset,
            None => {
                if !OPTIONAL.contains(&(strukt, path)) {
                    missing.get_or_insert(BtfError::NoMember { strukt, path });
                }
                MISSING
            }
        }
    });
    missing.map_or(Ok(offsets), Err)
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where the type with id `n + 1` begins in `types`.
    starts: Vec<u32>,
    /// Structs by name, those that [`Offsets`] names.
    structs: HashMap<&'static str, u32>,
    /// What programs attach to: id, kind, and where in `strings` the name is.
    hooks: Vec<(u32, u8, u32)>,
}

/// One type's fixed part.
struct Type {
    kind: u8,
    kind_flag: bool,
    vlen: u32,
    /// Size or type id, by kind.
    size_or_type: u32,
    name: u32,
    /// Where its variable part begins.
    rest: usize,
}

impl<'a> Btf<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        let short = BtfError::Malformed("shorter than its header says");
        if u16_at(data, 0).ok_or_else(|| short.clone())? != MAGIC {
            return Err(BtfError::Malformed("no BTF magic"));
        }
        let field = |at| u32_at(data, at).map(|v| v as usize).ok_or_else(|| short.clone());
        let header = field(4)?;
        let section = |offset: usize, len: usize| {
            let start = header.checked_add(offset)?;
            data.get(start..start.checked_add(len)?)
        };
        let types = section(field(8)?, field(12)?).ok_or_else(|| short.clone())?;
        let strings = section(field(16)?, field(20)?).ok_or(short)?;
        let mut btf = Self {
            types,
            strings,
            starts: Vec::with_capacity(types.len() / 24),
            structs: HashMap::new(),
            hooks: Vec::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    /// Walks all types once.
    fn index(&mut self) -> Result<(), BtfError> {
        let wanted: Vec<&'static str> = Offsets::NONE.named().map(|(strukt, _, _)| strukt).to_vec();
        let mut at = 0;
        while at < self.types.len() {
            let start = u32::try_from(at).map_err(|_| BtfError::Malformed("larger than 4 GiB"))?;
            self.starts.push(start);
            let t = self.at(at).ok_or(BtfError::Malformed("cut in the middle of a type"))?;
            if t.kind == KIND_STRUCT
                && t.vlen > 0
                && let Some(strukt) = wanted.iter().find(|w| self.is_named(t.name, w))
            {
                self.structs.entry(strukt).or_insert(self.starts.len() as u32);
            }
            if matches!(t.kind, KIND_TYPEDEF | KIND_FUNC) {
                let name = self.strings.get(t.name as usize..).unwrap_or_default();
                if name.starts_with(if t.kind == KIND_FUNC { b"bpf_iter_" } else { b"btf_trace_" })
                {
                    self.hooks.push((self.starts.len() as u32, t.kind, t.name));
                }
            }
            at = t.rest + variable_part(&t)?;
        }
        if at > self.types.len() {
            return Err(BtfError::Malformed("cut in the middle of a type"));
        }
        Ok(())
    }

    /// See [`Needed::attachable`].
    fn attachable(&self) -> Vec<u8> {
        let last = self.hooks.last().map_or(0, |hook| hook.0);
        let mut types = vec![0; last as usize * TYPE];
        for unnamed in types.chunks_exact_mut(TYPE) {
            unnamed[4..8].copy_from_slice(&info(KIND_FWD));
        }
        let mut strings = vec![0];
        for (id, kind, name) in &self.hooks {
            let at = (*id as usize - 1) * TYPE;
            let offset = u32::try_from(strings.len()).unwrap_or(0);
            types[at..at + 4].copy_from_slice(&offset.to_ne_bytes());
            types[at + 4..at + 8].copy_from_slice(&info(*kind));
            strings.extend(self.string(*name).unwrap_or_default());
            strings.push(0);
        }
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(0);
        let header =
            [HEADER, 0, len(&types), len(&types), len(&strings)].map(u32::to_ne_bytes).concat();
        let magic = [&MAGIC.to_ne_bytes()[..], &[1, 0]].concat();
        [magic, header, types, strings].concat()
    }

    fn at(&self, at: usize) -> Option<Type> {
        let info = u32_at(self.types, at + 4)?;
        Some(Type {
            kind: (info >> 24 & 0x1f) as u8,
            kind_flag: info >> 31 != 0,
            vlen: info & 0xffff,
            size_or_type: u32_at(self.types, at + 8)?,
            name: u32_at(self.types, at)?,
            rest: at + 12,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        self.at(*self.starts.get((id as usize).checked_sub(1)?)? as usize)
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        Some(&rest[..rest.iter().take(MAX_NAME).position(|b| *b == 0)?])
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest =
            self.strings.get(offset as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }

    /// The offset of a member by its new name, where it has one.
    fn moved(&self, strukt: &'static str, path: &'static str) -> Option<u32> {
        let (_, (strukt, path)) = MOVED.iter().find(|(old, _)| *old == (strukt, path))?;
        self.offset(strukt, path)
    }

    /// The byte offset of a member, named by a path with dots.
    fn offset(&self, strukt: &'static str, path: &'static str) -> Option<u32> {
        let mut id = *self.structs.get(strukt)?;
        let mut bits = 0;
        for name in path.split('.') {
            let (member_bits, member_type) = self.member(id, name, 0, &mut { MAX_MEMBERS })?;
            bits = member_bits.checked_add(bits)?;
            id = member_type;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Bit offset and type of a member, those of anonymous structs and unions included; at most
    /// `left` members are looked at.
    fn member(&self, id: u32, name: &str, depth: u32, left: &mut u32) -> Option<(u32, u32)> {
        let t = self.strip(id)?;
        if depth > MAX_DEPTH || !matches!(t.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        for n in 0..t.vlen as usize {
            let at = t.rest + n * 12;
            *left = left.checked_sub(1)?;
            let member_name = u32_at(self.types, at)?;
            let member_type = u32_at(self.types, at + 4)?;
            let raw = u32_at(self.types, at + 8)?;
            let (offset, bitfield) =
                if t.kind_flag { (raw & 0xff_ffff, raw >> 24 != 0) } else { (raw, false) };
            let within = |bits: u32| (bits / 8 < t.size_or_type).then_some(bits);
            if self.is_named(member_name, name) {
                return if bitfield { None } else { Some((within(offset)?, member_type)) };
            }
            if self.is_named(member_name, "")
                && let Some((inner, inner_type)) = self.member(member_type, name, depth + 1, left)
            {
                return Some((within(offset.checked_add(inner)?)?, inner_type));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let t = self.by_id(id)?;
            if !matches!(t.kind, KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_TYPE_TAG) {
                return Some(t);
            }
            id = t.size_or_type;
        }
        None
    }
}

/// A type's second word: its kind, and nothing else.
fn info(kind: u8) -> [u8; 4] {
    (u32::from(kind) << 24).to_ne_bytes()
}

/// Length of what follows a type's fixed part.
fn variable_part(t: &Type) -> Result<usize, BtfError> {
    let vlen = t.vlen as usize;
    match t.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => Ok(4),
        KIND_ARRAY => Ok(12),
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => Ok(12 * vlen),
        KIND_ENUM | KIND_FUNC_PROTO => Ok(8 * vlen),
        1..=KIND_MAX => Ok(0),
        _ => Err(BtfError::Malformed("a kind of type that this version does not know")),
    }
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vmlinux() -> Vec<u8> {
        std::fs::read("/sys/kernel/btf/vmlinux").expect("this kernel has BTF")
    }

    #[test]
    fn the_running_kernel_has_every_member() {
        let offsets = needed(&vmlinux()).expect("all needed members").offsets;
        let missing = offsets.named().into_iter().filter(|(_, _, offset)| *offset == MISSING);
        assert!(
            missing.clone().all(|(strukt, _, _)| matches!(strukt, "file" | "pt_regs")),
            "{:?}",
            missing.collect::<Vec<_>>()
        );
        assert!(offsets.file_count != MISSING || offsets.file_ref != MISSING);
        // Part of the sock_common layout that has not moved since it exists: family follows
        // addresses, hash and ports.
        assert_eq!(offsets.sk_daddr, 0);
        assert_eq!(offsets.sk_family, 16);
    }

    #[test]
    fn what_programs_attach_to_keeps_its_id() {
        let data = vmlinux();
        let small = needed(&data).expect("BTF").attachable;
        let hooks = |bytes: &[u8]| -> Vec<(u32, u8, Vec<u8>)> {
            let btf = Btf::parse(bytes).expect("BTF");
            btf.hooks
                .iter()
                .map(|(id, kind, name)| (*id, *kind, btf.string(*name).expect("a name").to_vec()))
                .collect()
        };
        assert_eq!(hooks(&small), hooks(&data));
        for name in
            ["btf_trace_inet_sock_set_state", "btf_trace_tcp_destroy_sock", "bpf_iter_task_file"]
        {
            assert!(hooks(&small).iter().any(|(_, _, hook)| hook == name.as_bytes()), "{name}");
        }
        assert!(small.len() * 2 < data.len());
    }

    #[test]
    fn a_member_that_is_not_there_is_named() {
        let data = vmlinux();
        let btf = Btf::parse(&data).expect("BTF");
        assert_eq!(btf.offset("sock", "sk_no_such_thing"), None);
        assert_eq!(btf.offset("sock", "sk_protocol.deeper"), None);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert_eq!(needed(b"").unwrap_err(), BtfError::Malformed("shorter than its header says"));
        assert_eq!(needed(b"\x7fELF").unwrap_err(), BtfError::Malformed("no BTF magic"));
        let data = vmlinux();
        assert!(needed(&data[..data.len() / 2]).is_err());
    }

    /// BTF of the given types, whose names are offsets into `strings`.
    fn made_of(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let header = [HEADER, 0, types.len() as u32, types.len() as u32, strings.len() as u32];
        [&MAGIC.to_ne_bytes()[..], &[1, 0], &header.map(u32::to_ne_bytes).concat(), &types, strings]
            .concat()
    }

    const STRUCT: u32 = (KIND_STRUCT as u32) << 24;

    #[test]
    fn a_type_is_there_to_its_end() {
        let int = made_of(&[0, u32::from(KIND_INT) << 24, 4], b"\0");
        assert_eq!(needed(&int).unwrap_err(), BtfError::Malformed("cut in the middle of a type"));
    }

    #[test]
    fn anonymous_structs_within_themselves_come_to_an_end() {
        let members = [0, 1, 0].repeat(40);
        let data = made_of(&[&[1, STRUCT | 40, 8][..], &members].concat(), b"\0sock\0");
        assert_eq!(Btf::parse(&data).expect("BTF").offset("sock", "sk_protocol"), None);
    }

    #[test]
    fn a_member_lies_within_its_struct() {
        let offset = |bits: [u32; 2]| {
            let types = [1, STRUCT | 1, 8, 0, 2, bits[0], 0, STRUCT | 1, 4, 6, 0, bits[1]];
            Btf::parse(&made_of(&types, b"\0sock\0sk_protocol\0"))
                .expect("BTF")
                .offset("sock", "sk_protocol")
        };
        assert_eq!(offset([32, 24]), Some(7));
        assert_eq!(offset([32, 32]), None, "beyond the inner one");
        assert_eq!(offset([48, 24]), None, "beyond the outer one");
        assert_eq!(offset([u32::MAX, 24]), None, "beyond all numbers");
    }

    #[test]
    fn long_names_are_not_multiplied() {
        let name = [b"\0bpf_iter_".as_slice(), &[b'x'; 10_000], b"\0"].concat();
        let types = [1, u32::from(KIND_FUNC) << 24, 0].repeat(1_000);
        let data = made_of(&types, &name);
        assert!(Btf::parse(&data).expect("BTF").attachable().len() <= data.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_bytes_make_it_panic(mut data in proptest::collection::vec(any::<u8>(), 24..4096)) {
            data[..8].copy_from_slice(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]);
            let _ = needed(&data);
        }

        #[test]
        fn damage_anywhere_does_not_make_it_panic(at in 0usize..1_000_000, byte in any::<u8>()) {
            let mut data = vmlinux();
            let at = at % data.len();
            data[at] = byte;
            let _ = needed(&data);
        }
    }
}
