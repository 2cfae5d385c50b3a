//! `distribution.spantap.capture`: what the kernel side copies, and how much of it.

use crate::field::Field;
use crate::units::Size;

/// What the kernel side copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Which kernel hooks see the traffic.
    pub backend: Backend,
    /// Bytes copied of one call at most. Default 4KiB, at most 16KiB: a request or response head nearly always fits.
    pub bytes_per_call: Size,
    /// The buffer between kernel and agent. Default 8MiB; a power of two, at least 64KiB.
    pub ring_buffer: Size,
    /// Connections watched at the same time, at most. Default 65536.
    pub connections: u32,
    /// Connections over Unix sockets, too. Default false: what is no known protocol costs as much as what is.
    pub unix_sockets: bool,
    /// Plaintext of encrypted connections.
    pub tls: CaptureTls,
}

/// Which kernel hooks see the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The best that the running kernel offers.
    #[default]
    Auto,
    /// The tracepoints of the socket layer: Linux 6.17 and later.
    Sockets,
    /// Trampolines at functions of the socket layer: where the kernel has them and does not preempt itself.
    Fentry,
    /// Kprobes at the same functions.
    Kprobes,
    /// The tracepoints of system calls: everywhere.
    Syscalls,
}

/// Where plaintext is read before it is encrypted and after it is decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureTls {
    /// In `SSL_read` and `SSL_write` of OpenSSL and its kin, and in GnuTLS's functions. Default true.
    pub openssl: bool,
    /// Where in these functions the probes are.
    pub placement: ProbePlacement,
}

/// Where probes are placed in a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbePlacement {
    /// Where its machine code says that they cost least.
    #[default]
    Cheapest,
    /// At its beginning.
    Symbol,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            bytes_per_call: Size::kib(4),
            ring_buffer: Size::mib(8),
            connections: 65_536,
            unix_sockets: false,
            tls: CaptureTls { openssl: true, placement: ProbePlacement::default() },
        }
    }
}

impl Capture {
    pub(crate) fn read(field: &Field<'_>) -> Option<Self> {
        let mut capture = Self::default();
        let mut section = field.section()?;
        section.set("backend", &mut capture.backend, |field| {
            field.choice(&[
                ("auto", Backend::Auto),
                ("sockets", Backend::Sockets),
                ("fentry", Backend::Fentry),
                ("kprobes", Backend::Kprobes),
                ("syscalls", Backend::Syscalls),
            ])
        });
        section.set("bytes_per_call", &mut capture.bytes_per_call, |f| f.size(Size(64)..=Size::kib(16)));
        section.set("ring_buffer", &mut capture.ring_buffer, |field| {
            let size = field.size(Size::kib(64)..=Size::mib(1024))?;
            if !size.bytes().is_power_of_two() {
                let near = Size(size.bytes().next_power_of_two());
                field.invalid(format!("{size} is not a power of two"), Some(format!("try {near}")));
            }
            Some(size)
        });
        section.set("connections", &mut capture.connections, |field| field.integer(64..=4_194_304));
        section.set("unix_sockets", &mut capture.unix_sockets, Field::boolean);
        section.set("tls", &mut capture.tls, |field| {
            let mut section = field.section()?;
            let mut tls = Self::default().tls;
            section.set("openssl", &mut tls.openssl, Field::boolean);
            section.set("placement", &mut tls.placement, |field| {
                field.choice(&[("cheapest", ProbePlacement::Cheapest), ("symbol", ProbePlacement::Symbol)])
            });
            section.finish();
            Some(tls)
        });
        section.finish();
        Some(capture)
    }
}
