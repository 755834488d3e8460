//! Whether two judges say the same.

use serde::{Deserialize, Serialize};

/// How often two judges said yes and no to the same questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Both said yes.
    pub both_yes: usize,
    /// Only the first said yes.
    pub only_first: usize,
    /// Only the second said yes.
    pub only_second: usize,
    /// Both said no.
    pub both_no: usize,
}

impl Agreement {
    /// Counts pairs of answers.
    pub fn of(answers: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut found = Self::default();
        for answer in answers {
            *match answer {
                (true, true) => &mut found.both_yes,
                (true, false) => &mut found.only_first,
                (false, true) => &mut found.only_second,
                (false, false) => &mut found.both_no,
            } += 1;
        }
        found
    }

    /// Number of questions.
    pub fn questions(&self) -> usize {
        self.both_yes + self.only_first + self.only_second + self.both_no
    }

    /// Share of questions answered alike.
    pub fn rate(&self) -> f64 {
        share(self.both_yes + self.both_no, self.questions())
    }

    /// How often each of them said yes.
    pub fn yes_rates(&self) -> [f64; 2] {
        [self.only_first, self.only_second]
            .map(|only| share(self.both_yes + only, self.questions()))
    }

    /// Cohen's kappa ("A Coefficient of Agreement for Nominal Scales", 1960): agreement beyond what
    /// their rates of yes alone would give, 1 for judges that always agree and 0 for such that do
    /// so by chance. None where chance alone would make them agree always, for both always said
    /// the same.
    pub fn kappa(&self) -> Option<f64> {
        let [first, second] = self.yes_rates();
        let by_chance = first * second + (1. - first) * (1. - second);
        (by_chance < 1. && self.questions() > 0)
            .then(|| (self.rate() - by_chance) / (1. - by_chance))
    }
}

fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Wikipedia's article on Cohen's kappa: 20, 5, 10, 15 give 0.4.
    #[test]
    fn kappa_is_what_is_known() {
        let found = Agreement {
            both_yes: 20,
            only_first: 5,
            only_second: 10,
            both_no: 15,
        };
        assert!((found.rate() - 0.7).abs() < 1e-12);
        assert_eq!(found.yes_rates(), [0.5, 0.6]);
        assert!(
            found
                .kappa()
                .is_some_and(|kappa| (kappa - 0.4).abs() < 1e-12)
        );
    }

    #[test]
    fn agreement_on_nothing_but_yes_is_empty() {
        let always = Agreement::of([(true, true); 9]);
        assert_eq!((always.rate(), always.kappa()), (1., None));
        assert_eq!(Agreement::default().kappa(), None);
        // One who always says yes agrees with half of the answers, and that is worth nothing.
        let yes_man = Agreement::of([(true, true), (true, false)]);
        assert_eq!((yes_man.rate(), yes_man.kappa()), (0.5, Some(0.)));
    }
}
