//! How the lanes of a group are shared out among its members.
//!
//! Every replica must come to the same result, and whoever keeps a lane keeps its place in it. So lanes are shared out by
//! number and by the order of joining: as evenly as can be, and with no more of them moved than that takes.
//!
//! Deliberately not here: who joins and leaves (`group`).

use std::cmp::Reverse;

use rkyv::{Archive, Serialize};
use sluice_protocol::event;

/// Lanes of a group.
pub(super) const LANES: usize = event::LANES as usize;

/// The owner of a lane that nobody has. No member has this number.
pub(super) const NOBODY: u64 = 0;

/// One lane of a group.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Lane {
    /// Everything up to this sequence is acknowledged.
    pub(super) cursor: u64,
    /// The member that has it, or [`NOBODY`].
    pub(super) owner: u64,
    /// The epoch at which its owner got it. Who acknowledges as of an earlier one does not know what happened since.
    pub(super) since: u64,
}

/// A member of a group.
#[derive(Archive, Serialize, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Chosen by the member, never 0.
    pub(super) number: u64,
    /// The epoch at which it took its seat.
    pub(super) since: u64,
}

/// Gives every lane an owner, if there is a member. Members have equally many, or some of them one more than others. What
/// moves does so at `epoch`.
pub(super) fn share(lanes: &mut [Lane; LANES], members: &[Member], epoch: u64) {
    let mut masks: Vec<u64> = members.iter().map(|member| owned(lanes, member.number)).collect();
    let rooms = rooms(&masks);
    for (mask, room) in masks.iter_mut().zip(&rooms) {
        while mask.count_ones() > *room {
            *mask &= !(1 << mask.ilog2());
        }
    }
    let mut free = !masks.iter().fold(0, |all, mask| all | mask);
    let mut owners = [NOBODY; LANES];
    for ((mask, room), member) in masks.iter_mut().zip(rooms).zip(members) {
        while mask.count_ones() < room {
            let first = free & free.wrapping_neg();
            free &= !first;
            *mask |= first;
        }
        for at in each(*mask) {
            owners[at as usize] = member.number;
        }
    }
    for (lane, owner) in lanes.iter_mut().zip(owners) {
        if lane.owner != owner {
            (lane.owner, lane.since) = (owner, epoch);
        }
    }
}

/// How many lanes each member shall have who now has those of `masks`. Those who have most get one more than the others,
/// and of equals those who joined first: so they keep it.
fn rooms(masks: &[u64]) -> Vec<u32> {
    let count = masks.len().max(1);
    let mut order: Vec<usize> = (0..masks.len()).collect();
    order.sort_by_key(|at| Reverse(masks[*at].count_ones()));
    let mut rooms = vec![(LANES / count) as u32; masks.len()];
    for at in order.into_iter().take(LANES % count) {
        rooms[at] += 1;
    }
    rooms
}

/// Mask of the lanes that a member has.
pub(super) fn owned(lanes: &[Lane; LANES], member: u64) -> u64 {
    let is_owner = |lane: &Lane| member != NOBODY && lane.owner == member;
    lanes.iter().rev().fold(0, |mask, lane| mask << 1 | u64::from(is_owner(lane)))
}

/// The numbers of the lanes in a mask, in their order.
pub(super) fn each(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lane = (mask != 0).then(|| mask.trailing_zeros())?;
        mask &= mask - 1;
        Some(lane)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's helpers fail like the test itself")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Lanes that must change hands, whoever shares them out: a member can keep no more than an even share, and of those
    /// who have more than the smaller share only so many can keep one more as there are.
    fn fewest(counts: &[u32]) -> u32 {
        let (share, more) = (64 / counts.len() as u32, 64 % counts.len() as u32);
        let above = counts.iter().filter(|count| **count > share).count() as u32;
        64 - counts.iter().map(|count| *count.min(&share)).sum::<u32>() - above.min(more)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn lanes_are_even_and_as_few_as_can_be_move(steps in vec(1..80_u64, 1..120)) {
            let mut lanes = [Lane::default(); LANES];
            let mut members: Vec<Member> = Vec::new();
            for (epoch, number) in (1..).zip(steps) {
                match members.iter().position(|member| member.number == number) {
                    Some(at) => drop(members.remove(at)),
                    None if members.len() == LANES => continue,
                    None => members.push(Member { number, since: epoch }),
                }
                let before = lanes;
                share(&mut lanes, &members, epoch);
                if members.is_empty() {
                    prop_assert!(lanes.iter().all(|lane| lane.owner == NOBODY));
                    continue;
                }
                let count = |lanes: &[Lane; LANES]| -> Vec<u32> {
                    members.iter().map(|member| owned(lanes, member.number).count_ones()).collect()
                };
                let (had, have) = (count(&before), count(&lanes));
                prop_assert_eq!(have.iter().sum::<u32>(), 64, "every lane has an owner");
                prop_assert!(have.iter().max().unwrap() - have.iter().min().unwrap() <= 1);
                let moved = before.iter().zip(&lanes).filter(|(was, is)| was.owner != is.owner);
                prop_assert_eq!(moved.clone().count() as u32, fewest(&had));
                prop_assert!(moved.clone().all(|(_, is)| is.since == epoch));
                let stayed = before.iter().zip(&lanes).filter(|(was, is)| was.owner == is.owner);
                prop_assert!(stayed.clone().all(|(was, is)| was == is));
            }
        }
    }
}
