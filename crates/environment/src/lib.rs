//! Room: environment.
