//! Pictures of a topology: SVG, mermaid, dot, and a drawing for the terminal.

pub mod layout;
mod svg;
mod terminal;

use crate::build::Flow;
use crate::check;
use crate::source::Sources;
use crate::topology::{Stream, Topology, Use};
use crate::wiring::{Graph, What};
use crate::yaml::{Content, Node, snake_case};
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Source,
    Operator,
    Sink,
}

#[derive(Clone, Debug)]
pub struct Part {
    pub name: String,
    /// The part's type, and for a stream those of its `operates`.
    pub types: Vec<String>,
    pub shape: Shape,
    /// Visible fields of the main output, `name: type`.
    pub fields: Vec<String>,
    /// What the topology says of it, but for its name and wiring; secrets are only hashes.
    pub config: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrow {
    pub from: usize,
    pub to: usize,
    /// The port it leaves by, and for joins the input it enters.
    pub label: String,
}

/// Parts and arrows, inputs before readers.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    pub parts: Vec<Part>,
    pub arrows: Vec<Arrow>,
    /// `run_env`, `stores` and `guards` as they are written; secrets are only hashes.
    pub rest: Value,
}

/// A part as it is written, without what says where it stands.
fn used(sources: &Sources, part: &Use) -> Value {
    let mut all = shown(sources, &part.node);
    if let Some(map) = all.as_object_mut() {
        map.retain(|key, _| !["name", "input", "left", "right", "retry"].contains(&key.as_str()));
        map.insert("type".into(), part.part_name().into());
    }
    all
}

fn stream(sources: &Sources, s: &Stream) -> Value {
    let operates: Vec<Value> = s.operates.iter().map(|(_, u)| used(sources, u)).collect();
    let watermark = s.watermark.as_ref().map(|(_, node)| shown(sources, node));
    json!({"source": used(sources, &s.source), "operates": operates, "watermark": watermark, "retry": s.retry})
}

/// A tree as JSON in which what must not be seen is a hash.
fn shown(sources: &Sources, node: &Node) -> Value {
    match &node.content {
        Content::Map(entries) => entries.iter().map(|e| (snake_case(&e.key), shown(sources, &e.value))).collect(),
        Content::Seq(items) => items.iter().map(|n| shown(sources, n)).collect(),
        Content::Scalar(s) if sources.is_secret(node.span) => {
            format!("a secret, {:08x}", xxhash_rust::xxh3::xxh3_64(s.text.as_bytes()) as u32).into()
        }
        _ => check::to_json(node),
    }
}

impl Picture {
    pub(crate) fn new(sources: &Sources, t: &Topology, graph: &Graph, flows: &[Option<Flow>]) -> Picture {
        let place = |item: usize| graph.order.iter().position(|i| *i == item);
        let mut out = Picture::default();
        for &i in &graph.order {
            let item = &graph.items[i];
            let written = |u: &crate::topology::Use| u.node.get("type").and_then(|n| n.text()).unwrap_or("?").to_string();
            let (types, shape) = match item.what {
                What::Stream(s) => {
                    let s = &t.streams[s];
                    (std::iter::once(&s.source).chain(s.operates.iter().map(|(_, u)| u)).map(written).collect(), Shape::Source)
                }
                What::Transform(n) => (vec![written(&t.transforms[n].part)], Shape::Operator),
                What::Sink(n) => (vec![written(&t.sinks[n].part)], Shape::Sink),
            };
            let known = flows[i].as_ref().filter(|f| f.sure && !matches!(item.what, What::Sink(_))).and_then(|f| f.edges.first());
            let fields = known.map(|e| e.schema.visible().map(|(_, f)| format!("{}: {}", f.name, f.ty)).collect()).unwrap_or_default();
            let config = match item.what {
                What::Stream(s) => stream(sources, &t.streams[s]),
                What::Transform(n) => used(sources, &t.transforms[n].part),
                What::Sink(n) => used(sources, &t.sinks[n].part),
            };
            out.parts.push(Part { name: item.name.clone(), types, shape, fields, config });
        }
        for &i in &graph.order {
            let item = &graph.items[i];
            let join = item.wires.len() > 1
                && matches!(item.what, What::Transform(n) if t.transforms[n].part.operator().is_some_and(|o| matches!(o.inputs(), millrace_sdk::operator::Inputs::LeftRight { .. })));
            for w in &item.wires {
                let (Some(from), Some(to)) = (place(w.from), place(i)) else { continue };
                let side = if join { ["left", "right", "retry"].get(w.index).copied().unwrap_or("") } else { "" };
                let label = [w.port_name.as_str(), side].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" -> ");
                out.arrows.push(Arrow { from, to, label });
            }
        }
        let stores: Value = t.stores.iter().map(|(name, _, part)| (name.clone(), used(sources, part))).collect();
        let guards: Vec<Value> = t.guards.iter().map(|(_, node)| shown(sources, node)).collect();
        let env = t.env_node.as_ref().map(|n| shown(sources, n));
        out.rest = json!({"name": t.name, "run_env": env, "stores": stores, "guards": guards});
        out
    }

    /// For Markdown files and web pages.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        for (i, p) in self.parts.iter().enumerate() {
            let text = format!("{}<br/>{}", p.name, p.types.join("<br/>")).replace('"', "#quot;");
            let (open, close) = match p.shape {
                Shape::Source => ("([", "])"),
                Shape::Operator => ("[", "]"),
                Shape::Sink => ("[/", "/]"),
            };
            let _ = writeln!(out, "  n{i}{open}\"{text}\"{close}");
        }
        for a in &self.arrows {
            let label = if a.label.is_empty() { String::new() } else { format!("|\"{}\"|", a.label.replace('"', "#quot;")) };
            let _ = writeln!(out, "  n{} -->{label} n{}", a.from, a.to);
        }
        out
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let quote = |s: &str| s.replace('\\', "\\\\").replace('"', "\\\"");
        let mut out = String::from("digraph topology {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
        for (i, p) in self.parts.iter().enumerate() {
            let shape = match p.shape {
                Shape::Source => "ellipse",
                Shape::Operator => "box",
                Shape::Sink => "cylinder",
            };
            let _ = writeln!(out, "  n{i} [shape={shape}, label=\"{}\\n{}\"];", quote(&p.name), quote(&p.types.join(" + ")));
        }
        for a in &self.arrows {
            let _ = writeln!(out, "  n{} -> n{} [label=\"{}\"];", a.from, a.to, quote(&a.label));
        }
        out.push_str("}\n");
        out
    }
}
