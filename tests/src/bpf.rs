//! The kernel's own objects: which programs, maps and links a process holds, and whether they still are there.

use std::{collections::BTreeSet, fs};

/// An object of bpf(2). The kernel gives no number twice until it has given them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A program.
    Program(u32),
    /// A map.
    Map(u32),
    /// A program's attachment.
    Link(u32),
}

/// The name of a number in fdinfo, what it numbers, and the command that asks for it.
type Kind = (&'static str, fn(u32) -> Object, libc::c_long);

/// Lines of `/proc/PID/fdinfo/FD`, and the commands of `enum bpf_cmd` by which an object is asked for.
const KINDS: [Kind; 3] =
    [("prog_id:", Object::Program, 13), ("map_id:", Object::Map, 14), ("link_id:", Object::Link, 30)];

/// What a process holds by its descriptors.
#[must_use]
pub fn held_by(tgid: u32) -> BTreeSet<Object> {
    let descriptors = fs::read_dir(format!("/proc/{tgid}/fdinfo")).expect("it runs").flatten();
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let mut objects = BTreeSet::new();
    for text in texts {
        for (name, object, _) in KINDS {
            let values = text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            objects.extend(values.map(object));
        }
    }
    objects
}

/// Whether the kernel still has it.
#[must_use]
pub fn exists(object: Object) -> bool {
    let (id, command) = match object {
        Object::Program(id) => (id, KINDS[0].2),
        Object::Map(id) => (id, KINDS[1].2),
        Object::Link(id) => (id, KINDS[2].2),
    };
    // union bpf_attr: { u32 id; u32 next_id; u32 open_flags; }
    let attributes: [u32; 3] = [id, 0, 0];
    // SAFETY: the attributes are whole, outlive the call, and are only read.
    let descriptor =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(&attributes)) };
    match libc::c_int::try_from(descriptor) {
        Ok(descriptor @ 0..) => {
            // SAFETY: a fresh descriptor of ours.
            unsafe { libc::close(descriptor) };
            true
        }
        _ => {
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{object:?}: {error}");
            false
        }
    }
}
