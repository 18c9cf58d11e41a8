//! The configs Kafka has not: where things live, and what memory they may take.
//!
//! Owns: names, types, defaults, rules. Each says which way it pulls and what it costs.
//! Does not own: parsing locations (`locations`).

use super::super::definition::{Definition, Kind, Rule};
use super::{boolean, int, long, text, unset};

const MIB: i64 = 1024 * 1024;

/// Unsorted; the catalogue sorts.
pub(super) const CONFIGS: &[Definition] = &[
    text(
        "aquifer.data.dir",
        "./aquifer-data",
        "Directory this broker locks while it runs, and where the bucket and the WAL are unless told \
         otherwise.",
    )
    .rule(Rule::NotEmpty),
    unset(
        "aquifer.bucket",
        Kind::String,
        "Where the cluster's data and metadata live: a directory or `file:DIRECTORY`, \
         `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX`, or `memory:` for a broker \
         that forgets everything at its end. Parameters follow a `?`: for S3 endpoint (a store that \
         speaks S3: `?endpoint=http://127.0.0.1:9000`), region, profile, sse, sse_kms_key_id, \
         sse_bucket_key; for Azure account; for all connect_timeout_ms, request_timeout_ms, \
         foreground_requests_max, background_requests_max, idle_connections_max. Credentials are \
         never part of it: they come from the environment, a profile or the machine. Unset: the \
         directory `bucket` in aquifer.data.dir.",
    ),
    unset(
        "aquifer.wal",
        Kind::String,
        "Where acknowledged records are made durable first: `file:DIRECTORY`, or `bucket:` for the \
         bucket itself. Unset: the directory `wal` in aquifer.data.dir beside a bucket that is a \
         directory, else `bucket:`.",
    ),
    unset(
        "aquifer.wal.lost.volume",
        Kind::String,
        "A volume that is lost for good, as the start that misses it names it: the broker starts without it, \
         and records that were acknowledged and lay only there are lost. Take it out again afterwards.",
    ),
    text(
        "aquifer.admin.listener",
        "127.0.0.1:9600",
        "Address of the HTTP endpoint for health and metrics, as host:port. Empty turns it off.",
    ),
    long(
        "aquifer.flush.bytes",
        "67108864",
        "Records in the tail, in bytes, that start a flush to the bucket. Larger: fewer and larger \
         objects, more memory and a longer recovery. Unset with a WAL in the bucket: 256 MiB.",
    )
    .rule(Rule::AtLeast(MIB)),
    long(
        "aquifer.flush.age.ms",
        "60000",
        "Age of the oldest record in the tail that starts a flush, in milliseconds. Larger: fewer \
         objects when little is written.",
    )
    .rule(Rule::AtLeast(100)),
    long(
        "aquifer.tail.cache.bytes",
        "67108864",
        "Memory for recent records, in bytes, over all partitions. Beyond it the tail is read from \
         the WAL. Unset with a WAL in the bucket: 320 MiB.",
    )
    .rule(Rule::AtLeast(MIB)),
    long(
        "aquifer.block.cache.bytes",
        "33554432",
        "Memory for blocks read from the bucket, in bytes: one half for consumers near the end, one for \
         consumers that lag, so that neither evicts what the other shares. Larger: fewer reads of the \
         bucket when several groups read the same.",
    )
    .rule(Rule::AtLeast(MIB)),
    long(
        "aquifer.read.ahead.bytes",
        "12582912",
        "The most read ahead of one consumer that reads in order, in bytes; it starts with nothing \
         and grows. Larger: fewer and larger requests, more speed from a bucket far away, more of \
         aquifer.block.cache.bytes for each consumer that lags. 0 turns it off.",
    )
    .rule(Rule::Between(0, 1 << 30)),
    long(
        "aquifer.lagging.reads.bytes",
        "33554432",
        "What consumers that lag may have under way from the bucket at once, in bytes. Larger: a \
         faster backfill, more memory and network taken from everybody else.",
    )
    .rule(Rule::Between(MIB, 1 << 36)),
    unset(
        "aquifer.cache.dir",
        Kind::String,
        "Directory on a local disk (NVMe) for a second cache of blocks read from the bucket, held by \
         one broker at a time and empty at each start. What goes wrong there is a read from the \
         bucket, never an error. Unset: no such cache.",
    ),
    long(
        "aquifer.cache.bytes",
        "0",
        "Size of the one file in aquifer.cache.dir, in bytes, taken at the start. Larger: fewer reads \
         of the bucket when groups read the same cold data hours apart. 0: no such cache.",
    )
    .rule(Rule::AtLeast(0)),
    long(
        "aquifer.index.cache.bytes",
        "33554432",
        "Memory for indexes of data segments, in bytes. Larger: fewer reads of the bucket when many \
         partitions lag.",
    )
    .rule(Rule::AtLeast(MIB)),
    long(
        "aquifer.unflushed.bytes",
        "8589934592",
        "Records the WAL may hold that are not in the bucket yet, in bytes. Beyond it producers wait: \
         it is what an outage of the bucket costs in disk. At least aquifer.flush.bytes.",
    )
    .rule(Rule::AtLeast(MIB)),
    long(
        "aquifer.request.memory.bytes",
        "268435456",
        "Request frames held in memory at once, in bytes, over all connections. Beyond it \
         connections are not read until others are answered; but one at a time may end a frame that others wait for. \
         At least socket.request.max.bytes.",
    )
    .rule(Rule::Between(MIB, 1 << 40)),
    long(
        "aquifer.wal.queue.bytes",
        "67108864",
        "Records waiting for the WAL, in bytes. Larger: longer bursts without pushing back, more \
         memory and later acknowledgements. Unset with a WAL in the bucket: 128 MiB.",
    )
    .rule(Rule::Between(MIB, 1 << 32)),
    long(
        "aquifer.wal.group.bytes",
        "8388608",
        "Most records made durable by one sync, in bytes. Larger: more throughput under load, more \
         latency for who waits behind. Unset with a WAL in the bucket: 16 MiB, written by one PUT.",
    )
    .rule(Rule::Between(64 * 1024, 1 << 30)),
    long(
        "aquifer.orphan.grace.ms",
        "3600000",
        "Age at which an object that nothing refers to is deleted from the bucket, in milliseconds. \
         It must exceed the longest write that can still be under way.",
    )
    .rule(Rule::AtLeast(60_000)),
    boolean(
        "aquifer.merge.enabled",
        "true",
        "Whether this broker merges small runs of the partitions it leads into large ones, which keeps \
         metadata small and reads fast. It rewrites a byte once at most on average.",
    ),
    long(
        "aquifer.merge.target.bytes",
        "67108864",
        "Largest run that merging makes, in bytes; runs from half of it on are left as they are. \
         Larger: fewer, longer runs, later deletion of old records. Up to 64 MiB a merge is one request; \
         with a WAL on a disk, what exceeds 32 MiB comes in parts.",
    )
    .rule(Rule::Between(MIB, 1 << 30)),
    long(
        "aquifer.merge.bytes.per.second.max",
        "268435456",
        "What merging moves in a second at most, in bytes, while nobody else is busy. Producing and \
         fetching go first; what was produced on average over ten minutes it may always merge.",
    )
    .rule(Rule::AtLeast(MIB)),
    int(
        "aquifer.topic.partitions.max",
        "10000",
        "Partitions a topic may have. A limit against slips of the keyboard.",
    )
    .rule(Rule::Between(1, 1_000_000)),
    long(
        "aquifer.shutdown.timeout.ms",
        "30000",
        "How long a clean stop may take before it is cut short, in milliseconds. Nothing \
         acknowledged is lost either way.",
    )
    .rule(Rule::AtLeast(0)),
];
