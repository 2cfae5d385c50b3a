//! The kernel struct members that the programs read, in one list for both sides: the kernel side makes a global of
//! each, user space finds its offset in the running kernel's BTF and sets it before loading.
//!
//! Values of enums that differ between kernels stand in a second list. Paths begin with a struct's name; `a|b` takes the first that exists; a trailing `?` may be absent (`ABSENT`).

/// The value of an offset whose member this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Calls the macro named by its argument with the whole list.
#[macro_export]
macro_rules! for_each_offset {
    ($callback:ident) => {
        $callback! {
            TASK_FILES = "task_struct.files",
            TASK_REAL_PARENT = "task_struct.real_parent",
            TASK_TGID = "task_struct.tgid",
            TASK_SIGNAL = "task_struct.signal",
            SIGNAL_LIVE = "signal_struct.live",
            FILES_FDT = "files_struct.fdt",
            FDT_MAX_FDS = "fdtable.max_fds",
            FDT_FD = "fdtable.fd",
            FILE_PRIVATE = "file.private_data",
            FILE_OP = "file.f_op",
            FILE_INODE = "file.f_inode",
            INODE_MODE = "inode.i_mode",
            INODE_NUMBER = "inode.i_ino",
            SOCKET_SK = "socket.sk",
            SOCKET_FILE = "socket.file",
            SK_SOCKET = "sock.sk_socket",
            SK_ERR = "sock.sk_err",
            SK_FAMILY = "sock.__sk_common.skc_family",
            SK_STATE = "sock.__sk_common.skc_state",
            SK_PROTOCOL = "sock.sk_protocol",
            SK_TYPE = "sock.sk_type",
            SK_QUEUED = "sock.sk_receive_queue.qlen",
            SK_FLAGS = "sock.__sk_common.skc_flags",
            SK_NUM = "sock.__sk_common.skc_num",
            SK_DPORT = "sock.__sk_common.skc_dport",
            SK_SADDR = "sock.__sk_common.skc_rcv_saddr",
            SK_DADDR = "sock.__sk_common.skc_daddr",
            SK_V6_SADDR = "sock.__sk_common.skc_v6_rcv_saddr?",
            SK_V6_DADDR = "sock.__sk_common.skc_v6_daddr?",
            SK_NET = "sock.__sk_common.skc_net.net",
            NET_INUM = "net.ns.inum",
            ICSK_ULP_OPS = "inet_connection_sock.icsk_ulp_ops",
            MSG_ITER = "msghdr.msg_iter",
            ITER_TYPE = "iov_iter.iter_type|iov_iter.type",
            ITER_OFFSET = "iov_iter.iov_offset",
            ITER_ADDRESS = "iov_iter.ubuf?",
            ITER_VECTOR = "iov_iter.__iov|iov_iter.iov",
            ITER_SEGMENTS = "iov_iter.nr_segs",
            TCP_WRITE_SEQ = "tcp_sock.write_seq",
            TCP_BYTES_SENT = "tcp_sock.bytes_sent",
            TCP_COPIED_SEQ = "tcp_sock.copied_seq",
            TCP_BYTES_RECEIVED = "tcp_sock.bytes_received",
            TCP_RCV_NXT = "tcp_sock.rcv_nxt",
            UNIX_ADDR = "unix_sock.addr?",
            UNIX_PEER = "unix_sock.peer?",
            UNIX_ADDRESS_LEN = "unix_address.len?",
            UNIX_ADDRESS_NAME = "unix_address.name?",
            EVENT_LENGTH_SK = "trace_event_raw_sock_msg_length.sk?",
            EVENT_LENGTH_RET = "trace_event_raw_sock_msg_length.ret?",
            EVENT_LENGTH_FLAGS = "trace_event_raw_sock_msg_length.flags?",
            EVENT_STATE_SK = "trace_event_raw_inet_sock_set_state.skaddr?",
            EVENT_STATE_OLD = "trace_event_raw_inet_sock_set_state.oldstate?",
            EVENT_STATE_NEW = "trace_event_raw_inet_sock_set_state.newstate?",
            EVENT_TCP_SK = "trace_event_raw_tcp_event_sk.skaddr?",
            EVENT_ENTER_ID = "trace_event_raw_sys_enter.id?",
            EVENT_EXIT_RET = "trace_event_raw_sys_exit.ret?",
        }
    };
}

/// Calls the macro named by its argument with the enumerators that the programs compare with: `enum` and name; one that
/// this kernel does not have is `ABSENT`.
#[macro_export]
macro_rules! for_each_enumerator {
    ($callback:ident) => {
        $callback! {
            ITER_UBUF = "iter_type.ITER_UBUF",
            ITER_IOVEC = "iter_type.ITER_IOVEC",
        }
    };
}
