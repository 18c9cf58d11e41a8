//! The engine over a simulated disk, a lying bucket and the memory metadata.

mod budgets;
mod compacting;
mod compacting_model;
mod compacting_races;
mod compacting_transactions;
mod crashes;
mod deletion;
mod fencing;
mod flushing;
mod meddling;
mod memory;
mod merging;
mod mortal;
mod reading;
mod reading_cold;
mod reading_neighbours;
mod sweeping;
mod transactions;
mod transactions_model;
mod world;
mod writing;
