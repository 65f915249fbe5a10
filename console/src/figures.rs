//! Figures as a job tells them: samples of Prometheus' text format.

use std::collections::{BTreeMap, HashMap};

/// Ends of the names of what is added up over a job's processes.
const SUMS: &[&str] = &["_total", "_bucket", "_sum", "_count", "_bytes", "_records", "_keys"];

/// Samples by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(String, BTreeMap<String, String>, f64)>);

impl Figures {
    /// What does not look like a sample is passed over.
    pub fn parse(text: &str) -> Figures {
        Figures(text.lines().filter(|l| !l.starts_with('#')).filter_map(sample).collect())
    }

    /// Of a job of several processes: what they count is added up, of what else they tell the greatest counts.
    pub fn of(texts: &[String]) -> Figures {
        let mut all: Vec<(String, BTreeMap<String, String>, f64)> = vec![];
        let mut places: HashMap<(String, BTreeMap<String, String>), usize> = HashMap::new();
        for (name, labels, value) in texts.iter().flat_map(|t| Figures::parse(t).0) {
            let adds = SUMS.iter().any(|end| name.ends_with(end));
            let place = *places.entry((name.clone(), labels.clone())).or_insert_with(|| {
                all.push((name, labels, if adds { 0.0 } else { value }));
                all.len() - 1
            });
            let known = &mut all[place].2;
            *known = if adds { *known + value } else { known.max(value) };
        }
        Figures(all)
    }

    /// The sum of a family.
    pub fn one(&self, name: &str) -> f64 {
        self.sum(name, &[])
    }

    /// Samples of a name that have these labels.
    pub fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a (String, BTreeMap<String, String>, f64)> {
        self.0.iter().filter(move |(n, l, _)| n == name && labels.iter().all(|(k, v)| l.get(*k).is_some_and(|x| x == v)))
    }

    /// Their sum.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|s| s.2).sum()
    }

    /// The values of a label, in the order in which they come.
    pub fn values(&self, name: &str, label: &str) -> Vec<String> {
        let mut found: Vec<String> = vec![];
        for (_, labels, _) in self.all(name, &[]) {
            if let Some(v) = labels.get(label).filter(|v| !found.contains(v)) {
                found.push(v.clone());
            }
        }
        found
    }

    /// The upper bound of the histogram's bucket in which the quantile of what came since `old` lies, seconds.
    pub fn quantile(&self, name: &str, old: &Figures, part: f64) -> Option<f64> {
        let bucket = format!("{name}_bucket");
        let counts: Vec<(f64, f64)> = self
            .all(&bucket, &[])
            .filter_map(|(_, l, n)| {
                let le = l.get("le")?;
                Some((le.parse().unwrap_or(f64::INFINITY), n - old.sum(&bucket, &[("le", le)])))
            })
            .collect();
        let total = counts.last().map(|c| c.1).filter(|n| *n > 0.0)?;
        counts.iter().find(|(_, n)| *n >= total * part).map(|c| c.0)
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (head, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else { return Some((head.to_string(), BTreeMap::new(), value)) };
    let mut labels = BTreeMap::new();
    let mut chars = rest.chars();
    loop {
        let key: String = chars.by_ref().take_while(|c| *c != '=').filter(|c| *c != ',').collect();
        if key == "}" || key.is_empty() || chars.next() != Some('"') {
            return Some((name.to_string(), labels, value));
        }
        let mut text = String::new();
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => text.push(match chars.next()? {
                    'n' => '\n',
                    c => c,
                }),
                c => text.push(c),
            }
        }
        labels.insert(key, text);
    }
}

impl Figures {
    /// The names of all families.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|s| s.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_added_up_and_moments_are_not() {
        let one = "# HELP x\na_total{part=\"p\",worker=\"0\"} 3\nup_seconds 7\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 4\n";
        let two = "a_total{part=\"p\",worker=\"1\"} 5\na_total{part=\"p\",worker=\"0\"} 1\nup_seconds 6\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\n";
        let f = Figures::of(&[one.into(), two.into()]);
        assert_eq!((f.one("a_total"), f.sum("a_total", &[("worker", "0")]), f.one("up_seconds")), (9.0, 4.0, 7.0));
        assert_eq!(f.quantile("h", &Figures::default(), 0.5), Some(1.0));
        assert_eq!(f.all("h_bucket", &[]).count(), 2);
    }

    #[test]
    fn labels_are_read_with_what_is_escaped_in_them() {
        let f = Figures::parse("x{a=\"b\\\"c\\\\\",d=\"e\\nf\"} 1.5\nnonsense\n");
        assert_eq!(f.values("x", "a"), ["b\"c\\"]);
        assert_eq!(f.sum("x", &[("d", "e\nf")]), 1.5);
    }
}
