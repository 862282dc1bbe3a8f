//! Bugs of other flash-sale systems, as they are told in articles about them, each made impossible here. The
//! language is told in `ledger_support/script.rs`.

mod ledger_support;
#[path = "ledger_support/script.rs"]
mod script;

/// A deduct script that also set the stock gave every purchase a full shelf. A put never touches the stock of a
/// product that exists, however often it is repeated.
#[test]
fn stock_is_not_set_again_by_a_later_put() {
    script::run(
        "put again",
        "t 5000
        put p1 stock=2 = Done #2
        reserve r1 p1 u1 1 ; put p1 stock=2 = Reserved #3 until 6000 ; Done #0
        put p1 stock=2 limit=9 = Done #4
        put p1 stock=3 = StockDiffers 2
        product p1 = stock 2 free 1 held 1 sold 0
        reserve r2 p1 u2 2 = Insufficient free 1 held 1 back 6000",
    );
}

/// A reconciliation that added "lost" units twice sold them twice. A restock has an id and counts once.
#[test]
fn stock_that_was_added_is_not_added_again_by_a_retry() {
    script::run(
        "restock again",
        "t 5000
        put p1 stock=0 = Done #1
        restock r1 p1 5 = Done #2
        reload
        restock r1 p1 5 = Already Applied #2
        product p1 = stock 5 free 5 held 0 sold 0",
    );
}

/// Decrement, see that it went below zero, increment: whoever asks in between hears a false "sold out", and a
/// crash in between loses a unit. A refusal here moves nothing, not for a moment.
#[test]
fn a_refusal_does_not_take_units_for_a_moment() {
    script::run(
        "undo below zero",
        "t 5000
        put p1 stock=3 = Done #2
        reserve r1 p1 u1 5 ; reserve r2 p1 u2 3 = Insufficient free 3 held 0 back 0 ; Reserved #3 until 6000
        product p1 = stock 3 free 0 held 3 sold 0",
    );
}

/// The once-per-user mark stayed behind when an order was cancelled, and its user could never buy again.
#[test]
fn the_limit_does_not_outlive_a_cancelled_or_expired_order() {
    script::run(
        "mark",
        "t 5000
        put p1 stock=9 limit=1 = Done #2
        reserve r1 p1 u1 1 ; reserve r2 p1 u1 1 = Reserved #3 until 6000 ; LimitReached 1 of 1
        cancel r1 = Cancelled #4
        reserve r3 p1 u1 1 = Reserved #5 until 6000
        t 6000
        pulse
        units p1 u1 = 0
        reserve r4 p1 u1 1 = Reserved #7 until 7000
        confirm r4 = Confirmed #8
        reserve r5 p1 u1 1 = LimitReached 1 of 1",
    );
}

/// A script that returned the stock before the decrement said 1 for the last unit and for "unlimited", and -1 for
/// "unlimited" and for "no such product". Here each has its own answer.
#[test]
fn the_last_unit_the_unlimited_and_the_missing_product_are_told_apart() {
    script::run(
        "one, unlimited, missing",
        "t 5000
        put p1 stock=1 ; put p2 stock=0 unlimited ; put p3 stock=0 = Done #2 ; Done #3 ; Done #4
        reserve r1 p1 u1 1 = Reserved #5 until 6000
        reserve r2 p1 u1 1 = Insufficient free 0 held 1 back 6000
        reserve r3 p2 u1 1 = Reserved #6 until 6000
        reserve r4 p2 u1 1 = Reserved #7 until 6000
        reserve r5 p3 u1 1 = Insufficient free 0 held 0 back 0
        reserve r6 p4 u1 1 = UnknownProduct
        product p2 = stock 0 free 0 held 2 sold 0",
    );
}

/// A worker that took a winner off a queue and died lost the winner. A winner is a held reservation from the
/// first: it is found again under its id, after a restart too, and ends in one way only.
#[test]
fn a_winner_is_not_lost_with_whoever_carried_it() {
    script::run(
        "lost winner",
        "t 5000
        put p1 stock=1 = Done #2
        reserve r1 p1 u1 1 = Reserved #3 until 6000
        reload
        resolve r1 = Already Held #3 until 6000
        confirm r1 = Confirmed #4
        reload
        reserve r1 p1 u1 1 = Already Confirmed #4",
    );
}

/// Giving up on a failing order stranded its unit: sold too few. A hold that nobody ends ends by itself, and the
/// unit is there for the next buyer even if no sweep came by.
#[test]
fn a_unit_that_nobody_confirms_is_not_stranded() {
    script::run(
        "stranded",
        "t 5000
        put p1 stock=1 = Done #2
        reserve r1 p1 u1 1 = Reserved #3 until 6000
        t 6000
        reserve r2 p1 u2 1 = Reserved #5 until 7000",
    );
}

/// "You have it", and then the database rolled it back. What was reserved can be confirmed until its deadline,
/// whatever happens to the product in between.
#[test]
fn success_is_not_taken_back() {
    script::run(
        "taken back",
        "t 5000
        put p1 stock=2 = Done #2
        reserve r1 p1 u1 2 = Reserved #3 until 6000
        put p1 limit=1 opens=8000 closes=9000 hold=1 = Done #4
        writeoff r2 p1 1 = Insufficient free 0 held 2 back 6000
        seal p1 = Done #5
        t 5999
        confirm r1 = Confirmed #6
        cancel r1 = AlreadyConfirmed #6",
    );
}

/// A basket with the same product on two lines checked each line alone, against the stock and against the limit.
#[test]
fn two_lines_of_one_basket_are_added_up() {
    script::run(
        "basket",
        "t 5000
        put p1 stock=3 ; put p2 stock=9 limit=3 = Done #2 ; Done #4
        reserve r1 p1 u1 2 ; reserve r2 p1 u1 2 = Reserved #5 until 6000 ; Insufficient free 1 held 2 back 6000
        reserve r3 p2 u1 2 ; reserve r4 p2 u1 2 = Reserved #6 until 6000 ; LimitReached 2 of 3",
    );
}

/// Money went back when a payment came too late, and then the same payment, delivered again, bought the unit that
/// had become free meanwhile.
#[test]
fn a_payment_that_was_refused_buys_nothing_when_it_is_delivered_again() {
    script::run(
        "late payment",
        "t 5000
        put p1 stock=1 = Done #2
        reserve r1 p1 u1 1 = Reserved #3 until 6000
        t 6000
        reserve r2 p1 u2 1 = Reserved #5 until 7000
        confirm r1 = Expired #4
        cancel r2 = Cancelled #6
        reload
        confirm r1 = Expired #4
        product p1 = stock 1 free 1 held 0 sold 0",
    );
}
