//! The rules of products, stock and time, one script each, ending in the exact answer. The language is told in
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

mod put {
    use super::script;
    scripts! {
        creates: "
            t 5000
            put p1 stock=10 = Done #2
            put p2 stock=0 = Done #3
            product p1 = stock 10 free 10 held 0 sold 0
            product p2 = stock 0 free 0 held 0 sold 0
            product p3 = none"
        repeated_changes_nothing: "
            t 5000
            put p1 stock=10 ; put p1 stock=10 = Done #2 ; Done #0
            product p1 = stock 10 free 10 held 0 sold 0"
        of_another_stock_is_refused: "
            t 5000
            put p1 stock=10 = Done #2
            put p1 stock=11 = StockDiffers 10
            restock r1 p1 1 = Done #3
            put p1 stock=11 = StockDiffers 10
            put p1 stock=10 = Done #0"
        changes_terms: "
            t 5000
            put p1 stock=10 = Done #2
            put p1 stock=10 limit=1 = Done #3
            put p1 limit=2 = Done #4
            put p1 limit=2 = Done #0
            reserve r1 p1 u1 3 = LimitReached 0 of 2"
        of_terms_for_an_unknown_product_is_refused: "
            put p1 limit=1 = UnknownProduct"
        of_product_zero_is_invalid: "
            put p0 stock=1 = Invalid Product 0 in 1..max"
        of_no_hold_time_is_invalid: "
            put p1 stock=1 hold=0 = Invalid HoldMs 0 in 1..604800000"
        of_too_long_a_hold_time_is_invalid: "
            put p1 stock=1 hold=604800001 = Invalid HoldMs 604800001 in 1..604800000
            put p1 stock=1 hold=604800000 = Done #2"
        of_a_close_that_is_not_after_the_opening_is_invalid: "
            put p1 stock=1 opens=5 closes=5 = Invalid ClosesMs 5 in 6..max
            put p1 stock=1 opens=5 closes=6 = Done #2"
        of_too_much_stock_is_invalid: "
            put p1 stock=1099511627777 = Invalid Stock 1099511627777 in 0..1099511627776
            put p1 stock=1099511627776 = Done #2"
        of_unlimited_stock_is_invalid: "
            put p1 stock=1 unlimited = Invalid Unlimited 1 in 0..0"
        cannot_make_a_product_unlimited_or_limited: "
            put p1 stock=0 = Done #1
            put p1 stock=0 unlimited = Invalid Unlimited 1 in 0..0
            put p2 stock=0 unlimited = Done #2
            put p2 stock=0 = Invalid Unlimited 0 in 1..1"
        moves_the_window: "
            t 5000
            put p1 stock=1 opens=9000 closes=9500 = Done #2
            due = 9000
            put p1 opens=6000 = Done #3
            due = 6000
            t 6000
            pulse
            due = never"
        of_a_hold_time_leaves_holds_alone: "
            t 5000
            put p1 stock=10 hold=1000 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 6000
            put p1 hold=10 = Done #4
            reserve r2 p1 u1 1 = Reserved #5 until 5010
            put p1 hold=1000 = Done #6
            reserve r3 p1 u1 1 = Reserved #7 until 6000
            due = 5010
            t 5010
            pulse
            read r2 = Expired #8 p1 u1 1 ended 5010
            read r1 = Held #3 p1 u1 1 until 6000
            due = 6000
            t 6000
            pulse
            read r1 = Expired #9 p1 u1 1 ended 6000
            read r3 = Expired #10 p1 u1 1 ended 6000"
    }
}

mod stock {
    use super::script;
    scripts! {
        is_added_once: "
            t 5000
            put p1 stock=10 = Done #2
            restock r1 p1 5 ; restock r1 p1 5 = Done #3 ; Already Applied #3
            product p1 = stock 15 free 15 held 0 sold 0
            read r1 = Applied #3 p1 u0 5 ended 5000"
        is_written_off_once: "
            t 5000
            put p1 stock=10 = Done #2
            writeoff r1 p1 4 ; writeoff r1 p1 4 = Done #3 ; Already Applied #3
            product p1 = stock 6 free 6 held 0 sold 0"
        ids_do_not_mix: "
            t 5000
            put p1 stock=10 = Done #2
            restock r1 p1 5 = Done #3
            restock r1 p1 6 ; writeoff r1 p1 5 = IdConflict ; IdConflict
            reserve r2 p1 u0 5 = Reserved #4 until 6000
            restock r2 p1 5 ; writeoff r2 p1 5 = IdConflict ; IdConflict"
        of_an_unknown_product_is_refused_for_good: "
            restock r1 p1 5 ; writeoff r2 p1 5 = UnknownProduct ; UnknownProduct
            put p1 stock=10 = Done #2
            restock r1 p1 5 ; writeoff r2 p1 5 = Already Refused UnknownProduct ; Already Refused UnknownProduct"
        change_of_nothing_is_invalid: "
            restock r0 p1 5 = Invalid Reservation 0 in 1..max
            restock r1 p0 5 = Invalid Product 0 in 1..max
            restock r1 p1 0 = Invalid Quantity 0 in 1..1000000000
            writeoff r1 p1 0 = Invalid Quantity 0 in 1..1000000000"
        of_a_sealed_product_cannot_grow: "
            t 5000
            put p1 stock=10 ; seal p1 = Done #2 ; Done #3
            restock r1 p1 5 = Sealed
            restock r1 p1 5 = Already Refused Sealed
            writeoff r2 p1 5 = Done #4
            product p1 = stock 5 free 5 held 0 sold 0 sealed"
        of_an_unlimited_product_does_not_exist: "
            put p1 stock=0 unlimited = Done #1
            restock r1 p1 5 ; writeoff r1 p1 5 = Invalid Unlimited 5 in 0..0 ; Invalid Unlimited 5 in 0..0
            read r1 = none"
        has_its_bound: "
            put p1 stock=1099511627776 = Done #2
            restock r1 p1 1 = Invalid Stock 1099511627777 in 0..1099511627776
            writeoff r2 p1 1 = Done #3
            restock r1 p1 1 = Done #4"
        that_is_held_cannot_be_written_off: "
            t 5000
            put p1 stock=10 = Done #2
            reserve r1 p1 u1 7 = Reserved #3 until 6000
            writeoff r2 p1 4 = Insufficient free 3 held 7 back 6000
            writeoff r2 p1 4 = Already Refused Insufficient
            writeoff r3 p1 3 = Done #4
            t 6000
            writeoff r4 p1 7 = Done #6
            product p1 = stock 0 free 0 held 0 sold 0"
        is_sealed_once: "
            put p1 stock=1 = Done #2
            seal p1 ; seal p1 = Done #3 ; Done #0
            seal p2 = UnknownProduct
            seal p0 = Invalid Product 0 in 1..max"
        without_limit_still_counts: "
            t 5000
            put p1 stock=0 unlimited limit=5 = Done #1
            reserve r1 p1 u1 5 ; reserve r2 p1 u1 1 = Reserved #2 until 6000 ; LimitReached 5 of 5
            confirm r1 = Confirmed #3
            product p1 = stock 0 free 0 held 0 sold 5
            reserve r3 p1 u2 3 = Reserved #4 until 6000
            t 6000
            pulse
            seal p1 = Done #6
            reserve r4 p1 u2 1 = Reserved #7 until 7000
            product p1 = stock 0 free 0 held 1 sold 5 sealed"
    }
}

mod time {
    use super::script;
    scripts! {
        takes_the_first_stamp_whole: "
            now = 0
            t 1700000000000
            pulse
            now = 1700000000000"
        never_falls: "
            t 5000
            pulse
            t 4000
            pulse
            now = 5000"
        advances_boundedly: "
            t 5000
            pulse
            t 999999999
            pulse
            now = 65000
            pulse
            now = 125000"
        does_not_overflow: "
            t 18446744073709551615
            put p1 stock=2 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 18446744073709551615
            read r1 = Expired #4 p1 u1 1 ended 18446744073709551615
            due = never"
        expires_what_is_due_in_the_same_entry: "
            t 5000
            put p1 stock=2 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 6000
            t 6000
            pulse
            read r1 = Expired #4 p1 u1 1 ended 6000
            product p1 = stock 2 free 2 held 0 sold 0
            due = never"
        forgets_what_ended_long_ago: "
            settings retention=500
            t 5000
            put p1 stock=9 = Done #2
            reserve r1 p1 u1 1 ; cancel r1 = Reserved #3 until 6000 ; Cancelled #4
            resolve r2 = Fenced
            restock r3 p1 1 = Done #5
            reserve r4 p9 u1 1 = UnknownProduct
            reserve r5 p1 u1 1 ; confirm r5 = Reserved #6 until 6000 ; Confirmed #7
            t 5499
            pulse
            read r1 = Cancelled #4 p1 u1 1 ended 5000
            t 5500
            pulse
            read r1 = none
            read r2 = none
            read r3 = none
            read r4 = none
            read r5 = Confirmed #7 p1 u1 1 ended 5000
            reload
            reserve r1 p1 u1 1 = Reserved #8 until 6500"
        remembers_a_late_confirmation_for_good: "
            settings retention=500
            t 5000
            put p1 stock=9 = Done #2
            reserve r1 p1 u1 1 = Reserved #3 until 6000
            t 6100
            confirm r1 = Confirmed #5
            t 9000
            pulse
            read r1 = Confirmed #5 p1 u1 1 ended 6100"
    }
}
