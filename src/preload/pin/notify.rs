//! Tells a service manager that the files are held (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says "READY=1" at the socket that a service manager named in NOTIFY_SOCKET: a path, or with an
/// `@` an abstract name.
///
/// # Errors
/// If nobody listens there.
pub fn ready(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1\n", &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        assert!(ready(path.as_os_str()).is_err());
        let manager = UnixDatagram::bind(&path).unwrap();
        ready(path.as_os_str()).unwrap();
        let mut heard = [0; 16];
        let size = manager.recv(&mut heard).unwrap();
        assert_eq!(&heard[..size], b"READY=1\n");
    }
}
