//! A config file in a folder of its own, watched by a reloader.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hopspan::config::Address;
use hopspan::routing::{Reloaded, Reloader};
use hopspan::telemetry::metrics::Metrics;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::within;

/// A config that says `n` in several places.
pub(super) fn config(n: u64) -> String {
    let port = 9000 + n;
    format!(
        "outbound:
  routes:
    - host: service-{port}
inbound:
  routes:
    - path: orders/<int:pk>/
      app: 127.0.0.1:{port}
  app: 127.0.0.1:{port}
"
    )
}

/// In place, as `>` does.
pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

/// A new file renamed over the old one, as editors do.
pub(super) fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn delete_and_create(path: &Path, text: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, text).unwrap();
}

/// The old file kept aside under another name, as vim's `backupcopy=no` does.
fn move_aside(path: &Path, text: &str) {
    fs::rename(path, path.with_extension("yaml~")).unwrap();
    fs::write(path, text).unwrap();
}

/// A link to the file is pointed elsewhere.
fn relink(path: &Path, text: &str) {
    let length = fs::read_dir(path.parent().unwrap()).unwrap().count();
    let target = path.with_extension(format!("target{length}"));
    fs::write(&target, text).unwrap();
    let link = path.with_extension("link");
    symlink(&target, &link).unwrap();
    fs::rename(link, path).unwrap();
}

/// A way to change a file.
pub(super) type Way = (&'static str, fn(&Path, &str));

pub(super) const WAYS: [Way; 5] = [
    ("in place", write),
    ("rename", replace),
    ("delete and create", delete_and_create),
    ("move aside", move_aside),
    ("relink", relink),
];

/// The fixture; what it started ends when it is dropped.
pub(super) struct Watched {
    folder: TempDir,
    path: PathBuf,
    pub(super) reloader: Arc<Reloader>,
    pub(super) metrics: Arc<Metrics>,
    _stop: DropGuard,
}

impl Watched {
    pub(super) async fn start() -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.yaml");
        fs::write(&path, config(1)).unwrap();
        Watched::watch(folder, path).await
    }

    /// As the kubelet lays out a ConfigMap: `hopspan.yaml -> ..data/hopspan.yaml`, `..data -> ..1`.
    pub(super) async fn start_as_config_map() -> Watched {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hopspan.yaml");
        fs::create_dir(folder.path().join("..1")).unwrap();
        fs::write(folder.path().join("..1/hopspan.yaml"), config(1)).unwrap();
        symlink("..1", folder.path().join("..data")).unwrap();
        symlink("..data/hopspan.yaml", &path).unwrap();
        Watched::watch(folder, path).await
    }

    /// As the kubelet updates it: a new folder, a new link renamed over `..data`, the old folder removed.
    pub(super) fn swap_data_link(&self, n: u64) {
        let folder = self.folder.path();
        let new = format!("..{n}");
        fs::create_dir(folder.join(&new)).unwrap();
        fs::write(folder.join(&new).join("hopspan.yaml"), config(n)).unwrap();
        symlink(&new, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        fs::remove_dir_all(folder.join(format!("..{}", n - 1))).unwrap();
    }

    async fn watch(folder: TempDir, path: PathBuf) -> Watched {
        let metrics = Metrics::new();
        let reloader = Reloader::start(Some(path.clone()), Arc::clone(&metrics), |_| {}).unwrap();
        let reloader = Arc::new(reloader.every(Duration::from_millis(5)));
        let stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&reloader).watch(stop.clone()));
        Watched {
            folder,
            path,
            reloader,
            metrics,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where requests go now.
    pub(super) fn app(&self) -> Address {
        let snapshot = self.reloader.table().load();
        snapshot.inbound.route("/orders/7/").app[0].address.clone()
    }

    /// Waits until generation `n` serves.
    pub(super) async fn generation(&self, n: u64) {
        let mut generations = self.reloader.table().generations();
        within("the new generation", generations.wait_for(|now| *now >= n))
            .await
            .unwrap();
        assert_eq!(self.reloader.table().load().generation, n);
    }

    /// Reloads by hand a file that is good, whether the watcher was faster or not.
    pub(super) fn reload(&self) -> Reloaded {
        self.reloader.reload().unwrap()
    }

    /// Waits until the file was refused.
    pub(super) async fn refused(&self) {
        let mut looks = self.reloader.looks();
        let refused = looks.wait_for(|_| self.reloader.status().last_error.is_some());
        within("the file to be refused", refused).await.unwrap();
    }

    /// Waits until the watcher has begun and ended a look from now on.
    pub(super) async fn two_looks(&self) {
        let mut looks = self.reloader.looks();
        let before = *looks.borrow();
        let looked = looks.wait_for(|now| *now >= before + 2);
        within("two looks at the file", looked).await.unwrap();
    }
}
