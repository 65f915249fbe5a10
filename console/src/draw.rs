//! Pictures as SVG: a topology's graph with its figures, and charts. Nothing in them needs a style or a script of its own.

use crate::view::{Point, View};
use maud::{Markup, html};
use millrace_plan::graph::{Picture, Shape};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Graphs of versions, which never change: the newest of each task.
#[derive(Default)]
pub struct Pictures(Mutex<HashMap<i64, (i64, Arc<Picture>)>>);

impl Pictures {
    pub fn get(&self, task: i64, version: i64) -> Option<Arc<Picture>> {
        let all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.get(&task).filter(|p| p.0 == version).map(|p| p.1.clone())
    }

    pub fn put(&self, task: i64, version: i64, picture: Arc<Picture>) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).insert(task, (version, picture));
    }
}

const WIDTH: i32 = 170;
const HEIGHT: i32 = 62;
const ACROSS: i32 = 230;
const DOWN: i32 = 84;
/// Characters of a name that fit into a box.
const SHOWN: usize = 22;

/// Parts in columns by their distance from the sources, so that every arrow points to the right (but those of retry loops).
/// `tap`: where arrows and parts lead to.
pub fn graph(picture: &Picture, view: Option<&View>, tap: Option<&str>) -> Markup {
    let n = picture.parts.len();
    let mut column = vec![0usize; n];
    for _ in 0..n {
        for a in picture.arrows.iter().filter(|a| a.from < a.to) {
            column[a.to] = column[a.to].max(column[a.from] + 1);
        }
    }
    let mut rows = vec![0i32; n + 1];
    let places: Vec<(i32, i32)> = column
        .iter()
        .map(|&c| {
            let row = rows[c];
            rows[c] += 1;
            (8 + c as i32 * ACROSS, 8 + row * DOWN)
        })
        .collect();
    let width = places.iter().map(|p| p.0).max().unwrap_or(0) + WIDTH + 8;
    let height = places.iter().map(|p| p.1).max().unwrap_or(0) + HEIGHT + 8;
    // A picture has nothing in it that can be chosen.
    let role = if tap.is_some() { "group" } else { "img" };
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height) viewBox=(format!("0 0 {width} {height}")) role=(role) aria-label="graph" {
            defs { marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto" {
                path d="M0 0L8 4L0 8" class="arrow" {}
            } }
            @for a in &picture.arrows {
                @let ((x1, y1), (x2, y2)) = (places[a.from], places[a.to]);
                @let (x1, y1, y2) = (x1 + WIDTH, y1 + HEIGHT / 2, y2 + HEIGHT / 2);
                @let middle = (x1 + x2) / 2;
                @let d = format!("M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}");
                path class="arrow" marker-end="url(#head)" d=(d) {}
                (link(tap, &output(&picture.parts[a.from].name, &a.label), html! {
                    // A thin line is hard to meet.
                    path class="meet" d=(d) { title { (picture.parts[a.from].name) " → " (picture.parts[a.to].name) " " (a.label) } }
                }))
                @if !a.label.is_empty() { text class="soft" x=(middle) y=((y1 + y2) / 2 - 4) text-anchor="middle" { (a.label) } }
            }
            @for (i, p) in picture.parts.iter().enumerate() {
                @let (x, y) = places[i];
                @let told = view.map(|v| figures(v, &p.name)).unwrap_or_default();
                (link(tap, &p.name, html! { g {
                    title { (p.name) " [" (p.types.join(", ")) "] " (p.fields.join(", ")) }
                    rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx=(if p.shape == Shape::Operator { 4 } else { 16 }) class=(told.class) {}
                    text x=(x + 10) y=(y + 19) { (short(&p.name)) }
                    text x=(x + 10) y=(y + 35) class="soft" { (short(&p.types.join(" | "))) }
                    text x=(x + 10) y=(y + 52) class="soft" { (told.text) }
                } }))
            }
        }
    }
}

/// What leaves by the port of an arrow, as taps call it.
fn output(from: &str, label: &str) -> String {
    let port = label.split(" -> ").next().unwrap_or_default();
    // A label may be the side of a join that is entered.
    if port.is_empty() || ["left", "right", "retry"].contains(&port) { from.into() } else { format!("{from}.{port}") }
}

fn link(tap: Option<&str>, output: &str, body: Markup) -> Markup {
    let encoded = percent_encoding::utf8_percent_encode(output, percent_encoding::NON_ALPHANUMERIC);
    html! { @match tap {
        Some(to) => a href=(format!("{to}?output={encoded}")) aria-label=(output) { (body) },
        None => (body),
    } }
}

fn short(text: &str) -> String {
    match text.chars().count() > SHOWN {
        true => text.chars().take(SHOWN - 1).chain(['…']).collect(),
        false => text.to_string(),
    }
}

struct Told {
    class: &'static str,
    text: String,
}

impl Default for Told {
    fn default() -> Told {
        Told { class: "part", text: String::new() }
    }
}

fn figures(v: &View, part: &str) -> Told {
    if v.figures.all("millrace_part_records_in_total", &[("part", part)]).next().is_none() {
        return Told::default();
    }
    let of: &[(&str, &str)] = &[("part", part)];
    let workers = v.workers.max(1) as f64;
    let share = |name: &str| v.rate(name, of) / workers;
    let rejected = v.figures.sum("millrace_part_rejected_total", of);
    let busy = share("millrace_part_busy_seconds_total");
    let held = share("millrace_part_backpressured_seconds_total");
    let class = if held >= 0.5 {
        "part ill"
    } else if busy >= 0.8 {
        "part busy"
    } else {
        "part"
    };
    let mut text = format!("{}/s", count(v.rate("millrace_part_records_in_total", of)));
    if held >= 0.05 {
        text += &format!(" ⏸{:.0}%", held * 100.0);
    }
    if rejected > 0.0 {
        text += &format!(" ✗{}", count(rejected));
    }
    Told { class, text }
}

/// 1234567 as `1.23M`.
pub fn count(n: f64) -> String {
    match n {
        n if !n.is_finite() => "–".into(),
        n if n.abs() >= 1e9 => format!("{:.2}G", n / 1e9),
        n if n.abs() >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n.abs() >= 1e4 => format!("{:.1}k", n / 1e3),
        n if n.abs() >= 100.0 || n.fract() == 0.0 => format!("{n:.0}"),
        n => format!("{n:.1}"),
    }
}

pub fn bytes(n: f64) -> String {
    match n {
        n if !n.is_finite() => "–".into(),
        n if n >= (1u64 << 30) as f64 => format!("{:.2} GiB", n / (1u64 << 30) as f64),
        n if n >= (1u64 << 20) as f64 => format!("{:.1} MiB", n / (1u64 << 20) as f64),
        // An empty sum is -0.
        n => format!("{:.1} KiB", n.abs() / 1024.0),
    }
}

pub fn seconds(s: f64) -> String {
    match s {
        s if !s.is_finite() => "–".into(),
        // Clocks differ by a little.
        s if s < 1.0 => format!("{:.0} ms", (s * 1e3).max(0.0)),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// A line over the history; the second one, dashed, has the same scale.
pub fn chart(
    title: &str,
    points: &[Point],
    value: fn(&Point) -> f64,
    second: Option<fn(&Point) -> f64>,
    shown: fn(f64) -> String,
) -> Markup {
    const W: f64 = 320.0;
    const H: f64 = 90.0;
    let all = points.iter().flat_map(|p| [value(p), second.map_or(f64::NAN, |s| s(p))]);
    let greatest = all.filter(|v| v.is_finite()).fold(f64::NAN, f64::max);
    let most = greatest.max(1e-9);
    let (begin, end) = (points.first().map_or(0, |p| p.time), points.last().map_or(1, |p| p.time));
    let line = |value: fn(&Point) -> f64| {
        let mut d = String::new();
        let mut pen = 'M';
        for p in points {
            let v = value(p);
            if !v.is_finite() {
                pen = 'M';
                continue;
            }
            let x = W * (p.time - begin) as f64 / (end - begin).max(1) as f64;
            d += &format!("{pen}{x:.1} {:.1}", H - (H - 6.0) * v / most);
            pen = 'L';
        }
        d
    };
    let now = points.last().map_or(f64::NAN, value);
    html! { figure {
        figcaption { (title) ": " strong { (shown(now)) } " · max " (shown(greatest)) }
        svg xmlns="http://www.w3.org/2000/svg" width=(W) height=(H) viewBox=(format!("0 0 {W} {H}")) role="img" aria-label=(title) {
            line class="axis" x1="0" y1=(H - 0.5) x2=(W) y2=(H - 0.5) {}
            @if let Some(second) = second { path class="second" d=(line(second)) {} }
            path class="line" d=(line(value)) {}
        }
    } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (n, want) in [(0.0, "0"), (12.34, "12.3"), (999.0, "999"), (12_345.0, "12.3k"), (1_234_567.0, "1.23M"), (f64::NAN, "–")] {
            assert_eq!(count(n), want);
        }
        assert_eq!((seconds(0.25).as_str(), seconds(90.0).as_str(), seconds(f64::NAN).as_str()), ("250 ms", "90.0 s", "–"));
        assert_eq!((bytes(2048.0).as_str(), bytes(3.5e9).as_str()), ("2.0 KiB", "3.26 GiB"));
    }

    #[test]
    fn names_are_text_and_no_markup() {
        let part = |name: &str| millrace_plan::graph::Part {
            name: name.into(),
            types: vec!["<b>".into()],
            shape: Shape::Source,
            fields: vec!["\"onload=x".into()],
            config: Default::default(),
        };
        let arrow = millrace_plan::graph::Arrow { from: 0, to: 1, label: "</svg><script>".into() };
        let picture = Picture { parts: vec![part("<script>alert(1)</script>"), part("b")], arrows: vec![arrow], ..Picture::default() };
        let text = graph(&picture, None, Some("/tasks/1/tap")).into_string();
        assert!(!text.contains("<script") && !text.contains("<b>") && !text.contains("\"onload"), "{text}");
    }

    #[test]
    fn a_chart_has_holes_where_nothing_is_known() {
        let at = |time, lag| Point { time, lag, ..Point::default() };
        let points = [at(0, 1.0), at(1, f64::NAN), at(2, 2.0), at(4, 0.0)];
        let text = chart("lag", &points, |p| p.lag, None, count).into_string();
        assert!(text.contains("M0.0 48.0M160.0 6.0L320.0 90.0"), "{text}");
    }
}
