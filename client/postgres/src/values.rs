//! Numbers of Sluice as PostgreSQL keeps them, and back, in its binary format.
//!
//! Ids and quantities have 64 bits and no sign, and PostgreSQL has no such type. They are `numeric(20)`, in which whoever
//! looks reads the same digits as everywhere else; a `bigint` would show half of them as negative. Reservations are
//! `uuid`: its hexadecimal digits are those that Sluice prints. Sequences are `bigint`: 2^63 events are never reached.
//! Deliberately not here: which column has which type ([`crate::shape`]).

use std::error::Error;

use bytes::{BufMut, BytesMut};
use thiserror::Error as ThisError;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A value in the database that nothing here has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error(
    "a value in the database is {found}, which the hand-off never writes: somebody else has changed the row"
)]
pub(crate) struct Foreign {
    found: &'static str,
}

type Fallible<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// A `numeric` that is a whole number from 0 to 2^64 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Number(pub(crate) u64);

/// A `numeric` goes in digits of ten thousand.
const DIGIT: u64 = 10_000;

/// Digits of the longest: 2^64 has 20 decimal ones.
const DIGITS_MAX: usize = 5;

/// Bytes in front of the digits: how many, the weight of the first, the sign, decimals that are shown.
const HEAD_LEN: usize = 8;

impl ToSql for Number {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Fallible<IsNull> {
        let mut digits = [0_u16; DIGITS_MAX];
        let (mut rest, mut count) = (self.0, 0);
        while rest > 0 {
            digits[count] = (rest % DIGIT) as u16;
            rest /= DIGIT;
            count += 1;
        }
        out.put_u16(count as u16);
        out.put_i16(count as i16 - 1);
        out.put_u32(0);
        for digit in digits[..count].iter().rev() {
            out.put_u16(*digit);
        }
        Ok(IsNull::No)
    }

    accepts!(NUMERIC);
    to_sql_checked!();
}

impl FromSql<'_> for Number {
    fn from_sql(_: &Type, raw: &[u8]) -> Fallible<Self> {
        let (head, digits) =
            raw.split_at_checked(HEAD_LEN).ok_or(Foreign { found: "a numeric cut short" })?;
        let field = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
        let (weight, sign) = (field(2), field(4));
        if sign != 0 || (weight < 0 && !digits.is_empty()) {
            return Err(Foreign { found: "negative, or no whole number" }.into());
        }
        let mut number = 0_u64;
        // Zeros at the end are left out.
        for nth in 0..=weight as usize {
            let digit =
                digits.get(nth * 2..nth * 2 + 2).map_or(0, |raw| u16::from_be_bytes([raw[0], raw[1]]));
            let next = number.checked_mul(DIGIT).and_then(|ten| ten.checked_add(digit.into()));
            number = next.ok_or(Foreign { found: "larger than 64 bits" })?;
            if weight < 0 {
                break;
            }
        }
        if digits.len() / 2 > (weight + 1) as usize {
            return Err(Foreign { found: "a fraction" }.into());
        }
        Ok(Self(number))
    }

    accepts!(NUMERIC);
}

/// A `uuid` by its 128 bits, the most significant first, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) u128);

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Fallible<IsNull> {
        out.put_u128(self.0);
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl FromSql<'_> for Uuid {
    fn from_sql(_: &Type, raw: &[u8]) -> Fallible<Self> {
        let bytes = raw.try_into().map_err(|_| Foreign { found: "no uuid" })?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }

    accepts!(UUID);
}

/// A `timestamptz` by its milliseconds since 1970. What is later than PostgreSQL counts is `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeMs(pub(crate) u64);

/// PostgreSQL counts microseconds from 2000 on.
const YEAR_2000_MS: i64 = 946_684_800_000;

/// The end of the year 294276: a timestamp that is not before it is out of range.
const END_US: i64 = 9_223_371_331_200_000_000;

/// How `infinity` is written.
const INFINITY_US: i64 = i64::MAX;

impl ToSql for TimeMs {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Fallible<IsNull> {
        let since_2000 = i64::try_from(self.0).ok().map(|ms| ms - YEAR_2000_MS);
        let micros = since_2000.and_then(|ms| ms.checked_mul(1_000)).filter(|micros| *micros < END_US);
        out.put_i64(micros.unwrap_or(INFINITY_US));
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl FromSql<'_> for TimeMs {
    fn from_sql(_: &Type, raw: &[u8]) -> Fallible<Self> {
        let bytes = raw.try_into().map_err(|_| Foreign { found: "no timestamp" })?;
        let micros = i64::from_be_bytes(bytes);
        if micros == INFINITY_US {
            return Ok(Self(u64::MAX));
        }
        let since_1970 = micros.checked_div_euclid(1_000).and_then(|ms| ms.checked_add(YEAR_2000_MS));
        let since_1970 = since_1970.and_then(|ms| u64::try_from(ms).ok());
        Ok(Self(since_1970.ok_or(Foreign { found: "a time before 1970" })?))
    }

    accepts!(TIMESTAMPTZ);
}

/// A sequence as a `bigint`.
pub(crate) fn bigint(number: u64) -> i64 {
    i64::try_from(number).expect("nobody counts 2^63 events, and reasons have 32 bits")
}

/// A `bigint` that is a sequence.
///
/// # Errors
/// It is negative.
pub(crate) fn sequence(number: i64) -> Result<u64, Foreign> {
    u64::try_from(number).map_err(|_| Foreign { found: "a negative sequence" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: ToSql + for<'a> FromSql<'a>>(value: &T, kind: &Type) -> T {
        let mut bytes = BytesMut::new();
        value.to_sql(kind, &mut bytes).expect("it can be written");
        T::from_sql(kind, &bytes).expect("what was written can be read")
    }

    #[test]
    fn every_number_of_64_bits_survives_a_numeric() {
        let powers = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let tens = (0..20).map(|n| 10_u64.pow(n));
        for number in powers.chain(tens).chain([u64::MAX, u64::MAX - 1, 100_000_000, 99_999_999]) {
            assert_eq!(there_and_back(&Number(number), &Type::NUMERIC), Number(number));
        }
    }

    #[test]
    fn a_numeric_that_is_no_such_number_is_told() {
        let numeric = |weight: i16, sign: u16, digits: &[u16]| {
            let mut raw = BytesMut::new();
            raw.put_u16(digits.len() as u16);
            raw.put_i16(weight);
            raw.put_u16(sign);
            raw.put_u16(0);
            digits.iter().for_each(|digit| raw.put_u16(*digit));
            Number::from_sql(&Type::NUMERIC, &raw).map_err(|error| error.to_string())
        };
        assert_eq!(numeric(1, 0, &[1]), Ok(Number(10_000)));
        assert_eq!(numeric(-1, 0, &[]), Ok(Number(0)));
        assert!(numeric(0, 0x4000, &[1]).is_err(), "negative");
        assert!(numeric(0, 0xc000, &[]).is_err(), "not a number");
        assert!(numeric(0, 0, &[1, 5000]).is_err(), "a fraction");
        assert!(numeric(-1, 0, &[5000]).is_err(), "nothing but a fraction");
        assert!(numeric(4, 0, &[1845]).is_err(), "a little more than 64 bits");
    }

    #[test]
    fn a_reservation_has_the_digits_that_sluice_prints() {
        let mut bytes = BytesMut::new();
        Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677)
            .to_sql(&Type::UUID, &mut bytes)
            .expect("it is written");
        assert_eq!(bytes[..4], [0x01, 0x23, 0x45, 0x67]);
        assert_eq!(there_and_back(&Uuid(u128::MAX - 1), &Type::UUID), Uuid(u128::MAX - 1));
    }

    #[test]
    fn times_survive_and_the_latest_are_infinite() {
        for ms in [0, 1, 946_684_800_000, 1_790_000_000_123, 9_224_318_015_999_999] {
            assert_eq!(there_and_back(&TimeMs(ms), &Type::TIMESTAMPTZ), TimeMs(ms));
        }
        for ms in [9_224_318_016_000_000, u64::MAX] {
            assert_eq!(there_and_back(&TimeMs(ms), &Type::TIMESTAMPTZ), TimeMs(u64::MAX));
        }
    }
}
