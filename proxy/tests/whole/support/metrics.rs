//! A page of `/metrics`, read back.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(page: &str) -> Metrics {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        };
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        Metrics(samples.map(sample).collect())
    }

    /// The sample of exactly this name and labels.
    pub(crate) fn get(&self, series: &str) -> u64 {
        match self.0.get(series) {
            Some(value) => *value as u64,
            None => panic!("no {series} among {:?}", self.0.keys()),
        }
    }

    pub(crate) fn answered(&self, status: u16) -> u64 {
        let end = format!(",status=\"{status}\"}}");
        let series = self.0.iter().filter(|(series, _)| {
            series.starts_with("sluice_responses_total{") && series.ends_with(&end)
        });
        series.map(|(_, value)| *value as u64).sum()
    }

    /// Records of an output, over all causes where there are some.
    pub(crate) fn records(&self, what: &str, output: &str) -> u64 {
        self.family(&format!("sluice_output_{what}"), output)
    }

    /// The sum of a family over the series of one output.
    pub(crate) fn family(&self, name: &str, output: &str) -> u64 {
        let begin = format!("{name}{{output=\"{output}\"");
        let series = self.0.iter().filter(|(name, _)| name.starts_with(&begin));
        series.map(|(_, value)| *value as u64).sum()
    }

    /// Refused records of one output by one cause.
    pub(crate) fn refused(&self, output: &str, cause: &str) -> u64 {
        self.get(&format!(
            "sluice_output_refused_records_total{{output=\"{output}\",cause=\"{cause}\"}}"
        ))
    }

    /// Retried records without a readable result: the only source of copies.
    pub(crate) fn unknown_retries(&self, output: &str) -> u64 {
        self.get(&format!(
            "sluice_output_retries_total{{output=\"{output}\",cause=\"unknown\"}}"
        ))
    }
}
