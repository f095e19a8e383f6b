use tcptrace::bpf::loader::Kernel;
use tcptrace_common::config::Config;
fn main() {
    let mut c = Config::NONE; c.states = 1<<8; c.min_age_ns = 500_000_000;
    let (mut k, mut ring) = match Kernel::load(c, 1<<20) { Ok(k)=>k, Err(e)=>{ eprintln!("tcptrace: {e}"); std::process::exit(4)}};
    let now = || { let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime); t.tv_sec as u64*1_000_000_000+t.tv_nsec as u64};
    k.seed_by_descriptor(now()).unwrap(); k.seed_this_namespace().unwrap();
    for _ in 0..8 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        let l = k.look(now(), false).unwrap();
        println!("{:?}", l);
        println!("{:?}", k.holders(now()).unwrap());
        while let Some(r) = ring.next() { println!("ring {}", r.len()); }
    }
    let c = k.counters().unwrap(); println!("{} {} {} {}", c.seen, c.filtered, c.emitted, c.ring_full);
    println!("{}", std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmHWM")||l.starts_with("VmRSS")).collect::<String>());
}
