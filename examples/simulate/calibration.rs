//! Whether the stated confidence is true: of all that is said with 90%, nine in ten must be right.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    history::{Claim, Statement},
    world::State,
};

/// Upper ends of the bins of stated confidence.
const BINS: [f64; 9] = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0];
/// A probability further from the truth counts as this, so that one statement of "certain" that is wrong does not make the
/// log loss infinite.
const LEAST: f64 = 1e-6;

/// Statements with the same claim and about the same confidence.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bin {
    pub(crate) statements: u64,
    pub(crate) right: u64,
    confidence: f64,
}

impl Bin {
    /// The mean of what was stated.
    pub(crate) fn stated(&self) -> f64 {
        self.confidence / self.statements as f64
    }

    pub(crate) fn share_right(&self) -> f64 {
        self.right as f64 / self.statements as f64
    }
}

/// The statements of one kind in one scenario: a reliability table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calibration {
    bins: BTreeMap<(Claim, usize), Bin>,
    statements: u64,
    loss: f64,
}

impl Calibration {
    pub(crate) fn add(&mut self, statement: &Statement, truth: State) {
        let right = statement.claim.is_right(truth);
        let confidence = statement.confidence.clamp(0.0, 1.0);
        let index = BINS.iter().position(|end| confidence <= *end);
        let bin = self
            .bins
            .entry((statement.claim, index.unwrap_or(BINS.len() - 1)))
            .or_default();
        bin.statements += 1;
        bin.right += u64::from(right);
        bin.confidence += confidence;
        self.statements += 1;
        let of_truth = if right { confidence } else { 1.0 - confidence };
        self.loss -= of_truth.max(LEAST).ln();
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, theirs) in other.bins {
            let bin = self.bins.entry(key).or_default();
            bin.statements += theirs.statements;
            bin.right += theirs.right;
            bin.confidence += theirs.confidence;
        }
        self.statements += other.statements;
        self.loss += other.loss;
    }

    /// The expected calibration error, from 0 to 1: by how much the stated confidence is off, in the mean over all statements.
    /// Claims are kept apart, so that doubt about the one does not make up for boldness about the other.
    pub(crate) fn error(&self) -> Option<f64> {
        let off = |bin: &Bin| (bin.confidence - bin.right as f64).abs();
        let sum: f64 = self.bins.values().map(off).sum();
        (self.statements > 0).then(|| sum / self.statements as f64)
    }

    /// The mean of the negated logarithm of the probability that was given to what is true, in nats.
    pub(crate) fn log_loss(&self) -> Option<f64> {
        (self.statements > 0).then(|| self.loss / self.statements as f64)
    }

    pub(crate) fn share_right(&self) -> Option<f64> {
        let right: u64 = self.bins.values().map(|bin| bin.right).sum();
        (self.statements > 0).then(|| right as f64 / self.statements as f64)
    }

    pub(crate) fn bins(&self) -> impl Iterator<Item = (Claim, &Bin)> {
        self.bins.iter().map(|((claim, _), bin)| (*claim, bin))
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for claim in Claim::ALL {
            let of_claim = self.bins.iter().filter(|((c, _), _)| *c == claim);
            for ((_, index), bin) in of_claim {
                let start = if *index == 0 { 0.0 } else { BINS[index - 1] };
                let _ = writeln!(
                    text,
                    "    {:<24} {:>3.0} to {:>3.0}%: stated {:>6.2}%, right {:>6.2}% of {:>8}",
                    claim.as_str(),
                    100.0 * start,
                    100.0 * BINS[*index],
                    100.0 * bin.stated(),
                    100.0 * bin.share_right(),
                    bin.statements
                );
            }
        }
        text
    }
}
