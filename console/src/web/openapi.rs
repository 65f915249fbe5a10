//! The HTTP API as OpenAPI 3.1: its calls, what they take and answer. The schemas are those of the very types that are read and written.

use super::api::{Again, Begin, Deleted, End, Killed, LogPiece, Output, Record, Saved, Started, Submitted, Told, UnderWay};
use super::rejects::Replay;
use crate::accounts::Role;
use crate::audit::Operation;
use crate::checkpoints::Checkpoint;
use crate::look::Foreseen;
use crate::settings::Settings;
use crate::tasks::Version;
use crate::view::Point;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

type Of = fn(&mut SchemaGenerator) -> Schema;

struct Call {
    path: &'static str,
    method: &'static str,
    /// What programs that are made from the document call it.
    id: &'static str,
    summary: &'static str,
    role: Role,
    /// Name, type and meaning of what may stand behind the `?`.
    query: &'static [(&'static str, &'static str, &'static str)],
    body: Option<Of>,
    /// The answer; None: lines, of that media type.
    answer: Result<Of, &'static str>,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const TASK: &str = "/api/v1/tasks/{name}";

fn calls() -> Vec<Call> {
    const FROM: &[(&str, &str, &str)] = &[
        ("from", "string", "`latest`, `scratch`, the number of a checkpoint, or the path of one; `latest` by default"),
        ("accept_duplicates", "boolean", "As if the start had it"),
        ("allow_dropped_state", "boolean", "As if the start had it"),
    ];
    const TAP: &[(&str, &str, &str)] = &[
        ("output", "string", "`part` or `part.port`, as `outputs` names them"),
        ("where", "string", "An expression over the output's fields; none: all rows"),
        ("every", "integer", "One row in so many; 1 by default"),
        ("limit", "integer", "So many rows, then the end; none: without end"),
        ("process", "integer", "Of a job of several processes: which one; 0 by default"),
    ];
    let call =
        |method, path, id, summary, role, answer| Call { path, method, id, summary, role, query: &[], body: None, answer: Ok(answer) };
    use Role::{Editor, Operator, Viewer};
    vec![
        call("get", "/api/v1/tasks", "list_tasks", "The tasks of the caller's teams, with state and figures", Viewer, of::<Vec<Told>>),
        call("get", TASK, "get_task", "One task", Viewer, of::<Told>),
        Call {
            body: Some(of::<Submitted>),
            ..call(
                "put",
                TASK,
                "submit_task",
                "Make a task (201), or a new version of it (200); refused with 422 for what a run would refuse, which is kept as its draft",
                Editor,
                of::<Saved>,
            )
        },
        call("delete", TASK, "delete_task", "Delete a task whose job does not run", Editor, of::<Deleted>),
        Call {
            body: Some(of::<Begin>),
            ..call("post", "/api/v1/tasks/{name}/start", "start_job", "Start the job", Operator, of::<Started>)
        },
        Call {
            body: Some(of::<End>),
            ..call(
                "post",
                "/api/v1/tasks/{name}/stop",
                "stop_job",
                "Stop the job; the operation tells how that ends",
                Operator,
                of::<UnderWay>,
            )
        },
        call(
            "post",
            "/api/v1/tasks/{name}/savepoint",
            "take_savepoint",
            "Take a savepoint; the operation tells where it lies",
            Operator,
            of::<UnderWay>,
        ),
        call("post", "/api/v1/tasks/{name}/kill", "kill_job", "End the job by force", Operator, of::<Killed>),
        call("get", "/api/v1/tasks/{name}/versions", "list_versions", "The task's versions, newest first", Viewer, of::<Vec<Version>>),
        call("get", "/api/v1/tasks/{name}/versions/{number}", "get_version", "The settings of a version", Viewer, of::<Settings>),
        call(
            "get",
            "/api/v1/tasks/{name}/checkpoints",
            "list_checkpoints",
            "The task's checkpoints, oldest first",
            Viewer,
            of::<Vec<Checkpoint>>,
        ),
        Call {
            query: FROM,
            ..call(
                "get",
                "/api/v1/tasks/{name}/preview",
                "preview_start",
                "What a start would do, in the words of the command line",
                Operator,
                of::<Foreseen>,
            )
        },
        Call {
            answer: Err("application/jsonl"),
            ..call(
                "get",
                "/api/v1/tasks/{name}/rejects/{number}",
                "get_dead_letters",
                "A file of dead letters, JSON lines; the first is 0",
                Viewer,
                of::<Value>,
            )
        },
        Call {
            body: Some(of::<Again>),
            ..call(
                "post",
                "/api/v1/tasks/{name}/replay",
                "replay_dead_letters",
                "Give the records of dead letters to their streams once more",
                Operator,
                of::<Replay>,
            )
        },
        Call {
            query: &[("after", "integer", "The byte behind which it begins, `next` of the call before; 0 by default")],
            ..call("get", "/api/v1/tasks/{name}/log", "get_log", "A piece of the job's log, whole lines", Viewer, of::<LogPiece>)
        },
        call(
            "get",
            "/api/v1/tasks/{name}/points",
            "get_points",
            "The points of its charts, half an hour back, oldest first",
            Viewer,
            of::<Vec<Point>>,
        ),
        call("get", "/api/v1/tasks/{name}/outputs", "list_outputs", "What of the running job can be tapped", Operator, of::<Vec<Output>>),
        Call {
            query: TAP,
            answer: Err("application/x-ndjson"),
            ..call(
                "get",
                "/api/v1/tasks/{name}/tap",
                "tap_output",
                "Rows as they pass an output, JSON lines: `{fields}`, `{row}`, at last `{end}` or `{error, range}`",
                Operator,
                of::<Value>,
            )
        },
        call(
            "get",
            "/api/v1/records/{store}/{key}",
            "get_record",
            "A row of a store that an administrator has allowed",
            Viewer,
            of::<Record>,
        ),
        call(
            "get",
            "/api/v1/operations/{id}",
            "get_operation",
            "How an operation stands: pending, done or failed",
            Viewer,
            of::<Operation>,
        ),
    ]
}

/// OpenAPI 3.1.
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into()).into_generator();
    let refused = |status: &str, why: &str| {
        (
            status.to_string(),
            json!({"description": why, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}),
        )
    };
    let mut paths: Map<String, Value> = Map::new();
    for call in calls() {
        let names = call.path.split(['{', '}']).skip(1).step_by(2);
        let whole =
            |n: &str| if matches!(n, "id" | "number") { json!({"type": "integer", "minimum": 0}) } else { json!({"type": "string"}) };
        let mut parameters: Vec<Value> = names.map(|n| json!({"name": n, "in": "path", "required": true, "schema": whole(n)})).collect();
        let query = call.query.iter();
        parameters.extend(query.map(|(n, kind, about)| json!({"name": n, "in": "query", "description": about, "schema": {"type": kind}})));
        let content = match call.answer {
            Ok(schema) => json!({"application/json": {"schema": schema(&mut generator)}}),
            Err(lines) => json!({lines: {"schema": {"type": "string"}}}),
        };
        let mut responses: Map<String, Value> = [
            refused("401", "the token is missing, unknown, or has ended"),
            refused("403", "the token's role may not do that"),
            refused("404", "there is no such thing, or none that the caller may see"),
            refused("409", "it cannot be done as things stand"),
            refused("422", "what was sent is not well formed"),
            refused("default", "refused for another reason"),
        ]
        .into_iter()
        .collect();
        responses.insert("200".into(), json!({"description": "done", "content": content}));
        if call.method == "put" {
            responses.insert("201".into(), json!({"description": "made", "content": content}));
        }
        let mut told = json!({
            "operationId": call.id,
            "summary": call.summary,
            "description": format!("Needs the role `{}`.", call.role.name()),
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = call.body {
            let required = call.method == "put";
            told["requestBody"] = json!({"required": required, "content": {"application/json": {"schema": body(&mut generator)}}});
        }
        paths.entry(call.path).or_insert_with(|| json!({}))[call.method] = told;
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert(
        "Error".into(),
        json!({"type": "object", "required": ["error"], "properties": {"error": {
            "type": "object", "required": ["id", "message"],
            "properties": {"id": {"type": "string", "description": "Stable, kebab-case"}, "message": {"type": "string"}}}}}),
    );
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Millrace console", "version": env!("CARGO_PKG_VERSION")},
        "security": [{"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": schemas},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_told_and_nothing_else() {
        let source = include_str!("api.rs");
        let routes: BTreeSet<(String, String)> = source
            .split(".route(\"")
            .skip(1)
            .flat_map(|r| {
                let path = r.split('"').next().unwrap().to_string();
                let handlers = r.lines().next().unwrap().split_once(',').unwrap().1.to_string();
                let methods = ["get", "put", "post", "delete"].into_iter().filter(move |m| handlers.contains(&format!("{m}(")));
                methods.map(move |m| (path.clone(), m.to_string()))
            })
            .filter(|(path, _)| path != "/api/openapi.json")
            .collect();
        let told: BTreeSet<(String, String)> = calls().iter().map(|c| (c.path.to_string(), c.method.to_string())).collect();
        assert_eq!(routes, told);
        assert_eq!(calls().iter().map(|c| c.id).collect::<BTreeSet<_>>().len(), calls().len(), "ids are unique");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_parameter_of_a_path_is_told() {
        let d = document();
        let text = d.to_string();
        let schemas = d["components"]["schemas"].as_object().unwrap();
        for name in text.split("#/components/schemas/").skip(1).map(|r| r.split('"').next().unwrap()) {
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(!text.contains("$defs"));
        for (path, methods) in d["paths"].as_object().unwrap() {
            for call in methods.as_object().unwrap().values() {
                let in_path = call["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path").count();
                assert_eq!(in_path, path.matches('{').count(), "{path}");
            }
        }
        assert_eq!(schemas["Submitted"]["required"], json!(["settings"]));
    }
}
