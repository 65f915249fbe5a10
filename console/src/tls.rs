//! The console's certificate and its key.

use millrace_sdk::Fault;
use openssl::asn1::Asn1Time;
use openssl::pkey::PKey;
use openssl::x509::X509;
use std::path::{Path, PathBuf};

/// From 1.2 on, with what the system's library offers.
///
/// # Errors
/// A file cannot be read or is no PEM, the key is not the certificate's, or the certificate has expired.
pub fn acceptor((cert, key): &(PathBuf, PathBuf)) -> Result<tokio_native_tls::TlsAcceptor, Fault> {
    let (chain_text, key_text) = (read(cert)?, read(key)?);
    let chain = X509::stack_from_pem(&chain_text).ok().filter(|c| !c.is_empty());
    let first = chain.as_ref().and_then(|c| c.first());
    let first = first.ok_or_else(|| wrong(cert, "has no certificate in PEM (`BEGIN CERTIFICATE`)"))?;
    if key_text.windows(9).any(|w| w == b"ENCRYPTED") {
        return Err(wrong(key, "is protected by a password; the console has nobody to ask for it"));
    }
    let private = PKey::private_key_from_pem(&key_text).map_err(|_| wrong(key, "has no private key in PEM (`BEGIN PRIVATE KEY`)"))?;
    let refused = |e: &dyn std::fmt::Display| Fault::refused(format!("the certificate cannot be used: {e}"));
    if !first.public_key().map_err(|e| refused(&e))?.public_eq(&private) {
        return Err(wrong(key, &format!("is not the key of the certificate in `{}`", cert.display()))
            .hint("the server's own certificate stands first in its file, those that signed it follow"));
    }
    if first.not_after() < Asn1Time::days_from_now(0).map_err(|e| refused(&e))?.as_ref() {
        return Err(wrong(cert, &format!("has expired: it was valid until {}", first.not_after())));
    }
    let private = private.private_key_to_pem_pkcs8().map_err(|e| refused(&e))?;
    let identity = native_tls::Identity::from_pkcs8(&chain_text, &private).map_err(|e| refused(&e))?;
    let mut builder = native_tls::TlsAcceptor::builder(identity);
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    builder.build().map(Into::into).map_err(|e| refused(&e))
}

fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|e| Fault::refused(format!("`{}` cannot be read: {e}", path.display())))
}

fn wrong(path: &Path, what: &str) -> Fault {
    Fault::refused(format!("`{}` {what}", path.display())).hint("--tls-cert is a PEM file with the chain, --tls-key one with its key")
}
