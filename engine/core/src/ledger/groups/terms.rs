//! Which terms of a group make sense, and how long a failed delivery waits by them.
//!
//! Deliberately not here: what terms are (the protocol's `GroupTerms`).

use sluice_protocol::RefusedField;
use sluice_protocol::event::EventKind;
use sluice_protocol::group::GroupTerms;
use sluice_protocol::limits::{RETRY_MS_MAX, SESSION_MS_MAX, SESSION_MS_MIN};

/// The first field of a group's terms that is out of its range: which, its value, lowest and highest allowed.
pub(super) fn out_of_range(terms: &GroupTerms) -> Option<(RefusedField, u64, u64, u64)> {
    let refused = |field, value: u32, low: u32, high: u32| {
        let is_in_range = (low..=high).contains(&value);
        (!is_in_range).then_some((field, u64::from(value), u64::from(low), u64::from(high)))
    };
    if terms.kinds & !EventKind::all() != 0 {
        return Some((RefusedField::EventKinds, u64::from(terms.kinds), 0, u64::from(EventKind::all())));
    }
    refused(RefusedField::SessionMs, terms.session_ms, SESSION_MS_MIN, SESSION_MS_MAX)
        .or_else(|| refused(RefusedField::RetryMs, terms.retry_ms, 1, RETRY_MS_MAX))
        .or_else(|| refused(RefusedField::RetryMs, terms.retry_ms_max, terms.retry_ms, RETRY_MS_MAX))
}

/// How long after its `attempts`-th failure a delivery waits: doubled each time, up to the longest.
pub(super) fn backoff_ms(terms: &GroupTerms, attempts: u32) -> u64 {
    // A day has fewer than 2^32 milliseconds: behind so many doublings every wait is the longest.
    let doublings = attempts.saturating_sub(1).min(u32::BITS);
    (u64::from(terms.retry_ms) << doublings).min(u64::from(terms.retry_ms_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_no_number_of_failures_overflows() {
        let terms = GroupTerms { retry_ms: 1_000, retry_ms_max: 60_000, ..GroupTerms::default() };
        let waits = [1, 2, 3, 6, 7, 8, 33, 34, u32::MAX].map(|attempts| backoff_ms(&terms, attempts));
        assert_eq!(waits, [1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000, 60_000, 60_000]);
        let longest = GroupTerms { retry_ms: RETRY_MS_MAX, retry_ms_max: RETRY_MS_MAX, ..terms };
        assert_eq!(backoff_ms(&longest, u32::MAX), u64::from(RETRY_MS_MAX));
    }
}
