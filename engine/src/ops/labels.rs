//! The fixed sets of label values. Fixed, so that the number of time series is known in advance and a counter is
//! found by position.

use sluice_protocol::FaultCode;

/// A label: its name, and all its values.
pub trait Label: Copy + std::fmt::Debug + 'static {
    /// The label's name in the exposition.
    const NAME: &'static str;
    /// Every value, in the order of their positions.
    const ALL: &'static [Self];

    /// The value's place in [`Label::ALL`].
    fn position(self) -> usize;

    /// The value in the exposition.
    fn text(self) -> String;
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident as $label:literal { $($(#[$vdoc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn position(self) -> usize {
                self as usize
            }

            fn text(self) -> String {
                snake_case(&format!("{self:?}"))
            }
        }
    };
}

label! {
    /// A bounded queue between threads.
    Queue as "queue" {
        /// Frames on their way from the net threads to the replica thread.
        Flights,
        /// Log steps on their way to the write-ahead log's thread.
        Appends,
        /// Log steps that are durable, on their way back.
        Persisted,
        /// Answered frames on their way back to the net threads.
        Replies,
    }
}

label! {
    /// What became of a first attempt that was not admitted at once.
    Doubt as "outcome" {
        /// Refused from committed state, without the log.
        Refused,
        /// Kept until units in flight, or a read round, are decided.
        Parked,
        /// Sent to the ledger, since its buyer may have reached the limit.
        Suspected,
    }
}

label! {
    /// The part a node plays in its cluster.
    Role as "role" {
        /// Loading its state; takes no part yet.
        Starting,
        /// Knows no cluster yet.
        Outsider,
        /// Gets the log, and does not vote.
        Learner,
        /// Follows a leader, or looks for one.
        Follower,
        /// Asks for votes.
        Candidate,
        /// Decides.
        Leader,
        /// Was removed, and stays as long as others may need it.
        Removed,
    }
}

impl Label for FaultCode {
    const NAME: &'static str = "code";
    const ALL: &'static [Self] = &Self::ALL;

    fn position(self) -> usize {
        Self::ALL.iter().position(|code| *code == self).expect("ALL lists every code")
    }

    fn text(self) -> String {
        snake_case(&format!("{self:?}"))
    }
}

/// `SoldOut` → `sold_out`: label values read like the names of metrics.
pub(crate) fn snake_case(camel: &str) -> String {
    let mut snake = String::with_capacity(camel.len() + 4);
    for (at, letter) in camel.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
