//! The shortest run that still fails in the same way: steps of the nemesis and jobs of the clients are left out, larger
//! parts first, for as long as the failure stays. As every step and job has its own chance, the others stay what they
//! were.

use crate::plan::Cut;

/// See the module.
#[derive(Debug)]
pub struct Shrinker {
    cut: Cut,
    jobs: usize,
    tries: usize,
    tries_max: usize,
}

impl Shrinker {
    /// Of a run with so many steps and jobs.
    pub fn new(steps: usize, jobs: usize, tries_max: usize) -> Self {
        let cut = Cut { steps: Some((0..steps).collect()), ..Cut::default() };
        Self { cut, jobs, tries: 0, tries_max }
    }

    /// Runs that were tried.
    pub fn tries(&self) -> usize {
        self.tries
    }

    fn accept(&mut self, cut: Cut, fails: &mut impl FnMut(&Cut) -> bool) -> bool {
        if self.tries >= self.tries_max {
            return false;
        }
        self.tries += 1;
        let accepted = fails(&cut);
        if accepted {
            self.cut = cut;
        }
        accepted
    }

    /// Leaves out whatever the failure does not need.
    pub fn shrink(&mut self, mut fails: impl FnMut(&Cut) -> bool) -> Cut {
        self.accept(Cut { no_operator: true, ..self.cut.clone() }, &mut fails);
        loop {
            let (before, tried) = (self.cut.clone(), self.tries);
            self.shrink_steps(&mut fails);
            self.shrink_jobs(&mut fails);
            if self.cut == before || self.tries == tried || self.tries >= self.tries_max {
                return self.cut.clone();
            }
        }
    }

    fn shrink_steps(&mut self, fails: &mut impl FnMut(&Cut) -> bool) {
        let mut part = self.steps().len();
        while part > 0 {
            let mut from = 0;
            while from < self.steps().len() {
                let mut steps = self.steps();
                steps.drain(from..(from + part).min(steps.len()));
                if !self.accept(Cut { steps: Some(steps), ..self.cut.clone() }, fails) {
                    from += part;
                }
            }
            part /= 2;
        }
    }

    fn shrink_jobs(&mut self, fails: &mut impl FnMut(&Cut) -> bool) {
        let mut part = self.cut.jobs.unwrap_or(self.jobs);
        while part > 0 {
            let jobs = self.cut.jobs.unwrap_or(self.jobs).saturating_sub(part);
            if !self.accept(Cut { jobs: Some(jobs), ..self.cut.clone() }, fails) {
                part /= 2;
            }
            part = part.min(self.cut.jobs.unwrap_or(self.jobs));
        }
    }

    fn steps(&self) -> Vec<usize> {
        self.cut.steps.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_needs_is_left() {
        let mut shrinker = Shrinker::new(40, 500, 1000);
        let needs = |cut: &Cut| {
            let steps = cut.steps.clone().unwrap_or_default();
            steps.contains(&7) && steps.contains(&31) && cut.jobs.unwrap_or(500) >= 123
        };
        let cut = shrinker.shrink(needs);
        assert_eq!(
            cut,
            Cut { steps: Some(vec![7, 31]), jobs: Some(123), no_operator: true, ..Cut::default() }
        );
    }
}
