//! The compiled form of a plain template.

use super::helpers::{Args, Cx, HelperDef};
use super::value::{render, same, truth};
use crate::EvalError;
use crate::function::MAX_TEXT;
use crate::sql::column::fill_field;
use millrace_sdk::convert;
use millrace_sdk::json::plain_integer;
use millrace_sdk::reached::Rows;
use millrace_sdk::{Access, BatchBuilder, Cell, Columns, Record, Slot, Strings, Type, Val, Value, json, same_text};
use std::cell;

/// A value written in the template.
#[derive(Debug)]
pub enum Lit {
    Str(Box<str>),
    Int(i64),
    /// As serde_json prints it.
    Num(Box<str>),
    Bool(bool),
    Null,
    Json(Box<str>),
}

impl Lit {
    #[inline]
    pub fn val(&self) -> Val<'_> {
        match self {
            Lit::Str(s) => Val::Str(s),
            Lit::Int(i) => Val::Int(*i),
            Lit::Num(t) => Val::Num(t),
            Lit::Bool(b) => Val::Bool(*b),
            Lit::Null => Val::Null,
            Lit::Json(t) => Val::Json(t),
        }
    }
}

/// A part of a program.
pub enum Node {
    Lit(Lit),
    /// A field; true: a decimal, whose text keeps its scale.
    Slot(Slot, bool),
    Path(Access),
    Call(Call),
    /// `eq` and, negated, `ne`, of values that take no buffers: the commonest conditions.
    Same(Box<[Node; 2]>, bool),
    /// `split FIELD "|" "="`, which gives clean text as it lies; the call does the rest.
    Pairs(Slot, u8, u8, Call),
    /// `replace FIELD "a" "b"` of one ASCII character by another, in text that stays clean; the call does the rest.
    Swap(Slot, u8, u8, Call),
    If(Box<If>),
    Text(Vec<Node>),
}

/// A whole template.
pub struct Program {
    node: Node,
    /// That it takes to run.
    buffers: usize,
}

impl Program {
    pub fn new(node: Node) -> Program {
        Program { buffers: node.buffers(), node }
    }

    /// The slot, if the template is nothing but a field.
    pub fn slot(&self) -> Option<Slot> {
        if let Node::Slot(slot, _) = self.node { Some(slot) } else { None }
    }

    /// Appends the text.
    pub fn write(&self, row: &Record<'_>, cx: &Cx, out: &mut Vec<u8>) -> Result<(), EvalError> {
        with_buffers(self.buffers, |b| self.node.write_in(row, b, cx, out))
    }

    /// As [`write`](Self::write), of a key: false where a part of it is null or missing.
    pub fn write_key(&self, row: &Record<'_>, cx: &Cx, out: &mut Vec<u8>) -> Result<bool, EvalError> {
        with_buffers(self.buffers, |b| self.node.write_key_in(row, b, cx, out))
    }

    /// Appends the value as a field.
    pub fn push(&self, row: &Record<'_>, cx: &Cx, ty: Option<Type>, out: &mut BatchBuilder) -> Result<(), EvalError> {
        match (&self.node, ty) {
            (Node::Pairs(slot, pair, key, _), None | Some(Type::Any | Type::Map)) if out.keep_split(row, *slot, (*pair, *key)) => {
                return Ok(());
            }
            (Node::Swap(slot, from, to, _), None | Some(Type::Any | Type::String)) if let Value::Str(_) = row.raw(*slot) => {
                if let Some(text) = row.str(*slot).filter(|t| t.len() <= MAX_TEXT) {
                    out.push_swapped(text, *from, *to, true);
                    return Ok(());
                }
            }
            _ => {}
        }
        with_buffers(self.buffers, |b| self.node.push_in(row, b, cx, ty, out))
    }
}

impl Program {
    /// Fills a field of all rows of a batch with the values, where that takes no look at single rows: the others are left to
    /// [`push`](Self::push).
    pub fn fill(&self, ty: Option<Type>, columns: &mut Columns<'_>, to: Slot) {
        let (batch, rows) = (columns.batch(), columns.rows());
        let text = matches!(ty, None | Some(Type::Any | Type::String));
        match (&self.node, ty) {
            (Node::Slot(slot, _), None | Some(Type::Any)) => columns.keep(to, *slot),
            (Node::Slot(slot, _), Some(ty)) => fill_field(*slot, ty, columns, to),
            (Node::Pairs(slot, pair, key, _), None | Some(Type::Any | Type::Map)) => columns.fill(
                to,
                batch.strings(*slot, rows).map(|t| match t {
                    Strings::Clean(t) => Cell::Split(t, *pair, *key),
                    _ => Cell::Later,
                }),
            ),
            (Node::Swap(slot, from, with, _), _) if text => columns.fill(
                to,
                batch.strings(*slot, rows).map(|t| match t {
                    Strings::Clean(t) if t.len() <= MAX_TEXT => Cell::Swapped(t, *from, *with),
                    _ => Cell::Later,
                }),
            ),
            (Node::If(first), _) if text && let Some((arms, other)) = first.arms() => {
                // All conditions look at one field, in most of them.
                if arms.iter().all(|arm| arm.slot == arms[0].slot) {
                    let texts: Vec<&str> = arms.iter().map(|arm| arm.then).chain([other]).collect();
                    let picks = batch.strings(arms[0].slot, rows).map(|t| match t {
                        Strings::Clean(t) | Strings::Text(t) => {
                            Some(arms.iter().position(|arm| same_text(t, arm.equals) != arm.negated).unwrap_or(arms.len()))
                        }
                        _ => None,
                    });
                    return columns.choose(to, &texts, picks);
                }
                let mut chosen = vec![Cell::Text(other); rows.len()];
                // From the last one to the first, each condition that holds takes over.
                for arm in arms.iter().rev() {
                    for (chosen, t) in chosen.iter_mut().zip(batch.strings(arm.slot, rows.clone())) {
                        match t {
                            Strings::Clean(t) | Strings::Text(t) if same_text(t, arm.equals) == arm.negated => {}
                            Strings::Clean(_) | Strings::Text(_) => *chosen = Cell::Text(arm.then),
                            _ => *chosen = Cell::Later,
                        }
                    }
                }
                columns.fill(to, chosen.iter().copied());
            }
            _ => columns.leave(),
        }
    }
}

pub struct Call {
    pub def: &'static HelperDef,
    pub args: Vec<Node>,
    pub decimals: u32,
    /// It lies inside of `default` or `coalesce`: if it fails it gives null.
    pub lenient: bool,
    /// Buffers that it takes to evaluate: its own text and those of its arguments.
    pub buffers: usize,
}

pub struct If {
    pub cond: Node,
    pub then: Node,
    pub other: Node,
    /// How many rows have gone each way, where that is counted.
    pub seen: Option<[Rows; 2]>,
}

impl Call {
    pub fn new(def: &'static HelperDef, args: Vec<Node>, lenient: bool) -> Call {
        let decimals = args.iter().take(32).enumerate().fold(0, |m, (i, a)| m | u32::from(matches!(a, Node::Slot(_, true))) << i);
        let buffers = 1 + args.iter().map(Node::buffers).sum::<usize>();
        Call { def, args, decimals, lenient, buffers }
    }
}

impl Node {
    /// A call, in the quickest form that it has.
    pub fn call(call: Call) -> Node {
        match (call.def.name, &call.args[..]) {
            ("eq" | "ne", [a, b]) if a.buffers() + b.buffers() == 0 => {
                let negated = call.def.name == "ne";
                match <[Node; 2]>::try_from(call.args) {
                    Ok(both) => Node::Same(Box::new(both), negated),
                    Err(args) => Node::Call(Call { args, ..call }),
                }
            }
            ("split", [Node::Slot(slot, _), Node::Lit(Lit::Str(pair)), Node::Lit(Lit::Str(key))]) => {
                match (*slot, pair.as_bytes(), key.as_bytes()) {
                    (slot, &[p], &[k]) if p != k && json::clean(&[p, k]) => Node::Pairs(slot, p, k, call),
                    _ => Node::Call(call),
                }
            }
            ("replace", [Node::Slot(slot, false), Node::Lit(Lit::Str(from)), Node::Lit(Lit::Str(to))]) => {
                match (*slot, from.as_bytes(), to.as_bytes()) {
                    (slot, &[f], &[t]) if json::clean(&[t]) => Node::Swap(slot, f, t, call),
                    _ => Node::Call(call),
                }
            }
            _ => Node::Call(call),
        }
    }
}

/// Arguments that fit here cost no allocation.
const INLINE: usize = 6;

thread_local! {
    /// Buffers of the evaluation under way, kept for the next one.
    static BUFFERS: cell::Cell<Vec<String>> = const { cell::Cell::new(Vec::new()) };
}
/// A buffer that has grown beyond this is given back, bytes.
const KEEP: usize = 1 << 20;

/// Runs `f` with so many empty buffers.
#[inline]
fn with_buffers<R>(count: usize, f: impl FnOnce(&mut [String]) -> R) -> R {
    if count == 0 {
        return f(&mut []);
    }
    let mut buffers = BUFFERS.take();
    if buffers.len() < count {
        buffers.resize_with(count, String::new);
    }
    let result = f(&mut buffers[..count]);
    for b in &mut buffers[..count] {
        if b.capacity() > KEEP {
            *b = String::new();
        }
    }
    BUFFERS.set(buffers);
    result
}

impl Node {
    /// Buffers that [`eval`](Self::eval) takes.
    pub fn buffers(&self) -> usize {
        match self {
            Node::Lit(_) | Node::Slot(..) | Node::Same(..) => 0,
            Node::Path(_) => 1,
            Node::Call(c) | Node::Pairs(.., c) | Node::Swap(.., c) => c.buffers,
            Node::If(i) => i.cond.buffers().max(i.then.buffers()).max(i.other.buffers()),
            Node::Text(parts) => parts.iter().map(Node::buffers).max().unwrap_or(0),
        }
    }

    /// The value of an expression, borrowed from the program, the row or the buffers.
    #[inline]
    fn eval<'s>(&'s self, row: &Record<'s>, buffers: &'s mut [String], cx: &Cx) -> Result<Val<'s>, EvalError> {
        match self {
            Node::Lit(l) => Ok(l.val()),
            Node::Slot(s, _) => Ok(row.get(*s)),
            Node::Path(access) => {
                buffers[0].clear();
                Ok(row.find(access, &mut buffers[0]))
            }
            Node::Call(call) => call.eval(row, buffers, cx),
            Node::Same(both, negated) => Ok(Val::Bool(both_same(both, row) != *negated)),
            Node::Pairs(slot, pair, key, call) => match row.raw(*slot) {
                Value::Str(_) => match row.get(*slot) {
                    Val::Str(t) => Ok(Val::Split(t, *pair, *key)),
                    v => Ok(v),
                },
                _ => call.eval(row, buffers, cx),
            },
            Node::Swap(.., call) => call.eval(row, buffers, cx),
            // Statements are no arguments: the compiler makes none.
            Node::If(_) | Node::Text(_) => Ok(Val::Missing),
        }
    }

    /// The value of a node that takes no buffers.
    #[inline]
    fn plain<'s>(&'s self, row: &Record<'s>) -> Val<'s> {
        match self {
            Node::Slot(s, _) => row.get(*s),
            Node::Lit(l) => l.val(),
            Node::Same(both, negated) => Val::Bool(both_same(both, row) != *negated),
            _ => Val::Missing,
        }
    }

    fn write_in(&self, row: &Record<'_>, buffers: &mut [String], cx: &Cx, out: &mut Vec<u8>) -> Result<(), EvalError> {
        match self {
            Node::Slot(s, true) => match row.get(*s) {
                Val::Num(t) => out.extend_from_slice(t.as_bytes()),
                v => render(v, out),
            },
            Node::If(i) => i.pick(row, buffers, cx)?.write_in(row, buffers, cx, out)?,
            Node::Text(parts) => {
                for p in parts {
                    p.write_in(row, buffers, cx, out)?;
                }
            }
            node => render(node.eval(row, buffers, cx)?, out),
        }
        Ok(())
    }

    fn write_key_in(&self, row: &Record<'_>, buffers: &mut [String], cx: &Cx, out: &mut Vec<u8>) -> Result<bool, EvalError> {
        match self {
            Node::If(i) => i.pick(row, buffers, cx)?.write_key_in(row, buffers, cx, out),
            Node::Text(parts) => {
                for p in parts {
                    if !p.write_key_in(row, buffers, cx, out)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            node if node.eval(row, buffers, cx)?.is_null() => Ok(false),
            node => node.write_in(row, buffers, cx, out).map(|()| true),
        }
    }

    fn push_in(
        &self,
        row: &Record<'_>,
        buffers: &mut [String],
        cx: &Cx,
        ty: Option<Type>,
        out: &mut BatchBuilder,
    ) -> Result<(), EvalError> {
        let text = matches!(ty, None | Some(Type::String | Type::Any));
        match self {
            Node::Slot(slot, _) => {
                let raw = row.raw(*slot);
                let fits = match (ty, raw) {
                    (None | Some(Type::Any), _) | (_, Value::Missing | Value::Null) => true,
                    (Some(Type::String), Value::Str(_) | Value::Text(_)) => true,
                    (Some(Type::Bigint), Value::Int(_)) | (Some(Type::Double), Value::Float(_)) => true,
                    (Some(Type::Boolean), Value::Bool(_)) | (Some(Type::Timestamp), Value::Time(_)) => true,
                    (Some(Type::Map), Value::Split(..)) | (Some(Type::Bytes), Value::Bytes(_)) => true,
                    _ => false,
                };
                match row.str(*slot) {
                    _ if fits => out.keep(row, *slot),
                    // It stays as it is written.
                    Some(t) if ty == Some(Type::Bigint) && plain_integer(t.as_bytes()) => out.keep_val(row, Val::Num(t)),
                    _ => convert(row.get(*slot), ty, out)?,
                }
            }
            Node::If(i) => {
                let mut chosen = i.pick(row, buffers, cx)?;
                while let Node::If(i) = chosen {
                    chosen = i.pick(row, buffers, cx)?;
                }
                match chosen {
                    // A branch that is one literal: the usual case, and known to be text.
                    Node::Lit(Lit::Str(s)) if text => out.push_str(s),
                    node => node.push_text(row, buffers, cx, ty, out)?,
                }
            }
            Node::Text(_) => self.push_text(row, buffers, cx, ty, out)?,
            // Raw text is a template's text, never a number.
            Node::Lit(l) => convert(l.val(), ty, out)?,
            Node::Call(_) | Node::Pairs(..) if ty.is_none_or(|t| matches!(t, Type::Any | Type::Map)) => {
                match self.eval(row, buffers, cx)? {
                    // The text of the map is a field's text: it is kept where it lies.
                    v @ Val::Split(..) => out.keep_val(row, v),
                    v => convert(v, ty, out)?,
                }
            }
            node => convert(node.eval(row, buffers, cx)?, ty, out)?,
        }
        Ok(())
    }

    fn push_text(
        &self,
        row: &Record<'_>,
        buffers: &mut [String],
        cx: &Cx,
        ty: Option<Type>,
        out: &mut BatchBuilder,
    ) -> Result<(), EvalError> {
        if matches!(ty, None | Some(Type::String | Type::Any)) {
            let begun = out.begin_text();
            if let Err(e) = self.write_in(row, buffers, cx, out.text_mut()) {
                out.text_mut().truncate(begun);
                return Err(e);
            }
            let clean = json::clean(&out.text_mut()[begun..]);
            out.end_str(begun, clean);
            return Ok(());
        }
        let mut text = Vec::new();
        self.write_in(row, buffers, cx, &mut text)?;
        convert(Val::Str(&String::from_utf8(text).unwrap_or_default()), ty, out)
    }
}

/// Pushes a value, converted if a type is asked for.
pub fn convert(v: Val<'_>, ty: Option<Type>, out: &mut BatchBuilder) -> Result<(), EvalError> {
    match ty {
        None => out.push_val(v),
        Some(ty) => convert::push(v, ty, out).map_err(|e| EvalError { reason: "wrong-type", message: e.0 })?,
    }
    Ok(())
}

impl Call {
    fn eval<'s>(&'s self, row: &Record<'s>, buffers: &'s mut [String], cx: &Cx) -> Result<Val<'s>, EvalError> {
        let Some((own, mut rest)) = buffers.split_first_mut() else { return Ok(Val::Missing) };
        own.clear();
        let mut inline = [Val::Missing; INLINE];
        let mut many = Vec::new();
        let vals: &mut [Val<'s>] = if self.args.len() <= INLINE {
            &mut inline[..self.args.len()]
        } else {
            many.resize(self.args.len(), Val::Missing);
            &mut many
        };
        for (v, a) in vals.iter_mut().zip(&self.args) {
            let (mine, others) = rest.split_at_mut(a.buffers());
            rest = others;
            *v = a.eval(row, mine, cx)?;
        }
        self.def.run(&Args { vals, decimals: self.decimals, cx, name: self.def.name }, self.lenient, own)
    }
}

/// Whether two values that take no buffers are the same; a field's text and a literal without a detour.
#[inline]
fn both_same(both: &[Node; 2], row: &Record<'_>) -> bool {
    if let [Node::Slot(slot, _), Node::Lit(Lit::Str(lit))] = both
        && let Some(text) = row.str(*slot)
    {
        return *text == **lit;
    }
    same(both[0].plain(row), both[1].plain(row))
}

/// A condition on a field, and the text where it holds.
struct Arm<'a> {
    slot: Slot,
    equals: &'a str,
    negated: bool,
    then: &'a str,
}

impl If {
    /// The conditions one behind the other and what is left, if they compare fields with literals and give literals.
    fn arms(&self) -> Option<(Vec<Arm<'_>>, &str)> {
        let Node::Same(both, negated) = &self.cond else { return None };
        if self.seen.is_some() {
            return None;
        }
        let ([Node::Slot(slot, _), Node::Lit(Lit::Str(equals))], Node::Lit(Lit::Str(then))) = (&**both, &self.then) else { return None };
        let (mut arms, other) = match &self.other {
            Node::Lit(Lit::Str(other)) => (vec![], &**other),
            Node::If(inner) => inner.arms()?,
            _ => return None,
        };
        arms.insert(0, Arm { slot: *slot, equals, negated: *negated, then });
        Some((arms, other))
    }

    #[inline]
    fn pick(&self, row: &Record<'_>, buffers: &mut [String], cx: &Cx) -> Result<&Node, EvalError> {
        let holds = match &self.cond {
            Node::Same(both, negated) => both_same(both, row) != *negated,
            cond => truth(cond.eval(row, buffers, cx)?),
        };
        if let Some([then, other]) = &self.seen {
            (if holds { then } else { other }).fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(if holds { &self.then } else { &self.other })
    }
}

impl Node {
    /// The type of the value that a template of this one node gives.
    pub fn ty(&self, schema: &millrace_sdk::Schema) -> Type {
        match self {
            Node::Slot(s, _) => schema.field(*s).ty,
            Node::Path(access) => access.ty,
            Node::Pairs(..) => Type::Map,
            Node::Same(..) => Type::Boolean,
            Node::Call(c) if c.def.name == "split" => {
                if c.args.len() == 3 {
                    Type::Map
                } else {
                    Type::Array
                }
            }
            Node::Call(c) | Node::Swap(.., c) => c.def.gives,
            Node::Lit(_) | Node::If(_) | Node::Text(_) => Type::String,
        }
    }
}
