use super::*;
use millrace_sdk::{Batch, Field};
use serde_json::Value as Json;

/// A batch of one row, with the fields of a JSON object.
pub fn batch(row: &str) -> Batch {
    let doc: serde_json::Map<String, Json> = serde_json::from_str(row).expect("examples are JSON objects");
    let schema = Schema::new(doc.keys().map(|k| Field::new(k.as_str(), Type::Any)).collect());
    let mut out = BatchBuilder::new(schema);
    for m in millrace_sdk::json::members(row) {
        out.push_val(m.value(&mut String::new()));
    }
    out.end_row(Default::default());
    out.finish()
}

/// The example's schema: its row's fields, and in an open tail everything else.
fn open(row: &Batch) -> Batch {
    let schema = Schema::open(row.schema().fields().to_vec());
    let mut out = BatchBuilder::new(schema);
    out.push_record(&row.row(0));
    out.push_json("{}");
    out.end_row(Default::default());
    out.finish()
}

/// Renders by the program, if the template is plain, and by handlebars.
fn both(text: &str, row: &Batch) -> (Option<Result<String, EvalError>>, Result<String, EvalError>) {
    let cx = Cx::new(&Env::default());
    let (tree, reads, node) = parse::compile(text, row.schema()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let text = |f: &dyn Fn(&mut Vec<u8>) -> Result<(), EvalError>| {
        let mut out = vec![];
        f(&mut out).map(|()| String::from_utf8(out).expect("text is UTF-8"))
    };
    let program = node.map(|n| text(&|out| n.write(&row.row(0), &cx, out)));
    let fallback = fallback::Fallback::new(tree, reads, row.schema(), &cx);
    (program, text(&|out| fallback.render(&row.row(0), out)))
}

#[test]
fn every_example_holds_in_the_program_and_in_handlebars() {
    for h in helpers() {
        assert!(!h.examples.is_empty(), "{} has no example", h.name);
        assert!(!h.doc.is_empty() && h.signature.starts_with(h.name), "{}", h.name);
        for Example(template, row, want) in h.examples {
            let row = open(&batch(row));
            let (program, handlebars) = both(template, &row);
            if let Some(got) = program {
                assert_eq!(got.as_deref(), Ok(*want), "program: {template}");
            }
            assert_eq!(handlebars.as_deref(), Ok(*want), "handlebars: {template}");
        }
    }
}
use helpers::Example;
