//! What user space decides before loading. The kernel freezes these globals, so to the verifier they are constants,
//! and branches that they rule out do not exist.

use aya_ebpf::Global;
use spantap_ebpf_common::{limits, offset::ABSENT};

macro_rules! offsets {
    ($($name:ident = $path:literal,)+) => {
        $(
            #[doc = concat!("Offset of `", $path, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )+
    };
}
spantap_ebpf_common::for_each_offset!(offsets);

macro_rules! enumerators {
    ($($name:ident = $path:literal,)+) => {
        $(
            #[doc = concat!("Value of `", $path, "`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(ABSENT);
        )+
    };
}
spantap_ebpf_common::for_each_enumerator!(enumerators);

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $ty:ty = $value:expr;)+) => {
        $(
            $(#[$doc])*
            #[unsafe(no_mangle)]
            pub static $name: Global<$ty> = Global::new($value);
        )+
    };
}
settings! {
    /// The agent itself, whose calls are never reported.
    AGENT_TGID: u32 = 0;
    /// Bytes copied of one call at most.
    COPY_BYTES: u32 = limits::COPY_BYTES_DEFAULT;
    /// Likewise where a stream begins.
    COPY_BYTES_BEGINNING: u32 = limits::COPY_BYTES_MAX;
    /// Bytes waiting in the ring beyond which the reader is woken at once; below it the reader comes by itself.
    WAKEUP_BYTES: u64 = 1 << 20;
    /// Address of `socket_file_ops`, by which a socket's file is known; 0 if hidden, then its inode's mode tells.
    SOCKET_FILE_OPS: u64 = 0;
    /// 1 if Unix sockets are watched.
    UNIX_SOCKETS: u32 = 0;
    /// The bits of the iterator's type that say its kind; before 5.14 another one says the direction.
    ITER_TYPE_BITS: u32 = 0xff;
}
