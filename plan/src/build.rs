//! From a wired topology to a plan: what is wanted, backwards; what there is, forwards.

use crate::diagnostic::{Found, Report};
use crate::mend;
use crate::plan::{
    Input, Node as PlanNode, NodeId, NodeKind, Operate, OperatorNode, Plan, PortRef, SinkNode, SourceNode, StorePlan, WatermarkPlan,
};
use crate::topology::{Stream, Topology, Use, read_use};
use crate::wiring::{Graph, What};
use millrace_expr::Template;
use millrace_sdk::convert::{TimeFormat, TimeReader};
use millrace_sdk::operator::{Env, Inputs, Port, StoreUse};
use millrace_sdk::problem::did_you_mean;
use millrace_sdk::{Bind, Demand, Edge, Exec, Field, Kind, Make, OperatorSpec, Part, Problem, Reject, Schema, SchemaRef, StoreInfo};
use std::collections::{BTreeSet, HashMap};

/// Default of `max_future`.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// What is known of an item after binding: an edge a port. `sure`: it is the truth and not a stand-in after a problem.
pub(crate) struct Flow {
    pub edges: Vec<Edge>,
    pub sure: bool,
}

pub(crate) struct Built {
    pub flows: Vec<Option<Flow>>,
    nodes: Vec<Option<PlanNode>>,
    pub used_stores: BTreeSet<String>,
}

pub(crate) struct Builder<'a> {
    pub report: &'a mut Report,
    pub t: &'a Topology,
    pub graph: &'a Graph,
    pub env: &'a Env,
    stores: Vec<StoreInfo>,
    /// By item and port.
    wanted: HashMap<(usize, usize), Demand>,
    /// What a part wants of each of its inputs.
    inputs: HashMap<usize, Vec<Demand>>,
    built: Built,
}

impl Built {
    /// By item: those that could be made.
    pub fn nodes(&self) -> impl Iterator<Item = Option<&PlanNode>> {
        self.nodes.iter().map(Option::as_ref)
    }
}

impl<'a> Builder<'a> {
    pub fn new(report: &'a mut Report, t: &'a Topology, graph: &'a Graph, env: &'a Env) -> Builder<'a> {
        let stores = t
            .stores
            .iter()
            .map(|(name, _, part)| StoreInfo {
                name: name.clone(),
                key: part
                    .store()
                    .and_then(|s| s.key().map(String::from))
                    .or_else(|| part.json.get("key")?.as_str().map(String::from))
                    .or_else(|| part.config.get("key")?.text().map(String::from))
                    // Of a store that is broken it was told; whether it has a key is not known.
                    .or_else(|| part.store().is_none().then(|| "x".into())),
            })
            .collect();
        let n = graph.items.len();
        let built = Built { flows: (0..n).map(|_| None).collect(), nodes: (0..n).map(|_| None).collect(), used_stores: BTreeSet::new() };
        Builder { report, t, graph, env, stores, wanted: HashMap::new(), inputs: HashMap::new(), built }
    }

    /// `whole`: outputs that carry all their fields.
    pub fn run(mut self, whole: &[String]) -> Built {
        for at in whole.iter().filter_map(|name| crate::guards::target(self.graph, name)) {
            self.wanted.entry(at).or_default().join(&Demand::all());
        }
        for (at, demand) in crate::guards::demands(self.t, self.graph) {
            self.wanted.entry(at).or_default().join(&demand);
        }
        for &item in self.graph.order.iter().rev() {
            self.demand(item);
        }
        for &item in &self.graph.order {
            match self.graph.items[item].what {
                What::Stream(s) => self.stream(item, s),
                What::Transform(n) => self.transform(item, n),
                What::Sink(n) => self.sink(item, n),
            }
        }
        self.built
    }

    fn demand(&mut self, item: usize) {
        let graph = self.graph;
        let it = &graph.items[item];
        let demands = match it.what {
            What::Stream(_) => return,
            What::Sink(n) => match self.t.sinks[n].part.sink() {
                Some(s) => vec![s.demand()],
                None => vec![Demand::all()],
            },
            What::Transform(n) => match self.t.transforms[n].part.operator() {
                Some(o) => {
                    let mut demands = o.demand(&self.outputs(item));
                    // A store that is asked by its own key template needs that template's fields of the rows that ask.
                    // A name that is misspelt is read as what was likely meant, here as where it is told.
                    let names = || self.stores.iter().map(|s| s.name.as_str());
                    let known =
                        |name: &str| Some(name.to_string()).filter(|n| names().any(|s| s == n)).or_else(|| did_you_mean(name, names()));
                    let asked = o.store().and_then(known).and_then(|name| self.stores.iter().find(|s| s.name == name));
                    if let Some(key) = asked.and_then(|s| s.key.as_deref()) {
                        let asking: &[usize] = if matches!(o.inputs(), Inputs::LeftRight { .. }) { &[0, 2] } else { &[0] };
                        for &i in asking {
                            if let Some(d) = demands.get_mut(i) {
                                d.add(Template::fields(key));
                                d.all |= Template::needs_all(key);
                            }
                        }
                    }
                    demands
                }
                None => vec![Demand::all()],
            },
        };
        for w in &it.wires {
            let Some(d) = demands.get(w.index).or(demands.last()) else { continue };
            if let Some(port) = w.port {
                self.wanted.entry((w.from, port)).or_default().join(d);
            }
        }
        self.inputs.insert(item, demands);
    }

    /// What is wanted of each of an item's own ports (without `errors`).
    fn outputs(&self, item: usize) -> Vec<Demand> {
        let ports = self.graph.items[item].ports.as_ref().map_or(0, |p| p.len().saturating_sub(1));
        (0..ports).map(|p| self.wanted.get(&(item, p)).cloned().unwrap_or_default()).collect()
    }

    fn bind<'b>(&'b self, inputs: &'b [Edge], demands: &'b [Demand]) -> Bind<'b> {
        Bind { inputs, demands, env: self.env, stores: &self.stores }
    }

    fn stream(&mut self, item: usize, s: usize) {
        let (t, graph) = (self.t, self.graph);
        let stream = &t.streams[s];
        let mut sure = !stream.holes;
        // A retry stream's rows are those of the join's left input.
        let parse = match stream.retry {
            true => match self.retry_parser(item) {
                Some(p) => Some(p),
                None => return self.unknown(item),
            },
            false => None,
        };
        let steps: Vec<(String, &'static str, Option<&dyn OperatorSpec>, Option<&Use>)> = match &parse {
            Some(spec) => vec![("parse".into(), "StringToMap", Some(&**spec), None)],
            None => stream.operates.iter().map(|(n, u)| (n.clone(), u.part_name(), u.operator(), Some(u))).collect(),
        };
        let mut demand = match graph.retried_by(item) {
            Some(join) => self.inputs.get(&join).and_then(|d| d.get(2)).cloned().unwrap_or_else(Demand::all),
            None => self.wanted.get(&(item, 0)).cloned().unwrap_or_default(),
        };
        let timed = if stream.retry { self.left_stream(item) } else { Some(stream) };
        if let Some((w, _)) = timed.and_then(|s| s.watermark.as_ref()) {
            demand.add([&*w.field.0]);
        }
        let mut demands = vec![demand];
        for (_, _, spec, _) in steps.iter().rev() {
            let last = demands.last().cloned().unwrap_or_default();
            demands.push(match spec {
                Some(o) => o.demand(&vec![last; o.ports().len()]).into_iter().next().unwrap_or_default(),
                None => Demand::all(),
            });
        }
        demands.reverse();

        let bound = stream.source.source().map(|spec| spec.bind(&self.bind(&[], &demands[..1]), &demands[0]));
        let (schema, factory) = match bound {
            Some(Ok((schema, factory))) => (schema, Some(factory)),
            Some(Err(problems)) => {
                stream.source.tell(self.report, problems, stream.source.tainted);
                (stand_in(), None)
            }
            None => (stand_in(), None),
        };
        sure &= factory.is_some() && !stream.source.tainted;
        let mut edge = Edge::new(schema.clone());
        let mut operates = vec![];
        for (i, (name, part, spec, used)) in steps.iter().enumerate() {
            let Some(spec) = spec else {
                (edge, sure) = (Edge::new(stand_in()), false);
                continue;
            };
            if let Some(u) = used
                && !self.may_be_fused(*spec, u)
            {
                (edge, sure) = (Edge::new(stand_in()), false);
                continue;
            }
            let shaky = !sure || used.is_some_and(|u| u.tainted);
            match spec.bind(&self.bind(&[edge.clone()], &vec![demands[i + 1].clone(); spec.ports().len()])) {
                Ok(bound) => {
                    if let Some(u) = used {
                        u.tell(self.report, bound.problems, shaky);
                    }
                    let before = edge.schema.id();
                    edge = bound.outputs.into_iter().next().unwrap_or_else(|| Edge::new(stand_in()));
                    match bound.exec {
                        Exec::Stateless(make) => operates.push(Operate { name: format!("{}/{name}", stream.name), part, make }),
                        Exec::Pass if edge.schema.id() == before => {}
                        _ => {
                            if let Some(u) = used.filter(|_| !shaky) {
                                self.report.push(not_stateless(u));
                            }
                            sure = false;
                        }
                    }
                }
                Err(problems) => {
                    let (inputs, wanted) = ([edge.clone()], vec![demands[i + 1].clone(); spec.ports().len()]);
                    let mended = used.map(|u| mend::mended(u, &problems, &self.bind(&inputs, &wanted))).unwrap_or_default();
                    let problems: Vec<_> = problems.into_iter().chain(mended.more).collect();
                    match used {
                        Some(u) => u.tell(self.report, problems, shaky),
                        None => stream.source.tell(
                            self.report,
                            problems.into_iter().map(|p| millrace_sdk::Problem { place: Default::default(), ..p }).collect(),
                            false,
                        ),
                    }
                    match mended.outputs.into_iter().flatten().next() {
                        Some(e) => edge = e,
                        None => (edge, sure) = (Edge::new(stand_in()), false),
                    }
                }
            }
            if used.is_some_and(|u| u.tainted) {
                (edge, sure) = (Edge::new(stand_in()), false);
            }
        }
        edge.key = None;
        let watermark = match stream.retry {
            false => self.watermark(stream, &edge.schema, sure),
            true => self.retry_time(item, &edge.schema, sure),
        };
        let edges = vec![edge, Edge::new(Reject::schema())];
        if let Some(factory) = factory.filter(|_| sure) {
            let spec = stream.source.source();
            let kind = NodeKind::Source(SourceNode {
                number: s as u16,
                factory,
                schema,
                bounded: spec.is_some_and(|s| s.bounded()),
                replayable: spec.is_some_and(|s| s.replayable()),
                retry: stream.retry,
                operates,
                watermark,
            });
            self.node(item, stream.source.part_name(), kind, &edges, stream.source.parallelism);
        }
        self.built.flows[item] = Some(Flow { edges, sure });
    }

    /// Whether a part can be a step of a stream; told if not.
    fn may_be_fused(&mut self, spec: &dyn OperatorSpec, part: &Use) -> bool {
        let outputs = spec.ports().iter().filter(|p| !p.dead).count();
        let found = if spec.inputs() != Inputs::One || matches!(part.part_name(), "KeyBy" | "SelectStream") {
            not_stateless(part)
        } else if outputs != 1 {
            Found::error("not-stateless-in-operates", part.type_span, format!("`{}` has {outputs} outputs here", part.part_name()))
                .hint("move it to `transforms`")
        } else {
            return true;
        };
        self.report.push(found);
        false
    }

    /// The parser of a retry stream's rows: JSON with the fields of the join's left input.
    fn retry_parser(&mut self, item: usize) -> Option<Box<dyn OperatorSpec>> {
        let graph = self.graph;
        let stream = &graph.items[item];
        let Some(join) = graph.retried_by(item) else {
            if graph.readers(item).next().is_none() && !self.report.damaged {
                let found = Found::error("unread-output", stream.span, format!("no join reads the retry stream `{}`", stream.name));
                self.report.push(found.hint(format!("write `retry: {}` beside a join's `left` and `right`", stream.name)));
            }
            return None;
        };
        let left = graph.items[join].wires.iter().find(|w| w.index == 0)?;
        let flow = self.built.flows[left.from].as_ref()?;
        let schema = &flow.edges.get(left.port?)?.schema;
        let mut config = serde_json::json!({"format": "json"});
        if schema.tail().is_none() || schema.visible().next().is_some() {
            let fields: serde_json::Map<String, serde_json::Value> =
                schema.visible().map(|(_, f)| (f.name.to_string(), f.ty.to_string().into())).collect();
            config["fields"] = fields.into();
        }
        let make = Part::find(Kind::Operator, "StringToMap").map(|p| p.make);
        match make {
            Some(Make::Operator(f)) => f(config).ok(),
            _ => None,
        }
    }

    /// The stream that a retry stream's rows once came by: the start of the join's left input.
    fn left_stream(&self, item: usize) -> Option<&'a Stream> {
        let graph = self.graph;
        let mut at = graph.retried_by(item)?;
        for _ in 0..graph.items.len() {
            at = graph.items[at].wires.iter().find(|w| w.index == 0)?.from;
            if let What::Stream(s) = graph.items[at].what {
                return self.t.streams.get(s);
            }
        }
        None
    }

    /// Retried rows have the time that they had at first; they move no watermark.
    fn retry_time(&mut self, item: usize, schema: &SchemaRef, sure: bool) -> Option<WatermarkPlan> {
        let left = self.left_stream(item)?;
        let (w, _) = left.watermark.as_ref().filter(|_| sure)?;
        let Some(field) = schema.slot(&w.field) else {
            let span = self.graph.items[item].span;
            let message = format!("retried rows have no time: the join's left input has lost the field `{}`", w.field.0);
            let found = Found::error("retry-without-time", span, message).second(left.name_span, "the stream whose time field it is");
            self.report.push(found.hint("keep the field on its way to the join"));
            return None;
        };
        let format = TimeFormat::parse(&w.format).ok()?;
        let max_future = w.max_future.map_or(DAY, |d| d.std());
        Some(WatermarkPlan { field, format, max_out_of_orderness: w.max_out_of_orderness.std(), max_future, idle_after: None })
    }

    fn watermark(&mut self, stream: &Stream, schema: &SchemaRef, sure: bool) -> Option<WatermarkPlan> {
        let (w, node) = stream.watermark.as_ref()?;
        let at = |key: &str| node.get(key).map_or(stream.name_span, |n| n.span);
        let mut ok = true;
        let format = match TimeFormat::parse(&w.format) {
            Ok(f) => Some(f),
            Err(e) => {
                let near = did_you_mean(&w.format, ["epoch_ms", "epoch_s", "iso8601"]);
                self.report.push(Found::error("bad-time-format", at("format"), e).suggest(near));
                None
            }
        };
        if let Some(Err(e)) = format.as_ref().map(|f| TimeReader::new(f, &self.env.time_zone)) {
            self.report.push(Found::error("bad-time-format", at("format"), e));
            ok = false;
        }
        let negative = [("max_out_of_orderness", Some(w.max_out_of_orderness)), ("max_future", w.max_future), ("idle_after", w.idle_after)];
        for (key, value) in negative {
            if value.is_some_and(|v| v.micros < 0) {
                self.report.push(Found::error("out-of-range", at(key), format!("`{key}` is less than nothing")));
                ok = false;
            }
        }
        if w.idle_after.is_some_and(|d| d.micros == 0) {
            let found = Found::error("out-of-range", at("idle_after"), "a partition would be idle at once: `idle_after` is more than 0");
            self.report.push(found.hint("leave it out where a partition without rows should hold up the others"));
            ok = false;
        }
        if !sure {
            return None;
        }
        let Some(slot) = schema.slot(&w.field) else {
            let names: Vec<&str> = schema.visible().map(|(_, f)| &*f.name).collect();
            let found = Found::error("unknown-field", at("field"), format!("unknown field `{}`", w.field.0))
                .suggest(did_you_mean(&w.field, schema.names()));
            self.report.push(found.hint(format!("after `operates` the fields are {}", names.join(", "))));
            return None;
        };
        let ty = schema.field(slot).ty;
        if matches!(ty, millrace_sdk::Type::Boolean | millrace_sdk::Type::Array | millrace_sdk::Type::Map) {
            let message = format!("`{}` is {ty}: it holds no time", w.field.0);
            self.report.push(Found::error("wrong-type", at("field"), message).hint("name a field with a number, a text or a timestamp"));
            return None;
        }
        format.filter(|_| ok).map(|format| WatermarkPlan {
            field: slot,
            format,
            max_out_of_orderness: w.max_out_of_orderness.std(),
            max_future: w.max_future.map_or(DAY, |d| d.std()),
            idle_after: w.idle_after.map(|d| d.std()),
        })
    }

    /// The edges that an item reads, by input; and whether all of them are sure.
    fn input_edges(&self, item: usize) -> (Vec<Edge>, bool) {
        let it = &self.graph.items[item];
        let mut sure = !it.tainted && !it.wires.is_empty();
        let count = it.wires.iter().map(|w| w.index + 1).max().unwrap_or(0);
        let mut edges = vec![Edge::new(stand_in()); count];
        for w in &it.wires {
            let flow = self.built.flows[w.from].as_ref();
            match flow.and_then(|f| f.edges.get(w.port?).map(|e| (e, f.sure))) {
                Some((edge, known)) => {
                    edges[w.index] = edge.clone();
                    sure &= known;
                }
                None => sure = false,
            }
        }
        (edges, sure)
    }

    fn transform(&mut self, item: usize, n: usize) {
        let t = self.t;
        let part = &t.transforms[n].part;
        let Some(spec) = part.operator() else { return self.unknown(item) };
        let (edges, mut sure) = self.input_edges(item);
        let least = if matches!(spec.inputs(), Inputs::LeftRight { .. }) { 2 } else { 1 };
        if edges.len() < least {
            return self.unknown(item);
        }
        sure &= !part.tainted;
        let demands = self.outputs(item);
        match spec.bind(&self.bind(&edges, &demands)) {
            Ok(bound) => {
                self.tell(part, bound.problems, !sure);
                let stores = match &bound.exec {
                    Exec::Keyed(k) => k.stores.as_slice(),
                    Exec::Lookup(l) => std::slice::from_ref(&l.store),
                    _ => &[],
                };
                let plans: Vec<Option<StorePlan>> = stores.iter().map(|s| self.store(s, part)).collect();
                let complete = plans.iter().all(Option::is_some);
                let stores = plans.into_iter().flatten().collect();
                let mut outputs = bound.outputs;
                outputs.push(Edge::new(Reject::schema()));
                if sure && complete {
                    let kind = NodeKind::Operator(OperatorNode { exec: bound.exec, stores });
                    self.node(item, part.part_name(), kind, &outputs, t.transforms[n].part.parallelism);
                }
                self.built.flows[item] = Some(Flow { edges: outputs, sure });
                if !sure {
                    self.unknown(item);
                }
            }
            Err(problems) => {
                let mended = mend::mended(part, &problems, &self.bind(&edges, &demands));
                self.tell(part, problems.into_iter().chain(mended.more).collect(), !sure);
                match mended.outputs {
                    Some(mut outputs) => {
                        outputs.push(Edge::new(Reject::schema()));
                        self.built.flows[item] = Some(Flow { edges: outputs, sure });
                    }
                    None => self.unknown(item),
                }
            }
        }
    }

    /// Tells a part's problems; those in the key of a store that it asks lie there.
    fn tell(&mut self, part: &Use, problems: Vec<Problem>, only_inner: bool) {
        let t = self.t;
        let (of_stores, own): (Vec<Problem>, Vec<Problem>) = problems.into_iter().partition(|p| p.place.store.is_some());
        part.tell(self.report, own, only_inner);
        for p in of_stores {
            let Some((_, _, store)) = t.stores.iter().find(|(n, ..)| Some(n) == p.place.store.as_ref()) else { continue };
            let before = self.report.found.len();
            store.tell(self.report, vec![p], only_inner);
            for f in &mut self.report.found[before..] {
                f.second.get_or_insert((part.type_span, "this asks the store by its rows".into()));
            }
        }
    }

    fn store(&mut self, wanted: &StoreUse, part: &Use) -> Option<StorePlan> {
        self.built.used_stores.insert(wanted.name.clone());
        let t = self.t;
        let Some((name, _, store)) = t.stores.iter().find(|(n, ..)| *n == wanted.name) else {
            let near = did_you_mean(&wanted.name, t.stores.iter().map(|(n, ..)| n.as_str()));
            self.report.push(Found::error("unknown-store", part.type_span, format!("no store is called `{}`", wanted.name)).suggest(near));
            return None;
        };
        let spec = store.store()?;
        match spec.bind(&wanted.fields, self.env) {
            Ok(bound) => Some(StorePlan {
                name: name.clone(),
                part: store.part_name(),
                store: bound,
                tuning: spec.tuning(),
                schema: wanted.schema(),
            }),
            Err(problems) => {
                store.tell(self.report, problems, store.tainted);
                None
            }
        }
    }

    fn sink(&mut self, item: usize, n: usize) {
        let part = &self.t.sinks[n].part;
        let Some(spec) = part.sink() else { return };
        let (edges, sure) = self.input_edges(item);
        if edges.is_empty() {
            return;
        }
        let sure = sure && !part.tainted;
        let demands = vec![spec.demand(); edges.len()];
        match spec.bind(&self.bind(&edges, &demands)) {
            Ok(factory) if sure => {
                let kind = NodeKind::Sink(SinkNode { factory, guarantee: spec.guarantee() });
                self.node(item, part.part_name(), kind, &[], part.parallelism);
            }
            Ok(_) => {}
            Err(problems) => {
                let more = mend::mended(part, &problems, &self.bind(&edges, &demands)).more;
                part.tell(self.report, problems.into_iter().chain(more).collect(), !sure);
            }
        }
    }

    /// A stand-in for what an item gives, so that its readers can be looked at.
    fn unknown(&mut self, item: usize) {
        let ports = self.graph.items[item].ports.as_ref().map_or(1, Vec::len);
        self.built.flows[item] = Some(Flow { edges: vec![Edge::new(stand_in()); ports], sure: false });
    }

    fn node(&mut self, item: usize, part: &'static str, kind: NodeKind, edges: &[Edge], parallelism: Option<usize>) {
        let it = &self.graph.items[item];
        let ports: Vec<(Port, Edge)> = it.ports.iter().flatten().cloned().zip(edges.iter().cloned()).collect();
        self.built.nodes[item] = Some(PlanNode { name: it.name.clone(), part, kind, inputs: vec![], ports, parallelism });
    }
}

fn not_stateless(part: &Use) -> Found {
    Found::error("not-stateless-in-operates", part.type_span, format!("`{}` cannot be a step of a stream", part.part_name()))
        .hint("`operates` takes parts that look at one record at a time; move it to `transforms`")
}

/// Rows of which nothing is known.
fn stand_in() -> SchemaRef {
    Schema::open(vec![Field::hidden("_value", millrace_sdk::Type::Bytes)])
}

/// The sink of dead letters: the job's own, or a file in the state folder.
pub(crate) fn dead_letter(report: &mut Report, t: &Topology, env: &Env, default_path: &str) -> Option<PlanNode> {
    let default;
    let part = match &t.dead_letter {
        Some(p) => p,
        None => {
            let text = format!(
                "{{\"type\": \"File\", \"config\": {{\"path\": {}, \"format\": \"json\"}}}}",
                serde_json::Value::from(default_path)
            );
            let src = report.sources.add("dead letter", text);
            let node = crate::yaml::parse(report, src, &mut crate::vars::Vars::new(Default::default(), env.base_dir.clone()));
            default = read_use(report, &node, Kind::Sink, &[]);
            &default
        }
    };
    let spec = part.sink()?;
    let edges = [Edge::new(Reject::schema())];
    match spec.bind(&Bind { inputs: &edges, demands: &[spec.demand()], env, stores: &[] }) {
        Ok(factory) => Some(PlanNode {
            name: "dead_letter".into(),
            part: part.part_name(),
            kind: NodeKind::Sink(SinkNode { factory, guarantee: spec.guarantee() }),
            inputs: vec![],
            ports: vec![],
            parallelism: None,
        }),
        Err(problems) => {
            part.tell(report, problems, part.tainted);
            None
        }
    }
}

/// Puts the nodes together; None where one is missing.
pub(crate) fn assemble(
    built: Built,
    graph: &Graph,
    dead_letter: PlanNode,
    plan: impl FnOnce(Vec<PlanNode>, NodeId) -> Plan,
) -> Option<Plan> {
    let mut place: HashMap<usize, usize> = HashMap::new();
    let mut nodes: Vec<PlanNode> = vec![];
    let mut by_item = built.nodes;
    let is_sink = |i: &usize| matches!(graph.items[*i].what, What::Sink(_));
    let order = graph.order.iter().filter(|i| !is_sink(i)).chain(graph.order.iter().filter(|i| is_sink(i)));
    for &item in order {
        let mut node = by_item[item].take()?;
        for w in &graph.items[item].wires {
            node.inputs.push(Input { from: PortRef { node: NodeId(*place.get(&w.from)?), port: w.port? }, index: w.index });
        }
        place.insert(item, nodes.len());
        nodes.push(node);
    }
    if place.len() != graph.items.len() {
        return None;
    }
    let dead = NodeId(nodes.len());
    nodes.push(dead_letter);
    Some(plan(nodes, dead))
}
