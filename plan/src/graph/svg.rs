//! A picture as SVG: a box a part, curves between them, labels at the ports they leave by.

use super::layout::{Layout, lay_out};
use super::{Picture, Shape};
use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// Widest character of the fonts that may be used, at their size, and the height of a line.
const CHARACTER: f64 = 7.4;
const LINE: f64 = 17.0;
const PADDING: f64 = 10.0;
const LABEL_CHARACTER: f64 = 6.8;
/// Types of one part that are listed.
const TYPES: usize = 8;

impl Picture {
    /// A drawing for web pages and documents.
    pub fn svg(&self) -> String {
        let texts: Vec<Vec<String>> = self.parts.iter().map(|p| lines(&p.name, &p.types)).collect();
        let layout = self.layout();
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\" font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"12\">\n",
            w = layout.width,
            h = layout.height
        );
        out.push_str(
            "<style>.bg{fill:#fff}.box{fill:#f6f8fa;stroke:#57606a}.source{fill:#ddf4ff;stroke:#0969da}.sink{fill:#dafbe1;stroke:#1a7f37}\
             .line{fill:none;stroke:#57606a}.name{font-weight:bold;fill:#1f2328}.type{fill:#57606a}.label{font-size:11px;fill:#8250df}</style>\n\
             <defs><marker id=\"head\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
             <path d=\"M0 0 8 4 0 8z\" fill=\"#57606a\"/></marker></defs>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n",
        );
        for line in &layout.lines {
            let _ = writeln!(out, "<path class=\"line\" marker-end=\"url(#head)\" d=\"{}\"/>", curve(line));
        }
        for ((p, r), text) in self.parts.iter().zip(&layout.boxes).zip(&texts) {
            let (class, round) = match p.shape {
                Shape::Source => ("box source", 12),
                Shape::Operator => ("box", 3),
                Shape::Sink => ("box sink", 3),
            };
            let _ = write!(
                out,
                "<g><title>{}</title><rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{round}\"/>",
                escaped(&if p.fields.is_empty() { p.name.clone() } else { p.fields.join("\n") }),
                r.x,
                r.y,
                r.width,
                r.height
            );
            for (i, t) in text.iter().enumerate() {
                let class = if i == 0 { "name" } else { "type" };
                let y = r.y + PADDING / 2.0 + LINE * (i as f64 + 0.75);
                let _ = write!(out, "<text class=\"{class}\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>", r.x + PADDING, escaped(t));
            }
            out.push_str("</g>\n");
        }
        for (a, r) in self.arrows.iter().zip(&layout.labels) {
            let Some(r) = r else { continue };
            let _ = writeln!(
                out,
                "<rect class=\"bg\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"/><text class=\"label\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                r.x,
                r.y,
                r.width,
                r.height,
                r.x + 2.0,
                r.y + r.height - 4.0,
                escaped(&a.label)
            );
        }
        out + "</svg>\n"
    }

    /// Where everything stands in the SVG.
    pub fn layout(&self) -> Layout {
        let width = |text: &str, each: f64| text.width() as f64 * each;
        let size = |text: &[String]| {
            let widest = text.iter().map(|t| width(t, CHARACTER)).fold(0.0, f64::max);
            (widest + 2.0 * PADDING, text.len() as f64 * LINE + PADDING)
        };
        let parts: Vec<(f64, f64)> = self.parts.iter().map(|p| size(&lines(&p.name, &p.types))).collect();
        let labels: Vec<(f64, f64)> = self.arrows.iter().map(|a| (width(&a.label, LABEL_CHARACTER) + 4.0, 14.0)).collect();
        lay_out(self, &parts, &labels)
    }
}

fn lines(name: &str, types: &[String]) -> Vec<String> {
    let mut out = vec![name.to_string()];
    out.extend(types.iter().take(TYPES).cloned());
    if types.len() > TYPES {
        out.push(format!("… {} more", types.len() - TYPES));
    }
    out
}

/// Level stretches, and between them curves that begin and end level.
fn curve(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = match i {
            0 => write!(out, "M{x:.1} {y:.1}"),
            i if i % 2 == 1 && i + 1 < points.len() || points[i - 1].1 == *y => write!(out, "L{x:.1} {y:.1}"),
            _ => {
                let (px, py) = points[i - 1];
                let middle = (px + x) / 2.0;
                write!(out, "C{middle:.1} {py:.1} {middle:.1} {y:.1} {x:.1} {y:.1}")
            }
        };
    }
    out
}

fn escaped(text: &str) -> String {
    let visible = |c: &char| !c.is_control() || *c == '\n';
    text.chars().filter(visible).collect::<String>().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
