//! A reader for the running kernel's BTF (`/sys/kernel/btf/vmlinux`): offsets of struct members, and no more.
//!
//! aya parses BTF too but keeps members to itself, and the crates that show them are LGPL. Format:
//! <https://docs.kernel.org/bpf/btf.html>. Every read is checked: a truncated or strange file is an error, not a panic.

use std::collections::HashMap;

/// Parsed BTF.
pub struct Btf {
    bytes: Vec<u8>,
    strings_at: usize,
    /// Type id -> where its record begins; 0 is `void`.
    types: Vec<usize>,
    /// Structs and unions by name; of several with one name the first.
    aggregates: HashMap<Box<str>, u32>,
}

/// Why BTF could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// It ends in the middle of something.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// It does not begin with the magic number.
    #[error("not BTF of this machine's byte order")]
    Magic,
    /// A kind of type of unknown length, so that nothing behind it can be found.
    #[error("unknown kind {0} of type")]
    Kind(u32),
}

mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Anonymous structs nest a few levels deep in the kernel; more than this is a loop.
const DEPTH_MAX: u32 = 16;

impl Btf {
    /// Parses a BTF blob.
    ///
    /// # Errors
    /// See [`BtfError`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        const MAGIC: u32 = 0xeb9f;
        let mut btf = Self { bytes, strings_at: 0, types: vec![0], aggregates: HashMap::new() };
        if btf.u32(0)? & 0xffff != MAGIC {
            return Err(BtfError::Magic);
        }
        let header = btf.u32(4)? as usize;
        let types_at = header + btf.u32(8)? as usize;
        let types_end = types_at + btf.u32(12)? as usize;
        btf.strings_at = header + btf.u32(16)? as usize;
        let mut at = types_at;
        while at < types_end {
            let info = btf.u32(at + 4)?;
            let members = (info & 0xffff) as usize;
            let kind = kind_of(info);
            let extra = match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * members,
                kind::ENUM | kind::FUNC_PROTO => 8 * members,
                0 | 2 | 7..=12 | 16 | kind::TYPE_TAG => 0,
                other => return Err(BtfError::Kind(other)),
            };
            let id = u32::try_from(btf.types.len()).map_err(|_| BtfError::Truncated(at))?;
            if matches!(kind, kind::STRUCT | kind::UNION) {
                let name = btf.name(btf.u32(at)?);
                if !name.is_empty() {
                    let name = Box::from(name);
                    btf.aggregates.entry(name).or_insert(id);
                }
            }
            btf.types.push(at);
            at += 12 + extra;
        }
        Ok(btf)
    }

    /// The byte offset of a member path such as `sock.__sk_common.skc_family`. Of `a|b` the first that exists; a
    /// trailing `?` is ignored. Anonymous structs and unions are looked through.
    pub fn offset(&self, path: &str) -> Option<u32> {
        path.trim_end_matches('?').split('|').find_map(|path| {
            let mut names = path.split('.');
            let mut id = *self.aggregates.get(names.next()?)?;
            let mut bits = 0;
            for name in names {
                let (offset, member) = self.member(id, name, 0)?;
                bits += offset;
                id = member;
            }
            Some(bits / 8)
        })
    }

    /// The value of an enumerator such as `iter_type.ITER_UBUF`.
    pub fn enumerator(&self, path: &str) -> Option<u32> {
        let (of, name) = path.split_once('.')?;
        self.types.iter().skip(1).find_map(|&at| {
            let info = self.u32(at + 4).ok()?;
            if kind_of(info) != kind::ENUM || self.name(self.u32(at).ok()?) != of {
                return None;
            }
            (0..(info & 0xffff) as usize).map(|i| at + 12 + 8 * i).find_map(|record| {
                let named = self.name(self.u32(record).ok()?) == name;
                if named { self.u32(record + 4).ok() } else { None }
            })
        })
    }

    /// True if the kernel's own sources use this name for a type.
    pub fn has_typedef(&self, name: &str) -> bool {
        self.types.iter().skip(1).any(|&at| {
            let (Ok(named), Ok(info)) = (self.u32(at), self.u32(at + 4)) else { return false };
            kind_of(info) == kind::TYPEDEF && self.name(named) == name
        })
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, name: &str, depth: u32) -> Option<(u32, u32)> {
        let at = *self.types.get(self.named_type(id)? as usize)?;
        let info = self.u32(at + 4).ok()?;
        if depth > DEPTH_MAX || !matches!(kind_of(info), kind::STRUCT | kind::UNION) {
            return None;
        }
        for i in 0..(info & 0xffff) as usize {
            let record = at + 12 + 12 * i;
            let (name_at, member) = (self.u32(record).ok()?, self.u32(record + 4).ok()?);
            let mut offset = self.u32(record + 8).ok()?;
            if info >> 31 == 1 {
                offset &= 0x00ff_ffff; // the upper byte is the size of a bit field
            }
            if name_at == 0 {
                if let Some((inner, member)) = self.member(member, name, depth + 1) {
                    return Some((offset + inner, member));
                }
            } else if self.name(name_at) == name {
                return Some((offset, member));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn named_type(&self, mut id: u32) -> Option<u32> {
        for _ in 0..DEPTH_MAX {
            let at = *self.types.get(id as usize)?;
            match kind_of(self.u32(at + 4).ok()?) {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.u32(at + 8).ok()?;
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = self.bytes.get(at..at + 4).ok_or(BtfError::Truncated(at))?;
        Ok(u32::from_ne_bytes(bytes.try_into().map_err(|_| BtfError::Truncated(at))?))
    }

    fn name(&self, offset: u32) -> &str {
        let from = self.bytes.get(self.strings_at + offset as usize..).unwrap_or_default();
        let end = from.iter().position(|&byte| byte == 0).unwrap_or(0);
        str::from_utf8(&from[..end]).unwrap_or("")
    }
}

fn kind_of(info: u32) -> u32 {
    info >> 24 & 0x1f
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct inner { int a; int b; }; struct outer { int x; struct { int y; struct inner z; }; };
    /// enum kind { NONE = 7, SOME = 9 };`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0inner\0a\0b\0outer\0x\0y\0z\0kind\0NONE\0SOME\0";
        let name = |text: &str| {
            let needle = format!("\0{text}\0");
            strings.windows(needle.len()).position(|w| w == needle.as_bytes()).map_or(0, |at| at as u32 + 1)
        };
        let mut types: Vec<u32> = Vec::new();
        types.extend([name("int"), kind::INT << 24, 4, 32]);
        types.extend([name("inner"), kind::STRUCT << 24 | 2, 8, name("a"), 1, 0, name("b"), 1, 32]);
        types.extend([0, kind::STRUCT << 24 | 2, 12, name("y"), 1, 0, name("z"), 4, 32]);
        types.extend([0, kind::CONST << 24, 2]);
        types.extend([name("outer"), kind::STRUCT << 24 | 2, 16, name("x"), 1, 0, 0, 3, 32]);
        types.extend([name("kind"), kind::ENUM << 24 | 2, 4, name("NONE"), 7, name("SOME"), 9]);
        let length = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let mut bytes: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn members_through_anonymous_structs_and_qualifiers() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.offset("outer.x"), Some(0));
        assert_eq!(btf.offset("outer.y"), Some(4));
        assert_eq!(btf.offset("outer.z.b"), Some(12));
        assert_eq!(btf.offset("outer.gone|outer.z.a?"), Some(8));
        assert_eq!(btf.offset("outer.gone"), None);
        assert_eq!(btf.offset("nothing.x"), None);
    }

    #[test]
    fn enumerators_by_name() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.enumerator("kind.NONE"), Some(7));
        assert_eq!(btf.enumerator("kind.SOME"), Some(9));
        assert_eq!(btf.enumerator("kind.MANY"), None);
        assert_eq!(btf.enumerator("inner.a"), None);
        assert!(!btf.has_typedef("kind"), "it is an enum");
    }

    #[test]
    fn every_truncation_is_an_error_or_says_less() {
        let whole = sample();
        for cut in 0..whole.len() {
            if let Ok(btf) = Btf::parse(whole[..cut].to_vec()) {
                let _ = (btf.offset("outer.z.b"), btf.enumerator("kind.SOME"));
            }
        }
        assert!(matches!(Btf::parse(b"ELF!".to_vec()), Err(BtfError::Magic)));
    }

    #[test]
    fn the_running_kernel_has_every_offset() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            println!("skipped: this kernel shows no BTF");
            return;
        };
        let btf = Btf::parse(bytes).unwrap();
        for (name, path) in super::super::offsets::LIST {
            assert!(path.ends_with('?') || btf.offset(path).is_some(), "{name}: no {path}");
        }
    }
}
