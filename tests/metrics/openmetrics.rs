//! Reads the OpenMetrics text format, and takes nothing that the format does not allow.

#![allow(unreachable_pub, reason = "the test is its own crate")]

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// What one scrape brought.
#[derive(Debug, Default)]
pub struct Scrape {
    /// Type by name of the family, which lacks the suffixes.
    pub types: BTreeMap<String, String>,
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Scrape {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut scrape = Self::default();
        let body = text
            .strip_suffix("# EOF\n")
            .ok_or("the end of the text is missing")?;
        for line in body.lines() {
            scrape.line(line).map_err(|e| format!("{e}: {line}"))?;
        }
        Ok(scrape)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, name) = (words.next(), words.next());
            let rest = words.next().ok_or("a comment without content")?;
            let name = name.ok_or("a comment without a name")?.to_owned();
            return match kind {
                Some("HELP") => Ok(()),
                Some("UNIT") if name.ends_with(&format!("_{rest}")) => Ok(()),
                Some("TYPE") => match self.types.insert(name, rest.to_owned()) {
                    None => Ok(()),
                    Some(_) => Err("a family twice".to_owned()),
                },
                _ => Err("not a comment of the format".to_owned()),
            };
        }
        let name_end = line
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .ok_or("a name only")?;
        let (name, rest) = line.split_at(name_end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (Labels::new(), rest),
        };
        let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
        let value = value.parse().map_err(|e| format!("{e} in the value"))?;
        if !self.is_declared(name) {
            return Err("a sample without a type".to_owned());
        }
        match self.samples.insert((name.to_owned(), labels), value) {
            None => Ok(()),
            Some(_) => Err("a sample twice".to_owned()),
        }
    }

    fn is_declared(&self, name: &str) -> bool {
        let suffixes = [
            ("counter", "_total"),
            ("histogram", "_bucket"),
            ("histogram", "_sum"),
            ("histogram", "_count"),
            ("gauge", ""),
        ];
        suffixes.iter().any(|(kind, suffix)| {
            name.strip_suffix(suffix)
                .and_then(|family| self.types.get(family))
                .is_some_and(|found| found == kind)
        })
    }

    /// All samples of this name, each with exactly these labels.
    pub fn all(&self, name: &str, labels: &[&str]) -> Vec<(&Labels, f64)> {
        let expected: BTreeSet<&str> = labels.iter().copied().collect();
        let found: Vec<_> = self
            .samples
            .iter()
            .filter(|((found, _), _)| found == name)
            .map(|((_, labels), value)| (labels, *value))
            .collect();
        for (labels, _) in &found {
            let names: BTreeSet<&str> = labels.keys().map(String::as_str).collect();
            assert_eq!(names, expected, "labels of {name}");
        }
        assert!(!found.is_empty(), "{name} is missing: {self:#?}");
        found
    }

    /// The one sample with exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let key = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        match self.samples.get(&(name.to_owned(), key)) {
            Some(value) => *value,
            None => panic!("{name}{labels:?} is missing: {self:#?}"),
        }
    }
}

/// The labels up to the brace, and what follows it.
fn labels(mut text: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, rest) = text.split_once("=\"").ok_or("a label without a value")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().ok_or("a label value without an end")? {
                (end, '"') => break end,
                (_, '\\') => match chars.next().ok_or("an escape without a character")? {
                    (_, 'n') => value.push('\n'),
                    (_, escaped @ ('"' | '\\')) => value.push(escaped),
                    _ => return Err("an unknown escape".to_owned()),
                },
                (_, other) => value.push(other),
            }
        };
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("the label {name} twice"));
        }
        let rest = rest.get(end + 1..).ok_or("cut off")?;
        text = match rest.strip_prefix(',') {
            Some(more) if !more.starts_with('}') => more,
            Some(_) => return Err("a comma before the brace".to_owned()),
            None => rest,
        };
        if !text.starts_with('}') && rest == text {
            return Err("no comma between labels".to_owned());
        }
    }
}
