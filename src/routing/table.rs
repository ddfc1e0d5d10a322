//! The one place where snapshots are swapped: readers load, the reloader stores.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Snapshot;

/// The snapshot in use. Loading is lock-free and never waits for a reload.
pub struct Table {
    current: ArcSwap<Snapshot>,
    generations: watch::Sender<u64>,
}

impl Table {
    /// A table that begins with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Table {
        Table {
            generations: watch::Sender::new(snapshot.generation),
            current: ArcSwap::from_pointee(snapshot),
        }
    }

    /// The snapshot in use now. Once per exchange, kept to its end.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Swaps the snapshot and tells those who wait for a new generation.
    pub fn store(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        self.generations.send_replace(generation);
    }

    /// Follows the generations that are in use.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }
}
