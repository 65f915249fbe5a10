//! Parcels between processes: the rows, the id of their schema, and the names of the partitions that they come from.
//!
//! Layout, little endian: born (u64), schema id (u64), rows (u32), number of partitions (u32), each with source (u16), number (u32),
//! length (u16) and name; then the rows ([`Batch::write_rows`]). Timely reads and writes parcels where only the thread is known, so what is
//! needed for it belongs to the worker's thread.

use crate::control::Shared;
use crate::parcel::Parcel;
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::{Batch, Fault, Reject, RowError, SchemaRef};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// More names than that in one batch are not told: rejects then carry the partition's number.
const NAMES: usize = 256;

struct Worker {
    shared: Arc<Shared>,
    schemas: HashMap<u64, SchemaRef>,
    /// The parcel that was measured last, and its bytes: timely writes it right after.
    written: (usize, Vec<u8>),
    partitions: Vec<(u16, u32)>,
}

thread_local! {
    static WORKER: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

/// From now on this thread can read and write the parcels of this plan.
pub fn install(plan: &Plan, shared: &Arc<Shared>) {
    let sources = plan.nodes.iter().filter_map(|n| if let NodeKind::Source(s) = &n.kind { Some(s.schema.clone()) } else { None });
    let edges = plan.nodes.iter().flat_map(|n| n.ports.iter().map(|(_, edge)| edge.schema.clone()));
    let schemas = sources.chain(edges).chain([Reject::schema()]).map(|s| (s.id(), s)).collect();
    WORKER.set(Some(Worker { shared: shared.clone(), schemas, written: (0, vec![]), partitions: vec![] }));
}

/// The number of bytes that [`write`] will give.
pub fn measure(parcel: &Parcel) -> usize {
    WORKER.with_borrow_mut(|w| {
        let w = w.as_mut().expect("only workers of a job with several processes write parcels");
        w.encode(parcel);
        w.written.1.len()
    })
}

/// The bytes of the parcel that was measured just before.
pub fn write(parcel: &Parcel, to: impl FnOnce(&[u8])) {
    WORKER.with_borrow_mut(|w| {
        let w = w.as_mut().expect("only workers of a job with several processes write parcels");
        if w.written.0 != std::ptr::from_ref(parcel).addr() {
            w.encode(parcel);
        }
        w.written.0 = 0;
        to(&w.written.1);
    });
}

/// The parcel that was written. If it cannot be read the run has failed, and the parcel is empty.
pub fn read(bytes: &[u8]) -> Parcel {
    WORKER.with_borrow(|w| {
        let w = w.as_ref().expect("only workers of a job with several processes read parcels");
        w.decode(bytes).unwrap_or_else(|e| {
            w.shared.fail(Fault::bug("rows of another process cannot be read").detail(e.to_string()));
            Parcel::default()
        })
    })
}

impl Worker {
    fn encode(&mut self, parcel: &Parcel) {
        self.written.0 = std::ptr::from_ref(parcel).addr();
        let out = &mut self.written.1;
        out.clear();
        let Some(batch) = &parcel.batch else {
            out.extend_from_slice(&[0; 24]);
            return;
        };
        let schema = batch.schema().id();
        if !self.schemas.contains_key(&schema) {
            self.shared.fail(Fault::bug(format!("a batch has a schema that is nowhere in the plan: {:?}", batch.schema())));
        }
        out.extend_from_slice(&parcel.born.to_le_bytes());
        out.extend_from_slice(&schema.to_le_bytes());
        out.extend_from_slice(&(batch.len() as u32).to_le_bytes());
        self.partitions.clear();
        let mut last = None;
        for m in batch.metas() {
            let this = (m.source, m.partition);
            if last != Some(this) && self.partitions.len() < NAMES && !self.partitions.contains(&this) {
                self.partitions.push(this);
            }
            last = Some(this);
        }
        let names = self.shared.partitions.lock().unwrap_or_else(|e| e.into_inner());
        let known = self.partitions.iter().filter_map(|p| names.get(p).map(|name| (p, name)));
        let known: Vec<_> = known.filter(|(_, name)| name.len() <= u16::MAX as usize).collect();
        out.extend_from_slice(&(known.len() as u32).to_le_bytes());
        for ((source, number), name) in known {
            out.extend_from_slice(&source.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        drop(names);
        batch.write_rows(out);
    }

    fn decode(&self, bytes: &[u8]) -> Result<Parcel, RowError> {
        let mut left = bytes;
        let born = u64::from_le_bytes(take(&mut left)?);
        let schema = u64::from_le_bytes(take(&mut left)?);
        let rows = u32::from_le_bytes(take(&mut left)?) as usize;
        let partitions = u32::from_le_bytes(take(&mut left)?);
        if rows == 0 {
            return Ok(Parcel::default());
        }
        for _ in 0..partitions {
            let (source, number) = (u16::from_le_bytes(take(&mut left)?), u32::from_le_bytes(take(&mut left)?));
            let length = u16::from_le_bytes(take(&mut left)?) as usize;
            let (name, rest) = left.split_at_checked(length).ok_or(CUT)?;
            left = rest;
            let name = std::str::from_utf8(name).map_err(|_| RowError("a partition's name is not UTF-8"))?;
            self.shared.name_partition(source, number, name);
        }
        let schema = self.schemas.get(&schema).cloned().ok_or(RowError("its schema is nowhere in the plan"))?;
        Ok(Parcel::arrived(Batch::read_rows(schema, rows, left)?, born))
    }
}

const CUT: RowError = RowError("it is cut short");

fn take<const N: usize>(left: &mut &[u8]) -> Result<[u8; N], RowError> {
    let (head, rest) = left.split_first_chunk().ok_or(CUT)?;
    *left = rest;
    Ok(*head)
}
