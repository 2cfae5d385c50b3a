//! The kernel side of spantap: programs that select, copy and number bytes. They hold no protocol knowledge; what can
//! be pure stands in `spantap-ebpf-common` and is tested on the host.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod connection;
mod counters;
mod emit;
mod ignored;
mod maps;
mod payload;
mod programs;
mod read;
mod registers;
mod settings;
mod socket;
mod thread;
mod tls;
mod tls_bind;
mod unix;
mod verdict;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses endless loops: a reachable panic fails at load, it never becomes undefined behaviour.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
