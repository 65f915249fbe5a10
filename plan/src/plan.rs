//! What the planner gives the engine: a typed, checked dataflow.

use millrace_sdk::config::Secret;
use millrace_sdk::convert::TimeFormat;
use millrace_sdk::operator::{Env, Exec, MakeOperator, Port};
use millrace_sdk::store::Tuning;
use millrace_sdk::{Edge, Guarantee, SchemaRef, SinkFactory, Slot, SourceFactory, Store};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Index into [`Plan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

/// An output port of a node; `port` indexes the node's `ports`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRef {
    pub node: NodeId,
    pub port: usize,
}

pub struct Plan {
    pub env: Arc<Env>,
    pub parallelism: usize,
    pub checkpoint: Option<CheckpointPlan>,
    pub restart: Option<RestartPlan>,
    /// Bytes that the process may take; None: not said.
    pub memory: Option<u64>,
    /// Where metrics are served; None: nowhere.
    pub metrics: Option<SocketAddr>,
    /// What must hold for output to be published.
    pub guards: Vec<GuardPlan>,
    /// Who is told what happens to the job.
    pub alerts: Option<AlertsPlan>,
    /// In topological order: inputs come before their readers.
    pub nodes: Vec<Node>,
    /// The sink node that takes dead letters; its input has the schema of `Reject::schema()` and is wired by the engine.
    pub dead_letter: NodeId,
    /// Hash of the canonical configuration.
    pub hash: u64,
}

pub struct Node {
    /// Unique: stream, transform or sink name.
    pub name: String,
    /// The registered part's name.
    pub part: &'static str,
    pub kind: NodeKind,
    pub inputs: Vec<Input>,
    /// Output ports with what flows there. Every source and operator has `errors` last, with the schema of `Reject::schema()`.
    pub ports: Vec<(Port, Edge)>,
    /// Most workers that may host it.
    pub parallelism: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    pub from: PortRef,
    /// Which input of the part: 0, or for joins 0 left, 1 right, 2 retry.
    pub index: usize,
}

pub enum NodeKind {
    Source(SourceNode),
    Operator(OperatorNode),
    Sink(SinkNode),
}

pub struct SourceNode {
    /// For `Meta::source`.
    pub number: u16,
    pub factory: Arc<dyn SourceFactory>,
    /// What the source delivers, before `operates`.
    pub schema: SchemaRef,
    pub bounded: bool,
    pub replayable: bool,
    /// `role: retry`: no part in any watermark; its end is the end of the other sources.
    pub retry: bool,
    /// Fused into the source, in order.
    pub operates: Vec<Operate>,
    pub watermark: Option<WatermarkPlan>,
}

/// A stateless step of a stream.
pub struct Operate {
    pub name: String,
    pub part: &'static str,
    pub make: MakeOperator,
}

pub struct WatermarkPlan {
    /// In the schema after `operates`.
    pub field: Slot,
    pub format: TimeFormat,
    pub max_out_of_orderness: Duration,
    /// A row further ahead of the clock is dead-lettered before it can move the watermark.
    pub max_future: Duration,
    pub idle_after: Option<Duration>,
}

pub struct OperatorNode {
    pub exec: Exec,
    /// The stores that `exec` uses, in its order.
    pub stores: Vec<StorePlan>,
}

#[derive(Clone)]
pub struct StorePlan {
    pub name: String,
    pub part: &'static str,
    pub store: Arc<dyn Store>,
    pub tuning: Tuning,
    /// What answers look like.
    pub schema: SchemaRef,
}

pub struct SinkNode {
    pub factory: Arc<dyn SinkFactory>,
    pub guarantee: Guarantee,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointPlan {
    /// From the beginning of one to the beginning of the next.
    pub interval: Duration,
    /// From the end of one to the beginning of the next, at least.
    pub min_pause: Duration,
    /// What takes longer has failed.
    pub timeout: Duration,
    /// Completed ones that are kept, at least 1.
    pub retained: usize,
    /// How many may fail in succession without ending the run.
    pub tolerable_failures: u32,
    /// An absolute folder, or `s3://bucket/prefix` without a slash at its end.
    pub location: String,
    /// Of an `s3://` location.
    pub s3: Option<S3Plan>,
    pub exactly_once: bool,
}

/// How an object storage is reached; what is None comes from the environment.
#[derive(Clone, Debug, PartialEq)]
pub struct S3Plan {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<Secret>,
    pub path_style: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertsPlan {
    pub webhook: Option<WebhookPlan>,
    pub mail: Option<MailPlan>,
    /// Kinds of events; empty: all.
    pub on: Vec<&'static str>,
    /// Between two messages to one receiver.
    pub min_interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebhookPlan {
    pub url: Secret,
    pub headers: Vec<(String, Secret)>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MailPlan {
    pub host: String,
    pub port: u16,
    pub from: String,
    pub to: Vec<String>,
    pub login: Option<(String, Secret)>,
    /// By TLS; `starttls`: begun in plain text.
    pub protected: bool,
    pub starttls: bool,
    pub timeout: Duration,
}

/// A condition on what flows.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardPlan {
    pub name: String,
    pub check: GuardCheck,
    /// Index of the node that it looks at.
    pub node: usize,
    pub port: usize,
    /// How far back it looks; so long after a checkpoint it must have been green.
    pub over: Duration,
    /// Bounds, both included: a share, rows within `over`, or microseconds.
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Rows below which a share says nothing.
    pub at_least: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardCheck {
    JoinRate,
    RejectRate,
    Rows,
    /// Of the field in this slot.
    Nulls(Slot),
    Freshness,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RestartPlan {
    None,
    FixedDelay {
        attempts: u32,
        delay: Duration,
    },
    /// Ends when more than `max_failures` happened within `interval`.
    FailureRate {
        max_failures: u32,
        interval: Duration,
        delay: Duration,
    },
    /// Without end.
    ExponentialDelay {
        initial: Duration,
        max: Duration,
        multiplier: f64,
        /// A run that lasted so long begins again with `initial`.
        reset_after: Duration,
        /// Share, 0 to 1, by which each delay varies up and down.
        jitter: f64,
    },
    /// The host's default.
    FallBack,
}
