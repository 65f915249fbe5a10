//! Servers of `tests/servers`, each with a folder and ports of its own, killed at the end.

#[path = "../../../tests/servers/ports.rs"]
mod ports;

use ports::free_ports;
use std::path::PathBuf;
use std::process::Command;

pub struct Server {
    script: &'static str,
    data: tempfile::TempDir,
    pub port: u16,
}

pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/servers").join(name)
}

impl Server {
    /// `ports`: how many it takes, one behind the other.
    pub fn start(script: &'static str, ports: u16) -> Server {
        let port = free_ports(ports);
        let server = Server { script, data: tempfile::tempdir().unwrap(), port };
        server.run();
        server
    }

    /// Starts it, or starts it again.
    pub fn run(&self) {
        run(Command::new(script(self.script)).arg(self.data.path()).arg(self.port.to_string()));
    }

    pub fn kill(&self) {
        Command::new(script("stop.sh")).arg(self.data.path()).arg("KILL").output().unwrap();
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn run(command: &mut Command) {
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
}
