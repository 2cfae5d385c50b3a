//! What runs in a guest before the command does.
//!
//! Three serial lines connect it to us: the first is the kernel's console, the second the command's output, the third
//! tells the command's exit status.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::cpio::{Cpio, Entry};
use super::image::Image;

/// The modules without which the guest has no files; some kernels have them built in.
pub(super) const FIRST_MODULES: &[&str] = &["virtio_pci", "virtiofs", "overlay"];

/// The name of the shared file system.
pub(super) const SHARE: &str = "host";

/// The first process: puts a layer of memory above this machine's files, and goes there.
pub(super) const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
for module in /modules/*.ko; do [ -e "$module" ] && insmod "$module"; done
mount -t virtiofs -o ro host /host &&
mount -t tmpfs -o size=80% none /memory && mkdir /memory/upper /memory/work &&
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work none /new || {
    echo "the files of the host cannot be mounted"
    poweroff -f
}
for folder in proc sys dev; do mount --move /$folder /new/$folder; done
mount -t tmpfs none /new/run
cp /job /new/run/job
exec switch_root /new /bin/sh /run/job
"#;

/// The archive that brings one command with its surroundings: `/job`, a shell script.
pub(super) fn job(image: &Image, modules: &[String], command: &[impl AsRef<OsStr>]) -> Vec<u8> {
    let mut script = SURROUNDINGS.as_bytes().to_vec();
    let mut line = |words: &[&OsStr]| {
        for word in words {
            script.extend(quoted(word));
            script.push(b' ');
        }
        script.push(b'\n');
    };
    let word = OsStr::new;
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let link = format!("/lib/modules/{}", image.release);
    line(&[word("ln"), word("-s"), image.modules.as_os_str(), word(&link)]);
    for module in modules {
        line(&[word("busybox"), word("modprobe"), word(module)]);
    }
    line(&[word("cd"), here.as_os_str()]);
    let words: Vec<&OsStr> = command.iter().map(AsRef::as_ref).collect();
    line(&words);
    script.extend_from_slice(b"status=$?\nexec > /dev/null 2>&1 # waits until all output is out\necho $status > /dev/ttyS2\nbusybox poweroff -f\n");
    let mut archive = Cpio::new();
    archive.add("job", Entry::File(&script));
    archive.finish()
}

/// In single quotes, as a shell takes it literally.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            _ => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

const SURROUNDINGS: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
for line in 1 2; do busybox stty raw -echo -F /dev/ttyS$line; done
exec > /dev/ttyS1 2>&1 < /dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /dev/shm
mount -t bpf none /sys/fs/bpf
mount -t cgroup2 none /sys/fs/cgroup
mount -t tracefs none /sys/kernel/tracing
mount -t debugfs none /sys/kernel/debug
mkdir -p /lib/modules
mount -t tmpfs none /lib/modules
busybox ip link set lo up
echo 0 > /proc/sys/kernel/printk
ulimit -n 65536
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted(OsStr::new("it's $HOME")), br"'it'\''s $HOME'");
    }
}
