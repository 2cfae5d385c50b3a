//! From a descriptor to its socket, and what the socket says of itself.

use core::marker::PhantomData;

use aya_ebpf::helpers::generated as helpers;
use spantap_ebpf_common::{Counter, offset::ABSENT, record};

use crate::{
    read::{self, Checked, Kernel, Typed},
    settings::*,
};

/// Address of a `struct sock` that speaks TCP over IPv4 or IPv6, or of a Unix stream socket, and how its fields are read.
pub struct Sock<K> {
    address: u64,
    is_unix: bool,
    reader: PhantomData<K>,
}

impl<K> Clone for Sock<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Sock<K> {}

const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
/// `include/net/tcp_states.h`
pub const TCP_SYN_SENT: u8 = 2;
/// Likewise: of a socket that accept may give before the handshake has ended, if bytes came with it.
pub const TCP_SYN_RECV: u8 = 3;
/// Likewise.
pub const TCP_CLOSE: u8 = 7;

/// The `struct sock` behind a descriptor of the current process: `current->files->fdt->fd[fd]->private_data->sk`.
/// `None` if the descriptor is no socket.
///
/// The descriptor's table is read without its lock: whoever closes the descriptor at this moment may make a read fail
/// or give the newer file, never more than that.
#[inline(always)]
pub fn of_descriptor<K: Kernel>(fd: u64) -> Result<Option<u64>, Counter> {
    // A descriptor is an `unsigned int`; the upper half of the register is the caller's rubbish.
    let fd = fd & 0xffff_ffff;
    // SAFETY: pointers and integers, read through the checking helper.
    unsafe {
        let files: u64 = K::read(K::task(), TASK_FILES.load())?;
        let table: u64 = K::read(files, FILES_FDT.load())?;
        let count: u32 = K::read(table, FDT_MAX_FDS.load())?;
        if fd >= count as u64 {
            return Ok(None);
        }
        let array: u64 = K::read(table, FDT_FD.load())?;
        // A pointer to pointers has no type that the verifier could follow: from here on every read is checked.
        let file: u64 = read::kernel(array + fd * 8, 0)?;
        if file == 0 {
            return Ok(None);
        }
        if SOCKET_FILE_OPS.load() != 0 {
            if read::kernel::<u64>(file, FILE_OP.load())? != SOCKET_FILE_OPS.load() {
                return Ok(None);
            }
        } else {
            let inode: u64 = read::kernel(file, FILE_INODE.load())?;
            if read::kernel::<u16>(inode, INODE_MODE.load())? & S_IFMT != S_IFSOCK {
                return Ok(None);
            }
        }
        let socket: u64 = read::kernel(file, FILE_PRIVATE.load())?;
        let sk: u64 = read::kernel(socket, SOCKET_SK.load())?;
        Ok((sk != 0).then_some(sk))
    }
}

/// Ways to read a `struct sock` differ in how they tell TCP from the rest.
pub trait Tcp: Kernel {
    /// `sk` if it is a TCP socket over IPv4 or IPv6 (not Multipath TCP, whose struct is another).
    fn tcp(sk: u64) -> Result<Option<Sock<Self>>, Counter>
    where
        Self: Sized;

    /// The same for a socket that is in the table of connections already.
    fn known(sk: u64) -> Option<Sock<Self>>
    where
        Self: Sized;
}

impl Tcp for Typed {
    /// The helper makes a typed `struct tcp_sock` of it, without which the verifier allows no look at its members.
    #[inline(always)]
    fn tcp(sk: u64) -> Result<Option<Sock<Self>>, Counter> {
        Ok(Self::known(sk))
    }

    #[inline(always)]
    fn known(sk: u64) -> Option<Sock<Self>> {
        // SAFETY: the helper takes a socket, and gives it back or null.
        let address = unsafe { helpers::bpf_skc_to_tcp_sock(sk as *mut _) } as u64;
        (address != 0).then_some(Sock { address, is_unix: false, reader: PhantomData })
    }
}

impl Tcp for Checked {
    #[inline(always)]
    fn tcp(sk: u64) -> Result<Option<Sock<Self>>, Counter> {
        const AF_INET: u16 = 2;
        const AF_INET6: u16 = 10;
        const IPPROTO_TCP: u16 = 6;
        const SOCK_STREAM: u16 = 1;
        // SAFETY: integers, read through the checking helper.
        unsafe {
            let family: u16 = read::kernel(sk, SK_FAMILY.load())?;
            if family != AF_INET && family != AF_INET6 {
                return Ok(None);
            }
            let protocol: u16 = read::kernel(sk, SK_PROTOCOL.load())?;
            let kind: u16 = read::kernel(sk, SK_TYPE.load())?;
            Ok(if protocol == IPPROTO_TCP && kind == SOCK_STREAM { Self::known(sk) } else { None })
        }
    }

    #[inline(always)]
    fn known(sk: u64) -> Option<Sock<Self>> {
        Some(Sock { address: sk, is_unix: false, reader: PhantomData })
    }
}

impl<K: Kernel> Sock<K> {
    /// A Unix stream socket, which has a file.
    #[inline(always)]
    pub fn unix(sk: u64) -> Self {
        Self { address: sk, is_unix: true, reader: PhantomData }
    }

    /// Whether it is one. Of the others' fields it has none.
    #[inline(always)]
    pub fn is_unix(self) -> bool {
        self.is_unix
    }

    /// `tcp_sock.write_seq`: the sequence number after the last byte that the process has written.
    #[inline(always)]
    pub fn write_seq(self) -> Result<u32, Counter> {
        // SAFETY: an integer.
        unsafe { K::read(self.address, TCP_WRITE_SEQ.load()) }
    }

    /// Bytes that have gone out, repeated ones included: `tcp_sock.bytes_sent`.
    #[inline(always)]
    pub fn bytes_sent(self) -> Result<u64, Counter> {
        // SAFETY: an integer.
        unsafe { K::read(self.address, TCP_BYTES_SENT.load()) }
    }

    /// `tcp_sock.copied_seq`: the sequence number after the last byte that the process has read.
    #[inline(always)]
    pub fn copied_seq(self) -> Result<u32, Counter> {
        // SAFETY: an integer.
        unsafe { K::read(self.address, TCP_COPIED_SEQ.load()) }
    }

    /// `tcp_sock.rcv_nxt`: the sequence number after the last byte, or the FIN, that has arrived in order.
    #[inline(always)]
    pub fn rcv_nxt(self) -> Result<u32, Counter> {
        // SAFETY: an integer.
        unsafe { K::read(self.address, TCP_RCV_NXT.load()) }
    }

    /// The sequence number of the first byte that the peer has sent, or will send. While the handshake ends, bytes that
    /// came with it (TCP fast open) may have been read already, so that `copied_seq` has moved on.
    #[inline(always)]
    pub fn first_received_seq(self) -> Result<u32, Counter> {
        // SAFETY: an integer: what has arrived in order, without SYN and FIN.
        let arrived: u64 = unsafe { K::read(self.address, TCP_BYTES_RECEIVED.load()) }?;
        if arrived == 0 {
            return self.copied_seq();
        }
        let fin = self.fin_arrived()? as u32;
        Ok(self.rcv_nxt()?.wrapping_sub(arrived as u32).wrapping_sub(fin))
    }

    /// True if the peer's FIN has arrived, whatever the state is now: `SOCK_DONE`, which `tcp_fin` sets.
    #[inline(always)]
    pub fn fin_arrived(self) -> Result<bool, Counter> {
        const SOCK_DONE: u64 = 1 << 1;
        // SAFETY: an integer.
        Ok(unsafe { K::read::<u64>(self.address, SK_FLAGS.load()) }? & SOCK_DONE != 0)
    }

    /// `skc_state`, as in `include/net/tcp_states.h`.
    #[inline(always)]
    pub fn state(self) -> Result<u8, Counter> {
        // SAFETY: an integer.
        unsafe { K::read(self.address, SK_STATE.load()) }
    }

    /// True if the peer's FIN has arrived: CLOSE, CLOSE_WAIT, LAST_ACK or CLOSING.
    #[inline(always)]
    pub fn peer_has_finished(self) -> Result<bool, Counter> {
        Ok(matches!(self.state()?, 7 | 8 | 9 | 11))
    }

    /// True if an upper-layer protocol (kernel TLS) sits on the socket: its sequence numbers count other bytes than
    /// those that the process moves.
    #[inline(always)]
    pub fn has_upper_layer(self) -> bool {
        // SAFETY: a pointer.
        unsafe { K::read::<u64>(self.address, ICSK_ULP_OPS.load()) }.is_ok_and(|ops| ops != 0)
    }

    /// True if a process has it as a file; the kernel's own sockets (of NFS, say) belong to no process.
    #[inline(always)]
    pub fn has_file(self) -> Result<bool, Counter> {
        if self.is_unix {
            return Ok(true);
        }
        // SAFETY: pointers.
        unsafe {
            let socket: u64 = K::read(self.address, SK_SOCKET.load())?;
            Ok(socket != 0 && K::read::<u64>(socket, SOCKET_FILE.load())? != 0)
        }
    }

    /// Fills in the addresses. Once in a connection's life, so through the checking helper whatever `K`.
    #[inline(always)]
    pub fn describe(self, open: &mut record::Open) -> Result<(), Counter> {
        const AF_INET: u16 = 2;
        // SAFETY: integers and arrays of them.
        unsafe {
            open.family = read::kernel(self.address, SK_FAMILY.load())?;
            open.local_port = read::kernel(self.address, SK_NUM.load())?;
            open.peer_port = u16::from_be(read::kernel(self.address, SK_DPORT.load())?);
            if open.family == AF_INET {
                let local: [u8; 4] = read::kernel(self.address, SK_SADDR.load())?;
                let peer: [u8; 4] = read::kernel(self.address, SK_DADDR.load())?;
                open.local = [0; 16];
                open.peer = [0; 16];
                for i in 0..4 {
                    open.local[i] = local[i];
                    open.peer[i] = peer[i];
                }
            } else if SK_V6_SADDR.load() != ABSENT {
                open.local = read::kernel(self.address, SK_V6_SADDR.load())?;
                open.peer = read::kernel(self.address, SK_V6_DADDR.load())?;
            }
            let net: u64 = read::kernel(self.address, SK_NET.load())?;
            open.netns = read::kernel(net, NET_INUM.load())?;
        }
        Ok(())
    }
}
