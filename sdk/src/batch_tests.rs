use super::*;
use crate::{Field, Schema, Type};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn schema(width: usize) -> SchemaRef {
    Schema::new((0..width).map(|i| Field::new(format!("f{i}"), Type::Any)).collect())
}

/// One field a row.
fn batch(texts: &[&str]) -> Batch {
    let mut b = BatchBuilder::new(schema(1));
    for t in texts {
        b.push_str(t);
        b.end_row(Meta::default());
    }
    b.finish()
}

fn shown(batch: &Batch) -> Vec<String> {
    batch.rows().map(|r| (0..r.width()).map(|i| format!("{:?}", r.get(Slot(i as u16)))).collect::<Vec<_>>().join(" ")).collect()
}

fn panics<T>(f: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn kept_values_are_not_copied() {
    let below = batch(&["a=1|b=中", "x"]);
    let mut b = BatchBuilder::over(&below, schema(4));
    for row in below.rows() {
        let Val::Str(text) = row.get(Slot(0)) else { panic!("a string") };
        b.keep(&row, Slot(0));
        b.keep_val(&row, Val::Split(text, b'|', b'='));
        b.keep_str(&row, &text[text.len() - 1 - 2 * usize::from(text.len() > 1)..], true);
        b.keep_val(&row, Val::Num("12"));
        b.end_row(*row.meta());
    }
    assert_eq!(b.text_len(), 4, "only the literal is new");
    let all = below.replaced_by(b);
    assert_eq!(shown(&all)[0], r#"Str("a=1|b=中") Split("a=1|b=中", 124, 61) Str("中") Num("12")"#);
    assert_eq!(shown(&all)[1], r#"Str("x") Split("x", 124, 61) Str("x") Num("12")"#);
}

#[test]
fn values_of_another_batch_are_copied() {
    let (below, other) = (batch(&["中中中中"]), batch(&["é", "plain"]));
    let mut b = BatchBuilder::over(&below, schema(1));
    for row in other.rows() {
        b.keep(&row, Slot(0));
        b.end_row(Meta::default());
        b.keep_range(&row, 0..1);
        b.end_row(Meta::default());
        b.keep_val(&row, row.get(Slot(0)));
        b.end_row(Meta::default());
        // A text of the batch below, in the name of a row that is not.
        b.keep_val(&row, below.row(0).get(Slot(0)));
        b.end_row(Meta::default());
    }
    let got = shown(&below.replaced_by(b));
    let row = |t| [format!("Str({t:?})"), format!("Str({t:?})"), format!("Str({t:?})"), "Str(\"中中中中\")".to_string()];
    assert_eq!(got, [row("é"), row("plain")].concat());
}

#[test]
fn a_builder_replaces_the_batch_it_was_made_over_and_no_other() {
    let (a, b) = (batch(&["same"]), batch(&["text"]));
    let over = |batch: &Batch| {
        let mut rows = BatchBuilder::over(batch, schema(1));
        rows.keep(&batch.row(0), Slot(0));
        rows.end_row(Meta::default());
        rows
    };
    assert!(panics(|| b.clone().replaced_by(over(&a))), "as long, and another");
    assert_eq!(shown(&a.clone().replaced_by(over(&a))), ["Str(\"same\")"], "a clone has the same text");
    assert_eq!(shown(&a.select(&[]).replaced_by(over(&a))), ["Str(\"same\")"], "a selection too");
    let mut longer = over(&a);
    longer.push_str("new");
    longer.end_row(Meta::default());
    let grown = a.clone().replaced_by(longer);
    assert!(panics(|| grown.clone().replaced_by(over(&a))), "its text has grown");
    assert!(panics(|| over(&a).finish()));
}

#[test]
fn text_that_was_written_is_looked_at() {
    let write = |f: &dyn Fn(&mut BatchBuilder)| {
        let mut b = BatchBuilder::new(schema(1));
        f(&mut b);
        b.end_row(Meta::default());
        let one = panics(|| b.finish());
        let below = batch(&["below"]);
        let mut b = BatchBuilder::over(&below, schema(1));
        f(&mut b);
        b.end_row(Meta::default());
        assert_eq!(panics(|| below.replaced_by(b)), one);
        one
    };
    let piece = |b: &mut BatchBuilder, bytes: &[u8]| {
        let begun = b.begin_text();
        b.text_mut().extend_from_slice(bytes);
        begun
    };
    for (bytes, wrong) in [(&b"plain"[..], false), ("中".as_bytes(), false), (b"\xff", true), (b"\xe4\xb8", true), (b"", false)] {
        assert_eq!(
            write(&|b| {
                let begun = piece(b, bytes);
                b.end_str(begun, true)
            }),
            wrong,
            "{bytes:?}"
        );
        assert_eq!(
            write(&|b| {
                let begun = piece(b, bytes);
                b.end_num(begun)
            }),
            wrong,
            "{bytes:?}"
        );
        assert_eq!(
            write(&|b| {
                let begun = piece(b, bytes);
                b.end_json(begun)
            }),
            wrong,
            "{bytes:?}"
        );
        assert!(
            !write(&|b| {
                let begun = piece(b, bytes);
                b.end_bytes(begun)
            }),
            "{bytes:?}"
        );
    }
    assert!(
        write(&|b| {
            b.push_str("gone");
            b.text_mut().clear()
        }),
        "cut back behind a value"
    );
    assert!(
        write(&|b| {
            b.push_str("gone");
            b.text_mut()[1] = 0xff
        }),
        "overwritten"
    );
    assert!(
        write(&|b| {
            b.push_str("中");
            b.text_mut().rotate_left(1)
        }),
        "moved"
    );
    // Bytes beside a string are no fault of the string's.
    assert!(!write(&|b| {
        b.push_bytes(b"\xff");
        b.abandon_row();
        let begun = piece(b, "é".as_bytes());
        b.end_str(begun, true)
    }));
}

#[test]
fn rows_are_whole() {
    let mut b = BatchBuilder::new(schema(2));
    b.push_int(1);
    assert!(panics(|| b.finish()));
    let text = batch(&["中"]);
    let row = text.row(0);
    assert!(panics(|| row.view(Value::Str(Span { off: 1, len: 2 }))), "not between characters");
    assert!(panics(|| row.view(Value::Bytes(Span { off: 1, len: 9 }))), "outside");
    assert_eq!(row.view(Value::Bytes(Span { off: 1, len: 2 })), Val::Bytes(&"中".as_bytes()[1..]));
}

proptest! {
    /// Whatever is kept, copied, padded, selected and compacted: the rows say what was put in.
    #[test]
    fn texts_stay_what_they_are(texts in prop::collection::vec("[a-cé中\"]{0,6}", 1..20), steps in prop::collection::vec(0..6u8, 0..8)) {
        let mut b = batch(&texts.iter().map(|t| &**t).collect::<Vec<_>>());
        let want = shown(&b);
        let mut others = vec![];
        for step in steps {
            match step {
                0 => b.pad(),
                1 => others.push(b.clone()),
                2 => b = b.select(&(0..b.len() as u32).collect::<Vec<_>>()),
                3 => b = b.compact(),
                _ => {
                    let mut rows = BatchBuilder::over(&b, schema(1));
                    for (i, row) in b.rows().enumerate() {
                        if step == 4 && i % 2 == 0 { rows.push_field(&row, Slot(0)) } else { rows.keep(&row, Slot(0)) }
                        rows.end_row(*row.meta());
                    }
                    b = b.replaced_by(rows);
                }
            }
            prop_assert_eq!(shown(&b), want.clone());
            if let Some(padded) = b.padded_text() {
                prop_assert_eq!(&padded[..padded.len() - PAD], b.text());
                prop_assert!(padded[padded.len() - PAD..].iter().all(|b| *b == 0));
            }
        }
        for other in others {
            prop_assert_eq!(shown(&other), want.clone());
        }
    }
}

proptest! {
    #[test]
    fn retained_rows_are_those_asked_for(keep in prop::collection::vec(any::<bool>(), 0..40)) {
        let mut b = batch(&(0..keep.len()).map(|i| ["a", "bc", ""][i % 3]).collect::<Vec<_>>());
        for (i, meta) in b.metas_mut().iter_mut().enumerate() {
            meta.offset = i as u64;
        }
        let kept = b.select(&(0..keep.len() as u32).filter(|i| keep[*i as usize]).collect::<Vec<_>>());
        let mut asked = vec![];
        b.retain(|i| { asked.push(i); keep[i] });
        prop_assert_eq!(asked, (0..keep.len()).collect::<Vec<_>>());
        prop_assert_eq!(shown(&b), shown(&kept));
        prop_assert_eq!(b.metas(), kept.metas());
    }
}
