//! Where the boxes of a picture stand: layers from left to right, few crossings, straight lines (after Sugiyama, Tagawa and Toda, "Methods for
//! Visual Understanding of Hierarchical System Structures", 1981). Each arrow passes every layer between its ends at a place of its own, and
//! one with a label at one as large as the label: so nothing lies over anything else.

use super::Picture;

/// Space between what stands below each other, and between layers.
const GAP: f64 = 18.0;
const LAYER_GAP: f64 = 26.0;
/// Sweeps over all layers, to find an order and to straighten lines.
const SWEEPS: usize = 12;

/// A rectangle; `x` and `y` are its upper left corner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Rect {
    pub fn overlaps(&self, other: &Rect) -> bool {
        self.x < other.x + other.width && other.x < self.x + self.width && self.y < other.y + other.height && other.y < self.y + self.height
    }
}

/// A picture with places.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    /// Of each part.
    pub boxes: Vec<Rect>,
    /// Of each arrow: its label, if it has one.
    pub labels: Vec<Option<Rect>>,
    /// Of each arrow: points; every second stretch from the first is level.
    pub lines: Vec<Vec<(f64, f64)>>,
}

/// A part, or the place where an arrow passes a layer.
struct Vertex {
    layer: usize,
    width: f64,
    height: f64,
    /// Centre.
    y: f64,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Places for parts and labels of these sizes (width, height).
pub fn lay_out(picture: &Picture, parts: &[(f64, f64)], labels: &[(f64, f64)]) -> Layout {
    let layers = layers(picture);
    let vertex = |layer, (width, height)| Vertex { layer, width, height, y: 0.0, before: vec![], after: vec![] };
    let mut all: Vec<Vertex> = parts.iter().zip(&layers).map(|(size, l)| vertex(2 * l, *size)).collect();
    let mut ways: Vec<Vec<usize>> = vec![];
    for (a, size) in picture.arrows.iter().zip(labels) {
        let mut way = vec![a.from];
        for layer in 2 * layers[a.from] + 1..2 * layers[a.to] {
            // The label stands right behind the part that the arrow leaves.
            let labelled = !a.label.is_empty() && layer == 2 * layers[a.from] + 1;
            all.push(vertex(layer, if labelled { *size } else { (0.0, 4.0) }));
            way.push(all.len() - 1);
        }
        way.push(a.to);
        for w in way.windows(2) {
            all[w[0]].after.push(w[1]);
            all[w[1]].before.push(w[0]);
        }
        ways.push(way);
    }
    let count = all.iter().map(|v| v.layer + 1).max().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![vec![]; count];
    for (i, v) in all.iter().enumerate() {
        rows[v.layer].push(i);
    }
    order(&mut rows, &all);
    straighten(&rows, &mut all);
    places(picture, &rows, &all, &ways)
}

/// Longest way from a source; sources stand right before their first reader.
fn layers(picture: &Picture) -> Vec<usize> {
    let mut layer = vec![0; picture.parts.len()];
    // Parts come before their readers; a loop cannot be, and would end here all the same.
    for _ in 0..picture.parts.len() {
        let mut moved = false;
        for a in &picture.arrows {
            if layer[a.to] <= layer[a.from] && layer[a.from] + 1 < picture.parts.len() {
                layer[a.to] = layer[a.from] + 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    for i in 0..layer.len() {
        if !picture.arrows.iter().any(|a| a.to == i) {
            let first = picture.arrows.iter().filter(|a| a.from == i).map(|a| layer[a.to]).min();
            layer[i] = first.map_or(0, |l| l.saturating_sub(1));
        }
    }
    layer
}

fn positions(rows: &[Vec<usize>], count: usize) -> Vec<usize> {
    let mut at = vec![0; count];
    rows.iter().for_each(|row| row.iter().enumerate().for_each(|(i, v)| at[*v] = i));
    at
}

/// Orders each layer by the mean place of its neighbours, forth and back; the order with fewest crossings stays.
fn order(rows: &mut [Vec<usize>], all: &[Vertex]) {
    let mut best = (crossings(rows, all), rows.to_vec());
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        for n in 1..rows.len() {
            let r = if forth { n } else { rows.len() - 1 - n };
            let at = positions(rows, all.len());
            let mean = |v: usize| {
                let near = if forth { &all[v].before } else { &all[v].after };
                if near.is_empty() { at[v] as f64 } else { near.iter().map(|n| at[*n] as f64).sum::<f64>() / near.len() as f64 }
            };
            rows[r].sort_by(|a, b| mean(*a).total_cmp(&mean(*b)));
        }
        let now = crossings(rows, all);
        if now < best.0 {
            best = (now, rows.to_vec());
        }
    }
    rows.clone_from_slice(&best.1);
}

fn crossings(rows: &[Vec<usize>], all: &[Vertex]) -> usize {
    let at = positions(rows, all.len());
    let mut sum = 0;
    for row in rows {
        let lines: Vec<(usize, usize)> = row.iter().flat_map(|v| all[*v].after.iter().map(|w| (at[*v], at[*w]))).collect();
        for (i, a) in lines.iter().enumerate() {
            sum += lines[i + 1..].iter().filter(|b| (a.0 < b.0 && a.1 > b.1) || (a.0 > b.0 && a.1 < b.1)).count();
        }
    }
    sum
}

/// Centres as near to those of the neighbours as order and gaps allow.
fn straighten(rows: &[Vec<usize>], all: &mut [Vertex]) {
    for row in rows {
        let mut y = 0.0;
        for &v in row {
            all[v].y = y + all[v].height / 2.0;
            y += all[v].height + GAP;
        }
    }
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        for n in 0..rows.len() {
            let row = if forth { &rows[n] } else { &rows[rows.len() - 1 - n] };
            let wanted = |v: usize| {
                let near = if forth { &all[v].before } else { &all[v].after };
                let near = if near.is_empty() { if forth { &all[v].after } else { &all[v].before } } else { near };
                if near.is_empty() { all[v].y } else { near.iter().map(|n| all[*n].y).sum::<f64>() / near.len() as f64 }
            };
            // Without the gaps between them: numbers that must not fall, as near as can be to what is wanted.
            let mut offset = 0.0;
            let mut offsets = vec![];
            let mut blocks: Vec<(f64, usize)> = vec![];
            for (i, &v) in row.iter().enumerate() {
                if i > 0 {
                    offset += (all[row[i - 1]].height + all[v].height) / 2.0 + GAP;
                }
                offsets.push(offset);
                blocks.push((wanted(v) - offset, 1));
                while let [.., a, b] = blocks[..]
                    && a.0 > b.0
                {
                    blocks.truncate(blocks.len() - 2);
                    let n = a.1 + b.1;
                    blocks.push(((a.0 * a.1 as f64 + b.0 * b.1 as f64) / n as f64, n));
                }
            }
            let levels: Vec<f64> = blocks.iter().flat_map(|(y, n)| std::iter::repeat_n(*y, *n)).collect();
            for ((&v, offset), level) in row.iter().zip(&offsets).zip(levels) {
                all[v].y = level + offset;
            }
        }
    }
}

fn places(picture: &Picture, rows: &[Vec<usize>], all: &[Vertex], ways: &[Vec<usize>]) -> Layout {
    let widths: Vec<f64> = rows.iter().map(|r| r.iter().map(|v| all[*v].width).fold(0.0, f64::max)).collect();
    let mut left = vec![GAP];
    for w in &widths {
        left.push(left[left.len() - 1] + w + LAYER_GAP);
    }
    let top = all.iter().map(|v| v.y - v.height / 2.0).fold(f64::INFINITY, f64::min);
    let down = GAP - if top.is_finite() { top } else { 0.0 };
    let rect = |i: usize| {
        let v = &all[i];
        Rect { x: left[v.layer], y: v.y - v.height / 2.0 + down, width: v.width, height: v.height }
    };
    let boxes: Vec<Rect> = (0..picture.parts.len()).map(rect).collect();
    let labelled = |(a, w): (&super::Arrow, &Vec<usize>)| (!a.label.is_empty()).then(|| rect(w[1]));
    let labels = picture.arrows.iter().zip(ways).map(labelled).collect();
    // Arrows leave and reach a box side by side, in the order of their other ends.
    let slot = |own: usize, near: &[usize], other: usize| {
        let mut order: Vec<usize> = near.to_vec();
        order.sort_by(|a, b| all[*a].y.total_cmp(&all[*b].y));
        let i = order.iter().position(|v| *v == other).unwrap_or(0) as f64;
        let n = order.len() as f64;
        let step = (all[own].height / (n + 1.0)).min(14.0);
        all[own].y + down + (i - (n - 1.0) / 2.0) * step
    };
    let line = |w: &Vec<usize>| {
        let last = w.len() - 1;
        let (from, to) = (rect(w[0]), rect(w[last]));
        let mut points =
            vec![(from.x + from.width, slot(w[0], &all[w[0]].after, w[1])), (left[all[w[0]].layer] + widths[all[w[0]].layer], 0.0)];
        points[1].1 = points[0].1;
        for &v in &w[1..last] {
            let y = all[v].y + down;
            points.push((left[all[v].layer], y));
            points.push((left[all[v].layer] + widths[all[v].layer], y));
        }
        points.push((to.x, slot(w[last], &all[w[last]].before, w[last - 1])));
        points
    };
    let bottom = all.iter().map(|v| v.y + v.height / 2.0).fold(0.0, f64::max);
    Layout {
        width: left[left.len() - 1] - LAYER_GAP + GAP,
        height: bottom + down + GAP,
        boxes,
        labels,
        lines: ways.iter().map(line).collect(),
    }
}
