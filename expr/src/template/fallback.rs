//! Templates that are not plain, run by handlebars over a document made of the fields they read.

use super::helpers::{Args, Cx, HelperDef};
use super::parse::Reads;
use super::value::truth;
use crate::EvalError;
use handlebars::template::{Parameter, Template as Tree, TemplateElement};
use handlebars::{
    Context, Handlebars, Helper, HelperResult, Output, Path, RenderContext, RenderError, RenderErrorReason, Renderable, ScopedJson,
    WriteOutput,
};
use millrace_sdk::inventory;
use millrace_sdk::{Access, Record, Schema, Slot, Type, Val, json};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// A template, the helpers, and which fields make its document.
pub struct Fallback {
    tree: Tree,
    registry: Handlebars<'static>,
    /// All visible fields, if the whole row is read.
    visible: Vec<(String, Slot)>,
    tail: Option<Slot>,
    paths: Vec<(Vec<String>, Access)>,
    /// Slots of decimals: they become text, so that no digit is lost.
    decimals: Vec<Slot>,
}

impl Fallback {
    pub fn new(mut tree: Tree, mut reads: Reads, schema: &Schema, cx: &Cx) -> Fallback {
        adapt(&mut tree);
        // Whole containers first, then what lies inside of them.
        reads.paths.sort_by_key(|(path, _)| path.len());
        let visible = if reads.all { schema.visible().map(|(s, f)| (f.name.to_string(), s)).collect() } else { vec![] };
        let decimals = (0..schema.width()).map(|i| Slot(i as u16)).filter(|s| matches!(schema.field(*s).ty, Type::Decimal(..))).collect();
        Fallback { tree, registry: registry(cx), visible, tail: schema.tail().filter(|_| reads.all), paths: reads.paths, decimals }
    }

    fn value(&self, slot: Slot, v: Val<'_>) -> Json {
        match v {
            Val::Num(t) if self.decimals.contains(&slot) => Json::String(t.into()),
            v => to_json(v),
        }
    }

    fn document(&self, row: &Record<'_>) -> Json {
        let mut doc = Map::new();
        if let Some(Json::Object(tail)) = self.tail.map(|s| to_json(row.get(s))) {
            doc = tail;
        }
        for (name, slot) in &self.visible {
            match row.get(*slot) {
                Val::Missing => doc.remove(name.as_str()),
                v => doc.insert(name.clone(), self.value(*slot, v)),
            };
        }
        let mut scratch = String::new();
        for (path, access) in &self.paths {
            let found = row.find(access, &mut scratch);
            if !matches!(found, Val::Missing) {
                insert(&mut doc, path, self.value(access.slot, found));
            }
        }
        Json::Object(doc)
    }

    pub fn render(&self, row: &Record<'_>, out: &mut Vec<u8>) -> Result<(), EvalError> {
        let context = Context::from(self.document(row));
        let mut rc = RenderContext::new(None);
        self.tree.render(&self.registry, &context, &mut rc, &mut WriteOutput::new(out)).map_err(|e| reason(&e))
    }
}

/// Puts a value at a path; what stands in the way and is no object stays.
fn insert(doc: &mut Map<String, Json>, path: &[String], value: Json) {
    match path {
        [] => {}
        [name] => {
            doc.insert(name.clone(), value);
        }
        [name, rest @ ..] => {
            if let Json::Object(inner) = doc.entry(name.clone()).or_insert_with(|| Json::Object(Map::new())) {
                insert(inner, rest, value);
            }
        }
    }
}

/// All helpers, the same functions as the compiled program calls, and handlebars' blocks.
pub fn registry(cx: &Cx) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.register_escape_fn(handlebars::no_escape);
    for builtin in ["log", "len", "lookup", "eq", "ne", "gt", "gte", "lt", "lte", "and", "or", "not"] {
        registry.unregister_helper(builtin);
    }
    let cx = Arc::new(cx.clone());
    for def in inventory::iter::<HelperDef>() {
        for name in std::iter::once(&def.name).chain(def.aliases) {
            registry.register_helper(name, Box::new(Adapter { def, cx: cx.clone(), lenient: false }));
            registry.register_helper(&lenient_name(name), Box::new(Adapter { def, cx: cx.clone(), lenient: true }));
        }
    }
    registry
}

/// The name under which a helper gives null when it fails; no template can write it.
fn lenient_name(name: &str) -> String {
    format!("{name}?")
}

/// Rewrites what handlebars would take otherwise: helpers inside of `default` and `coalesce` get their lenient forms, since a rendering
/// ends at the first error; `{{title}}` is a field, even where a helper has that name; `{{(lower os)}}` is `{{lower os}}`.
fn adapt(tree: &mut Tree) {
    for element in &mut tree.elements {
        if let TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) = element
            && h.params.is_empty()
            && h.hash.is_empty()
        {
            match &mut h.name {
                Parameter::Path(Path::Relative((_, raw))) if raw.bytes().all(|c| c != b'/' && c != b'.') => {
                    if let Ok(path) = Path::parse(&format!("./{raw}")) {
                        h.name = Parameter::Path(path);
                    }
                }
                Parameter::Subexpression(s) => {
                    let inner = std::mem::replace(&mut *s.element, TemplateElement::RawString(String::new()));
                    *element = inner;
                }
                _ => {}
            }
        }
        adapt_element(element, false);
    }
}

fn adapt_element(element: &mut TemplateElement, lenient: bool) {
    let (TemplateElement::Expression(h) | TemplateElement::HtmlExpression(h) | TemplateElement::HelperBlock(h)) = element else { return };
    let def = h.name.as_name().and_then(HelperDef::find).filter(|_| h.block || !h.params.is_empty());
    if lenient && let (Some(_), Some(name)) = (def, h.name.as_name()) {
        h.name = Parameter::Name(lenient_name(name));
    }
    let inside = lenient || def.is_some_and(HelperDef::catches);
    for p in h.params.iter_mut().chain(h.hash.values_mut()) {
        if let Parameter::Subexpression(s) = p {
            adapt_element(&mut s.element, inside);
        }
    }
    h.template.iter_mut().chain(h.inverse.iter_mut()).for_each(adapt);
}

/// A helper as handlebars calls it.
struct Adapter {
    def: &'static HelperDef,
    cx: Arc<Cx>,
    lenient: bool,
}

impl handlebars::HelperDef for Adapter {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let texts: Vec<String> = h.params().iter().map(|p| held(p.value())).collect();
        let vals: Vec<Val<'_>> = h.params().iter().zip(&texts).map(|(p, t)| view(p.value(), t)).collect();
        let mut own = String::new();
        let args = Args { vals: &vals, decimals: 0, cx: &self.cx, name: self.def.name };
        match self.def.run(&args, self.lenient, &mut own) {
            Ok(v) => Ok(ScopedJson::Derived(to_json(v))),
            Err(e) => Err(RenderErrorReason::NestedError(Box::new(Carried(e))).into()),
        }
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        h: &Helper<'rc>,
        r: &'reg Handlebars<'reg>,
        context: &'rc Context,
        rc: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let value = self.call_inner(h, r, context, rc)?;
        if h.is_block() {
            let text = held(value.as_json());
            let branch = if truth(view(value.as_json(), &text)) { h.template() } else { h.inverse() };
            return branch.map_or(Ok(()), |t| t.render(r, context, rc, out));
        }
        Ok(out.write(&value.render())?)
    }
}

/// An evaluation's error on its way through handlebars.
#[derive(Debug)]
struct Carried(EvalError);
impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message)
    }
}
impl std::error::Error for Carried {}

fn reason(e: &RenderError) -> EvalError {
    match e.reason() {
        RenderErrorReason::NestedError(inner) if let Some(c) = inner.downcast_ref::<Carried>() => c.0.clone(),
        other => EvalError { reason: "template-failed", message: other.to_string() },
    }
}

/// The text of a value that a [`Val`] can only borrow.
fn held(v: &Json) -> String {
    match v {
        Json::Array(_) | Json::Object(_) => v.to_string(),
        Json::Number(n) if n.as_i64().is_none() && n.is_u64() => n.to_string(),
        _ => String::new(),
    }
}

fn view<'a>(v: &'a Json, held: &'a str) -> Val<'a> {
    match v {
        Json::Null => Val::Null,
        Json::Bool(b) => Val::Bool(*b),
        Json::String(s) => Val::Str(s),
        Json::Number(n) => match (n.as_i64(), n.is_u64()) {
            (Some(i), _) => Val::Int(i),
            (None, true) => Val::Num(held),
            (None, false) => n.as_f64().map_or(Val::Null, Val::Float),
        },
        Json::Array(_) | Json::Object(_) => Val::Json(held),
    }
}

/// A value as handlebars holds it. Timestamps and bytes are the text that they print as.
pub fn to_json(v: Val<'_>) -> Json {
    match v {
        Val::Missing | Val::Null => Json::Null,
        Val::Bool(b) => Json::Bool(b),
        Val::Int(i) => i.into(),
        Val::Float(f) => serde_json::Number::from_f64(f).map_or(Json::Null, Json::Number),
        Val::Num(t) => serde_json::from_str(t).unwrap_or_else(|_| Json::String(t.into())),
        Val::Str(s) => Json::String(s.into()),
        Val::Time(_) | Val::Bytes(_) => Json::String(super::value::text(v).into_owned()),
        Val::Json(t) => serde_json::from_str(t).unwrap_or(Json::Null),
        Val::Split(t, pair, key) => {
            let pairs = json::Pairs::new(t, pair, key);
            Json::Object(pairs.map(|(k, v)| (k.to_string(), Json::String(v.to_string()))).collect())
        }
    }
}
