//! A list that fixtures append to and tests wait on.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::Instant;

use super::PATIENCE;

/// Append-only; clones share one list.
pub(crate) struct Journal<T> {
    items: Arc<Mutex<Vec<T>>>,
    length: watch::Sender<usize>,
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Journal<T> {
        Journal {
            items: Arc::clone(&self.items),
            length: self.length.clone(),
        }
    }
}

impl<T> Default for Journal<T> {
    fn default() -> Journal<T> {
        Journal {
            items: Arc::default(),
            length: watch::Sender::new(0),
        }
    }
}

impl<T: Clone + Debug> Journal<T> {
    /// Appends and wakes who waits.
    pub(crate) fn push(&self, item: T) {
        let mut items = self.items.lock().unwrap();
        items.push(item);
        self.length.send_replace(items.len());
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.items.lock().unwrap().clear();
        self.length.send_replace(0);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        *self.length.borrow()
    }

    /// All of it, as it is now.
    pub(crate) fn all(&self) -> Vec<T> {
        self.items.lock().unwrap().clone()
    }

    /// Waits until `look` finds what it wants in the list. Panics with `what` and the end of the list where nothing new
    /// comes for [`PATIENCE`], or where what comes is never it: thousands of items take a slow machine their time.
    pub(crate) async fn until<R>(&self, what: &str, mut look: impl FnMut(&[T]) -> Option<R>) -> R {
        let mut length = self.length.subscribe();
        let latest = Instant::now() + 5 * PATIENCE;
        loop {
            length.borrow_and_update();
            if let Some(found) = look(&self.items.lock().unwrap()) {
                return found;
            }
            let deadline = latest.min(Instant::now() + PATIENCE);
            match tokio::time::timeout_at(deadline, length.changed()).await {
                // The sender is ours, so it is there.
                Ok(changed) => changed.unwrap(),
                Err(_) => self.gave_up(what),
            }
        }
    }

    fn gave_up(&self, what: &str) -> ! {
        let all = self.all();
        let tail = &all[all.len().saturating_sub(20)..];
        panic!(
            "waited in vain for {what}; got {} so far, the last:\n{tail:#?}",
            all.len()
        );
    }

    /// Waits for at least `count` items and returns all there are.
    pub(crate) async fn at_least(&self, count: usize) -> Vec<T> {
        self.until(&format!("{count} items"), |items| {
            (items.len() >= count).then(|| items.to_vec())
        })
        .await
    }
}
