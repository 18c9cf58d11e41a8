//! The engine over a simulated disk, a lying bucket and the memory metadata.

mod crashes;
mod deletion;
mod flushing;
mod memory;
mod mortal;
mod reading;
mod reading_cold;
mod world;
mod writing;
