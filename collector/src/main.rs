//! scratch
use std::time::Duration;
use spantap::discovery::*;
fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).init();
    let mut k = match spantap::kernel::Kernel::start(&Default::default()) { Ok(k) => k, Err(e) => { eprintln!("{e}"); std::process::exit(1) } };
    println!("degraded {:?}", k.degraded);
    let mut w = TlsWatcher::new(k.attacher);
    for p in procfs::processes() { w.scan(p); }
    let mut n = 0u64; for _ in 0..1200 {
        k.source.wait(Duration::from_millis(10));
        let mut scan = std::collections::BTreeSet::new();
        k.source.drain(10000, |e| match e { spantap_ebpf_common::Event::Data(d) => { n += d.bytes.len() as u64; }
          spantap_ebpf_common::Event::Process(p) => { if p.change == spantap_ebpf_common::event::ProcessChange::Mapped { scan.insert(p.tgid); } }
          _ => {} });
        for t in scan { w.scan(t) }
    }
    println!("{:?}", w.counts());
    for (c, n) in k.losses.all() { if n>0 { println!("{} {n}", c.name()); } }
}
