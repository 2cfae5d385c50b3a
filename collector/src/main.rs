//! scratch
use std::time::Duration;
fn main() {
    tracing_subscriber::fmt().init();
    let mut k = match spantap::kernel::Kernel::start(&Default::default()) { Ok(k) => k, Err(e) => { eprintln!("{e}"); std::process::exit(1) } };
    println!("degraded {:?}", k.degraded);
    for _ in 0..500 {
        k.source.wait(Duration::from_millis(10));
        k.source.drain(10000, |e| match e { spantap_ebpf_common::Event::Data(d) => println!("{:?} {} {:?}", (d.tgid, d.stream, d.flow, d.layer, d.position, d.size, d.last_ns-d.first_ns), d.bytes.len(), String::from_utf8_lossy(&d.bytes[..d.bytes.len().min(60)])), o => println!("{o:?}") });
    }
    for (c, n) in k.losses.all() { if n>0 { println!("{} {n}", c.name()); } }
}
