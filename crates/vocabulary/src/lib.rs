//! The words every room shares: ids, offsets, epochs, sizes, instants. No behaviour beyond
//! comparing, printing and the arithmetic a unit allows.
//!
//! # Glossary
//!
//! Kafka's own words are used for Kafka's things. Ours are few:
//!
//! - **bucket**: the object store location of a cluster; the only stateful dependency.
//! - **segment**: one immutable object, or one group commit in a WAL file, in Aquifer's segment
//!   format. WAL segments and data segments share the format.
//! - **run**: a contiguous offset range of one partition inside one segment.
//! - **WAL**: a broker's write-ahead log: a numbered sequence of segments written by one broker.
//! - **tail**: the part of a partition that is durable in its leader's WAL but not yet covered by
//!   committed data segments.
//! - **controller**: the one broker that currently holds the metadata writer.
//! - **broker epoch**: issued by the controller at each registration of a broker.
//! - **leader epoch**: issued at each change of a partition's leader.
//!
//! # Invariants
//!
//! They keep these ids in code, tests, simulator and tools.
//!
//! - **A1** an acknowledgement is sent only after the WAL segment that holds it is durable;
//! - **A2** the high watermark never passes data that is not durable;
//! - **A3** committed runs cover `[log start, committed end)` with no gap and no overlap;
//! - **A4** at most one leader epoch can make appends durable and acknowledged;
//! - **A5** a retried batch gets the offset it got the first time;
//! - **A6** what metadata references exists and its checksum is right;
//! - **A7** an unreferenced object older than its time to live is swept;
//! - **A8** read_committed never shows an aborted or undecided record;
//! - **A9** no remote error ends the process or loses acknowledged data.

mod epoch;
mod identity;
mod offset;
mod quantity;
mod time;

pub use epoch::{BrokerEpoch, LeaderEpoch};
pub use identity::{
    BrokerId, ParseTopicIdError, ParseVolumeIdError, Partition, ProducerId, SegmentId, SegmentName,
    TopicId, VolumeId,
};
pub use offset::Offset;
pub use quantity::ByteCount;
pub use time::{Tick, Timestamp};
