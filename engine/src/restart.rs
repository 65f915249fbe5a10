//! Whether a job that failed runs again, and when: the arithmetic of the restart strategies. It reads no clock and draws no lots.

use millrace_plan::plan::RestartPlan;
use std::collections::VecDeque;
use std::time::Duration;

/// What fallBackRestart means on a host that says nothing.
pub const FALL_BACK: RestartPlan = RestartPlan::FixedDelay { attempts: 10, delay: Duration::from_secs(10) };

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Restart {
        after: Duration,
    },
    /// No more, and why in words.
    End(String),
}

/// The failures of one job so far.
pub struct Restarts {
    plan: RestartPlan,
    count: u32,
    /// FailureRate: the newest failures, at most as many as are restarted.
    failures: VecDeque<Duration>,
    /// ExponentialDelay: the next delay, before jitter.
    delay: Duration,
}

impl Restarts {
    /// `plan`: with the host's default in place of [`RestartPlan::FallBack`].
    pub fn new(plan: RestartPlan) -> Restarts {
        let plan = if plan == RestartPlan::FallBack { FALL_BACK } else { plan };
        let delay = if let RestartPlan::ExponentialDelay { initial, .. } = plan { initial } else { Duration::ZERO };
        Restarts { plan, count: 0, failures: VecDeque::new(), delay }
    }

    /// Restarts so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A run has failed. `now`: time since any fixed moment; `ran`: how long the run lasted; `lot`: a random number, 0 to 1, for jitter.
    pub fn failed(&mut self, now: Duration, ran: Duration, lot: f64) -> Verdict {
        let after = match self.plan.clone() {
            RestartPlan::None | RestartPlan::FallBack => return Verdict::End("the strategy is noRestart".into()),
            RestartPlan::FixedDelay { attempts, delay } => {
                if self.count >= attempts {
                    let word = if attempts == 1 { "restart" } else { "restarts" };
                    return Verdict::End(format!("{attempts} {word} did not help (run_env.restart.attempts)"));
                }
                delay
            }
            RestartPlan::FailureRate { max_failures, interval, delay } => {
                if self.failures.len() >= max_failures as usize {
                    if self.failures.pop_front().is_some_and(|first| now.saturating_sub(first) <= interval) {
                        let interval = millrace_sdk::config::Duration::micros(interval.as_micros().min(i64::MAX as u128) as i64);
                        return Verdict::End(format!("more than {max_failures} failures within {interval} (run_env.restart.max_failures)"));
                    }
                }
                self.failures.push_back(now);
                delay
            }
            RestartPlan::ExponentialDelay { initial, max, multiplier, reset_after, jitter } => {
                if ran >= reset_after {
                    self.delay = initial;
                }
                let delay = self.delay.min(max);
                self.delay = Duration::try_from_secs_f64(delay.as_secs_f64() * multiplier).unwrap_or(max).min(max);
                delay.mul_f64((1.0 + jitter * (2.0 * lot - 1.0)).clamp(0.0, 2.0))
            }
        };
        self.count = self.count.saturating_add(1);
        Verdict::Restart { after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Lets runs fail at these moments (seconds since the start), each having lasted since the one before; the delays in milliseconds.
    fn delays(plan: RestartPlan, at: &[u64], lot: f64) -> Vec<Option<u128>> {
        let mut r = Restarts::new(plan);
        let mut before = 0;
        at.iter()
            .map(|&now| match r.failed(secs(now), secs(now - std::mem::replace(&mut before, now)), lot) {
                Verdict::Restart { after } => Some(after.as_millis()),
                Verdict::End(_) => None,
            })
            .collect()
    }

    #[test]
    fn none_never_restarts() {
        assert_eq!(delays(RestartPlan::None, &[0, 100], 0.5), [None, None]);
    }

    #[test]
    fn fixed_delay_counts_attempts() {
        let plan = RestartPlan::FixedDelay { attempts: 2, delay: secs(3) };
        assert_eq!(delays(plan.clone(), &[0, 1_000_000, 2_000_000, 3_000_000], 0.5), [Some(3000), Some(3000), None, None]);
        let mut r = Restarts::new(plan);
        for want in [1, 2, 2] {
            r.failed(secs(0), secs(0), 0.0);
            assert_eq!(r.count(), want);
        }
        let mut default = Restarts::new(RestartPlan::FallBack);
        for i in 0..11 {
            let verdict = default.failed(secs(i), secs(1), 0.3);
            assert_eq!(verdict == Verdict::Restart { after: secs(10) }, i < 10, "{verdict:?}");
        }
    }

    #[test]
    fn failure_rate_looks_back_an_interval() {
        let plan = |max_failures| RestartPlan::FailureRate { max_failures, interval: secs(60), delay: secs(1) };
        let ok = Some(1000);
        assert_eq!(delays(plan(1), &[0, 61, 122, 182], 0.5), [ok, ok, ok, None]);
        assert_eq!(delays(plan(2), &[0, 30, 60], 0.5), [ok, ok, None]);
        assert_eq!(delays(plan(2), &[0, 30, 61, 91], 0.5), [ok, ok, ok, ok]);
        assert_eq!(delays(plan(3), &[0, 1, 2, 3], 0.5), [ok, ok, ok, None]);
        assert_eq!(delays(plan(3), &[0, 1, 2, 61, 62, 62], 0.5), [ok, ok, ok, ok, ok, None]);
    }

    #[test]
    fn exponential_delay_grows_and_resets() {
        let plan =
            |jitter| RestartPlan::ExponentialDelay { initial: secs(1), max: secs(10), multiplier: 2.0, reset_after: secs(100), jitter };
        let grown = [Some(1000), Some(2000), Some(4000), Some(8000), Some(10_000), Some(10_000)];
        assert_eq!(delays(plan(0.0), &[5, 10, 15, 20, 25, 30], 0.9), grown);
        assert_eq!(delays(plan(0.0), &[5, 10, 15, 115, 120], 0.5), [Some(1000), Some(2000), Some(4000), Some(1000), Some(2000)]);
        // The jitter does not feed on itself.
        assert_eq!(delays(plan(0.5), &[5, 10, 15], 0.0), [Some(500), Some(1000), Some(2000)]);
        assert_eq!(delays(plan(0.5), &[5, 10, 15], 1.0), [Some(1500), Some(3000), Some(6000)]);
        let huge = RestartPlan::ExponentialDelay {
            initial: Duration::MAX / 2,
            max: Duration::MAX / 2,
            multiplier: 100.0,
            reset_after: Duration::MAX,
            jitter: 0.0,
        };
        assert!(delays(huge, &[1, 2, 3], 0.5).iter().all(Option::is_some));
    }

    #[test]
    fn an_end_says_why() {
        let why = |plan| {
            let mut r = Restarts::new(plan);
            loop {
                if let Verdict::End(why) = r.failed(secs(0), secs(0), 0.5) {
                    return why;
                }
            }
        };
        let rate = RestartPlan::FailureRate { max_failures: 3, interval: secs(300), delay: secs(1) };
        assert_eq!(why(rate), "more than 3 failures within 5m (run_env.restart.max_failures)");
        assert_eq!(why(RestartPlan::FixedDelay { attempts: 1, delay: secs(1) }), "1 restart did not help (run_env.restart.attempts)");
    }
}
