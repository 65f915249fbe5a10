//! `millrace record`: one row of a store, by its key, as the job's look-ups see it.

use crate::cli::RecordArgs;
use crate::control;
use crate::exit::Exit;
use crate::lint;
use crate::pages::print;
use millrace_plan::diagnostic;
use millrace_plan::plan::{NodeKind, Plan};
use millrace_sdk::codec::RowBuf;
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Fault, SchemaRef, Severity, Store, json};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// How long the store may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Stores that one process at a time can use.
const LOCAL: &str = "Embedded";

pub fn record(args: &RecordArgs) -> Exit {
    let planned = millrace_plan::load(&args.job, &lint::options(&args.set));
    let Some(plan) = planned.plan else {
        let errors: Vec<_> = planned.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
        eprint!("{}", diagnostic::full(&errors, std::io::stderr().is_terminal()));
        return Exit::Config;
    };
    match row(&plan, &args.store, &args.key) {
        Ok(row) if args.json => print(&format!("{}\n", json!({"store": args.store, "key": args.key, "row": row}))),
        Ok(Some(row)) => print(&format!("{}\n", Value::Object(row))),
        Ok(None) => {
            eprintln!("error: store `{}` has no row with the key `{}`", args.store, args.key);
            Exit::Data
        }
        Err(fault) => {
            eprintln!("error: {fault}");
            Exit::of(&fault)
        }
    }
}

/// A store as one part of the job uses it.
pub struct Used {
    name: String,
    part: &'static str,
    store: Arc<dyn Store>,
    schema: SchemaRef,
}

/// The stores of all parts.
pub fn used(plan: &Plan) -> Vec<Used> {
    let uses = plan.nodes.iter().filter_map(|n| if let NodeKind::Operator(op) = &n.kind { Some(&op.stores) } else { None }).flatten();
    uses.map(|s| Used { name: s.name.clone(), part: s.part, store: s.store.clone(), schema: s.schema.clone() }).collect()
}

/// All columns of the row that any look-up of the job asks for; None: there is no such row.
fn row(plan: &Plan, store: &str, key: &str) -> Result<Option<Map<String, Value>>, Fault> {
    let all = used(plan);
    if !all.iter().any(|u| u.name == store) {
        let fault = Fault::config(format!("no part of job `{}` looks anything up in a store `{store}`", plan.env.job));
        let names = || all.iter().map(|s| s.name.as_str());
        let near = did_you_mean(store, names()).map(|n| format!("did you mean `{n}`?"));
        let listed = || format!("it has the stores {}", names().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", "));
        return Err(if all.is_empty() { fault } else { fault.hint(near.unwrap_or_else(listed)) });
    }
    // A table on the disk belongs to the job while it runs.
    let socket = control::path(&plan.env);
    if all.iter().any(|u| u.name == store && u.part == LOCAL) && control::answers(&socket) {
        let answer = control::ask(&socket, &json!({"command": "record", "store": store, "key": key}))?;
        return Ok(answer.get("row").and_then(Value::as_object).cloned());
    }
    look_up(&all, store, key)
}

/// For a request at the job's socket: of a table that the job itself holds.
pub fn answer(all: &[Used], request: &Value) -> Result<Value, Fault> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    if !all.iter().any(|u| u.name == text("store") && u.part == LOCAL) {
        return Err(Fault::config(format!("the job has no table `{}` of its own", text("store"))));
    }
    Ok(json!({"row": look_up(all, text("store"), text("key"))?}))
}

fn look_up(all: &[Used], store: &str, key: &str) -> Result<Option<Map<String, Value>>, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fault::refused(format!("the store cannot be asked: {e}")))?;
    let mut found = None;
    for s in all.iter().filter(|u| u.name == store) {
        let asked = || async { tokio::time::timeout(PATIENCE, s.store.get_many(vec![key.as_bytes().to_vec()])).await };
        let late = || Fault::down(format!("store `{store}` did not answer within {} s", PATIENCE.as_secs()));
        let answers = runtime.block_on(asked()).unwrap_or_else(|_| Err(late()))?;
        let Some(bytes) = answers.into_iter().next().flatten() else { continue };
        let mut room = RowBuf::default();
        let damaged = |e: &dyn std::fmt::Display| Fault::bug(format!("the row of store `{store}` cannot be read: {e}"));
        let record = room.decode(s.schema.width(), &bytes).map_err(|e| damaged(&e))?;
        let mut text = Vec::new();
        json::write_row(&record, &s.schema, &mut text);
        let row: Map<String, Value> = serde_json::from_slice(&text).map_err(|e| damaged(&e))?;
        found.get_or_insert_with(Map::new).extend(row);
    }
    Ok(found)
}
