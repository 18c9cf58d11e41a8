//! Room: bucket.
