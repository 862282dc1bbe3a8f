//! The names of things, each its own type, so that a user is never passed for a product.
//!
//! Deliberately not here: how ids are made. Clients choose reservation ids; shops choose the rest.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Hexadecimal digits of a 128-bit id.
const HEX_DIGITS_MAX: usize = 32;

/// Texts whose parse errors say what is wrong with a text that the standard parser would accept.
const NOT_HEXADECIMAL: &str = "+-";
const TOO_LARGE: &str = "100000000000000000000000000000000";

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

macro_rules! decimal {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

macro_rules! hexadecimal {
    ($($name:ident),*) => {$(
        /// Always 32 lower-case hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }

        /// Hexadecimal digits, at most 32; dashes are ignored, so a UUID is accepted as it is usually written.
        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digits: String = text.chars().filter(|c| *c != '-').collect();
                // `from_str_radix` would accept a sign, and any number of leading zeros.
                let digits = match digits {
                    signed if signed.starts_with('+') => NOT_HEXADECIMAL,
                    long if long.len() > HEX_DIGITS_MAX => TOO_LARGE,
                    ref fine => fine,
                };
                u128::from_str_radix(digits, 16).map(Self)
            }
        }
    )*};
}

id! {
    /// What is sold: chosen by the shop.
    ProductId(u64)
}
id! {
    /// Who buys: chosen by the shop. Per-user limits count by this number.
    UserId(u64)
}
id! {
    /// One attempt to take units, named by its client: 128 bits, never reused. The same id always has the same
    /// outcome. Restocks and write-offs are named the same way, out of the same space.
    ReservationId(u128)
}
id! {
    /// A node of the cluster. Never 0, never reused after the node was removed or lost its disk.
    NodeId(u64)
}
id! {
    /// The cluster a data directory belongs to, drawn when it was created.
    ClusterId(u128)
}
decimal!(ProductId, UserId, NodeId);
hexadecimal!(ReservationId, ClusterId);
