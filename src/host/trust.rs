//! Whom this machine trusts to vouch for servers.

use std::path::Path;
use std::{env, fs};

use reqwest::{Certificate, ClientBuilder};

/// Where distributions keep all certificates in one file: Debian, Ubuntu, Arch, Gentoo; Fedora and
/// RHEL (6, then 7 and newer); openSUSE; Alpine. The order is that of Go's crypto/x509.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A client that trusts whom this machine trusts. Left to itself, the library reads the bundle and then
/// a directory with the same certificates in six hundred files, some 30 ms each time. `SSL_CERT_FILE`
/// and `SSL_CERT_DIR` go before the bundle; without one all is left as it is.
pub fn trusting(builder: ClientBuilder) -> ClientBuilder {
    let told = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| env::var_os(name).is_some());
    match BUNDLES.iter().filter(|_| !told).find_map(|path| bundle(Path::new(path))) {
        Some(certificates) => builder.tls_certs_only(certificates),
        None => builder,
    }
}

fn bundle(path: &Path) -> Option<Vec<Certificate>> {
    let certificates = Certificate::from_pem_bundle(&fs::read(path).ok()?).ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_none_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(bundle(file.path()).is_none());
        fs::write(file.path(), "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        assert!(bundle(file.path()).is_none());
        assert!(bundle(Path::new("/nonexistent")).is_none());
    }
}
