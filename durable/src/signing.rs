//! What the signature of a request to S3 is made with: SHA-256 and its HMAC. (The client's own choices would each bring another TLS library.)

use hmac::{Hmac, Mac};
use object_store::client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm};
use object_store::{Error, Result};
use sha2::{Digest, Sha256};

#[derive(Debug)]
pub struct Signing;

struct Hash(Sha256, Vec<u8>);

struct Keyed(Hmac<Sha256>, Vec<u8>);

impl CryptoProvider for Signing {
    fn digest(&self, _: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        Ok(Box::new(Hash(Sha256::new(), Vec::new())))
    }

    fn hmac(&self, _: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        match Hmac::new_from_slice(secret) {
            Ok(mac) => Ok(Box::new(Keyed(mac, Vec::new()))),
            Err(e) => Err(Error::Generic { store: "S3", source: Box::new(e) }),
        }
    }

    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(Error::NotSupported { source: "S3 signs nothing with RSA".into() })
    }
}

impl DigestContext for Hash {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.0, data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.1 = self.0.clone().finalize().to_vec();
        Ok(&self.1)
    }
}

impl HmacContext for Keyed {
    fn update(&mut self, data: &[u8]) {
        Mac::update(&mut self.0, data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.1 = self.0.clone().finalize().into_bytes().to_vec();
        Ok(&self.1)
    }
}
