//! The hand-off's own tables: where each lane of each group stands, what was passed over, what is missing.
//!
//! They lie in the database of the effect and change in its transactions; that is all there is to *exactly once*.
//! Deliberately not here: when they change ([`crate::turn`]).

use tokio_postgres::GenericClient;

use crate::shape::{Shape, ShapeError, TableName};

/// The groups that this database takes part in, and from where on: null until a first member has its seat.
pub(crate) const GROUPS: Shape = Shape {
    columns: &[("group_name", "text"), ("base", "bigint"), ("noted_at", "timestamp with time zone")],
    definition: "(
  group_name text PRIMARY KEY,
  base bigint CHECK (base >= 0),
  noted_at timestamptz NOT NULL DEFAULT now()
)",
};

/// Up to where each lane is done. An event at or before its lane's cursor has taken effect, unless it stands in `undone`.
pub(crate) const CURSORS: Shape = Shape {
    columns: &[("group_name", "text"), ("lane", "smallint"), ("sequence", "bigint")],
    // Each commit changes rows of one page: room for their next versions keeps the index out of it.
    definition: "(
  group_name text NOT NULL,
  lane smallint NOT NULL CHECK (lane BETWEEN 0 AND 63),
  sequence bigint NOT NULL CHECK (sequence >= 0),
  PRIMARY KEY (group_name, lane)
) WITH (fillfactor = 20)",
};

/// Events that their lane's cursor has passed, and that have not taken effect.
pub(crate) const UNDONE: Shape = Shape {
    columns: &[
        ("group_name", "text"),
        ("sequence", "bigint"),
        ("reservation", "uuid"),
        ("cause", "text"),
        ("noted_at", "timestamp with time zone"),
    ],
    definition: "(
  group_name text NOT NULL,
  sequence bigint NOT NULL,
  reservation uuid NOT NULL,
  cause text NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (group_name, sequence)
)",
};

/// Events that are kept no more and were never handed out.
pub(crate) const GAPS: Shape = Shape {
    columns: &[
        ("group_name", "text"),
        ("from_sequence", "bigint"),
        ("to_sequence", "bigint"),
        ("noted_at", "timestamp with time zone"),
    ],
    definition: "(
  group_name text NOT NULL,
  from_sequence bigint NOT NULL,
  to_sequence bigint NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (group_name, from_sequence, to_sequence)
)",
};

/// Where the hand-off's own tables lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerTables {
    /// The groups of this database: `sluice_groups`.
    pub groups: TableName,
    /// Where their lanes stand: `sluice_cursors`.
    pub cursors: TableName,
    /// What was passed over and has not taken effect: `sluice_undone`.
    pub undone: TableName,
    /// What is missing: `sluice_gaps`.
    pub gaps: TableName,
}

impl Default for LedgerTables {
    fn default() -> Self {
        Self::named(TableName::new)
    }
}

impl LedgerTables {
    /// All in this schema, which must exist.
    pub fn in_schema(schema: &str) -> Self {
        Self::named(|table| TableName::new(table).in_schema(schema))
    }

    fn named(name: impl Fn(&'static str) -> TableName) -> Self {
        Self {
            groups: name("sluice_groups"),
            cursors: name("sluice_cursors"),
            undone: name("sluice_undone"),
            gaps: name("sluice_gaps"),
        }
    }

    fn shapes(&self) -> [(&TableName, Shape); 4] {
        [(&self.groups, GROUPS), (&self.cursors, CURSORS), (&self.undone, UNDONE), (&self.gaps, GAPS)]
    }

    /// The SQL that makes them, for whoever lets nobody else make tables.
    pub fn sql(&self) -> String {
        self.shapes().map(|(table, shape)| shape.sql(table)).join("\n")
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// See [`ShapeError`].
    pub(crate) async fn ensure(&self, db: &impl GenericClient) -> Result<(), ShapeError> {
        for (table, shape) in self.shapes() {
            shape.ensure(db, table).await?;
        }
        Ok(())
    }
}
