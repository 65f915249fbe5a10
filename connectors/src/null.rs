//! The sink that forgets.

use millrace_sdk::sink::Acks;
use millrace_sdk::{Batch, Bind, Demand, Fault, Guarantee, Part, Problem, Sink, SinkContext, SinkFactory, SinkSpec, Ticket};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

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
        Ok(Arc::new(Forget))
    }
}

struct Forget;

impl SinkFactory for Forget {
    fn open(&self, _: SinkContext) -> Result<Box<dyn Sink>, Fault> {
        Ok(Box::<Forgetting>::default())
    }
}

#[derive(Default)]
struct Forgetting {
    done: Vec<Ticket>,
}

impl Sink for Forgetting {
    fn write(&mut self, _: usize, _: &Batch, ticket: Ticket) -> Result<(), Fault> {
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
