//! The rules of consumer groups, one script each, ending in the exact answer. The language is told in
//! `ledger_support/script.rs` and, for groups, in `ledger_support/consume.rs`.
//!
//! Products p2, p4 and p5 are in the lower half of the lanes, p1, p3 and p6 in the upper one: of two members the first has
//! the lower half.

mod ledger_support;
#[path = "ledger_support/script.rs"]
mod script;

macro_rules! scripts {
    ($($name:ident: $script:literal)*) => {$(
        #[test]
        fn $name() {
            script::run(stringify!($name), $script);
        }
    )*};
}

mod put {
    use super::script;
    scripts! {
        makes_a_group_that_begins_behind_a_sequence: "
            t 5000
            put p1 stock=10 = Done #2
            group orders after=1 = Group 1 from 1
            stand orders = from 1 epoch 0 members 0 dead 0 failed 0"
        makes_a_group_that_begins_at_the_end: "
            t 5000
            put p1 stock=10 = Done #2
            group orders after=18446744073709551615 = Group 1 from 2"
        repeated_changes_nothing: "
            t 5000
            put p1 stock=10 = Done #2
            group orders after=1 ; group orders after=2 = Group 1 from 1 ; Group 1 from 1"
        changes_terms_and_keeps_cursors: "
            t 5000
            put p1 stock=10 = Done #2
            group orders kinds=4 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 all #1 = Done
            wants orders #2 = false
            group orders kinds=32 = Group 1 from 1
            wants orders #2 = true
            stand orders = from 1 epoch 1 members 1 dead 0 failed 0"
        names_what_is_wanted: "
            t 5000
            put p1 stock=10 ; put p2 stock=1 = Done #2 ; Done #4
            group orders kinds=32 products=9,2 = Group 1 from 0
            wants orders #1 = false
            wants orders #2 = false
            wants orders #3 = false
            wants orders #4 = true
            group all = Group 2 from 0
            wants all #1 = true"
        of_a_name_that_is_none_is_invalid: "
            group Orders = Invalid GroupName 0 in 0..0"
        of_kinds_that_there_are_not_is_invalid: "
            group orders kinds=512 = Invalid EventKinds 512 in 0..510
            group orders kinds=1 = Invalid EventKinds 1 in 0..510
            group orders kinds=510 = Group 1 from 0"
        of_a_session_too_short_or_too_long_is_invalid: "
            group orders session=499 = Invalid SessionMs 499 in 500..3600000
            group orders session=3600001 = Invalid SessionMs 3600001 in 500..3600000
            group orders session=500 = Group 1 from 0"
        of_no_wait_before_a_retry_is_invalid: "
            group orders retry=0 = Invalid RetryMs 0 in 1..86400000
            group orders retry=86400001 = Invalid RetryMs 86400001 in 1..86400000
            group orders longest=86400001 = Invalid RetryMs 86400001 in 1000..86400000
            group orders retry=500 longest=499 = Invalid RetryMs 499 in 500..86400000
            group orders retry=500 longest=500 = Group 1 from 0"
        never_gives_a_number_again: "
            group orders = Group 1 from 0
            remove orders = Done
            group orders ; remove orders = Group 2 from 0 ; Done
            stand orders = none
            reload
            group orders = Group 3 from 0"
    }
}

mod unknown_groups {
    use super::script;
    scripts! {
        are_told: "
            t 5000
            put p1 stock=10 = Done #2
            remove orders ; seek orders #0 ; join orders m1 = UnknownGroup ; UnknownGroup ; UnknownGroup
            leave g1 m1 ; ack g1 m1 e1 all #0 = UnknownGroup ; UnknownGroup
            nak g1 m1 e1 #1 ; redrive g1 #1 ; drop g1 #1 = UnknownGroup ; UnknownGroup ; UnknownGroup"
        are_those_that_were_removed: "
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            remove orders ; group orders = Done ; Group 2 from 0
            ack g1 m1 e1 all #0 = UnknownGroup
            ack g2 m1 e1 all #0 = NotMember epoch 0 lanes 0000000000000000"
    }
}

mod members {
    use super::script;
    scripts! {
        share_the_lanes_as_they_come: "
            group orders = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            join orders m3 = Seated 1 epoch 3 lanes ffe00000ffc00000
            lanes orders m1 = 00000000003fffff
            lanes orders m2 = 001fffff00000000
            members orders = m1 since 1 has 22 from 0 ; m2 since 2 has 21 from 0 ; m3 since 3 has 21 from 0"
        that_join_again_hear_the_same: "
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 ; join orders m1 = Seated 1 epoch 2 lanes ffffffff00000000 ; Seated 1 epoch 2 lanes 00000000ffffffff"
        of_number_zero_are_invalid: "
            group orders = Group 1 from 0
            join orders m0 = Invalid Member 0 in 1..max
            ack g1 m0 e9 all #0 = NotMember epoch 0 lanes 0000000000000000"
        that_leave_give_their_lanes_to_the_rest: "
            group orders = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            leave g1 m1 ; leave g1 m1 = Done ; Done
            lanes orders m2 = ffffffffffffffff
            members orders = m2 since 2 has 64 from 0
            leave g1 m2 = Done
            stand orders = from 0 epoch 4 members 0 dead 0 failed 0
            reload
            join orders m2 = Seated 1 epoch 5 lanes ffffffffffffffff"
        never_have_a_lane_in_common: "
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            lanes orders m1 = 00000000ffffffff
            ack g1 m1 e2 p1 #0 = NotMember epoch 2 lanes 00000000ffffffff"
    }
}

mod ack {
    use super::script;
    scripts! {
        moves_the_cursors_of_its_lanes: "
            t 5000
            put p1 stock=10 ; put p2 stock=1 = Done #2 ; Done #4
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 p1 #2 = Done
            cursor orders p1 = 2
            cursor orders p2 = 0
            stand orders = from 0 epoch 1 members 1 dead 0 failed 0
            ack g1 m1 e1 all #4 = Done
            stand orders = from 4 epoch 1 members 1 dead 0 failed 0"
        never_moves_a_cursor_back: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 all #2 ; ack g1 m1 e1 all #1 = Done ; Done
            cursor orders p1 = 2"
        of_what_has_not_happened_is_invalid: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 all #3 = Invalid Sequence 3 in 0..2
            cursor orders p1 = 0"
        of_anothers_lanes_moves_only_its_own: "
            t 5000
            put p1 stock=10 ; put p2 stock=1 = Done #2 ; Done #4
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            ack g1 m2 e2 all #4 = NotMember epoch 2 lanes ffffffff00000000
            cursor orders p1 = 4
            cursor orders p2 = 0
            ack g1 m3 e2 all #4 = NotMember epoch 2 lanes 0000000000000000"
        of_a_lane_that_was_anothers_meanwhile_does_not_count: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            join orders m2 ; leave g1 m2 = Seated 1 epoch 2 lanes ffffffff00000000 ; Done
            lanes orders m1 = ffffffffffffffff
            ack g1 m1 e1 p1 #2 = NotMember epoch 3 lanes ffffffffffffffff
            cursor orders p1 = 0
            ack g1 m1 e1 p2 #2 = Done
            ack g1 m1 e3 p1 #2 = Done
            cursor orders p1 = 2"
    }
}

mod seek {
    use super::script;
    scripts! {
        moves_all_lanes_and_forgets_what_failed: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 p1 #1 ; nak g1 m1 e1 #2 = Done ; Retried 1 at 6000
            seek orders #1 = Group 1 from 1
            failing orders p1 = none
            cursor orders p2 = 1
            stand orders = from 1 epoch 2 members 1 dead 0 failed 1
            seek orders #0 = Group 1 from 0
            seek orders #3 = Invalid Sequence 3 in 0..2"
        makes_what_was_delivered_before_count_no_more: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 all #2 = Done
            seek orders #0 = Group 1 from 0
            ack g1 m1 e1 all #2 = NotMember epoch 2 lanes ffffffffffffffff
            nak g1 m1 e1 #2 = NotMember epoch 2 lanes ffffffffffffffff
            stand orders = from 0 epoch 2 members 1 dead 0 failed 0
            ack g1 m1 e2 all #2 = Done"
        keeps_dead_letters: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 dead = Parked 1
            seek orders #0 = Group 1 from 0
            letters orders = #2
            skips orders #2 = true"
    }
}

mod nak {
    use super::script;
    scripts! {
        waits_longer_each_time_and_is_parked_in_the_end: "
            t 5000
            put p1 stock=10 = Done #2
            group orders attempts=4 retry=100 longest=250 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 = Retried 1 at 5100
            failing orders p1 = #1 x1 at 5100
            nak g1 m1 e1 #1 = Retried 2 at 5200
            nak g1 m1 e1 #1 = Retried 3 at 5250
            reload
            nak g1 m1 e1 #1 cause=7 = Parked 4
            failing orders p1 = none
            letter orders #1 = x4 died 5000 cause 7 redrive 0
            skips orders #1 = true
            cursor orders p1 = 0
            stand orders = from 0 epoch 1 members 1 dead 1 failed 4
            ack g1 m1 e1 all #1 = Done
            letters orders = #1"
        waits_as_long_as_it_says: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 delay=7 = Retried 1 at 5007
            nak g1 m1 e1 #1 delay=4294967295 = Retried 2 at 86405000"
        gives_up_at_once_if_it_says_so: "
            t 5000
            put p1 stock=10 = Done #2
            group orders attempts=0 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 dead = Parked 1
            nak g1 m1 e1 #2 dead = Parked 1
            stand orders = from 0 epoch 1 members 1 dead 1 failed 1"
        never_gives_up_without_a_limit: "
            t 5000
            put p1 stock=10 = Done #2
            group orders attempts=0 retry=1 longest=1 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 ; nak g1 m1 e1 #1 ; nak g1 m1 e1 #1 = Retried 1 at 5001 ; Retried 2 at 5001 ; Retried 3 at 5001"
        ends_with_the_acknowledgement: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 = Retried 1 at 6000
            ack g1 m1 e1 all #1 = Done
            failing orders p1 = #2 x1 at 6000
            ack g1 m1 e1 all #2 = Done
            failing orders p1 = none
            nak g1 m1 e1 #2 = Done
            stand orders = from 2 epoch 1 members 1 dead 0 failed 1"
        keeps_the_first_of_a_lane_so_that_none_hides_another: "
            t 5000
            put p1 stock=10 = Done #2
            group orders attempts=3 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 = Retried 1 at 6000
            nak g1 m1 e1 #1 ; nak g1 m1 e1 #2 = Retried 1 at 6000 ; Retried 1 at 6000
            failing orders p1 = #1 x1 at 6000
            nak g1 m1 e1 #1 ; nak g1 m1 e1 #2 = Retried 2 at 7000 ; Retried 1 at 6000
            nak g1 m1 e1 #1 ; nak g1 m1 e1 #2 = Parked 3 ; Retried 1 at 6000
            failing orders p1 = #2 x1 at 6000"
        of_lanes_apart_is_counted_apart: "
            t 5000
            put p1 stock=10 ; put p2 stock=1 = Done #2 ; Done #4
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 ; nak g1 m1 e1 #3 ; nak g1 m1 e1 #1 = Retried 1 at 6000 ; Retried 1 at 6000 ; Retried 2 at 7000
            failing orders p1 = #1 x2 at 7000
            failing orders p2 = #3 x1 at 6000"
        goes_on_with_whoever_gets_the_lane: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 = Retried 1 at 6000
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            nak g1 m1 e1 #1 = NotMember epoch 2 lanes 00000000ffffffff
            nak g1 m2 e2 #1 = Retried 2 at 7000"
        of_an_event_that_is_not_intact_is_invalid: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 damaged = Invalid Event 2 in 1..2"
    }
}

mod letters {
    use super::script;
    scripts! {
        are_delivered_again_in_the_order_of_the_wishes: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 dead ; nak g1 m1 e1 #2 dead cause=7 = Parked 1 ; Parked 1
            redrive g1 #2 ; redrive g1 #1 = Done ; Done
            again orders #0 = #2 #1
            again orders #1 = #1
            redrive g1 #2 = Done
            again orders #0 = #1 #2
            letter orders #2 = x1 died 5000 cause 7 redrive 3
            reload
            again orders #0 = #1 #2
            redrive g1 #3 = UnknownDead"
        are_done_with_when_they_are_acknowledged: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 dead = Parked 1
            ack g1 m1 e1 none #2 = UnknownDead
            redrive g1 #2 = Done
            join orders m2 = Seated 1 epoch 2 lanes ffffffff00000000
            ack g1 m1 e2 none #2 = NotMember epoch 2 lanes 00000000ffffffff
            ack g1 m2 e1 none #2 = NotMember epoch 2 lanes ffffffff00000000
            ack g1 m2 e2 none #2 ; ack g1 m2 e2 none #2 = Done ; UnknownDead
            letters orders = none"
        that_fail_again_are_parked_again: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 dead ; ack g1 m1 e1 all #2 = Parked 1 ; Done
            redrive g1 #2 = Done
            t 5500
            nak g1 m1 e1 #2 cause=3 = Parked 2
            letter orders #2 = x2 died 5500 cause 3 redrive 0
            again orders #0 = none
            nak g1 m1 e1 #2 = Done
            letter orders #2 = x2 died 5500 cause 3 redrive 0"
        that_are_gone_are_not_delivered_in_their_place: "
            t 5000
            put p1 stock=10 = Done #2
            group orders ; join orders m1 = Group 1 from 0 ; Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #1 dead ; nak g1 m1 e1 #2 dead = Parked 1 ; Parked 1
            drop g1 #2 ; drop g1 #2 = Done ; UnknownDead
            redrive g1 #1 ; ack g1 m1 e1 none #1 = Done ; Done
            letters orders = none
            skips orders #1 = true
            skips orders #2 = true
            nak g1 m1 e1 #2 = Done
            reload
            ack g1 m1 e1 all #1 = Done
            skips orders #1 = false
            skips orders #2 = true
            seek orders #0 = Group 1 from 0
            skips orders #2 = false"
        cancel_what_is_still_held_if_the_terms_say_so: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; reserve r2 p1 u1 1 = Reserved #3 until 6000 ; Reserved #4 until 6000
            confirm r2 = Confirmed #5
            group orders attempts=1 cancel=9 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #2 ; nak g1 m1 e1 #3 ; nak g1 m1 e1 #4 ; nak g1 m1 e1 #5 = Parked 1 ; Parked 1 ; Parked 1 ; Parked 1
            read r1 = Cancelled #6 p1 u1 3 ended 5000 reason 9
            read r2 = Confirmed #5 p1 u1 1 ended 5000
            product p1 = stock 10 free 9 held 0 sold 1"
        cancel_nothing_if_the_terms_do_not: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            group orders attempts=1 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            nak g1 m1 e1 #3 = Parked 1
            read r1 = Held #3 p1 u1 3 until 6000
            group orders attempts=1 cancel=0 = Group 1 from 0
            redrive g1 #3 ; nak g1 m1 e1 #3 = Done ; Parked 2
            read r1 = Cancelled #4 p1 u1 3 ended 5000"
        cancel_nothing_that_has_ended: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            group orders attempts=1 cancel=9 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            t 6000
            nak g1 m1 e1 #3 = Parked 1
            read r1 = Expired #4 p1 u1 3 ended 6000"
        cancel_no_other_reservation_that_has_the_id_by_now: "
            settings retention=500
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; cancel r1 = Reserved #3 until 6000 ; Cancelled #4
            group orders attempts=1 cancel=9 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            t 5500
            pulse
            reserve r1 p1 u1 3 = Reserved #5 until 6500
            nak g1 m1 e1 #3 = Parked 1
            read r1 = Held #5 p1 u1 3 until 6500"
    }
}

mod queueing {
    use super::script;
    scripts! {
        is_told_while_a_group_that_is_required_is_behind: "
            t 5000
            put p1 stock=10 = Done #2
            group orders required=3 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            reserve r1 p1 u1 1 ; reserve r2 p1 u1 1 = Reserved #3 until 6000 ; Queueing 4
            read r2 = none
            product p1 = stock 10 free 9 held 1 sold 0
            reserve r1 p1 u1 1 = Already Held #3 until 6000
            ack g1 m1 e1 all #1 = Done
            reserve r2 p1 u1 1 = Reserved #4 until 6000
            reserve r3 p1 u1 1 = Queueing 4"
        is_told_as_long_as_one_lane_is_behind: "
            t 5000
            put p1 stock=10 = Done #2
            group orders required=2 = Group 1 from 0
            join orders m1 = Seated 1 epoch 1 lanes ffffffffffffffff
            ack g1 m1 e1 p1 #2 = Done
            reserve r1 p1 u1 1 = Queueing 3"
        names_the_place_behind_the_slowest: "
            t 5000
            put p1 stock=10 = Done #2
            group mails required=1 after=1 = Group 1 from 1
            group orders required=2 after=0 = Group 2 from 0
            group points after=0 = Group 3 from 0
            reserve r1 p1 u1 1 = Queueing 3
            remove orders = Done
            reserve r1 p1 u1 1 = Queueing 2
            remove mails = Done
            reserve r1 p1 u1 1 = Reserved #3 until 6000"
        concerns_the_products_that_the_group_wants: "
            t 5000
            put p1 stock=10 ; put p2 stock=10 = Done #2 ; Done #4
            group orders required=1 products=2 = Group 1 from 0
            reserve r1 p1 u1 1 ; reserve r2 p2 u1 1 = Reserved #5 until 6000 ; Queueing 6
            group orders products=2 = Group 1 from 0
            reserve r2 p2 u1 1 = Reserved #6 until 6000"
        comes_behind_what_is_told_of_the_sale_and_before_limit_and_stock: "
            t 5000
            put p1 stock=0 limit=1 ; put p2 stock=1 opens=6000 ; put p3 stock=1 closes=5000 = Done #1 ; Done #3 ; Done #5
            group orders required=1 = Group 1 from 0
            reserve r1 p1 u1 2 = Queueing 6
            reserve r2 p2 u1 1 ; reserve r3 p3 u1 1 ; reserve r4 p4 u1 1 = NotOpen 6000 in 1000 ; Closed 5000 ; UnknownProduct"
        keeps_no_paid_hold_waiting: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 6000
            group orders required=1 = Group 1 from 0
            t 6000
            confirm r1 = Confirmed #5"
    }
}
