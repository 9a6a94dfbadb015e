//! The exporter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::machine::Machine;

pub struct Exporter {
    child: Child,
    pub address: String,
}

impl Exporter {
    pub fn start(machine: &Machine, address: &str) -> Exporter {
        let mut child = machine.command(&["--listen", address]).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).unwrap_or_else(|| panic!("{line}")).split('/').next().unwrap();
        Exporter { address: address.to_owned(), child }
    }

    /// Asks for it packed, and unpacks it.
    pub fn get_packed(&self, path: &str) -> String {
        let bytes = self.ask(path, "Accept-Encoding: deflate, gzip;q=0.9\r\n");
        let end = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        assert!(head.contains("content-encoding: gzip"), "{head}");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[end + 4..]).read_to_string(&mut text).unwrap();
        text
    }

    pub fn get(&self, path: &str) -> String {
        String::from_utf8(self.ask(path, "")).unwrap()
    }

    fn ask(&self, path: &str, headers: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prometheus_reads_it_whatever_other_clients_do() {
    let Some(machine) = Machine::new("") else { return };
    let exporter = Exporter::start(&machine, "127.0.0.1:0");
    // Clients that say nothing, say nonsense, or ask and never read.
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&exporter.address).unwrap()).collect();
    let mut rude = TcpStream::connect(&exporter.address).unwrap();
    rude.write_all(b"\x16\x03\x01 nonsense\r\n\r\n").unwrap();
    let mut slow = TcpStream::connect(&exporter.address).unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let texts: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(|| exporter.get("/metrics"))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    for text in &texts {
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{text}");
        let line = text.lines().find(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{")).unwrap();
        for part in
            ["gpu=\"0\"", "UUID=\"GPU-0\"", "Hostname=\"gpu-1\"", "namespace=\"team-a\"", "pod=\"train-0\"", "} 93"]
        {
            assert!(line.contains(part), "{line}");
        }
    }
    assert!(exporter.get("/v1/node").contains("\"utilisation_percent\":93"));
    let packed = exporter.get_packed("/v1/node");
    assert!(packed.contains("\"utilisation_percent\":93"), "{packed}");
    assert!(exporter.get("/healthz").ends_with("ok\n"));
    assert!(exporter.get("/nothing").starts_with("HTTP/1.1 404"));
    drop((silent, slow, rude));
}

#[test]
fn a_taken_address_is_said() {
    let Some(machine) = Machine::new("") else { return };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ran = machine.run(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(ran.status, Some(1), "{ran}");
    assert!(ran.stderr.contains("cannot listen at"), "{ran}");
}
