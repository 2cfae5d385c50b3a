//! Sizes that both sides rely on.

/// Bytes copied of one call at most, whatever the configuration asks for.
pub const COPY_BYTES_MAX: u32 = 16 * 1024;
/// Bytes copied of one call unless configured: a request or response head nearly always fits.
pub const COPY_BYTES_DEFAULT: u32 = 4 * 1024;
/// So many bytes of each direction of a stream are its beginning, of which more is copied: this many times what is usual.
pub const BEGINNING_BYTES: u64 = 64 * 1024;
/// Likewise.
pub const BEGINNING_FACTOR: u32 = 4;
/// Bytes copied of one call of a stream of which as much as possible is wanted: in records of [`COPY_BYTES_MAX`] each.
pub const COPY_BYTES_ALL: u32 = 64 * 1024;
/// Of a call that moved more than is copied of it, and of which [`COPY_BYTES_MAX`] or more are, the end is copied too:
/// trailers stand there.
pub const END_BYTES: u32 = 1024;
/// Buffers of one vectored call that are looked at; what the others moved is a gap.
pub const IOVECS_MAX: u32 = 128;
/// As many as nearly all calls have at most; what has more takes a slower way.
pub const IOVECS_FEW: u32 = 8;
/// Buffers of the messages of one sendmmsg or recvmmsg that are looked at, likewise.
pub const MESSAGE_BUFFERS_MAX: u32 = 16;
/// Messages of one sendmmsg or recvmmsg, whose lengths are added up: the kernel takes no more (`UIO_MAXIOV`).
pub const MESSAGES_MAX: u32 = 1024;
/// `struct mmsghdr { struct msghdr { name, namelen, iov, iovlen, control, controllen, flags }; unsigned int len; }`
pub const MMSGHDR_BYTES: u64 = 64;
/// Where its length stands.
pub const MMSGHDR_LEN_AT: u64 = 56;
/// Slots of the table that remembers when a thread entered a call, indexed by the low bits of the tid. A power of two.
pub const THREAD_SLOTS: u32 = 64 * 1024;
/// Slots of the table of TLS calls in progress, likewise. A thread that finds its slot taken goes to a slower table.
pub const TLS_CALL_SLOTS: u32 = 16 * 1024;
/// Layouts of TLS libraries that are known at a time: one for each release that keeps things elsewhere.
pub const TLS_RANDOMS: u32 = 8;
/// Slots of the table of ignored processes, indexed by the low bits of the tgid. A power of two.
pub const IGNORED_SLOTS: u32 = 32 * 1024;
/// System-call numbers that are looked at. x86-64 and arm64 stay below it.
pub const SYSCALLS: u32 = 512;
/// Length of the kernel's `task_struct.comm`.
pub const COMM_BYTES: usize = 16;
/// Length of `sockaddr_un.sun_path` (unix(7)).
pub const UNIX_NAME_BYTES: usize = 108;

/// Where a TLS library keeps the client's random of a session, in one integer that is not 0: either in the session's
/// struct at `offset`, or at `offset` behind a pointer that stands in the struct at `pointer`.
#[must_use]
pub const fn tls_random(pointer: Option<u32>, offset: u32) -> u64 {
    let pointer = match pointer {
        Some(at) => at,
        None => NO_POINTER,
    };
    (pointer as u64) << 32 | (offset as u64 + 1)
}

/// The reverse of [`tls_random`]; `None` for 0.
#[must_use]
pub const fn of_tls_random(packed: u64) -> Option<(Option<u32>, u32)> {
    if packed == 0 {
        return None;
    }
    let pointer = (packed >> 32) as u32;
    let offset = packed as u32 - 1;
    Some((if pointer == NO_POINTER { None } else { Some(pointer) }, offset))
}

const NO_POINTER: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_packed_and_unpacked() {
        for place in [(None, 0), (None, 0x160), (Some(0xa8), 0xb8), (Some(0), 0)] {
            assert_eq!(of_tls_random(tls_random(place.0, place.1)), Some(place));
        }
        assert_eq!(of_tls_random(0), None);
    }
}
