//! Who comes to the sale and what they are like: a pure function of the seed.
//!
//! What comes of it depends on timing, as in any sale. Deliberately not here: clocks, and the random numbers of the
//! machine.

use std::time::Duration;

/// Of a thousand attempts, those that are made by somebody who was there before.
const REPEATED_PER_MILLE: u64 = 120;
/// Of a thousand attempts, those sent a second time under the same id after they were answered.
const DOUBLED_PER_MILLE: u64 = 20;
/// Of a thousand attempts, those whose connection is given up before the answer.
const IMPATIENT_PER_MILLE: u64 = 20;
/// Of a thousand buyers who got units: those who cancel, who never pay, and who pay after the hold has ended.
const CANCEL_PER_MILLE: u64 = 140;
const NEVER_PER_MILLE: u64 = 120;
const LATE_PER_MILLE: u64 = 40;

/// How long an impatient buyer waits at most, microseconds.
const IMPATIENCE_US_MAX: u64 = 8_000;

/// How one attempt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Once, and waits.
    Patient,
    /// Waits, and then sends the same again.
    Doubles,
    /// Gives up after this time; then asks what became of it.
    Asks(Duration),
    /// Gives up after this time; then sends the same again.
    Repeats(Duration),
}

/// What a buyer does with units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Pays, so long after the answer.
    Pay(Duration),
    /// Cancels, so long after the answer.
    Cancel(Duration),
    /// Neither: the hold will end.
    Forget,
    /// Pays, so long after the hold has ended.
    PayLate(Duration),
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    pub(super) user: u64,
    pub(super) habit: Habit,
    pub(super) intent: Intent,
}

/// All attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) units: u64,
    pub(super) attempts: u64,
    /// How long a hold lasts.
    pub(super) hold: Duration,
}

impl Plan {
    /// What the `number`th attempt is like.
    pub(super) fn visit(&self, number: u64) -> Visit {
        let mut dice = Dice::new(self.seed, number);
        let user = if dice.per_mille() < REPEATED_PER_MILLE && number > 0 {
            // The first ones are those who are likely to have something.
            first_time_user(dice.below(number.min(2 * self.units)))
        } else {
            first_time_user(number)
        };
        Visit { user, habit: habit(&mut dice), intent: self.intent(&mut dice) }
    }

    /// A user of the waiting queue: somebody who was not there before.
    pub(super) fn honest_user(&self, number: u64) -> u64 {
        first_time_user(self.attempts + number)
    }

    fn intent(&self, dice: &mut Dice) -> Intent {
        let hold_ms = self.hold.as_millis() as u64;
        let kind = dice.per_mille();
        // Whoever acts in time does so in the first two thirds of it.
        let soon = Duration::from_millis(dice.below(hold_ms * 2 / 3 + 1));
        let (cancel, never) = (CANCEL_PER_MILLE, CANCEL_PER_MILLE + NEVER_PER_MILLE);
        match kind {
            kind if kind < cancel => Intent::Cancel(soon),
            kind if kind < never => Intent::Forget,
            kind if kind < never + LATE_PER_MILLE => {
                Intent::PayLate(Duration::from_millis(dice.below(hold_ms / 2 + 1)))
            }
            _ => Intent::Pay(soon),
        }
    }
}

fn habit(dice: &mut Dice) -> Habit {
    let (kind, wait) = (dice.per_mille(), Duration::from_micros(dice.below(IMPATIENCE_US_MAX)));
    match kind {
        kind if kind < DOUBLED_PER_MILLE => Habit::Doubles,
        kind if kind < DOUBLED_PER_MILLE + IMPATIENT_PER_MILLE / 2 => Habit::Asks(wait),
        kind if kind < DOUBLED_PER_MILLE + IMPATIENT_PER_MILLE => Habit::Repeats(wait),
        _ => Habit::Patient,
    }
}

/// Users are counted from 1.
fn first_time_user(number: u64) -> u64 {
    number + 1
}

/// Random numbers of one attempt (SplitMix64; Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
/// 2014).
#[derive(Clone, Copy, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed);
        Self(dice.next() ^ number.wrapping_mul(Self::STEP))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn per_mille(&mut self) -> u64 {
        self.below(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan { seed: 7, units: 100, attempts: 100_000, hold: Duration::from_secs(3) };

    #[test]
    fn the_seed_decides_everything() {
        let other = Plan { seed: 8, ..PLAN };
        let visits = |plan: Plan| (0..1000).map(|number| plan.visit(number)).collect::<Vec<_>>();
        assert_eq!(visits(PLAN), visits(PLAN));
        assert_ne!(visits(PLAN), visits(other));
    }

    #[test]
    fn every_kind_of_buyer_comes_about_as_often_as_planned() {
        let visits: Vec<Visit> = (0..PLAN.attempts).map(|number| PLAN.visit(number)).collect();
        let share = |is: fn(&Visit) -> bool| {
            visits.iter().filter(|visit| is(visit)).count() as u64 * 1000 / PLAN.attempts
        };
        let near = |share: u64, planned: u64| assert!(share.abs_diff(planned) <= 10, "{share} of {planned}");
        near(share(|visit| matches!(visit.intent, Intent::Cancel(_))), CANCEL_PER_MILLE);
        near(share(|visit| visit.intent == Intent::Forget), NEVER_PER_MILLE);
        near(share(|visit| matches!(visit.intent, Intent::PayLate(_))), LATE_PER_MILLE);
        near(share(|visit| visit.habit == Habit::Doubles), DOUBLED_PER_MILLE);
        near(share(|visit| matches!(visit.habit, Habit::Asks(_))), IMPATIENT_PER_MILLE / 2);
        near(share(|visit| matches!(visit.habit, Habit::Repeats(_))), IMPATIENT_PER_MILLE / 2);
        let repeated = visits.iter().enumerate().filter(|(at, visit)| visit.user != *at as u64 + 1).count();
        near(repeated as u64 * 1000 / PLAN.attempts, REPEATED_PER_MILLE);
    }

    #[test]
    fn who_waits_in_the_queue_was_not_there_before() {
        let last = (0..PLAN.attempts).map(|number| PLAN.visit(number).user).max();
        assert!(Some(PLAN.honest_user(0)) > last);
    }
}
