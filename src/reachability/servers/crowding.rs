//! How crowded the servers are, and what an answer costs there.

/// How many answers the share is a mean of, the newest counting most. Chosen; insensitive between 4 and 16 in the fleet's crowds.
const ANSWERS: f64 = 8.0;
/// The share counts in steps of this size, so that not every answer makes for another price.
const STEPS: f64 = 16.0;

/// The share of requests that servers have rejected of late.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Crowding {
    rejected: f64,
}

impl Crowding {
    /// `true` if the price is another now.
    pub(super) fn note(&mut self, rejected: bool) -> bool {
        let before = self.steps();
        self.rejected += (f64::from(u8::from(rejected)) - self.rejected) / ANSWERS;
        self.steps() != before
    }

    fn steps(&self) -> u8 {
        (self.rejected * STEPS).min(STEPS - 1.0) as u8
    }

    /// How many requests an answer takes, others' that it keeps from being served included: from 1, where none is rejected,
    /// to 16.
    pub(crate) fn price(&self) -> f64 {
        STEPS / (STEPS - f64::from(self.steps()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_costs_as_many_requests_as_it_takes() {
        let mut crowding = Crowding::default();
        assert!((crowding.price() - 1.0).abs() < 1e-9);
        for n in 0..400 {
            let _ = crowding.note(n % 4 != 0);
        }
        assert!((3.0..5.5).contains(&crowding.price()), "{crowding:?}");
        for _ in 0..400 {
            let _ = crowding.note(true);
        }
        assert!((crowding.price() - STEPS).abs() < 1e-9);
        for _ in 0..32 {
            let _ = crowding.note(false);
        }
        assert!((crowding.price() - 1.0).abs() < 1e-9, "{crowding:?}");
    }
}
