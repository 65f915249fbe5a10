//! The join at run time.

use super::{LEFT as LEFT_INPUT, Matches, RIGHT as RIGHT_INPUT, Unmatched};
use millrace_expr::Template;
use millrace_sdk::codec::RowWriter;
use millrace_sdk::convert::TimeReader;
use millrace_sdk::{
    Answer, BatchBuilder, Context, Fault, KeyedOperator, Meta, NO_TIME, Record, Reject, RowBuf, RowError, SchemaRef, Slot, State, StateId,
    TimeDomain, Val, Visit,
};
use std::sync::Arc;

pub(super) struct Plan {
    /// Microseconds, as all times here.
    pub lower: i64,
    pub upper: i64,
    pub matches: Matches,
    pub unmatched: Unmatched,
    pub processing: bool,
    pub left: SchemaRef,
    pub right: SchemaRef,
    /// The key's slots of the left and the right input.
    pub keys: [Vec<Slot>; 2],
    /// Left fields that stand before the right ones; only the tail of an open schema comes after them.
    pub before_tail: usize,
    /// What is kept of a right row, as slots of the right input.
    pub columns: Vec<Slot>,
    /// The output's right fields as slots of a kept row, and of the right input.
    pub picks: Vec<Slot>,
    pub right_picks: Vec<Slot>,
    /// The port of late rows; the one before it is that of unmatched rows.
    pub late: usize,
    pub retried: Option<Retried>,
    pub fallback: Option<Fallback>,
}

pub(super) struct Fallback {
    pub key: Template,
    /// Fields of an answer.
    pub width: usize,
    /// Where an answer has its time, if it must lie in the interval.
    pub check: Option<(Slot, TimeReader)>,
    /// Delay and attempts, without a broker.
    pub retry: Option<(i64, u32)>,
    pub dead_letter: bool,
}

/// Where the retry input has the left input's fields.
pub(super) struct Retried {
    pub slots: Vec<Option<Slot>>,
    pub attempts: Option<Slot>,
    pub first_seen: Option<Slot>,
}

// A key's states are declared as far as the config needs them: see `bind`.

/// Waiting left rows by (time, sequence): flags, the row, and with `latest` the best right row so far.
const LEFT: StateId = StateId(0);
/// Right rows by (time, sequence): flags, the columns.
const RIGHT: StateId = StateId(1);
/// Times of the left rows that the store is being asked for, by sequence.
const ASKED: StateId = StateId(2);
/// Rows without a part in time that the store is being asked for, by (0, sequence): see [`Again`].
const AGAIN: StateId = StateId(3);
/// Rows that will be asked for again, by (due, sequence): as in AGAIN.
const DUE: StateId = StateId(4);

/// It has been part of a pair.
const MATCHED: u8 = 1;
/// The store is being asked for it.
const PENDING: u8 = 2;

/// Timers: the interval of a left row has ended; nobody can want a right row any more; a row is to be asked for again; the
/// input has ended where the clock decides.
const LEFT_DONE: u32 = 0;
const RIGHT_DONE: u32 = 1;
const ASK_AGAIN: u32 = 2;
const END: u32 = 3;

/// What stands before a row in AGAIN and DUE: whether it came in by the retry input, attempts so far, first seen (microseconds).
struct Again {
    by_input: bool,
    attempts: u32,
    first_seen: i64,
}

impl Again {
    const LEN: usize = 13;

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.by_input));
        out.extend_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&self.first_seen.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Result<(Again, &[u8]), Fault> {
        let (head, row) = bytes.split_first_chunk::<{ Again::LEN }>().ok_or_else(|| damaged(RowError("it is cut short")))?;
        let attempts = u32::from_le_bytes(head[1..5].try_into().expect("4 bytes"));
        let first_seen = i64::from_le_bytes(head[5..13].try_into().expect("8 bytes"));
        Ok((Again { by_input: head[0] != 0, attempts, first_seen }, row))
    }
}

/// A question's token says in its last bit where the row is: 0 in LEFT, 1 in AGAIN.
fn token(seq: u64, again: bool) -> u64 {
    seq << 1 | u64::from(again)
}

fn damaged(e: RowError) -> Fault {
    Fault::bug(e.to_string())
}

pub(super) struct Join {
    plan: Arc<Plan>,
    left: RowBuf,
    right: RowBuf,
    /// Bytes of an entry being made or looked at.
    bytes: Vec<u8>,
    other: Vec<u8>,
    /// (time, sequence) of entries to be seen to after a scan.
    found: Vec<(i64, u64)>,
    store_key: Vec<u8>,
}

impl Join {
    pub(super) fn new(plan: Arc<Plan>) -> Join {
        Join { plan, left: RowBuf::new(), right: RowBuf::new(), bytes: vec![], other: vec![], found: vec![], store_key: vec![] }
    }
}

impl KeyedOperator for Join {
    fn on_record(&mut self, input: usize, row: Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let time = match (self.plan.processing, input) {
            (true, _) => cx.now(),
            (false, LEFT_INPUT | RIGHT_INPUT) if row.meta().time == NO_TIME => {
                let schema = if input == LEFT_INPUT { &self.plan.left } else { &self.plan.right };
                cx.reject(Reject::row("no-event-time", "the row has no event time", &row, schema));
                return Ok(());
            }
            (false, _) => row.meta().time,
        };
        match input {
            LEFT_INPUT => self.on_left(&row, time, state, cx),
            RIGHT_INPUT => self.on_right(&row, time, state, cx),
            _ => self.on_retried(&row, state, cx),
        }
    }

    fn on_timer(&mut self, domain: TimeDomain, time: i64, tag: u32, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        // With the clock as time, a moment is over only once the next has begun.
        let over = if self.plan.processing && domain == TimeDomain::Processing { time.saturating_sub(1) } else { time };
        match tag {
            LEFT_DONE => self.left_done(over.saturating_sub(self.plan.upper), state, cx)?,
            RIGHT_DONE => right_done(over.saturating_add(self.plan.lower), state, cx),
            ASK_AGAIN => self.ask_due(time, false, state, cx)?,
            _ => {
                self.left_done(i64::MAX, state, cx)?;
                if self.plan.processing {
                    right_done(i64::MAX, state, cx);
                }
                self.ask_due(i64::MAX, true, state, cx)?;
            }
        }
        self.forget_end(state, cx);
        Ok(())
    }

    fn on_answer(&mut self, token: u64, answer: Answer<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let seq = token >> 1;
        if token & 1 == 0 {
            self.left_answered(seq, answer, state, cx)?;
        } else {
            self.again_answered(seq, answer, state, cx)?;
        }
        self.forget_end(state, cx);
        Ok(())
    }
}

impl Join {
    fn on_left(&mut self, row: &Record<'_>, time: i64, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        cx.count("left", 1);
        let (from, to) = (time.saturating_add(plan.lower), time.saturating_add(plan.upper));
        // NULL equals nothing: there is nothing to wait for.
        let waits = !plan.keyless(LEFT_INPUT, row) && plan.progress(RIGHT_INPUT, cx) < to;
        let mut fault = None;
        let mut pairs = 0;
        // `first` and `latest`: the row that wins so far lies in `other`.
        let mut best: Option<Rank> = None;
        let (right, other) = (&mut self.right, &mut self.other);
        state.scan(RIGHT, from, to, &mut |right_time, seq, bytes| {
            let found = match right.decode(plan.columns.len(), &bytes[1..]) {
                Ok(r) => r,
                Err(e) => {
                    fault = Some(damaged(e));
                    return Visit::Stop;
                }
            };
            pairs += 1;
            let rank = match plan.matches {
                Matches::All => {
                    plan.emit(cx.out(0), row, Some((&found, &plan.picks)));
                    None
                }
                Matches::First => Some(Rank::earliest(seq)),
                Matches::Latest => Some(Rank::latest(right_time, found.meta())),
            };
            if rank.is_some() && rank > best {
                best = rank;
                other.clear();
                other.extend_from_slice(&bytes[1..]);
            }
            if bytes[0] & MATCHED != 0 {
                return Visit::Keep;
            }
            bytes[0] |= MATCHED;
            Visit::Changed
        });
        if let Some(fault) = fault {
            return Err(fault);
        }

        let matched = pairs > 0;
        let done = match plan.matches {
            Matches::All => {
                if matched {
                    cx.count("pairs", pairs);
                }
                matched && !waits
            }
            Matches::First => matched,
            Matches::Latest => matched && !waits,
        };
        if best.is_some() && done {
            let found = self.right.decode(plan.columns.len(), &self.other).map_err(damaged)?;
            plan.emit(cx.out(0), row, Some((&found, &plan.picks)));
            cx.count("pairs", 1);
        }
        if done || (matched && plan.matches == Matches::All) {
            plan.count_matched(cx);
        }
        if done {
            return Ok(());
        }
        if !waits && plan.fallback.is_none() {
            plan.unmatched(row, &Again { by_input: false, attempts: 0, first_seen: cx.now() }, cx);
            return Ok(());
        }

        let seq = cx.sequence();
        self.bytes.clear();
        self.bytes.push(if matched && plan.matches == Matches::All { MATCHED } else { 0 });
        row.encode(&mut self.bytes);
        if best.is_some() {
            self.bytes.extend_from_slice(&self.other);
        }
        if waits {
            state.insert(LEFT, time, seq, &self.bytes);
            plan.hold(time, cx);
            plan.timer(to, LEFT_DONE, cx);
        } else if plan.ask(row, token(seq, false), &mut self.store_key, cx) {
            self.bytes[0] |= PENDING;
            state.insert(LEFT, time, seq, &self.bytes);
            plan.hold(time, cx);
            state.map_put(ASKED, &seq.to_be_bytes(), &time.to_le_bytes());
        } else {
            plan.unmatched(row, &Again { by_input: false, attempts: 0, first_seen: cx.now() }, cx);
        }
        Ok(())
    }

    fn on_right(&mut self, row: &Record<'_>, time: i64, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        if plan.keyless(RIGHT_INPUT, row) {
            plan.unwanted(row, cx);
            return Ok(());
        }
        let mut fault = None;
        let mut pairs = 0;
        self.found.clear();
        let (left, right, found) = (&mut self.left, &mut self.right, &mut self.found);
        let (from, to) = (time.saturating_sub(plan.upper), time.saturating_sub(plan.lower));
        let rank = Rank::latest(time, row.meta());
        state.scan(LEFT, from, to, &mut |left_time, seq, bytes| {
            let (waiting, used) = match left.decode_from(plan.left.width(), &bytes[1..]) {
                Ok(found) => found,
                Err(e) => {
                    fault = Some(damaged(e));
                    return Visit::Stop;
                }
            };
            pairs += 1;
            match plan.matches {
                Matches::All => {
                    plan.emit(cx.out(0), &waiting, Some((row, &plan.right_picks)));
                    if bytes[0] & MATCHED != 0 {
                        return Visit::Keep;
                    }
                    plan.count_matched(cx);
                    bytes[0] |= MATCHED;
                    Visit::Changed
                }
                Matches::First => {
                    plan.emit(cx.out(0), &waiting, Some((row, &plan.right_picks)));
                    plan.count_matched(cx);
                    cx.count("pairs", 1);
                    if bytes[0] & PENDING != 0 {
                        found.push((left_time, seq));
                    }
                    plan.release(left_time, cx);
                    Visit::Remove
                }
                Matches::Latest => {
                    let better = match bytes.get(1 + used..) {
                        Some(best) if !best.is_empty() => match right.decode(plan.columns.len(), best) {
                            Ok(best) => rank > Rank::latest(best.meta().time, best.meta()),
                            Err(e) => {
                                fault = Some(damaged(e));
                                return Visit::Stop;
                            }
                        },
                        _ => true,
                    };
                    if better {
                        found.push((left_time, seq));
                    }
                    Visit::Keep
                }
            }
        });
        if let Some(fault) = fault {
            return Err(fault);
        }
        if plan.matches == Matches::All && pairs > 0 {
            cx.count("pairs", pairs);
        }
        let matched = pairs > 0;

        let keep = plan.progress(LEFT_INPUT, cx) < to;
        if keep || !self.found.is_empty() {
            self.bytes.clear();
            self.bytes.push(if matched { MATCHED } else { 0 });
            row.encode_fields(&Meta { time, ..*row.meta() }, &plan.columns, &mut self.bytes);
        }
        for &(left_time, seq) in &self.found {
            if plan.matches == Matches::First {
                // The answer finds nothing to do.
                state.map_remove(ASKED, &seq.to_be_bytes());
                continue;
            }
            let Some(entry) = state.row(LEFT, left_time, seq) else { continue };
            let (_, used) = self.left.decode_from(plan.left.width(), &entry[1..]).map_err(damaged)?;
            self.other.clear();
            self.other.extend_from_slice(&entry[..1 + used]);
            self.other.extend_from_slice(&self.bytes[1..]);
            state.insert(LEFT, left_time, seq, &self.other);
        }
        if keep {
            state.insert(RIGHT, time, cx.sequence(), &self.bytes);
            plan.timer(to, RIGHT_DONE, cx);
        } else if !matched {
            plan.unwanted(row, cx);
        }
        Ok(())
    }

    /// Left rows whose interval ended by `upto` have no more right rows to wait for.
    fn left_done(&mut self, upto: i64, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let mut fault = None;
        self.found.clear();
        let (left, right, found, store_key) = (&mut self.left, &mut self.right, &mut self.found, &mut self.store_key);
        state.scan(LEFT, i64::MIN, upto, &mut |time, seq, bytes| {
            if bytes[0] & PENDING != 0 {
                return Visit::Keep;
            }
            if bytes[0] & MATCHED != 0 {
                plan.release(time, cx);
                return Visit::Remove;
            }
            let decoded = left.decode_from(plan.left.width(), &bytes[1..]);
            let best = match &decoded {
                Ok((_, used)) if bytes.len() > 1 + used => right.decode(plan.columns.len(), &bytes[1 + used..]).map(Some),
                _ => Ok(None),
            };
            match (decoded, best) {
                (Err(e), _) | (_, Err(e)) => {
                    fault = Some(damaged(e));
                    Visit::Stop
                }
                (Ok((row, _)), Ok(Some(best))) => {
                    plan.emit(cx.out(0), &row, Some((&best, &plan.picks)));
                    plan.count_matched(cx);
                    cx.count("pairs", 1);
                    plan.release(time, cx);
                    Visit::Remove
                }
                (Ok((row, _)), Ok(None)) => {
                    if plan.ask(&row, token(seq, false), store_key, cx) {
                        found.push((time, seq));
                        bytes[0] |= PENDING;
                        return Visit::Changed;
                    }
                    plan.unmatched(&row, &Again { by_input: false, attempts: 0, first_seen: cx.now() }, cx);
                    plan.release(time, cx);
                    Visit::Remove
                }
            }
        });
        for (time, seq) in &self.found {
            state.map_put(ASKED, &seq.to_be_bytes(), &time.to_le_bytes());
        }
        fault.map_or(Ok(()), Err)
    }

    fn left_answered(&mut self, seq: u64, answer: Answer<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let name = seq.to_be_bytes();
        let Some(time) = state.map_get(ASKED, &name).and_then(|t| t.try_into().ok()).map(i64::from_le_bytes) else { return Ok(()) };
        state.map_remove(ASKED, &name);
        let Some(entry) = state.row(LEFT, time, seq) else { return Ok(()) };
        self.bytes.clear();
        self.bytes.extend_from_slice(entry);
        state.remove(LEFT, time, seq);
        let (row, used) = self.left.decode_from(plan.left.width(), &self.bytes[1..]).map_err(damaged)?;
        if self.bytes[0] & MATCHED == 0 {
            if self.bytes.len() > 1 + used {
                // A right row came while the store was being asked.
                let best = self.right.decode(plan.columns.len(), &self.bytes[1 + used..]).map_err(damaged)?;
                plan.emit(cx.out(0), &row, Some((&best, &plan.picks)));
                plan.count_matched(cx);
                cx.count("pairs", 1);
            } else {
                let again = Again { by_input: false, attempts: 0, first_seen: cx.now() };
                plan.answered(&row, again, answer, &mut self.right, &mut self.other, state, cx)?;
            }
        }
        plan.release(time, cx);
        Ok(())
    }

    /// A row of the retry input: the store alone is asked for it.
    fn on_retried(&mut self, row: &Record<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let Some(retried) = &plan.retried else { return Err(Fault::bug("a row came by an input that is not there")) };
        cx.count("retried", 1);
        let again = Again {
            by_input: true,
            attempts: retried.attempts.and_then(|s| row.int(s)).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            first_seen: match retried.first_seen.map(|s| row.get(s)) {
                Some(Val::Time(t)) => t,
                _ => cx.now(),
            },
        };
        let mut writer = RowWriter::new(*row.meta());
        for slot in &retried.slots {
            writer.push(slot.map_or(Val::Missing, |s| row.get(s)));
        }
        let encoded = writer.finish();
        let as_left = self.left.decode(plan.left.width(), &encoded).map_err(damaged)?;
        let seq = cx.sequence();
        if !plan.ask(&as_left, token(seq, true), &mut self.store_key, cx) {
            plan.unmatched(&as_left, &again, cx);
            return Ok(());
        }
        self.bytes.clear();
        again.write(&mut self.bytes);
        self.bytes.extend_from_slice(&encoded);
        state.insert(AGAIN, 0, seq, &self.bytes);
        Ok(())
    }

    fn again_answered(&mut self, seq: u64, answer: Answer<'_>, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let Some(entry) = state.row(AGAIN, 0, seq) else { return Ok(()) };
        self.bytes.clear();
        self.bytes.extend_from_slice(entry);
        state.remove(AGAIN, 0, seq);
        let (again, row) = Again::read(&self.bytes)?;
        let row = self.left.decode(plan.left.width(), row).map_err(damaged)?;
        plan.answered(&row, again, answer, &mut self.right, &mut self.other, state, cx)
    }

    /// Asks again for the rows that are due by `time`; the last time if the input has ended.
    fn ask_due(&mut self, time: i64, ended: bool, state: &mut dyn State, cx: &mut dyn Context) -> Result<(), Fault> {
        let plan = &*self.plan;
        let Some((_, max_attempts)) = plan.fallback.as_ref().and_then(|f| f.retry) else { return Ok(()) };
        let mut due = vec![];
        state.scan(DUE, i64::MIN, time, &mut |_, seq, bytes| {
            due.push((seq, bytes.to_vec()));
            Visit::Remove
        });
        for (seq, bytes) in due {
            let (mut again, row) = Again::read(&bytes)?;
            again.attempts = if ended { max_attempts } else { again.attempts + 1 };
            let decoded = self.left.decode(plan.left.width(), row).map_err(damaged)?;
            if plan.ask(&decoded, token(seq, true), &mut self.store_key, cx) {
                self.bytes.clear();
                again.write(&mut self.bytes);
                self.bytes.extend_from_slice(row);
                state.insert(AGAIN, 0, seq, &self.bytes);
            } else {
                plan.unmatched(&decoded, &again, cx);
            }
        }
        Ok(())
    }

    /// Takes back the timer for the end of the input when the key has nothing left that it would be for.
    fn forget_end(&self, state: &mut dyn State, cx: &mut dyn Context) {
        if !self.plan.wants_end() {
            return;
        }
        let mut empty = true;
        let retries = self.plan.fallback.as_ref().is_some_and(|f| f.retry.is_some());
        let states = [(LEFT, self.plan.processing), (RIGHT, self.plan.processing), (DUE, retries)];
        for (id, _) in states.into_iter().filter(|(_, used)| *used) {
            state.scan(id, i64::MIN, i64::MAX, &mut |_, _, _| {
                empty = false;
                Visit::Stop
            });
        }
        if empty {
            cx.delete_timer(TimeDomain::Event, i64::MAX, END);
        }
    }
}

/// Right rows that lie at or before `upto` can be wanted by no left row that is on time.
fn right_done(upto: i64, state: &mut dyn State, cx: &mut dyn Context) {
    state.scan(RIGHT, i64::MIN, upto, &mut |_, _, bytes| {
        if bytes[0] & MATCHED == 0 {
            cx.drop_row("right_unmatched");
        }
        Visit::Remove
    });
}

/// Which of several right rows is taken: the greatest rank.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank(i64, u32, u64);

impl Rank {
    fn latest(time: i64, meta: &Meta) -> Rank {
        Rank(time, meta.partition, meta.offset)
    }
    /// The one that arrived first.
    fn earliest(seq: u64) -> Rank {
        Rank(0, 0, u64::MAX - seq)
    }
}

impl Plan {
    /// How far an input's time is known to have come: no row on time with a time up to it will follow.
    fn progress(&self, input: usize, cx: &dyn Context) -> i64 {
        if self.processing { cx.now().saturating_sub(1) } else { cx.input_watermark(input) }
    }

    fn hold(&self, time: i64, cx: &mut dyn Context) {
        if !self.processing {
            cx.hold(time);
        }
    }

    fn release(&self, time: i64, cx: &mut dyn Context) {
        if !self.processing {
            cx.release(time);
        }
    }

    fn timer(&self, time: i64, tag: u32, cx: &mut dyn Context) {
        if self.processing {
            cx.set_timer(TimeDomain::Processing, time.saturating_add(1), tag);
            cx.set_timer(TimeDomain::Event, i64::MAX, END);
        } else {
            // Left rows wait for the right side alone: the left one may be held up because too many of them wait.
            cx.set_timer(if tag == LEFT_DONE { TimeDomain::Right } else { TimeDomain::Event }, time, tag);
        }
    }

    fn wants_end(&self) -> bool {
        self.processing || self.fallback.as_ref().is_some_and(|f| f.retry.is_some())
    }

    /// Whether a field of the row's key is NULL, which equals nothing.
    fn keyless(&self, input: usize, row: &Record<'_>) -> bool {
        self.keys[input].iter().any(|s| row.get(*s).is_null())
    }

    /// A right row that no left row wants, nor ever will.
    fn unwanted(&self, row: &Record<'_>, cx: &mut dyn Context) {
        if row.meta().late() && !self.processing {
            let late = cx.out(self.late);
            late.push_record(row);
            late.end_row(*row.meta());
        } else {
            cx.drop_row("right_unmatched");
        }
    }

    fn count_matched(&self, cx: &mut dyn Context) {
        cx.count("matched", 1);
        if self.fallback.is_some() {
            cx.count("lookups_saved", 1);
        }
    }

    /// The joined row; without a right row its fields are NULL.
    fn emit(&self, out: &mut BatchBuilder, left: &Record<'_>, right: Option<(&Record<'_>, &[Slot])>) {
        if self.before_tail == self.left.width() {
            out.push_record(left);
        } else {
            (0..self.before_tail).for_each(|i| out.push_field(left, Slot(i as u16)));
        }
        match right {
            Some((right, picks)) => picks.iter().for_each(|s| out.push_field(right, *s)),
            None => self.picks.iter().for_each(|_| out.push_null()),
        }
        for i in self.before_tail..self.left.width() {
            out.push_field(left, Slot(i as u16));
        }
        out.end_row(*left.meta());
    }

    /// Asks the store for a left row. False: there is no store, or no key can be made of the row.
    fn ask(&self, row: &Record<'_>, token: u64, store_key: &mut Vec<u8>, cx: &mut dyn Context) -> bool {
        let Some(fallback) = &self.fallback else { return false };
        store_key.clear();
        if fallback.key.render_key(row, store_key) != Ok(true) {
            cx.count("without_store_key", 1);
            return false;
        }
        cx.count("lookups", 1);
        cx.ask(0, store_key, token);
        true
    }

    /// What the store said about a left row that no right row wanted.
    #[allow(clippy::too_many_arguments)]
    fn answered(
        &self,
        row: &Record<'_>,
        again: Again,
        answer: Answer<'_>,
        buf: &mut RowBuf,
        bytes: &mut Vec<u8>,
        state: &mut dyn State,
        cx: &mut dyn Context,
    ) -> Result<(), Fault> {
        let Some(fallback) = &self.fallback else { return Err(Fault::bug("an answer came of a store that is not there")) };
        match answer {
            Answer::Found(found) => {
                let found = buf.decode(fallback.width, found).map_err(damaged)?;
                if fallback.fits(self, row, &found) {
                    self.emit(cx.out(0), row, Some((&found, &self.picks)));
                    cx.count(if again.by_input { "retried_by_fallback" } else { "by_fallback" }, 1);
                    return Ok(());
                }
                cx.count("outside_interval", 1);
            }
            Answer::NotFound => {}
            Answer::Failed(fault) if fallback.dead_letter => {
                cx.reject(Reject::row("store-unavailable", fault.message.clone(), row, &self.left));
                return Ok(());
            }
            Answer::Failed(_) => cx.count("store_unavailable", 1),
        }
        match fallback.retry {
            Some((delay, max_attempts)) if again.attempts < max_attempts && !again.by_input && cx.watermark() < i64::MAX => {
                let due = cx.now().saturating_add(delay);
                bytes.clear();
                again.write(bytes);
                row.encode(bytes);
                state.insert(DUE, due, cx.sequence(), bytes);
                cx.set_timer(TimeDomain::Processing, due, ASK_AGAIN);
                cx.set_timer(TimeDomain::Event, i64::MAX, END);
            }
            _ => self.unmatched(row, &again, cx),
        }
        Ok(())
    }

    fn unmatched(&self, row: &Record<'_>, again: &Again, cx: &mut dyn Context) {
        cx.count(if again.by_input { "retried_unmatched" } else { "unmatched" }, 1);
        match self.unmatched {
            Unmatched::Emit => self.emit(cx.out(0), row, None),
            Unmatched::Drop => cx.drop_row("unmatched"),
            Unmatched::Port => {
                let out = cx.out(self.late - 1);
                for i in 0..self.before_tail {
                    out.push_field(row, Slot(i as u16));
                }
                out.push_int(i64::from(again.attempts));
                out.push_time(again.first_seen);
                for i in self.before_tail..self.left.width() {
                    out.push_field(row, Slot(i as u16));
                }
                out.end_row(*row.meta());
            }
        }
    }
}

impl Fallback {
    /// Whether what the store found may be taken. A row without a time of its own (a retried one) has no interval.
    fn fits(&self, plan: &Plan, row: &Record<'_>, found: &Record<'_>) -> bool {
        let Some((slot, reader)) = &self.check else { return true };
        let time = row.meta().time;
        if time == NO_TIME {
            return true;
        }
        let interval = time.saturating_add(plan.lower)..=time.saturating_add(plan.upper);
        reader.read(found.get(*slot)).is_ok_and(|t| interval.contains(&t))
    }
}
