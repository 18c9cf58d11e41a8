//! Room: partition-log.
