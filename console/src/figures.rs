//! Figures as a job tells them: samples of Prometheus' text format.

use std::collections::BTreeMap;

/// Samples by name and labels.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(String, BTreeMap<String, String>, f64)>);

impl Figures {
    /// What does not look like a sample is passed over.
    pub fn parse(text: &str) -> Figures {
        Figures(text.lines().filter(|l| !l.starts_with('#')).filter_map(sample).collect())
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
