//! What is legal but likely not meant, and what weakens a job's guarantee.

use crate::build::Built;
use crate::cases;
use crate::diagnostic::{Found, Report};
use crate::topology::{Topology, Use};
use crate::wiring::{Graph, Item, What, output_name};
use millrace_sdk::operator::{Env, Inputs, TimeCharacteristic};

/// Parts that do not look at the key themselves.
const PASS_KEYS: &[&str] = &[
    "Filter",
    "Lookup",
    "Map",
    "Requeue",
    "SelectElement",
    "SelectStream",
    "SplitElement",
    "SplitStream",
    "StringToMap",
    "TemplateExtract",
    "Union",
];

pub(crate) fn run(report: &mut Report, t: &Topology, graph: &Graph, built: &Built, env: &Env) {
    if !report.damaged {
        unread(report, t, graph);
        stores(report, t, built);
        useless_keyby(report, t, graph);
        lost_order(report, t, graph, built);
        endless_state(report, t, graph);
    }
    time(report, t, graph, env);
    sources(report, t);
    order(report, t);
    shared_files(report, t);
    cases::check(report, t, graph, built, &env.base_dir);
}

/// What a part remembers for ever, where the input has no end.
fn endless_state(report: &mut Report, t: &Topology, graph: &Graph) {
    for item in &graph.items {
        let What::Transform(n) = item.what else { continue };
        let part = &t.transforms[n].part;
        let endless = part.part_name() == "Dedup" && part.config.get("within").is_none();
        if !endless || item.tainted || part.tainted {
            continue;
        }
        let mut reached: Vec<usize> = item.wires.iter().map(|w| w.from).collect();
        let mut at = 0;
        while at < reached.len() {
            for w in &graph.items[reached[at]].wires {
                if !reached.contains(&w.from) {
                    reached.push(w.from);
                }
            }
            at += 1;
        }
        let stream = reached.iter().find_map(|i| match graph.items[*i].what {
            What::Stream(s) => t.streams[s].source.source().filter(|spec| !spec.bounded()).map(|_| &t.streams[s]),
            _ => None,
        });
        if let Some(stream) = stream {
            let message = format!("`{}` remembers every key for ever, and the stream `{}` has no end", item.name, stream.name);
            let found = Found::warning("state-without-limit", item.span, message).second(stream.name_span, "this stream has no end");
            report.push(found.hint("write `within: 7d`, or whatever time a repeat may take"));
        }
    }
}

fn unread(report: &mut Report, t: &Topology, graph: &Graph) {
    if t.sinks.is_empty() {
        return;
    }
    for (i, item) in graph.items.iter().enumerate() {
        // A part that could not be wired or made may be the reader, one of two of the same name too.
        let lacks = |r: &Item| match r.what {
            What::Stream(_) => false,
            What::Transform(n) if is_join(&t.transforms[n].part) => [0, 1].iter().any(|side| r.wires.iter().all(|w| w.index != *side)),
            _ => r.wires.is_empty(),
        };
        let same = |r: &&Item| r.name == item.name && !matches!(r.what, What::Sink(_));
        if graph.items.iter().any(|r| r.tainted && lacks(r)) || graph.items.iter().filter(same).count() > 1 {
            continue;
        }
        if let What::Stream(s) = item.what
            && t.streams[s].retry
        {
            continue;
        }
        if matches!(item.what, What::Sink(_)) {
            continue;
        }
        let read: Vec<Option<usize>> = graph.readers(i).map(|(_, w)| w.port).collect();
        let selected = graph
            .readers(i)
            .any(|(r, _)| matches!(graph.items[r].what, What::Transform(n) if t.transforms[n].part.part_name() == "SelectStream"));
        let Some(ports) = &item.ports else {
            if read.is_empty() {
                report.push(unread_output(named_at(t, item), &item.name));
            }
            continue;
        };
        for (p, port) in ports.iter().enumerate().filter(|(_, p)| !p.dead && p.name != "errors") {
            if !read.contains(&Some(p)) && !selected {
                report.push(unread_output(named_at(t, item), &output_name(&item.name, &port.name)));
            }
        }
    }
}

fn is_join(part: &Use) -> bool {
    let wired = |key: &str| part.node.get(key).is_some();
    part.operator().map_or(wired("left") || wired("right"), |o| matches!(o.inputs(), Inputs::LeftRight { .. }))
}

/// Where an item's name is written, else its type.
fn named_at(t: &Topology, item: &Item) -> crate::source::Span {
    match item.what {
        What::Transform(n) => t.transforms[n].name.as_ref().map_or(item.span, |(_, span)| *span),
        _ => item.span,
    }
}

fn unread_output(span: crate::source::Span, name: &str) -> Found {
    Found::warning("unread-output", span, format!("nobody reads `{name}`: its rows are dropped and counted"))
        .hint(format!("give it a sink with `input: {name}`, or take the part out"))
}

/// Two sinks that write one file: their rows would stand among each other, and one truncates what the other has written.
fn shared_files(report: &mut Report, t: &Topology) {
    let mut seen: Vec<(&str, crate::source::Span)> = vec![];
    for step in t.sinks.iter().filter(|s| s.part.part_name() == "File") {
        let Some((path, span)) = step.part.config.get("path").and_then(|n| Some((n.text()?, n.span))) else { continue };
        let plain = path.strip_prefix("./").unwrap_or(path);
        match seen.iter().find(|(p, _)| *p == plain) {
            Some((_, first)) => {
                let found =
                    Found::warning("shared-file", span, format!("two sinks write the file `{plain}`")).second(*first, "the first one");
                report.push(found.hint("give one of them another path, or make one sink of them: `input: [a, b]`"));
            }
            None => seen.push((plain, span)),
        }
    }
}

fn stores(report: &mut Report, t: &Topology, built: &Built) {
    // A part that could not be made or bound may use it.
    if report.has_errors() {
        return;
    }
    for (name, span, _) in &t.stores {
        if !built.used_stores.contains(name) {
            report.push(Found::warning("unused-store", *span, format!("no part looks anything up in `{name}`")));
        }
    }
}

/// A part that needs to be told when time has passed.
fn waits_for_time(t: &Topology, graph: &Graph, item: usize) -> bool {
    let What::Transform(n) = graph.items[item].what else { return false };
    let part = &t.transforms[n].part;
    let name = part.part_name();
    name.contains("Window") || name == "Aggregate" || part.operator().is_some_and(|o| matches!(o.inputs(), Inputs::LeftRight { .. }))
}

fn time(report: &mut Report, t: &Topology, graph: &Graph, env: &Env) {
    let waiting: Vec<usize> = (0..graph.items.len()).filter(|i| waits_for_time(t, graph, *i)).collect();
    let env_span = |key: &str| t.env_node.as_ref().and_then(|n| n.entry(key)).map(|e| e.value.span);
    if env.time != TimeCharacteristic::EventTime {
        if let Some(first) = waiting.first() {
            let span = env_span("time_characteristic").unwrap_or(graph.items[*first].span);
            let message = format!("`{}` goes by the clock: the same input gives other output another time", graph.items[*first].name);
            report.push(Found::note("not-repeatable", span, message).hint("with `time_characteristic: EventTime` a replay gives the same"));
        }
        return;
    }
    for (i, item) in graph.items.iter().enumerate() {
        let What::Stream(s) = item.what else { continue };
        let stream = &t.streams[s];
        if stream.watermark.is_some() || stream.retry || stream.tainted {
            continue;
        }
        let mut reached = vec![i];
        let mut at = 0;
        while at < reached.len() {
            for (r, _) in graph.readers(reached[at]) {
                if !reached.contains(&r) {
                    reached.push(r);
                }
            }
            at += 1;
        }
        if let Some(part) = reached.iter().find(|r| waiting.contains(r)) {
            let message = format!("the stream `{}` has no watermark, and `{}` goes by event time", stream.name, graph.items[*part].name);
            let found =
                Found::error("missing-watermark", stream.name_span, message).second(graph.items[*part].span, "this needs to know the time");
            report.push(found.hint("write `watermark: {field: …, format: …, max_out_of_orderness: …}` beside `source`"));
        }
    }
}

fn useless_keyby(report: &mut Report, t: &Topology, graph: &Graph) {
    for (i, item) in graph.items.iter().enumerate() {
        let What::Transform(n) = item.what else { continue };
        if t.transforms[n].part.part_name() != "KeyBy" || item.tainted {
            continue;
        }
        let mut reached = vec![i];
        let mut at = 0;
        let mut used = false;
        while at < reached.len() && !used {
            for (r, _) in graph.readers(reached[at]) {
                let What::Transform(m) = graph.items[r].what else { continue };
                let part = &t.transforms[m].part;
                let passes = PASS_KEYS.contains(&part.part_name());
                if part.part_name() == "KeyBy" || part.operator().is_some_and(|o| matches!(o.inputs(), Inputs::LeftRight { .. })) {
                    continue;
                }
                used |= !passes;
                if !reached.contains(&r) {
                    reached.push(r);
                }
            }
            at += 1;
        }
        if !used {
            let found = Found::warning("useless-keyby", item.span, format!("no part after `{}` goes by its key", item.name));
            report.push(found.hint("windows need a KeyBy before them; joins have `keys` of their own"));
        }
    }
}

/// How the rows of one key of a window come to lose their order at a part before it.
enum Loss {
    /// There they meet in whatever order they arrive in.
    Meet(&'static str),
    /// It works under another key, so that they come from several workers.
    Spread,
    /// A join gives a row when its match has come.
    Join,
}

/// Which rows share a count window, and which are first and last in it, goes by the order in which they arrive.
fn lost_order(report: &mut Report, t: &Topology, graph: &Graph, built: &Built) {
    for (i, item) in graph.items.iter().enumerate() {
        let What::Transform(n) = item.what else { continue };
        if t.transforms[n].part.part_name() != "CountWindowWithTimeOut" || item.tainted {
            continue;
        }
        let Some(key) = key_before(graph, built, i) else { continue };
        let mut reached = vec![i];
        let mut at = 0;
        while at < reached.len() {
            let here = reached[at];
            at += 1;
            if let Some(loss) = loss(t, graph, built, here, &key, here == i) {
                let name = &graph.items[here].name;
                let message = match loss {
                    Loss::Meet(how) => format!("which rows share a window depends on chance: {how} `{name}`"),
                    Loss::Spread => format!("which rows share a window depends on chance: `{name}` works under another key"),
                    Loss::Join => format!("which rows share a window depends on when `{name}` finds their matches"),
                };
                let found = match loss {
                    Loss::Join => Found::note("order-lost-before-count-window", item.span, message),
                    _ => Found::warning("order-lost-before-count-window", item.span, message),
                };
                let found = if here == i { found } else { found.second(graph.items[here].span, "here the order is lost") };
                report.push(found.hint("sums over all windows of a key are right all the same"));
                break;
            }
            for w in &graph.items[here].wires {
                if !reached.contains(&w.from) {
                    reached.push(w.from);
                }
            }
        }
    }
}

fn key_before(graph: &Graph, built: &Built, item: usize) -> Option<Vec<String>> {
    let wire = graph.items[item].wires.first()?;
    built.flows[wire.from].as_ref()?.edges.get(wire.port?)?.key.clone()
}

fn loss(t: &Topology, graph: &Graph, built: &Built, item: usize, key: &[String], window: bool) -> Option<Loss> {
    let What::Transform(n) = graph.items[item].what else { return None };
    let part = &t.transforms[n].part;
    if part.operator().is_some_and(|o| matches!(o.inputs(), Inputs::LeftRight { .. })) {
        return Some(Loss::Join);
    }
    if graph.items[item].wires.len() > 1 {
        return Some(Loss::Meet("several inputs meet in"));
    }
    if part.part_name() == "Lookup" && part.config.get("order").is_some_and(|o| o.text() == Some("any")) {
        return Some(Loss::Meet("`order: any` lets them overtake each other in"));
    }
    let own = match part.part_name() {
        "Dedup" => part
            .config
            .get("keys")
            .map(|k| k.text().into_iter().chain(k.items().iter().filter_map(|i| i.text())).map(String::from).collect()),
        name if name.contains("Window") && !window => key_before(graph, built, item),
        _ => None,
    };
    own.is_some_and(|own| own.iter().any(|k| !key.contains(k))).then_some(Loss::Spread)
}

fn sources(report: &mut Report, t: &Topology) {
    for s in &t.streams {
        if s.source.source().is_some_and(|spec| !spec.replayable()) {
            let message = format!("`{}` cannot be read again: what is in flight when the job ends is lost", s.source.part_name());
            report.push(Found::note("source-not-replayable", s.source.type_span, message));
        }
    }
}

/// `matches: first` takes whichever row arrives first, and which that is differs from run to run.
fn order(report: &mut Report, t: &Topology) {
    for step in &t.transforms {
        let matches = step.part.config.get("matches").filter(|n| n.text() == Some("first"));
        if let Some(node) = matches.filter(|_| step.part.part_name() == "IntervalLeftJoin") {
            let message = "which row matches first depends on the order in which rows arrive";
            report.push(Found::note("join-depends-on-order", node.span, message).hint("`all` and `latest` give the same in every run"));
        }
    }
}
