//! Probes by `uprobe_multi` links (Linux 6.6 and later): one link for a program and all of its places in a file.
//!
//! Perf events need one each, are closed one after another at 0.1 s, and want CAP_SYS_ADMIN on newer kernels. aya loads
//! programs for those only: a program must say at its load what it will be attached by. So the programs are taken out
//! of the object once more, and loaded here over the maps that aya has made.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CStr, CString},
    io, mem,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    thread,
};

use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object, ProgramSection,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd, bpf_insn,
        bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};

use super::error::chain;

/// A loaded program.
struct Program {
    fd: OwnedFd,
    is_return: bool,
}

/// Programs that are attached by links, and their links. When it is dropped, nothing stays attached.
pub(super) struct Multi {
    programs: HashMap<&'static str, Program>,
    links: Vec<OwnedFd>,
}

impl Multi {
    /// Loads the programs of an object that `ebpf` has been made from, while it has all of its maps. The first one is
    /// attached for a moment, to a place in a file.
    ///
    /// # Errors
    /// Why that cannot be had: the kernel has no such links, or refuses a program.
    pub(super) fn load(
        object: &[u8],
        ebpf: &Ebpf,
        names: &[&'static str],
        trial: (&Path, u64),
    ) -> Result<Self, String> {
        let object = relocated(object, ebpf, names)?;
        let mut multi = Self { programs: HashMap::new(), links: Vec::new() };
        for (nth, &name) in names.iter().enumerate() {
            let program = object.programs.get(name).ok_or_else(|| format!("the object has no {name}"))?;
            let code = &object.functions[&program.function_key()].instructions;
            let refused = |error| format!("{name}: {error}");
            let fd = load_program(name, code, &program.license).map_err(refused)?;
            let is_return = matches!(program.section, ProgramSection::URetProbe { .. });
            multi.programs.insert(name, Program { fd, is_return });
            if nth == 0 {
                multi.link(name, trial.0, &[trial.1]).map_err(refused)?;
            }
        }
        Ok(multi)
    }

    /// Attaches a program to places in a file. Returns the places that it could not be attached to, and why.
    pub(super) fn attach(&mut self, name: &str, file: &Path, offsets: &[u64]) -> Vec<(u64, String)> {
        if offsets.is_empty() {
            return Vec::new();
        }
        match (self.link(name, file, offsets), offsets) {
            (Ok(link), _) => {
                self.links.push(link);
                Vec::new()
            }
            (Err(error), &[offset]) => vec![(offset, error.to_string())],
            // A link has all of its places or none: the others must not go with the one that is refused.
            (Err(_), _) => offsets.iter().flat_map(|&offset| self.attach(name, file, &[offset])).collect(),
        }
    }

    /// Attaches a program for as long as the result is kept.
    pub(super) fn link(&self, name: &str, file: &Path, offsets: &[u64]) -> io::Result<OwnedFd> {
        let program = self.programs.get(name).ok_or(io::ErrorKind::NotFound)?;
        let path = CString::new(file.as_os_str().as_bytes())?;
        let mut attributes = no_attributes();
        attributes.link_create.__bindgen_anon_1.prog_fd = program.fd.as_raw_fd().cast_unsigned();
        attributes.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
        attributes.link_create.__bindgen_anon_3.uprobe_multi.path = path.as_ptr() as u64;
        attributes.link_create.__bindgen_anon_3.uprobe_multi.offsets = offsets.as_ptr() as u64;
        attributes.link_create.__bindgen_anon_3.uprobe_multi.cnt =
            u32::try_from(offsets.len()).map_err(io::Error::other)?;
        attributes.link_create.__bindgen_anon_3.uprobe_multi.flags =
            if program.is_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
        bpf(bpf_cmd::BPF_LINK_CREATE, &attributes)
    }
}

/// Threads that close links. The kernel waits for a grace period at each, some 40 ms on a busy machine, but all that
/// wait at the same time share one.
const CLOSERS: usize = 64;

impl Drop for Multi {
    fn drop(&mut self) {
        let mut links = mem::take(&mut self.links);
        let each = links.len().div_ceil(CLOSERS);
        thread::scope(|scope| {
            while !links.is_empty() {
                let some = links.split_off(links.len().saturating_sub(each));
                // If there can be no thread, they are closed with what it was to run.
                let _ = thread::Builder::new().name("detach".into()).spawn_scoped(scope, move || drop(some));
            }
        });
    }
}

/// The object with the descriptors of `ebpf`'s maps in its code, and of its programs only those named.
fn relocated(object: &[u8], ebpf: &Ebpf, names: &[&str]) -> Result<Object, String> {
    let mut object = Object::parse(object).map_err(|error| chain(&error))?;
    object.programs.retain(|name, _| names.contains(&name.as_str()));
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let descriptors: HashMap<&str, RawFd> =
        ebpf.maps().filter_map(|(name, map)| Some((name, descriptor(map)?))).collect();
    let maps = mem::take(&mut object.maps);
    let known = maps.iter().filter_map(|(name, map)| Some((&**name, *descriptors.get(&**name)?, map)));
    object.relocate_maps(known, &text).map_err(|error| chain(&error))?;
    object.relocate_calls(&text).map_err(|error| chain(&error))?;
    Ok(object)
}

fn descriptor(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}

fn load_program(name: &str, code: &[bpf_insn], license: &CStr) -> io::Result<OwnedFd> {
    let mut attributes = no_attributes();
    attributes.__bindgen_anon_3.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    attributes.__bindgen_anon_3.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    attributes.__bindgen_anon_3.insns = code.as_ptr() as u64;
    attributes.__bindgen_anon_3.insn_cnt = u32::try_from(code.len()).map_err(io::Error::other)?;
    attributes.__bindgen_anon_3.license = license.as_ptr() as u64;
    // The kernel has room for 15 bytes and a zero.
    let mut short = [0; 16];
    short.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from as libc::c_char);
    attributes.__bindgen_anon_3.prog_name = short;
    bpf(bpf_cmd::BPF_PROG_LOAD, &attributes)
}

fn no_attributes() -> bpf_attr {
    // SAFETY: a union of structs of integers, for each of which zero is a value.
    unsafe { mem::zeroed() }
}

/// bpf(2), for commands that return a descriptor.
fn bpf(command: bpf_cmd, attributes: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are whole and outlive the call, as does all that they point to, which the callers borrow;
    // the kernel writes to none of it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_int, attributes, mem::size_of::<bpf_attr>())
    };
    match RawFd::try_from(result) {
        // SAFETY: a descriptor that the kernel has just made for us.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
