//! The console behind its own certificate, met by a real client.

use super::*;
use crate::console::{Console, Http};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

fn key() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key")
}

/// Signed by itself, for 127.0.0.1, valid for a day from `since` (seconds since 1970).
fn certificate(key: &PKey<Private>, since: i64) -> X509 {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", "millrace test").expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a builder");
    builder.set_version(2).expect("set");
    builder.set_serial_number(&BigNum::from_u32(7).expect("7").to_asn1_integer().expect("7")).expect("set");
    builder.set_subject_name(&name).expect("set");
    builder.set_issuer_name(&name).expect("set");
    builder.set_pubkey(key).expect("set");
    builder.set_not_before(&Asn1Time::from_unix(since).expect("a time")).expect("set");
    builder.set_not_after(&Asn1Time::from_unix(since + 86_400).expect("a time")).expect("set");
    builder.append_extension(BasicConstraints::new().ca().build().expect("built")).expect("set");
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None)).expect("built");
    builder.append_extension(names).expect("set");
    builder.sign(key, MessageDigest::sha256()).expect("signed");
    builder.build()
}

fn now() -> i64 {
    millrace_sdk::Clock::System.now() / 1_000_000
}

#[test]
fn a_browser_meets_the_console_by_tls() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let (key, file) = (key(), |name: &str| tmp.path().join(name).display().to_string());
    let cert = certificate(&key, now() - 3600).to_pem().expect("PEM");
    std::fs::write(file("cert.pem"), &cert).expect("written");
    // As older tools write it: PKCS #1.
    std::fs::write(file("key.pem"), key.rsa().expect("RSA").private_key_to_pem().expect("PEM")).expect("written");
    let mut console = Console::with(&tmp.path().join("data"), &["--tls-cert", &file("cert.pem"), "--tls-key", &file("key.pem")]);
    assert!(console.url.starts_with("https://127.0.0.1:"), "{}", console.url);
    let root = reqwest::Certificate::from_pem(&cert).expect("a certificate");
    let http = Http::with(|b| b.add_root_certificate(root.clone()));
    let (status, header, cookie) = http.0.block_on(async {
        let page = http.1.get(format!("{}/login", console.url)).send().await.expect("a page");
        let header = page.headers()["strict-transport-security"].to_str().expect("text").to_string();
        let body = format!("name=admin&password={}", console.first.clone().expect("a first start"));
        let login = http.1.post(format!("{}/login", console.url)).header("origin", &console.url);
        let done = login.header("content-type", "application/x-www-form-urlencoded").body(body).send().await.expect("an answer");
        (page.status().as_u16(), header, done.headers()["set-cookie"].to_str().expect("text").to_string())
    });
    assert_eq!(status, 200);
    assert!(header.starts_with("max-age="), "{header}");
    assert!(cookie.starts_with("__Host-millrace=") && cookie.contains("; Secure") && cookie.contains("; HttpOnly"), "{cookie}");
    let fails = |http: Http, url: &str| http.0.block_on(http.1.get(format!("{url}/login")).send()).is_err();
    assert!(fails(Http::new(), &console.url), "a stranger's certificate");
    assert!(fails(Http::new(), &console.url.replace("https", "http")), "plain text");
    let old = Http::with(|b| b.add_root_certificate(root).tls_version_max(reqwest::tls::Version::TLS_1_1));
    assert!(fails(old, &console.url), "TLS 1.1");
    console.kill();
}

#[test]
fn wrong_certificates_and_keys_are_refused_with_the_reason() {
    let tmp = tempfile::tempdir().expect("tempdir");
    let (one, other) = (key(), key());
    let pem = |k: &PKey<Private>| k.private_key_to_pem_pkcs8().expect("PEM");
    let locked = one.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"pass").expect("PEM");
    let valid = certificate(&one, now() - 3600).to_pem().expect("PEM");
    let expired = certificate(&one, now() - 10 * 86_400).to_pem().expect("PEM");
    for (name, text) in [
        ("cert", &valid),
        ("expired", &expired),
        ("key", &pem(&one)),
        ("other", &pem(&other)),
        ("locked", &locked),
        ("none", &b"text".to_vec()),
    ] {
        std::fs::write(tmp.path().join(name), text).expect("written");
    }
    for (cert, key, why) in [
        ("cert", "other", "is not the key of the certificate"),
        ("cert", "locked", "protected by a password"),
        ("cert", "none", "has no private key in PEM"),
        ("cert", "cert", "has no private key in PEM"),
        ("none", "key", "has no certificate in PEM"),
        ("key", "key", "has no certificate in PEM"),
        ("expired", "key", "has expired"),
        ("gone", "key", "cannot be read"),
        ("cert", "gone", "cannot be read"),
    ] {
        let mut command = millrace();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(tmp.path().join("data"));
        let o = command.arg("--tls-cert").arg(tmp.path().join(cert)).arg("--tls-key").arg(tmp.path().join(key)).output().expect("runs");
        assert!(!o.status.success() && text(&o.stderr).contains(why), "{cert} and {key}: {}", said(&o));
    }
}
