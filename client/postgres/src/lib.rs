//! Hands the stream of events to PostgreSQL, exactly once in its effect: orders and cursor in one transaction.
