use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of `count` neighbouring free ports of 127.0.0.1. Below those that the system gives to outgoing connections, as a client's connection
/// would take a port from a server that is only being started, or started again; each process looks from another place on.
pub fn free_ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() * 80;
    (0..2000)
        .map(|_| 12_000 + ((begin + u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 8) % 16_000) as u16)
        .find(|port| (0..count).map(|i| TcpListener::bind(("127.0.0.1", port + i)).ok()).collect::<Option<Vec<_>>>().is_some())
        .expect("free ports")
}
