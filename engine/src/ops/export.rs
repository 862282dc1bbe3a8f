//! How each kind of cell is written in the OpenMetrics text format.
//!
//! Relies on prometheus-client for the format itself. Deliberately not here: which metrics there are.

use std::fmt::Result;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use sluice_protocol::{Kind, Status};

use super::cells::{AnswerCounts, Counter, Counters, Gauge, Gauges, MillisGauge, RoleCell};
use super::histogram::{Durations, Sizes};
use super::labels::{Label, Role, snake_case};

/// The highest power of two with a bucket of its own: 16.8 s in microseconds, or 16.8 M items.
const EXPONENT_MAX: u32 = 24;
const MICROS_PER_SECOND: f64 = 1e6;
const MILLIS_PER_SECOND: f64 = 1e3;

/// A cell that can be shown as one metric.
pub(super) trait Export {
    /// Counter, gauge or histogram.
    const TYPE: MetricType;

    /// Writes its samples.
    fn write(&self, encoder: MetricEncoder<'_>) -> Result;
}

/// Writes one metric: help, type, samples.
pub(super) fn export<T: Export>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    cell: &T,
) -> Result {
    cell.write(encoder.encode_descriptor(name, help.trim(), None, T::TYPE)?)
}

impl Export for Counter {
    const TYPE: MetricType = MetricType::Counter;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        count(&mut encoder, self.get())
    }
}

impl Export for Gauge {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        encoder.encode_gauge(&self.get())
    }
}

impl Export for i64 {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        encoder.encode_gauge(self)
    }
}

impl Export for MillisGauge {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        encoder.encode_gauge(&(self.ms() as f64 / MILLIS_PER_SECOND))
    }
}

impl<L: Label> Export for Counters<L> {
    const TYPE: MetricType = MetricType::Counter;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        for value in L::ALL {
            let labels = [(L::NAME, value.text())];
            count(&mut encoder.encode_family(&labels)?, self.of(*value).get())?;
        }
        Ok(())
    }
}

impl<L: Label> Export for Gauges<L> {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        for value in L::ALL {
            let labels = [(L::NAME, value.text())];
            encoder.encode_family(&labels)?.encode_gauge(&self.of(*value).get())?;
        }
        Ok(())
    }
}

impl Export for RoleCell {
    const TYPE: MetricType = MetricType::Gauge;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        let present = self.get();
        for role in Role::ALL {
            let labels = [(Role::NAME, role.text())];
            encoder.encode_family(&labels)?.encode_gauge(&u64::from(*role == present))?;
        }
        Ok(())
    }
}

impl Export for AnswerCounts {
    const TYPE: MetricType = MetricType::Counter;

    /// Of the pairs of kind and status most can never occur: only those that did are shown, and the answers to
    /// reserve from the start, so that a rate over them is defined before the first sale.
    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        for kind in Kind::ANSWERED {
            for status in Status::ALL {
                let given = self.get(kind, *status);
                if given > 0 || kind == Kind::Reserve {
                    let labels = [
                        ("kind", snake_case(&format!("{kind:?}"))),
                        ("status", snake_case(&format!("{status:?}"))),
                    ];
                    count(&mut encoder.encode_family(&labels)?, given)?;
                }
            }
        }
        Ok(())
    }
}

impl Export for Sizes {
    const TYPE: MetricType = MetricType::Histogram;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        let reading = self.read();
        let buckets = reading.powers_of_two(EXPONENT_MAX);
        encoder.encode_histogram::<NoLabelSet>(reading.sum() as f64, reading.count(), &buckets, None)
    }
}

impl Export for Durations {
    const TYPE: MetricType = MetricType::Histogram;

    fn write(&self, mut encoder: MetricEncoder<'_>) -> Result {
        let reading = self.read();
        let mut buckets = reading.powers_of_two(EXPONENT_MAX);
        for (bound, _) in &mut buckets {
            *bound /= MICROS_PER_SECOND;
        }
        let sum = reading.sum() as f64 / MICROS_PER_SECOND;
        encoder.encode_histogram::<NoLabelSet>(sum, reading.count(), &buckets, None)
    }
}

fn count(encoder: &mut MetricEncoder<'_>, value: u64) -> Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
}
