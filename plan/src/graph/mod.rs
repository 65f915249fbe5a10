//! Pictures of a topology: SVG, mermaid, dot, and a drawing for the terminal.

pub mod layout;
mod svg;
mod terminal;

use crate::build::Flow;
use crate::topology::Topology;
use crate::wiring::{Graph, What};
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
}

impl Picture {
    pub(crate) fn new(t: &Topology, graph: &Graph, flows: &[Option<Flow>]) -> Picture {
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
            out.parts.push(Part { name: item.name.clone(), types, shape, fields });
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
