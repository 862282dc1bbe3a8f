//! The rules of reservations, one script each, ending in the exact answer. The language is told in
//! `ledger_support/script.rs`.

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

mod reserve {
    use super::script;
    scripts! {
        takes_units_and_holds_them: "
            t 5000
            put p1 stock=10 hold=1000 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            product p1 = stock 10 free 7 held 3 sold 0
            units p1 u1 = 3
            read r1 = Held #3 p1 u1 3 until 6000
            due = 6000"
        repeated_hears_what_it_heard: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; reserve r1 p1 u1 3 = Reserved #3 until 6000 ; Already Held #3 until 6000
            product p1 = stock 10 free 7 held 3 sold 0"
        repeated_after_its_confirmation_hears_of_it: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; confirm r1 = Reserved #3 until 6000 ; Confirmed #4
            reserve r1 p1 u1 3 = Already Confirmed #4"
        repeated_after_its_cancellation_takes_nothing: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; cancel r1 = Reserved #3 until 6000 ; Cancelled #4
            reserve r1 p1 u1 3 = Already Cancelled #4
            product p1 = stock 10 free 10 held 0 sold 0"
        repeated_at_its_deadline_is_expired: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            reserve r1 p1 u1 3 = Already Expired #4
            product p1 = stock 10 free 10 held 0 sold 0"
        repeated_just_before_its_deadline_is_held: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 5999
            reserve r1 p1 u1 3 = Already Held #3 until 6000"
        of_another_quantity_under_the_same_id_conflicts: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            reserve r1 p1 u1 2 = IdConflict"
        of_another_user_under_the_same_id_conflicts: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            reserve r1 p1 u2 3 = IdConflict"
        of_another_product_under_the_same_id_conflicts: "
            t 5000
            put p1 stock=10 ; put p2 stock=10 = Done #2 ; Done #4
            reserve r1 p1 u1 3 = Reserved #5 until 6000
            reserve r1 p2 u1 3 = IdConflict
            reserve r1 p9 u1 3 = IdConflict"
        under_the_id_of_a_restock_conflicts: "
            t 5000
            put p1 stock=10 = Done #2
            restock r1 p1 3 = Done #3
            reserve r1 p1 u0 3 = IdConflict"
        under_a_fenced_id_is_fenced: "
            t 5000
            put p1 stock=10 = Done #2
            cancel r1 = Fenced
            reserve r1 p1 u1 3 = Fenced
            product p1 = stock 10 free 10 held 0 sold 0"
        of_id_zero_is_invalid: "
            reserve r0 p1 u1 1 = Invalid Reservation 0 in 1..max"
        of_product_zero_is_invalid: "
            reserve r1 p0 u1 1 = Invalid Product 0 in 1..max"
        of_nothing_is_invalid_and_not_remembered: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 0 = Invalid Quantity 0 in 1..1000000000
            read r1 = none
            reserve r1 p1 u1 1 = Reserved #3 until 6000"
        of_too_much_is_invalid: "
            reserve r1 p1 u1 1000000001 = Invalid Quantity 1000000001 in 1..1000000000"
        of_an_unknown_product_is_refused_for_good: "
            t 5000
            reserve r1 p1 u1 1 = UnknownProduct
            read r1 = Refused #0 p1 u1 1 ended 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 1 = Already Refused UnknownProduct
            reserve r1 p2 u1 1 = IdConflict
            reserve r2 p1 u1 1 = Reserved #3 until 6000"
        before_the_sale_opens_is_refused: "
            t 5000
            put p1 stock=10 opens=7000 = Done #2
            due = 7000
            reserve r1 p1 u1 1 = NotOpen 7000 in 2000
            t 6999
            reserve r2 p1 u1 1 = NotOpen 7000 in 1
            t 7000
            reserve r3 p1 u1 1 = Reserved #3 until 8000
            reserve r1 p1 u1 1 = Already Refused NotOpen"
        from_the_close_on_is_refused: "
            t 5000
            put p1 stock=10 closes=7000 = Done #2
            t 6999
            reserve r1 p1 u1 1 = Reserved #3 until 7999
            t 7000
            reserve r2 p1 u1 1 = Closed 7000
            confirm r1 = Confirmed #4"
        beyond_the_limit_is_refused: "
            t 5000
            put p1 stock=10 limit=3 = Done #2
            reserve r1 p1 u1 2 = Reserved #3 until 6000
            reserve r2 p1 u1 2 = LimitReached 2 of 3
            reserve r3 p1 u1 1 = Reserved #4 until 6000
            reserve r4 p1 u1 1 = LimitReached 3 of 3
            reserve r5 p1 u2 3 = Reserved #5 until 6000"
        of_more_than_the_limit_at_once_is_refused: "
            t 5000
            put p1 stock=10 limit=3 = Done #2
            reserve r1 p1 u1 4 = LimitReached 0 of 3"
        beyond_the_limit_of_confirmed_units_is_refused: "
            t 5000
            put p1 stock=10 limit=1 = Done #2
            reserve r1 p1 u1 1 ; confirm r1 = Reserved #3 until 6000 ; Confirmed #4
            t 9000
            reserve r2 p1 u1 1 = LimitReached 1 of 1"
        sees_a_limit_that_was_set_later: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 5 = Reserved #3 until 6000
            put p1 limit=3 = Done #4
            reserve r2 p1 u1 1 = LimitReached 5 of 3"
        sees_no_limit_before_the_window: "
            t 5000
            put p1 stock=0 limit=1 opens=7000 = Done #1
            reserve r1 p1 u1 5 = NotOpen 7000 in 2000"
        sees_the_limit_before_the_stock: "
            t 5000
            put p1 stock=0 limit=1 = Done #1
            reserve r1 p1 u1 5 = LimitReached 0 of 1"
        of_more_than_is_free_is_refused: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 7 = Reserved #3 until 6000
            reserve r2 p1 u2 4 = Insufficient free 3 held 7 back 6000
            reserve r3 p1 u2 3 = Reserved #4 until 6000
            reserve r4 p1 u2 1 = Insufficient free 0 held 10 back 6000
            reserve r2 p1 u2 4 = Already Refused Insufficient"
        of_a_sealed_product_that_is_gone_is_sold_out: "
            t 5000
            put p1 stock=2 = Done #2
            reserve r1 p1 u1 2 ; seal p1 = Reserved #3 until 6000 ; Done #4
            reserve r2 p1 u2 1 = Insufficient free 0 held 2 back 6000
            confirm r1 = Confirmed #5
            reserve r3 p1 u2 1 = SoldOut
            reserve r3 p1 u2 1 = Already Refused SoldOut"
        of_more_than_a_sealed_product_has_is_insufficient: "
            t 5000
            put p1 stock=2 ; seal p1 = Done #2 ; Done #3
            reserve r1 p1 u1 3 = Insufficient free 2 held 0 back 0"
        sweeps_what_expired_before_it_refuses_for_stock: "
            t 5000
            put p1 stock=2 = Done #2
            reserve r1 p1 u1 2 = Reserved #3 until 6000
            t 6000
            reserve r2 p1 u2 2 = Reserved #5 until 7000
            read r1 = Expired #4 p1 u1 2 ended 6000"
        sweeps_what_expired_before_it_refuses_for_the_limit: "
            t 5000
            put p1 stock=9 limit=2 = Done #2
            reserve r1 p1 u1 2 = Reserved #3 until 6000
            t 6000
            reserve r2 p1 u1 2 = Reserved #5 until 7000"
        counts_lines_of_one_frame_together: "
            t 5000
            put p1 stock=3 limit=3 = Done #2
            reserve r1 p1 u1 2 ; reserve r2 p1 u1 2 = Reserved #3 until 6000 ; LimitReached 2 of 3"
        ids_that_take_nothing_leave_half_of_the_table_to_those_that_do: "
            settings records=4 retention=1000
            t 5000
            put p1 stock=9 = Done #2
            resolve r1 = Fenced
            reserve r2 p9 u1 1 = UnknownProduct
            resolve r3 = Full
            cancel r3 = Full
            reserve r3 p9 u1 1 = Full
            restock r3 p9 1 = Full
            reload
            resolve r3 = Full
            resolve r1 = Fenced
            reserve r2 p9 u1 1 = Already Refused UnknownProduct
            reserve r3 p1 u1 1 = Reserved #3 until 6000
            restock r4 p1 1 = Done #4
            reserve r5 p1 u1 1 = Full
            t 6000
            pulse
            resolve r6 = Fenced"
        when_the_table_is_full_is_told_so_and_promised_nothing: "
            settings records=1 retention=1000
            t 5000
            put p1 stock=9 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 6000
            reserve r2 p1 u1 1 = Full
            reserve r2 p9 u1 1 = Full
            resolve r2 = Full
            cancel r2 = Full
            restock r2 p1 1 = Full
            reserve r1 p1 u1 1 = Already Held #3 until 6000
            cancel r1 = Cancelled #4
            t 6000
            pulse
            reserve r2 p1 u1 1 = Reserved #5 until 7000"
    }
}

mod confirm {
    use super::script;
    scripts! {
        sells_what_is_held: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 5500
            confirm r1 = Confirmed #4
            product p1 = stock 10 free 7 held 0 sold 3
            read r1 = Confirmed #4 p1 u1 3 ended 5500
            units p1 u1 = 3
            due = never"
        repeated_hears_the_first_confirmation: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; confirm r1 ; confirm r1 = Reserved #3 until 6000 ; Confirmed #4 ; Already Confirmed #4"
        of_an_unknown_id_leaves_no_trace: "
            t 5000
            put p1 stock=10 = Done #2
            confirm r1 = UnknownReservation
            read r1 = none
            reserve r1 p1 u1 1 = Reserved #3 until 6000"
        of_id_zero_is_invalid: "
            confirm r0 = Invalid Reservation 0 in 1..max"
        of_a_cancelled_one_hears_so: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; cancel r1 ; confirm r1 = Reserved #3 until 6000 ; Cancelled #4 ; Already Cancelled #4"
        of_a_refused_one_hears_so: "
            t 5000
            put p1 stock=1 = Done #2
            reserve r1 p1 u1 3 ; confirm r1 = Insufficient free 1 held 0 back 0 ; Already Refused Insufficient"
        of_a_fenced_one_hears_so: "
            resolve r1 ; confirm r1 = Fenced ; Fenced"
        of_a_restock_conflicts: "
            t 5000
            put p1 stock=1 = Done #2
            restock r1 p1 1 ; confirm r1 = Done #3 ; IdConflict
            writeoff r2 p1 9 ; confirm r2 = Insufficient free 2 held 0 back 0 ; IdConflict"
        at_the_deadline_takes_the_units_again: "
            t 5000
            put p1 stock=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            confirm r1 = Confirmed #5
            product p1 = stock 3 free 0 held 0 sold 3
            units p1 u1 = 3"
        of_a_swept_hold_takes_the_units_again: "
            t 5000
            put p1 stock=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 7000
            pulse
            read r1 = Expired #4 p1 u1 3 ended 6000
            confirm r1 = Confirmed #5
            read r1 = Confirmed #5 p1 u1 3 ended 7000
            confirm r1 = Already Confirmed #5"
        too_late_for_the_units_is_expired_for_good: "
            t 5000
            put p1 stock=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            reserve r2 p1 u2 1 = Reserved #5 until 7000
            confirm r1 = Expired #4
            cancel r2 = Cancelled #6
            product p1 = stock 3 free 3 held 0 sold 0
            confirm r1 = Expired #4
            reserve r1 p1 u1 3 = Already Expired #4"
        too_late_for_the_limit_is_expired_for_good: "
            t 5000
            put p1 stock=9 limit=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            reserve r2 p1 u1 2 = Reserved #5 until 7000
            confirm r1 = Expired #4
            cancel r2 = Cancelled #6
            confirm r1 = Expired #4"
        late_sweeps_others_for_its_units: "
            t 5000
            put p1 stock=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            reserve r2 p1 u2 3 = Reserved #5 until 7000
            t 7000
            confirm r1 = Confirmed #7
            read r2 = Expired #6 p1 u2 3 ended 7000"
        late_is_stopped_neither_by_the_close_nor_by_the_seal: "
            t 5000
            put p1 stock=3 closes=5500 = Done #2
            reserve r1 p1 u1 3 ; seal p1 = Reserved #3 until 6000 ; Done #4
            t 6000
            confirm r1 = Confirmed #6"
        late_of_an_unlimited_product_needs_no_units: "
            t 5000
            put p1 stock=0 unlimited = Done #1
            reserve r1 p1 u1 3 = Reserved #2 until 6000
            t 6000
            confirm r1 = Confirmed #4
            product p1 = stock 0 free 0 held 0 sold 3"
    }
}

mod cancel {
    use super::script;
    scripts! {
        gives_everything_back: "
            t 5000
            put p1 stock=10 limit=3 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            cancel r1 42 = Cancelled #4
            product p1 = stock 10 free 10 held 0 sold 0
            units p1 u1 = 0
            read r1 = Cancelled #4 p1 u1 3 ended 5000 reason 42
            reserve r2 p1 u1 3 = Reserved #5 until 6000"
        repeated_hears_the_first: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; cancel r1 1 ; cancel r1 2 = Reserved #3 until 6000 ; Cancelled #4 ; Already Cancelled #4
            read r1 = Cancelled #4 p1 u1 3 ended 5000 reason 1"
        of_a_confirmed_one_is_refused: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; confirm r1 ; cancel r1 = Reserved #3 until 6000 ; Confirmed #4 ; AlreadyConfirmed #4
            product p1 = stock 10 free 7 held 0 sold 3"
        of_an_unknown_id_kills_it: "
            t 5000
            cancel r1 ; cancel r1 = Fenced ; Fenced
            read r1 = Fenced #0 p0 u0 0 ended 5000"
        of_id_zero_is_invalid: "
            cancel r0 = Invalid Reservation 0 in 1..max"
        at_the_deadline_finds_it_expired: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            cancel r1 = Already Expired #4
            product p1 = stock 10 free 10 held 0 sold 0"
        of_an_expired_one_makes_sure_that_it_is_never_confirmed: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 = Reserved #3 until 6000
            t 6000
            cancel r1 = Already Expired #4
            reload
            confirm r1 = Expired #4
            product p1 = stock 10 free 10 held 0 sold 0"
        of_a_refused_one_hears_so: "
            t 5000
            reserve r1 p1 u1 3 ; cancel r1 = UnknownProduct ; Already Refused UnknownProduct"
        of_a_restock_conflicts: "
            t 5000
            put p1 stock=1 = Done #2
            restock r1 p1 1 ; cancel r1 = Done #3 ; IdConflict"
    }
}

mod resolve {
    use super::script;
    scripts! {
        tells_what_is_held: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 3 ; resolve r1 = Reserved #3 until 6000 ; Already Held #3 until 6000"
        tells_what_ended: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 1 ; confirm r1 ; resolve r1 = Reserved #3 until 6000 ; Confirmed #4 ; Already Confirmed #4
            reserve r2 p1 u1 1 ; cancel r2 ; resolve r2 = Reserved #5 until 6000 ; Cancelled #6 ; Already Cancelled #6
            reserve r3 p1 u1 99 ; resolve r3 = Insufficient free 9 held 0 back 0 ; Already Refused Insufficient
            restock r4 p1 1 ; resolve r4 = Done #7 ; Already Applied #7
            reserve r5 p1 u1 1 = Reserved #8 until 6000
            t 6000
            resolve r5 = Already Expired #9"
        kills_what_it_does_not_know: "
            t 5000
            put p1 stock=10 = Done #2
            resolve r1 ; resolve r1 = Fenced ; Fenced
            reserve r1 p1 u1 3 = Fenced
            restock r1 p1 3 = Fenced
            product p1 = stock 10 free 10 held 0 sold 0"
        of_id_zero_is_invalid: "
            resolve r0 = Invalid Reservation 0 in 1..max"
    }
}
