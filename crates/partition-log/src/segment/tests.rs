//! Tests of the segment format.
