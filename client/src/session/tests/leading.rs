//! Who leads, and whether the server is still there.

use super::*;

#[test]
fn a_welcome_may_name_a_leader_elsewhere() {
    let frame = welcome_frame(|welcome| (welcome.leader, welcome.leader_address) = (NodeId(2), "b:1"));
    let greeting = greeted(&frame).unwrap().unwrap();
    assert!(!greeting.leads());
    assert_eq!((greeting.leader, greeting.leader_address), (Some(NodeId(2)), "b:1".parse().ok()));
}

#[test]
fn a_welcome_may_name_nobody_or_an_address_that_is_none() {
    let nobody = welcome_frame(|welcome| welcome.leader = NodeId(0));
    let greeting = greeted(&nobody).unwrap().unwrap();
    assert_eq!((greeting.leads(), greeting.leader), (false, None));
    let nowhere = welcome_frame(|welcome| (welcome.leader, welcome.leader_address) = (NodeId(2), "b:c:d"));
    let greeting = greeted(&nowhere).unwrap().unwrap();
    assert_eq!((greeting.leader, greeting.leader_address), (Some(NodeId(2)), None));
}

#[test]
fn not_leading_is_noticed_and_who_leads_instead() {
    let mut table = Table::new();
    for (leader, known) in [(0, None), (3, Some(NodeId(3)))] {
        let _wait = table.reserve(1);
        let correlation = table.pack()[0].0.correlation;
        table.receive(&reply(Kind::ReserveReply, correlation, &[Answer::not_leader(leader)])).unwrap();
        assert_eq!(table.session.not_leader(), Some(known));
    }
    let mut table = Table::new();
    let _wait = table.reserve(1);
    let correlation = table.pack()[0].0.correlation;
    table.receive(&reply(Kind::ReserveReply, correlation, &[sequence(1)])).unwrap();
    assert_eq!(table.session.not_leader(), None);
}

#[test]
fn silence_begins_with_the_first_unanswered_frame_or_behind_the_last_reply() {
    let mut table = Table::new();
    assert_eq!(table.session.silent_since(), None);
    table.now += Duration::from_millis(10);
    let (first, _wait) = (table.now, table.reserve(1));
    let one = table.pack()[0].0.correlation;
    table.now += Duration::from_millis(10);
    let _wait = table.reserve(2);
    let two = table.pack()[0].0.correlation;
    assert_eq!(table.session.silent_since(), Some(first), "another frame breaks no silence");
    table.receive(&reply(Kind::ReserveReply, one, &[sequence(1)])).unwrap();
    assert_eq!(table.session.silent_since(), Some(table.now), "a reply does");
    table.receive(&reply(Kind::ReserveReply, two, &[sequence(1)])).unwrap();
    assert_eq!(table.session.silent_since(), None);
}

#[test]
fn a_ping_of_the_sessions_own_breaks_the_silence_and_keeps_nobody_waiting() {
    let mut table = Table::new();
    let _wait = table.reserve(1);
    table.pack();
    table.now += Duration::from_millis(10);
    let mut out = Vec::new();
    table.session.ping(table.now, &mut out);
    let header = FrameHeader::parse(&out).unwrap().unwrap();
    assert_eq!((header.kind, header.count, out.len()), (Kind::Ping, 0, HEADER_LEN));
    table.receive(&reply(Kind::Pong, header.correlation, &[0_u8; 0])).unwrap();
    assert_eq!(table.session.silent_since(), Some(table.now));
    assert!(!table.session.is_quiet(), "the reserve is still unanswered");
}

#[test]
fn no_ping_is_written_beyond_the_frames_that_may_be_in_flight() {
    let mut table = Table::new();
    let _waits: Vec<Wait> = (1..=20).map(|id| table.reserve(id)).collect();
    table.pack();
    let mut out = Vec::new();
    table.session.ping(table.now, &mut out);
    assert!(out.is_empty());
}
