//! The sink that forgets.

use millrace_sdk::sink::Acks;
use millrace_sdk::{Batch, Bind, Demand, Fault, Guarantee, Part, Problem, Sink, SinkContext, SinkFactory, SinkSpec, Ticket};
use schemars::JsonSchema;
use serde::Deserialize;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Takes rows, counts them in the summary, and forgets them: for measuring, and for outputs that are meant to go nowhere.
///
/// # Example
/// The rows that the condition drops are counted by the Null sink; the others are printed.
///
/// ```yaml
/// name: keep-some
/// streams:
///   words:
///     config:
///       source: {type: Inline, config: {rows: [{word: mill, n: 3}, {word: race, n: 1}]}}
/// transforms:
///   - {type: SplitStream, name: split, config: {ports: {many: n > 2}, rest: port}}
/// sink:
///   - {type: Stdout, input: split.many, config: {format: json}}
///   - {type: "Null", input: split.rest, config: {}}
/// ```
/// ```json
/// {"word":"mill","n":3}
/// ```
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NullSink {
    /// Ask for every field, so that all parsing happens as if the rows were written. Default true.
    #[serde(default = "yes")]
    all_fields: bool,
    /// Most rows a second that each worker takes, as a slow server would; the job waits meanwhile. Default: no bound.
    rate: Option<NonZeroU32>,
}

fn yes() -> bool {
    true
}

millrace_sdk::inventory::submit! { Part::sink::<NullSink>("Null", &[]) }

impl SinkSpec for NullSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::None
    }

    fn demand(&self) -> Demand {
        Demand { all: self.all_fields, ..Demand::none() }
    }

    fn bind(&self, _: &Bind<'_>) -> Result<Arc<dyn SinkFactory>, Vec<Problem>> {
        Ok(Arc::new(Forget { rate: self.rate }))
    }
}

struct Forget {
    rate: Option<NonZeroU32>,
}

impl SinkFactory for Forget {
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::new(Forgetting { done: vec![], rate: self.rate, busy_until: Instant::now() }))
    }
}

struct Forgetting {
    done: Vec<Ticket>,
    rate: Option<NonZeroU32>,
    /// When the rows so far have been dealt with, at the given rate.
    busy_until: Instant,
}

impl Sink for Forgetting {
    fn ready(&mut self) -> bool {
        self.rate.is_none() || Instant::now() >= self.busy_until
    }

    fn write(&mut self, _: usize, batch: &Batch, ticket: Ticket) -> Result<(), Fault> {
        if let Some(rate) = self.rate {
            let takes = Duration::from_secs(1).mul_f64(batch.len() as f64 / f64::from(rate.get()));
            self.busy_until = self.busy_until.max(Instant::now()) + takes;
        }
        self.done.push(ticket);
        Ok(())
    }

    fn poll(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        acks.done.append(&mut self.done);
        Ok(())
    }

    fn close(&mut self, acks: &mut Acks) -> Result<(), Fault> {
        self.poll(acks)
    }
}
