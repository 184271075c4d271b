//! How fjall is set up, and why.

use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::config::{BlockSizePolicy, CompressionPolicy, FilterPolicy, PartitioningPolicy, PinningPolicy};
use fjall::{CompressionType, Database, KeyspaceCreateOptions};

const MIB: u64 = 1 << 20;

/// A bucket closes at this size at the latest: see [`events`].
pub(super) const LARGEST_BUCKET: u64 = 128 * MIB;
/// Memory for events that are not in a table yet. Up to four more of these wait to be written when the disk is slow.
const EVENTS_MEMTABLE: u64 = 16 * MIB;
/// The same for small entries. They are overwritten or looked up often, and few.
const SMALL_MEMTABLE: u64 = 4 * MIB;

/// Opens or creates the database in `path`.
pub(super) fn open(path: &Path) -> fjall::Result<Database> {
    Database::builder(path)
        // One thread flushes and compacts. With a second one, fjall lets the first circle through the queue for as long
        // as a compaction runs.
        .worker_threads(1)
        // Journals are read again at start: this bounds how much (64 MiB is the least that fjall takes). What stays in
        // memory of seldom written keyspaces is flushed when it is reached.
        .max_journaling_size(64 * MIB)
        // Blocks of tables, for replays and for event ids. Dispatch gets its events from the writer, never from here.
        .cache_size(16 * MIB)
        // A commit is one write and one sync, asked for by the writer; nothing is persisted on the side.
        .manual_journal_persist(true)
        // The writer's thread would pay for it.
        .journal_compression(CompressionType::None)
        .max_cached_files(Some(256))
        .open()
}

/// A bucket of events: written once, read by range, dropped as a whole.
pub(super) fn events() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(EVENTS_MEMTABLE)
        // Never looked up by key, so no bloom filters.
        .filter_policy(FilterPolicy::disabled())
        // An index in memory for every block of a log of many GiB would be most of the process: the cache has the parts
        // of it that are in use.
        .index_block_pinning_policy(PinningPolicy::disabled())
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .data_block_size_policy(BlockSizePolicy::all(16 * 1024))
        // The worker pays for it, and JSON shrinks to a third.
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
        // Merging tables of a bucket that will be dropped costs more writing than it saves reading: a bucket has at most
        // about ten. The threshold stays below the 20 at which fjall slows down the writer.
        .compaction_strategy(Arc::new(Leveled::default().with_l0_threshold(16)))
}

/// Everything that is looked up by key: event ids, session records, what the log knows of itself.
pub(super) fn small() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(SMALL_MEMTABLE)
        // In one piece, the filter and the index of a large table do not fit the cache, and every look-up of an id would
        // read them whole: megabytes for one key.
        .filter_block_partitioning_policy(PartitioningPolicy::all(true))
        .filter_block_pinning_policy(PinningPolicy::disabled())
        .index_block_partitioning_policy(PartitioningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::disabled())
}
