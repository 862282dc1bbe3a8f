//! The simulated network does to messages what its condition says, and nothing else.

use sluice_sim::net::{Condition, End, SimNet};
use sluice_sim::random::Random;

const A: End = End::Host(1);
const B: End = End::Host(2);

fn net() -> SimNet {
    SimNet::new(Random::new(5))
}

#[test]
fn a_calm_network_delivers_everything_once_and_soon() {
    let mut net = net();
    for _ in 0..1000 {
        let carried = net.send(A, B, 100, 7_000);
        let at_us = carried.at_us.expect("nothing is lost");
        assert!((7_020..=7_400).contains(&at_us) && carried.copy_us.is_none());
    }
}

#[test]
fn a_cut_goes_one_way_and_each_mends_his_own() {
    let mut net = net();
    net.cut(A, B);
    net.cut(A, B);
    assert!(net.send(A, B, 1, 0).at_us.is_none() && net.send(B, A, 1, 0).at_us.is_some());
    net.mend(A, B);
    assert!(!net.is_open(A, B));
    net.mend(A, B);
    assert!(net.is_open(A, B));
}

#[test]
fn messages_are_lost_repeated_and_pass_each_other_as_often_as_told() {
    let mut net = net();
    let bad = Condition {
        loss: 2500,
        duplication: 2500,
        straying: 1000,
        stray_us: (1_000_000, 2_000_000),
        ..Condition::CALM
    };
    net.between_hosts(bad);
    let carried: Vec<_> = (0..10_000).map(|now_us| net.send(A, B, 1, now_us)).collect();
    let lost = carried.iter().filter(|carried| carried.lost).count();
    let twice = carried.iter().filter(|carried| carried.copy_us.is_some()).count();
    let strayed = carried.iter().filter(|carried| carried.strayed).count();
    assert!((2300..2700).contains(&lost), "{lost}");
    assert!((1700..2050).contains(&twice), "{twice}");
    assert!((600..900).contains(&strayed), "{strayed}");
    assert!(carried.windows(2).any(|pair| pair[0].at_us > pair[1].at_us), "some pass others");
    // Clients' links are links of their own.
    assert!(!net.send(A, End::Client(0), 1, 0).lost);
    net.heal();
    assert!((0..1000).all(|now_us| !net.send(A, B, 1, now_us).lost));
}

#[test]
fn a_slow_link_sends_one_after_the_other() {
    let mut net = net();
    net.link(A, B, Some(Condition { bytes_per_s: 1000, ..Condition::CALM }));
    let first_us = net.send(A, B, 500, 0).at_us.expect("it is slow, not lossy");
    let second_us = net.send(A, B, 500, 0).at_us.expect("it is slow, not lossy");
    assert!(first_us >= 500_000 && second_us >= 1_000_000, "{first_us} {second_us}");
    assert!(net.send(B, A, 500, 0).at_us.expect("the other way is not") < 1000);
}
