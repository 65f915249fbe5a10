//! Pictures: nothing lies over anything else, however many parts there are.

use crate::graph::layout::{Layout, Rect};
use crate::graph::{Arrow, Part, Picture, Shape};

/// What overlaps, in words; empty: nothing.
fn faults(picture: &Picture, l: &Layout) -> Vec<String> {
    let mut all: Vec<(String, Rect)> = picture.parts.iter().zip(&l.boxes).map(|(p, r)| (p.name.clone(), *r)).collect();
    all.extend(picture.arrows.iter().zip(&l.labels).filter_map(|(a, r)| Some((format!("label {}", a.label), (*r)?))));
    let mut out = vec![];
    for (i, (a, r)) in all.iter().enumerate() {
        out.extend(all[i + 1..].iter().filter(|(_, s)| r.overlaps(s)).map(|(b, _)| format!("{a} over {b}")));
        if r.x < 0.0 || r.y < 0.0 || r.x + r.width > l.width || r.y + r.height > l.height {
            out.push(format!("{a} outside"));
        }
    }
    for (a, points) in picture.arrows.iter().zip(&l.lines) {
        // Level stretches pass no box; the curves between them lie between two layers, where no box stands.
        for w in points.windows(2).filter(|w| w[0].1 == w[1].1) {
            let line = Rect { x: w[0].0 + 0.5, y: w[0].1, width: (w[1].0 - w[0].0 - 1.0).max(0.0), height: 0.0 };
            let crossed = picture.parts.iter().zip(&l.boxes).filter(|(_, b)| line.overlaps(b));
            out.extend(crossed.map(|(p, _)| format!("{} -> {} through {}", picture.parts[a.from].name, picture.parts[a.to].name, p.name)));
        }
        for w in points.windows(2).filter(|w| w[0].1 != w[1].1) {
            let strip = Rect { x: w[0].0 + 0.5, y: 0.0, width: w[1].0 - w[0].0 - 1.0, height: l.height };
            let crossed = picture.parts.iter().zip(&l.boxes).filter(|(_, b)| strip.overlaps(b));
            out.extend(crossed.map(|(p, _)| format!("a curve behind {}", p.name)));
        }
    }
    out
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// A picture of `n` parts in the order of the flow, with names of any length.
fn made(n: usize, seed: u64) -> Picture {
    let mut r = Random(seed);
    let sources = 1 + r.below(6);
    let mut p = Picture::default();
    for i in 0..n {
        let shape = if i < sources {
            Shape::Source
        } else if i + 1 + r.below(6) > n {
            Shape::Sink
        } else {
            Shape::Operator
        };
        let name = format!("{}_{i}", ["a", "clicks", "a_rather_long_name_of_a_part", "名前"][r.below(4)]);
        let types =
            (0..1 + r.below(if i < sources { 9 } else { 2 })).map(|_| ["Map", "CountWindowWithTimeOut", "Kafka"][r.below(3)].to_string());
        p.parts.push(Part { name, types: types.collect(), shape, fields: vec![], config: Default::default() });
        if i >= sources {
            for _ in 0..1 + r.below(3) {
                let from = r.below(i);
                if p.parts[from].shape != Shape::Sink {
                    let label = ["", "", "unmatched", "port_with_a_long_name -> left"][r.below(4)].to_string();
                    let arrow = Arrow { from, to: i, label };
                    if !p.arrows.contains(&arrow) {
                        p.arrows.push(arrow);
                    }
                }
            }
        }
    }
    p
}

#[test]
fn nothing_overlaps() {
    for seed in 0..60 {
        for n in [1, 2, 7, 20, 40, 60] {
            let p = made(n, seed);
            let found = faults(&p, &p.layout());
            assert!(found.is_empty(), "{n} parts, seed {seed}: {found:?}");
        }
    }
}

/// A chain is drawn in one line, and two streams that meet without a crossing.
#[test]
fn few_crossings() {
    let part = |name: &str| Part {
        name: name.into(),
        types: vec!["Map".into()],
        shape: Shape::Operator,
        fields: vec![],
        config: Default::default(),
    };
    let arrow = |from, to| Arrow { from, to, label: String::new() };
    let chain = Picture { parts: ["a", "b", "c"].map(part).to_vec(), arrows: vec![arrow(0, 1), arrow(1, 2)], ..Picture::default() };
    let l = chain.layout();
    assert!(l.boxes.windows(2).all(|w| w[0].y == w[1].y && w[0].x < w[1].x), "{:?}", l.boxes);
    // Written crosswise, drawn straight.
    let crossed = Picture { parts: ["a", "b", "c", "d"].map(part).to_vec(), arrows: vec![arrow(0, 3), arrow(1, 2)], ..Picture::default() };
    let l = crossed.layout();
    assert_eq!(l.boxes[0].y < l.boxes[1].y, l.boxes[3].y < l.boxes[2].y, "{:?}", l.boxes);
}

#[test]
fn the_drawing_is_well_formed() {
    let p = made(40, 5);
    let svg = p.svg();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<g>").count(), 40);
    assert_eq!(svg.matches("marker-end").count(), p.arrows.len());
    assert!(!svg.contains("NaN"));
    let odd = Picture {
        parts: vec![Part { name: "a<b>&\"".into(), types: vec![], shape: Shape::Source, fields: vec![], config: Default::default() }],
        arrows: vec![],
        ..Picture::default()
    };
    assert!(odd.svg().contains(">a&lt;b&gt;&amp;\"</text>"), "{}", odd.svg());
}

/// Each part once, each arrow once.
#[test]
fn the_tree_has_all_parts() {
    for seed in 0..40 {
        let p = made(40, seed);
        let tree = p.terminal();
        for part in &p.parts {
            let own = ["○", "□", "●"].iter().map(|m| tree.matches(&format!("{m} {}  ", part.name)).count()).sum::<usize>();
            assert_eq!(own, 1, "{}\n{tree}", part.name);
        }
        assert_eq!(tree.matches("├─").count() + tree.matches("└─").count(), p.arrows.len(), "{tree}");
    }
}
