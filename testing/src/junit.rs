//! Results as JUnit XML, as CI servers read it.

use std::fmt::Write;
use std::time::Duration;

/// A test of a topology.
pub struct Entry {
    pub topology: String,
    pub name: String,
    pub took: Duration,
    /// What does not hold; None: all does.
    pub failure: Option<String>,
}

/// The document: a suite a topology.
pub fn xml(entries: &[Entry]) -> String {
    let failed = entries.iter().filter(|e| e.failure.is_some()).count();
    let seconds = |all: &[&Entry]| all.iter().map(|e| e.took.as_secs_f64()).sum::<f64>();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total = seconds(&entries.iter().collect::<Vec<_>>());
    let _ = writeln!(out, "<testsuites tests=\"{}\" failures=\"{failed}\" time=\"{total:.3}\">", entries.len());
    let mut suites: Vec<&str> = vec![];
    for e in entries {
        if !suites.contains(&e.topology.as_str()) {
            suites.push(&e.topology);
        }
    }
    for suite in suites {
        let own: Vec<&Entry> = entries.iter().filter(|e| e.topology == suite).collect();
        let failed = own.iter().filter(|e| e.failure.is_some()).count();
        let name = escape(suite);
        let _ = writeln!(out, "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failed}\" time=\"{:.3}\">", own.len(), seconds(&own));
        for e in own {
            let head = format!("    <testcase classname=\"{name}\" name=\"{}\" time=\"{:.3}\"", escape(&e.name), e.took.as_secs_f64());
            let _ = match &e.failure {
                None => writeln!(out, "{head}/>"),
                Some(text) => {
                    let first = escape(text.lines().next().unwrap_or_default().trim());
                    writeln!(out, "{head}>\n      <failure message=\"{first}\">{}</failure>\n    </testcase>", escape(text))
                }
            };
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

/// Text of XML 1.0: what it cannot say is left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_a_topology() {
        let entry = |topology: &str, name: &str, failure: Option<&str>| Entry {
            topology: topology.into(),
            name: name.into(),
            took: Duration::from_millis(5),
            failure: failure.map(String::from),
        };
        let got = xml(&[entry("a", "x<1", None), entry("b", "y", Some("out\u{1b} & more\nline")), entry("a", "z", None)]);
        assert_eq!(
            got,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"3\" failures=\"1\" time=\"0.015\">\n  \
             <testsuite name=\"a\" tests=\"2\" failures=\"0\" time=\"0.010\">\n    \
             <testcase classname=\"a\" name=\"x&lt;1\" time=\"0.005\"/>\n    <testcase classname=\"a\" name=\"z\" time=\"0.005\"/>\n  </testsuite>\n  \
             <testsuite name=\"b\" tests=\"1\" failures=\"1\" time=\"0.005\">\n    <testcase classname=\"b\" name=\"y\" time=\"0.005\">\n      \
             <failure message=\"out &amp; more\">out &amp; more\nline</failure>\n    </testcase>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
