//! A picture for the terminal: a tree from each source along the flow. What several parts feed is drawn where it is reached first, and named
//! again at the others.

use super::{Picture, Shape};
use std::fmt::Write;

impl Picture {
    /// A line a part, below the one that it reads, with the port that it reads by.
    pub fn terminal(&self) -> String {
        let mut out = String::new();
        let mut drawn = vec![false; self.parts.len()];
        for i in 0..self.parts.len() {
            let root = !self.arrows.iter().any(|a| a.to == i);
            if root {
                let _ = writeln!(out, "{}", self.line(i));
                drawn[i] = true;
                self.below(i, "", &mut drawn, &mut out);
            }
        }
        out
    }

    fn line(&self, i: usize) -> String {
        let p = &self.parts[i];
        let mark = match p.shape {
            Shape::Source => "○",
            Shape::Operator => "□",
            Shape::Sink => "●",
        };
        format!("{mark} {}  {}", p.name, p.types.join(" · "))
    }

    fn below(&self, i: usize, prefix: &str, drawn: &mut [bool], out: &mut String) {
        let mut arrows = self.arrows.iter().filter(|a| a.from == i).peekable();
        while let Some(a) = arrows.next() {
            let (branch, next) = if arrows.peek().is_some() { ("├─", "│  ") } else { ("└─", "   ") };
            let label = if a.label.is_empty() { String::new() } else { format!("[{}] ", a.label.replace(" -> ", " → ")) };
            // What has inputs that are not drawn yet stands below the last of them.
            let waits = self.arrows.iter().any(|b| b.to == a.to && b.from != i && !drawn[b.from]);
            if drawn[a.to] || waits {
                let way = if drawn[a.to] { "↑" } else { "↓" };
                let _ = writeln!(out, "{prefix}{branch} {label}{way} {}", self.parts[a.to].name);
                continue;
            }
            drawn[a.to] = true;
            let _ = writeln!(out, "{prefix}{branch} {label}{}", self.line(a.to));
            self.below(a.to, &format!("{prefix}{next}"), drawn, out);
        }
    }
}
