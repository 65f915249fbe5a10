//! The contracts of Millrace: what a record is, and what a source, an operator, a sink and a store promise.
//!
//! Nothing here does input or output, knows an async runtime, or names the dataflow engine.

pub mod batch;
pub mod clock;
pub mod codec;
pub mod config;
pub mod convert;
pub mod decimal;
pub mod fault;
pub mod json;
pub mod key;
pub mod keyed;
pub mod operator;
pub mod part;
pub mod pattern;
pub mod point;
mod pool;
pub mod problem;
pub mod reached;
pub mod record;
pub mod schema;
pub mod sink;
pub mod source;
pub mod store;
pub mod tier;
pub mod value;

pub use batch::{Batch, BatchBuilder, Cell, Columns, Strings};
pub use clock::Clock;
pub use codec::{RowBuf, RowError};
pub use decimal::Decimal;
pub use fault::{Fault, FaultKind};
pub use key::Key;
pub use keyed::{Answer, Context, KeyedOperator, State, StateDesc, StateId, StateKind, TimeDomain, Visit};
pub use operator::{Bind, Bound, Demand, Edge, Exec, Inputs, Lookup, Operator, OperatorSpec, Outputs, Reject, StoreInfo};
pub use part::{Kind, Make, Part};
pub use problem::{Place, Problem, Severity, Step};
pub use reached::{Reached, Way};
pub use record::{Meta, NO_TIME, Record};
pub use schema::{Access, Field, Schema, SchemaRef, Slot, Type};
pub use sink::{Guarantee, Outbox, Sink, SinkContext, SinkFactory, SinkSpec, Ticket};
pub use source::{Assignment, PartitionInfo, Poll, Position, Source, SourceContext, SourceFactory, SourceSpec};
pub use store::{Store, StoreSpec};
pub use value::{Span, Val, Value, same_text};

pub use inventory;
