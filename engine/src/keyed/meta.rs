//! What a checkpoint of a tier says beside its records: the declared states, times and counts of the whole, and the tier's own small files.
//!
//! Layout, little endian, lengths as varints: magic, version (u64), the header's length and the header (the declared states, watermark, processing
//! time, sequence, the holds as step and number), then each file's name and bytes.

use super::context::KeyedState;
use super::record::{In, Out, damaged};
use millrace_sdk::{Fault, StateDesc};

const MAGIC: &[u8; 4] = b"MRKT";
/// Grows with every change of the layout or of the records; older ones stay readable.
const VERSION: u64 = 1;

/// A header and small files as the bytes of one file.
pub fn pack(header: Vec<u8>, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let mut o = Out { bytes: &mut bytes, short: true };
    o.u64(VERSION);
    o.bytes(&header);
    o.len(files.len());
    for (name, content) in files {
        o.bytes(name.as_bytes());
        o.bytes(content);
    }
    bytes
}

/// The header, and names and bytes of the files.
#[allow(clippy::type_complexity)]
pub fn unpack(bytes: &[u8]) -> Result<(&[u8], Vec<(&str, &[u8])>), Fault> {
    let mut i = In { bytes, short: true };
    if i.take(4)? != MAGIC {
        return Err(damaged("it does not begin as saved state does"));
    }
    let version = i.u64()?;
    if version != VERSION {
        return Err(Fault::data(format!("saved state has format {version}, this release reads {VERSION}")));
    }
    let header = i.bytes()?;
    let mut files = vec![];
    for _ in 0..i.len()? {
        let name = std::str::from_utf8(i.bytes()?).map_err(|_| damaged("a file's name is no text"))?;
        files.push((name, i.bytes()?));
    }
    Ok((header, files))
}

impl KeyedState {
    pub fn header(&self, states: &[StateDesc]) -> Vec<u8> {
        let mut bytes = vec![];
        let mut o = Out { bytes: &mut bytes, short: true };
        o.describe(states);
        o.i64(self.work.watermark);
        o.i64(self.work.now);
        o.u64(self.work.sequence);
        let holds = self.work.holds();
        o.len(holds.len());
        for (step, n) in holds {
            o.i64(step);
            o.len(n);
        }
        bytes
    }

    /// Goes on from the times of a header, and if `whole` counts its holds too.
    ///
    /// # Errors
    /// Damaged bytes, or states that are not these.
    pub fn take_header(&mut self, states: &[StateDesc], header: &[u8], whole: bool) -> Result<(), Fault> {
        let mut i = In { bytes: header, short: true };
        i.describe(states)?;
        let (watermark, now, sequence) = (i.i64()?, i.i64()?, i.u64()?);
        self.come_from(watermark, now, sequence);
        for _ in 0..i.len()? {
            let (step, n) = (i.i64()?, i.len()?);
            if whole {
                self.work.count_holds(step, n);
            }
        }
        Ok(())
    }
}
